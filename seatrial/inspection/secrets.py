"""Secrets: in files, in variables, and in the commands that an image was built with.

The forms that are looked for are distinctive: private keys, the tokens of well-known services,
files that hold credentials and nothing else, passwords in addresses and in settings. A word that is
a password in the middle of a program can't be told from any other word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:\s|\\[nr]|[A-Za-z-]+: [^\n]{0,200}\n){1,8}[A-Za-z0-9+/=]{40}"
)
_TOKENS = {
    "an AWS access key": rb"\bA[KS]IA[A-Z0-9]{16}\b",
    "a GitHub token": rb"\bgh[opsur]_[A-Za-z0-9]{36}\b|\bgithub_pat_[A-Za-z0-9_]{60,}\b",
    "a GitLab token": rb"\bglpat-[A-Za-z0-9_-]{20,}",
    "a Slack token": rb"\bxox[abeoprs]-[A-Za-z0-9]+-[A-Za-z0-9-]{10,}",
    "a Google API key": rb"\bAIza[A-Za-z0-9_-]{35}\b",
    "a Stripe key": rb"\b[rs]k_live_[A-Za-z0-9]{20,}\b",
    "a token for a Python package index": rb"\bpypi-AgE[A-Za-z0-9_-]{50,}",
    "an npm token": rb"\bnpm_[A-Za-z0-9]{36}\b",
    "a Hugging Face token": rb"\bhf_[A-Za-z]{34}\b",
    "an OpenAI or Anthropic key": rb"\bsk-(?:proj-|ant-)[A-Za-z0-9_-]{32,}",
    "a Databricks token": rb"\bdapi[0-9a-f]{32}\b",
    "an AWS secret key": (
        rb"(?i:aws_secret_access_key)[\"']?\s{0,4}[:=]\s{0,4}[\"']?[A-Za-z0-9/+]{40}"
        rb"(?![A-Za-z0-9/+=])"
    ),
}
_TOKEN = re.compile(b"|".join(b"(%s)" % pattern for pattern in _TOKENS.values()))
# Measured on 200 MB of text: 2 s for this one, 35 s for the one above.
_TOKEN_HINT = re.compile(
    rb"A[KS]IA[A-Z0-9]{16}|gh[opsur]_[A-Za-z0-9]{36}|github_pat_|glpat-|xox[abeoprs]-|AIza"
    rb"|k_live_|pypi-AgE|npm_[A-Za-z0-9]{36}|hf_[A-Za-z]{34}|sk-proj-|sk-ant-|dapi[0-9a-f]{32}"
    rb"|secret_access_key|SECRET_ACCESS_KEY"
)
_ADDRESS = re.compile(
    rb"\b([a-z][a-z0-9+.-]{1,20})://[^\s/:@\"'<>,]{0,200}:([^\s/@\"'<>,]{1,200})@[\w\[]",
    re.IGNORECASE,
)
_TELLTALE = (
    r"[\w.-]{0,80}(?:password|passwd|passphrase|pwd|secret|token|credential|api[_-]?key"
    r"|access[_-]?key|secret[_-]?key|private[_-]?key|auth[_-]?key)"
)
_NAME = re.compile(_TELLTALE, re.IGNORECASE)
_SETTING = re.compile(
    rf"^[ \t]*(?:export[ \t]+)?[\"']?({_TELLTALE})[\"']?[ \t]*[:=][ \t]*"
    r"[\"']?([^\s\"'#,;]+)".encode(),
    re.IGNORECASE | re.MULTILINE,
)
_ARGUMENT = re.compile(rf"(?<![\w.-])({_TELLTALE})=[\"']?([^\s\"';]+)".encode(), re.IGNORECASE)
_SETTINGS_FILE = re.compile(
    r".*(?:\.(?:env|ini|cfg|toml|ya?ml|json|properties|sh)|/\.env(?:\.[^/]*)?|/\.\w+rc)"
)
# Documentation and test data of packages are full of addresses and settings that are examples.
_OF_PACKAGES = re.compile(
    r".*/(?:site-packages|dist-packages|node_modules)/.*|/(?:usr/)?(?:local/)?(?:lib|share|include)/.*"
)
_CREDENTIAL_FILES = tuple(
    (re.compile(path), re.compile(content))
    for path, content in (
        (r".*/\.git-credentials|.*/git/credentials", rb"://[^\s:/]+:[^\s@]+@"),
        (r".*/[._]netrc", rb"\bpassword\s+\S"),
        (r".*/\.pypirc", rb"(?m)^\s*password\s*[:=]\s*\S"),
        (r".*/\.?npmrc", rb"(?:_authToken|_password|_auth)\s*=\s*[^\s$]"),
        (
            r".*/\.docker/config\.json|.*/containers/auth\.json|.*/\.dockercfg",
            rb"\"(?:auth|identitytoken|registrytoken|password)\"\s*:\s*\"[^\"]+\"",
        ),
        (r".*/\.pgpass", rb"(?m)^[^#\s][^:\n]*(?::[^:\n]*){3}:\S"),
        (r".*/\.my\.cnf", rb"(?m)^\s*password\s*=\s*\S"),
        (r".*/\.kube/config", rb"(?m)^\s*(?:- )?(?:token|client-key-data|password):\s*\S"),
        (r"/etc/g?shadow-?", rb"(?m)^[^:\n]+:!?[^:!*\n]"),
        (r"/etc/apt/auth\.conf(?:\.d/.*)?", rb"\bpassword\s+\S"),
        (r"(?:/var)?/run/secrets/.*|.*/\.vault-token|.*/huggingface/token", rb"\S"),
        (r".*/\.databrickscfg|.*/gh/hosts\.yml", rb"token\s*[:=]\s*\S"),
        (r".*/\.cargo/credentials(?:\.toml)?", rb"token\s*=\s*\S"),
        (
            r".*/application_default_credentials\.json|.*/msal_token_cache\.json",
            rb"\"(?:refresh_token|secret)\"\s*:\s*\"[^\"]",
        ),
        (r".*\.ppk", rb"PuTTY-User-Key-File-"),
    )
)
_STAND_INS = re.compile(
    rb"(?i)[$%<{*].*|true|false|none|null|.*example.*|x+|.*redacted.*|.*(?:_file|/.*)"
)
_MARGIN = 100
"""Bytes around a hint in which the whole token lies."""
_SHOWN = 4
_FEWEST_CHARACTERS = 8
"""Different ones in a real token: `ghp_xxxxxxxx` in a manual has fewer."""


def found_in_file(piece: bytes, path: str, *, binary: bool) -> Iterator[str]:
    """Describe the secrets in a piece of a file.

    Args:
        piece: of the content.
        path: absolute: settings and addresses are examples where packages keep their files.
        binary: whether the file is no text; only private keys are looked for then.
    """
    if b"PRIVATE KEY" in piece and _PRIVATE_KEY.search(piece):
        yield "a private key"
    if binary:
        return
    yield from _tokens(piece)
    for file, credential in _CREDENTIAL_FILES:
        if file.fullmatch(path) and credential.search(piece):
            yield "a file for credentials, with some in it"
    if not _OF_PACKAGES.fullmatch(path) and (
        _SETTINGS_FILE.fullmatch(path) or path.startswith("/etc/")
    ):
        yield from _addresses(piece)
    if not _OF_PACKAGES.fullmatch(path) and _SETTINGS_FILE.fullmatch(path):
        yield from _values(_SETTING, piece)


def found_in_variable(name: str, value: str) -> Iterator[str]:
    """Describe the secrets in a variable or a label of the image."""
    yield from found_in_command(value)
    if _NAME.fullmatch(name) and value and not _STAND_INS.fullmatch(value.encode()):
        yield f"{name} has a value"


def found_in_command(text: str) -> Iterator[str]:
    """Describe the secrets in a command of the image's history, build arguments included."""
    content = text.encode()
    if _PRIVATE_KEY.search(content):
        yield "a private key"
    yield from _tokens(content)
    yield from _addresses(content)
    yield from _values(_ARGUMENT, content)


def _tokens(content: bytes) -> Iterator[str]:
    for hint in _TOKEN_HINT.finditer(content):
        match = _TOKEN.search(content, max(0, hint.start() - _MARGIN), hint.end() + _MARGIN)
        token = match[0] if match else b""
        if match and b"EXAMPLE" not in token and len(set(token)) >= _FEWEST_CHARACTERS:
            yield f"{list(_TOKENS)[(match.lastindex or 1) - 1]}, {_shown(token)}"


def _addresses(content: bytes) -> Iterator[str]:
    for match in _ADDRESS.finditer(content):
        if not _STAND_INS.fullmatch(match[2]):
            yield f"a password in an address that begins with {match[1].decode()}://"


def _values(pattern: re.Pattern[bytes], content: bytes) -> Iterator[str]:
    for match in pattern.finditer(content):
        if not _STAND_INS.fullmatch(match[2]):
            yield f"{match[1].decode(errors='replace')} has a value"


def _shown(token: bytes) -> str:
    """Shorten a secret: enough to find it, too little to use it."""
    return f"{token[:_SHOWN].decode(errors='replace')}…"
