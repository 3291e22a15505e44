"""Pages that describe files: neither lags behind the other."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt
from repository import ROOT

from seatrial.contract import BUILT_IN, load, promises_of
from seatrial.contract.schema import Start

if TYPE_CHECKING:
    from pathlib import Path

CONTRACTS = ROOT / "docs" / "contracts.md"
BASES = ROOT / "docker" / "bases"


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    return [token.content for token in tokens if token.type == "fence" and token.info == language]


def test_there_are_examples_of_contracts() -> None:
    assert len(blocks(CONTRACTS, "toml")) >= 3


@pytest.mark.parametrize("text", blocks(CONTRACTS, "toml"))
def test_example_of_a_contract_is_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(text, encoding="utf-8")
    assert promises_of(load(path))


def test_first_example_has_every_key_that_says_how_an_image_is_run() -> None:
    assert set(tomllib.loads(blocks(CONTRACTS, "toml")[0])["start"]) == set(Start.model_fields)


def test_every_built_in_contract_is_named() -> None:
    text = CONTRACTS.read_text(encoding="utf-8")
    for name in BUILT_IN:
        assert f"| [`{name}`](../seatrial/contract/{name}.toml) |" in text


def test_every_file_of_the_bases_is_named() -> None:
    text = (BASES / "README.md").read_text(encoding="utf-8")
    found = [path for path in BASES.rglob("*") if path.is_file() and path.name != "README.md"]
    named = [path.name if path.name != "Dockerfile" else path.parent.name for path in found]
    assert len(named) > 10
    assert not [name for name in named if f"`{name}`" not in text]


@pytest.mark.parametrize("text", blocks(ROOT / "docs" / "reading-tests.md", "python"))
def test_example_of_a_test_is_in_the_acceptance_tests(text: str) -> None:
    modules = ROOT.joinpath("acceptance").glob("test_*.py")
    assert any(text in module.read_text(encoding="utf-8") for module in modules)
