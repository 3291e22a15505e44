"""What setup would do, and what the report says, on machines that are only described."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from seatrial.engine.connection import DEFAULT_SOCKET, EngineEndpoint
from seatrial.engine.facts import Client, Configuration, Data, Engine, Facts, System
from seatrial.engine.plan import Check, CheckState, Plan, checks, plan

GIB = 1024**3
FILE = Path("/etc/docker/daemon.json")
BOOKWORM = System("Debian 12", "debian", "bookworm", version=12, packages=frozenset({"docker.io"}))
ENGINE = Engine(
    version="26.1.5+dfsg1",
    platform="linux/amd64",
    containerd_store=True,
    data_root=Path("/var/lib/docker"),
    cores=2,
    memory=24 * GIB,
    runs=frozenset({"linux/amd64", "linux/arm64"}),
)
CLIENT = Client("/usr/local/bin/docker", "28.2.2", buildx="0.13.1", compose="2.26.1")
READY = Facts(
    system=BOOKWORM,
    root=True,
    platform="linux/amd64",
    endpoint=EngineEndpoint(DEFAULT_SOCKET, "default"),
    configuration=Configuration(FILE, {"features": {"containerd-snapshotter": True}}),
    client=CLIENT,
    engine=ENGINE,
    dockerd="26.1.5+dfsg1",
    emulated=frozenset({"linux/arm64"}),
    emulators=frozenset({"linux/arm64"}),
    tools=frozenset({"mmdebstrap", "arch-test"}),
    registries={"docker.io": False},
    free=70 * GIB,
)
SILENT = f"no container engine answers at {DEFAULT_SOCKET}: run `invoke setup`"
FRESH = dataclasses.replace(
    READY,
    system=dataclasses.replace(BOOKWORM, packages=frozenset()),
    configuration=Configuration(FILE, None),
    client=Client(),
    engine=None,
    silence=SILENT,
    dockerd="",
    emulated=frozenset(),
    emulators=frozenset(),
    tools=frozenset(),
)
REMOTE = EngineEndpoint("tcp://builder.example:2376", "DOCKER_HOST")


def but(facts: Facts, **changes: Any) -> Facts:
    return dataclasses.replace(facts, **changes)


def faults(facts: Facts) -> dict[str, Check]:
    return {row.subject: row for row in checks(facts) if row.state is CheckState.FAULT}


def test_nothing_to_do_where_all_is_there() -> None:
    assert not plan(READY)
    assert faults(READY) == {}


def test_everything_to_do_on_a_fresh_machine() -> None:
    assert plan(FRESH) == Plan(
        configure=True,
        packages=(
            "docker.io",
            "containerd",
            "iptables",
            "docker-cli",
            "docker-buildx",
            "docker-compose",
            "qemu-user",
            "mmdebstrap",
            "arch-test",
        ),
        start=True,
        register=("linux/arm64",),
    )
    assert set(faults(FRESH)) == {
        "container engine",
        "docker client",
        "buildx",
        "compose",
        "linux/arm64",
        "base images",
    }
    assert all("`invoke setup`" in fault.mend for fault in faults(FRESH).values())


def test_ubuntu_has_names_of_its_own() -> None:
    ubuntu = System("Ubuntu 24.04", "ubuntu", "noble", version=24)
    steps = plan(but(FRESH, system=ubuntu))
    assert steps.packages == (
        "docker.io",
        "iptables",
        "docker-buildx",
        "docker-compose-v2",
        "qemu-user-static",
        "mmdebstrap",
        "arch-test",
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"engine": None, "silence": SILENT}, Plan(start=True)),
        (
            {"client": dataclasses.replace(CLIENT, buildx="")},
            Plan(packages=("docker-buildx",)),
        ),
        ({"emulated": frozenset()}, Plan(register=("linux/arm64",))),
        (
            {"emulated": frozenset(), "emulators": frozenset()},
            Plan(packages=("qemu-user",), register=("linux/arm64",)),
        ),
        ({"tools": frozenset({"mmdebstrap"})}, Plan(packages=("arch-test",))),
        ({"tools": frozenset(), "registries": {"docker.io": True}}, Plan()),
        (
            {"engine": None, "silence": SILENT, "dockerd": "20.10.24+dfsg1"},
            Plan(packages=("docker.io", "containerd", "iptables"), start=True),
        ),
        # A running engine's settings are not touched, whatever they are.
        ({"configuration": Configuration(FILE, None)}, Plan()),
        ({"engine": dataclasses.replace(ENGINE, containerd_store=False)}, Plan()),
        (
            {"engine": None, "configuration": Configuration(FILE, None, "is not valid JSON")},
            Plan(),
        ),
    ],
)
def test_only_what_is_missing_is_mended(changes: dict[str, Any], expected: Plan) -> None:
    assert plan(but(READY, **changes)) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"root": False},
        {"system": System("Fedora 42", "fedora", version=42)},
        {"system": System("macOS")},
        {"endpoint": REMOTE, "silence": f"no container engine answers at {REMOTE}: start it"},
    ],
)
def test_other_machines_are_left_alone_and_told(changes: dict[str, Any]) -> None:
    facts = but(FRESH, **changes)
    assert not plan(facts)
    told = str(faults(facts)["container engine"])
    assert "\n" not in told
    assert any(word in told for word in ("install", "start it", "as root"))


IMAGES = Data(Path("/var/lib/docker"), "overlay2", "3 images")
BLOBS = Data(Path("/var/lib/docker"), "containerd's store", "images")
VOLUMES = Data(Path("/srv/docker"), "", "1 volume")
NO_SETTINGS = Configuration(FILE, None)
STOPPED = dataclasses.replace(READY, engine=None, silence=SILENT)


@pytest.mark.parametrize("data", [(IMAGES,), (BLOBS,), (VOLUMES,), (IMAGES, BLOBS)])
@pytest.mark.parametrize("facts", [FRESH, STOPPED], ids=["not installed", "stopped"])
def test_engine_that_is_stopped_and_has_data_is_left_alone(
    facts: Facts, data: tuple[Data, ...]
) -> None:
    facts = but(facts, data=data)
    assert not plan(facts)
    told = str(faults(facts)["container engine"])
    assert "\n" not in told
    assert all(str(found) in told for found in data)
    assert "`invoke setup --start`" in told


@pytest.mark.parametrize(
    ("data", "settings", "configures"),
    [
        ((IMAGES,), NO_SETTINGS, False),
        ((IMAGES, BLOBS), NO_SETTINGS, False),
        ((BLOBS,), NO_SETTINGS, True),
        ((VOLUMES,), NO_SETTINGS, True),
        ((IMAGES,), READY.configuration, False),
        ((BLOBS,), Configuration(FILE, {"debug": True}), False),
    ],
)
def test_engine_with_data_is_started_when_asked_for_and_its_store_stays(
    data: tuple[Data, ...], settings: Configuration, configures: bool
) -> None:
    steps = plan(but(STOPPED, data=data, configuration=settings), over_data=True)
    assert steps == Plan(start=True, configure=configures)


def test_data_of_an_engine_that_answers_is_its_own() -> None:
    assert plan(but(READY, data=(IMAGES,), emulated=frozenset())) == Plan(register=("linux/arm64",))


@pytest.mark.parametrize(("data", "started"), [((BLOBS, VOLUMES), True), ((IMAGES,), False)])
def test_engine_that_setup_started_is_started_again(data: tuple[Data, ...], started: bool) -> None:
    """Without systemd a reboot ends it; the classic store was never one of setup's engines."""
    assert plan(but(STOPPED, data=data, started=True)).start is started
    assert not plan(but(STOPPED, data=data)).start


@pytest.mark.parametrize("over_data", [False, True])
def test_configuration_that_no_daemon_reads_is_mended_by_hand(over_data: bool) -> None:
    facts = but(FRESH, configuration=Configuration(FILE, None, "is not valid JSON"))
    assert not plan(facts, over_data=over_data)
    assert "mend that file" in str(faults(facts)["daemon configuration"])


@pytest.mark.parametrize("facts", [FRESH, READY])
def test_podman_in_the_place_of_docker_is_left_alone_and_told(facts: Facts) -> None:
    facts = but(facts, client=Client("/usr/bin/docker", "4.3.1", podman=True))
    assert not plan(facts)
    told = str(faults(facts)["docker client"])
    assert "Podman 4.3.1" in told
    assert "remove podman-docker" in told


def test_docker_s_own_packages_are_not_mixed_with_debian_s() -> None:
    system = dataclasses.replace(BOOKWORM, packages=frozenset({"docker-ce"}))
    facts = but(READY, system=system, client=dataclasses.replace(CLIENT, buildx=""))
    assert not plan(facts)
    assert "install docker-buildx-plugin" in faults(facts)["buildx"].mend


@pytest.mark.parametrize(
    ("changes", "subject", "words"),
    [
        ({"engine": dataclasses.replace(ENGINE, containerd_store=False)}, None, "daemon.json"),
        ({"engine": dataclasses.replace(ENGINE, version="20.10.24")}, None, "too old"),
        ({"engine": dataclasses.replace(ENGINE, platform="linux/s390x")}, None, "s390x"),
        (
            {"client": dataclasses.replace(CLIENT, fault="client version 1.30 is too old")},
            "docker client",
            "1.30 is too old",
        ),
        (
            {"endpoint": REMOTE, "engine": dataclasses.replace(ENGINE, runs=frozenset())},
            "linux/arm64",
            "on the engine's machine",
        ),
        ({"engine": dataclasses.replace(ENGINE, runs=frozenset())}, "linux/arm64", "restart"),
        ({"free": 2 * GIB}, "free disk space", "docker system df"),
        (
            {"engine": None, "configuration": Configuration(FILE, None, "is not valid JSON")},
            "daemon configuration",
            "is not valid JSON",
        ),
    ],
)
def test_faults_say_what_and_how(changes: dict[str, Any], subject: str | None, words: str) -> None:
    found = faults(but(READY, **changes))
    chosen = [found[subject]] if subject else list(found.values())
    assert any(words in str(fault) for fault in chosen)


def test_little_room_is_only_a_note() -> None:
    facts = but(READY, free=10 * GIB, engine=dataclasses.replace(ENGINE, memory=2 * GIB))
    notes = {row.subject for row in checks(facts) if row.state is CheckState.NOTE}
    assert {"free disk space", "cores and memory"} <= notes
    assert faults(facts) == {}


def test_the_kernel_is_asked_where_buildx_is_missing() -> None:
    engine = dataclasses.replace(ENGINE, runs=frozenset({"linux/amd64"}))
    facts = but(READY, engine=engine, client=dataclasses.replace(CLIENT, buildx=""))
    assert set(faults(facts)) == {"buildx"}


def test_a_private_authority_is_named() -> None:
    facts = but(READY, authorities=("Example CA",), bundle=Path("/etc/ssl/bundle.pem"))
    row = next(row for row in checks(facts) if row.subject == "private authority")
    assert row.detail == "Example CA; builds get /etc/ssl/bundle.pem as a secret"
