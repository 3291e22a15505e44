"""Which packages are asked for, and from where, with samples that real machines gave."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import TYPE_CHECKING

import pytest

from seatrial.engine import packages
from seatrial.engine.facts import System
from seatrial.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

BOOKWORM = System(name="Debian 12", identity="debian", codename="bookworm", version=12)
TRIXIE = System(name="Debian 13", identity="debian", codename="trixie", version=13)
SID = System(name="Debian sid", identity="debian", codename="sid", version=None)
NOBLE = System(name="Ubuntu 24.04", identity="ubuntu", codename="noble", version=24)
FEDORA = System(name="Fedora 42", identity="fedora", version=42)

DEB822 = """\
Types: deb
# http://mirror.example/snapshot
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/one.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/two.gpg
"""

EMBEDDED_KEY = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEYCQjIxYJKwYBBAHaRw8BAQdAD/P5Nvvnvk66SxBBHDbhRml9ORg1WV5CvzKY
 -----END PGP PUBLIC KEY BLOCK-----
"""

ONE_LINE = """\
# the machine's own release
deb [arch=amd64 signed-by=/usr/share/keyrings/one.gpg] http://mirror.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main
deb [trusted=yes] http://mirror.example/local ./
"""


def target(file: Path, entry: int = 1, **changes: str) -> packages.IndexTarget:
    base = packages.IndexTarget("http://mirror.example/debian/", "bookworm", "Debian", file, entry)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def listing(file: Path) -> str:
    """What `apt-get indextargets` writes, shortened to the fields that matter."""
    return textwrap.dedent(f"""\
        MetaKey: main/dep11/Components-amd64.yml
        Codename: bookworm
        Label: Debian
        Created-By: DEP-11
        Release: bookworm
        Repo-URI: http://mirror.example/debian/
        Sourcesentry: {file}:1

        MetaKey: main/binary-amd64/Packages
        ShortDesc: Packages
        Description: http://mirror.example/debian bookworm/main amd64 Packages
        Codename: bookworm
        Label: Debian
        Created-By: Packages
        Release: oldstable
        Repo-URI: http://mirror.example/debian/
        Sourcesentry: {file}:1

        MetaKey: main/binary-amd64/Packages
        Created-By: Packages
        Release: bookworm-security
        Repo-URI: http://mirror.example/debian-security/
        Sourcesentry: {file}:2
        """)


def test_targets_are_the_package_indexes_only(tmp_path: Path) -> None:
    file = tmp_path / "debian.sources"
    assert packages.targets(listing(file)) == (
        target(file),
        # No Release file has been fetched yet: the suite's name in the source is all there is.
        packages.IndexTarget(
            "http://mirror.example/debian-security/", "bookworm-security", "", file, 2
        ),
    )


@pytest.mark.parametrize(
    ("name", "text", "entry", "expected"),
    [
        ("debian.sources", DEB822, 1, {"Signed-By": "/usr/share/keyrings/one.gpg"}),
        ("debian.sources", DEB822, 2, {"Signed-By": "/usr/share/keyrings/two.gpg"}),
        ("sources.list", ONE_LINE, 2, {"Signed-By": "/usr/share/keyrings/one.gpg"}),
        ("sources.list", ONE_LINE, 3, {}),
        ("sources.list", ONE_LINE, 4, {"Trusted": "yes"}),
    ],
)
def test_trust_is_read_in_both_formats(
    tmp_path: Path, name: str, text: str, entry: int, expected: dict[str, str]
) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert packages.trust(target(file, entry)) == expected


def test_source_takes_mirror_and_key_of_the_own_release(tmp_path: Path) -> None:
    file = tmp_path / "debian.sources"
    file.write_text(DEB822)
    security = target(file, 2, codename="bookworm-security", label="Debian-Security")
    assert packages.source([security, target(file)], "bookworm") == textwrap.dedent("""\
        Types: deb
        URIs: http://mirror.example/debian/
        Suites: trixie
        Components: main
        Signed-By: /usr/share/keyrings/one.gpg
        """)


def test_source_keeps_an_embedded_key_readable(tmp_path: Path) -> None:
    file = tmp_path / "debian.sources"
    file.write_text(EMBEDDED_KEY)
    written = tmp_path / "new.sources"
    stanza = packages.source([target(file)], "bookworm")
    assert stanza is not None
    written.write_text(stanza)
    assert packages.trust(target(written)) == packages.trust(target(file))
    assert "\n .\n mDMEYCQj" in written.read_text()


def test_no_source_where_the_suite_is_known_already(tmp_path: Path) -> None:
    file = tmp_path / "any.sources"
    assert packages.source([target(file), target(file, codename="trixie")], "bookworm") is None


@pytest.mark.parametrize(
    "changes", [{"label": "Nodesource"}, {"uri": "cdrom:[Debian 12]/"}, {"codename": "bullseye"}]
)
def test_no_mirror_is_one_clear_line(tmp_path: Path, changes: dict[str, str]) -> None:
    known = [target(tmp_path / "x.sources", 1, **changes)]
    with pytest.raises(UserError, match="apt has no index of Debian bookworm"):
        packages.source(known, "bookworm")


@pytest.mark.parametrize(
    ("system", "expected"), [(BOOKWORM, True), (TRIXIE, False), (SID, False), (NOBLE, False)]
)
def test_only_an_older_debian_needs_the_suite(system: System, expected: bool) -> None:
    assert packages.needs_suite(system) is expected


def test_only_what_must_comes_from_the_suite() -> None:
    wanted = ["docker.io", "qemu-user", "iptables", "mmdebstrap"]
    expected = ["docker.io/trixie", "qemu-user/trixie", "iptables", "mmdebstrap"]
    assert packages.arguments(wanted, BOOKWORM) == expected
    assert packages.arguments(wanted, TRIXIE) == wanted


def test_families() -> None:
    ubuntu = packages.family(NOBLE)
    assert ubuntu is not None
    assert ubuntu.compose == ("docker-compose-v2",)
    assert packages.family(TRIXIE) == packages.family(BOOKWORM)
    assert packages.family(FEDORA) is None
    assert packages.family(System(name="macOS")) is None


def test_pin_keeps_the_suite_back() -> None:
    assert packages.pin() == "Package: *\nPin: release n=trixie\nPin-Priority: 100\n"


@pytest.mark.parametrize(
    ("simulation", "expected"),
    [
        ("Inst runc (1.1.5+ds1-1+deb12u1 Debian:12.12/oldstable [amd64])\nConf runc\n", ""),
        ("Inst libc6 (2.41-12 Debian:13.1/stable [amd64])\n", ""),
        ("Inst libc6 [2.36-9] (2.41-12 Debian:13.1/stable [amd64])\n", "replace the C library"),
        ("Inst libc6:amd64 [2.36-9] (2.41-12 x)\n", "replace the C library"),
        ("Remv qemu-user-static [1:7.2]\nRemv podman [4.3]\n", "remove qemu-user-static, podman"),
    ],
)
def test_refusal(simulation: str, expected: str) -> None:
    assert packages.refusal(simulation) == expected
