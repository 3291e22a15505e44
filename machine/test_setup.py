"""`invoke setup` on machines of several kinds, and back: for real, each in a container."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from machine.container import INVOKE, differences

if TYPE_CHECKING:
    from machine.container import Machine

DAEMON = "/etc/docker/daemon.json"
STORE = '{"features": {"containerd-snapshotter": true}}'
TOOLS = ("dockerd", "docker", "mmdebstrap", "iptables")


def test_machine_without_an_engine_gets_one_and_is_what_it_was_after_undo(fresh: Machine) -> None:
    before = fresh.state()

    plan = fresh.setup("--dry-run")
    assert plan.code == 0, plan.output
    for words in (
        f"file: {DAEMON} (new",
        "file: /etc/apt/sources.list.d/seatrial-engine.sources (new",
        "+Suites: trixie",
        "command: apt-get install --yes --no-install-recommends docker.io/trixie",
        "package: docker.io 2",
        "service: start dockerd in the background",
    ):
        assert words in plan.output, plan.output
    assert differences(before, fresh.state()) == []

    done = fresh.setup()
    assert done.code == 0, done.output
    installed = {name.split("\t")[0] for name in fresh.state() if name not in before}
    told = {f"package {name}" for name in re.findall(r"^package: (\S+)", plan.output, re.M)}
    assert {name.partition(":")[0] for name in installed if name.startswith("package")} == told
    again = fresh.setup("--dry-run")
    assert (again.code, again.output) == (0, "nothing to do\n")

    undone = fresh.setup("--undo")
    assert undone.code == 0, undone.output
    assert differences(before, fresh.state()) == []
    for tool in TOOLS:
        assert fresh.run(f"command -v {tool}").code != 0, f"{tool} is still there"
    assert fresh.run("pgrep -x 'dockerd|containerd'").code != 0
    assert "nothing to undo" in fresh.setup("--undo").output


def test_engine_without_data_is_started_and_stopped_again(stopped: Machine) -> None:
    before = stopped.state()
    done = stopped.setup()
    assert done.code == 0, done.output
    assert "io.containerd.snapshotter.v1" in stopped.do("docker info")
    undone = stopped.setup("--undo")
    assert undone.code == 0, undone.output
    assert differences(before, stopped.state()) == []
    assert stopped.run("pgrep -x 'dockerd|containerd'").code != 0


@pytest.mark.parametrize(
    ("settings", "folder", "store"),
    [
        (None, "/var/lib/docker", "overlay2"),
        ("{}", "/var/lib/docker", "overlay2"),
        (STORE, "/var/lib/docker", "containerd's store"),
        ('{"data-root": "/var/lib/docker/moved"}', "/var/lib/docker/moved", "overlay2"),
    ],
    ids=["no_settings", "other_settings", "containerd", "moved"],
)
def test_engine_that_is_stopped_and_has_images_is_left_alone(
    stopped: Machine, settings: str | None, folder: str, store: str
) -> None:
    if settings:
        stopped.write(DAEMON, settings)
    stopped.start_engine()
    stopped.make_image("mine")
    stopped.stop_engine()
    before = stopped.state()

    refused = stopped.setup()
    assert refused.code == 2
    [line] = refused.output.splitlines()
    assert f"in {folder} ({store})" in line
    assert "`invoke setup --start`" in line
    assert stopped.setup("--dry-run").output == refused.output
    assert stopped.run("pgrep -x dockerd").code != 0
    assert differences(before, stopped.state()) == []

    started = stopped.setup("--start")
    assert stopped.images == {"mine"}
    if store == "overlay2":
        assert started.code == 2
        assert "containerd image store: off" in started.output
    else:
        assert started.code == 0, started.output
    undone = stopped.setup("--undo")
    assert undone.code == 0, undone.output
    assert differences(before, stopped.state()) == []
    stopped.start_engine()
    assert stopped.images == {"mine"}


def test_images_in_the_containerd_store_are_found_again_without_settings(stopped: Machine) -> None:
    stopped.write(DAEMON, STORE)
    stopped.start_engine()
    stopped.make_image("mine")
    stopped.stop_engine()
    stopped.do(f"rm {DAEMON}")
    assert stopped.setup("--start").code == 0
    assert stopped.images == {"mine"}


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (f"echo '{{' > {DAEMON}", "is not valid JSON"),
        (f"ln -s nowhere {DAEMON}", "is a symbolic link to nothing"),
        (f"mkdir {DAEMON}", "can't be read: Is a directory"),
        (f"echo '[]' > {DAEMON}", "is not a JSON object"),
    ],
)
def test_settings_that_no_daemon_reads_are_left_alone_and_told(
    stopped: Machine, prepare: str, words: str
) -> None:
    stopped.do(f"mkdir -p /etc/docker && {prepare}")
    before = stopped.state()
    refused = stopped.setup()
    assert refused.code == 2
    [line] = refused.output.splitlines()
    assert f"{DAEMON} {words}" in line
    assert differences(before, stopped.state()) == []


def test_settings_by_a_symbolic_link_are_read_and_left_alone(stopped: Machine) -> None:
    stopped.write("/srv/engine.json", STORE)
    stopped.do(f"mkdir -p /etc/docker && ln -s /srv/engine.json {DAEMON}")
    before = stopped.state()
    assert stopped.setup().code == 0
    assert stopped.setup("--undo").code == 0
    assert differences(before, stopped.state()) == []


def test_empty_settings_are_some(stopped: Machine) -> None:
    stopped.do(f"mkdir -p /etc/docker && : > {DAEMON}")
    started = stopped.setup()
    assert "containerd image store: off" in started.output
    assert stopped.do(f"cat {DAEMON}") == ""


def test_undo_leaves_what_somebody_changed_since(stopped: Machine) -> None:
    assert stopped.setup().code == 0
    stopped.write(DAEMON, '{"debug": true}')
    undone = stopped.setup("--undo")
    assert undone.code == 0, undone.output
    assert f"stays: {DAEMON}: somebody has changed it since setup" in undone.output
    assert "debug" in stopped.do(f"cat {DAEMON}")


def test_undo_ends_nobody_s_containers(stopped: Machine) -> None:
    assert stopped.setup().code == 0
    stopped.make_image("mine")
    stopped.do("docker run --detach --name work --network none mine /bin/busybox sleep 600")
    before = stopped.state()
    refused = stopped.setup("--undo")
    assert refused.code == 2
    assert refused.output.splitlines()[-1].endswith("stop work")
    assert differences(before, stopped.state()) == []
    assert stopped.do("docker ps --format '{{.Names}}'") == "work\n"


def test_undo_keeps_images_and_says_where_they_are(stopped: Machine) -> None:
    assert stopped.setup().code == 0
    stopped.make_image("mine")
    undone = stopped.setup("--undo")
    assert undone.code == 0, undone.output
    assert "stays: images in /var/lib/docker" in undone.output
    stopped.write(DAEMON, STORE)
    stopped.start_engine()
    assert stopped.images == {"mine"}


@pytest.mark.parametrize("moment", ["Unpacking containerd", "Unpacking docker.io", "Setting up"])
@pytest.mark.parametrize("journal", [False, True])
def test_undo_of_a_setup_that_was_killed(fresh: Machine, moment: str, *, journal: bool) -> None:
    """At several moments, and with what dpkg leaves when it is killed as it notes a state."""
    before = fresh.state()
    fresh.do("mkdir -p /run/test")
    work = f"echo $$ > /run/test/pid; exec {INVOKE} setup"
    fresh.do(f"(setsid sh -c '{work}' > /run/test/log 2>&1 &)")
    fresh.wait(f"grep -q '{moment}' /var/log/apt/term.log")
    fresh.do("kill -9 $(cat /run/test/pid)")
    fresh.do("pkill -9 apt-get; pkill -9 dpkg; sleep 1")
    if journal:
        fresh.do("dpkg --status containerd > /var/lib/dpkg/updates/0000")
    undone = fresh.setup("--undo")
    assert undone.code == 0, undone.output
    assert differences(before, fresh.state()) == []
