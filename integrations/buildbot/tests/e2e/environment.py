"""Where the things are that the tests run: what internal/testenv/install.sh put in place."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[4]
PLUGIN = REPOSITORY / "integrations" / "buildbot"
TESTENV = REPOSITORY / "internal" / "testenv"
BINARY = Path(os.environ.get("LATENT_ENGINE_BINARY") or REPOSITORY / "bin" / "latent-engine")


class Missing(Exception):
    """Something that the tests run is not there."""


@dataclass(frozen=True)
class Buildbot:
    """A master's program."""

    version: str
    command: Path
    # Folders of Python packages beside its own.
    packages: tuple[Path, ...]


def _cache() -> Path:
    if folder := os.environ.get("LATENT_TEST_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latent-engine" / "testenv"


def built(name: str) -> Path:
    """The folder of what install.sh makes under a name of pins.txt."""
    for line in (TESTENV / "pins.txt").read_text().splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[0] == name:
            folder = _cache() / f"{name}-{fields[2]}-{fields[3]}"
            if folder.is_dir():
                return folder
            raise Missing(f"{folder} is not there; as root on Debian or Ubuntu: internal/testenv/install.sh")
    raise Missing(f"pins.txt has no {name!r}")


def newest() -> Buildbot:
    """The newest master, from PyPI."""
    return Buildbot("4.3.0", built("buildbot-venv") / "bin" / "buildbot", ())


def debian() -> Buildbot:
    """The distribution's own master. Debian leaves out the web server's plugin, and with it the REST API."""
    command = Path("/usr/bin/buildbot")
    if not command.exists():
        raise Missing(f"no {command}; as root on Debian or Ubuntu: internal/testenv/install.sh buildbot")
    return Buildbot("3.7.0", command, (built("buildbot-www") / "packages",))


def binary() -> Path:
    """latent-engine itself."""
    if not BINARY.exists():
        raise Missing(f"no {BINARY}; make build")
    return BINARY


def check_host() -> None:
    """Raise Missing where no Docker Engine can be run."""
    if os.geteuid() != 0:
        raise Missing("a Docker Engine of our own needs root")
    for program in ("dockerd", "containerd", "ip"):
        if not shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            raise Missing(f"no {program}; as root on Debian or Ubuntu: internal/testenv/install.sh docker-debian")
