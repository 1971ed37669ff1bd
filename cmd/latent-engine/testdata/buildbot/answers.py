"""Ask a Buildbot what it makes of docs/from-buildbot.md: run by a test, in a virtual environment that has Buildbot.

On stdin it reads one JSON object:
  build        a build document, as for `latent-engine render --build`
  secrets      name and text of the secrets there are
  expressions  Python texts, each a renderable of Buildbot's
  examples     Python texts, each a part of a master.cfg
On stdout it writes one JSON object:
  version      Buildbot's
  answers      for each expression {"value": …} or {"error": "KeyError: …"}
  examples     for each example {"workers": {name: class}} or {"error": …}
  options      names of what DockerLatentWorker and its bases take
"""

import inspect
import json
import sys
import types

import buildbot
from buildbot.plugins import util, worker
from buildbot.process import properties
from buildbot.process.build import Build
from buildbot.worker import docker as docker_worker
from buildbot.worker.base import AbstractWorker
from buildbot.worker.docker import DockerLatentWorker
from buildbot.worker.latent import AbstractLatentWorker
from packaging.version import parse
from twisted.internet import defer


class Stamp:
    """A source stamp of the build document, with what Buildbot knows of one."""

    def __init__(self, stamp):
        self.stamp = {
            "codebase": "", "branch": None, "revision": None, "repository": "", "project": "",
            "patch_level": None, "patch_body": None, "patch_subdir": None, "patch_author": None, "patch_comment": None,
        }
        self.stamp.update(stamp)

    def asDict(self):
        return self.stamp


class Secrets:
    def __init__(self, secrets):
        self.secrets = secrets

    def get(self, name):
        if name not in self.secrets:
            return defer.succeed(None)
        return defer.succeed(types.SimpleNamespace(value=self.secrets[name]))


class FakeBuild:
    """The parts of a Build that renderables ask for; the rendering itself is Buildbot's."""

    def __init__(self, document, secrets):
        self.url = document.get("build", {}).get("url", "")
        self.stamps = [Stamp(s) for s in document.get("sourcestamps", [])]
        self.info = properties.Properties()
        for name, value in document.get("worker", {}).get("info", {}).items():
            self.info.setProperty(name, value, "Worker")
        self.master = types.SimpleNamespace(namedServices={"secrets": Secrets(secrets)})

    def getAllSourceStamps(self):
        return self.stamps

    def getWorkerInfo(self):
        return self.info

    def getUrl(self):
        return self.url


def render(text, document, secrets):
    props = properties.Properties()
    for name, (value, source) in document["properties"].items():
        props.setProperty(name, value, source)
    props.build = FakeBuild(document, secrets)
    names = {name: getattr(util, name) for name in (
        "Interpolate", "Property", "WithProperties", "FlattenList", "Secret", "Transform", "renderer", "URLForBuild")}
    outcome = []
    props.render(eval(text, names)).addBoth(outcome.append)
    if not outcome:
        raise RuntimeError("the Deferred has not fired")
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


def attempt(name, run, *args):
    try:
        return {name: run(*args)}
    except Exception as err:
        return {"error": f"{type(err).__name__}: {err}"}


def example(text):
    """Run a part of a master.cfg, without the docker module: Buildbot needs its version alone before a start."""
    docker_worker.docker_py_version = parse("7.0.0")
    docker = types.ModuleType("docker")
    docker.tls = types.ModuleType("docker.tls")
    docker.tls.TLSConfig = lambda **keys: keys
    docker.types = types.ModuleType("docker.types")
    docker.types.Ulimit = lambda **keys: keys
    sys.modules.update({"docker": docker, "docker.tls": docker.tls, "docker.types": docker.types})
    config = {}
    exec(text, {"c": config, "util": util, "worker": worker})
    for w in config["workers"]:
        if not isinstance(w, DockerLatentWorker):
            raise TypeError(f"{w!r} is no DockerLatentWorker")
    return {w.name: type(w).__name__ for w in config["workers"]}


def options():
    names = set()
    for cls in (DockerLatentWorker, docker_worker.DockerBaseWorker, AbstractLatentWorker, AbstractWorker):
        for method in (cls.checkConfig, cls.reconfigService):
            for name, parameter in inspect.signature(inspect.unwrap(method)).parameters.items():
                if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                    names.add(name)
    return sorted(names)


def main():
    request = json.load(sys.stdin)
    assert hasattr(Build, "getUrl") and hasattr(Build, "getWorkerInfo") and hasattr(Build, "getAllSourceStamps")
    json.dump(
        {
            "version": buildbot.version,
            "answers": [attempt("value", render, text, request["build"], request["secrets"]) for text in request["expressions"]],
            "examples": [attempt("workers", example, text) for text in request["examples"]],
            "options": options(),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
