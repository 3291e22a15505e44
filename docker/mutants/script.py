"""Take a script away that a page of the user interface loads later."""

from __future__ import annotations

import re
from pathlib import Path

BUILD = Path("/opt/mlflow/lib/python3.13/site-packages/mlflow/server/js/build/static/js")


def main() -> None:
    """Remove the first one that the main script names."""
    (script,) = BUILD.glob("main.*.js")
    named = re.findall(r"static/js/([\w.-]+\.chunk\.js)", script.read_text(encoding="utf-8"))
    (BUILD / min(named)).unlink()


if __name__ == "__main__":
    main()
