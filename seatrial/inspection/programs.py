"""Shells, package managers and pip, recognised by name and by strings in their programs.

A renamed program keeps its messages, its tables of built-in commands and the libraries it needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Tool = Literal["shell", "package-manager", "pip"]
Magic = Literal["ELF", "ZIP"]


@dataclass(frozen=True)
class _Signature:
    """Strings that, all together, only this program holds."""

    tool: Tool
    program: str
    strings: tuple[bytes, ...]
    magic: Magic = "ELF"

    def __str__(self) -> str:
        return f"holds what only {self.program} holds"


_SIGNATURES = (
    # make knows every built-in command of a shell as well, but none of its variables.
    _Signature("shell", "a shell of the Bourne family", (b"getopts\0", b"OPTIND", b"PS4")),
    _Signature("shell", "a shell of the Bourne family", (b"getopts\0", b"OPTIND", b"unalias\0")),
    _Signature("shell", "BusyBox", (b"BusyBox v",)),
    _Signature("shell", "Toybox", (b"Toybox %s multicall",)),
    _Signature("shell", "a C shell", (b"onintr\0", b"unhash\0")),
    _Signature("shell", "fish up to 3", ("fish_user_paths".encode("utf-32-le"),)),
    _Signature("shell", "fish from 4", (b"fish_user_paths",)),
    _Signature("shell", "a shell written in Go", (b"mvdan.cc/sh/v",)),
    _Signature("shell", "Elvish", (b"src.elv.sh/pkg/",)),
    _Signature("shell", "a program packed with UPX (whatever it is)", (b"packed with the UPX",)),
    _Signature("package-manager", "APT", (b"libapt-pkg.so",)),
    _Signature("package-manager", "dpkg", (b"DPKG_ADMINDIR",)),
    _Signature("package-manager", "RPM", (b"librpm.so",)),
    _Signature("package-manager", "DNF", (b"libdnf.so",)),
    _Signature("package-manager", "DNF 5", (b"libdnf5.so",)),
    _Signature("package-manager", "Zypper", (b"libzypp.so",)),
    _Signature("package-manager", "pacman", (b"libalpm.so",)),
    _Signature("package-manager", "apk", (b"apk-tools", b"etc/apk/world")),
    _Signature("package-manager", "apk", (b"libapk.so",)),
    _Signature("package-manager", "mamba", (b"libmamba",)),
    _Signature("pip", "uv", (b"crates/uv-resolver",)),
    _Signature("pip", "an archive with pip inside", (b"pip/_internal/",), "ZIP"),
)
_MAGIC: dict[Magic, bytes] = {"ELF": b"\x7fELF", "ZIP": b"PK\x03\x04"}

_ELF_ORDER = 5
_BIG = 2
_ELF_MACHINE = slice(18, 20)
_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}

_SHELL_NAMES = (
    "sh bash rbash dash ash hush busybox toybox toysh zsh rzsh ksh rksh ksh93 mksh lksh pdksh fish"
    " csh tcsh posh yash osh ysh elvish nu xonsh pwsh gosh"
)
_PACKAGE_MANAGER_NAMES = (
    "apt apt-cache apt-cdrom apt-config apt-get apt-key apt-mark aptitude dpkg dpkg-deb"
    " dpkg-divert dpkg-query dpkg-reconfigure dpkg-split dpkg-statoverride dpkg-trigger apk rpm"
    " dnf dnf5 microdnf tdnf yum zypper pacman opkg emerge xbps-install conda mamba micromamba"
    " pixi nix nix-env guix snap flatpak brew"
)
_PIP_NAMES = "pip pipx uv uvx poetry pdm pipenv hatch rye easy_install"
_VERSION = r"(?:[-.]?\d[\d.]*|-static)?"


def _pattern(names: str) -> re.Pattern[str]:
    return re.compile("(?:" + "|".join(map(re.escape, names.split())) + ")" + _VERSION)


_NAMES: dict[Tool, re.Pattern[str]] = {
    "shell": _pattern(_SHELL_NAMES),
    "package-manager": _pattern(_PACKAGE_MANAGER_NAMES),
    "pip": _pattern(_PIP_NAMES),
}
# Modules that an interpreter runs with -m, whatever command is missing.
_MODULES: dict[Tool, re.Pattern[str]] = {
    "package-manager": re.compile(r".*/(?:conda|mamba|dnf|yum)/(?:cli/)?__(?:main|init)__\.py"),
    "pip": re.compile(
        r".*/(?:pip|pipenv|pipx|poetry|pdm|uv)/__main__\.pyc?|.*/easy_install\.pyc?"
        r"|.*/ensurepip/_bundled/[^/]+\.whl"
    ),
}


def name_says(tool: Tool, name: str) -> bool:
    """Tell whether a program with this file name counts as a `tool`."""
    return _NAMES[tool].fullmatch(name) is not None


def is_module(tool: Tool, path: str) -> bool:
    """Tell whether the Python module at `path` is a `tool`."""
    return tool in _MODULES and _MODULES[tool].fullmatch(path) is not None


def literals_in(piece: bytes, head: bytes) -> set[bytes]:
    """Find the strings of the signatures that a piece of a file holds.

    Args:
        piece: anything of the file.
        head: its first bytes: only programs and archives are searched.
    """
    return {
        string
        for signature in _SIGNATURES
        if _may_be(signature, head)
        for string in signature.strings
        if string in piece
    }


def recognised(literals: set[bytes]) -> Iterator[tuple[Tool, str]]:
    """Recognise programs by the strings that were found in all pieces of a file; say why."""
    for signature in _SIGNATURES:
        if literals.issuperset(signature.strings):
            yield signature.tool, str(signature)


def is_program(head: bytes) -> bool:
    """Tell whether a file with these first bytes is a program or a library."""
    return head.startswith(_MAGIC["ELF"])


def machine(head: bytes) -> str | None:
    """Read from a file's first bytes for which machine a program or a library is made.

    Returns:
        Linux's name, such as `x86_64`, or ELF's own number; None for any other file.
    """
    if not is_program(head) or len(head) < _ELF_MACHINE.stop:
        return None
    number = int.from_bytes(head[_ELF_MACHINE], "big" if head[_ELF_ORDER] == _BIG else "little")
    return _MACHINES.get(number, f"ELF machine {number}")


def interpreter(head: bytes) -> str | None:
    """Read the command line after `#!` in a file's first bytes."""
    if not head.startswith(b"#!"):
        return None
    return head[2:].partition(b"\n")[0].decode(errors="replace").strip() or None


def _may_be(signature: _Signature, head: bytes) -> bool:
    # A zip archive that Python runs may begin with a line for the kernel.
    start = head.partition(b"\n")[2] if head.startswith(b"#!") else head
    return start.startswith(_MAGIC[signature.magic])
