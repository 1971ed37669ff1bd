"""Calls of the latent-engine program: short ones, and the one that starts an instance and follows it.

Nothing that the program prints is trusted to be well-formed: lines are bounded, what is no JSON is told and passed over.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol

from twisted.internet import defer, error, protocol
from twisted.python import failure

#: The longest line that is read, and the most that a short call may print.
LINE = 1 << 20
OUTPUT = 16 << 20

#: The file descriptor that the program reads the worker's password from.
PASSWORD_FD = 3

#: How many diagnostics of one call are kept.
DIAGNOSTICS = 20

_ULID = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

Json = dict[str, Any]


class EngineError(Exception):
    """A call of latent-engine that did not do what it was asked to."""


class NoEngine(EngineError):
    """There is no such program."""


def ulid() -> str:
    """Make an instance id: 48 bits of time, 80 of chance, in Crockford's base 32."""
    n = (int(time.time() * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join(_ULID[(n >> shift) & 31] for shift in range(125, -1, -5))


class Lines:
    """Cuts a stream into lines; one that is too long is passed over, and counted."""

    def __init__(self, sink: Callable[[bytes], None], limit: int = LINE) -> None:
        self._sink = sink
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping = False
        self.skipped = 0

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        while data:
            line, newline, data = data.partition(b"\n")
            self._size += len(line)
            if self._size > self._limit and not self._skipping:
                self._skipping = True
                self.skipped += 1
                self._parts.clear()
            if not self._skipping:
                self._parts.append(line)
            if newline:
                self._end()

    def close(self) -> None:
        """Take the stream's end: a line without an end is one too."""
        if self._parts and any(self._parts):
            self._end()

    def _end(self) -> None:
        parts, skipping = self._parts, self._skipping
        self._parts, self._size, self._skipping = [], 0, False
        if not skipping:
            self._sink(b"".join(parts))


def as_object(line: bytes) -> Optional[Json]:
    """Give the JSON object that a line holds, None where it holds none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def shown(line: bytes, limit: int = 200) -> str:
    """Give what a line says, for a log."""
    out = line.decode("utf-8", "replace").strip()
    return out if len(out) <= limit else out[:limit] + "…"


def ended(reason: failure.Failure) -> tuple[Optional[int], str]:
    """Give a process's exit code (None where a signal ended it), and how it ended in words."""
    value = reason.value
    code: Optional[int] = getattr(value, "exitCode", None)
    signal = getattr(value, "signal", None)
    if reason.check(error.ProcessDone):
        return 0, "exit code 0"
    if signal is not None:
        return None, f"signal {signal}"
    return code, f"exit code {code}"


@dataclass
class Result:
    """What a short call came to."""

    code: Optional[int]
    how: str
    stdout: bytes
    diagnostics: list[Json] = field(default_factory=list)
    noise: list[str] = field(default_factory=list)

    def json(self) -> Any:
        """Give what was printed; EngineError where it is no JSON."""
        try:
            return json.loads(self.stdout)
        except (ValueError, RecursionError):
            raise EngineError(f"latent-engine ended with {self.how} and printed no JSON") from None

    def reason(self) -> str:
        """Say why the call failed."""
        return "\n".join(diagnostics_text(self.diagnostics) + self.noise) or self.how


def diagnostics_text(diagnostics: Sequence[Json]) -> list[str]:
    """Give diagnostics as people read them: ``file:line:column: path: message``, hints below."""
    out = []
    for d in diagnostics:
        place = ":".join(str(d[k]) for k in ("file", "line", "column") if d.get(k))
        out.append(": ".join(str(part) for part in (place, d.get("path"), d.get("message", d)) if part))
        if d.get("hint"):
            out.extend("  " + line for line in str(d["hint"]).splitlines())
    return out


class Listener(Protocol):
    """What is told of a start that is followed."""

    def event(self, event: Json) -> None:
        """Take one line of ``start --follow -o json``."""

    def progress(self, progress: Json) -> None:
        """Take one report of long work."""

    def warning(self, text: str) -> None:
        """Take what is worth a line in the master's log."""

    def over(self, code: Optional[int], how: str) -> None:
        """Take the process's end. Nothing comes after it."""


class _Call(protocol.ProcessProtocol):
    """A short call."""

    def __init__(self, stdin: bytes) -> None:
        self.done: defer.Deferred[Result] = defer.Deferred(lambda _: self.end("KILL"))
        self._stdin = stdin
        self._stdout: list[bytes] = []
        self._size = 0
        self._result = Result(None, "", b"")
        self._errors = Lines(self._error)

    def connectionMade(self) -> None:
        _write(self.transport, 0, self._stdin)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD != 1:
            self._errors.feed(data)
            return
        self._size += len(data)
        if self._size <= OUTPUT:
            self._stdout.append(data)

    def _error(self, line: bytes) -> None:
        d = as_object(line)
        if d is not None and len(self._result.diagnostics) < DIAGNOSTICS:
            if d.get("severity", "error") == "error":
                self._result.diagnostics.append(d)
        elif d is None and line.strip() and len(self._result.noise) < DIAGNOSTICS:
            self._result.noise.append(shown(line))

    def end(self, signal: str) -> None:
        _signal(self.transport, signal)

    def processEnded(self, reason: failure.Failure) -> None:
        self._errors.close()
        self._result.code, self._result.how = ended(reason)
        self._result.stdout = b"".join(self._stdout)
        if not self.done.called:
            self.done.callback(self._result)


class _Follow(protocol.ProcessProtocol):
    """A start that is followed."""

    #: How long output may come after the process has ended: what it started may hold the pipes.
    LINGER = 5.0

    def __init__(self, reactor: Any, listener: Listener, stdin: bytes, password: bytes) -> None:
        self._reactor = reactor
        self._listener = listener
        self._stdin = stdin
        self._password = password
        self._events = Lines(self._event)
        self._errors = Lines(self._error)
        self._garbage = 0
        self._linger: Any = None
        self.diagnostics: list[Json] = []
        self.running = True

    def connectionMade(self) -> None:
        _write(self.transport, 0, self._stdin)
        _write(self.transport, PASSWORD_FD, self._password)
        self._stdin = self._password = b""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        (self._events if childFD == 1 else self._errors).feed(data)

    def _event(self, line: bytes) -> None:
        event = as_object(line)
        if event is None or not isinstance(event.get("event"), str):
            self._noise(line)
        else:
            self._listener.event(event)

    def _error(self, line: bytes) -> None:
        d = as_object(line)
        if d is None:
            self._noise(line)
        elif d.get("event") == "progress":
            self._listener.progress(d)
        elif d.get("severity") == "warning":
            self._listener.warning(" ".join(diagnostics_text([d])))
        elif len(self.diagnostics) < DIAGNOSTICS:
            self.diagnostics.append(d)

    def _noise(self, line: bytes) -> None:
        if not line.strip():
            return
        self._garbage += 1
        if self._garbage <= 5:
            self._listener.warning("latent-engine printed what is no event: " + shown(line))

    def signal(self, name: str) -> None:
        _signal(self.transport, name)

    def processExited(self, reason: failure.Failure) -> None:
        transport: Any = self.transport
        self._linger = self._reactor.callLater(self.LINGER, transport.loseConnection)

    def processEnded(self, reason: failure.Failure) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        self.running = False
        self._events.close()
        self._errors.close()
        skipped = self._events.skipped + self._errors.skipped
        if skipped:
            self._listener.warning(f"{skipped} lines of latent-engine's were longer than {LINE} bytes and were passed over")
        self._listener.over(*ended(reason))


def _write(transport: Any, fd: int, data: bytes) -> None:
    if data:
        transport.writeToChild(fd, data)
    transport.closeChildFD(fd)


def _signal(transport: Any, name: str) -> None:
    # It may have ended, or never begun.
    with contextlib.suppress(error.ProcessExitedAlready, AttributeError):
        transport.signalProcess(name)


@dataclass(frozen=True)
class Engine:
    """The program, and what it works with."""

    binary: str
    definition: str
    state: Optional[str] = None

    def program(self) -> str:
        """Find the program; NoEngine where there is none."""
        path = shutil.which(self.binary)
        if path is None:
            raise NoEngine(f"cannot find the program {self.binary!r}: no such executable file, or none on PATH")
        return path

    def call(
        self, reactor: Any, args: Sequence[str], *, stdin: bytes = b"", state: bool = True, timeout: float = 60.0
    ) -> defer.Deferred[Result]:
        """Make a short call. It fails with EngineError where the program cannot be run, or takes longer than timeout."""
        try:
            program = self.program()
            p = _Call(stdin)
            reactor.spawnProcess(p, program, [program, *args, *self._flags(state)], env=dict(os.environ))
        except (OSError, EngineError) as e:
            return defer.fail(e if isinstance(e, EngineError) else EngineError(f"cannot run {self.binary!r}: {e}"))

        def late(result: Any, _seconds: float) -> Any:
            raise EngineError(f"latent-engine {args[0]} took longer than {timeout:.0f} s and was ended")

        return p.done.addTimeout(timeout, reactor, late)

    def follow(
        self, reactor: Any, listener: Listener, worker: str, *, name: str, instance: str, document: bytes, password: str
    ) -> _Follow:
        """Start an instance and follow it."""
        program = self.program()
        args = [program, "start", worker, "--build", "-", "--as", name, "--id", instance]
        args += ["--password-file", f"/dev/fd/{PASSWORD_FD}", "--replace", "--follow", *self._flags(True)]
        p = _Follow(reactor, listener, document, password.encode())
        try:
            reactor.spawnProcess(p, program, args, env=dict(os.environ), childFDs={0: "w", 1: "r", 2: "r", PASSWORD_FD: "w"})
        except OSError as e:
            raise EngineError(f"cannot run {self.binary!r}: {e}") from None
        return p

    def _flags(self, state: bool) -> list[str]:
        flags = ["-f", self.definition, "-o", "json"]
        if state and self.state is not None:
            flags += ["--state", self.state]
        return flags

    def version(self) -> tuple[tuple[str, int, int], ...]:
        """Give what tells one state of the definition's files from another."""
        paths = [self.definition]
        try:
            if os.path.isdir(self.definition):
                paths = sorted(os.path.join(self.definition, n) for n in os.listdir(self.definition))
            stats = [(p, os.stat(p)) for p in paths]
        except OSError:
            return ()
        return tuple((p, s.st_mtime_ns, s.st_size) for p, s in stats)
