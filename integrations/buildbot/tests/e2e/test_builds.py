"""Builds on real masters, in real containers that latent-engine starts."""

from __future__ import annotations

import time
from collections.abc import Callable

import environment
import masters
from conftest import Lab
from masters import CANCELLED, EXCEPTION, RETRY, SUCCESS, Master, Worker, wait_until

NewMaster = Callable[..., Master]


def test_two_builds_run_in_two_images(lab: Lab, master: Master) -> None:
    seen = {}
    for flavour in ("alpha", "beta"):
        build = master.build("images", lab.image(flavour))
        assert build.results == SUCCESS, build
        assert build.image == flavour, build
        assert build.user == "1000", build
        assert f"WANTED={lab.image(flavour)}" in build.logs["environment/stdio"], build
        assert "BUILDER=images" in build.logs["environment/stdio"], build
        assert "WORKERPASS" not in build.text, build
        seen[build.container] = flavour
    assert len(seen) == 2, seen


def test_image_that_no_registry_has(lab: Lab, master: Master) -> None:
    """It ends at once, with the registry's words, and is not tried again."""
    began = time.monotonic()
    request = master.force("bad-name", f"{lab.registry.host}/nothing:here")
    build = master.finish(request, seconds=15)
    assert build.results == EXCEPTION, build
    assert time.monotonic() - began < 10, build
    assert "manifest unknown" in build.text, build
    assert f"{lab.registry.host}/nothing:here" in build.text, build
    assert len(master.builds(request)) == 1


def test_image_name_that_is_none(master: Master) -> None:
    """What cannot be rendered into a plan is told with the place in the definition."""
    request = master.force("bad-reference", "Not An Image::")
    build = master.finish(request, seconds=15)
    assert build.results == EXCEPTION, build
    assert "Not An Image::" in build.text, build
    assert "latent-engine.yaml:" in build.text, build
    assert len(master.builds(request)) == 1


def test_registry_that_fails(lab: Lab, master: Master) -> None:
    """A registry that is down is told in its own words, and the build is tried again."""
    lab.registry.fail(503)
    try:
        request = master.force("hasty", f"{lab.registry.host}/some:image")
        build = master.finish(request, seconds=30)
    finally:
        lab.registry.release()
    assert build.results == RETRY, build
    assert "503 Service Unavailable" in build.text, build
    # It is tried again when the quarantine is over, and by then the registry answers.
    again = master.finish(request, nth=1, seconds=30)
    assert again.results == EXCEPTION, again
    assert "manifest unknown" in again.text, again


def test_worker_that_ends_before_it_attaches(lab: Lab, master: Master) -> None:
    """Nobody waits for missing_timeout: its last words are in the build's log."""
    request = master.force("broken", lab.image("alpha"))
    build = master.finish(request, seconds=20)
    assert build.results in (EXCEPTION, RETRY), build
    assert "cannot find the toolchain" in build.text, build
    if build.results == RETRY:
        master.cancel(request)


def test_stop_build_during_a_pull(lab: Lab, master: Master) -> None:
    name = f"{lab.registry.host}/slow:{int(time.time())}"
    lab.push(name)
    lab.registry.hold_layers()
    try:
        request = master.force("pull", name)
        build = master.wait_for_build(request)
        wait_until("a layer that is held back", lambda: lab.registry.held, 20)
        began = time.monotonic()
        master.stop_build(build)
        ended = master.finish(request, seconds=15)
        assert ended.results == CANCELLED, ended
        assert time.monotonic() - began < 5, ended
        master.wait_until_alone()
    finally:
        lab.registry.release()
    # A pull that goes on would have the image in no time now.
    time.sleep(2)
    assert not lab.engine.containers(), lab.engine.describe()
    assert name not in lab.engine.image_names()
    assert len(master.builds(request)) == 1
    # The worker is as good as new.
    assert master.build("pull", lab.image("alpha")).results == SUCCESS


def test_container_killed_during_a_build(lab: Lab, master: Master) -> None:
    request = master.force("killed", lab.image("alpha"), script="until [ -e /tmp/go ]; do sleep 0.1; done")
    first = master.wait_for_build(request)
    container = master.container_of(first)
    began = time.monotonic()
    lab.engine.api.kill(container)
    ended = master.finish(request, seconds=20)
    assert ended.results == RETRY, ended
    assert time.monotonic() - began < 10, ended
    second = master.wait_for_build(request, nth=1)
    another = master.container_of(second)
    assert another != container
    assert lab.engine.containers() == [another], lab.engine.describe()
    lab.engine.execute(another, "touch", "/tmp/go")
    ended = master.finish(request, nth=1)
    assert ended.results == SUCCESS, ended
    assert ended.container == another


def test_ten_builds_over_three_workers(lab: Lab, master: Master) -> None:
    flavours = ["alpha", "beta"] * 5
    requests = [master.force("pool", lab.image(flavour)) for flavour in flavours]
    builds = [master.finish(request, seconds=60) for request in requests]
    for flavour, build in zip(flavours, builds):
        assert build.results == SUCCESS, build
        assert build.image == flavour, build
    assert len({build.container for build in builds}) == 10
    assert {master.worker_of(build.id) for build in builds} == {"pool-1", "pool-2", "pool-3"}


def test_build_wait_timeout_keeps_a_worker(lab: Lab, new_master: NewMaster) -> None:
    """The next compatible build gets the same container, an incompatible one another, at once."""
    master = new_master(Worker("kept", build_wait_timeout=600))
    first = master.build("kept", lab.image("alpha"))
    assert first.results == SUCCESS, first
    assert lab.engine.containers() == [first.container], lab.engine.describe()
    second = master.build("kept", lab.image("alpha"))
    assert second.results == SUCCESS, second
    assert second.container == first.container

    other = master.build("kept", lab.image("beta"), seconds=60)
    assert other.results == SUCCESS, other
    assert other.image == "beta", other
    assert lab.engine.containers() == [other.container], lab.engine.describe()


def test_stopped_master_leaves_nothing(lab: Lab, new_master: NewMaster) -> None:
    """SIGTERM, while one worker builds, one is kept idle, and one is being started."""
    name = f"{lab.registry.host}/slow:{int(time.time())}"
    lab.push(name)
    master = new_master(Worker("busy"), Worker("idle", build_wait_timeout=-1), Worker("starting"))
    idle = master.build("idle", lab.image("alpha"))
    assert idle.results == SUCCESS, idle
    build = master.wait_for_build(master.force("busy", lab.image("beta"), script="sleep 600"))
    busy = master.container_of(build)
    lab.registry.hold_layers()
    try:
        master.force("starting", name)
        wait_until("a layer that is held back", lambda: lab.registry.held, 20)
        assert lab.engine.containers() == sorted([idle.container, busy]), lab.engine.describe()
        assert master.stop(30) < 20
        # What was handed to the engine may end after the master.
        lab.wait_until_empty(10)
        master.wait_until_alone()
    finally:
        lab.registry.release()


def test_killed_master_starts_again(lab: Lab, new_master: NewMaster) -> None:
    """SIGKILL during a build: the next master builds it in a container that takes the old one's place."""
    master = new_master(Worker("survivor"))
    request = master.force("survivor", lab.image("alpha"), script="until [ -e /tmp/go ]; do sleep 0.1; done")
    old = master.container_of(master.wait_for_build(request))
    master.kill()
    assert lab.engine.containers() == [old], lab.engine.describe()
    master.start()
    nth = len(master.builds(request)) - 1
    build = master.wait_for_build(request, nth=max(nth, 1), seconds=60)
    new = master.container_of(build, 60)
    assert new != old
    assert lab.engine.containers() == [new], lab.engine.describe()
    lab.engine.execute(new, "touch", "/tmp/go")
    ended = master.finish(request, nth=max(nth, 1))
    assert ended.results == SUCCESS, ended


def test_version(buildbot: environment.Buildbot) -> None:
    """What the tests call a version is the version."""
    assert masters.version(buildbot) == buildbot.version
