"""The class with the real program: what needs no Docker Engine.

LATENT_ENGINE names the program; without it, it is built from this repository.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile

from buildbot.process.properties import Properties
from buildbot.process.results import EXCEPTION, RETRY
from twisted.internet import defer, reactor

from buildbot_latent_engine import document

from .harness import HERE, MasterCase, until

DEFINITION = """\
version: 1
engine: {id: test, advertise: ci.corp:9989}
backends: {local: {docker: {docker_host: unix:///nowhere/docker.sock}}}
workers:
  linux: {image: "a:${{ props.tag }}", props: {tag: {type: string, default: x}, odd: "any?"}}
  branch: {image: "a:${{ props.branch }}", props: {branch: {type: string, default: main}}}
  hidden: {image: "a:${{ vars.v }}", vars: {v: "${{ size(build.files) > 0 ? 'x' : 'y' }}"}}
  builder: {image: "a:${{ build.builder }}"}
  strict: {image: "a:${{ props.must }}", props: {must: string}}
  denied: {image: a, env: {WORKERNAME: root}}
"""

_binary: list[str] = []


def binary():
    if os.environ.get("LATENT_ENGINE"):
        return os.environ["LATENT_ENGINE"]
    if not _binary:
        path = os.path.join(tempfile.mkdtemp(), "latent-engine")
        root = os.path.abspath(os.path.join(HERE, "..", "..", "..", ".."))
        subprocess.run(["go", "build", "-o", path, "./cmd/latent-engine"], cwd=root, check=True)
        _binary.append(path)
    return _binary[0]


class TestReal(MasterCase):
    def setUp(self):
        super().setUp()
        self.definition = os.path.join(self.folder, "real.yaml")
        with open(self.definition, "w") as f:
            f.write(DEFINITION)

    def make_worker(self, name="linux", **options):
        return super().make_worker(name, **{"engine": binary(), "state": os.path.join(self.folder, "state"), **options})

    @defer.inlineCallbacks
    def outcome(self, results, n=1, **properties):
        if n == 1:
            yield self.force(**properties)
        yield self.builds(n)
        self.assertEqual(results, self.finished[n - 1]["results"])
        yield self.idle()
        self.flushLoggedErrors()
        text = "".join((yield self.logs(self.finished[n - 1]["buildid"])).values())
        listed = yield self.worker._engine.call(reactor, ["ps"])
        self.assertEqual([], listed.json())
        return text

    @defer.inlineCallbacks
    def test_no_docker(self):
        yield self.start_master()
        accepted = []
        self.worker.instance_accepted = accepted.append
        text = yield self.outcome(RETRY, tag="y")
        self.worker._paused = True
        self.assertIn("failed (infra): cannot connect to docker at unix:///nowhere/docker.sock", text)
        # What the engine accepted is what it renders for these properties.
        props = yield self.worker.renderWorkerProps(self.properties(tag="y"))
        self.assertEqual(accepted[0].digest, props["digest"])
        self.assertRegex(accepted[0].digest, "^v1:[0-9a-f]{64}$")

    @defer.inlineCallbacks
    def test_denied(self):
        yield self.start_master(worker="denied")
        text = yield self.outcome(EXCEPTION)
        self.assertIn("failed (policy)", text)
        self.assertIn("WORKERNAME", text)
        self.assertIn("real.yaml:10:", text)

    @defer.inlineCallbacks
    def test_not_rendered(self):
        yield self.start_master(worker="strict")
        text = yield self.outcome(EXCEPTION)
        self.assertIn("real.yaml:9:", text)
        self.assertIn("workers.strict.props.must", text)

    @defer.inlineCallbacks
    def test_no_such_worker(self):
        yield self.start_master(worker="linx")
        text = yield self.outcome(EXCEPTION)
        self.assertIn('did you mean "linux"?', text)

    @defer.inlineCallbacks
    def test_broken_definition(self):
        with open(self.definition, "w") as f:
            f.write("version: 1\nworkers: {linux: {imag: a}}\n")
        yield self.start_master()
        # Told at the master's start, and to each build.
        yield until(lambda: self.logged("real.yaml:2:"))
        yield self.force()
        yield self.builds(1)
        self.assertEqual(EXCEPTION, self.finished[0]["results"])
        text = "".join((yield self.logs(self.finished[0]["buildid"])).values())
        self.assertIn("real.yaml:2:", text)
        self.flushLoggedErrors()

    def properties(self, **more):
        p = Properties()
        p.properties.update({k: (v, "Builder") for k, v in {"buildername": "b", **more}.items()})
        return p

    @defer.inlineCallbacks
    def test_digests(self):
        yield self.start_master()
        x = yield self.worker.renderWorkerProps(self.properties())
        same = yield self.worker.renderWorkerProps(self.properties(tag="x", other=7))
        y = yield self.worker.renderWorkerProps(self.properties(tag="y"))
        self.assertEqual(x, same)
        self.assertNotEqual(x["digest"], y["digest"])
        bad = yield self.worker.renderWorkerProps(self.properties(tag=7))
        self.assertIsNone(bad["digest"])
        self.assertIn("props.tag", bad["reason"])

    @defer.inlineCallbacks
    def test_what_is_not_known_is_told(self):
        yield self.start_master()
        for worker, read in (("branch", "props.branch"), ("hidden", "build.files")):
            self.worker._definition_worker = worker
            props = yield self.worker.renderWorkerProps(self.properties())
            self.assertEqual(
                {"worker": worker, "digest": None, "reason": f"its worker reads {read}, not known before the build starts"},
                props,
            )
        self.worker._definition_worker = "builder"
        b = yield self.worker.renderWorkerProps(self.properties())
        c = yield self.worker.renderWorkerProps(self.properties(buildername="c"))
        self.assertNotEqual(b["digest"], c["digest"])
        self.assertIsNotNone(b["digest"])

    @defer.inlineCallbacks
    def test_odd_properties(self):
        yield self.start_master()
        odd = [
            None,
            2**80,
            -1,
            1.5e300,
            "\u0000\n\u2028\ud800 ü",
            b"\xff",
            (1, {2: {3, 4}}),
            {"a b": [True]},
            {"a": 1, "A": 2},
        ]
        for value in odd:
            props = yield self.worker.renderWorkerProps(self.properties(odd=value, **{"näme with/ \n\ud800": value}))
            self.assertIsNotNone(props["digest"], (value, props))
        # And the document holds to its schema.
        schema = json.loads(subprocess.run([binary(), "schema", "build"], check=True, capture_output=True).stdout)
        made, _ = document.of_properties(self.properties(odd=odd[6]), ["t"], Properties())
        self.assertLessEqual(set(made), set(schema["properties"]))
        self.assertLessEqual(set(made["build"]), set(schema["properties"]["build"]["properties"]))
