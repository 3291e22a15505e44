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
    runs = [(character, len(list(run))) for character, run in groupby(text)]
    # Blanks at the ends are often cut off.
    bare = len(text) - len(text.lstrip()), len(text.rstrip())
    found, position = "", 0
    for character, length in runs:
        optional = character in "\t\r\n" or not bare[0] <= position < bare[1]
        found += _run(character, length, 0 if optional else length)
        position += length
    return found


def _run(character: str, length: int, least: int) -> str:
    """Some equal characters. SQL and ODBC double some, and so does alembic."""
    if _WORD.fullmatch(character):
        return character * length
    most = 4 * length if character == "\\" else 2 * length
    return f"(?:{'|'.join(_spellings(character))}){{{least},{most}}}"


def _spellings(character: str) -> list[str]:
    in_bytes = character.encode(errors="surrogatepass")
    percent = "".join(rf"%(?:%|25)*{byte:02x}" for byte in in_bytes)
    found = [f"(?i:{percent})"]
    found.append(r"\\" if character == "\\" else rf"\\*{re.escape(character)}")
    codes = ascii(character)[1:-1], json.dumps(character)[1:-1], repr(in_bytes)[2:-1]
    if character != "\\":
        found += [rf"\\+{re.escape(code[1:])}" for code in codes if code.startswith("\\")]
    return [*found, r"\+", r"\s"] if character.isspace() else found
