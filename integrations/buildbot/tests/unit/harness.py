"""A real master in the test's own process, with workers that attach in it, and an engine that does what a test says."""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import Any, Optional

from buildbot.config import BuilderConfig
from buildbot.config.master import MasterConfig
from buildbot.interfaces import IConfigLoader
from buildbot.master import BuildMaster
from buildbot.process.buildstep import BuildStep
from buildbot.process.factory import BuildFactory
from buildbot.process.results import SUCCESS
from buildbot.worker.latent import States
from buildbot_worker.bot import LocalWorker
from twisted.internet import defer, reactor, task
from twisted.python import log
from twisted.trial import unittest
from zope.interface import implementer

from buildbot_latent_engine import LatentEngineWorker

HERE = os.path.dirname(os.path.abspath(__file__))

IMAGE = {"class": "image", "retryable": False, "message": "reg/linux:nope: manifest unknown", "hint": "look at the tag"}
INFRA = {"class": "infra", "retryable": True, "message": "cannot connect to docker"}


@implementer(IConfigLoader)
class DictLoader:
    def __init__(self, config_dict):
        self.config_dict = config_dict

    def loadConfig(self):
        return MasterConfig.loadFromDict(self.config_dict, "master.cfg")


class Hold(BuildStep):
    """A step that lasts until the test ends it."""

    held: list[Hold] = []

    def run(self):
        self.done: defer.Deferred[int] = defer.Deferred()
        Hold.held.append(self)
        return self.done

    def interrupt(self, reason):
        self.results = getattr(self.build, "results", None)
        if not self.done.called:
            self.done.callback(self.results)
        return defer.succeed(None)

    def end(self):
        self.done.callback(SUCCESS)


@defer.inlineCallbacks
def until(condition, seconds=10.0, what="what is waited for"):
    for _ in range(int(seconds / 0.01)):
        got = condition()
        if got:
            return got
        yield task.deferLater(reactor, 0.01)
    raise AssertionError(f"{what} did not come within {seconds} s")


class EngineCase(unittest.TestCase):
    """A test with a folder and a fake engine in it."""

    timeout = 60

    def setUp(self):
        self.folder = os.path.abspath(self.mktemp())
        os.makedirs(self.folder)
        self.binary = os.path.join(self.folder, "latent-engine")
        with open(self.binary, "w") as f:
            f.write(f'#!/bin/sh\nexec "{sys.executable}" -S "{HERE}/fake_engine.py" "{self.folder}" "$@"\n')
        os.chmod(self.binary, os.stat(self.binary).st_mode | stat.S_IXUSR)
        self.definition = os.path.join(self.folder, "ci.yaml")
        with open(self.definition, "w") as f:
            f.write("version: 1\n")
        self.scenario()
        Hold.held = []

    def scenario(self, **commands: Any):
        commands.setdefault("ps", [["print", []]])
        commands.setdefault("start", [["accept"], ["start"], ["serve"]])
        commands.setdefault("stop", [["gone"], ["print", []]])
        commands.setdefault("render", self.rendered())
        path = os.path.join(self.folder, "scenario.json")
        with open(path + ".new", "w") as f:
            json.dump(commands, f)
        os.rename(path + ".new", path)

    def rendered(self, digest="v1:" + "a" * 64, reads=()):
        return [["print", {"digest": digest, "reads": list(reads)}]]

    def _read(self, name):
        path = os.path.join(self.folder, name)
        if not os.path.exists(path):
            return []
        with open(path) as f:
            return [json.loads(line) for line in f]

    def calls(self, command):
        return [c for c in self._read("calls.jsonl") if c["args"][0] == command]

    def ends(self):
        return [e["got"] for e in self._read("ends.jsonl")]

    def touch(self, name):
        open(os.path.join(self.folder, name), "w").close()

    def alive(self):
        return [c["args"] for c in self._read("calls.jsonl") if _runs(c["pid"])]


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class MasterCase(EngineCase):
    """A test with a real master."""

    def setUp(self):
        super().setUp()
        self.lines: list[str] = []
        log.addObserver(self._observe)
        self.addCleanup(log.removeObserver, self._observe)
        self.finished: list[dict[str, Any]] = []
        self.remote: Optional[LocalWorker] = None

    def _observe(self, event):
        self.lines.append(log.textFromEventDict(event) or "")

    def logged(self, text):
        return [line for line in self.lines if text in line]

    def make_worker(self, name="linux", **options):
        options.setdefault("definition", self.definition)
        options.setdefault("engine", self.binary)
        return LatentEngineWorker(name, **options)

    def config(self, workers, builders=("b",)):
        factory = BuildFactory([Hold()])
        return {
            "title": "t", "titleURL": "t", "buildbotURL": "http://ci.example/", "buildbotNetUsageData": None,
            "db_url": "sqlite://", "protocols": {"null": {}}, "multiMaster": True, "schedulers": [], "workers": workers,
            "builders": [
                BuilderConfig(name=b, workernames=[w.name for w in workers], factory=factory, tags=["t1"]) for b in builders
            ],
        }  # fmt: skip

    @defer.inlineCallbacks
    def start_master(self, builders=("b",), workers=None, **options):
        self.worker = self.make_worker(**options) if workers is None else workers[0]
        basedir = os.path.join(self.folder, "master")
        os.makedirs(basedir)
        config = self.config(workers or [self.worker], builders)
        self.master = master = BuildMaster(basedir, reactor=reactor, config_loader=DictLoader(config))
        if isinstance(master.config.db, dict):
            master.config.db["db_url"] = "sqlite://"
        else:
            master.config.db.db_url = "sqlite://"
        self.addCleanup(self.stop_master)
        yield master.db.setup(check_version=False)
        yield master.db.model.upgrade()
        master.db.setup = lambda: None
        yield master.startService()
        yield master.mq.startConsuming(lambda _, data: self.finished.append(data), ("builds", None, "finished"))

    @defer.inlineCallbacks
    def stop_master(self):
        if self.master.running:
            yield self.master.stopService()
        pool = self.master.db.pool
        yield (pool.stop() if hasattr(pool, "stop") else pool.shutdown())
        self.assertEqual([], self.alive())

    @defer.inlineCallbacks
    def force(self, builder="b", branch=None, reason="r", **properties):
        builderid = yield self.master.data.updates.findBuilderId(builder)
        stamp = {"codebase": "", "repository": "git://r", "branch": branch, "revision": None, "project": "p"}
        yield self.master.data.updates.addBuildset(
            waited_for=False,
            builderids=[builderid],
            reason=reason,
            sourcestamps=[stamp],
            properties={k: (v, "Force Build Form") for k, v in properties.items()},
        )

    @defer.inlineCallbacks
    def attach(self, worker=None):
        worker = worker or self.worker
        if self.remote is not None and self.remote.parent is worker:
            yield self.remote.disownServiceParent()
        folder = os.path.abspath(self.mktemp())
        os.makedirs(folder)
        self.remote = LocalWorker(worker.name, folder, False)
        yield self.remote.setServiceParent(worker)

    def pause(self):
        """Keep a build from being tried again."""
        self.worker._paused = True

    def state(self, *states):
        return until(lambda: self.worker.state in states, what=f"state {states}, now {self.worker.state}")

    def idle(self):
        return self.state(States.NOT_SUBSTANTIATED)

    def builds(self, n):
        return until(lambda: len(self.finished) >= n, what=f"{n} finished builds")

    @defer.inlineCallbacks
    def logs(self, buildid):
        """Give the logs of a build's steps: step/log to text."""
        out = {}
        for step in (yield self.master.data.get(("builds", buildid, "steps"))):
            for entry in (yield self.master.data.get(("steps", step["stepid"], "logs"))):
                content = yield self.master.data.get(("logs", entry["logid"], "contents"))
                out[f"{step['name']}/{entry['slug']}"] = content["content"]
        return out

    @defer.inlineCallbacks
    def run_started(self, **properties):
        """Bring a build to where its instance is being started."""
        yield self.force(**properties)
        yield until(lambda: self.worker._instance and self.worker._instance.accepted, what="acceptance")

    @defer.inlineCallbacks
    def run_attached(self, **properties):
        """Bring a build to where its step is held."""
        n = len(Hold.held)
        yield self.run_started(**properties)
        yield self.attach()
        yield until(lambda: len(Hold.held) > n, what="the step")
