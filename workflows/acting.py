"""Run jobs through act, on this host: their own steps, with other people's actions left out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from seatrial import process
from seatrial.console import make_console
from seatrial.errors import UserError, printable
from workflows import sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_RUNS = Path(__file__).with_name("runs.toml")
"""How each job is run here, or why it is not."""
_RUNNERS = ("ubuntu-24.04", "ubuntu-24.04-arm")
_STUB = """name: left to GitHub
description: Does nothing.
runs:
  using: composite
  steps:
    - shell: bash
      run: "true"
"""
_END = re.compile(r" - Main (?P<step>.*?)(?: \[[\w.µ]+\])?$")
"""What act says of a step that has ended. Of an action's step only this line has the name."""
_RESULTS = {"success": "passed", "failure": "failed", "skipped": "skipped"}
_SHOWN = 30
"""Lines of a failed step's output."""


@dataclass
class StepResult:
    """What became of one step."""

    job: str
    step: str
    result: str
    """`passed`, `failed`, `skipped` by its own condition, or `left` to GitHub."""
    note: str = ""
    """Why it was left, or what it printed last."""


@dataclass(frozen=True)
class Run:
    """How a job is run here."""

    job: str
    event: str = "push"
    matrix: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that make a sample of it."""
    inputs: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    """Of the repository, such as the registry."""
    left: str = ""
    """Why the job is left to GitHub; empty where it is run."""


def load() -> dict[str, Run]:
    """How each job is run, by `FILE.yml:JOB`.

    Raises:
        UserError: a job has no entry, or an entry has no job.
    """
    entries = tomllib.loads(_RUNS.read_text(encoding="utf-8"))["run"]
    runs = {entry["job"]: Run(**entry) for entry in entries}
    known = set(sources.jobs())
    if missing := sorted(known - runs.keys()):
        raise UserError(f"{_RUNS.name}: says nothing of {', '.join(missing)}")
    if unknown := sorted(runs.keys() - known):
        raise UserError(f"{_RUNS.name}: there is no job {', '.join(unknown)}")
    return runs


def run(copy: Path, names: Sequence[str]) -> int:
    """Run jobs one after the other and show what became of their steps.

    Args:
        copy: of the repository; see `sources.clone`.
        names: `FILE.yml:JOB`; none for all.

    Returns:
        0 where no step failed, else 1.

    Raises:
        UserError: there is no such job.
    """
    runs = load()
    if unknown := [name for name in names if name not in runs]:
        raise UserError(f"unknown jobs: {', '.join(unknown)}; known are {', '.join(runs)}")
    stub = copy.parent / "stub"
    stub.mkdir()
    (stub / "action.yml").write_text(_STUB, encoding="utf-8")
    results: list[StepResult] = []
    for name in names or runs:
        chosen = runs[name]
        if chosen.left:
            results.append(StepResult(name, "the whole job", "left", chosen.left))
        else:
            results += _act(copy, stub, chosen)
    make_console().print(_table(results))
    return int(any(result.result == "failed" for result in results))


def _act(copy: Path, stub: Path, chosen: Run) -> list[StepResult]:
    workflow, _, job = chosen.job.partition(":")
    folder, _, file = workflow.rpartition("/")
    repository = copy.parent / folder if folder else copy
    if not repository.exists():
        sources.clone_foreign(copy, repository)
    words = [
        *(str(Path(sys.executable).with_name("act")), chosen.event, "--json", "--job", job),
        *("--workflows", f".github/workflows/{file}", "--action-offline-mode"),
        *(f"--platform={runner}=-self-hosted" for runner in _RUNNERS),
        *(f"--local-repository={action}={stub}" for action in sources.foreign_actions()),
        f"--local-repository={sources.OWN_ACTION}={copy}",
        *(f"--matrix={key}:{value}" for key, value in chosen.matrix.items()),
        *(f"--env={key}={value}" for key, value in chosen.environment.items()),
        *(f"--input={key}={value}" for key, value in chosen.inputs.items()),
        *(f"--var={key}={value}" for key, value in chosen.variables.items()),
    ]
    # act keeps the host's copy of the repository, and what it has fetched, below these.
    kept = {"XDG_CACHE_HOME": str(copy.parent / "cache"), "ACT_CACHE_AUTH_KEY": "local"}
    running = subprocess.Popen(
        words,
        cwd=repository,
        env={**os.environ, **kept},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert running.stdout is not None
    with process.interrupts_passed_on(running):
        results = _results(chosen.job, running.stdout)
        code = running.wait()
    if code and not any(result.result == "failed" for result in results):
        results.append(StepResult(chosen.job, "act", "failed", f"exit code {code}"))
    return results


def _results(job: str, lines: Iterable[str]) -> list[StepResult]:
    """Read act's lines of JSON to their end; what is no JSON is shown.

    A line that a step has printed may come after the one that says how the step ended.
    """
    console = make_console()
    foreign = {action.partition("@")[0] for action in sources.foreign_actions()}
    printed: dict[str, list[str]] = {}
    found: list[tuple[StepResult, str]] = []
    for line in lines:
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:
            console.print(Text(printable(line)))
            continue
        key = f"{event.get('job')} {event.get('matrix')} {event.get('stepID')}"
        if event.get("raw_output"):
            printed.setdefault(key, []).append(printable(str(event["msg"])))
        elif ended := _END.search(event["msg"] if "stepResult" in event else ""):
            step = ended["step"]
            name = step.partition("@")[0]
            if step == "true" or step.startswith(("./", sources.OWN_ACTION)):
                continue  # of a stub; an action of this repository, whose steps were named
            if name in foreign:
                result = StepResult(job, name, "left", "an action of other people")
            else:
                result = StepResult(job, step, _RESULTS[event["stepResult"]])
            found.append((result, key))
    for result, key in found:
        if said := printed.get(key, []) if not result.note else []:
            result.note = said[-1]
            if result.result == "failed":
                console.print(Text("\n".join(said[-_SHOWN:])))
    return [result for result, _ in found]


def _table(results: Sequence[StepResult]) -> Table:
    table = Table("job", "step", "result", "note")
    colours = {"passed": "green", "failed": "red"}
    for result in results:
        colour = colours.get(result.result, "")
        table.add_row(
            Text(result.job),
            Text(printable(result.step)),
            Text(result.result, colour),
            Text(result.note),
        )
    return table
