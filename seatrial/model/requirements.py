"""The requirements that come with a model: parsed, and only what is understood goes on.

Whoever logged a model wrote these files, so they are hostile input: an option may name an index to
send things to, a path a `setup.py` to run, `${NAME}` a variable of this machine. Nothing is handed
to an installer as it stands. What `read` gives is written anew from parsed values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from seatrial.errors import UserError, without_password
from seatrial.model import conda, documents, wheels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

FILE = "requirements.txt"
CONDA = "conda.yaml"
VIRTUALENV = "python_env.yaml"

_MOST_BYTES = 256 << 10
_MOST_FILES = 16
_LONGEST = 1024
"""Characters of one line; a requirement with extras, bounds and a marker has a hundred."""
_SHOWN = 80
_INDEXES = {"-i": "--index-url", "--index-url": "--index-url"} | {
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
}
_FILES = {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c"}
_OPTION = re.compile(r"(--[a-z][a-z-]*|-[a-zA-Z])(?:\s*=\s*|\s+|(?<=^-[a-zA-Z]))?(.*)")
_REPOSITORIES = ("git+", "hg+", "svn+", "bzr+")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_CONTINUED = re.compile(r"\\\r?\n")
_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")
_PATH = re.compile(
    r"(?P<path>(?:[A-Za-z0-9_.+!-]+/)+[A-Za-z0-9_.+!-]*|[A-Za-z0-9_.+!-]+\.whl)"
    r"(?P<extras>\[[A-Za-z0-9_., -]*\])?"
)
"""A path in the model's folder, as pip takes it: with a slash, or a wheel's file name."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u2028\u2029]")
_ADDRESS = re.compile(
    r"https?://"
    r"(?:[A-Za-z0-9._~%!$&'()*+,;=:-]*@)?"
    r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]{1,5})?"
    r"(?P<path>/[A-Za-z0-9._~%!&'()*+,;=:@/-]*)?"
    r"(?P<rest>(?:\?[A-Za-z0-9._~%!&'()*+,;=:@/?-]*)?(?:\#sha256=[0-9a-f]{64})?)",
)
"""Addresses that every parser of addresses reads in the same way: a backslash, a blank or a second
`@` is read in different ways, so that what is checked need not be what is connected to."""


@dataclass(frozen=True)
class Requirements:
    """Requirements of a model; every line is written anew from parsed values."""

    wanted: tuple[str, ...]
    """Distributions, such as `six==1.16.0` or `own @ https://host/own-1-py3-none-any.whl`."""
    constraints: tuple[str, ...] = ()
    """Bounds of versions, in the same form."""
    sources: tuple[str, ...] = ()
    """Package sources beside this machine's own indexes, as options of uv and pip:
    `--extra-index-url URL`, `--index-url URL` or `--find-links URL`."""
    prereleases: bool = False
    """True if versions before a release may be taken (`--pre`)."""
    files: tuple[str, ...] = ()
    """The model's files that name packages or indexes, relative to its folder."""
    wheels: tuple[Path, ...] = ()
    """Wheels in the model's folder that it requires; `wanted` has them as `NAME @ file://...`."""
    unmet: tuple[str, ...] = ()
    """Declarations that the image will not meet, each in words for whoever builds it."""


def read(folder: Path, allowed: Sequence[str], own: Iterable[str] = ()) -> Requirements:
    """Read the files of a model that list distributions.

    `requirements.txt` counts; `conda.yaml` and `python_env.yaml`, which no image of a model uses,
    are held to the same rules, for they are in the image.

    Args:
        folder: the model's; it holds no links.
        allowed: addresses beside this machine's own that packages may come from (`--allow-index`).
        own: addresses of this machine's own indexes.

    Raises:
        UserError: a line is not understood or asks for what is not allowed; says which, and how to
            mend it.
    """
    reader = _Reader(folder, [*map(_allowed, allowed)], {*filter(None, map(_plain, own))})
    listed = [name for name in (CONDA, VIRTUALENV) if (folder / name).is_file()]
    described: list[str] = []
    for name in listed:
        # Read by a reader of its own: what they name is not required.
        other = _Reader(folder, reader.allowed, reader.own)
        other.lines(name, list(_of_yaml(folder, name)))
        listed = [*listed, *other.result().files]
        if name == CONDA:
            described = other.wanted
    reader.file(FILE)
    found = reader.result()
    unmet = conda.unmet(folder / CONDA, described, names(found.wanted)) if CONDA in listed else ()
    files = tuple(dict.fromkeys((*found.files, *listed)))
    return replace(found, files=files, unmet=tuple(unmet))


def names(lines: Iterable[str]) -> set[str]:
    """Collect the names of distributions in lines as `Requirements` has them, normalised."""
    from packaging.utils import canonicalize_name

    return {canonicalize_name(Requirement(line).name) for line in lines}


def _of_yaml(folder: Path, name: str) -> Iterator[str]:
    """The lines for pip in an environment's description."""
    document = documents.read(folder / name)
    if not isinstance(document, dict):
        return
    for key in ("dependencies", "build_dependencies"):
        listed = document.get(key) or []
        if not isinstance(listed, list):
            raise UserError(f"the model's {name} is refused: {key} is no list; log the model anew")
        for entry in listed:
            if isinstance(entry, dict):
                pip = entry.get("pip") or []
                if not isinstance(pip, list):
                    raise UserError(
                        f"the model's {name} is refused: pip is no list; log the model anew"
                    )
                yield from map(str, pip)
            elif name == VIRTUALENV:
                yield str(entry)


def _plain(url: str) -> str | None:
    """An address without user, password and the last slash, as two of them are compared."""
    match = _ADDRESS.fullmatch(url)
    if not match:
        return None
    scheme = url.partition("://")[0].lower()
    path = (match["path"] or "").rstrip("/")
    return f"{scheme}://{match['host'].lower()}{match['port'] or ''}{path}{match['rest']}"


def _allowed(url: str) -> str:
    plain = _plain(url)
    if plain is None:
        raise UserError(
            f"--allow-index {without_password(url)!r} is no address of an index, such as "
            "https://packages.example.com/simple"
        )
    return plain


@dataclass
class _Reader:
    folder: Path
    allowed: Sequence[str]
    own: set[str]
    wanted: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    prereleases: bool = False
    wheels: list[Path] = field(default_factory=list)
    _seen: set[tuple[str, bool]] = field(default_factory=set)

    def result(self) -> Requirements:
        return Requirements(
            tuple(dict.fromkeys(self.wanted)),
            tuple(dict.fromkeys(self.constraints)),
            tuple(dict.fromkeys(self.sources)),
            self.prereleases,
            tuple(dict.fromkeys(name for name, _ in self._seen)),
            tuple(dict.fromkeys(self.wheels)),
        )

    def file(self, name: str, *, constrains: bool = False) -> None:
        """Read a file of the model's, and those that it names."""
        if (name, constrains) in self._seen:
            return
        self._seen.add((name, constrains))
        if len(self._seen) > _MOST_FILES:
            raise UserError(
                f"the model's {FILE} names more than {_MOST_FILES} other files: write them into one"
            )
        text = documents.text(self.folder / name, _MOST_BYTES)
        joined = _CONTINUED.sub(" ", text)
        # Not splitlines(): what else it takes for a line's end, other readers do not.
        self.lines(name, re.split(r"\r?\n", joined), constrains=constrains)

    def lines(self, name: str, lines: Sequence[str], *, constrains: bool = False) -> None:
        """Read the lines of a file."""
        for line in lines:
            if _CONTROL.search(line):
                raise _refused(name, line, "holds control characters; remove them")
            if len(line) > _LONGEST:
                raise _refused(name, line, f"is longer than {_LONGEST} characters; shorten it")
            words = _COMMENT.sub("", line).strip()
            if words.startswith("-"):
                self._option(name, words, constrains=constrains)
            elif words:
                into = self.constraints if constrains else self.wanted
                into.append(self._requirement(name, words))

    def _option(self, name: str, line: str, *, constrains: bool) -> None:
        match = _OPTION.fullmatch(line)
        if not match:
            raise _refused(name, line, "is no option; remove it")
        option, value = match[1], match[2].strip().strip("'\"")
        if option in _INDEXES:
            self._source(name, line, _INDEXES[option], value)
        elif option in _FILES:
            self.file(
                self._beside(name, line, value), constrains=constrains or _FILES[option] == "-c"
            )
        elif option == "--pre" and not value:
            self.prereleases = True
        elif option in ("-e", "--editable"):
            raise _refused(name, line, "would run its setup.py; name a released distribution")
        elif option != "--prefer-binary" or value:
            raise _refused(name, line, f"{option[:_SHOWN]} is not taken; remove it")

    def _source(self, name: str, line: str, option: str, url: str) -> None:
        _require_no_variable(name, line)
        plain = _plain(url)
        if plain is None:
            raise _refused(name, line, "is no http(s) address; name an index by one")
        if plain in self.own:
            return
        if plain not in self.allowed:
            shown = without_password(url)
            raise _refused(
                name, line, f"is not an index of this machine; --allow-index {shown} takes it"
            )
        self.sources.append(f"{option} {url}")

    def _beside(self, name: str, line: str, value: str) -> str:
        """The file of the model's that a line names, by its path in the model's folder."""
        _require_no_variable(name, line)
        folder = (self.folder / name).parent
        path = (folder / value).resolve()
        inside = path.is_relative_to(self.folder.resolve())
        if "://" in value or not value or not inside:
            raise _refused(name, line, "names something outside the model's folder; copy it there")
        if not _is_file(path):
            raise _refused(name, line, "names a file that the model has not got; add it")
        return str(path.relative_to(self.folder.resolve()))

    def _requirement(self, name: str, line: str) -> str:
        _require_no_variable(name, line)
        if re.search(r"\s--?[a-zA-Z]", line):
            raise _refused(
                name, line, "has options of its own, which are not taken; remove them (the image's"
                " lock has hashes in any case)"
            )  # fmt: skip
        if match := _PATH.fullmatch(line):
            return self._file_of_model(name, line, match["path"], match["extras"] or "")
        if "\\" in line:
            # In a marker packaging reads `\n` as a line's end; written anew, it would be one.
            raise _refused(name, line, "holds a backslash; write the character itself")
        try:
            requirement = Requirement(line)
            written = str(requirement)
            faithful = Requirement(written) == requirement and written.isprintable()
        except (InvalidRequirement, ValueError, RecursionError):
            raise _refused(
                name, line, "is no requirement of a released distribution, such as NAME==VERSION"
            ) from None
        if not faithful:
            raise _refused(name, line, "cannot be written in another way; simplify it")
        if requirement.url:
            self._require_address(name, line, requirement.url)
        return written

    def _file_of_model(self, name: str, line: str, words: str, extras: str) -> str:
        """Take a wheel of the model's by its path there: `code/own-1.0-py3-none-any.whl`."""
        path = self.folder / self._beside_model(name, line, words)
        if path.is_dir() or path.name.lower().endswith(_ARCHIVES):
            raise _refused(
                name,
                line,
                "is a source, which an image is not made of; build a wheel of it (pip wheel"
                " --no-deps PATH), log the model with that, and name the wheel in its place",
            )
        try:
            wheel = wheels.Wheel.of(path.name)
        except ValueError as error:
            raise _refused(name, line, f"is no wheel ({error}); name a file NAME.whl") from None
        if any(other.name == path.name and other != path for other in self.wheels):
            raise _refused(name, line, "names a second wheel of this file name; remove one")
        self.wheels.append(path)
        return f"{wheel.distribution}{extras} @ {wheels.address(path.name)}"

    def _beside_model(self, name: str, line: str, value: str) -> str:
        """The path of a model's file that a line names: pip is run in the model's folder."""
        path = (self.folder / value).resolve()
        root = self.folder.resolve()
        if "://" in value or not path.is_relative_to(root) or path == root:
            raise _refused(name, line, "names something outside the model's folder; copy it there")
        if not (_is_file(path) or _is_folder(path)):
            raise _refused(name, line, "names a file that the model has not got; add it")
        return str(path.relative_to(root))

    def _require_address(self, name: str, line: str, url: str) -> None:
        if url.startswith(_REPOSITORIES):
            raise _refused(
                name,
                line,
                "what comes from a repository has no hash to be locked by; name the address of an"
                " archive of it instead, such as NAME @ https://.../archive/REVISION.tar.gz, and"
                " add --allow-index and --allow-emulated-build",
            )
        plain = _plain(url)
        if plain is None:
            raise _refused(name, line, "is no plain http(s) address; name a released distribution")
        path = urlsplit(plain).path.lower()
        climbs = any(part in ("..", ".") for part in path.replace("%2e", ".").split("/"))
        if climbs or not any(_below(plain, index) for index in (*self.allowed, *self.own)):
            origin = plain[: len(plain) - len(plain.partition("://")[2])] + urlsplit(plain).netloc
            raise _refused(
                name, line, f"is not of an index of this machine; --allow-index {origin} takes it"
            )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is longer than names may be
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _below(url: str, index: str) -> bool:
    return url == index or url.startswith(f"{index}/")


def _require_no_variable(name: str, line: str) -> None:
    """Refuse `${NAME}`: pip and uv put a variable of the machine that resolves in its place."""
    if "$" in line:
        raise _refused(name, line, "variables are not expanded; write the value itself")


def _refused(name: str, line: str, why: str) -> UserError:
    shown = without_password(" ".join(_CONTROL.sub("?", line).split()))
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return UserError(f"the model's {name} is refused: {shown!r}: {why}")
