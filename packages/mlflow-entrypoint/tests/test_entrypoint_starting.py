"""The entry point: what a start writes is held back, until it has failed or not."""

from __future__ import annotations

import atexit
import io
import logging
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from mlflow_entrypoint import errors, starting
from mlflow_entrypoint.secrecy import MaskedStream

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Log:
    """What a process writes, as whoever collects its output gets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._bytes = io.BytesIO()
        # Kept, for it would close the bytes when it goes.
        self._plain = io.TextIOWrapper(self._bytes, encoding="utf-8")
        self.stream = MaskedStream(self._plain)

    def begin(self) -> None:
        """Take the place of the streams; pytest would put its own there after the fixtures."""
        for name in ("stdout", "stderr"):
            self._monkeypatch.setattr(sys, name, self.stream)

    def start(self) -> starting.QuietStart:
        """What a start of the server is given."""
        self.begin()
        self.quiet = starting.QuietStart()
        return self.quiet

    @property
    def text(self) -> str:
        return self._bytes.getvalue().decode()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Log]:
    from mlflow.store.db import utils

    kept = _Log(monkeypatch)
    monkeypatch.setattr(utils, "MAX_RETRY_COUNT", utils.MAX_RETRY_COUNT)
    monkeypatch.delenv("MLFLOW_LOGGING_LEVEL", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    kept.start()
    yield kept
    kept.quiet.drop()
    atexit.unregister(kept.stream.release)


def _error(message: str = "the pond is empty") -> BaseException:
    return ValueError(message)


def test_words_of_a_start_are_written_once_it_serves(log: _Log) -> None:
    quiet = log.start()
    quiet.begin()
    print("migrating", flush=True)
    assert log.text == ""
    quiet.end()
    assert log.text == "migrating\n"
    print("serving", flush=True)
    assert log.text == "migrating\nserving\n"


def test_one_line_takes_the_place_of_a_failed_starts_words(log: _Log) -> None:
    quiet = log.start()
    quiet.begin()
    print("Traceback", flush=True)
    quiet.fail("the pond is empty")
    assert log.text == "mlflow-entrypoint: the pond is empty\n"


def test_start_that_takes_long_shows_how_far_it_is(
    log: _Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = log.start()
    monkeypatch.setattr(starting, "_HOLD_SECONDS", 0.05)
    quiet.begin()
    print("migrating", flush=True)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            assert thread.daemon, "it would hold up the end of the process"
            thread.join(10)
    assert log.text == "migrating\n"


def test_no_thread_is_left_when_a_server_is_handed_over(log: _Log) -> None:
    """A process that is forked then would have half of it."""
    quiet = log.start()
    before = threading.active_count()
    quiet.begin()
    assert threading.active_count() == before + 1
    quiet.end()
    assert threading.active_count() == before


def test_exception_that_ends_a_start_is_one_line(log: _Log) -> None:
    quiet = log.start()
    quiet.begin()
    error = _error()
    sys.excepthook(type(error), error, None)
    assert log.text == (
        "mlflow-entrypoint: the server can't start: the pond is empty"
        " (MLFLOW_LOGGING_LEVEL=DEBUG shows where)\n"
    )
    assert sys.excepthook is sys.__excepthook__, "the server's own faults are its own"


def test_interruption_is_no_failure(log: _Log, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = log.start()
    seen: list[object] = []
    monkeypatch.setattr(sys, "__excepthook__", lambda *words: seen.append(words[0]))
    quiet.begin()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert seen == [KeyboardInterrupt]
    assert log.text == ""


def _record(level: int, error: BaseException | None) -> logging.LogRecord:
    information = (type(error), error, None) if error else None
    return logging.LogRecord("mlflow.cli", level, __file__, 1, "said", (), information)


def test_error_that_mlflow_logs_is_the_one_line(log: _Log) -> None:
    quiet = log.start()
    logger = logging.getLogger("mlflow.cli")
    quiet.begin()
    assert not logger.filter(_record(logging.ERROR, _error()))
    assert log.text.startswith("mlflow-entrypoint: the server can't start: the pond is empty (")
    assert logger.filter(_record(logging.ERROR, _error())), "it holds nothing back any more"


@pytest.mark.parametrize(
    ("level", "error"), [(logging.WARNING, _error()), (logging.ERROR, None), (logging.INFO, None)]
)
def test_other_records_pass(log: _Log, level: int, error: BaseException | None) -> None:
    quiet = log.start()
    quiet.begin()
    assert logging.getLogger("mlflow.cli").filter(_record(level, error))
    quiet.end()
    assert log.text == ""


@pytest.mark.parametrize("level", ["DEBUG", "debug"])
def test_whoever_looks_for_a_fault_sees_all(
    log: _Log, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    quiet = log.start()
    from mlflow.store.db import utils

    monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", level)
    quiet.begin()
    print("migrating", flush=True)
    assert log.text == "migrating\n"
    assert sys.excepthook is sys.__excepthook__
    assert utils.MAX_RETRY_COUNT == 1, "the database has been waited for"


def test_mlflow_does_not_wait_for_the_database_again(log: _Log) -> None:
    quiet = log.start()
    from mlflow.store.db import utils

    quiet.begin()
    assert utils.MAX_RETRY_COUNT == 1


def test_line_of_the_entry_point_is_one_line(log: _Log) -> None:
    log.begin()
    errors.say("a\nname \x1b[31mof\t\u65e5\u672c")
    assert log.text == "mlflow-entrypoint: a\\nname \\x1b[31mof\\t\u65e5\u672c\n"
