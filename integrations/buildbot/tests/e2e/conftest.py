"""What the end-to-end tests stand on: one Docker Engine for all of them, and each kind of master once.

What is missing skips the tests and says why, or fails them where LATENT_TEST_REQUIRE has `buildbot`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import engine
import environment
import masters
import pytest

DEFINITION = f"""version: 1
engine: {{id: ID, advertise: "ADVERTISE"}}
backends:
  local: {{docker: {{docker_host: "unix://{engine.FOLDER}/docker.sock"}}}}
  hasty: {{docker: {{docker_host: "unix://{engine.FOLDER}/docker.sock", image_pull_grace: 1s}}}}
defaults:
  docker: {{user: "1000:1000", hostconfig: {{mem_limit: 512m, pids_limit: 256, cap_drop: [ALL]}}}}
workers:
  linux:
    backend: local
    props: {{image: string}}
    image: "${{{{ props.image }}}}"
    env: {{WANTED: "${{{{ props.image }}}}", BUILDER: "${{{{ build.builder }}}}"}}
  hasty: {{extends: linux, backend: hasty}}
  broken: {{extends: linux, entrypoint: [sh, -c], command: ["echo cannot find the toolchain >&2; exit 3"]}}
"""


class Lab:
    """The engine, a registry, and a folder."""

    def __init__(self, docked: engine.Engine, registry: engine.Registry, folder: Path):
        self.engine, self.registry, self.folder = docked, registry, folder
        self._masters = 0

    def image(self, flavour: str) -> str:
        return f"{engine.IMAGES}:{flavour}"

    def master(self, buildbot: environment.Buildbot, *workers: masters.Worker) -> masters.Master:
        """A master in a folder of its own, not started."""
        self._masters += 1
        name = f"{self._masters}-{buildbot.version}"
        return masters.Master(
            buildbot,
            self.folder / name,
            self.engine,
            DEFINITION.replace("ID", "e2e-" + name.replace(".", "-"), 1),
            list(workers),
        )

    def push(self, name: str) -> None:
        """Push a small image of content that no engine has yet, and remove it from the engine."""
        self.engine.build(name, "FROM scratch\nCOPY file /file\n", os.urandom(1 << 20))
        for line in self.engine.api.push(name, stream=True, decode=True):
            assert "error" not in line, line
        self.engine.api.remove_image(name)

    def wait_until_empty(self, seconds: float = 20) -> None:
        """Wait until the engine has no container."""

        def empty() -> bool:
            return not self.engine.containers()

        try:
            masters.wait_until("an engine without containers", empty, seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.engine.describe()}") from None


def missing(reason: Exception) -> None:
    if "buildbot" in os.environ.get("LATENT_TEST_REQUIRE", "").replace(",", " ").split():
        pytest.exit(f"LATENT_TEST_REQUIRE asks for buildbot: {reason}", returncode=1)
    pytest.skip(str(reason))


def install_plugin(folder: Path) -> None:
    """Install the package as pip does, into a folder, from a copy: setuptools writes into its source."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "source"
        shutil.copytree(
            environment.PLUGIN, source, ignore=shutil.ignore_patterns("tests", "build", "*.egg-info", "__pycache__")
        )
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps"]
        done = subprocess.run(
            [*command, "--no-build-isolation", "--no-index", "--target", str(folder), str(source)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"cannot install {environment.PLUGIN}:\n{done.stdout}")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    try:
        environment.check_host()
        environment.binary()
        environment.newest()
        environment.debian()
        environment.built("buildbot-worker")
        environment.built("registry")
    except environment.Missing as e:
        missing(e)
    with (
        tempfile.TemporaryDirectory(prefix="latent-e2e-") as folder,
        engine.running() as docked,
        engine.Registry() as registry,
    ):
        install_plugin(Path(folder) / "plugin")
        docked.load_worker_images("alpha", "beta")
        yield Lab(docked, registry, Path(folder))


@pytest.fixture(scope="session", params=["4.3.0", "3.7.0"])
def buildbot(request: pytest.FixtureRequest, lab: Lab) -> environment.Buildbot:
    """Each master that the plugin is for."""
    return environment.newest() if request.param == "4.3.0" else environment.debian()


# A worker whose build failed is quarantined for a while, so each test has one of its own.
WORKERS = (
    *(masters.Worker(name) for name in ("images", "bad-name", "bad-reference", "no-image", "pull", "killed")),
    masters.Worker("hasty", worker="hasty"),
    masters.Worker("broken", worker="broken"),
    *(masters.Worker(f"pool-{n}", builder="pool") for n in range(1, 4)),
)


@pytest.fixture(scope="session")
def shared_master(lab: Lab, buildbot: environment.Buildbot) -> Iterator[masters.Master]:
    with lab.master(buildbot, *WORKERS) as m:
        yield m
        m.stop()
    lab.wait_until_empty()


@pytest.fixture
def master(request: pytest.FixtureRequest, lab: Lab, shared_master: masters.Master) -> Iterator[masters.Master]:
    """The master that tests share which leave it as they found it."""
    yield shared_master
    explain(request, lab, shared_master)
    lab.wait_until_empty()


@pytest.fixture
def new_master(
    request: pytest.FixtureRequest, lab: Lab, buildbot: environment.Buildbot
) -> Iterator[Callable[..., masters.Master]]:
    """Makes a master for one test that stops or kills it, or keeps a worker."""
    made: list[masters.Master] = []

    def make(*workers: masters.Worker) -> masters.Master:
        m = lab.master(buildbot, *workers)
        made.append(m)
        m.start()
        return m

    yield make
    for m in made:
        explain(request, lab, m)
        if m.running():
            m.stop()
    lab.wait_until_empty()


def explain(request: pytest.FixtureRequest, lab: Lab, m: masters.Master) -> None:
    """Add what is known of a failure."""
    report = getattr(request.node, "report", None)
    if report is not None and report.failed:
        print(f"log of master {m.buildbot.version}:\n{m.log()}\ncontainers:\n{lab.engine.describe()}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        item.report = report  # type: ignore[attr-defined]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print each test's own time; the set-up is the engine's and the master's."""
    if report.when == "call":
        sys.__stdout__.write(f"  {report.duration:5.1f} s  ")
        sys.__stdout__.flush()
