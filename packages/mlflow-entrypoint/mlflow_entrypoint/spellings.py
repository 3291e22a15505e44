"""Every way in which programs write a text that they were given.

One encodes it for an address, the next one quotes that for Python, a third doubles `%` or drops
tabs: no list of their results is ever complete. So a pattern allows each character each of its
spellings.
"""

from __future__ import annotations

import json
import re
from itertools import groupby

_WORD = re.compile(r"[A-Za-z0-9]*")


def core(text: str) -> str:
    """The longest part of a text that is the same in all spellings."""
    words: list[str] = _WORD.findall(text)
    return max(words, key=len)


def pattern(text: str) -> str:
    """A regular expression that finds a text, however it is spelled."""
    runs = [(each, len(list(run))) for each, run in groupby(text)]
    # Blanks at the ends are often cut off.
    bare = len(text) - len(text.lstrip()), len(text.rstrip())
    found, position = "", 0
    for each, length in runs:
        optional = each in "\t\r\n" or not bare[0] <= position < bare[1]
        found += _run(each, length, 0 if optional else length)
        position += length
    return found


def _run(each: str, length: int, least: int) -> str:
    """Some equal characters. SQL and ODBC double some, and so does alembic."""
    if _WORD.fullmatch(each):
        return each * length
    most = 4 * length if each == "\\" else 2 * length
    return f"(?:{'|'.join(_spellings(each))}){{{least},{most}}}"


def _spellings(each: str) -> list[str]:
    in_bytes = each.encode(errors="surrogatepass")
    percent = "".join(rf"%(?:%|25)*{byte:02x}" for byte in in_bytes)
    found = [f"(?i:{percent})"]
    found.append(r"\\" if each == "\\" else rf"\\*{re.escape(each)}")
    codes = ascii(each)[1:-1], json.dumps(each)[1:-1], repr(in_bytes)[2:-1]
    if each != "\\":
        found += [rf"\\+{re.escape(code[1:])}" for code in codes if code.startswith("\\")]
    return [*found, r"\+", r"\s"] if each.isspace() else found
