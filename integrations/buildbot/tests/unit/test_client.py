"""Calls of the program, and what is made of what it prints."""

from __future__ import annotations

import json
import os
import time

from twisted.internet import defer, reactor
from twisted.trial import unittest

from buildbot_latent_engine import client, trouble

from .harness import EngineCase


class TestLines(unittest.TestCase):
    def lines(self, *chunks, limit=10):
        out = []
        lines = client.Lines(out.append, limit)
        for c in chunks:
            lines.feed(c)
        lines.close()
        return out, lines.skipped

    def test_cut(self):
        self.assertEqual(([b"a", b"bc", b"", b"d"], 0), self.lines(b"a\nb", b"c\n\n", b"", b"d"))

    def test_too_long(self):
        self.assertEqual(([b"a", b"b"], 1), self.lines(b"a\n" + b"x" * 11, b"y" * 50, b"z\nb\n"))
        self.assertEqual(([b"x" * 10], 0), self.lines(b"x" * 10 + b"\n"))
        self.assertEqual(([], 1), self.lines(b"x" * 11))

    def test_a_byte_at_a_time(self):
        text = b'{"a":1}\nlonger than ten\nend'
        self.assertEqual(([b'{"a":1}', b"end"], 1), self.lines(*(text[i : i + 1] for i in range(len(text)))))


class TestUlid(unittest.TestCase):
    def test_form(self):
        before = client.ulid()
        time.sleep(0.002)
        after = client.ulid()
        self.assertLess(before, after)
        for u in (before, after):
            self.assertRegex(u, "^[0-7][0-9A-HJKMNP-TV-Z]{25}$")
        self.assertEqual(1000, len({client.ulid() for _ in range(1000)}))


class TestObjects(unittest.TestCase):
    def test_hostile(self):
        for line in (
            b"",
            b"x",
            b"[1]",
            b'"a"',
            b"7",
            b"null",
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"9" * 10_000,
        ):
            self.assertIsNone(client.as_object(line), line[:20])


class TestCall(EngineCase):
    def engine(self, **options):
        return client.Engine(**{"binary": self.binary, "definition": self.definition, **options})

    @defer.inlineCallbacks
    def test_call(self):
        self.scenario(
            ps=[
                ["diagnostic", {"message": "w", "severity": "warning"}],
                ["diagnostic", {"message": "e", "hint": "h"}],
                ["print", [1]],
                ["exit", 1],
            ]
        )
        result = yield self.engine(state="/s").call(reactor, ["ps"])
        self.assertEqual((1, [1], "e\n  h"), (result.code, result.json(), result.reason()))
        self.assertEqual(["ps", "-f", self.definition, "-o", "json", "--state", "/s"], self.calls("ps")[0]["args"])

    @defer.inlineCallbacks
    def test_stdin(self):
        yield self.engine().call(
            reactor, ["render", "w", "--build", "-"], stdin=json.dumps({"x": "y" * 500_000}).encode(), state=False
        )
        self.assertEqual(500_000, len(self.calls("render")[0]["document"]["x"]))

    @defer.inlineCallbacks
    def test_late(self):
        self.scenario(ps=[["deaf"]])
        with self.assertRaises(client.EngineError) as e:
            yield self.engine().call(reactor, ["ps"], timeout=0.3)
        self.assertIn("took longer", str(e.exception))
        # The process was killed, and its end comes later.
        yield defer.gatherResults([])
        from .harness import until

        yield until(lambda: not self.alive())

    @defer.inlineCallbacks
    def test_none(self):
        for binary in ("/nowhere/x", "no-such-program-here", self.definition):
            with self.assertRaises(client.NoEngine):
                yield self.engine(binary=binary).call(reactor, ["ps"])

    def test_broken_program(self):
        path = os.path.join(self.folder, "broken")
        with open(path, "w") as f:
            f.write("#!/nowhere/interpreter\n")
        os.chmod(path, 0o755)
        d = self.engine(binary=path).call(reactor, ["ps"])
        return d.addBoth(lambda r: self.assertNotEqual(0, getattr(r, "code", None)))

    @defer.inlineCallbacks
    def test_output_is_bounded(self):
        self.patch(client, "OUTPUT", 1000)
        self.scenario(ps=[["huge", 100_000]])
        result = yield self.engine().call(reactor, ["ps"])
        self.assertLessEqual(len(result.stdout), 1000)
        with self.assertRaises(client.EngineError):
            result.json()

    def test_version_of_a_folder(self):
        folder = os.path.join(self.folder, "defs")
        os.makedirs(folder)
        engine = self.engine(definition=folder)
        seen = {engine.version()}
        for name, text in (("a.yaml", "1"), ("b.yaml", "2"), ("a.yaml", "33")):
            with open(os.path.join(folder, name), "w") as f:
                f.write(text)
            seen.add(engine.version())
        self.assertEqual(4, len(seen))
        self.assertEqual((), self.engine(definition="/nowhere").version())


class TestTrouble(unittest.TestCase):
    def test_hostile(self):
        for failure in (None, 7, [], {}, {"class": 7, "message": [1]}, {"log": "x"}, {"hint": 7}, {"log": [1, None]}):
            for violations in (None, 7, [], [7], [{}], [{"message": None}]):
                t = trouble.of_failure(failure, violations)
                self.assertTrue(t.text)
                self.assertTrue(t.retryable)
        for status in (None, 7, {}, {"failure": 7}, {"exit_code": "x"}):
            self.assertTrue(trouble.of_exit(status).text)

    def test_text(self):
        t = trouble.of_failure({
            "class": "oom", "retryable": False, "message": "killed", "image": "a:1", "log": ["x", "y"],
            "field": "hostconfig.mem_limit", "hint": "raise it\nor not",
        })  # fmt: skip
        self.assertEqual(
            "failed (oom): killed\n  image: a:1\n  field: hostconfig.mem_limit\n"
            "  last log lines:\n  | x\n  | y\n  hint: raise it\n  hint: or not",
            t.text,
        )
        self.assertEqual((False, False), (t.retryable, t.is_builds_fault))
        self.assertTrue(trouble.of_failure({"class": "image", "retryable": False, "message": "m"}).is_builds_fault)
        self.assertFalse(trouble.of_failure({"class": "image", "retryable": True, "message": "m"}).is_builds_fault)
