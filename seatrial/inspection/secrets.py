"""Secrets: in files, in variables, and in the commands that an image was built with.

They are known by their form, whatever the file is called: keys, the tokens of well-known services,
passwords in addresses, in settings and in commands. How strict a form is depends on the place: the
documentation and the tests of packages are full of made-up passwords. A description never holds
what was found, nor any part of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import ahocorasick_rs

from seatrial.inspection import key_stores, stand_ins
from seatrial.inspection.secret_forms import FORMS, Form, described

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCHEME = re.compile(rb"(?:[A-Za-z][A-Za-z0-9+.-]{0,20}\\?:)?[A-Za-z][A-Za-z0-9+.-]{0,20}\Z")
_USER = rb"[^\s/:@\"'<>,`\\]{0,200}"
_PASSWORD = rb"[^\s/@\"'<>`\\]{1,200}"
_ADDRESS = re.compile(
    rb"\\?:(?:\\?/){2}(?P<user>"
    + _USER
    + rb")\\?:(?P<secret>"
    + _PASSWORD
    + rb")(?:\\?@|\\u0040|&#64;|&#x40;)[\w\[]"
)
_QUOTED_ADDRESS = re.compile(
    rb"%3[Aa]%2[Ff]%2[Ff](?P<user>[A-Za-z0-9._~+-]{0,200})%3[Aa]"
    rb"(?P<secret>(?:[A-Za-z0-9._~+-]|%(?!40)[0-9A-Fa-f]{2}){1,200})%40[\w%]"
)
_ADDRESSES = {
    b"://": _ADDRESS,
    b"\\://": _ADDRESS,
    b":\\/\\/": _ADDRESS,
    b"%3a%2f%2f": _QUOTED_ADDRESS,
}
_LONGEST_SCHEME = 50
_WITHOUT_PASSWORDS = (b"databricks", b"databricks-uc", b"models", b"cvs")
"""Schemes whose addresses have other parts in these places."""

_NAMES = (
    b"password",
    b"passwd",
    b"passphrase",
    b"passwort",
    b"passcode",
    b"pass",
    b"pwd",
    b"secret",
    b"token",
    b"credential",
    b"apikey",
    b"accesskey",
    b"secretkey",
    *(
        key + dash + b"key"
        for key in (
            *(b"api", b"access", b"private", b"secret", b"auth", b"account", b"encryption"),
            *(b"fernet", b"signing", b"master", b"session"),
        )
        for dash in (b"_", b"-")
    ),
)
_TELLTALE = rb"(?P<word>" + b"|".join(map(re.escape, sorted(_NAMES, key=len, reverse=True))) + rb")"
_NAME = re.compile(rb"[\w.-]{0,80}" + _TELLTALE, re.IGNORECASE)
_QUOTE = rb"(?:\\{0,3}[\"']|&quot;)"
_ASSIGNED = re.compile(
    _TELLTALE
    + rb"(?:"
    # A setting: NAME = value, "name": "value", name => 'value', and a query's name=value.
    + rb"(?:\\{0,3}[\"']|&quot;)?\]?[ \t]{0,20}(?::=|=>|\\?[:=]|\\u003[dD])[ \t]{0,20}"
    # An element: <password>value</password>, <entry key="password">value</entry>.
    + rb"|(?P<element>[\"']?>)(?=[^<\n]{1,200}</)"
    # Another attribute or key: name="password" value="x", and name: PASSWORD, value: x.
    + rb"|(?P<pair>[\"']?[ \t]{0,8},?\s{1,40}[\"']?value[\"']?\s{0,4}[:=]\s{0,4})"
    # An argument: os.environ.get("PASSWORD", "x"), define('PASSWORD', 'x').
    + rb"|(?P<argument>\\{0,3}[\"'],[ ]{0,4})(?=\\{0,3}[\"'])"
    + rb")"
    + rb"(?:(?P<quote>"
    + _QUOTE
    + rb")(?P<quoted>[^\"'\\\n]{1,200})"
    + _QUOTE
    + rb"|(?P<bare>[^\s\"'#,;&<>()\[\]`|\\]{1,256}))",
    re.IGNORECASE,
)
_OPTION = re.compile(
    _TELLTALE
    + rb"(?:=|[ ]{1,4}|[\"'],[ ]{0,4})[\"']?"
    + rb"(?P<secret>[^\s\"'`$<>{}()\[\]|;,-][^\s\"'`;,]{0,200})",
    re.IGNORECASE,
)
_OPTION_START = re.compile(
    rb"(?:(?:^|[\s\"'(\[=])--?|(?:^|\n)[ \t]*(?:ENV|ARG)[ \t]{1,8})[\w-]{0,80}\Z"
)
"""Pattern of `--db-password x`, and of a Dockerfile's `ENV DB_PASSWORD x`."""
_ARGUMENT_START = re.compile(rb"\([ ]{0,4}\\{0,3}[\"'][\w.-]{0,80}\Z")
_PAGES = re.compile(rb"(?:page|next|continuation|resume|sync|cursor|marker)[ _-]?\Z", re.IGNORECASE)
"""Words before `token` that make it a place in a list."""
_NAME_SERVICES = (b"files", b"compat", b"db", b"sss", b"ldap", b"nis", b"systemd", b"winbind")
"""Values of `passwd` in nsswitch.conf."""
_LINE_START = re.compile(
    rb"(?:^|\n|\\n|[\"'])[ \t]*(?:(?:export|set|env|arg|-e|--env)[ \t]+)?[\"']?[\w.-]{0,80}\Z",
    re.IGNORECASE,
)
_SHELL_START = re.compile(rb"(?:^|[\n \"';&|])[A-Z][A-Z0-9_]{0,80}\Z")
_CONNECTION_START = re.compile(
    rb"(?:host|hostaddr|server|data source|user(?: ?id|name)?|uid|dbname|database|port)="
    rb"[^\s;&\"'=]{1,200}[;& ]{1,2}(?:[\w ]{1,30}=[^;&\"'\s]{0,200}[;& ]{1,2}){0,6}\Z",
    re.IGNORECASE,
)
_PROSE = re.compile(rb"[ ]+[A-Za-z]+(?:[ ]|$)", re.MULTILINE)
"""Words behind a value that has no quotes: it is a sentence."""
_LONGEST_BEFORE = 300
_MOST_JUDGED = 200_000
"""Words in a piece of a file: each takes up to a tenth of a millisecond in a hostile one."""
_SETTINGS_FILE = re.compile(
    r".*(?:\.(?:env|ini|cfg|conf|cnf|toml|ya?ml|json|properties|sh)|/\.env(?:\.[^/]*)?|/\.\w+rc)"
)
_SETTINGS_LINE = re.compile(
    rb"\s*(?:[#;!].*|//.*|\[[^\[\]\"']*\]|(?:export\s+)?[\"']?[\w./@:-]{1,100}[\"']?\s*[:=].*"
    rb"|-(?:\s.*)?|---|[\[\]{},\s]*)"
)
_JUDGED_LINES = 60
# Documentation and test data of packages are full of addresses and settings that are examples.
_OF_PACKAGES = re.compile(
    r".*/(?:site-packages|dist-packages|node_modules)/.*|/(?:usr/)?(?:local/)?(?:lib|share|include)/.*"
    r"|.*\.(?:whl|egg|jar)!.*"
)
_PGPASS = re.compile(
    rb"(?:[ \t\r]*(?:#[^\n]*)?\n){0,100}"
    rb"(?:[\w.*-]+|\[[0-9a-f:]+\]):(?:\d{1,5}|\*):[\w.*-]+:(?!\d*:)[\w.*@-]+:[^\s:$<{]{1,200}"
    rb"\s*(?:\n|\Z)"
)
"""Host, port, database, user and password, in the first line that is no comment."""
_LONGEST_PGPASS = 64 * 1024
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
    )
)

_FORM_WORDS = [(word, form) for form in FORMS for word in form.begins]
_WORDS = list(dict.fromkeys([*(word for word, _ in _FORM_WORDS), *_ADDRESSES, *_NAMES]))
_FORMS_OF = {
    word: tuple(form for beginning, form in _FORM_WORDS if beginning == word) for word in _WORDS
}
# Measured on 460 MB of an image's files: 1.2 s for all words at once, 12 s one after the other.
_ALL_WORDS = ahocorasick_rs.BytesAhoCorasick(_WORDS)


class _Place:
    """How a text is judged: a command and a settings file are meant, a manual is not."""

    def __init__(self, *, meant: bool, of_package: bool, command: bool = False) -> None:
        self.meant = meant
        self.of_package = of_package
        self.command = command


def found_in_file(piece: bytes, path: str, *, binary: bool) -> Iterator[str]:
    """Describe the secrets in a piece of a file.

    Args:
        piece: of the content.
        path: absolute: settings and addresses are examples where packages keep their files.
        binary: whether the file is no text: only what can't be anything else is looked for then.
    """
    of_package = _OF_PACKAGES.fullmatch(path) is not None
    if binary:
        yield from key_stores.found_in(piece)
        yield from _found(piece, _Place(meant=False, of_package=True), binary=True)
        return
    for file, credential in _CREDENTIAL_FILES:
        if file.fullmatch(path) and credential.search(piece):
            yield "a file for credentials, with some in it"
    if len(piece) < _LONGEST_PGPASS and _PGPASS.match(piece):
        yield "a pgpass, with passwords in it"
    meant = not of_package and (_SETTINGS_FILE.fullmatch(path) is not None or _of_settings(piece))
    yield from _found(piece, _Place(meant=meant, of_package=of_package))


def found_in_variable(name: str, value: str) -> Iterator[str]:
    """Describe the secrets in a variable or a label of the image."""
    yield from found_in_command(value)
    if _NAME.fullmatch(name.encode()) and not stand_ins.is_reference(value.encode()):
        yield f"has a value of {len(value)} characters"


def found_in_command(text: str) -> Iterator[str]:
    """Describe the secrets in a command of the image's history, build arguments included."""
    yield from _found(text.encode(), _Place(meant=True, of_package=False, command=True))


def shown(text: str) -> str:
    """Give a text of an image's configuration for a message, or say that it holds a secret."""
    return f"<{len(text)} characters with a secret>" if any(found_in_command(text)) else text


def _of_settings(piece: bytes) -> bool:
    """Tell whether a text consists of settings alone, as far as its beginning shows."""
    lines = piece[:8192].splitlines()[:_JUDGED_LINES]
    return all(_SETTINGS_LINE.fullmatch(line) for line in lines)


def _found(content: bytes, place: _Place, *, binary: bool = False) -> Iterator[str]:
    lowered = content.lower()
    searched: dict[Form, int] = {}
    judged = 0
    for number, start, end in _ALL_WORDS.find_matches_as_indexes(lowered, overlapping=True):
        word = _WORDS[number]
        for form in _FORMS_OF[word]:
            if start < searched.get(form, 0) or (binary and not form.in_binary):
                continue
            pattern = form.unbounded if binary else form.bounded
            if match := pattern.match(content, max(0, start - form.lookback)):
                searched[form] = match.end()
                if form.genuine(match):
                    yield form.described(match)
        if word in _ADDRESSES:
            yield from _address(content, start, _ADDRESSES[word], place, binary=binary)
        elif word in _NAMES and not binary:
            judged += 1
            if judged <= _MOST_JUDGED:
                yield from _setting(content, start, end, place)
    if judged > _MOST_JUDGED:
        yield f"more than {_MOST_JUDGED} words such as 'password', of which no more are judged"


def _address(
    content: bytes, start: int, pattern: re.Pattern[bytes], place: _Place, *, binary: bool
) -> Iterator[str]:
    match = pattern.match(content, start)
    scheme = _SCHEME.search(content, max(0, start - _LONGEST_SCHEME), start)
    if not match or not scheme:
        return
    secret, user = match["secret"], match["user"]
    if scheme[0].lower().endswith(_WITHOUT_PASSWORDS):
        return
    if place.meant:
        genuine = not stand_ins.is_reference(secret)
    else:
        genuine = not stand_ins.is_example(secret, user)
    if place.of_package:
        genuine = genuine and secret != user and len(secret) > 3
    if binary:
        genuine = genuine and secret.isascii() and secret.decode().isprintable()
    if genuine:
        yield described("a password in an address", secret)


def _setting(content: bytes, start: int, end: int, place: _Place) -> Iterator[str]:
    word = content[start:end].lower()
    before = content[max(0, start - _LONGEST_BEFORE) : start]
    if not place.of_package and _OPTION_START.search(before):
        option = _OPTION.match(content, start)
        if option and option["word"].lower() == word and _is_password(option["secret"], place):
            yield described(f"a value of the option '{word.decode()}'", option["secret"])
            return
    match = _ASSIGNED.match(content, start)
    if not match or match["word"].lower() != word:
        return
    value = match["quoted"] or match["bare"]
    if match["argument"] and not _ARGUMENT_START.search(before):
        return
    if word == b"pass" and not _is_pass(content, start, value):
        return
    if value in _NAME_SERVICES or (word == b"token" and _PAGES.search(before)):
        return
    if _is_value(content, before, match, value, place):
        yield described(f"a value of the setting '{word.decode()}'", value)


def _is_pass(content: bytes, start: int, value: bytes) -> bool:
    """Tell whether the word stands for a password: no end of another word, such as `bypass`."""
    inner = content[start - 1 : start].isalpha() and content[start : start + 1].islower()
    return not inner and stand_ins.is_mixed(value)


def _is_value(
    content: bytes, before: bytes, match: re.Match[bytes], value: bytes, place: _Place
) -> bool:
    if stand_ins.looks_generated(value, in_package=place.of_package):
        return True
    if place.of_package:
        return False
    if place.command:
        return not stand_ins.is_reference(value)
    if place.meant and _LINE_START.search(before):
        prose = match["bare"] and _PROSE.match(content, match.end("bare"))
        return not stand_ins.is_reference(value) and not prose
    literal = match["quoted"] or match["element"] or match["pair"]
    if literal or any(start.search(before) for start in (_SHELL_START, _CONNECTION_START)):
        return _is_password(value, place)
    return False


def _is_password(value: bytes, place: _Place) -> bool:
    """Tell if a value outside settings is a password: no example, and no word of a language."""
    if place.command:
        return not stand_ins.is_reference(value)
    return not stand_ins.is_example(value) and stand_ins.is_mixed(value)
