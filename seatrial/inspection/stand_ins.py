"""Stand-ins: what documentation and templates write where a secret belongs."""

from __future__ import annotations

import itertools
import re
import string
from urllib.parse import unquote_to_bytes

_SYNTAX = re.compile(
    rb"(?is)[$%<{*\[(].*|\\?\$.*|.*(?:\$\{|\{\{|\}\}|<[a-z_ -]+>).*|.*\.\.\..*"
    rb"|true|false|none|null|nil"
    rb"|.*example.*|.*x{6,}.*|[x*.#_-]+|.*redacted.*|.*_file"
)
"""A reference to a value kept elsewhere, a word of the file's own syntax, or characters that hide
the value."""
_PATH = re.compile(
    rb"(?:\.{0,2}|~)/.*|(?:[a-z0-9_.-]+/)+[a-z0-9_.-]*|[a-z][a-z0-9+.-]*://.*", re.DOTALL
)
"""A path, or an address: its own password is another form."""
_WORDS = re.compile(
    rb"(?i)(?:(?:my|your|the|a|an|some|super|top|very|db|database|root|user|admin|proxy|service|test"
    rb"|new|this|is|secure|strong|secret|sample|dummy|fake|mock|invalid|wrong|bad|good)[_. -]?)*"
    rb"(?:pass(?:word|wd|phrase)?|passw0rd|pw|pwd|p|secret|token|key|api[_-]?key|credentials?|tiger"
    rb"|change[_-]?(?:me|it|this)|placeholder|dummy|fake|mock|test(?:ing)?|todo|foo|bar|baz|qux"
    rb"|foobar|user(?:name)?|login|value|string|str|here|abc"
    rb"|123(?:4(?:5(?:6(?:7(?:89?)?)?)?)?)?"
    rb"|anoncvs|anonymous|guest|prefix|scope|host(?:name)?|port|insert|enter|replace|secure|letmein)"
    rb"[_. -]?(?:here|value|me|[0-9]{0,6})"
)
_EXAMPLE_USER = re.compile(rb"(?i)scott|anonymous|ftp|foo(?:\..*)?")
"""Oracle's demonstration user and the tutorials': their passwords are everybody's."""
_FEWEST_CHARACTERS = 8
"""Different ones in a real token: `ghp_xxxxxxxx` in a manual has fewer."""
_PUBLIC = (
    # The account that every Azurite and every Azure storage emulator has.
    b"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq",
    # The manuals of AWS's identity service and of its DataSync, which botocore carries.
    b"aBBKDWQvyuVcTPH9EBp%2FXTI9E%2F%2Fmq171%2BZU178wcwqU%3D",
    b"3s0K_;xh4~8XXI",
    b"h]6EszR}vJ*m",
    # The demonstration server of OpenSSL's own configuration.
    b"pass:insta",
)
"""Published ones, which open nothing."""
_RUNS = (b"0123456", b"1234567", b"abcdefg", b"xxxxxx", b"000000", b"example", b"placeholder")
"""Parts of made-up tokens, in lower case."""
_SHORTEST_PASSWORD = 7
_OF_NAMES = string.ascii_letters.encode() + b"_-. "
_SHORTEST_GENERATED = 12
_SHORTEST_PLAIN = 16
"""Length of a generated value without both cases: shorter ones are names of things."""
_LONGEST = 512
_DOTTED = re.compile(rb"[A-Za-z_]\w*(?:(?:\.|::|->)\w+)+")
"""A name in a program."""
_UUID = re.compile(rb"(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WORD_INSIDE = re.compile(rb"(?i)pass|secret|token|test|\AeyJ")
"""Words in a manual's values; the last one begins JSON in base64, such as a page's number."""
_KINDS = bytes.maketrans(
    string.ascii_lowercase.encode() + string.ascii_uppercase.encode() + string.digits.encode(),
    b"a" * 26 + b"A" * 26 + b"0" * 10,
)
_NO_LETTERS = bytes(sorted(set(range(256)) - set((string.ascii_letters + string.digits).encode())))
_CHANGES = 0.3
_CHANGES_OF_ONE_CASE = 0.2
_CHANGES_IN_PACKAGES = 0.4
"""Shares of neighbours that are of two kinds: small letters, capitals, digits. A generator's choice
has 0.62 with both cases and 0.40 with one; names such as `s3_connection` have 0.1."""


def is_reference(value: bytes) -> bool:
    """Tell if a value of a setting refers to a secret elsewhere, or says that there is none."""
    known = not value or value in _PUBLIC
    return known or any(form.fullmatch(value) for form in (_SYNTAX, _PATH))


def is_example(value: bytes, user: bytes = b"") -> bool:
    """Tell if a password is a manual's: a reference, a word for a password, or the user's name."""
    plain = unquote_to_bytes(value)
    return (
        is_reference(value)
        or is_reference(plain)
        or _WORDS.fullmatch(plain) is not None
        or _EXAMPLE_USER.fullmatch(user) is not None
    )


def is_stand_in_token(token: bytes) -> bool:
    """Tell whether a token of a known form is made up: few characters, a run, or a public one."""
    lowered = token.lower()
    return (
        len(set(token)) < _FEWEST_CHARACTERS
        or any(run in lowered for run in _RUNS)
        or any(public in token for public in _PUBLIC)
    )


def looks_generated(value: bytes, *, in_package: bool = False) -> bool:
    """Tell whether a value looks like a program's choice: mixed, and without order.

    Args:
        value: of a setting.
        in_package: whether it stands where most values are a program's own words.
    """
    if not _SHORTEST_GENERATED <= len(value) <= _LONGEST:
        return False
    if is_example(value) or is_stand_in_token(value) or _DOTTED.fullmatch(value):
        return False
    kinds = value.translate(_KINDS, _NO_LETTERS)
    present = set(kinds)
    if len(present) < 2 or len(kinds) < _SHORTEST_GENERATED or ord("0") not in present:
        return False
    changes = sum(a != b for a, b in itertools.pairwise(kinds)) / (len(kinds) - 1)
    one_case = len(present) == 2
    if one_case and len(kinds) < _SHORTEST_PLAIN:
        return False
    if in_package:
        named = _UUID.fullmatch(value) or _WORD_INSIDE.search(value)
        return changes >= _CHANGES_IN_PACKAGES and not one_case and not named
    return changes >= (_CHANGES_OF_ONE_CASE if one_case else _CHANGES)


def is_mixed(value: bytes) -> bool:
    """Tell whether a value is no name: seven characters or more, letters and digits or signs."""
    others = value.rstrip(b".:!?").translate(None, _OF_NAMES)
    return (
        len(value) >= _SHORTEST_PASSWORD and bool(others) and value.isascii() and b" " not in value
    )
