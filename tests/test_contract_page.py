"""The page of all promises, and the tables that `invoke promises` prints."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt
from repository import ROOT
from rich.console import Console

from seatrial.contract import listing, load, page, promises_of
from seatrial.contract.declarations import declarations

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table


def test_page_is_up_to_date() -> None:
    written = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    assert written == page.page(), f"docs/promises.md is out of date: run `{page.COMMAND}`"


def test_page_has_a_row_of_as_many_cells_for_every_promise() -> None:
    tokens = MarkdownIt().enable("table").parse(page.page())
    cells = [
        following.content
        for token, following in itertools.pairwise(tokens)
        if token.type == "td_open"
    ]
    rows = [cells[start : start + 5] for start in range(0, len(cells), 5)]
    assert [row[0] for row in rows] == [f"`{each.name}`" for each in declarations().values()]
    databases = next(row for row in rows if row[0] == "`databases`")
    assert databases[1:4] == [
        'some of "postgresql", "mysql", "sqlite"',
        "each item",
        "services for postgresql, mysql",
    ]


def test_page_says_how_promises_are_tried() -> None:
    lines = page.page().splitlines()
    told = [each for each in declarations().values() if each.procedure]
    assert len(told) > 10
    assert not [each.key for each in told if f"- `{each.name}`: {each.procedure}" not in lines]
    assert not [each.key for each in told if each.procedure in each.meaning]


def printed(table: Table) -> str:
    output = io.StringIO()
    Console(file=output, width=200).print(table)
    return output.getvalue()


def test_every_promise_is_listed() -> None:
    text = printed(listing.of_schema())
    assert not [key for key in declarations() if f" {key} " not in text]


@pytest.mark.parametrize("variant", ["slim", "hardened"])
def test_what_a_contract_promises_is_listed(variant: str) -> None:
    path = ROOT / "docker" / variant / "contract.toml"
    text = printed(listing.of_contract(path))
    assert not [one for one in promises_of(load(path)) if f" {one} " not in text]
    assert ("command_line.complete" in text) is (variant == "hardened")


def test_contract_does_not_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(
        'description = "\\u001b[31mred"\n'
        '[image]\nlabels = ["\\u001b]0;title\\u0007"]\nuser = "\\u001b[2J"\n'
    )
    assert "\x1b" not in printed(listing.of_contract(path))


def _invoke(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "invoke", *words],
        cwd=ROOT,
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere.sock"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_needs_no_engine() -> None:
    done = _invoke("promises")
    assert (done.returncode, done.stderr) == (0, "")
    assert "server.databases" in done.stdout


def test_command_on_a_file_that_is_not_there() -> None:
    done = _invoke("promises", "--contract", "nowhere.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "seatrial: nowhere.toml: no such contract file\n"
