"""One instance: from its start, through the engine's events, to its end."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Optional, Protocol

from twisted.internet import defer
from twisted.python import log

from . import trouble
from .client import Engine, EngineError, Json, NoEngine, ulid
from .trouble import Trouble

#: How much of a startup log goes into the master's log.
LOG_LINES = 300
LOG_LINE = 1000

#: How long a stop may take: the definition's own stop_timeout is within it.
STOP_LIMIT = 600.0

#: How long a start that was given up, or an instance that was killed, may take to be gone.
CANCEL_LIMIT = 60.0

#: How long to wait before a failed stop is tried again.
BACKOFF = (1.0, 2.0, 4.0, 8.0)


class Owner(Protocol):
    """What is told of an instance's life."""

    def instance_accepted(self, instance: Instance) -> None:
        """Take that the instance is being started: allowed, and with room for it."""

    def instance_failed(self, instance: Instance, why: Trouble) -> None:
        """Take that an accepted instance is not there any more, without having been stopped."""

    def instance_progress(self, instance: Instance, text: str) -> None:
        """Take what a start is doing."""


class StartFailed(Exception):
    """A start that was not accepted."""

    def __init__(self, why: Trouble) -> None:
        super().__init__(why.text)
        self.why = why


class Instance:
    """An instance, and the process that starts and follows it."""

    def __init__(self, reactor: Any, engine: Engine, owner: Owner, name: str) -> None:
        self.id = ulid()
        self.digest = ""
        self.accepted = False
        self.attached = False
        self.ended = False  # by itself, or the start failed
        self.stopping = False
        self._reactor = reactor
        self._engine = engine
        self._owner = owner
        self._name = name
        self._password = ""
        self._started = False
        self._clean = True  # nothing of it can be there
        self._process: Any = None
        self._why: Optional[Trouble] = None
        self._wait: Optional[defer.Deferred[None]] = None
        self._over: list[defer.Deferred[None]] = []
        self._lines = 0
        self._phase = ""

    def start(self, worker: str, document: bytes, password: str) -> defer.Deferred[None]:
        """Start it. Fires once the start is accepted; fails with StartFailed, or with what give_up was called with."""
        self._password = password
        wait: defer.Deferred[None] = defer.Deferred()
        self._wait = wait
        try:
            self._process = self._engine.follow(
                self._reactor, self, worker, name=self._name, instance=self.id, document=document, password=password
            )
        except EngineError as e:
            final = isinstance(e, NoEngine)
            self._refuse(Trouble("infra", not final, f"failed (infra): {e}"))
        else:
            self._clean = False
        return wait

    def give_up(self, why: BaseException) -> None:
        """End a start that was not accepted yet."""
        wait, self._wait = self._wait, None
        if wait is not None:
            self.stopping = True
            self._signal("TERM")
            wait.errback(why)

    def _refuse(self, why: Trouble) -> None:
        self.ended = True
        wait, self._wait = self._wait, None
        if wait is not None:
            wait.errback(StartFailed(why))

    # What the process says.

    def event(self, event: Json) -> None:
        """Take one line of ``start --follow -o json``."""
        kind = event["event"]
        status = event.get("instance")
        if kind in ("accepted", "started"):
            self._started = self._started or kind == "started"
            self._accept(status)
        elif kind == "log":
            self._log(event.get("line"))
        elif kind == "exited":
            self._fail(trouble.of_exit(status))
        elif kind == "failed":
            self._fail(trouble.of_failure(event.get("failure"), event.get("violations")))
        elif kind == "removed":
            self._clean = True

    def _accept(self, status: Any) -> None:
        if self.accepted:
            return
        self.accepted = True
        self.digest = str(status.get("digest") or "") if isinstance(status, dict) else ""
        wait, self._wait = self._wait, None
        if wait is not None:
            self._owner.instance_accepted(self)
            wait.callback(None)

    def _fail(self, why: Trouble) -> None:
        self._why = why = Trouble(why.kind, why.retryable, self._masked(why.text))
        if not self.accepted:
            self._clean = True  # it was refused before anything was made
            self._refuse(why)
        elif not self.ended:
            self.ended = True
            if not self.stopping:
                self._owner.instance_failed(self, why)

    def _log(self, line: Any) -> None:
        if self.attached or self._lines > LOG_LINES or not isinstance(line, str):
            return
        self._lines += 1
        if self._lines > LOG_LINES:
            self.say(f"more of its log is not shown here: latent-engine logs {self.id} has all of it")
        else:
            self.say("| " + line[:LOG_LINE])

    def progress(self, progress: Json) -> None:
        """Take one report of long work."""
        phase = " ".join(str(progress[k]) for k in ("phase", "subject", "message") if progress.get(k))
        if phase != self._phase and self._lines <= LOG_LINES:
            self._phase = phase
            self._lines += 1
            self.say(phase[:LOG_LINE])
        done, total = progress.get("done"), progress.get("total")
        if isinstance(done, int) and isinstance(total, int) and total > 0:
            phase += f" {done / 1e6:.0f}/{total / 1e6:.0f} MB"
        self._owner.instance_progress(self, self._masked(phase))

    def warning(self, text: str) -> None:
        """Take what is worth a line in the master's log."""
        self.say(text)

    def over(self, code: Optional[int], how: str) -> None:
        """Take the process's end."""
        if not self.accepted and self._wait is not None:
            self._clean = code is not None
            why = trouble.of_call(code, how, self._process.diagnostics if self._process else [])
            self._refuse(Trouble(why.kind, why.retryable, self._masked(why.text)))
        elif self.accepted and not self.ended and not self.stopping:
            self._lost(how)
        waiting, self._over = self._over, []
        for d in waiting:
            d.callback(None)

    def _lost(self, how: str) -> None:
        """Go on without the process. A worker that is attached works on; one that is not would come unseen."""
        if self.attached:
            self.say(f"latent-engine ended with {how}: why the worker ends will not be known; its build goes on")
            return
        self.ended = True
        self._owner.instance_failed(
            self, Trouble("unknown", True, f"failed (unknown): latent-engine ended with {how} during the start")
        )

    def say(self, text: str) -> None:
        """Put a line into the master's log."""
        log.msg(f"latent-engine: worker {self._name} ({self.id}): {self._masked(text)}")

    def _masked(self, text: str) -> str:
        return text.replace(self._password, "***") if self._password else text

    # The end.

    @property
    def running(self) -> bool:
        """Tell whether the process is there."""
        return self._process is not None and self._process.running

    def _signal(self, name: str) -> None:
        if self.running:
            self._process.signal(name)

    def _gone(self, seconds: float) -> defer.Deferred[bool]:
        """Wait for the process's end; False where it took too long."""
        if not self.running:
            return defer.succeed(True)
        d: defer.Deferred[None] = defer.Deferred()
        self._over.append(d)

        def late(result: Any, _seconds: float) -> bool:
            if d in self._over:
                self._over.remove(d)
            return False

        out: defer.Deferred[Any] = d.addCallback(lambda _: True)
        return out.addTimeout(seconds, self._reactor, late)

    @defer.inlineCallbacks
    def stop(self, fast: bool) -> Generator[defer.Deferred[Any], Any, bool]:
        """End the instance, whatever became of it. False, after it was said loudly, where it may be left."""
        first = not self.stopping
        self.stopping = True
        if self.running and fast and self._started and not self.ended:
            yield self._remove(fast)
            yield self._gone(CANCEL_LIMIT)
        elif self.running:
            # A second signal would say: leave it running.
            if first and not self.ended:
                self._signal("TERM")
            yield self._gone(STOP_LIMIT if self._started else CANCEL_LIMIT)
        if self.running:
            self.say("latent-engine does not end; it is killed")
            self._signal("KILL")
            yield self._gone(CANCEL_LIMIT)
        if self._clean:
            return True
        removed: bool = yield self._remove(fast)
        return removed

    @defer.inlineCallbacks
    def _remove(self, fast: bool) -> Generator[defer.Deferred[Any], Any, bool]:
        """Have another process remove the instance, a few times if need be."""
        error = ""
        for pause in (*BACKOFF, None):
            error = yield remove(self._reactor, self._engine, self.id, fast)
            if not error:
                self._clean = True
                return True
            if pause is None:
                break
            self.say(f"it cannot be stopped, and is tried again in {pause:.0f} s: {error}")
            yield _sleep(self._reactor, pause)
        log.err(
            EngineError(f"cannot stop instance {self.id} of worker {self._name}: {self._masked(error)}"),
            f"latent-engine: something of it may be left and cost money: `latent-engine gc -f {self._engine.definition}` "
            "removes it, and so does the worker's next start",
        )
        return False


@defer.inlineCallbacks
def remove(reactor: Any, engine: Engine, instance: str, fast: bool) -> Generator[defer.Deferred[Any], Any, str]:
    """Stop an instance by its id: "" or why that failed. What is absent was stopped."""
    try:
        args = ["stop", "--fast", instance] if fast else ["stop", instance]
        result = yield engine.call(reactor, args, timeout=STOP_LIMIT)
    except EngineError as e:
        return str(e)
    if result.code == 0:
        return ""
    try:
        failed = [f["failure"] for f in result.json() if isinstance(f, dict) and f.get("failure")]
    except (EngineError, TypeError):
        failed = []
    return trouble.of_failure(failed[0]).text if failed else result.reason()


def _sleep(reactor: Any, seconds: float) -> defer.Deferred[None]:
    d: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(seconds, d.callback, None)
    return d
