"""Display of a build under way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from seatrial.build.progress import Build, BuildStep, Remaining

_SHOWN_ACTION = 90


class BuildWatch:
    """The steps of a build as lines, with the images that are not finished.

    On a terminal those stand below the lines, as `rich.console.Console.status` shows them; in a log
    they follow each image that is finished.
    """

    def __init__(self, build: Build, targets: Sequence[str], console: Console) -> None:
        """Nothing is shown yet.

        Args:
            build: what is fed with the events.
            targets: the images that were asked for.
            console: where the lines go.
        """
        self._build = build
        self._targets = targets
        self._console = console
        self._shown: set[tuple[str, str, str]] = set()
        self._remaining: Sequence[Remaining] = build.remaining(targets)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event in, and print the steps that it starts or finishes."""
        changed = self._build.update(event)
        # The terminal is drawn by another thread: it reads this, and not the build.
        self._remaining = self._build.remaining(self._targets)
        for step in changed:
            mark = _mark(step)
            # What several images share is reported for each of them: once is enough.
            shared = step.action.startswith("RUN ")
            key = (mark, "" if shared else step.owner.target, step.action)
            if mark and key not in self._shown:
                self._shown.add(key)
                more = f"; {self}" if step.export and self._remaining else ""
                line = f"{mark}  {describe(step)}{more}"
                self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def __str__(self) -> str:
        """The images that are not finished, and the step that has been at work for longest."""
        remaining = self._remaining
        line = f"still being built: {', '.join(map(str, remaining))}"
        running = [image.longest for image in remaining if image.longest and image.longest.started]
        if not running:
            return line
        longest = min(running, key=_start)
        seconds = max(0.0, (datetime.now(UTC) - _start(longest)).total_seconds())
        return f"{line}; for {seconds:.0f} s at {describe(longest)}"

    def __rich__(self) -> Text:
        """The same for a terminal, cut to its width."""
        return Text(str(self), no_wrap=True, overflow="ellipsis")


def describe(step: BuildStep) -> str:
    """The step as a person recognises it: image, platform, instruction."""
    action = step.action
    if len(action) > _SHOWN_ACTION:
        action = f"{action[:_SHOWN_ACTION]}…"
    return f"{' '.join(part for part in (*step.owner, step.stage) if part)}: {action}"


def _start(step: BuildStep) -> datetime:
    assert step.started
    return step.started


def _mark(step: BuildStep) -> str:
    """How to show a step that has just started or finished; most are not worth a line."""
    if step.internal or step.error or step.cached:
        return ""
    if step.completed:
        return f"{step.seconds:4.0f}s"
    return "" if step.export else "  ..."
