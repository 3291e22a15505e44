"""Falsify the metadata of a Python distribution."""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path


def main(deed: str, name: str, value: str = "") -> None:
    """Add a distribution, change a line of one, or have one twice.

    Args:
        deed: what to do.
        name: of the distribution.
        value: the version to add; or a line of metadata, in the place of the one with its name.
    """
    site = Path(str(distribution("mlflow").locate_file("")))
    if deed == "add":
        folder = site / f"{name.replace('-', '_')}-{value}.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {value}\n"
        (folder / "METADATA").write_text(text, encoding="utf-8")
        (folder / "RECORD").touch()
        return
    (folder,) = site.glob(f"{name.replace('-', '_')}-*.dist-info")
    if deed == "double":
        shutil.copytree(folder, folder.with_name(folder.name.capitalize()))
        return
    metadata = folder / "METADATA"
    lines = metadata.read_text(encoding="utf-8").splitlines(keepends=True)
    field = f"{value.partition(':')[0]}:"
    place = next(index for index, line in enumerate(lines) if line.startswith(field))
    lines[place] = f"{value}\n"
    metadata.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
