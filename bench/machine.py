"""Description of the machine that figures were measured on."""

from __future__ import annotations

import os
import platform
import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import PROJECT
from seatrial import process
from seatrial.build import revision
from seatrial.engine import connection, emulation

UNKNOWN = "unknown"
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class MeasuredMachine:
    """The machine, its engine and the commit that was measured."""

    processor: str
    cores: int
    memory: int
    """Bytes."""
    kernel: str
    engine: str
    buildx: str
    buildkit: str
    """`unknown` where the distribution built the engine without it."""
    emulator: str
    """Emulator of the foreign architecture; empty where there is none."""
    python: str
    commit: str
    """Ends in `-dirty` where the tree differs from it."""

    def __str__(self) -> str:
        return (
            f"{self.processor}, {self.cores} cores, {self.memory / 2**30:.0f} GiB; "
            f"kernel {self.kernel}; engine {self.engine}, buildx {self.buildx}, "
            f"BuildKit {self.buildkit}; {self.emulator or 'no emulator'}; "
            f"Python {self.python}; commit {self.commit[:12]}"
            f"{'-dirty' if self.commit.endswith('-dirty') else ''}"
        )


def describe() -> MeasuredMachine:
    """Describe this machine.

    Raises:
        UserError: no engine answers.
    """
    with closing(connection.connect()) as client:
        engine = client.version()["Version"]
    text = _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.is_file() else ""
    return MeasuredMachine(
        processor=processor(text) or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        kernel=platform.release(),
        engine=engine,
        buildx=buildx(process.output(["docker", "buildx", "version"]) or ""),
        buildkit=buildkit(process.output(["docker", "buildx", "inspect", "default"]) or ""),
        emulator=_emulator(),
        python=platform.python_version(),
        commit=revision.of(PROJECT).commit,
    )


def processor(cpuinfo: str) -> str:
    """Read the processor's name from the text of /proc/cpuinfo; empty where it has none (arm64)."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else ""


def buildx(printed: str) -> str:
    """Read the version that `docker buildx version` prints."""
    words = printed.split()
    return words[1].removeprefix("v") if len(words) > 1 else UNKNOWN


def buildkit(inspection: str) -> str:
    """Read BuildKit's version that `docker buildx inspect` prints."""
    found = re.search(r"^BuildKit(?: version)?:\s*v?(\S+)$", inspection, re.MULTILINE)
    return UNKNOWN if not found or UNKNOWN in found[1] else found[1]


def _emulator() -> str:
    native = connection.native_platform()
    for foreign in connection.PLATFORMS:
        entry = emulation.registration(foreign) if foreign != native else None
        if entry:
            # QEMU prints its version only under its own name, not under that of the registration.
            program = Path(entry.interpreter).resolve()
            lines = (process.output([str(program), "--version"]) or "").splitlines()
            return lines[0] if lines else program.name
    return ""
