"""The factor of time limits follows the machine, and a wait notices that it got slower."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from tenacity import RetryCallState

from seatrial.engine.machine_speed import MachineSpeed, slowdown
from seatrial.engine.waiting import Deadline


def _speed(*measurements: float) -> MachineSpeed:
    left = list(measurements)
    return MachineSpeed(lambda: left.pop(0))


@pytest.mark.parametrize(
    ("measured", "factor"), [(0.4, 1), (1.0, 1), (1.9, 1), (2.0, 2), (4.7, 4), (31.5, 31)]
)
def test_factor_is_the_slowdown_rounded_down(measured: float, factor: int) -> None:
    assert _speed(measured).refresh() == factor


def test_factor_never_falls() -> None:
    speed = _speed(5.2, 1.0)
    assert [speed.refresh(fresh=0), speed.refresh(fresh=0)] == [5, 5]
    assert speed.slowdown == 1.0


def test_fresh_measurement_is_not_repeated() -> None:
    speed = _speed(3.0)
    assert [speed.refresh(fresh=60) for _ in range(3)] == [3, 3, 3]


def test_remark_says_how_slow_the_machine_was() -> None:
    speed = _speed(1.2, 4.31)
    speed.refresh(fresh=0)
    assert speed.remark == ""
    speed.refresh(fresh=0)
    assert speed.remark == (
        " (time limits are multiplied by 4: a known piece of work last took 4.3 times as long as on"
        " an idle machine)"
    )


def _after(seconds: float) -> RetryCallState:
    state: Any = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    state.outcome_timestamp = state.start_time + seconds
    return state  # type: ignore[no-any-return]


def test_deadline_moves_when_the_machine_got_slower_meanwhile() -> None:
    deadline = Deadline(10, _speed(3.5, 3.0))
    assert [deadline(_after(seconds)) for seconds in (9.9, 10, 29, 30)] == [
        False,
        False,
        False,
        True,
    ]
    assert deadline.allowed == 30


def test_deadline_that_counts_a_slow_machine_already_does_not_move() -> None:
    speed = _speed(3.5, 3.4)
    speed.refresh(fresh=0)
    assert Deadline(30, speed)(_after(30))


def test_busy_cores_are_a_slow_machine() -> None:
    before = slowdown()
    words = (sys.executable, "-c", "print(flush=True)\nwhile True: pass")
    busy = [
        subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(4 * (os.cpu_count() or 1))
    ]
    try:
        for process in busy:
            assert process.stdout
            process.stdout.readline()
        assert slowdown() > 1.5 * before
    finally:
        for process in busy:
            process.kill()
            process.communicate()
