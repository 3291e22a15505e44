"""BuildKit's events: whose step, how long, what went wrong."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from build_events import log, vertex
from rich.console import Console

from seatrial.build import bake
from seatrial.build.progress import (
    KEPT_LINES,
    Build,
    BuildStep,
    StepOwner,
    busy_seconds,
    cached,
    events,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def step(
    name: str, begin: float | None = None, end: float | None = None, **more: object
) -> BuildStep:
    build = Build()
    build.update({"vertexes": [vertex("d", name, begin, end, **more)]})
    return build.steps["d"]


@pytest.mark.parametrize(
    ("name", "owner", "stage", "action"),
    [
        ("[custom environment 2/3] RUN  a", StepOwner("custom", ""), "environment 2/3", "RUN a"),
        (
            "[custom linux/amd64->arm64 environment 2/3] RUN a\n b",
            StepOwner("custom", "linux/arm64"),
            "environment 2/3",
            "RUN a b",
        ),
        (
            "[custom linux/arm64 custom 1/2] COPY a b",
            StepOwner("custom", "linux/arm64"),
            "custom 1/2",
            "COPY a b",
        ),
        (
            "[model-server] exporting to image",
            StepOwner("model-server", ""),
            "",
            "exporting to image",
        ),
        ("[tools 2/6] RUN --mount=type=secret,id=ca x", StepOwner("tools", ""), "2/6", "RUN x"),
        ("importing cache", StepOwner("", ""), "", "importing cache"),
    ],
)
def test_names_tell_the_owner(name: str, owner: StepOwner, stage: str, action: str) -> None:
    found = step(name)
    assert (found.owner, found.stage, found.action) == (owner, stage, action)


@pytest.mark.parametrize(
    ("name", "internal", "export"),
    [
        ("[custom internal] load build context", True, False),
        ("[custom scripts] load from client", True, False),
        ("[custom a 1/2] RUN x", False, False),
        ("[custom] exporting to image", False, True),
        ("[internal] load local bake definitions", True, False),
    ],
)
def test_own_preparations_of_buildkit_are_internal(name: str, internal: bool, export: bool) -> None:
    found = step(name)
    assert (found.internal, found.export) == (internal, export)


def test_nanoseconds_and_missing_moments_are_read() -> None:
    build = Build()
    build.update(
        {
            "vertexes": [
                {"digest": "a", "name": "[x 1/1] RUN a", "started": "2026-01-01T00:00:00.12345678Z",
                 "completed": "2026-01-01T00:00:01.1Z"},
                {"digest": "b", "name": "[x 1/1] RUN b", "started": "0001-01-01T00:00:00Z"},
            ]
        }
    )  # fmt: skip
    assert build.steps["a"].seconds == pytest.approx(0.976544, abs=1e-5)
    assert build.steps["b"].started is None
    assert build.steps["b"].seconds == 0


def test_update_reports_only_what_started_or_finished() -> None:
    build = Build()
    assert build.update({"vertexes": [vertex("a", "[x 1/1] RUN a")]}) == []
    assert [s.digest for s in build.update({"vertexes": [vertex("a", "[x 1/1] RUN a", 0)]})] == [
        "a"
    ]
    assert build.update({"vertexes": [vertex("a", "[x 1/1] RUN a", 0)]}) == []
    assert [s.digest for s in build.update({"vertexes": [vertex("a", "[x 1/1] RUN a", 0, 1)]})] == [
        "a"
    ]


def test_busy_seconds_count_overlaps_once_and_gaps_not() -> None:
    steps = [
        step("[x 1/1] RUN a", 0, 4),
        step("[x 1/1] RUN b", 1, 3),
        step("[x 1/1] RUN c", 3, 6),
        step("[x 1/1] RUN d", 10, 11),
        step("[x 1/1] RUN e", 12),
    ]
    assert busy_seconds(steps) == 7


def test_cached_ignores_the_export() -> None:
    steps = [step("[x 1/1] RUN a", 0, 0, cached=True), step("[x] exporting to image", 0, 9)]
    assert cached(steps)
    assert not cached([*steps, step("[x 1/1] RUN b", 0, 1)])


def test_steps_of_a_platform_include_those_for_all_and_leave_out_others() -> None:
    build = Build()
    build.update(
        {
            "vertexes": [
                vertex("a", "[custom linux/amd64->arm64 environment 1/1] RUN a", 0, 1),
                vertex("b", "[custom linux/amd64 environment 1/1] RUN a", 0, 1),
                vertex("c", "[custom] exporting to image", 0, 1),
                vertex("d", "[tools 1/1] RUN t", 0, 1),
                vertex("e", "[other linux/arm64 1/1] RUN t", 0, 1),
                vertex("f", "[custom internal] load build context", 0, 1),
            ]
        }
    )
    arm = {each.digest for each in build.of(["custom", "tools"], "linux/arm64")}
    assert arm == {"a", "c", "d"}


def test_exported_manifests_are_those_of_the_platforms_alone() -> None:
    build = Build()
    build.update({"vertexes": [vertex("a", "[custom] exporting to image", 0)]})
    first, second, other = (f"sha256:{n * 64}" for n in "123")
    for text in (
        f"exporting manifest {first}",
        f"exporting manifest {first}",
        f"exporting config {other}",
        f"exporting attestation manifest {other}",
        f"exporting manifest {second}",
        f"exporting manifest list {other}",
    ):
        build.update({"statuses": [{"id": text, "vertex": "a"}]})
    assert build.manifests("custom") == [first, second]
    assert build.manifests("other") == []


def test_output_is_kept_by_line_and_only_the_last_of_it() -> None:
    build = Build()
    build.update({"vertexes": [vertex("a", "[x 1/1] RUN a", 0)]})
    build.update({"logs": [log("a", "first li"), log("a", "ne\n10%\r20%\rdone\nrest")]})
    assert build.steps["a"].tail() == ["first line", "done", "rest"]
    build.update({"logs": [log("a", "".join(f"\n{n}" for n in range(100)))]})
    tail = build.steps["a"].tail()
    assert tail[-1] == "99"
    assert len(tail) == KEPT_LINES + 1


@pytest.mark.parametrize("indent", [None, 2])
def test_events_are_read_from_one_line_or_many_between_plain_text(indent: int | None) -> None:
    first = {"vertexes": [{"digest": "a", "name": "}\n{ {"}]}
    second = {"logs": [{"vertex": "a", "data": ""}]}
    text = "\n".join(
        ["WARN: old", json.dumps(first, indent=indent), json.dumps(second, indent=indent),
         "", "ERROR: failed to solve"]
    )  # fmt: skip
    assert list(events(io.StringIO(text + "\n"))) == [
        "WARN: old",
        first,
        second,
        "ERROR: failed to solve",
    ]


def test_an_event_cut_off_is_text() -> None:
    assert list(events(io.StringIO('{\n "vertexes": [\n'))) == ['{\n "vertexes": [']


def fault(build: Build, texts: Sequence[str] = ()) -> tuple[str, str]:
    output = io.StringIO()
    error = bake._fault(build, list(texts), Console(file=output, width=200))
    assert "\n" not in str(error)
    return str(error), output.getvalue()


def failing(error: str, output: str = "") -> Build:
    build = Build()
    name = "[custom linux/amd64->arm64 environment 2/3] RUN --mount=type=secret,id=ca pip install x"
    build.update(
        {
            "vertexes": [
                vertex("b", "[other 1/1] RUN y", 0, 1, error="x: context canceled"),
                vertex("a", name, 0, 1, error=error),
            ],
            "logs": [log("a", output)],
        }
    )
    return build


def test_failing_step_is_named_with_its_last_lines_above() -> None:
    error, output = fault(
        failing(
            'process "/bin/sh -c pip" did not complete successfully: exit code: 2', "one\ntwo\n"
        )
    )
    assert error == (
        "the build failed at custom linux/arm64 environment 2/3: RUN pip install x: exit code: 2"
    )
    assert output.rstrip().endswith("| one\n  | two")
    assert "last 2 lines" in output


@pytest.mark.parametrize(
    ("error", "output"),
    [
        ("failed to write: write /x: no space left on device", ""),
        ("did not complete successfully: exit code: 1", "cp: x: No space left on device\n"),
    ],
)
def test_full_disk_is_called_so(error: str, output: str) -> None:
    message, _ = fault(failing(error, output))
    assert message.startswith("the disk is full: custom linux/arm64 environment 2/3")
    assert "docker system df" in message


def test_fault_outside_of_any_step_is_buildx_own_words() -> None:
    message, _ = fault(Build(), ["note", "ERROR: Cannot connect to the Docker daemon"])
    assert message == "the build failed: Cannot connect to the Docker daemon"
    assert "no reason" in fault(Build())[0]


def test_output_does_not_steer_the_terminal() -> None:
    build = Build()
    build.update({"vertexes": [vertex("a", "[model 1/1] RUN check")]})
    build.update({"logs": [log("a", "\x1b[31mred\x1b[0m\n\x1b]0;title\x07\ta\n\x9bend")]})
    assert build.steps["a"].tail() == ["red", "?]0;title?\ta", "?end"]
