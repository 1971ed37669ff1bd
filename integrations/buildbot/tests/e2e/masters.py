"""Real Buildbot masters: start, stop and kill one, and talk to it through its REST API."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import environment
from engine import GATEWAY, Engine, free_port, wait_for_port

# Buildbot's own numbers.
SUCCESS, WARNINGS, FAILURE, SKIPPED, EXCEPTION, RETRY, CANCELLED = range(7)
RESULTS = ("SUCCESS", "WARNINGS", "FAILURE", "SKIPPED", "EXCEPTION", "RETRY", "CANCELLED")

T = TypeVar("T")


@dataclass(frozen=True)
class Worker:
    """A latent worker of the master, and the builder that it builds for."""

    name: str
    builder: str = ""  # of the same name
    kind: str = "engine"  # or "docker": Buildbot's own
    worker: str = "linux"  # in the definition
    build_wait_timeout: float = 0

    def setup(self) -> dict[str, Any]:
        return {**self.__dict__, "builder": self.builder or self.name}


@dataclass(frozen=True)
class Build:
    """A finished build."""

    id: int
    results: int
    state: str
    logs: dict[str, str]  # by the names of step and log
    seconds: float  # as the test saw it

    @property
    def text(self) -> str:
        """Everything that the build says of itself."""
        return "\n".join([self.state, *self.logs.values()])

    @property
    def image(self) -> str:
        """What the image's own file says."""
        return self._where()[0]

    @property
    def container(self) -> str:
        """Short id of the container that it ran in."""
        return self._where()[1]

    @property
    def user(self) -> str:
        return self._where()[2]

    def _where(self) -> list[str]:
        return self.logs["where/stdio"].split()

    def __str__(self) -> str:
        return f"build {self.id}: {RESULTS[self.results]} ({self.state}) after {self.seconds:.1f} s\n{self.text}"


def wait_until(what: str, condition: Callable[[], T], seconds: float) -> T:
    """Wait until the condition is true, and return what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}; last seen: {found!r}")
        time.sleep(0.05)


def version(buildbot: environment.Buildbot) -> str:
    """What a master's program says of itself, without what a distribution adds."""
    done = subprocess.run([str(buildbot.command), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].split()[-1].split("-")[0]


class Master:
    """A master in a folder of its own. It is a context manager: at its end the master is killed."""

    def __init__(self, buildbot: environment.Buildbot, folder: Path, engine: Engine, definition: str, workers: list[Worker]):
        self.buildbot, self.folder, self.engine = buildbot, folder, engine
        self.port, self.www_port = free_port(GATEWAY), free_port()
        self.url = f"http://127.0.0.1:{self.www_port}/"
        self.process: subprocess.Popen[bytes] | None = None
        self.state = folder / "engine-state"
        self.base = folder / "master"
        folder.mkdir(parents=True)
        definition_file = folder / "latent-engine.yaml"
        definition_file.write_text(definition.replace("ADVERTISE", f"{GATEWAY}:{self.port}"))
        self._environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "LATENT_ENGINE_STATE": str(self.state),
            "PYTHONPATH": os.pathsep.join(map(str, (folder.parent / "plugin", *buildbot.packages))),
        }
        self._run("create-master", self.base)
        shutil.copy(Path(__file__).with_name("master.cfg"), self.base)
        (self.base / "setup.json").write_text(
            json.dumps(
                {
                    "folder": str(folder),
                    "url": self.url,
                    "port": self.port,
                    "www_port": self.www_port,
                    "gateway": GATEWAY,
                    "docker_host": engine.host,
                    "definition": str(definition_file),
                    "binary": str(environment.binary()),
                    "workers": [w.setup() for w in workers],
                }
            )
        )

    def _run(self, *command: object) -> None:
        done = subprocess.run(
            [str(self.buildbot.command), *map(str, command)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"buildbot {command[0]}: exit code {done.returncode}\n{done.stdout}")

    def __enter__(self) -> Master:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and return when it answers."""
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [str(self.buildbot.command), "start", "--nodaemon", str(self.base)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_for_port("127.0.0.1", self.www_port, self.process, 60)
            # The web server listens before the builders and the workers are in the database.
            wait_until("the master's force scheduler", lambda: self._get("forceschedulers")["forceschedulers"], 30)
        except (RuntimeError, AssertionError) as e:
            raise RuntimeError(f"cannot start master {self.buildbot.version}: {e}\n{self.log()}") from e

    def stop(self, seconds: float = 60) -> float:
        """Stop it with SIGTERM, and return how long that took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the master does not end in {seconds} s on SIGTERM\n{self.log()}") from None
        return time.monotonic() - began

    def kill(self) -> None:
        """Kill it with SIGKILL: the master alone, as the kernel would."""
        if self.running():
            assert self.process is not None
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self, lines: int = 120) -> str:
        """The end of its log."""
        text = ""
        for path in (self.folder / "output", self.base / "twistd.log"):
            with contextlib.suppress(FileNotFoundError):
                text += "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) + "\n"
        return text

    def children(self) -> list[str]:
        """Command lines of the processes of latent-engine that work for this master, alive or not."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (process / "environ").read_bytes().split(b"\0")
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                ours = f"LATENT_ENGINE_STATE={self.state}".encode() in variables
                if ours and Path(command.split(" ")[0]).name == "latent-engine":
                    found.append(command)
        return found

    def wait_until_alone(self, seconds: float = 10) -> None:
        """Wait until no process of latent-engine works for this master."""
        deadline = time.monotonic() + seconds
        while children := self.children():
            if time.monotonic() > deadline:
                raise AssertionError(f"processes after {seconds} s: {children}")
            time.sleep(0.05)

    def times(self, worker: str) -> dict[str, float]:
        """When each event of a worker happened last."""
        found: dict[str, float] = {}
        for line in (self.folder / "times.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["worker"] == worker:
                found[event["event"]] = event["time"]
        return found

    # What follows goes through the REST API.

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}api/v2/{path}", timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def _call(self, path: str, method: str, **params: object) -> Any:
        body = json.dumps({"id": 1, "jsonrpc": "2.0", "method": method, "params": params}).encode()
        request = urllib.request.Request(
            f"{self.url}api/v2/{path}", data=body, headers={"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)["result"]
        except urllib.error.HTTPError as e:
            raise AssertionError(f"{path} {method}: {e}: {e.read()!r}") from e

    def force(self, builder: str, image: str, script: str = "true") -> int:
        """Request a build, and return the request's id."""
        found = self._get(f"builders?name={builder}")["builders"]
        assert found, f"no builder {builder}"
        builderid = found[0]["builderid"]
        _, requests = self._call(
            "forceschedulers/force", "force", builderid=builderid, image=image, script=script, reason="e2e"
        )
        request: int = requests[str(builderid)]
        return request

    def builds(self, request: int) -> list[dict[str, Any]]:
        """The builds of a request, oldest first: more than one where it was tried again."""
        found: list[dict[str, Any]] = self._get(f"builds?buildrequestid={request}")["builds"]
        return sorted(found, key=lambda b: b["buildid"])

    def steps(self, build: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get(f"builds/{build}/steps")["steps"]
        return found

    def wait_for_build(self, request: int, nth: int = 0, seconds: float = 60) -> int:
        """Wait until a request's nth build begins, and return its id."""
        build = wait_until(f"build {nth} of request {request}", lambda: self.builds(request)[nth:], seconds)[0]
        return int(build["buildid"])

    def wait_for_step(self, build: int, name: str, seconds: float = 60) -> None:
        """Wait until a build's step has begun."""

        def begun() -> bool:
            return any(s["name"] == name and s["started_at"] for s in self.steps(build))

        wait_until(f"step {name} of build {build}", begun, seconds)

    def container_of(self, build: int, seconds: float = 60) -> str:
        """Wait until a build's step `script` has begun, and return the short id of its container."""
        self.wait_for_step(build, "script", seconds)
        return self._logs(build)["where/stdio"].split()[1]

    def worker_of(self, build: int) -> str:
        """The name of the worker that a build ran on."""
        workerid = self._get(f"builds/{build}")["builds"][0]["workerid"]
        return str(self._get(f"workers/{workerid}")["workers"][0]["name"])

    def stop_build(self, build: int) -> None:
        self._call(f"builds/{build}", "stop", reason="e2e")

    def cancel(self, request: int) -> None:
        self._call(f"buildrequests/{request}", "cancel", reason="e2e")

    def finish(self, request: int, nth: int = 0, seconds: float = 60) -> Build:
        """Wait until a request's nth build has ended."""
        began = time.monotonic()

        def ended() -> list[dict[str, Any]]:
            return [b for b in self.builds(request)[nth : nth + 1] if b["complete"]]

        found = wait_until(f"the end of build {nth} of request {request}", ended, seconds)[0]
        build = int(found["buildid"])
        return Build(build, found["results"], found["state_string"], self._logs(build), time.monotonic() - began)

    def build(self, builder: str, image: str, script: str = "true", seconds: float = 60) -> Build:
        """Request a build, and wait until it has ended."""
        return self.finish(self.force(builder, image, script), seconds=seconds)

    def _logs(self, build: int) -> dict[str, str]:
        logs = {}
        for step in self.steps(build):
            for log in self._get(f"steps/{step['stepid']}/logs")["logs"]:
                logs[f"{step['name']}/{log['slug']}"] = self._log(log)
        return logs

    def _log(self, log: dict[str, Any]) -> str:
        content = str(self._get(f"logs/{log['logid']}/contents")["logchunks"][0]["content"])
        if log["type"] != "s":
            return content
        # Each line of a command's log begins with a letter: output, error or header.
        return "\n".join(line[1:] for line in content.splitlines() if not line.startswith("h"))
