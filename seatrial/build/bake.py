"""Runs of `docker buildx bake`, with their progress."""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seatrial import process
from seatrial.build import pins
from seatrial.build.progress import KEPT_LINES, Build, BuildStep, events
from seatrial.build.watch import BuildWatch, describe
from seatrial.catalogue.bake_file import STATE_VARIABLE
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from seatrial.project import Project


class StepError(UserError):
    """A step of a build failed."""

    def __init__(self, message: str, step: BuildStep) -> None:
        super().__init__(message)
        self.step = step


@dataclass(frozen=True)
class Baked:
    """Results of a run."""

    build: Build
    digests: Mapping[str, str]
    """Digests of the index (or the single manifest), by target."""


def run(
    targets: Sequence[str],
    settings: Sequence[str],
    variables: Mapping[str, str],
    *,
    builder: str | None,
    no_cache: bool,
    console: Console,
    project: Project,
    file: Path | None = None,
) -> Baked:
    """Build targets.

    Args:
        targets: names of the bake file.
        settings: `TARGET.KEY=VALUE`, as `--set` takes them.
        variables: of the bake file, as `catalogue.bake_file.environment` makes them.
        builder: one that `docker buildx ls` lists; None for the one in use.
        no_cache: build every layer anew.
        console: where the progress goes.
        project: contexts are relative to its folder.
        file: the bake file; None for the project's catalogue.

    Raises:
        UserError: a step failed; its last lines of output are on the console.
    """
    with tempfile.TemporaryDirectory(prefix="seatrial-build-") as folder:
        metadata = Path(folder) / "metadata.json"
        command = [
            *("docker", "buildx", "bake", "--file", str(file or project.require_bake_file())),
            *("--progress", "rawjson"),
            *("--metadata-file", str(metadata)),
            *(("--builder", builder) if builder else ()),
            *(("--no-cache",) if no_cache else ()),
            *(part for setting in settings for part in ("--set", setting)),
            *targets,
        ]
        environment = {
            **os.environ,
            **variables,
            STATE_VARIABLE: str(project.state),
            # Only what was asked for goes into the store, not the parts that it is made from.
            "BUILDX_NO_DEFAULT_LOAD": "1",
            # The bake file is ours: newer versions ask before it reads the authorities' file.
            "BUILDX_BAKE_ENTITLEMENTS_FS": "0",
        }
        build, texts = Build(), []
        watch = BuildWatch(build, targets, console)
        with (
            console.status(watch),
            process.group(command, environment, project.root) as running,
        ):
            assert running.stdout
            for event in events(io.TextIOWrapper(running.stdout, "utf-8", errors="replace")):
                if isinstance(event, str):
                    texts.append(event)
                else:
                    watch.take(event)
        if running.returncode:
            raise _fault(build, texts, console)
        steps = [step for step in build.steps.values() if not step.internal and not step.export]
        same = sum(step.cached for step in steps)
        console.print(f"{same} of {len(steps)} steps were as last time", highlight=False)
        digests = _digests(json.loads(metadata.read_text(encoding="utf-8")), targets)
    return Baked(build, digests)


def _fault(build: Build, texts: Sequence[str], console: Console) -> UserError:
    step = build.failed()
    if step is None:
        lines = [line.removeprefix("ERROR: ") for line in texts if "View build details" not in line]
        return UserError(f"the build failed: {(lines or ['buildx gave no reason'])[-1]}")
    if why := pins.explain(step):
        return StepError(why, step)
    tail = step.tail()
    if tail:
        console.print(
            f"\nthe last {min(len(tail), KEPT_LINES)} lines of {describe(step)}", markup=False
        )
        for line in tail:
            console.print(f"  | {line}", highlight=False, markup=False, soft_wrap=True)
    why = " ".join(step.error.split())
    if any("no space left on device" in text.lower() for text in (why, *tail)):
        return UserError(
            f"the disk is full: {describe(step)}; free space where the engine keeps its data, "
            "`docker system df` shows what takes it"
        )
    # BuildKit repeats the whole command before its exit code, and the chain of causes before the
    # last one.
    short = code[0] if (code := re.search(r"exit code: \d+$", why)) else why.rsplit(": ", 1)[-1]
    return StepError(f"the build failed at {describe(step)}: {short}", step)


def _digests(metadata: Mapping[str, Any], targets: Sequence[str]) -> dict[str, str]:
    return {
        name: metadata[name]["containerimage.digest"]
        for name in targets
        if "containerimage.digest" in metadata.get(name, {})
    }
