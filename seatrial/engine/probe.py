"""Facts gathered from this machine and its engine; nothing is changed."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from seatrial import process
from seatrial.engine import connection, data, emulation, journal, registries, trust
from seatrial.engine.facts import Client, Configuration, Engine, Facts, System
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIGURATION = Path("/etc/docker/daemon.json")
BOOTSTRAP_TOOLS = ("mmdebstrap", "arch-test")

_ENGINE_PACKAGES = ("docker.io", "docker-ce")
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def facts(hosts: Sequence[str] = ("docker.io",)) -> Facts:
    """Gather everything that a plan or a report needs.

    Args:
        hosts: the image registries to ask; each may take seconds to stay silent.

    Raises:
        UserError: the machine is of an architecture that no image is made for, or the chosen
            docker context does not exist.
    """
    endpoint = connection.endpoint()
    native = _platform()
    engine, silence = _engine()
    settings = configuration()
    local, root = endpoint.socket is not None, os.geteuid() == 0
    foreign = [name for name in connection.PLATFORMS if name != native] if _linux() else []
    return Facts(
        system=system(),
        root=root,
        platform=native,
        endpoint=endpoint,
        configuration=settings,
        client=_client(answering=engine is not None),
        engine=engine,
        silence=silence,
        dockerd=_daemon(),
        data=() if engine or endpoint.configured else data.find(settings.settings),
        # Only root may read the record.
        started=root and any("pid" in run.changes.engine for run in journal.runs()),
        emulated=frozenset(name for name in foreign if emulation.works(name)),
        emulators=frozenset(name for name in foreign if emulation.interpreter(name)),
        interpreters={
            name: _interpreter(entry.interpreter)
            for name in foreign
            if (entry := emulation.registration(name))
        },
        tools=frozenset(tool for tool in BOOTSTRAP_TOOLS if shutil.which(tool)),
        registries=_registries(hosts),
        authorities=trust.private(),
        bundle=trust.bundle(),
        free=_free(engine.data_root if engine else data.DEFAULT_ROOT) if local else None,
    )


def _linux() -> bool:
    return platform.system() == "Linux"


def _platform() -> str:
    machine = platform.machine().lower()
    if machine not in _ARCHITECTURES:
        raise UserError(f"the images are for amd64 and arm64, this machine is {machine}")
    return f"linux/{_ARCHITECTURES[machine]}"


def system() -> System:
    """Read which operating system this is."""
    if not _linux():
        return System(name=platform.system().replace("Darwin", "macOS"))
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return System(name="Linux")
    major = release.get("VERSION_ID", "").partition(".")[0]
    return System(
        name=release.get("PRETTY_NAME", release["NAME"]),
        identity=release["ID"],
        codename=release.get("VERSION_CODENAME", ""),
        version=int(major) if major.isdecimal() else None,
        systemd=Path("/run/systemd/system").is_dir(),
        packages=frozenset(name for name in _ENGINE_PACKAGES if _installed(name)),
    )


def _installed(package: str) -> bool:
    status = process.output(["dpkg-query", "--show", "--showformat=${db:Status-Status}", package])
    return status == "installed"


def configuration(path: Path = CONFIGURATION) -> Configuration:
    """Read the daemon's configuration.

    Args:
        path: the file; it need not exist.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # as the daemon reads it
        # It takes an empty file for no settings.
        settings = json.loads(text) if text.strip() else {}
    except FileNotFoundError:
        if path.is_symlink():
            return Configuration(path, None, "is a symbolic link to nothing")
        return Configuration(path, None)
    except PermissionError:
        return Configuration(path, {})  # there, but not for this user to judge
    except OSError as error:
        return Configuration(path, None, f"can't be read: {error.strerror}")
    except (ValueError, RecursionError) as error:
        return Configuration(path, None, f"is not valid JSON: {error}")
    if not isinstance(settings, dict):
        return Configuration(path, None, "is not a JSON object")
    return Configuration(path, settings)


def _engine() -> tuple[Engine | None, str]:
    try:
        client = connection.connect()
    except UserError as error:
        return None, str(error)
    with closing(client):
        info, version = client.info(), client.version()
        native = f"{version['Os']}/{version['Arch']}"
    store = ["driver-type", "io.containerd.snapshotter.v1"] in (info.get("DriverStatus") or [])
    engine = Engine(
        version=version["Version"],
        platform=native,
        containerd_store=store,
        data_root=Path(info["DockerRootDir"]),
        cores=info["NCPU"],
        memory=info["MemTotal"],
        runs=connection.runnable_platforms() if native in connection.PLATFORMS else frozenset(),
    )
    return engine, ""


def _client(*, answering: bool) -> Client:
    path = shutil.which("docker")
    if path is None:
        return Client()
    fault = ""
    if answering:
        # Unlike the docker SDK, a client may be too old or too new for its engine.
        talk = process.run([path, "version", "--format", "{{.Server.Version}}"])
        fault = talk.stderr.strip().splitlines()[-1] if talk.returncode and talk.stderr else ""
    return Client(
        path=path,
        podman="podman" in (process.output([path, "--version"]) or "").lower(),
        version=_version([path, "--version"]),
        buildx=_version([path, "buildx", "version"]),
        compose=_version([path, "compose", "version"]),
        fault=fault,
    )


def _interpreter(path: str) -> str:
    # By the name it is registered under, QEMU takes the option for the program's own name.
    program = os.path.realpath(path)
    return f"{Path(program).name} {_version([program, '--version'])}".strip()


def _daemon() -> str:
    # Only root has the system's programs on PATH.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    program = shutil.which("dockerd", path=path)
    return _version([program, "--version"]) if program else ""


def _version(command: list[str]) -> str:
    """Read the first version number that a program prints."""
    output = process.output(command)
    found = re.search(r"\d+\.\d+[\w.+~-]*", output) if output else None
    return found[0] if found else ""


def _registries(hosts: Sequence[str]) -> dict[str, bool]:
    with ThreadPoolExecutor(max_workers=max(1, len(hosts))) as pool:
        return dict(zip(hosts, pool.map(registries.answers, hosts), strict=True))


def _free(path: Path) -> int:
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return shutil.disk_usage(existing).free
