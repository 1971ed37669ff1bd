"""The build document."""

from __future__ import annotations

import datetime
import json
from types import SimpleNamespace

from buildbot.process.properties import Properties
from twisted.trial import unittest

from buildbot_latent_engine import document


def properties(**values):
    p = Properties()
    # Past setProperty, which refuses (or, on older masters, only warns of) what JSON cannot hold.
    p.properties.update({k: (v, "Scheduler") for k, v in values.items()})
    return p


class TestValues(unittest.TestCase):
    def test_plain(self):
        for value, want in (
            (None, None),
            (True, True),
            (7, 7),
            (2**63 - 1, 2**63 - 1),
            (2**63, "9223372036854775808"),
            (-(2**70), str(-(2**70))),
            (1.5, 1.5),
            ("ü", "ü"),
            ("a\udc80", "a?"),
            (b"a\xff", "a\ufffd"),
            ((1, [2, {"a": (3,)}]), [1, [2, {"a": [3]}]]),
            ({"b", "a"}, ["a", "b"]),
            ({1: 2, None: 3}, {"1": 2, "": 3}),
            (datetime.datetime(2026, 11, 23, 9, 0, tzinfo=datetime.timezone.utc), "2026-11-23T09:00:00+00:00"),
        ):
            self.assertEqual(want, document.plain(value))
            self.assertIs(type(want), type(document.plain(value)))

    def test_unfit(self):
        deep: list = []
        deep.append(deep)
        for value in (object(), float("nan"), [float("inf")], {"a": object()}, deep, Properties, 1j):
            with self.assertRaises(ValueError):
                document.plain(value)

    def test_subclasses_are_plain(self):
        class Text(str):
            pass

        class Number(int):
            pass

        self.assertIs(str, type(document.plain(Text("a"))))
        self.assertIs(int, type(document.plain(Number(1))))

    def test_left_out(self):
        made, left_out = document.of_properties(properties(good=1, bad=object()), ["t", "t", None], Properties())
        self.assertEqual({"good": [1, "Scheduler"]}, made["properties"])
        self.assertEqual(["bad"], left_out)
        self.assertEqual(["t"], made["build"]["tags"])

    def test_encode_is_the_same_for_equal_documents(self):
        a, _ = document.of_properties(properties(a=1, b={"x": 1, "y": 2}), (), Properties())
        b, _ = document.of_properties(properties(b={"y": 2, "x": 1}, a=1), (), Properties())
        self.assertEqual(document.encode(a), document.encode(b))
        self.assertEqual(a, json.loads(document.encode(a)))


class TestBuild(unittest.TestCase):
    def test_all(self):
        build = SimpleNamespace(
            builder=SimpleNamespace(name="b", config=SimpleNamespace(tags=["t"])),
            getProperties=lambda: properties(a=1),
            reason="because",
            buildid=5,
            number=None,
            allFiles=lambda: ["x.c", b"y.c", "x.c"],
            blamelist=lambda: ["a@b", None],
            getAllSourceStamps=lambda: [
                SimpleNamespace(codebase="c", branch=None, revision="1", repository=None, project=b"p"),
            ],
        )
        info = Properties()
        info.update({"admin": "me", "slots": 3, "none": None}, "Worker")
        made, left_out = document.of_build(build, "http://x", info)
        self.assertEqual([], left_out)
        self.assertEqual(
            {
                "builder": "b",
                "tags": ["t"],
                "reason": "because",
                "url": "http://x",
                "files": ["x.c", "y.c"],
                "owners": ["a@b"],
                "id": 5,
            },
            made["build"],
        )
        self.assertEqual(
            [{"codebase": "c", "branch": None, "revision": "1", "repository": "", "project": "p"}], made["sourcestamps"]
        )
        self.assertEqual({"info": {"admin": "me", "slots": "3"}}, made["worker"])


class TestReads(unittest.TestCase):
    def test_unknown(self):
        for path in (
            "build",
            "build.files",
            "src",
            "src.c.branch",
            'src["a.b"]',
            "props",
            "props.branch",
            'props["branch"]',
        ):
            self.assertEqual([path], document.reads_unknown([path]))
        for path in ("build.builder", "build.tags", "props.branches", "props.b", "worker", "worker.info.x", "worker.name"):
            self.assertEqual([], document.reads_unknown([path]))
