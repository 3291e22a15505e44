"""Answer a registry's challenge, with the credentials that `docker login` has kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import requests
from docker.auth import load_config
from docker.errors import DockerException
from requests.utils import parse_dict_header
from urllib3.exceptions import HTTPError

from seatrial.errors import UserError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_TOKENS = {"docker.io": "auth.docker.io"}
"""Registries that have a domain beside their own give tokens."""
_SECONDS = 30
_LARGEST_TOKEN = 1 << 20
"""Bytes of an answer with a token."""


def parts(url: str) -> SplitResult:
    """Take an address apart that a registry has named.

    Raises:
        UserError: it is none.
    """
    try:
        return urlsplit(url)
    except ValueError:
        raise UserError(f"{printable(url)[:100]}: no address, and a registry names it") from None


def is_loopback(url: str) -> bool:
    """Tell whether an address is of this machine."""
    return parts(url).hostname in LOOPBACK


def header(challenge: str, host: str, repository: str, actions: str) -> str:
    """Give the value of `Authorization` that answers a challenge.

    Args:
        challenge: the value of `WWW-Authenticate`.
        host: of the registry.
        repository: what is asked for.
        actions: what is to be done there, such as `pull,push`.

    Raises:
        UserError: no credentials are kept, they are refused, or the registry would have them sent
            to somebody else.

    Source:
        The token authentication of the distribution project.
    """
    scheme, _, rest = challenge.partition(" ")
    credentials = _credentials(host)
    if scheme.lower() == "basic":
        if credentials is None:
            raise UserError(f"{host} wants a password: run `docker login {host}`")
        return str(
            requests.Request(auth=credentials, url="http://x").prepare().headers["Authorization"]
        )
    parameters: Mapping[str, str | None] = parse_dict_header(rest)  # type: ignore[no-untyped-call]
    realm = parameters.get("realm") or ""
    if scheme.lower() != "bearer" or not realm:
        raise UserError(f"{host} asks for an unknown authentication: {printable(challenge)[:100]}")
    _require_own(realm, host)
    asked = {
        "service": parameters.get("service") or "",
        "scope": f"repository:{repository}:{actions}",
    }
    try:
        answer = requests.get(
            realm,
            params=asked,
            auth=credentials,
            timeout=_SECONDS,
            allow_redirects=False,
            stream=True,
        )
        body = answer.raw.read(_LARGEST_TOKEN, decode_content=True)
    except (requests.RequestException, HTTPError, ValueError) as error:
        raise UserError(
            f"{host} names {printable(realm)} for its passwords, which does not answer"
        ) from error
    if not answer.ok:
        raise UserError(f"{host} refuses the password or the access: run `docker login {host}`")
    try:
        found = json.loads(body)
        return f"Bearer {found.get('token') or found['access_token']}"
    except (ValueError, KeyError, AttributeError):
        raise UserError(f"{host}: {printable(realm)} gave no token") from None


def _credentials(host: str) -> tuple[str, str] | None:
    try:
        kept = load_config().resolve_authconfig(host) or {}
    except DockerException as error:
        raise UserError(
            f"the credentials for {host} can't be read: {printable(str(error))}"
        ) from error
    name = kept.get("Username") or kept.get("username")
    password = kept.get("Password") or kept.get("password")
    return (name, password) if name and password else None


def _require_own(realm: str, host: str) -> None:
    """Refuse to send a password to somebody else than the registry, or unencrypted.

    Registries name themselves, or the domain that they are of: registry.gitlab.com, gitlab.com.
    """
    there = parts(realm)
    name, own = there.hostname or "", urlsplit(f"//{host}").hostname or ""
    if is_loopback(realm) and own in LOOPBACK:
        return
    related = name == own or (own.endswith(f".{name}") and "." in name) or _TOKENS.get(own) == name
    if there.scheme != "https" or not related:
        raise UserError(f"{host} names {printable(realm)} for its passwords: nothing is sent there")
