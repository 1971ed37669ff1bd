"""The latent worker class."""

from __future__ import annotations

import hashlib
import inspect
import os
import secrets
import string
from collections import OrderedDict
from collections.abc import Generator
from typing import Any, ClassVar, Optional, Union
from weakref import WeakKeyDictionary

from buildbot import config
from buildbot.interfaces import (
    LatentWorkerCannotSubstantiate,
    LatentWorkerFailedToSubstantiate,
    LatentWorkerSubstantiatiationCancelled,
)
from buildbot.reporters.utils import getURLForBuild
from buildbot.util.latent import CompatibleLatentWorkerMixin
from buildbot.worker import AbstractLatentWorker
from buildbot.worker.latent import States
from twisted.internet import defer
from twisted.python import failure, log

from . import document
from .client import Engine, EngineError
from .instance import Instance, StartFailed, remove
from .trouble import Trouble

#: How long a render may take that a waiting build depends on.
RENDER_LIMIT = 15.0

#: How many renders are remembered, and how long: what an image is built from can change without the definition.
CACHE_SIZE = 128
CACHE_SECONDS = 30.0

#: How long an idle worker waits before it makes room for a build that it does not suit: another worker may take that.
EVICTION_DELAY = 0.5

#: How often a build's state in the web interface is brought up to date during a pull.
PROGRESS_SECONDS = 2.0

#: Options of Buildbot's own latent workers that say what an instance is like: here they stand in the definition.
IN_DEFINITION = frozenset({
    "alwaysPull", "autopull", "buildargs", "command", "custom_context", "docker_host", "dockerfile", "encoding",
    "followStartupLogs", "hostconfig", "hostname", "image", "kube_config", "kube_extra_config", "marathon_app_prefix",
    "marathon_auth", "marathon_extra_config", "marathon_url", "master_protocol", "masterFQDN", "namespace", "target",
    "tls", "version", "volumes",
})  # fmt: skip

Steps = Generator["defer.Deferred[Any]", Any, Any]


class LatentEngineWorker(CompatibleLatentWorkerMixin, AbstractLatentWorker):
    """A latent worker whose instances latent-engine starts.

    ``definition`` is a definition file or a folder of them (a relative path begins at the master's folder), ``worker``
    the worker in it (default: this worker's name), ``engine`` the latent-engine program, ``state`` its state folder
    (default: the program's own). All else is AbstractLatentWorker's; ``build_wait_timeout`` is 0 unless it is given.
    """

    _instance: Optional[Instance] = None
    _actual_build_props: Any = None
    _swept = False
    _quarantine_spared = False
    _eviction: Any = None
    _progress_at = 0.0
    #: What `ps` said at the master's start, by master and engine: the workers of one master ask once.
    _listings: ClassVar[WeakKeyDictionary[Any, dict[Engine, defer.Deferred[Any]]]] = WeakKeyDictionary()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._rendered: OrderedDict[Any, tuple[float, dict[str, Any]]] = OrderedDict()
        self._builds: dict[Any, Any] = {}
        super().__init__(*args, **kwargs)

    def checkConfig(
        self,
        name: Any,
        password: Any = None,
        definition: Any = None,
        worker: Any = None,
        engine: Any = "latent-engine",
        state: Any = None,
        **kwargs: Any,
    ) -> None:
        if definition is None:
            config.error(f"worker {name!r}: definition= is missing: the path of a latent-engine definition")
        for option, value in (("definition", definition), ("engine", engine), ("state", state)):
            if value is not None and not isinstance(value, (str, os.PathLike)):
                config.error(f"worker {name!r}: {option}= must be a path, not {type(value).__name__}")
        if worker is not None and not isinstance(worker, str):
            config.error(f"worker {name!r}: worker= must be the name of a worker in the definition")
        for option in sorted(IN_DEFINITION.intersection(kwargs)):
            config.error(f"worker {name!r}: {option}= belongs into the definition: workers.{worker or name}.{option}")
            del kwargs[option]
        super().checkConfig(name, password, **_base_options(kwargs))

    @defer.inlineCallbacks
    def reconfigService(
        self,
        name: Any,
        password: Any = None,
        definition: Any = None,
        worker: Any = None,
        engine: Any = "latent-engine",
        state: Any = None,
        **kwargs: Any,
    ) -> Steps:
        base = self.master.basedir
        binary = os.fspath(engine)
        self._engine = Engine(
            binary=os.path.join(base, binary) if os.sep in binary else binary,
            definition=os.path.join(base, os.fspath(definition)),
            state=None if state is None else os.path.join(base, os.fspath(state)),
        )
        self._definition_worker = worker or name
        self._rendered.clear()
        if password is None:
            password = self.getRandomPass()
        yield super().reconfigService(name, password, **_base_options(kwargs))
        if not self._swept:
            self._swept = True
            self._deferwaiter.add(self._sweep())

    def _generate_random_password(self) -> str:
        return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(32))

    @defer.inlineCallbacks
    def stopService(self) -> Steps:
        self._cancel_eviction()
        self._give_up_start()
        yield super().stopService()

    # Start and stop.

    def substantiate(self, wfb: Any, build: Any) -> Any:
        self._builds = {w: b for w, b in self._builds.items() if not b.finished}
        self._builds[wfb] = build
        return super().substantiate(wfb, build)

    @defer.inlineCallbacks
    def start_instance(self, build: Any) -> Steps:
        """Start an instance; True as soon as the engine has accepted it. What comes after is told by its events."""
        instance = self._instance = Instance(self.master.reactor, self._engine, self, self.name)
        self._actual_build_props = None
        self._quarantine_spared = False
        try:
            data = yield self._build_document(build)
            if self._instance is not instance or instance.stopping:
                raise LatentWorkerSubstantiatiationCancelled
            yield instance.start(self._definition_worker, document.encode(data), self.password)
        except StartFailed as e:
            raise self._verdict(e.why) from None
        return True

    def instance_accepted(self, instance: Instance) -> None:
        """Take that the instance is being started, and which: what later builds are compared with."""
        if instance is self._instance:
            self._actual_build_props = {"worker": self._definition_worker, "digest": instance.digest}

    def instance_failed(self, instance: Instance, why: Trouble) -> None:
        """Take that the instance is not there any more, and was not stopped."""
        if instance is not self._instance:
            return
        if self.state == States.SUBSTANTIATING_STARTING and self.conn is None:
            self.stopMissingTimer()
            d = self._substantiation_failed(failure.Failure(self._verdict(why)))
            if d is not None:
                d.addErrback(log.err, "while reporting a worker that did not start")
        else:
            instance.say(f"the instance ended while the worker was attached: {why.text}")
            self._deferwaiter.add(self._tell_builds(why.text))
            if self.conn is not None:
                # The other end is gone: whether it could say so or not, the build shall not wait for a time-out.
                self.conn.loseConnection()

    def _verdict(self, why: Trouble) -> Exception:
        """Give a failure as Buildbot's: final, or to be tried again."""
        self._quarantine_spared = why.is_builds_fault
        kind = LatentWorkerFailedToSubstantiate if why.retryable else LatentWorkerCannotSubstantiate
        # One argument: with two the text would be shown as Python's repr of a tuple.
        error: Exception = kind(why.text)
        return error

    def attached(self, conn: Any) -> Any:
        if self._instance is not None and self.state == States.SUBSTANTIATING_STARTING:
            self._instance.attached = True
        return super().attached(conn)

    def insubstantiate(self, fast: bool = False, force_substantiation_build: Any = None) -> Any:
        # The lock is held until a start is accepted: without this a cancelled build would wait for that.
        self._give_up_start()
        return super().insubstantiate(fast, force_substantiation_build)

    def _give_up_start(self) -> None:
        instance = self._instance
        if instance is not None and not instance.accepted:
            instance.stopping = True
            instance.give_up(LatentWorkerSubstantiatiationCancelled())

    @defer.inlineCallbacks
    def stop_instance(self, fast: bool = False) -> Steps:
        """End the instance and all that was started for it; nothing where there is none."""
        self.resetWorkerPropsOnStop()
        instance, self._instance = self._instance, None
        if instance is None:
            return True
        return (yield instance.stop(fast))

    def putInQuarantine(self) -> None:
        # A build whose image does not exist says nothing of the worker: the next build may have another image.
        if self._quarantine_spared:
            log.msg(f"latent-engine: worker {self.name} is not put in quarantine: the build asked for what cannot be")
            return
        super().putInQuarantine()

    @defer.inlineCallbacks
    def _sweep(self) -> Steps:
        """Remove what an earlier master process left of this worker. A start does that too, for its own sake."""
        listings = self._listings.setdefault(self.master, {})
        if self._engine not in listings:
            listings[self._engine] = self._listing()
        waiting: defer.Deferred[Any] = defer.Deferred()
        listings[self._engine].addCallback(_passed_on, waiting)
        for status in (yield waiting):
            if not isinstance(status, dict) or status.get("worker_name") != self.name:
                continue
            found = str(status.get("instance"))
            if status.get("state") not in ("running", "exited") or self._instance is not None:
                continue
            log.msg(
                f"latent-engine: worker {self.name}: instance {found} was left behind by an earlier master; it is removed"
            )
            error = yield remove(self.master.reactor, self._engine, found, True)
            if error:
                log.msg(f"latent-engine: worker {self.name}: cannot remove instance {found}: {error}")

    @defer.inlineCallbacks
    def _listing(self) -> Steps:
        try:
            result = yield self._engine.call(self.master.reactor, ["ps"])
            if result.code != 0:
                # A definition that cannot be used is best known before the first build.
                log.msg(f"latent-engine: {self._engine.definition}: {result.reason()}")
            listed = result.json() if result.stdout else []
        except EngineError as e:
            log.msg(f"latent-engine: cannot look for instances that an earlier master left: {e}")
            return []
        return listed if isinstance(listed, list) else []

    # What users see.

    def instance_progress(self, instance: Instance, text: str) -> None:
        """Show in the builds' state what their start is doing."""
        now = self.master.reactor.seconds()
        if instance is not self._instance or instance.attached or now - self._progress_at < PROGRESS_SECONDS:
            return
        self._progress_at = now
        for build in self._waiting_builds():
            d = self.master.data.updates.setBuildStateString(build.buildid, f"preparing worker: {text}")
            self._deferwaiter.add(d.addErrback(log.err, "while showing a start's progress"))

    def _waiting_builds(self) -> list[Any]:
        return [b for b in self._builds.values() if b.buildid is not None and not b.finished]

    @defer.inlineCallbacks
    def _tell_builds(self, text: str) -> Steps:
        """Put why an instance ended into a log of the step that it was running."""
        for build in self._waiting_builds():
            steps = [
                s for s in (build.currentStep, *reversed(build.executedSteps)) if s is not None and s.stepid is not None
            ]
            if not steps:
                continue
            try:
                updates = self.master.data.updates
                logid = yield updates.addLog(steps[0].stepid, "latent-engine", "t")
                yield updates.appendLog(logid, text + "\n")
                yield updates.finishLog(logid)
            except Exception:
                log.err(None, "while writing why an instance ended into a build's log")

    # Reuse.

    @defer.inlineCallbacks
    def renderWorkerProps(self, build_props: Any) -> Steps:
        """Give what makes an instance suit a build: the digest of what the engine would start for it.

        Of a build that cannot be judged the digest is None, and "reason" says why.
        """
        known = hasattr(build_props, "getAllSourceStamps")
        if known:
            data = yield self._build_document(build_props)
        else:
            builder = self.botmaster.builders.get(build_props.getProperty("buildername"))
            tags = getattr(getattr(builder, "config", None), "tags", None) or ()
            data = self._said(document.of_properties(build_props, tags, self.info))
        encoded = document.encode(data)
        key = (self._engine, self._engine.version(), self._definition_worker, known, hashlib.sha256(encoded).digest())
        now = self.master.reactor.seconds()
        cached = self._rendered.get(key)
        if cached is not None and 0 <= now - cached[0] < CACHE_SECONDS:
            return cached[1]
        out = {"worker": self._definition_worker, **(yield self._render(encoded, known))}
        self._rendered[key] = (now, out)
        while len(self._rendered) > CACHE_SIZE:
            self._rendered.popitem(last=False)
        return out

    @defer.inlineCallbacks
    def _render(self, encoded: bytes, known: bool) -> Steps:
        try:
            args = ["render", self._definition_worker, "--build", "-", "--full"]
            result = yield self._engine.call(self.master.reactor, args, stdin=encoded, state=False, timeout=RENDER_LIMIT)
            if result.code != 0:
                return {"digest": None, "reason": result.reason()}
            rendered = result.json()
            digest, reads = rendered["digest"], rendered["reads"]
        except (EngineError, KeyError, TypeError) as e:
            return {
                "digest": None,
                "reason": str(e) if isinstance(e, EngineError) else "latent-engine render is of another version",
            }
        unknown = [] if known else document.reads_unknown(reads)
        if unknown:
            return {"digest": None, "reason": f"its worker reads {', '.join(unknown)}, not known before the build starts"}
        return {"digest": digest}

    @defer.inlineCallbacks
    def isCompatibleWithBuild(self, build_props: Any) -> Steps:
        """Tell whether a build can run on what runs or is being started. It never raises: in doubt, no."""
        try:
            return (yield self._is_compatible(build_props))
        except Exception:
            log.err(None, f"latent-engine: worker {self.name}: while comparing a build with the running instance")
            return False

    @defer.inlineCallbacks
    def _is_compatible(self, build_props: Any) -> Steps:
        instance, state = self._instance, self.state
        if state in (States.NOT_SUBSTANTIATED, States.SHUT_DOWN, States.INSUBSTANTIATING):
            return True  # whatever comes next is started for it
        if state == States.SUBSTANTIATED and self.conn is None:
            return True  # a dead instance is replaced
        actual = self._actual_build_props
        if instance is None or actual is None:
            return False  # not known yet what is being started: Buildbot asks again when it attaches
        wanted = yield self.renderWorkerProps(build_props)
        if self._instance is not instance:
            return False  # it went meanwhile; Buildbot asks again when that has come to its end
        if wanted == actual:
            return True
        builder = build_props.getProperty("buildername")
        reason = wanted.get("reason") or f"it wants {wanted['digest']}, and {actual['digest']} runs"
        log.msg(f"latent-engine: worker {self.name}: its instance does not suit a build of {builder!r}: {reason}")
        self._consider_eviction(builder)
        return False

    def _consider_eviction(self, builder: Any) -> None:
        """Make room for a build that the idle instance does not suit, if no other worker takes that build."""
        if self._eviction is None and self._is_idle():
            self._eviction = self.master.reactor.callLater(EVICTION_DELAY, self._evict, builder)

    def _is_idle(self) -> bool:
        return self.state == States.SUBSTANTIATED and not self.building and self.build_wait_timeout > 0

    def _evict(self, builder: Any) -> None:
        self._eviction = None
        self._deferwaiter.add(self._evict_if_wanted(builder))

    @defer.inlineCallbacks
    def _evict_if_wanted(self, builder: Any) -> Steps:
        try:
            found = self.botmaster.builders.get(builder)
            oldest = None if found is None else (yield found.getOldestRequestTime())
            if oldest is not None and self._is_idle():
                log.msg(f"latent-engine: worker {self.name}: its idle instance makes room for a build of {builder!r}")
                yield self._soft_disconnect()
        except Exception:
            log.err(None, f"latent-engine: worker {self.name}: while making room for another build")

    def _cancel_eviction(self) -> None:
        if self._eviction is not None:
            self._eviction.cancel()
            self._eviction = None

    def buildStarted(self, wfb: Any) -> None:
        self._cancel_eviction()
        super().buildStarted(wfb)

    # The build document.

    @defer.inlineCallbacks
    def _build_document(self, build: Any) -> Steps:
        builderid = yield build.getBuilderId()
        url = getURLForBuild(self.master, builderid, build.number)
        return self._said(document.of_build(build, url, self.info))

    def _said(self, made: tuple[document.Document, list[str]]) -> document.Document:
        data, left_out = made
        if left_out:
            log.msg(f"latent-engine: worker {self.name}: JSON cannot hold the properties {', '.join(left_out)}: left out")
        return data


def _base_options(options: dict[str, Any]) -> dict[str, Any]:
    """Give options as the base class of this Buildbot takes them."""
    options = {"build_wait_timeout": 0, **options}
    # Instances report by themselves: nothing is lost where Buildbot (before 3.8) has no such option.
    if "check_instance_interval" not in inspect.signature(AbstractLatentWorker.reconfigService).parameters:
        options.pop("check_instance_interval", None)
    return options


def _passed_on(result: Any, waiting: defer.Deferred[Any]) -> Union[Any, None]:
    waiting.callback(result)
    return result
