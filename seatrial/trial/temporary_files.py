"""A folder for the temporary files of a run, which goes with it; loaded by the root's conftest.

MLflow's client leaves a folder for each artifact that it fetches, and pytest keeps the folders of
its last three runs.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from seatrial import scratch

_PROVIDED: pytest.StashKey[bool] = pytest.StashKey()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Provide the folder in every run."""
    provide(config)


def provide(config: pytest.Config) -> None:
    """Put temporary files into a folder of this run's own, unless that was done already."""
    # The workers of xdist inherit the controller's.
    if hasattr(config, "workerinput") or _PROVIDED in config.stash:
        return
    config.stash[_PROVIDED] = True
    stack = ExitStack()
    place = stack.enter_context(scratch.for_temporary_files())
    config.add_cleanup(stack.close)
    if config.option.basetemp is None:
        # Below a folder for each user and run, paths of sockets get too long.
        config.option.basetemp = place / "tests"
