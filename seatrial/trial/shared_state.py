"""State that the processes of one run share: pytest itself, and the workers of pytest-xdist.

Each value is made once, by the process that asks first, and kept as JSON in a folder, which only
this user may read. A failure is kept as well: whoever asks later gets the same one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seatrial import files
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_FAULT = "fault"


@dataclass(frozen=True)
class SharedState:
    """Values by name."""

    folder: Path

    def get(self, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever JSON holds
        """Give back the value of that name; the first call of all processes makes it.

        Args:
            name: of the value.
            make: gives back the value, as JSON can hold it; the other processes wait for it.

        Raises:
            UserError: it can't be made, now or when it was first asked for.
        """
        from filelock import FileLock

        path = self._path(name)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                self._write(path, self._made(make))
        return self._read(path)

    def refuse(self, error: UserError) -> None:
        """Keep the reason why the run can't begin, for the process that a person has started."""
        self._write(self._path(_FAULT), {"error": str(error)})

    def require_no_fault(self) -> None:
        """Raise what `refuse` has kept.

        Raises:
            UserError: the run can't begin.
        """
        if (path := self._path(_FAULT)).exists():
            self._read(path)

    def note(self, name: str) -> None:
        """Set a sign that `is_noted` finds in every process."""
        self._sign(name).touch()

    def is_noted(self, name: str) -> bool:
        """Whether a process has set that sign."""
        return self._sign(name).exists()

    def _sign(self, name: str) -> Path:
        return self._path(name).with_suffix(".sign")

    def _path(self, name: str) -> Path:
        # A label may be an image's reference.
        return self.folder / f"{re.sub(r'[^A-Za-z0-9.-]', '_', name)}.json"

    @staticmethod
    def _read(path: Path) -> Any:  # noqa: ANN401
        found = json.loads(path.read_text(encoding="utf-8"))
        if "error" in found:
            raise UserError(found["error"])
        return found["value"]

    @staticmethod
    def _made(make: Callable[[], Any]) -> dict[str, Any]:
        try:
            return {"value": make()}
        except UserError as error:
            return {"error": str(error)}

    @staticmethod
    def _write(path: Path, content: dict[str, Any]) -> None:
        files.write_atomically(path, json.dumps(content))
