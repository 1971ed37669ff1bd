"""The worker class in a real master, with an engine that does what a test says."""

from __future__ import annotations

import copy
import os

from buildbot.process.properties import Properties
from buildbot.process.results import CANCELLED, EXCEPTION, RETRY, SUCCESS
from buildbot.reporters.utils import getURLForBuild
from buildbot.worker.latent import States
from twisted.internet import defer

from .harness import IMAGE, INFRA, Hold, MasterCase, until


class TestLife(MasterCase):
    @defer.inlineCallbacks
    def test_build(self):
        self.scenario(
            start=[
                ["progress", "pulling", "a:1"],
                ["accept"],
                ["start"],
                ["log", "hello", "from inside"],
                ["echo"],
                ["serve"],
            ]
        )
        yield self.start_master(password="pa55word")
        yield self.run_started(cores=4, odd=(1, 2))
        yield until(lambda: self.logged("my password is ***"))
        yield self.attach()
        yield until(lambda: Hold.held)
        (call,) = self.calls("start")
        self.assertEqual("linux", call["args"][1])
        self.assertEqual("pa55word", call["password"])
        self.assertNotIn("pa55word", " ".join(call["args"]))
        self.assertEqual([], self.logged("pa55word"))
        self.assertTrue(self.logged("my password is ***"))
        self.assertTrue(self.logged("pulling a:1"))
        args = call["args"]
        for option, value in (("--as", "linux"), ("-f", self.definition), ("-o", "json"), ("--build", "-")):
            self.assertEqual(value, args[args.index(option) + 1])
        self.assertIn("--replace", args)
        self.assertNotIn("--state", args)
        document = call["document"]
        self.assertEqual([4, "Force Build Form"], document["properties"]["cores"])
        self.assertEqual([[1, 2], "Force Build Form"], document["properties"]["odd"])
        self.assertEqual(["linux", "Worker"], document["properties"]["workername"])
        about = document["build"]
        self.assertEqual(("b", 1, "r", ["t1"]), (about["builder"], about["number"], about["reason"], about["tags"]))
        self.assertEqual(getURLForBuild(self.master, 1, 1), about["url"])
        self.assertIn("http://ci.example/#", about["url"])
        self.assertEqual(
            [{"codebase": "", "branch": None, "revision": None, "repository": "git://r", "project": "p"}],
            document["sourcestamps"],
        )
        Hold.held[0].end()
        yield self.builds(1)
        self.assertEqual(SUCCESS, self.finished[0]["results"])
        yield self.idle()
        self.assertEqual([["TERM"]], self.ends())
        self.assertEqual([], self.calls("stop"))
        self.assertEqual([], self.alive())

    @defer.inlineCallbacks
    def test_options(self):
        yield self.start_master(
            worker="template", state="st", build_wait_timeout=7, missing_timeout=5, check_instance_interval=3
        )
        self.assertEqual(7, self.worker.build_wait_timeout)
        self.assertEqual(5, self.worker.missing_timeout)
        self.assertEqual(32, len(self.worker.password))
        yield self.run_attached()
        args = self.calls("start")[0]["args"]
        self.assertEqual("template", args[1])
        self.assertEqual("linux", args[args.index("--as") + 1])
        self.assertEqual(os.path.join(self.master.basedir, "st"), args[args.index("--state") + 1])
        Hold.held[0].end()
        yield self.builds(1)

    @defer.inlineCallbacks
    def test_denied(self):
        denied = {"class": "policy", "retryable": False, "message": "denied: tenant web, policy corp"}
        violation = {
            "rule": "images.allow",
            "field": "Image",
            "value": "x",
            "message": "x matches none",
            "file": "w.yaml",
            "line": 7,
            "column": 12,
        }
        self.scenario(start=[["fail", denied, [violation]], ["exit", 3]])
        yield self.start_master()
        yield self.force()
        yield self.builds(1)
        self.assertEqual(EXCEPTION, self.finished[0]["results"])
        text = "".join((yield self.logs(self.finished[0]["buildid"])).values())
        self.assertIn("failed (policy): denied: tenant web, policy corp", text)
        self.assertIn("w.yaml:7:12: Image: x matches none", text)
        yield self.idle()
        self.assertEqual([], self.calls("stop"))
        self.flushLoggedErrors()
        # The next build is not kept waiting for what this one asked for.
        self.assertIsNone(self.worker.quarantine_timer)
        self.scenario()
        yield self.run_attached()
        Hold.held[0].end()
        yield self.builds(2)
        self.assertEqual(SUCCESS, self.finished[1]["results"])

    @defer.inlineCallbacks
    def test_not_rendered(self):
        self.scenario(start=[
            ["diagnostic", {
                "file": "ci.yaml", "line": 3, "column": 5, "path": "workers.linux.props.tag", "message": "missing",
                "severity": "error",
            }],
            ["exit", 1],
        ])  # fmt: skip
        yield self.start_master()
        yield self.force()
        yield self.builds(1)
        self.assertEqual(EXCEPTION, self.finished[0]["results"])
        text = "".join((yield self.logs(self.finished[0]["buildid"])).values())
        self.assertIn("ci.yaml:3:5: workers.linux.props.tag: missing", text)
        self.flushLoggedErrors()

    @defer.inlineCallbacks
    def test_image_fails_after_acceptance(self):
        self.scenario(
            start=[["accept"], ["progress", "pulling", "reg/linux:nope"], ["sleep", 0.2], ["fail", IMAGE], ["exit", 1]]
        )
        yield self.start_master()
        yield self.force()
        yield self.builds(1)
        self.assertEqual(EXCEPTION, self.finished[0]["results"])
        text = "".join((yield self.logs(self.finished[0]["buildid"])).values())
        self.assertIn("LatentWorkerCannotSubstantiate: failed (image): reg/linux:nope: manifest unknown", text)
        self.assertIn("hint: look at the tag", text)
        yield self.idle()
        # Whether the engine could clean up is asked.
        self.assertEqual(1, len(self.calls("stop")))
        self.assertIsNone(self.worker.quarantine_timer)
        self.assertIsNone(self.worker.missing_timer)
        self.flushLoggedErrors()

    @defer.inlineCallbacks
    def test_accepted_and_failed_at_once(self):
        self.scenario(start=[["accept"], ["fail", IMAGE], ["exit", 1]])
        yield self.start_master()
        yield self.force()
        yield self.builds(1)
        self.assertEqual(EXCEPTION, self.finished[0]["results"])
        self.flushLoggedErrors()

    @defer.inlineCallbacks
    def test_retryable(self):
        for steps in ([["fail", INFRA], ["exit", 1]], [["accept"], ["fail", INFRA], ["exit", 1]]):
            self.scenario(start=steps)
            if not self.finished:
                yield self.start_master()
                yield self.force()
            else:
                self.worker.stopQuarantineTimer()
            n = len(self.finished)
            yield self.builds(n + 1)
            self.assertEqual(RETRY, self.finished[n]["results"])
            yield until(lambda: self.worker.quarantine_timer is not None)
        self.pause()
        text = "".join((yield self.logs(self.finished[0]["buildid"])).values())
        self.assertIn("LatentWorkerFailedToSubstantiate: failed (infra): cannot connect to docker\n", text)
        self.flushLoggedErrors()

    @defer.inlineCallbacks
    def test_no_such_program(self):
        yield self.start_master(engine="/nowhere/latent-engine")
        yield self.force()
        yield self.builds(1)
        self.assertEqual(EXCEPTION, self.finished[0]["results"])
        text = "".join((yield self.logs(self.finished[0]["buildid"])).values())
        self.assertIn("cannot find the program '/nowhere/latent-engine'", text)
        self.flushLoggedErrors()

    @defer.inlineCallbacks
    def test_dies_silently(self):
        self.scenario(start={"1": [["raw", "what is this\n"], ["kill"]], "else": [["accept"], ["kill"]]})
        yield self.start_master()
        yield self.force()
        yield self.builds(1)
        self.assertEqual(RETRY, self.finished[0]["results"])
        self.assertTrue(self.logged("printed what is no event: what is this"))
        yield until(lambda: len(self.calls("stop")) == 1)
        self.worker.stopQuarantineTimer()
        yield self.builds(2)
        self.assertEqual(RETRY, self.finished[1]["results"])
        self.pause()
        yield self.idle()
        self.assertEqual(2, len(self.calls("stop")))
        text = "".join((yield self.logs(self.finished[1]["buildid"])).values())
        self.assertIn("latent-engine ended with signal 9", text)
        self.flushLoggedErrors()

    @defer.inlineCallbacks
    def test_noise(self):
        self.scenario(start=[
            ["raw", "{\n[1]\n\"x\"\n{}\nnull\n7\n8\n"], ["huge", 3 << 20], ["accept"],
            ["raw", '{"event":"later"}\n{"event":7}\n'], ["raw", '{"event":"log"}\n{"event":"log","line":8}\n'],
            ["start"], ["serve"],
        ])  # fmt: skip
        yield self.start_master()
        yield self.run_attached()
        self.assertEqual(5, len(self.logged("printed what is no event")))
        Hold.held[0].end()
        yield self.builds(1)
        yield self.idle()
        self.assertTrue(self.logged("1 lines of latent-engine's were longer"))
        self.assertEqual(SUCCESS, self.finished[0]["results"])

    @defer.inlineCallbacks
    def test_startup_log_is_bounded(self):
        self.scenario(start=[["accept"], ["start"], ["log", *["line"] * 1000], ["until", "go"], ["log", "after"], ["serve"]])
        yield self.start_master()
        yield self.run_started()
        yield until(lambda: self.logged("more of its log is not shown"))
        self.assertEqual(300, len(self.logged("| line")))
        yield self.attach()
        yield until(lambda: Hold.held)
        self.touch("go")
        Hold.held[0].end()
        yield self.builds(1)
        yield self.idle()
        self.assertEqual([], self.logged("| after"))


class TestCancel(MasterCase):
    @defer.inlineCallbacks
    def stop_build(self):
        builds = yield self.master.data.get(("builds",))
        yield self.master.data.control("stop", {"reason": "no"}, ("builds", builds[-1]["buildid"]))
        yield self.builds(1)
        self.assertEqual(CANCELLED, self.finished[0]["results"])
        yield self.idle()
        yield until(lambda: not self.alive())
        self.flushLoggedErrors()

    @defer.inlineCallbacks
    def test_during_pull(self):
        self.scenario(start=[["accept"], ["pull"]])
        yield self.start_master()
        yield self.run_started()
        builds = yield self.master.data.get(("builds",))
        yield until(lambda: self.worker._progress_at)
        yield self.stop_build()
        self.assertEqual([["TERM"]], self.ends())
        build = yield self.master.data.get(("builds", builds[0]["buildid"]))
        self.assertIn("cancelled", build["state_string"])

    @defer.inlineCallbacks
    def test_before_acceptance(self):
        self.scenario(start=[["hang"]])
        yield self.start_master()
        yield self.force()
        yield until(lambda: self.calls("start"))
        yield self.stop_build()
        self.assertEqual([["TERM"]], self.ends())

    @defer.inlineCallbacks
    def test_progress_is_shown(self):
        self.scenario(start=[["accept"], ["pull"]])
        yield self.start_master()
        yield self.force()
        shown = []
        while not shown or "pulling" not in shown[-1]:
            builds = yield self.master.data.get(("builds",))
            shown = [b["state_string"] for b in builds]
        self.assertEqual("preparing worker: pulling a:1 1/5 MB", shown[-1])
        yield self.stop_build()

    @defer.inlineCallbacks
    def test_missing_timeout(self):
        self.scenario(start=[["accept"], ["start"], ["serve"]])
        yield self.start_master(missing_timeout=0.5)
        yield self.force()
        yield self.builds(1)
        self.assertEqual(RETRY, self.finished[0]["results"])
        yield self.idle()
        self.pause()
        self.flushLoggedErrors()

    @defer.inlineCallbacks
    def test_master_stops_during_pull(self):
        self.scenario(start=[["accept"], ["pull"]])
        yield self.start_master()
        yield self.run_started()
        yield self.stop_master()
        self.assertEqual([["TERM"]], self.ends())
        self.flushLoggedErrors()

    @defer.inlineCallbacks
    def test_master_stops_before_acceptance(self):
        self.scenario(start=[["hang"]])
        yield self.start_master()
        yield self.force()
        yield until(lambda: self.calls("start"))
        yield self.stop_master()
        self.assertEqual([["TERM"]], self.ends())
        self.flushLoggedErrors()

    @defer.inlineCallbacks
    def test_master_stops_with_an_idle_worker(self):
        yield self.start_master(build_wait_timeout=-1)
        yield self.run_attached()
        Hold.held[0].end()
        yield self.builds(1)
        yield self.stop_master()
        self.assertEqual([["TERM"]], self.ends())


class TestStop(MasterCase):
    @defer.inlineCallbacks
    def test_is_tried_again(self):
        self.patch_backoff((0.05, 0.05))
        bad = [["print", [{"id": "x", "removed": False, "failure": INFRA}]], ["exit", 1]]
        self.scenario(
            start=[["accept"], ["start"], ["until", "die"], ["kill"]],
            stop={"1": bad, "2": bad, "else": [["gone"], ["print", []]]},
        )
        yield self.start_master()
        yield self.run_attached()
        self.touch("die")
        yield until(lambda: self.logged("its build goes on"))
        Hold.held[0].end()
        yield self.builds(1)
        self.assertEqual(SUCCESS, self.finished[0]["results"])
        yield self.idle()
        self.assertEqual(3, len(self.calls("stop")))
        self.assertEqual(2, len(self.logged("cannot be stopped, and is tried again")))
        self.assertEqual([], self.flushLoggedErrors())

    @defer.inlineCallbacks
    def test_is_given_up_loudly(self):
        self.patch_backoff((0.05,))
        self.scenario(
            start=[["accept"], ["start"], ["until", "die"], ["kill"]],
            stop=[["print", [{"id": "x", "failure": INFRA}]], ["exit", 1]],
        )
        yield self.start_master()
        yield self.run_attached()
        self.touch("die")
        Hold.held[0].end()
        yield self.builds(1)
        yield self.idle()
        self.assertEqual(2, len(self.calls("stop")))
        (error,) = self.flushLoggedErrors()
        self.assertIn("cannot stop instance", str(error.value))
        self.assertIn("cannot connect to docker", str(error.value))

    def patch_backoff(self, seconds):
        from buildbot_latent_engine import instance

        self.patch(instance, "BACKOFF", seconds)

    @defer.inlineCallbacks
    def test_twice_and_fast(self):
        yield self.start_master()
        self.assertTrue((yield self.worker.stop_instance()))
        yield self.run_attached()
        self.assertTrue((yield self.worker.stop_instance(fast=True)))
        self.assertTrue((yield self.worker.stop_instance(fast=True)))
        (call,) = self.calls("stop")
        self.assertEqual(
            ["stop", "--fast", self.calls("start")[0]["args"][self.calls("start")[0]["args"].index("--id") + 1]],
            call["args"][:3],
        )
        self.assertEqual([[]], self.ends())
        self.assertEqual([], self.alive())
        Hold.held[0].end()
        yield self.builds(1)

    @defer.inlineCallbacks
    def test_deaf_process_is_killed(self):
        from buildbot_latent_engine import instance

        self.patch(instance, "STOP_LIMIT", 0.3)
        self.scenario(start=[["accept"], ["start"], ["deaf"]])
        yield self.start_master()
        yield self.run_attached()
        self.patch(instance, "STOP_LIMIT", 0.3)
        Hold.held[0].end()
        yield self.builds(1)
        yield self.idle()
        self.assertTrue(self.logged("it is killed"))
        self.assertEqual(1, len(self.calls("stop")))


class TestDeath(MasterCase):
    OOM = {
        "class": "oom",
        "retryable": False,
        "message": "the kernel killed the worker at its memory limit",
        "log": ["cc1: gasp"],
    }

    @defer.inlineCallbacks
    def test_in_a_build(self):
        self.scenario(start=[["accept"], ["start"], ["until", "oom"], ["exited", self.OOM, 137], ["removed"], ["exit", 1]])
        yield self.start_master()
        yield self.run_attached()
        self.touch("oom")
        yield self.builds(1)
        self.assertEqual(RETRY, self.finished[0]["results"])
        self.assertTrue(self.logged("failed (oom): the kernel killed the worker at its memory limit"))
        logs = yield self.logs(self.finished[0]["buildid"])
        text = [t for name, t in logs.items() if name.endswith("/latent-engine")]
        self.assertEqual(1, len(text), logs)
        self.assertIn("failed (oom)", text[0])
        self.assertIn("cc1: gasp", text[0])
        self.remote = None
        yield self.idle()
        self.assertEqual([], self.calls("stop"))
        self.pause()
        self.flushLoggedErrors()

    @defer.inlineCallbacks
    def test_before_it_attaches(self):
        self.scenario(start=[["accept"], ["start"], ["log", "boom"], ["exited", None, 127], ["removed"], ["exit", 1]])
        yield self.start_master()
        yield self.force()
        yield self.builds(1)
        self.assertEqual(RETRY, self.finished[0]["results"])
        text = "".join((yield self.logs(self.finished[0]["buildid"])).values())
        self.assertIn("ended by itself with exit code 127", text)
        yield self.idle()
        self.assertEqual([], self.calls("stop"))
        self.pause()
        self.flushLoggedErrors()


class TestReuse(MasterCase):
    B = "v1:" + "b" * 64

    @defer.inlineCallbacks
    def first(self, **options):
        yield self.start_master(build_wait_timeout=30, **options)
        yield self.run_attached(tag="x")
        Hold.held[0].end()
        yield self.builds(1)
        self.assertEqual(States.SUBSTANTIATED, self.worker.state)

    @defer.inlineCallbacks
    def test_compatible(self):
        yield self.first()
        yield self.force(tag="x")
        yield until(lambda: len(Hold.held) == 2)
        self.assertEqual(1, len(self.calls("start")))
        document = self.calls("render")[0]["document"]
        self.assertEqual({"builder": "b", "tags": ["t1"]}, document["build"])
        self.assertEqual(["x", "Force Build Form"], document["properties"]["tag"])
        self.assertNotIn("sourcestamps", document)
        Hold.held[1].end()
        yield self.builds(2)

    @defer.inlineCallbacks
    def test_incompatible_makes_room(self):
        yield self.first()
        self.scenario(render=self.rendered(self.B), start=[["accept", self.B], ["start"], ["serve"]])
        yield self.force(tag="y")
        yield until(lambda: len(self.calls("start")) == 2)
        self.assertEqual([["TERM"]], self.ends())
        yield until(lambda: self.worker._instance and self.worker._instance.accepted)
        yield self.attach()
        yield until(lambda: len(Hold.held) == 2)
        Hold.held[1].end()
        yield self.builds(2)
        self.assertEqual([SUCCESS, SUCCESS], [b["results"] for b in self.finished])

    @defer.inlineCallbacks
    def test_unknown_data_is_not_compatible(self):
        yield self.first()
        for reads in (["build.number"], ["props.branch"], ["src"], ["src.c.branch"], ["build"], ["props"], ["build.files"]):
            self.worker._rendered.clear()
            self.scenario(render=self.rendered(reads=reads))
            self.assertFalse((yield self.worker.isCompatibleWithBuild(self.properties())))
            self.assertTrue(self.logged(f"reads {reads[0]}, not known before the build starts"))
        for reads in (["props.branches"], ["build.builder"], ["build.tags", "props.tag"], ["worker.info.x"], []):
            self.worker._rendered.clear()
            self.scenario(render=self.rendered(reads=reads))
            self.assertTrue((yield self.worker.isCompatibleWithBuild(self.properties())))

    def properties(self, **more):
        p = Properties()
        p.update({"buildername": "b", **more}, "Builder")
        return p

    @defer.inlineCallbacks
    def test_never_raises(self):
        yield self.first()
        for render in (
            [["exit", 1]],
            [["raw", "nonsense"]],
            [["print", [1]]],
            [["print", {}]],
            [["kill"]],
            [["diagnostic", {"message": "m"}], ["exit", 1]],
        ):
            self.worker._rendered.clear()
            self.scenario(render=render)
            self.assertFalse((yield self.worker.isCompatibleWithBuild(self.properties())))
            props = yield self.worker.renderWorkerProps(self.properties())
            self.assertEqual(props, copy.deepcopy(props))
            self.assertIsNone(props["digest"])
        self.assertFalse((yield self.worker.isCompatibleWithBuild(Properties())))
        self.assertFalse((yield self.worker.isCompatibleWithBuild(None)))
        self.assertEqual(1, len(self.flushLoggedErrors()))

    @defer.inlineCallbacks
    def test_renders_are_remembered(self):
        yield self.first()
        n = len(self.calls("render"))
        for _ in range(3):
            self.assertTrue((yield self.worker.isCompatibleWithBuild(self.properties(tag="x"))))
        self.assertEqual(n + 1, len(self.calls("render")))
        yield self.worker.isCompatibleWithBuild(self.properties(tag="z"))
        self.assertEqual(n + 2, len(self.calls("render")))
        with open(self.definition, "a") as f:
            f.write("# changed\n")
        yield self.worker.isCompatibleWithBuild(self.properties(tag="z"))
        self.assertEqual(n + 3, len(self.calls("render")))
        for i in range(200):
            self.worker._rendered[i] = (0.0, {})
        yield self.worker.isCompatibleWithBuild(self.properties(tag="w"))
        self.assertLessEqual(len(self.worker._rendered), 128)

    @defer.inlineCallbacks
    def test_second_builder_during_a_start(self):
        self.scenario(start=[["until", "go"], ["accept"], ["start"], ["serve"]])
        yield self.start_master(builders=("b", "c"), build_wait_timeout=30)
        yield self.force()
        yield until(lambda: self.calls("start"))
        # What is being started is not known yet: the other builder's build waits, and is asked for again.
        self.assertFalse((yield self.worker.isCompatibleWithBuild(self.properties())))
        yield self.force("c")
        self.touch("go")
        yield until(lambda: self.worker._instance.accepted)
        self.assertEqual([], self.calls("render"))
        yield self.attach()
        yield until(lambda: len(Hold.held) == 2)
        self.assertEqual(1, len(self.calls("start")))
        for step in Hold.held:
            step.end()
        yield self.builds(2)

    @defer.inlineCallbacks
    def test_other_worker_takes_the_build(self):
        # An idle instance is kept where another worker takes the build that it does not suit.
        workers = [self.make_worker("linux", build_wait_timeout=30), self.make_worker("other", build_wait_timeout=30)]
        workers[1].pause = lambda reason: None
        yield self.start_master(workers=workers)
        workers[1]._paused = True
        yield self.run_attached(tag="x")
        Hold.held[0].end()
        yield self.builds(1)
        workers[1]._paused = False
        self.scenario(render=self.rendered(self.B), start=[["accept", self.B], ["start"], ["serve"]])
        yield self.force(tag="y")
        yield until(lambda: len(self.calls("start")) == 2)
        yield until(lambda: workers[1]._instance and workers[1]._instance.accepted)
        yield self.attach(workers[1])
        yield until(lambda: len(Hold.held) == 2)
        yield until(lambda: workers[0]._eviction is None)
        self.assertEqual(States.SUBSTANTIATED, workers[0].state)
        self.assertEqual([], self.ends())
        Hold.held[1].end()
        yield self.builds(2)


class TestLeftovers(MasterCase):
    @defer.inlineCallbacks
    def test_removed_at_the_start(self):
        old = {"worker_name": "linux", "state": "running"}
        self.scenario(ps=[["print", [
            {**old, "instance": "OLD1"}, {**old, "instance": "OLD2", "state": "exited"},
            {**old, "instance": "OLD3", "state": "starting"},
            {**old, "instance": "OTHER", "worker_name": "windows"}, {**old, "instance": "GONE", "state": "gone"}, 7,
        ]]])  # fmt: skip
        yield self.start_master(workers=[self.make_worker("linux"), self.make_worker("mac")])
        yield until(lambda: len(self.calls("stop")) == 2)
        self.assertEqual(
            [["stop", "--fast", "OLD1"], ["stop", "--fast", "OLD2"]], [c["args"][:3] for c in self.calls("stop")]
        )
        self.assertEqual(1, len(self.calls("ps")))

    @defer.inlineCallbacks
    def test_broken_definition_is_told(self):
        self.scenario(
            ps=[
                ["diagnostic", {"file": "ci.yaml", "line": 1, "column": 1, "message": "no workers", "severity": "error"}],
                ["exit", 1],
            ]
        )
        yield self.start_master()
        yield until(lambda: self.logged("ci.yaml:1:1: no workers"))
        self.assertEqual([], self.calls("stop"))


class TestConfig(MasterCase):
    def test_mistakes(self):
        from buildbot.config import ConfigErrors
        from buildbot.config.errors import capture_config_errors

        for options, message in (
            ({"definition": None}, "definition= is missing"),
            ({"definition": 7}, "definition= must be a path"),
            ({"worker": 7}, "worker= must be the name"),
            ({"image": "a", "hostconfig": {}}, "image= belongs into the definition: workers.linux.image"),
        ):
            with self.assertRaises(ConfigErrors) as e, capture_config_errors(raise_on_error=True):
                self.make_worker(**options)
            self.assertIn(message, str(e.exception))

    def test_unknown_option(self):
        with self.assertRaises(TypeError):
            self.make_worker(nonsense=1)

    @defer.inlineCallbacks
    def test_reconfig_keeps_what_runs(self):
        yield self.start_master(build_wait_timeout=30)
        yield self.run_attached()
        password = self.worker.password
        config = self.config([self.make_worker(build_wait_timeout=31)])
        self.master.config_loader.config_dict = config
        yield self.master.reconfig()
        self.assertEqual(31, self.worker.build_wait_timeout)
        self.assertEqual(password, self.worker.password)
        Hold.held[0].end()
        yield self.builds(1)
        self.assertEqual(1, len(self.calls("start")))
