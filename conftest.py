"""Loads the trial's plugin: its options and fixtures are there from the project's root on.

And how generated examples are drawn. A check that stands between a change and its landing tries the
same examples each time: what it finds is due to the change. `nox -s search` draws others each time.
"""

from hypothesis import settings

# Another team's tests, which run where the package is installed: `nox -s wheel`.
collect_ignore = ["tests/foreign"]
pytest_plugins = ["seatrial.trial.temporary_files", "seatrial.trial.plugin"]

settings.register_profile("gate", derandomize=True)
settings.register_profile("search", print_blob=True)
settings.load_profile("gate")
