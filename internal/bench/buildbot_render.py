"""Render the fields of internal/bench/testdata/worker.yaml with Buildbot's own Properties.render, and time it.

Run by `make bench` in a virtual environment with Buildbot, never by a part of the product. It prints one JSON object:
{"version", "ns_per_render", "rendered"}. The fields are those that DockerLatentWorker hands to render() for a start, in one
tuple as there; build.json has the properties.
"""

import json
import sys
import time

import buildbot
from buildbot.process.properties import Interpolate, Properties, Property


def fields():
    """The worker of worker.yaml: 8 renderables among what Buildbot renders for a Docker worker."""
    return (
        "unix:///var/run/docker.sock",  # docker_host
        Interpolate("registry.corp/ci/%(prop:project)s:%(prop:tag)s"),  # image
        None,  # dockerfile
        [  # volumes
            Interpolate("/srv/cache/%(prop:project)s:/cache"),
            Interpolate("/srv/git/%(prop:repo:-none)s:/git:ro"),
        ],
        {  # hostconfig
            "mem_limit": Interpolate("%(kw:size)sg", size=Property("cores") * 2),
            "network_mode": Property("network"),
            "cpu_shares": Property("cores") * 1024,
            "cpuset_cpus": Property("cpus", default="0-1"),
        },
        False,  # custom_context
        "gzip",  # encoding
        None,  # target
        None,  # buildargs
        Interpolate("%(prop:project)s-%(prop:branch)s"),  # hostname
    )


def main(path, count):
    with open(path, encoding="utf-8") as f:
        document = json.load(f)
    properties = Properties()
    for name, (value, source) in document["properties"].items():
        properties.setProperty(name, value, source)
    value = fields()
    result = []

    def once():
        deferred = properties.render(value)
        deferred.addCallback(result.append)
        # All renderables are synchronous: the Deferred has fired already.
        rendered = result.pop()
        if rendered is None:
            raise RuntimeError("nothing was rendered")
        return rendered

    rendered = once()
    for _ in range(50):
        once()
    began = time.perf_counter_ns()
    for _ in range(count):
        once()
    took = time.perf_counter_ns() - began
    names = (
        "docker_host", "image", "dockerfile", "volumes", "hostconfig",
        "custom_context", "encoding", "target", "buildargs", "hostname",
    )
    json.dump(
        {"version": buildbot.version, "ns_per_render": took / count, "rendered": dict(zip(names, rendered))},
        sys.stdout,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
