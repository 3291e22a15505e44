"""Change modules of an image: a text that is not there exactly once ends the build."""

from __future__ import annotations

import py_compile
import sys
import tomllib
from pathlib import Path

SITE = Path("/opt/mlflow/lib/python3.13/site-packages")
PATCH = Path("/tmp/patch.toml")  # noqa: S108 - mounted by the build


def main() -> None:
    """Apply every change of the patch; the module must compile afterwards."""
    for change in tomllib.loads(PATCH.read_text(encoding="utf-8"))["change"]:
        path = SITE / change["file"]
        text = path.read_text(encoding="utf-8")
        if (found := text.count(change["before"])) != 1:
            sys.exit(f"{path} holds this {found} times, not once:\n{change['before']}")
        path.write_text(text.replace(change["before"], change["after"]), encoding="utf-8")
        # The bytecode that the image brings is not checked against the source.
        py_compile.compile(
            str(path),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


if __name__ == "__main__":
    main()
