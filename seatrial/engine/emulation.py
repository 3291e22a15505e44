"""Programs of the other architecture on this kernel, through binfmt_misc and QEMU."""

from __future__ import annotations

import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from seatrial import process, scratch
from seatrial.errors import UserError

BINFMT = Path("/proc/sys/fs/binfmt_misc")

# P: the program sees the argv[0] it was called by. O, C: setuid programs keep their rights.
# F: the kernel opens QEMU at registration, so that it need not exist inside a container.
FLAGS = "POCF"

_EXIT_STATUS = 42
_PT_INTERP = 3


@dataclass(frozen=True)
class Architecture:
    """An architecture, and how the kernel recognises its programs."""

    platform: str
    name: str
    """QEMU's name for the architecture."""
    elf: int
    """`e_machine` of the ELF header."""
    code: bytes
    """Instructions that end the process with status 42 and need no library."""

    @property
    def magic(self) -> bytes:
        """First bytes of its programs: 64 bits, little-endian, executable, the architecture."""
        return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, self.elf)

    @property
    def mask(self) -> bytes:
        """Bits of `magic` that count: not the ABI bytes, and a PIE counts as executable."""
        return b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"

    def interpreters(self) -> tuple[Path, ...]:
        """List the paths where distributions put QEMU, the best first.

        The name that ends in -binfmt-P tells QEMU that flag P is set.
        """
        return (
            Path(f"/usr/libexec/qemu-binfmt/{self.name}-binfmt-P"),
            Path(f"/usr/bin/qemu-{self.name}-static"),
            Path(f"/usr/bin/qemu-{self.name}"),
        )

    def program(self) -> bytes:
        """Assemble the smallest program of the architecture, which exits with status 42."""
        header, segment, base = 64, 56, 0x400000
        size = header + segment + len(self.code)
        return (
            self.magic
            + struct.pack("<I", 1)
            + struct.pack("<QQQ", base + header + segment, header, 0)
            + struct.pack("<IHHHHHH", 0, header, segment, 1, 0, 0, 0)
            + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x10000)
            + self.code
        )


ARCHITECTURES = {
    architecture.platform: architecture
    for architecture in (
        Architecture(
            "linux/amd64",
            "x86_64",
            62,
            # mov edi, 42; mov eax, 60 (exit); syscall
            bytes.fromhex("bf2a000000 b83c000000 0f05"),
        ),
        Architecture(
            "linux/arm64",
            "aarch64",
            183,
            # mov x0, #42; mov x8, #93 (exit); svc #0
            bytes.fromhex("400580d2 a80b80d2 010000d4"),
        ),
    )
}


@dataclass(frozen=True)
class Registration:
    """Entry of binfmt_misc."""

    name: str
    enabled: bool
    interpreter: str
    flags: str
    magic: bytes


def registrations(directory: Path = BINFMT) -> tuple[Registration, ...]:
    """Read what is registered with the kernel.

    Args:
        directory: where binfmt_misc is mounted.
    """
    if not directory.is_dir():
        return ()
    entries = sorted(directory.iterdir())
    return tuple(_parse(path) for path in entries if path.name not in {"register", "status"})


def _parse(path: Path) -> Registration:
    state, *lines = path.read_text().splitlines()
    fields = {key.rstrip(":"): value for key, _, value in (line.partition(" ") for line in lines)}
    return Registration(
        name=path.name,
        enabled=state == "enabled",
        interpreter=fields.get("interpreter", ""),
        flags=fields.get("flags", ""),
        magic=bytes.fromhex(fields.get("magic", "")),
    )


def registration(platform: str, directory: Path = BINFMT) -> Registration | None:
    """Find the enabled entry that runs a platform's programs, if there is one."""
    magic = ARCHITECTURES[platform].magic
    # An entry may leave the ABI bytes out of its mask, never the header's class and architecture.
    return next(
        (
            entry
            for entry in registrations(directory)
            if entry.enabled and entry.magic[:7] + entry.magic[16:20] == magic[:7] + magic[16:20]
        ),
        None,
    )


def interpreter(platform: str) -> Path | None:
    """Find an installed QEMU for a platform that works inside containers: one that is static.

    Debian before trixie gives a dynamically linked one the same name.
    """
    candidates = ARCHITECTURES[platform].interpreters()
    return next((path for path in candidates if path.exists() and static(path)), None)


def static(path: Path) -> bool:
    """Tell whether a 64-bit program needs no dynamic linker, which a container may not have.

    Source:
        elf(5): a segment of type PT_INTERP names the linker.
    """
    content = path.read_bytes()
    if content[:5] != b"\x7fELF\x02":
        return False
    (table,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    types = (struct.unpack_from("<I", content, table + number * size)[0] for number in range(count))
    return _PT_INTERP not in types


def works(platform: str) -> bool:
    """Run the smallest program of a platform, as root in an empty root as a container has it."""
    root = os.geteuid() == 0
    # /tmp is often mounted noexec, /var hardly ever; only root may write there.
    with scratch.folder(Path("/var/lib") if root else None) as folder:
        folder.chmod(0o755)
        program = folder / "probe"
        program.write_bytes(ARCHITECTURES[platform].program())
        program.chmod(0o755)
        command = ["chroot", str(folder), "/probe"] if root else [str(program)]
        try:
            status = process.run(command).returncode
        except OSError:  # ENOEXEC: nothing is registered
            return False
    return status == _EXIT_STATUS


def entry_name(platform: str) -> str:
    """Choose the name of a registration that no other program's entry has."""
    name = f"qemu-{ARCHITECTURES[platform].name}"
    return f"seatrial-{name}" if (BINFMT / name).exists() else name


def register(platform: str) -> None:
    """Make this kernel run a platform's programs, unless a registration already works.

    Another program's entry that doesn't work in containers stays: the kernel asks the newest entry
    first.

    Args:
        platform: `linux/amd64` or `linux/arm64`.

    Raises:
        UserError: QEMU is not installed, the kernel has no binfmt_misc, or it doesn't work.
    """
    if works(platform):
        return
    architecture = ARCHITECTURES[platform]
    emulator = interpreter(platform)
    if emulator is None:
        raise UserError(f"no static emulator for {platform}: install qemu-user-static")
    _mount()
    name = entry_name(platform)
    if (BINFMT / name).exists():
        (BINFMT / name).write_text("-1")
    try:
        (BINFMT / "register").write_bytes(line(name, architecture, emulator))
        (BINFMT / "status").write_text("1")
    except OSError as error:
        raise UserError(
            f"the kernel refuses to register {emulator} for {platform}: {error.strerror}"
        ) from error
    if not works(platform):
        raise UserError(
            f"{emulator} is registered for {platform}, but programs don't run in a container's root"
        )


def unregister(name: str, directory: Path = BINFMT) -> None:
    """Remove a registration, if it is still there."""
    if (directory / name).exists():
        (directory / name).write_text("-1")


def line(name: str, architecture: Architecture, emulator: Path) -> bytes:
    r"""Word a registration for the kernel: `:name:M:offset:magic:mask:interpreter:flags`.

    Source:
        The kernel's admin-guide/binfmt-misc; bytes may be given as \xHH.
    """
    magic, mask = (
        "".join(f"\\x{byte:02x}" for byte in part)
        for part in (architecture.magic, architecture.mask)
    )
    return f":{name}:M::{magic}:{mask}:{emulator}:{FLAGS}".encode("ascii")


def _mount() -> None:
    if (BINFMT / "register").exists():
        return
    # Where binfmt_misc is a module the mount loads it, or modprobe does, if there is one; in a
    # kernel that has neither, the mount's message says so.
    if modprobe := shutil.which("modprobe"):
        process.run([modprobe, "-q", "binfmt_misc"])
    result = process.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)])
    if result.returncode:
        raise UserError(
            f"binfmt_misc can't be mounted, so nothing is emulated: {result.stderr.strip()}"
        )
