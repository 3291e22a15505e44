"""docs/promises.md, made from the schema: `python -m seatrial.contract.page > docs/promises.md`."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

from seatrial.contract.declarations import declarations, sections
from seatrial.contract.declaring import Need

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = "python -m seatrial.contract.page > docs/promises.md"


def page() -> str:
    """Write the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Promises"
    yield ""
    yield f"<!-- Made from seatrial/contract/schema.py by `{COMMAND}`: change it there. -->"
    yield ""
    yield (
        "Every key that a [contract](contracts.md) can promise. A promise is tried *whole*, or"
        " *each item* of its list or table is a promise of its own, such as"
        " `server.databases[sqlite]`. Items that are *alike* are tried by one test in one way, and"
        " one [mutant](mutants.md) shows that it works; others need a mutant each. What a promise"
        " needs has to be there, or it is not tried:"
    )
    yield ""
    yield from (f"- *{need.label}*: {need.meaning}" for need in Need)
    for name, section in sections().items():
        yield ""
        yield f"## `[{name}]`"
        yield ""
        yield inspect.cleandoc(section.__doc__ or "")
        yield ""
        yield "| key | value | tried | needs | meaning |"
        yield "| --- | --- | --- | --- | --- |"
        for declaration in declarations().values():
            if declaration.section == name:
                cells = (
                    f"`{declaration.name}`",
                    declaration.value,
                    declaration.tried,
                    declaration.requirements,
                    declaration.meaning,
                )
                yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        procedures = [
            f"- `{declaration.name}`: {declaration.procedure}"
            for declaration in declarations().values()
            if declaration.section == name and declaration.procedure
        ]
        if procedures:
            yield from ("", "How they are tried:", "", *procedures)


if __name__ == "__main__":
    sys.stdout.write(page())
