"""The entry point: what keeps secrets out of the process list and out of the log."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
from addresses import MARK, addresses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.utils.uri import extract_db_type_from_uri
from mlflow_entrypoint import databases, known, secrecy, secret_files
from mlflow_entrypoint.addresses import shown
from mlflow_entrypoint.databases import Database
from mlflow_entrypoint.errors import EntrypointError
from mlflow_entrypoint.secrecy import KnownSecrets
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

URL = "postgresql+psycopg2://mlflow:s3cret@postgres:5432/mlflowdb"
MANY = 10_000


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> KnownSecrets:
    """No secrets are known yet."""
    secrets = KnownSecrets()
    for module in (secrecy, databases):
        monkeypatch.setattr(module, "KNOWN", secrets)
    return secrets


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (URL, "postgresql+psycopg2://mlflow:***@postgres:5432/mlflowdb"),
        ("mysql://u:p/w:r?d#x@db/x", "mysql://u:***@db/x"),
        ("mysql://me@azure:secret@db/x", "mysql://me%40azure:***@db/x"),
        ("mysql://u:p@ss@db/x", "mysql://***"),
        ("mysql://u/x:secret@db/x", "mysql://***"),
        ("postgresql://u:secret@db:port/x", "postgresql://***"),
        ("postgresql://u:secret@h1:1,h2:2/x", "postgresql://***"),
        ("postgresql://u:secret@[::1]:5432/x", "postgresql://u:***@[::1]:5432/x"),
        ("postgresql://u:@db/x", "postgresql://u:***@db/x"),
        ("postgresql://u@db/x", "postgresql://u@db/x"),
        ("postgresql://db/x?user=u&password=p", "postgresql://db/x?***"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dsecret", "mssql+pyodbc:///?***"),
        ("'postgresql://u:secret@db/x'", "postgresql://***"),
        ("u:secret@db/x", "***"),
        ("sqlite:////data/a@b.db", "sqlite:////data/a@b.db"),
        ("redis://:secret@cache:6379", "redis://:***@cache:6379"),
    ],
)
def test_what_is_shown_of_an_address(address: str, expected: str) -> None:
    assert shown(address) == expected


WORDS = ["server", "--backend-store-uri", URL, f"--registry-store-uri={URL}", "--port", "80"]


@pytest.mark.parametrize(
    ("words", "visible"),
    [
        (WORDS, ["server", "--backend-store-uri", "--port", "80"]),
        (["--new-passphrase", "word", "--new-passphrase=b", "x"], ["--new-passphrase", "x"]),
        (["--host", "${HOST}", "--port=80"], ["--host", "${HOST}", "--port=80"]),
        (["${A:-mysql://u:p@h/d}"], []),
        (["--uvicorn-opts", "--ssl-keyfile-password s3cret"], ["--uvicorn-opts"]),
        (["--allowed-hosts", "mlflow:*,localhost:*"], ["--allowed-hosts", "mlflow:*,localhost:*"]),
        (
            ["--artifacts-destination", "s3://bucket/x"],
            ["--artifacts-destination", "s3://bucket/x"],
        ),
        (["run", "-P", "password=x", "u:p@h/d"], ["run", "-P"]),
        (["--config", '{"key": "x"}', "mysql://user:secret"], ["--config"]),
    ],
)
def test_arguments_that_are_hidden_come_back(words: list[str], visible: list[str]) -> None:
    hidden, environment = secrecy.hide(words, {"HOST": "::"})
    assert [word for word, was in zip(hidden, words, strict=True) if word == was] == visible
    assert secrecy.hide(hidden, environment) == (hidden, environment)
    assert secrecy.reveal(hidden, environment) == words
    assert environment == {"HOST": "::"}


def test_secrets_of_variables() -> None:
    found = known.in_variables(
        {
            "AWS_SECRET_ACCESS_KEY": "key",
            "AWS_ACCESS_KEY_ID": "id",
            "BACKEND_STORE_URI": URL,
            "MLFLOW_REGISTRY_STORE_URI": "u:forgotten@db/x",
            "HTTPS_PROXY": "http://u:p%40ss@proxy:3128",
            "PIP_EXTRA_INDEX_URL": "https://a-token@index/x https://u:other@index/y",
            "AZURE_STORAGE_CONNECTION_STRING": "AccountName=x;AccountKey=abc+/==;Suffix=y",
            "OPENAI_API_KEY": "sk-12345678",
            "MLFLOW_ENABLE_SECRETS": "true",
            "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
            "ARTIFACT_ROOT": "s3://bucket/me@example.org/x",
        }
    )
    assert found - {""} == {
        *("key", "s3cret", "forgotten", "p%40ss", "p@ss", "a-token", "other", "abc+/=="),
        *("AccountName=x;AccountKey=abc+/==;Suffix=y", "sk-12345678"),
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("password=a%20b", {"a%20b", "a b"}),
        ("pass%77ord=x", {"x"}),
        ("sslkey=/etc/key.pem&sslmode=require&keepalives=1", set()),
        ("odbc_connect=UID%3Dme%3BPWD%3D%7Ba%3Bb%7D%7Dc%7D", {"a;b}c"}),
        ("dsn=host%3Dx+password%3D%27a+%5C%27b%27+user%3Du", {"a 'b"}),
        ("dsn=password%3Dab+host%3Dx", {"ab"}),
    ],
)
def test_secrets_of_a_query(query: str, expected: set[str]) -> None:
    found = known.in_arguments([f"postgresql://db/x?{query}"])
    assert expected <= found
    assert expected or not found


def test_secrets_of_a_command() -> None:
    words = ["server", "--backend-store-uri", "u:forgotten@db/x", "--secrets-cache-ttl", "60"]
    words += ["--uvicorn-opts", "--ssl-keyfile-password 's3 cret' --http h11", "--x-token=abc"]
    assert known.in_arguments(words) == {"forgotten", "s3 cret", "abc"}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("say a-long-password!", "say ***!"),
        ("xa-long-passwordx", "x***x"),
        ("user 'short' short.", "user '***' short."),
        ("shorter /a/short/path short-cut", "shorter /a/short/path short-cut"),
        (f"of another: {URL}", f"of another: {shown(URL)}"),
        ("https://example.org:8080/a@b", "https://example.org:8080/a@b"),
        ("mail me@example.org: now", "mail me@example.org: now"),
        ("say one-two-three-four.", "say ***."),
    ],
)
def test_masking(fresh: KnownSecrets, text: str, masked: str) -> None:
    fresh.learn(["a-long-password", "short", "one-two-three", "two-three-four", ""])
    assert fresh.mask(text) == masked


def test_masked_stream(fresh: KnownSecrets, capfd: pytest.CaptureFixture[str]) -> None:
    assert sys.__stderr__ is not None
    stream = secrecy.MaskedStream(sys.__stderr__)
    fresh.learn(["a-long-password"])
    assert stream.write("a-long-password\n") == 16
    assert capfd.readouterr().err == "***\n"
    stream.detach()


def _failure(call: Callable[[str], object], text: str) -> str:
    try:
        return repr(call(text))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is printed
        return "".join(traceback.format_exception_only(error))


def _messages(text: str) -> Iterator[str]:
    """What SQLAlchemy, its dialects, drivers and MLflow may print of an address."""
    yield from (text, repr(text), ascii(text), json.dumps(text), text.replace("%", "%%"))
    yield unquote(text)
    for call in (make_url, create_engine, extract_db_type_from_uri, urlsplit):
        yield _failure(call, text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        return
    yield f"{url!r} {url} {url.render_as_string(hide_password=False)}"
    yield f"{dict(url.query)} {url.translate_connect_args()} {tuple(url)!r}"
    yield f'could not translate host name "{url.host}" to address'
    yield f'FATAL: database "{url.database}" does not exist'
    yield _failure(lambda _: url.get_dialect()().create_connect_args(url), text)


WAYS = {
    "an option": lambda address: known.in_arguments(["--backend-store-uri", address]),
    "an argument": lambda address: known.in_arguments(["db", "upgrade", f"--url={address}"]),
    "a variable": lambda address: known.in_variables({"BACKEND_STORE_URI": address}),
}


@pytest.mark.filterwarnings("ignore:No driver name specified")
@given(addresses(), st.sampled_from(list(WAYS)))
@settings(
    max_examples=MANY, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_generated_addresses_leak_nothing(address: str, way: str) -> None:
    """Neither as arguments, nor in this program's messages, nor in those of others."""
    for words in (["server", "--backend-store-uri", address], ["db", address], [f"--x={address}"]):
        hidden, _ = secrecy.hide(words, {})
        assert MARK not in " ".join(hidden)
    assert MARK not in shown(address)
    secrets = KnownSecrets()
    secrets.learn(WAYS[way](address))
    for message in _messages(address):
        assert MARK not in secrets.mask(message)


@pytest.mark.filterwarnings("ignore:'passwd' is deprecated")
@given(addresses())
@settings(max_examples=300, deadline=None)
def test_databases_that_can_not_be_reached_leak_nothing(address: str) -> None:
    """By way of the drivers that are here, to a port at which nobody listens."""
    local = re.sub(r"@[^@/?]*(?=[/?]|$)", "@127.0.0.1:1", address)
    with pytest.raises(EntrypointError) as failure:
        databases.connect(Database(local, ()), {}, time.monotonic(), 0)
    assert MARK not in secrecy.KNOWN.mask(str(failure.value))


def test_secret_files(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("two\nlines\n\n")
    environment = {
        "AWS_SECRET_ACCESS_KEY_FILE": str(file),
        "SSL_CERT_FILE": "/etc/ssl/cert.pem",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
        "BACKEND_STORE_URI_FILE": "",
    }
    secret_files.load(environment)
    assert environment["AWS_SECRET_ACCESS_KEY"] == "two\nlines\n"
    assert environment["SSL_CERT_FILE"] == "/etc/ssl/cert.pem"
    assert environment["AWS_WEB_IDENTITY_TOKEN_FILE"] == "/nowhere"
    assert "AWS_SECRET_ACCESS_KEY_FILE" not in environment
    assert "AWS_WEB_IDENTITY_TOKEN" not in environment


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"word", "word"),
        (b"word\n", "word"),
        (b"word\r\n", "word"),
        (b"word \n", "word "),
        (b"\xef\xbb\xbfword\r\n", "word"),
        ("ä漢🔑\n".encode(), "ä漢🔑"),
        (b"x" * secret_files.LIMIT, "x" * secret_files.LIMIT),
    ],
)
def test_text_of_a_secret_file(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    environment = {"BACKEND_STORE_URI_FILE": str(tmp_path / "secret")}
    secret_files.load(environment)
    assert environment == {"BACKEND_STORE_URI": value}


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _: None, "can't be read: No such file"),
        (lambda path: path.mkdir(), "can't be read: it is a directory, not a regular file"),
        (os.mkfifo, "can't be read: it is a FIFO, not a regular file"),
        (_socket, "can't be read: No such device"),
        (lambda path: path.symlink_to("/dev/zero"), "can't be read: it is a device"),
        (lambda path: path.symlink_to("/dev/stdin"), "can't be read: it is a"),
        (lambda path: path.symlink_to(path), "can't be read: Too many levels"),
        (_sparse, "has more than 65536 bytes"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"\r\n"), "is empty"),
        (lambda path: path.write_bytes(b"postgresql://u:\0@h/d"), "has a NUL byte in it"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not text in UTF-8"),
        (lambda path: path.write_bytes(b"p\xe4ss"), "is not text in UTF-8"),
    ],
)
def test_secret_files_that_hold_none(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "secret"
    make(path)
    with pytest.raises(EntrypointError, match=f"BACKEND_STORE_URI_FILE names {path}, .*{reason}"):
        secret_files.load({"BACKEND_STORE_URI_FILE": str(path)})


def test_secret_by_value_and_by_file() -> None:
    with pytest.raises(EntrypointError, match="are both set"):
        secret_files.load({"BACKEND_STORE_URI": URL, "BACKEND_STORE_URI_FILE": "x"})
