"""A Docker Engine of our own, with images of a real Buildbot worker, and a registry on loopback."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import http.server
import io
import json
import os
import select
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import environment

FOLDER = Path("/var/tmp/latent-engine-e2e")
GATEWAY = "198.19.248.1"  # the bridge of run-debian-engine.sh: what workers dial
IMAGES = "e2e.latent-engine.local/worker"


class Engine:
    """The engine, and what the tests ask of it."""

    def __init__(self) -> None:
        self.host = f"unix://{FOLDER}/docker.sock"
        self.client = docker.DockerClient(base_url=self.host, timeout=300)
        self.api = self.client.api

    def load_worker_images(self, *flavours: str) -> None:
        """Make IMAGES:FLAVOUR for each: the same worker, and /etc/worker-image says which."""
        root = environment.built("buildbot-worker") / "root.tar"
        self.api.import_image_from_file(
            str(root), repository=IMAGES, tag="base", changes=['ENTRYPOINT ["/usr/local/bin/worker-entrypoint"]']
        )
        for flavour in flavours:
            self.build(f"{IMAGES}:{flavour}", f"FROM {IMAGES}:base\nCOPY file /etc/worker-image\n", flavour.encode())

    def build(self, tag: str, dockerfile: str, content: bytes) -> None:
        """Build an image from a Dockerfile whose context has one file, named `file`."""
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            for name, data in (("Dockerfile", dockerfile.encode()), ("file", content)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                info.mode = 0o644
                tar.addfile(info, io.BytesIO(data))
        context.seek(0)
        self.client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)

    def containers(self) -> list[str]:
        """The short ids of all containers in any state, as their own host names have them."""
        return sorted(c["Id"][:12] for c in self.api.containers(all=True))

    def image_names(self) -> list[str]:
        return [name for image in self.api.images() for name in image["RepoTags"] or ()]

    def inspect(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.inspect_container(container)
        return found

    def execute(self, container: str, *command: str) -> str:
        """Run a command in a container, and return what it prints."""
        exec_id = self.api.exec_create(container, list(command))["Id"]
        output: bytes = self.api.exec_start(exec_id)
        code = self.api.exec_inspect(exec_id)["ExitCode"]
        assert code == 0, f"{command} in {container}: exit code {code}: {output!r}"
        return output.decode()

    def describe(self) -> str:
        """What is on the engine, for a failed test."""
        lines = []
        for c in self.api.containers(all=True):
            lines.append(f"{c['Id'][:12]} {c['Names']} {c['Image']} {c['Status']}")
            with contextlib.suppress(docker.errors.APIError):
                lines.append(self.api.logs(c["Id"], tail=20).decode(errors="replace"))
        return "\n".join(lines) or "no containers"


@contextlib.contextmanager
def running() -> Iterator[Engine]:
    """Run Debian's Docker Engine out of FOLDER. One such engine can run on a machine: wait for another to end."""
    script = environment.TESTENV / "run-debian-engine.sh"
    with open(f"{FOLDER}.lock", "w") as lock:
        deadline = time.monotonic() + 900
        told = False
        while True:
            answer = "another run of these tests has it"
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # What a killed run left.
                subprocess.run([script, "stop", FOLDER], check=True)
                started = subprocess.run([script, "start", FOLDER], capture_output=True, text=True, check=False)
                answer = started.stderr.strip()
                if started.returncode == 0:
                    break
                fcntl.flock(lock, fcntl.LOCK_UN)
                if "another one of this script runs" not in answer:
                    raise RuntimeError(answer)
            if time.monotonic() > deadline:
                raise RuntimeError(f"cannot start a Docker Engine for 15 minutes: {answer}")
            if not told:
                print(f"waiting for the Docker Engine: {answer}", file=sys.stderr, flush=True)
                told = True
            time.sleep(2)
        try:
            yield Engine()
        finally:
            subprocess.run([script, "stop", FOLDER], check=True)


class Registry:
    """The distribution registry on a loopback port, behind a proxy that can hold back layers or fail.

    It is a context manager."""

    def __init__(self) -> None:
        self.binary = environment.built("registry") / "registry"
        self._work = tempfile.TemporaryDirectory(prefix="latent-e2e-registry-")
        self._upstream = free_port()
        self._stalled = threading.Event()  # set: layers are held back
        self._status = 0
        self.held = 0  # how many requests for a layer are being held back
        self._lock = threading.Lock()
        registry = self

        class Proxy(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def _forward(self) -> None:
                registry._forward(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _forward

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Registry:
        config = Path(self._work.name) / "config.yml"
        config.write_text(
            json.dumps(
                {
                    "version": "0.1",
                    "log": {"level": "error", "accesslog": {"disabled": True}},
                    "storage": {"filesystem": {"rootdirectory": f"{self._work.name}/storage"}},
                    "http": {"addr": f"127.0.0.1:{self._upstream}", "relativeurls": True, "secret": "test"},
                }
            )
        )
        self._log = open(Path(self._work.name) / "log", "wb")  # closed in __exit__
        self._process = subprocess.Popen(
            [self.binary, "serve", config],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": self._work.name, "OTEL_TRACES_EXPORTER": "none"},
        )
        wait_for_port("127.0.0.1", self._upstream, self._process)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._process.kill()
        self._process.wait()
        self._log.close()
        self._work.cleanup()

    def hold_layers(self) -> None:
        """From here on a pull gets half of a layer and then nothing, until release."""
        self._stalled.set()

    def fail(self, status: int) -> None:
        """From here on whatever is asked of a repository is answered with an HTTP status, until release."""
        self._status = status

    def release(self) -> None:
        self._status = 0
        self._stalled.clear()

    def _forward(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = self._body(request)
        if self._status and request.path != "/v2/":
            answer = json.dumps({"errors": [{"code": "UNAVAILABLE", "message": "the registry is being moved"}]}).encode()
            request.send_response(self._status)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(answer)))
            request.end_headers()
            request.wfile.write(answer)
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=60)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("connection", "transfer-encoding")}
        upstream.request(request.command, request.path, body=body or None, headers=headers)
        response = upstream.getresponse()
        content = response.read()
        request.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                request.send_header(name, value)
        length = response.getheader("Content-Length") if request.command == "HEAD" else str(len(content))
        request.send_header("Content-Length", length or "0")
        request.end_headers()
        if self._stalled.is_set() and request.command == "GET" and "/blobs/" in request.path and len(content) > 100_000:
            request.wfile.write(content[: len(content) // 2])
            request.wfile.flush()
            self._hold(request)
            content = content[len(content) // 2 :]
        with contextlib.suppress(ConnectionError):
            request.wfile.write(content)
        upstream.close()

    def _hold(self, request: http.server.BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.held += 1
        try:
            while self._stalled.is_set():
                # Readable: the other side has gone, for it has nothing more to ask.
                if select.select([request.connection], [], [], 0.05)[0]:
                    request.close_connection = True
                    return
        finally:
            with self._lock:
                self.held -= 1

    @staticmethod
    def _body(request: http.server.BaseHTTPRequestHandler) -> bytes:
        if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return request.rfile.read(int(request.headers.get("Content-Length") or 0))
        body = b""
        while size := int(request.rfile.readline().split(b";")[0], 16):
            body += request.rfile.read(size)
            request.rfile.readline()
        request.rfile.readline()
        return body


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as s:
        s.bind((host, 0))
        port: int = s.getsockname()[1]
        return port


def wait_for_port(host: str, port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{process.args} does not listen on port {port} after {seconds} s")
        time.sleep(0.05)
