"""The content of an image, and the rights that it runs with."""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import PurePosixPath
from secrets import token_hex
from typing import TYPE_CHECKING, Any, cast

import pytest

from seatrial.engine.waiting import until
from seatrial.inspection import authorities, declared, programs, sbom
from seatrial.inspection.content_search import search
from seatrial.inspection.layers import read_layers
from seatrial.stack.run_container import run_in_container
from seatrial.stack.running_server import ImageContainer
from seatrial.stack.settings import EMBEDDED

from .health_checks import wait_healthy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docker.models.containers import Container

    from seatrial.contract import Promise
    from seatrial.contract.schema import Absence
    from seatrial.inspection.layers import InspectedImage
    from seatrial.inspection.sbom import Package
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.server import MLflowServer
    from seatrial.trial.fixtures import RunInImage
    from seatrial.trial.session import TrialSession

FIRST_UNPRIVILEGED_PORT = 1025
FEWEST_AUTHORITIES = 100
SHOWN = 20
ABSENT = ("no such file or directory", "not found")
SHELLS = ("sh", "/bin/sh", "/bin/bash", "/busybox/sh")
PACKAGE_MANAGERS = ("apt-get", "dpkg", "apk")
LIST_AUTHORITIES = """
import glob, hashlib, json, os, ssl
paths = ssl.get_default_verify_paths()
context = ssl.create_default_context()
for path in glob.glob(os.path.join(paths.capath or "/none", "*.[0-9]")):
    context.load_verify_locations(cafile=path)
known = context.get_ca_certs(binary_form=True)
print(json.dumps({
    "authorities": [hashlib.sha256(certificate).hexdigest() for certificate in known],
    "paths": {"cafile": paths.cafile, "capath": paths.capath},
    "missing": {
        name: value
        for name, value in os.environ.items()
        if name.endswith(("_CA_BUNDLE", "_CERT", "_CERTS", "_CERT_FILE", "_CERT_DIR"))
        if not os.path.exists(value)
    },
}))
"""
MARKER_ENVIRONMENT = """
import json, os, platform, sys
print(json.dumps({
    "implementation_name": sys.implementation.name,
    "implementation_version": platform.python_version(),
    "os_name": os.name,
    "platform_machine": platform.machine(),
    "platform_python_implementation": platform.python_implementation(),
    "platform_release": platform.release(),
    "platform_system": platform.system(),
    "platform_version": platform.version(),
    "python_full_version": platform.python_version(),
    "python_version": ".".join(platform.python_version_tuple()[:2]),
    "sys_platform": sys.platform,
}))
"""
LISTENING = """
for name in ("tcp", "tcp6"):
    try:
        lines = open(f"/proc/net/{name}").readlines()[1:]
    except FileNotFoundError:
        continue
    for fields in map(str.split, lines):
        if fields[3] == "0A":
            print(int(fields[1].rpartition(":")[2], 16))
"""


@cache
def _laid_open(reference: str, platform: str) -> InspectedImage:
    return read_layers(reference, platform)


@pytest.fixture
def layers(image: ImageUnderTest) -> InspectedImage:
    """The image's layers."""
    return _laid_open(image.configuration.image_id, image.platform)


@pytest.fixture
def packages(image: ImageUnderTest) -> tuple[Package, ...]:
    """The image's bill of materials."""
    return sbom.read_sbom(image.configuration.image_id, image.platform)


def _listed(faults: list[str]) -> str:
    shown = "\n".join(f"- {fault}" for fault in faults[:SHOWN])
    more = len(faults) - SHOWN
    return f"{shown}\n- and {more} more" if more > 0 else shown


def _printed(image: ImageUnderTest, run_in_image: RunInImage, program: str) -> dict[str, Any]:
    """Run a Python program in the image, and read the JSON that it prints last."""
    outcome = run_in_image(image.contract.start.interpreter, "-c", program)
    assert outcome.code == 0, f"the image's Python can't run a program of the trial: {outcome}"
    return cast("dict[str, Any]", json.loads(outcome.output.splitlines()[-1]))


@pytest.mark.promise("contents.lacks")
def test_nothing_is_found(layers: InspectedImage, promised: Promise) -> None:
    findings = [str(found) for found in search(layers, cast("Absence", promised.value))]
    assert not findings, (
        f"the image's layers hold {len(findings)} of what the contract says they lack"
        f" ({promised.value}):\n{_listed(findings)}"
    )


@pytest.mark.promise("contents.lacks", "shell")
@pytest.mark.parametrize("shell", SHELLS)
def test_shell_cannot_be_started(shell: str, run_in_image: RunInImage) -> None:
    _assert_absent(run_in_image, shell, "-c", "exit 0")


@pytest.mark.promise("contents.lacks", "package-manager")
@pytest.mark.parametrize("program", PACKAGE_MANAGERS)
def test_package_manager_cannot_be_started(program: str, run_in_image: RunInImage) -> None:
    _assert_absent(run_in_image, program, "--version")


def _assert_absent(run_in_image: RunInImage, *command: str) -> None:
    outcome = run_in_image(*command)
    gone = outcome.code == 127 and any(word in outcome.output for word in ABSENT)
    assert gone, f"`{shlex.join(command)}` runs, or fails for another reason: {outcome}"


@pytest.mark.promise("contents.lacks", "pip")
@pytest.mark.parametrize("module", ["pip", "uv", "ensurepip"])
def test_python_has_no_module_that_installs(
    module: str, image: ImageUnderTest, run_in_image: RunInImage
) -> None:
    interpreter = image.contract.start.interpreter
    works = run_in_image(interpreter, "-m", "json.tool", "--help")
    assert works.code == 0, f"the image's Python runs no module at all: {works}"
    outcome = run_in_image(interpreter, "-m", module, "--version")
    assert outcome.code != 0, f"`python -m {module}` runs in the image: {outcome}"


@pytest.mark.promise("contents.tools")
def test_tool_runs(promised: Promise, run_in_image: RunInImage) -> None:
    command = shlex.split(str(promised.value))
    # A plugin, such as `docker buildx`, takes a command in the place of the option.
    outcome = run_in_image(*command, "version" if len(command) > 1 else "--version")
    assert outcome.code == 0, f"`{promised.value}` doesn't tell its version: {outcome}"
    assert outcome.output.strip(), f"`{promised.value}`, asked for its version, prints nothing"


@pytest.mark.promise("contents.certificates")
def test_public_authorities_are_trusted(image: ImageUnderTest, run_in_image: RunInImage) -> None:
    found = _printed(image, run_in_image, LIST_AUTHORITIES)
    assert not found["missing"], (
        f"variables of the image name certificates that are not in it: {found['missing']}"
    )
    public = authorities.public().intersection(found["authorities"])
    assert len(public) >= FEWEST_AUTHORITIES, (
        f"the image's OpenSSL finds {len(public)} public authorities where it looks:"
        f" {found['paths']}"
    )


@pytest.mark.promise("contents.debian_packages")
def test_debian_packages_are_the_declared_ones(
    image: ImageUnderTest, promised: Promise, packages: tuple[Package, ...]
) -> None:
    faults = declared.debian_faults(_beside(image, promised), packages)
    assert not faults, (
        f"{len(faults)} Debian packages in the image differ from {promised.value}:"
        f"\n{_listed(faults)}"
    )


@pytest.mark.promise("contents.python_packages")
def test_python_packages_are_the_declared_ones(
    image: ImageUnderTest,
    promised: Promise,
    packages: tuple[Package, ...],
    run_in_image: RunInImage,
) -> None:
    faults = declared.python_faults(
        _beside(image, promised),
        packages,
        environment=_printed(image, run_in_image, MARKER_ENVIRONMENT),
        omitted=image.contract.python.omits or [],
    )
    assert not faults, (
        f"{len(faults)} Python distributions in the image differ from {promised.value}:"
        f"\n{_listed(faults)}"
    )


def _beside(image: ImageUnderTest, promised: Promise) -> Path:
    return image.contract_path.parent / str(promised.value)


@pytest.mark.promise("image.user")
def test_user(
    image: ImageUnderTest,
    promised: Promise,
    embedded_server: MLflowServer,
    run_in_image: RunInImage,
) -> None:
    """The image names the promised user, and all processes of a server run as that user."""
    configured = image.configuration.user
    assert configured == promised.value, (
        f"the image names the user {configured!r}; its contract promises {promised.value!r}"
    )
    user = _number(configured.partition(":")[0], image, run_in_image)
    assert user != 0, f"the image's user {configured!r} is root"
    top = embedded_server.container.top(ps_args="-eo pid,uid,args")
    others = [row for row in top["Processes"] if int(row[1]) != user]
    assert not others, (
        f"the image's user is {user}, and its server has processes of others (pid, uid, command):"
        f" {others}"
    )


def _number(user: str, image: ImageUnderTest, run_in_image: RunInImage) -> int:
    if user.isdigit():
        return int(user)
    program = f"import pwd; print(pwd.getpwnam({user!r}).pw_uid)"
    return cast("int", _printed(image, run_in_image, program))


@pytest.mark.promise("image.unprivileged_ports")
def test_exposed_ports_need_no_privilege(image: ImageUnderTest) -> None:
    ports = image.configuration.exposed_ports
    low = [port for port in ports if port < FIRST_UNPRIVILEGED_PORT]
    assert not low, f"the image exposes {low}; only root may listen on ports below 1025"


@pytest.fixture
def server_without_port(trial: TrialSession, image: ImageUnderTest) -> Iterator[Container]:
    """A server that is started without a host and a port."""
    command = [*image.server_command, "--backend-store-uri", "sqlite:////tmp/default-port.db"]
    name = f"{trial.session.network}-default-port-{token_hex(3)}"
    container = ImageContainer(image, trial.session, name, command)
    container.with_envs(**dict(EMBEDDED.environment))
    started = container.start().get_wrapped_container()
    yield started
    started.remove(force=True, v=True)


@pytest.mark.promise("image.unprivileged_ports")
def test_own_port_needs_no_privilege(image: ImageUnderTest, server_without_port: Container) -> None:
    ports: set[int] = set()

    def listens() -> bool:
        command = [image.contract.start.interpreter, "-c", LISTENING]
        outcome = run_in_container(server_without_port, *command)
        assert outcome.code == 0, f"the container's open ports can't be read: {outcome}"
        ports.update(map(int, outcome.output.split()))
        return bool(ports)

    limit = image.contract.start.ready_within * image.scale
    until(listens, container=server_without_port, action="listen on a port", limit=limit, every=1)
    low = [port for port in ports if port < FIRST_UNPRIVILEGED_PORT]
    assert not low, (
        f"without a port in its command, the server listens on {low}; only root may do so below"
        " 1025"
    )


def _health_check(image: ImageUnderTest) -> list[str]:
    """Return the command of the health check; require one that needs no shell."""
    form, *command = image.configuration.healthcheck or ("NONE",)
    assert form == "CMD", f"the image's health check is {form}, not a command without a shell"
    assert command, "the image's health check has no command"
    program = PurePosixPath(command[0]).name
    assert not programs.name_says("shell", program), (
        f"the image's health check runs {command[0]}, a shell"
    )
    return command


@pytest.mark.promise("image.healthcheck")
def test_health_check_needs_no_shell(image: ImageUnderTest) -> None:
    assert _health_check(image), "the image's health check has no command"


@pytest.mark.promise("image.healthcheck")
def test_serving_container_is_healthy(image: ImageUnderTest, embedded_server: MLflowServer) -> None:
    """The check passes when it is run by hand, and the engine reports the container as healthy."""
    container = embedded_server.container
    outcome = run_in_container(container, *_health_check(image))
    assert outcome.code == 0, f"the health check fails beside a server that answers: {outcome}"
    wait_healthy(container)


@pytest.mark.promise("image.healthcheck")
def test_health_check_fails_where_nothing_serves(
    image: ImageUnderTest, run_in_image: RunInImage
) -> None:
    outcome = run_in_image(*_health_check(image))
    assert outcome.code not in (0, 126, 127), (
        f"in a container without a server, the health check can't run or passes: {outcome}"
    )
