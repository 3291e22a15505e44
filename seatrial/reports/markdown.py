"""Text that others have chosen, as text in Markdown."""

from __future__ import annotations

import re

from seatrial.errors import printable

_LONGEST = 300
"""Characters of one text; a job's summary has a limit of a megabyte."""
_STEERS = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&@:])")
"""Everything that Markdown, or GitHub's, takes for more than text: mentions and tables as well."""


def escaped(text: str) -> str:
    """Give text on one line, in which nothing steers Markdown."""
    line = printable(text)
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
    return _STEERS.sub(r"\\\1", line)
