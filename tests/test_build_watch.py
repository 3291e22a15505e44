"""What a person sees of a build under way: steps, and the images that are not finished."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from build_events import vertex
from rich.console import Console

from seatrial.build import watch as watching
from seatrial.build.progress import Build, BuildStep
from seatrial.build.watch import BuildWatch, describe

APT = "[custom tools 1/2] RUN apt-get install"
GO = "[minio compile 1/2] RUN --mount=type=secret,id=ca go install"
ANNOUNCED = [
    vertex("tools", APT),
    vertex("tools", "[minio tools 1/2] RUN apt-get install"),
    vertex("context", "[minio internal] load build context"),
    vertex("go", GO),
    vertex("folders", "[minio compile 2/2] RUN install -d /out"),
    vertex("pip", "[custom linux/amd64 environment 1/1] RUN pip install"),
]
"""What two images are made of, which share a step; nothing has begun."""


class Log:
    """A build that two images were asked of, with what a log gets of it."""

    def __init__(self, *targets: str) -> None:
        self.output = io.StringIO()
        self.watch = BuildWatch(Build(), targets, Console(file=self.output, width=200))

    def take(self, *vertexes: dict[str, Any]) -> list[str]:
        """The lines that an event adds."""
        before = len(self.output.getvalue())
        self.watch.take({"vertexes": list(vertexes)})
        return self.output.getvalue()[before:].splitlines()


@pytest.fixture
def log() -> Log:
    return Log("custom", "minio")


def test_images_are_named_before_their_steps_are_known(log: Log) -> None:
    assert str(log.watch) == "still being built: custom, minio"


def test_steps_that_images_share_count_for_each(log: Log) -> None:
    assert log.take(*ANNOUNCED) == []
    assert str(log.watch) == "still being built: custom 0/2, minio 0/3"
    assert log.take(vertex("tools", APT, 0, 5)) == ["   5s  custom tools 1/2: RUN apt-get install"]
    assert str(log.watch) == "still being built: custom 1/2, minio 1/3"


def test_step_that_began_first_is_named_with_its_seconds(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.take(*ANNOUNCED, vertex("tools", APT, 0, 5))
    log.take(vertex("go", GO, 5), vertex("pip", "[custom environment 1/1] RUN pip install", 7))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # noqa: ARG003
            return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=90)

    monkeypatch.setattr(watching, "datetime", Clock)
    assert str(log.watch) == (
        "still being built: custom 1/2, minio 1/3; for 85 s at minio compile 1/2: RUN go install"
    )


def test_finished_image_is_followed_by_what_is_left(log: Log) -> None:
    log.take(*ANNOUNCED, vertex("tools", APT, 0, 5))
    log.take(vertex("pip", "[custom environment 1/1] RUN pip install", 5, 9))
    [line] = log.take(vertex("out", "[custom] exporting to image", 9, 10))
    assert line == "   1s  custom: exporting to image; still being built: minio 1/3"
    log.take(vertex("go", GO, 5, 99), vertex("folders", "[minio compile 2/2] RUN install", 99, 99))
    [line] = log.take(vertex("image", "[minio] exporting to image", 99, 100))
    assert line == "   1s  minio: exporting to image"


def test_image_is_not_finished_while_it_is_exported(log: Log) -> None:
    log.take(*ANNOUNCED)
    assert log.take(vertex("out", "[custom] exporting to image", 9)) == []
    assert "custom" in str(log.watch)


def test_image_from_the_cache_is_finished_whatever_its_steps_say(log: Log) -> None:
    """BuildKit skips the steps below one that it has."""
    log.take(*ANNOUNCED, vertex("folders", "[minio compile 2/2] RUN install", 0, 0, cached=True))
    log.take(vertex("image", "[minio] exporting to image", 0, 0))
    assert str(log.watch) == "still being built: custom 0/2"


def test_terminal_shows_what_is_left_below_the_lines() -> None:
    output = io.StringIO()
    console = Console(file=output, width=60, force_terminal=True)
    watch = BuildWatch(Build(), ["custom", "minio"], console)
    with console.status(watch):
        watch.take({"vertexes": [*ANNOUNCED, vertex("go", GO, 5)]})
        deadline = time.monotonic() + 10
        while "minio 0/3" not in output.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert "  ...  minio compile 1/2: RUN go install" in output.getvalue()
    shown = [line for line in output.getvalue().split("\n") if "still being" in line]
    assert "…" in shown[-1]


def test_long_instructions_are_cut() -> None:
    found = BuildStep("d", "[x a 1/1] RUN " + "word " * 100)
    assert len(describe(found)) < 120
