"""Files with secrets, generated: no two runs plant the same ones.

Each sample is one form of a secret, in a file whose name says nothing about it. Prefixes of tokens
are put together here, so that no search for secrets stumbles over this file.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import sqlite3
import string
import tempfile
import urllib.parse
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archives import Member, archive
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

ALPHANUMERIC = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"
URL_SAFE = ALPHANUMERIC + "-_"
MARK = "SECRET"


@dataclass(frozen=True)
class Sample:
    """A file with one secret."""

    name: str
    content: bytes
    planted: tuple[str, ...]
    """The secret, in each spelling that an output could show."""
    form: str
    """Part of what a finding calls it."""


class Maker:
    """Makes secrets from a source of random numbers."""

    def __init__(self, source: random.Random) -> None:
        self.source = source

    def text(self, alphabet: str, length: int) -> str:
        """A text with small letters, capitals and digits, where the alphabet has them."""
        kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
        letters = [self.source.choice(kind) for kind in kinds if set(kind) <= set(alphabet)]
        letters += [self.source.choice(alphabet) for _ in range(length - len(letters))]
        self.source.shuffle(letters)
        return "".join(letters)

    def password(self) -> str:
        """A password as a generator makes it: kinds of letters alternate."""
        pairs = (self.source.choice(string.ascii_letters) for _ in range(8))
        return "".join(f"{letter}{self.source.choice(string.digits)}" for letter in pairs)

    def encoded(self, length: int) -> str:
        """Random bytes in base64."""
        return base64.b64encode(self.source.randbytes(length)).decode()

    def basic(self) -> str:
        """A user's name and password, in base64."""
        return base64.b64encode(f"bot:{self.password()}".encode()).decode()

    def quoted(self, length: int) -> str:
        """Random bytes in base64, as an address has them."""
        return urllib.parse.quote(self.encoded(length), safe="")

    def web_token(self) -> str:
        """A JSON Web Token."""
        parts = ('{"alg":"HS256","typ":"JWT"}', json.dumps({"sub": self.password()}))
        texts = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts]
        return ".".join((*texts, self.text(URL_SAFE, 43)))

    def elliptic_key(self) -> ec.EllipticCurvePrivateKey:
        """A private key."""
        return ec.derive_private_key(self.source.getrandbits(240) + 1, ec.SECP256R1())


TOKENS: dict[str, Callable[[Maker], str]] = {
    "an AWS access key": lambda make: "AK" + "IA" + make.text(UPPER, 16),
    "a GitHub token": lambda make: "gh" + "p_" + make.text(ALPHANUMERIC, 36),
    "a GitLab token": lambda make: "gl" + "pat-" + make.text(ALPHANUMERIC, 20),
    "a Slack token": lambda make: (
        "xo" + f"xb-{make.text(string.digits, 12)}-{make.text(ALPHANUMERIC, 24)}"
    ),
    "a Slack webhook": lambda make: (
        "https://hooks.slack" + ".com/services/T"
        f"{make.text(UPPER, 10)}/B{make.text(UPPER, 10)}/{make.text(ALPHANUMERIC, 24)}"
    ),
    "a Google API key": lambda make: "AI" + "za" + make.text(ALPHANUMERIC, 35),
    "a Google client secret": lambda make: "GOC" + "SPX-" + make.text(ALPHANUMERIC, 28),
    "a Stripe key": lambda make: "sk" + "_live_" + make.text(ALPHANUMERIC, 24),
    "a token for a Python package index": lambda make: (
        "pypi-" + "AgEIcHlwaS5vcmc" + make.text(URL_SAFE, 80)
    ),
    "an npm token": lambda make: "np" + "m_" + make.text(ALPHANUMERIC, 36),
    "a Hugging Face token": lambda make: "h" + "f_" + make.text(string.ascii_letters, 34),
    "an OpenAI key": lambda make: (
        "sk-" + f"proj-{make.text(ALPHANUMERIC, 74)}" + "T3Blbk" + f"FJ{make.text(URL_SAFE, 74)}"
    ),
    "an Anthropic key": lambda make: "sk-" + "ant-api03-" + make.text(URL_SAFE, 93) + "AA",
    "a Databricks token": lambda make: "da" + "pi" + make.text(HEX, 32),
    "a SendGrid key": lambda make: (
        "S" + f"G.{make.text(ALPHANUMERIC, 22)}.{make.text(ALPHANUMERIC, 43)}"
    ),
    "a Docker Hub token": lambda make: "dckr" + "_pat_" + make.text(URL_SAFE, 27),
    "a Vault token": lambda make: "hv" + "s." + make.text(URL_SAFE, 90),
    "a Grafana token": lambda make: "gl" + "sa_" + make.text(ALPHANUMERIC, 32) + "_0a1b2c3d",
    "a JSON Web Token": lambda make: make.web_token(),
}
ANY = Maker.password
AWS_SECRET: Callable[[Maker], str] = lambda make: make.encoded(30)  # noqa: E731 - a table's entry
TEXTS: dict[str, tuple[str, str, Callable[[Maker], str]]] = {
    "address in Python": ("address", 'e = make("postgresql+psycopg2://svc:SECRET@db/x")', ANY),
    "address of a broker": ("address", "broker=amqps://svc:SECRET@rabbit.corp.internal/v", ANY),
    "address without a user": ("address", "cache: rediss://:SECRET@cache.corp.internal/0", ANY),
    "address in XML": ("address", "<u>mongodb+srv://a:SECRET@c0.corp.net/x?w=1&amp;r=2</u>", ANY),
    "address of the driver Java": ("password", "jdbc:mysql://db/x?user=svc&password=SECRET", ANY),
    "address in properties": ("address", "u=jdbc\\:postgresql\\://svc\\:SECRET@db/x", ANY),
    "address in JSON": ("address", '{"u": "https:\\/\\/svc:SECRET@git.corp.internal\\/r"}', ANY),
    "address in escaped JSON": ("address", '{"u": "https://svc:SECRET\\u0040git/r"}', ANY),
    "address in a query": ("address", "to=postgresql%3A%2F%2Fsvc%3ASECRET%40db%2Fx", ANY),
    "address in a Dockerfile": ("address", "FROM x\nRUN git clone https://b:SECRET@git/r", ANY),
    "address in a notebook": (
        "address",
        '{"cells": [{"source": ["import x\\n", "u = \\"mysql://svc:SECRET@db/x\\"\\n"]}]}',
        ANY,
    ),
    "token in a notebook": (
        "GitHub",
        '{"o": [{"text": "a\\nSECRET\\n"}]}',
        TOKENS["a GitHub token"],
    ),
    "key of an Azure account": (
        "Azure",
        "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=SECRET;EndpointSuffix=y",
        lambda make: make.encoded(64),
    ),
    "key of a service bus": (
        "Azure",
        "Endpoint=sb://x/;SharedAccessKeyName=Root;SharedAccessKey=SECRET",
        lambda make: make.encoded(32),
    ),
    "signature of Azure": (
        "signature",
        "https://x.blob.core.windows.net/c?sv=2024-11-04&sp=r&sig=SECRET",
        lambda make: make.quoted(32),
    ),
    "signature of S3": (
        "signature",
        "https://b.s3.amazonaws.com/k?X-Amz-Expires=604800&X-Amz-Signature=SECRET",
        lambda make: make.text(HEX, 64),
    ),
    "signature of Google": (
        "signature",
        "https://storage.googleapis.com/b/k?X-Goog-Signature=SECRET",
        lambda make: make.text(HEX, 512),
    ),
    "SQL Server's string": ("password", '"Server=tcp:db;User ID=svc;Password=SECRET;"', ANY),
    "PostgreSQL's string": ("password", 'dsn = "host=db user=svc password=SECRET"', ANY),
    "AWS credentials": ("AWS", "[default]\naws_secret_access_key = SECRET", AWS_SECRET),
    "AWS secret in JSON": ("AWS", '{"SecretAccessKey": "SECRET"}', AWS_SECRET),
    "AWS secret in Python": ("AWS", 'client("s3", aws_secret_access_key="SECRET")', AWS_SECRET),
    "Google's user": ("token", '{"refresh_token": "1//0SECRET", "type": "user"}', ANY),
    "pip.conf": ("address", "[global]\nindex-url = https://ci:SECRET@index.test/simple", ANY),
    "uv.toml": ("address", '[[index]]\nurl = "https://ci:SECRET@index.test/simple"', ANY),
    "pypirc": ("password", "[corp]\nrepository = https://x\nusername = ci\npassword = SECRET", ANY),
    "netrc": ("netrc", "machine git.corp.internal login bot password SECRET", ANY),
    "netrc in lines": ("netrc", "machine git\n  login bot\n  password SECRET", ANY),
    "npmrc": ("npm", "//npm/:_authToken=SECRET", lambda make: make.text(HEX, 40)),
    "npmrc with a password": ("npm", "//npm/:_password=SECRET", lambda make: make.encoded(15)),
    "git-credentials": ("address", "https://bot:SECRET@git.corp.internal", ANY),
    "git's config": ("address", '[remote "o"]\n\turl = https://bot:SECRET@git/r.git', ANY),
    "git's header": ("Authorization", "\textraheader = AUTHORIZATION: basic SECRET", Maker.basic),
    "bearer of curl": (
        "Authorization",
        "curl -H 'Authorization: Bearer SECRET' https://api",
        lambda make: make.text(ALPHANUMERIC, 40),
    ),
    "docker's config": ("registry", '{"auths": {"r": {\n "auth": "SECRET"}}}', Maker.basic),
    "docker's token": ("registry", '{"auths": {"r": {"identitytoken": "SECRET"}}}', ANY),
    "kubeconfig": ("token", "users:\n- name: a\n  user:\n    token: SECRET", ANY),
    "pgpass": ("pgpass", "# mine\ndb.corp.internal:5432:mlflow:svc:SECRET", ANY),
    "my.cnf": ("password", "[client]\nuser=svc\npassword=SECRET", ANY),
    "Maven's settings": ("password", "<server><id>x</id>\n<password>SECRET</password>", ANY),
    "password in XML": ("password", '<property name="password" value="SECRET"/>', ANY),
    "password in YAML": ("password", "database:\n  user: svc\n  password: SECRET", ANY),
    "password in JSON": ("password", '{"user": "svc", "dbPassword": "SECRET"}', ANY),
    "password in Python": ("password", "DB_PASSWORD = 'SECRET'", ANY),
    "password in a pod": ("password", "env:\n- name: DB_PASSWORD\n  value: SECRET\nx y", ANY),
    "password in a task": ("password", '[{"name": "DB_PASSWORD", "value": "SECRET"}]', ANY),
    "password as an argument": ("password", "define('DB_PASSWORD', 'SECRET');", ANY),
    "password in a Dockerfile": ("password", "FROM x\nENV DB_PASSWORD SECRET\nRUN y z", ANY),
    "password in a notebook": (
        "password",
        '{"source": ["import os\\n", "os.environ[\\"DB_PASSWORD\\"] = \\"SECRET\\"\\n"]}',
        ANY,
    ),
    "pass": ("pass", "import this\nSMTP_PASS=SECRET", ANY),
    "password in an environment": ("password", "export PGPASSWORD=SECRET", ANY),
    "history of mysql": ("command", "ls -l\nmysql -h db -u svc -pSECRET x", ANY),
    "history of curl": ("command", ": 1700000000:0;curl -u bot:SECRET https://git/r", ANY),
    "history of sshpass": ("command", "sshpass -p SECRET ssh bot@db", ANY),
    "history of docker": ("password", "docker login --username ci --password SECRET r", ANY),
    "history of docker's short option": ("command", "docker login -u ci -p SECRET r", ANY),
    "history of psql": ("password", "cd /srv\nPGPASSWORD=SECRET psql -h db", ANY),
    "hash of a password": (
        "hash",
        "root:$6$SECRET:19000:0:99999:7:::",
        lambda make: f"salt${make.text(ALPHANUMERIC, 86)}",
    ),
}
"""Samples by name: what a finding calls it, a text, and what stands in it for SECRET."""


def samples(source: random.Random) -> list[Sample]:
    """Make one sample of each form."""
    make = Maker(source)
    return [*_tokens(make), *_texts(make), *_encodings(make), *_keys(make), *_containers(make)]


def _tokens(make: Maker) -> Iterator[Sample]:
    for form, token in TOKENS.items():
        secret = token(make)
        yield Sample(form, f'x = "{secret}"\n'.encode(), (secret,), form)


def _texts(make: Maker) -> Iterator[Sample]:
    for name, (form, text, secret_of) in TEXTS.items():
        secret = secret_of(make)
        yield Sample(name, f"{text}\n".replace(MARK, secret).encode(), (secret,), form)


def _encodings(make: Maker) -> Iterator[Sample]:
    password = f"{make.password()}/@"
    quoted = urllib.parse.quote(password, safe="")
    text = f"mysql://svc:{quoted}@db.corp.internal/x\n"
    yield Sample("password with signs", text.encode(), (password, quoted), "address")
    for encoding in ("utf-16-le", "utf-16-be"):
        for mark in ("", "\ufeff"):
            password = make.password()
            content = f"{mark}url = postgresql://svc:{password}@db/x\r\n".encode(encoding)
            yield Sample(f"{encoding}{' marked' * bool(mark)}", content, (password,), "address")


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, form: PrivateFormat) -> str:
    nothing = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, nothing).decode()


def _keys(make: Maker) -> Iterator[Sample]:
    key = make.elliptic_key()
    rsa_key = rsa.generate_private_key(65537, 1024)
    ssh = ed25519.Ed25519PrivateKey.from_private_bytes(make.source.randbytes(32))
    locked = serialization.BestAvailableEncryption(b"z")
    pem, traditional = serialization.Encoding.PEM, PrivateFormat.TraditionalOpenSSL
    texts = {
        "PKCS#8": _pem(key, PrivateFormat.PKCS8),
        "SEC 1": _pem(key, traditional),
        "PKCS#1": _pem(rsa_key, traditional),
        "OpenSSH": ssh.private_bytes(
            pem, PrivateFormat.OpenSSH, serialization.NoEncryption()
        ).decode(),
        "encrypted PKCS#8": key.private_bytes(pem, PrivateFormat.PKCS8, locked).decode(),
        "encrypted PKCS#1": rsa_key.private_bytes(pem, traditional, locked).decode(),
    }
    for name, text in texts.items():
        yield Sample(name, text.encode(), (text.split("\n")[-3],), "a private key")
    account = json.dumps({"type": "service_account", "private_key": texts["PKCS#8"]})
    line = texts["PKCS#8"].split("\n")[1]
    yield Sample("Google's service account", account.encode(), (line,), "a private key")
    data = base64.b64encode(texts["PKCS#8"].encode()).decode()
    config = f"users:\n- user:\n    client-key-data: {data}\n"
    yield Sample("key in a kubeconfig", config.encode(), (data,), "a private key in base64")
    block = make.encoded(48)
    text = f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n{block}\n{block}\n"
    yield Sample("PGP", text.encode(), (block,), "a private key")
    text = (
        f"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPublic-Lines: 1\n{block}\n"
        f"Private-Lines: 1\n{block}\n"
    )
    yield Sample("PuTTY", text.encode(), (block,), "a PuTTY private key")
    store = pkcs12.serialize_key_and_certificates(b"x", key, None, None, locked)
    yield Sample("PKCS#12", store, (), "PKCS#12")
    store = b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\x04mine" + make.source.randbytes(200)
    yield Sample("Java key store", store, (), "Java key store")
    encoded = rsa_key.private_bytes(
        serialization.Encoding.DER, PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    yield Sample("DER", encoded, (), "DER")


def _containers(make: Maker) -> Iterator[Sample]:
    def address() -> tuple[str, bytes]:
        password = make.password()
        return password, f'url = "postgresql://svc:{password}@db.corp.internal/x"\n'.encode()

    packers: dict[str, Callable[[bytes], bytes]] = {
        "zip archive": lambda content: packed_zip({"a/settings.py": content}),
        "tar archive": lambda content: packed_tar({"a/settings.py": content}),
        "compressed tar archive": lambda content: gzip.compress(packed_tar({"a.py": content})),
        "compressed file": gzip.compress,
        "object of git": lambda content: zlib.compress(b"blob 99\0" + content),
    }
    for name, pack in packers.items():
        password, content = address()
        yield Sample(name, pack(content), (password,), "address")
    token = TOKENS["a Hugging Face token"](make)
    wheel = packed_zip({"x.py": f'T = "{token}"\n'.encode()})
    nested = packed_zip({"x.tar": packed_tar({"y-1-py3-none-any.whl": wheel})})
    yield Sample("wheel in a tar archive in a zip archive", nested, (token,), "Hugging Face")
    token = TOKENS["a GitLab token"](make)
    yield Sample("database of SQLite", _sqlite(token), (token,), "GitLab")
    token = TOKENS["an Anthropic key"](make)
    binary = b"\xcb\r\r\n\0\0\0\0\xda\x03KEY\xfa\x6c" + token.encode() + b"\xe9\0\0"
    yield Sample("bytecode", binary, (token,), "Anthropic")


def packed_zip(files: dict[str, bytes]) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return buffer.getvalue()


def packed_tar(files: dict[str, bytes]) -> bytes:
    """A tar archive."""
    return archive(*(Member(name, content) for name, content in files.items()))


def _sqlite(value: str) -> bytes:
    """A database that keeps the value behind another text, with nothing in between."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.db")
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE settings (name TEXT, value TEXT)")
        connection.execute("INSERT INTO settings VALUES (?, ?)", ("gitlab", value))
        connection.commit()
        connection.close()
        return path.read_bytes()
