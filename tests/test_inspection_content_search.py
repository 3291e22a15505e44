"""What is found in layers that were made to hold it, and what is not taken for it."""

from __future__ import annotations

import datetime
import io
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
import pytest
from archives import Member, folder, layer, link
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from seatrial.build.store import StoredPlatform
from seatrial.inspection import authorities, programs
from seatrial.inspection.content_search import of_other_machines, search
from seatrial.inspection.layers import InspectedImage

if TYPE_CHECKING:
    from seatrial.contract.schema import Absence
    from seatrial.inspection.layer import Layer

PRIVATE_KEY = ec.generate_private_key(ec.SECP256R1())
KEY = PRIVATE_KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)
# Put together here, so that no search for secrets stumbles over this file.
GITHUB_TOKEN = b"gh" + b"p_" + b"aB3dE5gH7jK9mN1pQ3rS5tU7vW9xY1zA3bC5"
AWS_KEY = b"AK" + b"IA" + b"QWERTYUIOPASDFGH"


def image(*layers: Layer, config: dict[str, Any] | None = None, **stored: Any) -> InspectedImage:
    digests = tuple(one.digest for one in layers)
    platform = StoredPlatform("linux/amd64", "sha256:1", 1, digests, {}, config or {}, **stored)
    return InspectedImage(platform, layers)


def found(absence: Absence, *layers: Layer, **options: Any) -> dict[str, str]:
    """Why, by place."""
    return {one.place: one.why for one in search(image(*layers, **options), absence)}


def program(name: str, *strings: bytes, mode: int = 0o755) -> Member:
    return Member(name, b"\x7fELF\x02\x01\x01" + b"\0".join((b"", *strings, b"")), mode)


def authority(name: str, *, ca: bool = True, issuer: str | None = None) -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    by = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer or name)])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder(by, subject, PRIVATE_KEY.public_key(), 7)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(PRIVATE_KEY, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


DASH = (b"getopts", b"OPTIND=1", b"PS4=+ ")


def test_shell_by_name() -> None:
    names = ("bin/bash", "opt/zsh-5.9", "x/ksh93", "busybox-static", "y/rbash")
    assert set(found("shell", layer(*(program(name) for name in names)))) == {
        f"/{name}" for name in names
    }


def test_shell_by_content_whatever_its_name_and_mode() -> None:
    there = layer(
        program("usr/bin/tool", *DASH),
        program("usr/lib/libx.so", b"BusyBox v1.37.0", mode=0o644),
    )
    assert found("shell", there) == {
        "/usr/bin/tool": "holds what only a shell of the Bourne family holds",
        "/usr/lib/libx.so": "holds what only BusyBox holds",
    }


def test_this_machines_own_shell_under_another_name() -> None:
    path = Path(shutil.which("sh") or "/bin/sh").resolve()
    content = path.read_bytes()
    if not content.startswith(b"\x7fELF"):
        pytest.skip("the shell of this machine is no ELF program: runs on Linux")
    assert set(found("shell", layer(Member("opt/innocent", content)))) == {"/opt/innocent"}


def test_shell_by_links_to_one() -> None:
    there = layer(
        program("opt/tool", *DASH),
        folder("usr"),
        folder("usr/bin"),
        link("bin", "usr/bin"),
        link("usr/bin/innocent", "../../opt/second"),
        link("opt/second", "/opt/tool"),
        link("usr/bin/sh", "/nowhere"),
    )
    assert set(found("shell", there)) == {"/opt/tool", "/usr/bin/innocent", "/opt/second"}


def test_shell_by_a_name_that_leads_to_a_program() -> None:
    there = layer(program("opt/unknown"), link("sh", "opt/unknown"))
    assert found("shell", there) == {"/sh": "is named like a shell, and leads to /opt/unknown"}


def test_shell_by_scripts_for_one() -> None:
    there = layer(
        Member("a", b"#!/bin/sh -e\n", 0o755),
        Member("b", b"#! /usr/bin/env -S A=b bash\n", 0o755),
        Member("c", b"#!/usr/bin/env python3\n", 0o755),
        Member("not-executable", b"#!/bin/sh\n"),
    )
    assert found("shell", there) == {
        "/a": "a script for a shell: #!/bin/sh -e",
        "/b": "a script for a shell: #!/usr/bin/env -S A=b bash",
    }


def test_a_shell_that_a_later_layer_removes_is_none() -> None:
    assert found("shell", layer(program("bin/sh", *DASH)), layer(Member("bin/.wh.sh"))) == {}


def test_what_is_no_shell() -> None:
    # make knows the built-in commands; completions and lexers are named after what they serve.
    there = layer(
        program("usr/bin/make", b"getopts", b"unalias", b"ulimit", b"IFS"),
        program("usr/bin/python3.13", b"/bin/sh"),
        Member("usr/share/bash-completion/completions/sh"),
        Member("notes", b"getopts\0OPTIND PS4"),
        folder("usr/share/zsh"),
    )
    assert found("shell", there) == {}


def test_a_string_across_two_pieces() -> None:
    filling = b"x" * (16 * 1024 * 1024 - 12)
    assert found("shell", layer(program("big", filling + b"BusyBox v1")))


def test_package_managers_by_name_content_and_link() -> None:
    there = layer(
        program("sbin/apk"),
        program("opt/a", b"libapt-pkg.so.7.0"),
        program("opt/b", b"DPKG_ADMINDIR"),
        link("usr/bin/c", "/opt/a"),
        Member("usr/lib/python3/dist-packages/conda/__main__.py"),
    )
    assert set(found("package-manager", there)) == {
        "/sbin/apk",
        "/opt/a",
        "/opt/b",
        "/usr/bin/c",
        "/usr/lib/python3/dist-packages/conda/__main__.py",
    }


def test_records_of_packages_are_no_package_manager() -> None:
    there = layer(Member("var/lib/dpkg/status.d/libc6", b"Package: libc6\n"))
    assert found("package-manager", there) == {}


def test_pip_modules_programs_and_archives() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("pip/_internal/cli/main.py", "")
    there = layer(
        Member("usr/bin/pip3.13", b"#!/usr/bin/python3\n", 0o755),
        Member("venv/lib/python3.13/site-packages/pip/__main__.py"),
        Member("usr/lib/python3.13/ensurepip/_bundled/pip-25.1-py3-none-any.whl"),
        Member("opt/tool", b"#!/usr/bin/env python3\n" + archive.getvalue(), 0o755),
        program("opt/other", b"crates/uv-resolver/src/lib.rs"),
        Member("opt/pip.conf"),
    )
    assert len(found("pip", there)) == 5


def test_bits_and_capabilities_of_files_in_every_layer() -> None:
    lower = layer(
        program("su", mode=0o4755),
        program("wall", mode=0o2755),
        folder("mail", 0o2775),
        Member("ping", capability="\x01\x00\x00\x02\x00\x20"),
    )
    upper = layer(Member(".wh.su"), program("wall"), Member(".wh.ping"))
    assert found("setuid", lower, upper) == {
        "/su": "has mode 4755: setuid or setgid",
        "/wall": "has mode 2755: setuid or setgid",
        "/ping": "carries file capabilities",
    }


def test_what_anybody_may_write_to() -> None:
    lower = layer(
        folder("tmp", 0o1777),
        folder("tmp/inner", 0o777),
        folder("var/tmp", 0o777),
        folder("run/lock", 0o1777),
        Member("etc/motd", mode=0o666),
        link("etc/link", "motd"),
    )
    assert found("world-writable", lower, layer(Member("etc/.wh.motd"))) == {
        "/var/tmp": "has mode 0777: anybody may remove others' files",
        "/run/lock": "has mode 1777: anybody may write to it",
        "/etc/motd": "has mode 0666: anybody may write to it",
    }


def test_a_private_authority_in_a_public_bundle() -> None:
    public = Path(certifi.where()).read_bytes()
    lower = layer(Member("etc/ssl/certs/ca-certificates.crt", public + authority("Corp")))
    upper = layer(Member("etc/ssl/certs/ca-certificates.crt", public))
    assert found("private-authority", lower, upper) == {
        "/etc/ssl/certs/ca-certificates.crt": "holds the private authority CN=Corp"
    }


def test_public_authorities_and_ordinary_certificates_are_not_private_ones() -> None:
    server = authority("server", ca=False, issuer="Corp")
    there = layer(
        Member("cacert.pem", Path(certifi.where()).read_bytes()),
        Member("server.pem", server),
        Member("broken.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    )
    assert found("private-authority", there) == {}


def test_a_certificate_that_stands_for_itself() -> None:
    there = layer(Member("own.pem", authority("localhost", ca=False)))
    assert set(found("private-authority", there)) == {"/own.pem"}


def test_the_public_authorities_are_many() -> None:
    assert len(authorities.public()) > 200


def test_secrets_in_a_layer_that_a_later_one_hides() -> None:
    lower = layer(Member("root/key.pem", KEY))
    assert found("secret", lower, layer(Member("root/.wh.key.pem"))) == {
        "/root/key.pem": "holds a private key"
    }


def _path(value: str | bytes) -> str:
    """Name a test by the path alone: a key is another one in each process."""
    return value if isinstance(value, str) else "content"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("app/settings.py", b"TOKEN = '%s'" % GITHUB_TOKEN),
        ("x/site-packages/site.py", b"key = '%s'" % AWS_KEY),
        ("root/.netrc", b"machine x login y password z\n"),
        ("root/.pypirc", b"[pypi]\npassword = z\n"),
        ("root/.git-credentials", b"https://me:z@git.test\n"),
        ("root/.npmrc", b"//registry.test/:_authToken=z\n"),
        ("home/a/.docker/config.json", b'{"auths": {"r": {"auth": "eDp5"}}}'),
        ("run/secrets/any", b"z"),
        ("etc/shadow", b"root:$y$j9T$abc:1:0:9:7:::\n"),
        ("app/.env", b"export DB_PASSWORD='z'\n"),
        ("etc/pip.conf", b"index-url = https://me:z@index.test/simple\n"),
        ("app/account.json", b'{"private_key": "%s"}' % KEY.replace(b"\n", b"\\n")),
        ("opt/data.bin", b"\0\1\2" + KEY),
    ],
    ids=_path,
)
def test_secrets_in_files(path: str, content: bytes) -> None:
    assert set(found("secret", layer(Member(path, content)))) == {f"/{path}"}


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("lib/libgnutls.so", b"\x7fELF\0" + KEY),
        ("app/readme.py", b"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE"),
        ("app/manual.txt", b"export TOKEN=gh" + b"p_" + b"x" * 36),
        ("x/site-packages/pkg/docs.cfg", b"url = postgresql://user:pass@host/db"),
        ("app/.env", b"DB_PASSWORD=${DB_PASSWORD}\nTOKEN_FILE=/run/secrets/token\n"),
        ("app/parser.py", b"if line == '-----BEGIN PRIVATE KEY-----':"),
        ("etc/shadow", b"root:*:1:0:9:7:::\nnobody:!:1::::::\nx:!*:1::::::\n"),
        ("etc/nsswitch.conf", b"passwd: files\n"),
        ("root/.docker/config.json", b'{"credsStore": "desktop"}'),
    ],
    ids=_path,
)
def test_secrets_not_in_files(path: str, content: bytes) -> None:
    assert found("secret", layer(Member(path, content))) == {}


def test_secrets_in_configuration_history_and_build_arguments() -> None:
    config = {
        "Env": ["DB_PASSWORD=z", "HTTPS_PROXY=http://me:z@proxy.test:3128", "PATH=/bin"],
        "Labels": {"note": GITHUB_TOKEN.decode()},
        "Cmd": ["server", "--backend-store-uri", "postgresql://me:z@db/x"],
    }
    predicate = {"a": [{"args": {"build-arg:INDEX_TOKEN": "z", "build-arg:VERSION": "1"}}]}
    places = found(
        "secret",
        config=config,
        history=("RUN |1 API_KEY=z /bin/sh -c make", "COPY . ."),
        attestations={"https://slsa.dev/provenance/v1": {"predicate": predicate}},
    )
    assert set(places) == {
        "the variable DB_PASSWORD",
        "the variable HTTPS_PROXY",
        "the label note",
        "Cmd",
        "the history",
        "the provenance",
    }
    assert "z@" not in "".join(places.values())


def test_ordinary_configuration_is_no_secret() -> None:
    config = {
        "Env": ["GPG_KEY=0D96DF4D4110E5C43FBFB17F2D347EA6AA65421D", "DB_PASSWORD_FILE=/run/x"],
        "Labels": {"org.opencontainers.image.source": "https://git.test/team/mlflow"},
    }
    history = ("RUN |1 VERSION=3 /bin/sh -c pip install mlflow==$VERSION # buildkit",)
    assert found("secret", config=config, history=history) == {}


def test_every_signature_is_of_a_kind_that_is_searched_for() -> None:
    strings = {string for one in programs._SIGNATURES for string in one.strings}
    assert {kind for kind, _ in programs.recognised(strings)} == {"shell", "package-manager", "pip"}


def test_programs_of_another_machine() -> None:
    """Those that a later layer has replaced don't count; what is no ELF file has no machine."""

    def made_for(number: int, name: str, *, order: int = 1) -> Member:
        word = number.to_bytes(2, "big" if order == 2 else "little")
        return Member(name, b"\x7fELF\x02" + bytes([order]) + bytes(12) + word + bytes(40))

    lower = layer(made_for(183, "bin/replaced"), made_for(183, "lib/arm.so"))
    upper = layer(
        made_for(62, "bin/replaced"),
        made_for(62, "bin/own"),
        made_for(8, "lib/rare.so", order=2),
        Member("bin/script", b"#!/bin/sh\n"),
        Member("bin/short", b"\x7fELF"),
    )
    others = {one.place: one.why for one in of_other_machines(image(lower, upper), "x86_64")}
    assert others == {
        "/lib/arm.so": "made for aarch64",
        "/lib/rare.so": "made for ELF machine 8",
    }
