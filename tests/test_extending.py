"""docs/extending.md: each worked example, followed as it is printed in a copy of the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from repository import ROOT

PAGE = ROOT / "docs" / "extending.md"


@dataclass(frozen=True)
class Block:
    """A code block of the page."""

    language: str
    """`diff`: a change. `sh`: commands that need no engine. Others are not followed."""
    text: str

    @property
    def files(self) -> set[str]:
        """The files that a change touches."""
        marks = [line for line in self.text.splitlines() if line.startswith("+++ b/")]
        return {mark.removeprefix("+++ b/") for mark in marks}


def blocks(heading: str) -> list[Block]:
    """The code blocks below a heading of the second level."""
    tokens = MarkdownIt().parse(PAGE.read_text(encoding="utf-8"))
    found, current = [], ""
    for token, following in zip(tokens, [*tokens[1:], tokens[-1]], strict=True):
        if token.type == "heading_open" and token.tag == "h2":
            current = following.content
        if token.type == "fence" and current == heading:
            found.append(Block(token.info, token.content))
    return found


class Copy:
    """A copy of the repository as it stands, with a history of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = _git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for name in listed.split("\0"):
            if name and (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        _git(folder, "init", "--quiet")
        self.commit()

    def commit(self) -> None:
        """Take what is there for the state to compare with."""
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        _git(self.folder, "add", "--all")
        _git(self.folder, *who, "commit", "--quiet", "--no-verify", "--allow-empty", "-m", "copy")

    def apply(self, block: Block) -> None:
        """Make a change."""
        _git(self.folder, "apply", "-", text=block.text)

    def run(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run commands of the page, which need no engine."""
        here = {
            "DOCKER_HOST": "unix:///nowhere.sock",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        return subprocess.run(
            ["sh", "-euc", commands],
            cwd=self.folder,
            env={**inherited, **here},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def touched(self) -> set[str]:
        """The files that differ from the state to compare with."""
        lines = _git(self.folder, "status", "--porcelain", "--untracked-files=all").splitlines()
        return {line[3:] for line in lines}


def _git(folder: Path, *words: str, text: str | None = None) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"git {words[0]}: {done.stderr}"
    return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """A copy of the repository."""
    return Copy(tmp_path)


def follow(copy: Copy, heading: str) -> None:
    """Make the changes of a section and run its commands, in the order of the page."""
    for block in blocks(heading):
        if block.language == "diff":
            copy.apply(block)
        elif block.language == "sh":
            done = copy.run(block.text)
            assert done.returncode == 0, done.stdout + done.stderr


def test_promise(copy: Copy) -> None:
    assert " python.compiled " not in copy.run("invoke promises").stdout
    follow(copy, "A promise")
    assert len(copy.touched) <= 5, copy.touched
    listed = copy.run("invoke promises --contract docker/slim/contract.toml").stdout
    assert " python.compiled " in listed


@pytest.mark.parametrize(
    ("left_out", "fault"),
    [
        ("acceptance/test_environment.py", "promises python.compiled, and no test in acceptance/"),
        (
            "docker/mutants/python/compiled.has-no-bytecode.toml",
            "promises python.compiled, and no mutant breaks it",
        ),
        ("docker/hardened/contract.toml", "is to break python.compiled, which "),
        ("seatrial/contract/schema.py", "hardened/contract.toml: python: holds an unknown key"),
        ("docs/promises.md", "docs/promises.md is out of date: run `python -m seatrial.contract"),
    ],
)
def test_promise_with_a_step_left_out(copy: Copy, left_out: str, fault: str) -> None:
    followed = blocks("A promise")
    for block in followed:
        if block.language == "diff" and left_out not in block.files:
            copy.apply(block)
    making, checking = (block.text for block in followed if block.language == "sh")
    if left_out != "docs/promises.md":
        copy.run(making)
    tests = checking.splitlines()[-1]
    assert tests.startswith("pytest ")
    done = copy.run(f"{tests} --exitfirst -k 'page or every_promise'")
    assert done.returncode == 1
    assert fault in done.stdout


def test_variant(copy: Copy) -> None:
    listing = "pytest acceptance --collect-only -q --variant harbour"
    assert "unknown variant 'harbour'" in copy.run(f"{listing}").stderr
    follow(copy, "A variant")
    assert len(copy.touched) <= 6, copy.touched
    listed = copy.run(listing).stdout
    assert "harbour-" in listed
    assert "org.opencontainers.image.vendor" in listed


def test_store(copy: Copy) -> None:
    listing = "pytest acceptance --collect-only -q --variant hardened"
    assert "artifact_stores[ftp]" not in copy.run("invoke promises").stdout
    follow(copy, "A database or a store")
    assert len(copy.touched) <= 8, copy.touched
    assert "test_store_is_the_folder[" in copy.run(listing).stdout
    assert "--ftp-image" in copy.run("invoke test --help").stdout


def test_option(copy: Copy) -> None:
    follow(copy, "An option")
    assert len(copy.touched) <= 2, copy.touched
    for command in ("invoke test --help", "pytest acceptance --variant hardened --help"):
        assert "--log-lines" in copy.run(command).stdout
    wrong = copy.run("pytest acceptance --collect-only -q --variant hardened --log-lines many")
    assert wrong.returncode
    assert "ERROR: --log-lines many: it takes a number" in wrong.stderr
