"""The console that every command prints to."""

from __future__ import annotations

from rich.console import Console

_LOG_WIDTH = 140


def make_console() -> Console:
    """Make a console; a log file is as wide as its tables, and breaks no path that people copy."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=_LOG_WIDTH)
