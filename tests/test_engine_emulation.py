"""The programs that prove an architecture, and what the kernel is told."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from seatrial.engine import emulation, probe

# What Debian's qemu-user ships for systemd's binfmt service; ours differs in name and flags only.
DEBIAN = (
    r":qemu-aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00"
    r"\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    r":/usr/libexec/qemu-binfmt/aarch64-binfmt-P:OPF"
)

REGISTERED = """\
enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""


def test_the_smallest_native_program_runs() -> None:
    native = probe.facts(hosts=()).platform
    assert emulation.works(native)


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_programs_are_whole_elf_files(platform: str) -> None:
    machine = emulation.ARCHITECTURES[platform]
    program = machine.program()
    entry, header = struct.unpack_from("<QQ", program, 24)
    assert struct.unpack_from("<H", program, 18) == (machine.elf,)
    assert header == 64
    assert program[entry - 0x400000 :] == machine.code


def test_the_line_is_the_one_that_debian_writes() -> None:
    machine = emulation.ARCHITECTURES["linux/arm64"]
    interpreter = Path("/usr/libexec/qemu-binfmt/aarch64-binfmt-P")
    ours = emulation.line("qemu-aarch64", machine, interpreter).decode()
    assert ours == DEBIAN.removesuffix("OPF") + "POCF"


def test_registration_is_found(tmp_path: Path) -> None:
    for name, text in (
        ("status", "enabled\n"),
        ("register", ""),
        ("python3.11", "enabled\ninterpreter /usr/bin/python3.11\nflags: \noffset 0\nmagic a70d\n"),
        ("jar", "enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n"),
        ("qemu-aarch64", REGISTERED),
    ):
        (tmp_path / name).write_text(text)
    entry = emulation.registration("linux/arm64", tmp_path)
    assert entry is not None
    assert (entry.name, entry.flags) == ("qemu-aarch64", "POCF")
    assert entry.interpreter == "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"
    assert emulation.registration("linux/amd64", tmp_path) is None


def test_disabled_and_absent_registrations_do_not_count(tmp_path: Path) -> None:
    assert emulation.registration("linux/arm64", tmp_path / "not-mounted") is None
    (tmp_path / "qemu-aarch64").write_text(REGISTERED.replace("enabled", "disabled", 1))
    assert emulation.registration("linux/arm64", tmp_path) is None


def test_static_programs_are_told_from_dynamic_ones(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(emulation.ARCHITECTURES["linux/arm64"].program())
    assert emulation.static(program)
    assert not emulation.static(Path(os.path.realpath("/bin/sh")))
    program.write_text("#!/bin/sh\n")
    assert not emulation.static(program)


def test_registration_is_taken_back(tmp_path: Path) -> None:
    (tmp_path / "qemu-aarch64").write_text("enabled\n")
    emulation.unregister("qemu-aarch64", tmp_path)
    emulation.unregister("qemu-x86_64", tmp_path)
    assert (tmp_path / "qemu-aarch64").read_text() == "-1"
    assert not (tmp_path / "qemu-x86_64").exists()
