"""Reports of BuildKit about a build: steps, with their times, output and faults.

The events are those of `docker buildx bake --progress rawjson` (buildx 0.13 and newer).
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from seatrial.errors import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

KEPT_LINES = 25
"""Lines of a step's output that are kept for the person whose step failed."""

# "[custom linux/amd64->arm64 environment 2/3] RUN ...": target, platform (where several are built),
# stage and step as far as the step has them.
_NAME = re.compile(
    r"\[(?P<target>[\w.-]+)"
    r"(?: (?P<platform>linux/[\w/]+)(?:->(?P<wanted>[\w/]+))?)?"
    r"(?P<stage>[^\]]*)\] (?P<action>.*)",
    re.DOTALL,
)
_NEVER = datetime.max.replace(tzinfo=UTC)
_MANIFEST = re.compile(r"exporting manifest (sha256:[0-9a-f]{64})")


class StepOwner(NamedTuple):
    """Image of a step; the platform is empty where the step serves all."""

    target: str
    platform: str


@dataclass
class BuildStep:
    """Vertex of the build's graph."""

    digest: str
    name: str
    started: datetime | None = None
    completed: datetime | None = None
    cached: bool = False
    error: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    rest: str = ""
    """Output after the last line break."""
    manifests: dict[str, None] = field(default_factory=dict)
    """Digests of the manifests that it exported, one per platform, in its order."""
    targets: set[str] = field(default_factory=set)
    """The images that were reported to need it: what several share is named after one of them."""

    @property
    def owner(self) -> StepOwner:
        """The image it belongs to."""
        match = _NAME.fullmatch(self.name)
        if not match:
            return StepOwner("", "")
        platform = match["platform"] or ""
        # On a build platform for another one: it belongs to the other.
        return StepOwner(
            match["target"], f"linux/{match['wanted']}" if match["wanted"] else platform
        )

    @property
    def stage(self) -> str:
        """The stage of the Dockerfile and the step's place in it, such as `environment 2/3`."""
        match = _NAME.fullmatch(self.name)
        return match["stage"].strip() if match else ""

    @property
    def internal(self) -> bool:
        """Tell whether it is BuildKit's own preparation, which is never cached and says nothing.

        Instructions of a Dockerfile are in capitals, BuildKit's own words are not.
        """
        return not self.export and not self.action[:1].isupper()

    @property
    def export(self) -> bool:
        """Tell whether it writes the finished image to the store."""
        return "] exporting to " in self.name

    @property
    def seconds(self) -> float:
        """Seconds that it took, 0 for one that is not finished."""
        if not self.started or not self.completed:
            return 0.0
        return (self.completed - self.started).total_seconds()

    @property
    def action(self) -> str:
        """Command on one line, without its mounts."""
        match = _NAME.fullmatch(self.name)
        words = (match["action"] if match else self.name).split()
        return " ".join(word for word in words if not word.startswith("--mount="))

    def tail(self) -> list[str]:
        """The last lines of its output; of a step that runs a model the model wrote them."""
        lines = [*self.lines, self.rest] if self.rest else self.lines
        return [plain(line) for line in lines]


@dataclass(frozen=True)
class Remaining:
    """An image that is not finished, and how far it is."""

    target: str
    done: int
    """Steps that have ended, those of the bases below it included."""
    steps: int
    """Steps that are known so far."""
    longest: BuildStep | None
    """Step at work that began first."""

    def __str__(self) -> str:
        """The image, and the part of its steps that have ended."""
        return f"{self.target} {self.done}/{self.steps}" if self.steps else self.target


class Build:
    """The state of a build, fed with events."""

    def __init__(self) -> None:
        self.steps: dict[str, BuildStep] = {}

    def update(self, event: Mapping[str, Any]) -> list[BuildStep]:
        """Take one event in.

        Returns:
            The steps that it started or finished, in its order.
        """
        changed = []
        for vertex in event.get("vertexes") or ():
            step = self.steps.setdefault(
                vertex["digest"], BuildStep(vertex["digest"], vertex.get("name", ""))
            )
            before = (step.started, step.completed, step.error)
            step.name = vertex.get("name", step.name)
            step.targets.add(step.owner.target)
            step.started = _moment(vertex.get("started")) or step.started
            step.completed = _moment(vertex.get("completed"))
            step.cached = bool(vertex.get("cached")) or step.cached
            step.error = vertex.get("error") or ""
            if before != (step.started, step.completed, step.error):
                changed.append(step)
        for status in event.get("statuses") or ():
            if match := _MANIFEST.fullmatch(status["id"]):
                self.steps[status["vertex"]].manifests[match[1]] = None
        for log in event.get("logs") or ():
            if (written := self.steps.get(log["vertex"])) is not None:
                text = base64.b64decode(log.get("data") or "").decode(errors="replace")
                *lines, written.rest = (written.rest + text).split("\n")
                written.lines.extend(line.rsplit("\r", 1)[-1] for line in lines)
        return changed

    def failed(self) -> BuildStep | None:
        """The step that failed by itself, rather than because another one did."""
        faults = [step for step in self.steps.values() if step.error]
        own = [step for step in faults if not step.error.endswith("context canceled")]
        return next(iter(own or faults), None)

    def manifests(self, target: str) -> list[str]:
        """The digests of the manifests that were exported for a target, one per platform."""
        return [
            digest
            for step in self.steps.values()
            if step.owner.target == target
            for digest in step.manifests
        ]

    def remaining(self, targets: Iterable[str]) -> list[Remaining]:
        """How far the targets are that are not finished, in the given order.

        BuildKit reports the steps of an image as soon as it has read the Dockerfile; until then
        there are none.
        """
        found = []
        for target in targets:
            own = [step for step in self.steps.values() if target in step.targets]
            exports = [step for step in own if step.export]
            if exports and all(step.completed for step in exports):
                continue
            steps = [step for step in own if not step.export and not step.internal]
            running = [step for step in steps if step.started and not step.completed]
            found.append(
                Remaining(
                    target,
                    done=sum(step.completed is not None for step in steps),
                    steps=len(steps),
                    longest=min(running, key=lambda step: step.started or _NEVER, default=None),
                )
            )
        return found

    def of(self, targets: Iterable[str], platform: str) -> list[BuildStep]:
        """The steps that made targets for a platform; a step without platform serves all."""
        wanted = set(targets)
        return [
            step
            for step in self.steps.values()
            if step.owner.target in wanted
            and step.owner.platform in ("", platform)
            and not step.internal
        ]


def cached(steps: Iterable[BuildStep]) -> bool:
    """Tell whether nothing had to be done but writing down the result."""
    return all(step.cached for step in steps if not step.export)


def busy_seconds(steps: Iterable[BuildStep]) -> float:
    """Seconds in which at least one of the steps was at work; steps at the same time count once."""
    spans = sorted(
        (step.started, step.completed) for step in steps if step.started and step.completed
    )
    total, end = 0.0, None
    for started, completed in spans:
        begin = started if end is None else max(started, end)
        if completed > begin:
            total += (completed - begin).total_seconds()
            end = completed
    return total


def events(lines: Iterable[str]) -> Iterator[dict[str, Any] | str]:
    """Split what buildx writes into events and lines of plain text.

    Newer versions write an event per line, 0.13 writes it over many.
    """
    buffer: list[str] = []
    for line in lines:
        if not buffer and not line.startswith("{"):
            if line.strip():
                yield line.rstrip()
            continue
        buffer.append(line)
        if line.startswith("}") or line.rstrip().endswith("}"):
            try:
                event: dict[str, Any] = json.loads("".join(buffer))
            except ValueError:
                continue  # a closing brace further in
            buffer.clear()
            yield event
    if buffer:
        yield "".join(buffer).rstrip()


def _moment(value: str | None) -> datetime | None:
    if not value or value.startswith("0001-"):
        return None
    # Nanoseconds are more than Python's clock has, and there may be fewer than three digits.
    return datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", value))
