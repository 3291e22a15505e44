"""Contracts that extend others: what is taken over, and files that are not what they should be."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from repository import ROOT

from seatrial import documents
from seatrial.contract import BUILT_IN, load, promises_of
from seatrial.contract.inheritance import inherited, merged, without
from seatrial.contract.loading import MOST_EXTENDED
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[[str, str], Path]

BASE = """
description = "The base"
[start]
port = 8080
[image]
environment = { MODE = "safe", LEVEL = "1" }
exposed_ports = [8080]
[contents]
debian_packages = "packages.txt"
python_packages = "../shared/requirements.txt"
[server]
databases = ["sqlite", "postgresql"]
capabilities = ["ui"]
quiet = true
"""
SECRET = "hunter2"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file below a folder of the test, and give back its path."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def extend(write: Write) -> Callable[[str], Path]:
    """Write a contract in a folder of its own that extends `BASE`."""
    write("base/contract.toml", BASE)

    def extend(text: str) -> Path:
        first = 'description = "The heir"\nextends = "../base/contract.toml"\n'
        return write("heir/contract.toml", first + text)

    return extend


def fault_of(path: Path) -> str:
    """The line that says what is wrong with a contract."""
    with pytest.raises(UserError) as error:
        load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def names(path: Path) -> set[str]:
    return {str(promise) for promise in promises_of(load(path))}


def test_nothing_said_is_what_the_base_promises(
    extend: Callable[[str], Path], tmp_path: Path
) -> None:
    heir, base = load(extend("")), load(tmp_path / "base/contract.toml")
    assert heir.description == "The heir"
    assert heir.start == base.start
    assert heir.image == base.image
    assert heir.server == base.server


def test_tables_merge_and_lists_and_values_replace(extend: Callable[[str], Path]) -> None:
    heir = load(
        extend(
            '[start]\nport = 9090\n[image]\nenvironment = { LEVEL = "2", MORE = "yes" }\n'
            'exposed_ports = [9090]\n[server]\ndatabases = ["mysql"]\nversion_label = true\n'
        )
    )
    assert heir.start.port == 9090
    assert heir.image.environment == {"MODE": "safe", "LEVEL": "2", "MORE": "yes"}
    assert heir.image.exposed_ports == [9090]
    assert heir.server.databases == ["mysql"]
    assert heir.server.version_label
    assert heir.server.quiet


def test_promises_are_taken_back(extend: Callable[[str], Path]) -> None:
    path = extend(
        'withdraws = ["server.quiet", "server.databases[postgresql]", "image.environment[MODE]",'
        ' "image.exposed_ports[8080]"]\n'
    )
    left = names(path)
    assert {"server.databases[sqlite]", "image.environment[LEVEL]"} <= left
    assert not left & {"server.quiet", "server.databases[postgresql]", "image.environment[MODE]"}
    assert load(path).image.exposed_ports is None


@pytest.mark.parametrize(
    ("withdrawn", "fault"),
    [
        ('["server.colour"]', "withdraws: unknown promise 'server.colour': `invoke promises` "),
        ('["start.port"]', "withdraws: unknown promise 'start.port': "),
        ('["server"]', "withdraws: unknown promise 'server': "),
        ('["server.metrics"]', "withdraws: server.metrics is not promised there"),
        ('["server.databases[mysql]"]', "withdraws: server.databases[mysql] is not promised there"),
        ('["server.quiet[very]"]', "withdraws: server.quiet is one promise, without items"),
        ('["server.tls[s3"]', "withdraws: 'server.tls[s3' is no promise: write KEY or KEY[ITEM]"),
        ('["server.quiet", "server.quiet"]', "withdraws: names the same thing twice"),
        ('"server.quiet"', "withdraws: input should be a valid list"),
    ],
)
def test_what_is_not_promised_can_not_be_taken_back(
    extend: Callable[[str], Path], withdrawn: str, fault: str
) -> None:
    assert fault in fault_of(extend(f"withdraws = {withdrawn}\n"))


def test_taking_back_goes_with_extending(write: Write) -> None:
    path = write("contract.toml", 'description = "x"\nwithdraws = ["server.quiet"]\n')
    assert fault_of(path) == f"{path}: withdraws: goes with extends, which is not given"


def test_description_is_each_contracts_own(extend: Callable[[str], Path]) -> None:
    path = extend("")
    path.write_text('extends = "../base/contract.toml"\n')
    assert fault_of(path) == f"{path}: description: required, but not given"


def test_files_stand_where_the_contract_that_names_them_says(
    extend: Callable[[str], Path], tmp_path: Path
) -> None:
    path = extend('[contents]\npython_packages = "requirements.txt"\n')
    contents = load(path).contents
    assert contents.debian_packages == "../base/packages.txt"
    assert contents.python_packages == "requirements.txt"
    inner = load(path).contents.debian_packages
    assert (path.parent / str(inner)).resolve() == tmp_path / "base/packages.txt"


def test_built_in_contract_is_extended_by_name(write: Write) -> None:
    path = write("contract.toml", 'description = "x"\nextends = "default"\n')
    assert promises_of(load(path)) == promises_of(load(BUILT_IN["default"]))


@pytest.mark.parametrize("name", ["defualt", "../base", "default.tom"])
def test_unknown_built_in_contract(write: Write, name: str) -> None:
    path = write("contract.toml", f'description = "x"\nextends = "{name}"\n')
    assert fault_of(path).startswith(
        f"{path}: extends: no built-in contract is called '{name}': known are default,"
        " mlflow-model, model, seatrial-model; "
    )


def test_contradiction_with_what_was_taken_over(extend: Callable[[str], Path]) -> None:
    path = extend("[start]\nport = 9090\n")
    assert fault_of(path).startswith(f"{path}: start.port is 9090, but image.exposed_ports lists")


def test_missing_file_is_named_with_who_extends_it(write: Write, tmp_path: Path) -> None:
    path = write("contract.toml", 'description = "x"\nextends = "nowhere.toml"\n')
    assert fault_of(path) == f"{path} extends {tmp_path}/nowhere.toml: no such contract file"


@pytest.mark.parametrize("length", [1, 2, 3])
def test_circle(write: Write, length: int) -> None:
    for number in range(length):
        following = f'description = "x"\nextends = "{(number + 1) % length}.toml"\n'
        path = write(f"{number}.toml", following)
    fault = fault_of(path)
    assert fault.endswith(f"{path}: a contract can't extend itself")
    assert fault.count(" extends ") == length


def test_row_that_is_too_long(write: Write) -> None:
    write("0.toml", 'description = "x"\n')
    for number in range(MOST_EXTENDED + 1):
        path = write(f"{number + 1}.toml", f'description = "x"\nextends = "{number}.toml"\n')
    assert fault_of(path).endswith(f"at most {MOST_EXTENDED} contracts may extend one another")
    assert load(path.with_name(f"{MOST_EXTENDED}.toml"))


@pytest.mark.parametrize(
    "text",
    [
        f"{SECRET}",
        f"{SECRET} = {SECRET}",
        f"token = '{SECRET}",
        f"[{SECRET}]\n[{SECRET}]\n",
        f'"{SECRET}" = 1\n',
        f'description = "{SECRET}"\n[server]\n{SECRET} = 1\n',
        f'description = "x"\n[server]\ndatabases = ["{SECRET}"]\n',
        f'description = "x"\n[process]\nstops_within = "{SECRET}"\n',
        f'description = "x"\n[python]\ndistributions = {{ {SECRET} = "{SECRET}" }}\n',
        f'description = "x"\n[image]\nlabels = ["{SECRET}", "{SECRET}"]\n',
        f'description = "x"\nwithdraws = "{SECRET}"\n',
        f'description = "x"\nextends = "default"\nwithdraws = ["{SECRET}"]\n',
        f'description = "x"\nextends = ["{SECRET}"]\n',
    ],
)
def test_file_that_is_no_contract_is_not_repeated(write: Write, text: str) -> None:
    other = write("other.toml", text)
    path = write("contract.toml", 'description = "x"\nextends = "other.toml"\n')
    fault = fault_of(path)
    assert fault.startswith(f"{path} extends {other}")
    assert SECRET not in fault


def test_bytes_that_are_no_text_are_not_repeated(write: Write) -> None:
    other = write("other.toml", "")
    other.write_bytes(b"\xff\xfe")
    path = write("contract.toml", 'description = "x"\nextends = "other.toml"\n')
    assert fault_of(path).endswith("can't be read as a contract: it is not UTF-8 text")


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _endless_link(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (os.mkfifo, "it is no regular file"),
        (Path.mkdir, "it is no regular file"),
        (_device, "it is no regular file"),
        (_endless_link, "Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"#" * (documents.MOST_BYTES + 1)), "larger than 1 MiB"),
    ],
)
def test_only_small_regular_files_are_read(
    write: Write, tmp_path: Path, make: Callable[[Path], object], fault: str
) -> None:
    make(tmp_path / "other.toml")
    path = write("contract.toml", 'description = "x"\nextends = "other.toml"\n')
    assert fault in fault_of(path)


@pytest.mark.parametrize("name", ["a\\u0000b", "a\\u001b[31mb", "a" * 300])
def test_odd_names(write: Write, name: str) -> None:
    path = write("contract.toml", f'description = "x"\nextends = "{name}.toml"\n')
    assert fault_of(path).startswith(f"{path} extends ")


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 10_000,
        "a = " + "{ a = " * 10_000,
        "a" + ".a" * (documents.MOST_BYTES // 2 - 10) + " = 1",
        "[a" + ".a" * (documents.MOST_BYTES // 2 - 10) + "]",
        "a = " + "1" * 10_000,
        "\n".join(f"a{number} = 1" for number in range(50_000)),
        "\n".join(f"[a{number}{'.a' * 99}]" for number in range(4_800)),
    ],
    ids=["arrays", "tables", "dots", "dots in a header", "digits", "keys", "headers"],
)
def test_hostile_text_is_refused_soon_and_in_one_line(write: Write, text: str) -> None:
    path = write("contract.toml", text)
    assert path.stat().st_size <= documents.MOST_BYTES
    started = time.monotonic()
    fault = fault_of(path)
    assert time.monotonic() - started < 60
    assert len(fault) < 500


def _own(path: Path) -> dict[str, object]:
    content = documents.toml(path, "contract")
    return {key: value for key, value in content.items() if key not in {"extends", "withdraws"}}


HEIRS = [
    path
    for path in [*sorted(ROOT.glob("docker/*/contract.toml")), *BUILT_IN.values()]
    if "extends" in documents.toml(path, "contract")
]


@pytest.mark.parametrize("path", HEIRS, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_of_the_repository_shows_a_difference_and_nothing_else(path: Path) -> None:
    """What it says differs from what it extends; what it doesn't say is as there."""
    content = documents.toml(path, "contract")
    extends = str(content["extends"])
    origin = BUILT_IN.get(extends, path.parent / extends)
    base = load(origin).model_dump(exclude_unset=True)
    left = inherited(without(base, content.get("withdraws", [])), origin, path)
    own = _own(path)
    loaded = load(path).model_dump(exclude_unset=True)
    assert loaded == merged(left, own)
    for section, table in own.items():
        for key, value in table.items() if isinstance(table, dict) else ():
            assert left.get(section, {}).get(key) != value, f"{section}.{key} is as in {extends}"
