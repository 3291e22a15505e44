"""Pages that describe files: neither lags behind the other."""

from __future__ import annotations

import inspect
import itertools
import re
import tomllib
from typing import TYPE_CHECKING, get_args

import pytest
from invoke.parser.context import to_flag
from markdown_it import MarkdownIt
from repository import ROOT, needs_buildx

from bench.task import bench
from seatrial import catalogue, tasks
from seatrial.contract import BUILT_IN, PromiseSelector, load, promises_of
from seatrial.contract.declarations import sections
from seatrial.contract.schema import Absence, StartSection

if TYPE_CHECKING:
    from pathlib import Path

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docker/**/*.md")],
    key=str,
)
TASKS = {
    name: {
        "--help",
        *(to_flag(word.replace("_", "-")) for word in inspect.signature(task).parameters),
    }
    for name, task in {**tasks.collection.tasks, "bench": bench}.items()
}
"""The options of each task."""
CONTRACTS = ROOT / "docs" / "contracts.md"
BASES = ROOT / "docker" / "bases"


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    return [token.content for token in tokens if token.type == "fence" and token.info == language]


def rows(page: Path, heading: str) -> list[list[str]]:
    """The tables of a page whose first column has this heading: each row's cells, as written."""
    tokens = MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))
    found: list[list[str]] = []
    within = False
    for token, following in itertools.pairwise(tokens):
        if token.type == "thead_open":
            within = False
        elif token.type == "th_open" and following.content == heading:
            within = True
        elif token.type == "tr_open" and following.type == "td_open" and within:
            found.append([])
        elif token.type == "td_open" and within:
            found[-1].append(following.content)
    return found


def named(text: str) -> list[str]:
    """The code within the sentences of a text: names of files, keys and the like."""
    tokens = MarkdownIt().enable("table").parse(text)
    words = [word for token in tokens for word in token.children or []]
    return [word.content for word in words if word.type == "code_inline"]


def test_there_are_examples_of_contracts() -> None:
    assert len(blocks(CONTRACTS, "toml")) >= 3


@pytest.mark.parametrize("text", blocks(CONTRACTS, "toml"))
def test_example_of_a_contract_is_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(text, encoding="utf-8")
    assert promises_of(load(path))


def test_first_example_has_every_key_that_says_how_an_image_is_run() -> None:
    assert set(tomllib.loads(blocks(CONTRACTS, "toml")[0])["start"]) == set(
        StartSection.model_fields
    )


def test_built_in_contracts_are_listed() -> None:
    listed = [name for first, *_ in rows(CONTRACTS, "name") for name in named(first)]
    assert sorted(listed) == sorted(BUILT_IN)


def test_sections_of_contracts_are_listed() -> None:
    listed = [named(first) for first, *_ in rows(CONTRACTS, "section")]
    assert listed == [[f"[{name}]"] for name in sections()]


def test_what_an_image_can_lack_is_listed() -> None:
    listed = [name for first, *_ in rows(CONTRACTS, "`lacks`") for name in named(first)]
    assert listed == list(get_args(Absence))


def test_no_key_is_named_that_contracts_do_not_have() -> None:
    """Keys are listed in docs/promises.md, which is made from the schema."""
    names = named(CONTRACTS.read_text(encoding="utf-8"))
    tables = {name.strip("[]") for name in names if re.fullmatch(r"\[\w+\]", name)}
    assert tables <= {"start", *sections()}
    keys = re.compile(rf"(?P<key>({'|'.join(sections())})\.\w+)(\[(?P<item>.+)\])?( = .*)?")
    found = [match for name in names if (match := keys.fullmatch(name))]
    assert found
    for match in found:
        PromiseSelector.of(match["key"], match["item"])


@needs_buildx
def test_bases_are_listed() -> None:
    """Bases that belong to one image have a folder with that image's."""
    bases = catalogue.load().bases.values()
    images = BASES.parent
    here = [
        base.name
        for base in bases
        if base.folder.is_relative_to(BASES) or not base.folder.is_relative_to(images)
    ]
    listed = [named(first) for first, *_ in rows(BASES / "README.md", "base")]
    assert listed == [[name] for name in here]


def test_files_of_the_bases_are_listed() -> None:
    # Tests import the scripts, which leaves their bytecode beside them.
    found = [
        path
        for path in BASES.rglob("*")
        if path.is_file() and path.name != "README.md" and path.parent.name != "__pycache__"
    ]
    listed = [name for first, *_ in rows(BASES / "README.md", "file") for name in named(first)]
    assert sorted(listed) == sorted(str(path.relative_to(BASES)) for path in found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_have_no_unknown_options(page: Path) -> None:
    """The options themselves are explained by `--help`."""
    commands = re.findall(r"(?:invoke|seatrial) ([a-z][^`\n]*)", page.read_text(encoding="utf-8"))
    assert not [fault for command in commands for fault in unknown_options(command)]


def test_unknown_options_of_a_chain_of_tasks_are_found() -> None:
    chain = "setup --start build test --variant slim --platforms=all --help  # --no-such-one"
    assert unknown_options(chain) == ["test --platforms"]


def unknown_options(command: str) -> list[str]:
    """The options of a command line that its tasks do not have."""
    task, unknown = "", []
    for word in command.partition(" #")[0].split():
        flag = word.rstrip(",;.)").partition("=")[0]
        if word in TASKS and task != "bench":  # what follows that one is the name of a suite
            task = word
        elif task and re.fullmatch(r"--?[a-z][a-z-]*", flag) and flag not in TASKS[task]:
            unknown.append(f"{task} {flag}")
    return unknown


@pytest.mark.parametrize("text", blocks(ROOT / "docs" / "reading-tests.md", "python"))
def test_example_of_a_test_is_in_the_acceptance_tests(text: str) -> None:
    modules = ROOT.joinpath("acceptance").glob("test_*.py")
    assert any(text in module.read_text(encoding="utf-8") for module in modules)
