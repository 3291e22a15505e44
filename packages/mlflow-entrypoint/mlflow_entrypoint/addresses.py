"""Addresses with passwords in them: what may be shown of one, and what must not be.

SQLAlchemy's own parser takes them apart, since its grammar is the one that counts: `/`, `?`, `#`,
quotes and blanks may stand in a password as they are, and the first `@` ends it. An address that it
can't take apart, or takes apart otherwise than its author meant, is shown as its scheme alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

MASK = "***"
_SCHEME = re.compile(r"(?<![\w+.-])[A-Za-z][\w+.-]*+://")
_LIST_OF_WEB = re.compile(r"\s*https?://[^\s,;]*(?:[\s,;]+https?://[^\s,;]*)+\s*")
"""List of web addresses, as in PIP_EXTRA_INDEX_URL. Addresses of databases come one by one, and
blanks, commas and other schemes may stand in their passwords."""
_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|credential|signature", re.IGNORECASE)
_PATHS = ("sslkey", "ssl_key", "passfile")
"""Parameters whose value is the path of what is secret."""
_STRINGS = ("odbc_connect", "dsn", "conninfo")
"""Parameters that hold a whole connection string."""
_ASSIGNMENT = re.compile(r"([^=;{}]+)=(\{(?:[^}]|\}\})*\}?|[^;]*)")
"""Parameter of a connection string: `PWD=value` or `PWD={value;with}}all}`."""
_LIBPQ_ASSIGNMENT = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s']\S*)")
"""The same as PostgreSQL's library writes it: `password=value` or `password='a value'`."""
_WEB = re.compile(r"https?://[^/@:]*(?::\d+)?(?:[/?#]|$)")
"""An address of the web that names no user."""
_MAY_HOLD_SECRETS = re.compile(r"[@:]")
_DELIMITERS = re.compile(r"[][:@/?#&=]")
_MANY_PIECES = 24


def is_secret_name(name: str) -> bool:
    """Tell whether what is called this, a parameter or a variable, holds a secret."""
    return bool(_SECRET_NAME.search(name))


def shown(address: str) -> str:
    """An address for messages: without its password, and without the values of its query."""
    url = _parse(address)
    if url is None:
        scheme = _SCHEME.search(address)
        return f"{scheme[0] if scheme else ''}{MASK}"
    if _names_a_file(url):
        plain = address.partition("?")[0]
    else:
        plain = url.set(query={}).render_as_string(hide_password=True)
    return f"{plain}?{MASK}" if url.query else plain


def secrets_of(text: str) -> set[str]:
    """Find all secrets of the addresses in `text`, as they stand there and decoded."""
    found: set[str] = set()
    for part in re.split(r"[\s,;]+", text) if _LIST_OF_WEB.fullmatch(text) else [text]:
        for scheme in _SCHEME.finditer(part):
            found |= _of_address(part[scheme.start() :])
    return found


def secrets_of_store(text: str) -> set[str]:
    """The same for what has to be one address, even if its scheme was forgotten."""
    if "://" in text:
        return secrets_of(text) | _of_address(text)
    return set(_pieces(_after_user(text))) if "@" in text else set()


def secrets_of_connection_string(text: str) -> set[str]:
    """The secret values in a connection string of ODBC, Azure or PostgreSQL."""
    found: set[str] = set()
    for name, value in _ASSIGNMENT.findall(text) + _LIBPQ_ASSIGNMENT.findall(text):
        if is_secret_name(name):
            found.add(value)
            if value.startswith("{"):
                found.add(value.strip("{}").replace("}}", "}"))
            elif value.startswith("'"):
                found.add(re.sub(r"\\(.)", r"\1", value[1:-1]))
    return found


def _parse(address: str) -> URL | None:
    """Take an address apart; None where its author meant something else, or it is none.

    A password with a bare `@` in it ends there for SQLAlchemy, and the rest of it is taken for a
    host or a query. A `/` in the user makes everything after it the name of the database. Either
    leaves an `@` behind.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        return None
    rest = address.partition("://")[2]
    if url.password is None:
        left = rest.partition(":")[2] if ":" in rest.partition("/")[0] else rest.partition("/")[2]
    else:
        left = rest.partition(":")[2].partition("@")[2]
    return None if "@" in left and not _names_a_file(url) else url


def _names_a_file(url: URL) -> bool:
    return url.drivername.startswith("sqlite") and not (url.host or url.password)


def _of_address(address: str) -> set[str]:
    rest = address.partition("://")[2]
    found = _of_query(address)
    if _WEB.match(address) or not _MAY_HOLD_SECRETS.search(rest):
        return found
    url = _parse(address)
    if url is None:
        found.update(_pieces(_after_user(rest)))
    elif url.password is not None:
        found.add(str(url.password))
        found.update(_pieces(rest.partition(":")[2].partition("@")[0]))
    elif url.username and url.drivername.startswith("http"):
        # Package indexes and forges take a token in the place of the user.
        found |= {url.username, rest.partition("@")[0]}
    return found


def _of_query(address: str) -> set[str]:
    found: set[str] = set()
    for parameter in re.split(r"[?&]", address)[1:]:
        encoded, _, value = parameter.partition("=")
        name, decoded = unquote_plus(encoded), unquote_plus(value)
        found |= secrets_of_connection_string(decoded)
        if name in _STRINGS or (is_secret_name(name) and name not in _PATHS):
            found |= {value, unquote(value), decoded}
    return found


def _after_user(rest: str) -> str:
    """Find a possible password in an address that can't be taken apart, without its scheme.

    The user in front of the first colon is no secret.
    """
    return (rest.rpartition("@")[0] or rest).partition(":")[2]


def _pieces(secret: str) -> Iterator[str]:
    """Every part of a secret that another parser may take for a host, a path or a query."""
    ends = [match.start() for match in _DELIMITERS.finditer(secret)] + [len(secret)]
    starts = [0] + [end + 1 for end in ends[:-1]]
    for number, start in enumerate(starts):
        for end in ends[number:] if len(ends) <= _MANY_PIECES else (ends[number], ends[-1]):
            yield secret[start:end]
            yield unquote(secret[start:end])
