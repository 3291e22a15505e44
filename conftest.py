"""Loads the trial's plugin: its options and fixtures are there from the project's root on."""

pytest_plugins = ["seatrial.trial.plugin"]
