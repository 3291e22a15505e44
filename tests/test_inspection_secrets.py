"""Secrets by their form: generated ones are found and never shown, stand-ins are passed over."""

from __future__ import annotations

import gzip
import io
import os
import random
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import secret_samples
from archives import Member, layer
from hypothesis import given, settings
from hypothesis import strategies as st
from secret_samples import ANY, TEXTS, TOKENS, Maker, Sample, packed_tar, packed_zip

from seatrial.build.store import StoredPlatform
from seatrial.inspection import secrets, stand_ins
from seatrial.inspection.archives import UnpackingBudget
from seatrial.inspection.content import traits_of
from seatrial.inspection.content_search import search
from seatrial.inspection.layers import InspectedImage

if TYPE_CHECKING:
    from seatrial.inspection.layer import Layer

ANYWHERE = "/opt/thing/data"
IN_A_PACKAGE = "/venv/lib/python3.13/site-packages/package/module.py"
SEEDS = st.integers(0, 2**32)
ROOT = Path(__file__).parents[1]
PASSWORD = Maker(random.Random(1)).password()


def details(
    content: bytes | str, path: str = ANYWHERE, budget: UnpackingBudget | None = None
) -> list[str]:
    """What is found in a file."""
    data = content.encode() if isinstance(content, str) else content
    found = traits_of(path, io.BytesIO(data), budget)
    return [trait.detail for trait in found if trait.name == "secret"]


def image(*layers: Layer, config: dict[str, Any] | None = None, **stored: Any) -> InspectedImage:
    digests = tuple(one.digest for one in layers)
    platform = StoredPlatform("linux/amd64", "sha256:1", 1, digests, {}, config or {}, **stored)
    return InspectedImage(platform, layers)


def findings(*layers: Layer, **options: Any) -> list[str]:
    return [str(finding) for finding in search(image(*layers, **options), "secret")]


def _sample(number: int, seed: int) -> Sample:
    return secret_samples.samples(random.Random(seed))[number]


NAMES = [sample.name for sample in secret_samples.samples(random.Random(0))]


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_sample_is_found_by_its_form_and_not_shown(number: int) -> None:
    for seed in range(3):
        sample = _sample(number, seed)
        found = details(sample.content)
        assert any(sample.form.lower() in detail.lower() for detail in found), found
        assert not any(value in detail for value in sample.planted for detail in found)


@pytest.mark.parametrize("form", TOKENS)
@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, before=st.sampled_from(" \"'=:(,>\t\n"), after=st.sampled_from(" \"'),<;\n"))
def test_token_is_found_wherever_it_stands(form: str, seed: int, before: str, after: str) -> None:
    token = TOKENS[form](Maker(random.Random(seed)))
    found = details(f"text{before}{token}{after}text", IN_A_PACKAGE)
    assert any(form in detail for detail in found)
    assert not any(token[4:] in detail for detail in found)


@pytest.mark.parametrize("name", [name for name, (_, _, make) in TEXTS.items() if make is ANY])
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_password_is_found_by_its_text(name: str, seed: int) -> None:
    form, text, make = TEXTS[name]
    password = make(Maker(random.Random(seed)))
    found = details(text.replace(secret_samples.MARK, password))
    assert any(form in detail for detail in found)
    assert not any(password in detail for detail in found)


@pytest.mark.parametrize(
    "password",
    [
        "password",
        "${PASSWORD}",
        "$PASSWORD",
        "<password>",
        "<your-token>",
        "{password}",
        "%(password)s",
        "%s",
        "***",
        "xxx",
        "xxxxxxxxxxxx",
        "changeme",
        "your_password_here",
        "my-secret-password",
        "REDACTED",
        "example-password",
        "token",
        "...",
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        'u = "postgresql://user:{}@host/db"',
        "docs: postgresql+psycopg2://scott:{}@localhost/test for example",
        "See https://user:{}@proxy.example.com:3128/ for more",
        'password = "{}"  # yours',
        "machine host login me password {}\nwhich is all",
        "curl -u user:{} https://host/",
        "mysql -u user -p{} db",
        "Run it with --password {} --verbose",
        'dsn = "host=db user=me password={}"',
        "//registry.example.com/:_authToken={}",
        '"auths": {{"r": {{"identitytoken": "{}"}}}}',
    ],
)
@pytest.mark.parametrize("path", [ANYWHERE, IN_A_PACKAGE])
def test_stand_in_is_no_secret(text: str, password: str, path: str) -> None:
    content = f"import this\n{text.format(password)}\n"
    assert details(content, path) == [], content


@pytest.mark.parametrize(
    "text",
    [
        "AK" + "IAIOSFODNN7EXAMPLE",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "gh" + "p_" + "x" * 36,
        "gh" + "p_0123456789abcdefghijklmnopqrstuvwxyz",
        "AccountKey=" + "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq"
        "/K1SZFPTOtr/KBHBeksoGMGw==",
        # The token of JWT's own page: its subject is 1234567890.
        "ey" + "JhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9l"
        "IiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
        "a hf_token and npm_config_registry, a task-sk-ant-hill, risk-proj-x",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN PUBLIC KEY-----\n" + "A1b2" * 16,
        "-----BEGIN CERTIFICATE-----\n" + "A1b2" * 16,
        '{"auth": "bm90aGluZyBvZiBpdA=="}',
        "git clone https://github.com/team/mlflow.git",
        "https://host:8080/path@version",
        "image docker://registry:5000/team/app:1@sha256:0a1b2c3d",
        "databricks://scope:prefix9K2@profile and models://a:b9c8d7e6@databricks",
        "mail to someone@host.test: now",
        "sig=short&se=2027",
        "root:*:19000:0:99999:7:::",
        "root:x:0:0:root:/root:/bin/bash",
        "a:5432:b:c and d",
        "nextPageToken: eav1OzQB0OM8rLdGXOEsyQWSG",
        "passwd: files systemd",
        "token = base64.b64encode(secrets.token_bytes(16)).decode()",
        "password: str | None = None",
        "private_key = ed25519.Ed25519PrivateKey.generate()",
        "def f(password=None, token=make_token_2(x)): ...",
        "password_file = /run/secrets/db_password_1",
        "update-passwd utility2. It writes --password files",
        "api_key: sk-...xyz123",
        "token: https://login.host.test/oauth2/v2.0/token",
        'TOKEN = "access_token"',
        'bypass = "value-2026"',
        '["password", "username1"]',
        "secret: arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-a1b2c3",
        'PASSWORD_HASHERS = ["argon2.PasswordHasher1"]',
    ],
)
def test_neighbour_of_a_form_is_no_secret(text: str) -> None:
    content = f"import this\n{text}\n"
    assert details(content) == [], content


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://postgres:postgres@localhost/test",
        "https://me:p@host/",
        'TOKEN = "1d2129a1-3d38-460a-9756-e5b91fddb951"',
        '"Password": "SomeKindOfPassword123!@#"',
        'password = "Winter2026"',
        "mysql://scott:tiger^5HHH@mssql2017/x",
    ],
)
def test_manual_of_a_package_is_no_secret(text: str) -> None:
    assert details(f"import this\n{text}\n", IN_A_PACKAGE) == []


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://svc:Winter2026@db.corp.internal/x",
        f'password = "{Maker(random.Random(2)).text(secret_samples.ALPHANUMERIC, 24)}"',
    ],
)
def test_secret_in_a_package_is_one(text: str) -> None:
    assert len(details(f"import this\n{text}\n", IN_A_PACKAGE)) == 1


def test_weak_password_is_one_where_it_is_set() -> None:
    assert len(details("[client]\nuser=svc\npassword=z\n")) == 1
    assert len(details("DB_PASSWORD = 'winter26'\nimport this\n")) == 1
    assert details("import this\npassword = winter\n") == []


def test_words_without_end_are_a_finding() -> None:
    (detail,) = details("pwd " * 200_001)
    assert detail.startswith("more than 200000 words")
    assert details("pwd " * 1000) == []


def test_key_stores_for_trust_alone_are_none() -> None:
    certificate = (
        b"\0\0\0\x02\0\x04mine" + bytes(8) + b"\0\x05X.509" + struct.pack(">I", 5) + b"12345"
    )
    store = b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x02" + 2 * certificate
    assert details(store) == []
    key = b"\0\0\0\x01\0\x04mine" + bytes(8)
    assert details(store[:11] + b"\x03" + store[12:] + key) == ["a private key in a Java key store"]
    assert details(b"\x30\x82\x01\x00\x02\x01\x03\x30\x82" + bytes(300)) == []


def test_secret_across_two_pieces() -> None:
    token = TOKENS["a GitHub token"](Maker(random.Random(1)))
    filling = "x " * (8 * 1024 * 1024 - 10)
    assert len(details(f"{filling}{token} {filling}")) == 1


# --- Archives ---


def test_archive_says_in_which_member() -> None:
    archive = packed_zip({"a/b.py": f'x = "mysql://svc:{PASSWORD}@db/x"'.encode(), "c": b"nothing"})
    assert details(archive) == [
        "a password in an address, 16 characters long, in its member a/b.py"
    ]


def test_archive_that_is_a_program_is_unpacked() -> None:
    archive = packed_zip({"b.py": f'x = "mysql://svc:{PASSWORD}@db/x"'.encode()})
    assert len(details(b"#!/usr/bin/env python3\n" + archive)) == 1


def test_packages_in_wheels_are_packages() -> None:
    wheel = packed_zip({"x.py": b'x = "mysql://svc:svc@db/x"'})
    assert details(wheel, "/opt/x-1-py3-none-any.whl") == []
    assert len(details(wheel, "/opt/x.zip")) == 1


def test_names_in_archives_paint_no_terminal() -> None:
    (detail,) = details(packed_tar({"a\x1b[2J\nb": f"x: mysql://svc:{PASSWORD}@db/x".encode()}))
    assert detail.isprintable()


BEYOND = "an archive that is deeper, or holds more, than what is searched"


def test_archives_in_archives_end() -> None:
    content = f"mysql://svc:{PASSWORD}@db/x".encode()
    for _ in range(4):
        content = packed_zip({"x": content})
    assert len(details(content)) == 1
    assert BEYOND not in details(content)
    assert details(packed_zip({"x": content})) == [BEYOND]


def test_bomb_is_unpacked_up_to_the_limit() -> None:
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    assert details(bomb, budget=UnpackingBudget(size=1024 * 1024)) == [BEYOND]
    budget = UnpackingBudget(size=80 * 1024 * 1024)
    assert details(bomb, budget=budget) == []
    assert details(bomb, budget=budget) == [BEYOND], "the limit is for all archives of a layer"


def test_members_are_counted() -> None:
    for pack in (packed_zip, packed_tar):
        archive = pack({str(number): b"" for number in range(50)})
        assert details(archive, budget=UnpackingBudget(members=20)) == [BEYOND]
        assert details(archive, budget=UnpackingBudget(members=100)) == []


def test_list_of_members_that_claims_gigabytes_is_not_read() -> None:
    archive = bytearray(packed_zip({"x": b"nothing"}))
    struct.pack_into("<L", archive, archive.rfind(b"PK\x05\x06") + 12, 0xFFFFFFF0)
    assert details(bytes(archive)) == [BEYOND]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), number=st.integers(0, 4))
def test_damaged_archives_are_read_as_far_as_they_go(data: st.DataObject, number: int) -> None:
    content = {"x.py": f'x = "mysql://svc:{PASSWORD}@db/x"'.encode() * 20, "y": b"nothing"}
    kinds = (packed_zip(content), packed_tar(content), gzip.compress(packed_tar(content)))
    archive = bytearray(
        (*kinds, b"\xfd7zXZ\0" + bytes(40), b"\x28\xb5\x2f\xfd" + bytes(40))[number]
    )
    for _ in range(data.draw(st.integers(1, 8))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(archive)))
    assert not any(PASSWORD in detail for detail in details(bytes(archive[:end])))


def test_locked_member_is_passed_over() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("locked", b"x")
        archive.writestr("open", f"mysql://svc:{PASSWORD}@db/x")
    content = bytearray(buffer.getvalue())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(magic) + flags] |= 1
    assert len(details(bytes(content))) == 1


# --- What is in no file ---


@pytest.mark.parametrize(
    "step",
    [
        "RUN |1 TOKEN=SECRET /bin/sh -c make # buildkit",
        "ARG INDEX_PASSWORD=SECRET",
        "ENV DB_PASSWORD=SECRET",
        "RUN /bin/sh -c pip install --index-url https://ci:SECRET@index.test/simple x",
        "RUN /bin/sh -c curl -u bot:SECRET https://git/x",
        "RUN /bin/sh -c echo 'machine git login bot password SECRET' > /root/.netrc",
        "/bin/sh -c #(nop)  ENV API_KEY=SECRET",
    ],
)
def test_step_of_the_history_is_named_by_its_number(step: str) -> None:
    history = ("COPY . .", step.replace("SECRET", PASSWORD))
    found = findings(history=history)
    assert found
    assert all("step 2 of 2" in finding and PASSWORD not in finding for finding in found)


def test_key_in_the_history_is_not_shown() -> None:
    key = _sample(NAMES.index("PKCS#8"), 1)
    token = TOKENS["an Anthropic key"](Maker(random.Random(1)))
    steps = (f"RUN echo '{key.content.decode()}' > /x", f"{token} /bin/sh -c make")
    found = "\n".join(findings(history=steps))
    assert "a private key, in step 1 of 2 (RUN)" in found
    assert "an Anthropic key" in found
    assert token[:12] not in found
    assert key.planted[0] not in found


def test_variables_labels_and_commands() -> None:
    address = f"postgresql://svc:{PASSWORD}@db/x"
    config = {
        "Env": [f"DB_PASSWORD={PASSWORD}", f"STORE={address}", "OTHER_PASSWORD_FILE=/run/x"],
        "Labels": {"note": f"see {address}"},
        "Entrypoint": ["server", address],
        "Cmd": ["--password", PASSWORD],
        "Healthcheck": {"Test": ["CMD", "curl", "-u", f"bot:{PASSWORD}", "http://localhost"]},
    }
    found = findings(config=config)
    assert {finding.partition(":")[0] for finding in found} == {
        "the variable DB_PASSWORD",
        "the variable STORE",
        "the label note",
        "Entrypoint",
        "Cmd",
        "Healthcheck",
    }
    assert PASSWORD not in "".join(found)


def test_text_with_a_secret_is_not_shown() -> None:
    assert secrets.shown("mlflow server --port 5000") == "mlflow server --port 5000"
    assert PASSWORD not in secrets.shown(f"mlflow server mysql://svc:{PASSWORD}@db/x")


def test_every_layer_is_searched() -> None:
    lower = layer(Member("root/x", f"see mysql://svc:{PASSWORD}@db/x".encode()))
    (found,) = findings(lower, layer(Member("root/.wh.x")))
    assert found.startswith("/root/x in layer 1 of 2")


OUTPUT = """
import random, secret_samples
import pytest
from acceptance.test_hardening import test_nothing_is_found
from archives import Member, layer
from test_inspection_secrets import image
from seatrial.stack.image_under_test import ImageConfiguration

SEED = {seed}
def planted():
    return secret_samples.samples(random.Random(SEED))

@pytest.fixture
def layers(promised):
    texts = [sample.content.decode() for sample in planted() if sample.name in {texts}]
    config = {{"Env": ["A=" + text for text in texts], "Labels": {{"a": texts[0]}}}}
    members = (Member(f"opt/{{n}}", each.content) for n, each in enumerate(planted()))
    return image(layer(*members), config=config, history=tuple("RUN " + text for text in texts))

class Promise:
    value = "secret"

@pytest.fixture
def promised():
    return Promise()

def made():
    text = planted()[0].content.decode()
    return ImageConfiguration("", (text,), {{"A": text}}, {{"a": text}}, "", ())

def test_configuration():
    configuration = made()
    environment, labels = configuration.environment, configuration.labels
    assert labels.get("b")
"""


def test_no_output_of_a_failing_test_shows_what_was_found(tmp_path: Path) -> None:
    """It is pytest that prints locals, arguments and both sides of an assertion."""
    texts = list(TEXTS)
    (tmp_path / "test_output.py").write_text(OUTPUT.format(seed=7, texts=texts), encoding="utf-8")
    report = tmp_path / "junit.xml"
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")))
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:seatrial.trial.plugin", "-vv", "-l"),
            *("--tb=long", "-rA", f"--rootdir={tmp_path}", "-c", os.devnull, "-o"),
            *("markers=promise", f"--junitxml={report}", tmp_path / "test_output.py"),
        ],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    output = ended.stdout + ended.stderr + report.read_text(encoding="utf-8")
    assert "2 failed" in output, output
    samples = secret_samples.samples(random.Random(7))
    counted = re.search(r"hold (\d+) of what the contract says they lack", output)
    assert counted
    assert int(counted[1]) >= len(samples)
    planted = [value for sample in samples for value in sample.planted]
    assert len(planted) > 14
    assert [value for value in planted if value in output or value[3:20] in output] == []


@given(value=st.binary(max_size=300))
def test_any_value_is_judged(value: bytes) -> None:
    assert stand_ins.looks_generated(value) <= (not stand_ins.is_example(value))
