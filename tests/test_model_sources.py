"""What is done with sources and wheels of strangers in the containers that build (docker/)."""

from __future__ import annotations

import csv
import gzip
import importlib.machinery
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from repository import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def load(path: str) -> ModuleType:
    """Import a program of an image's build."""
    loader = importlib.machinery.SourceFileLoader(path.replace("/", "_"), str(ROOT / path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses look there
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fetcher() -> ModuleType:
    """The program that fetches sources; the client of indexes is in its container alone."""
    client = ModuleType("pypi_simple")
    client.__dict__.update(PYPI_SIMPLE_ENDPOINT="", NoSuchProjectError=KeyError, PyPISimple=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pypi_simple", client)
        return load("docker/model-wheels/fetch")


def packed(text: bytes) -> bytes:
    """A source with this pyproject.toml."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        member = tarfile.TarInfo("own-1.0/pyproject.toml")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return made.getvalue()


def zipped(damage: slice, by: bytes) -> bytes:
    """A source as a zip archive, damaged."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("own-1.0/pyproject.toml", "x" * 5000)
    content = bytearray(made.getvalue())
    content[damage] = by
    return bytes(content)


def swollen() -> bytes:
    """A source whose header says that a gigabyte of names follows."""
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    header.size = 1 << 30
    return gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + b"\0" * (1 << 20))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("archive.tar.gz", b""),
        ("archive.tar.gz", b"<html>"),
        ("archive.tar.gz", packed(b"")[:40]),
        ("archive.tar.gz", swollen()),
        ("archive.tar.xz", b"\xfd7zXZ\0" + b"x" * 100),
        ("archive.tar.bz2", b"BZh9" + b"x" * 100),
        ("archive.zip", b"PK\x05\x06"),
        ("archive.zip", zipped(slice(60, 64), b"\xff" * 4)),
        ("archive.tar.gz", packed(b"[build-system]\nrequires = 5")),
        ("archive.tar.gz", packed(b"build-system = 5")),
        ("archive.tar.gz", packed(b"[build-system]\nrequires = ['a @ file:///x']")),
        ("archive.tar.gz", packed(b"x = " + b"[" * 50_000)),
        ("archive.tar.gz", packed(b"x = " + b"9" * 5000)),
        ("archive.tar.gz", packed(b"#" * 100_000)),
    ],
    ids=[
        "nothing",
        "a page",
        "cut off",
        "swollen",
        "no xz",
        "no bz2",
        "zip cut off",
        "zip whose folder lies",
        "requires a number",
        "a number for a table",
        "requires a file",
        "nested",
        "a long number",
        "a long comment",
    ],
)
def test_hostile_source_is_refused(
    name: str, content: bytes, fetcher: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(fetcher.RefusedError):
        fetcher.tools_of(tmp_path)


READ = """
import gc, pathlib, sys
from test_model_sources import load
fetch = load("docker/model-wheels/fetch")
fetch.MOST_SECONDS = 0.2
gc.callbacks.append(lambda *_: sum(range(10_000)))
with fetch.time_limit("own==1 --hash=sha256:0"):
    fetch.tools_of(pathlib.Path(sys.argv[1]))
"""
"""Reads a source while most of the time is spent where exceptions are swallowed."""


def test_reading_a_source_has_a_time_limit(tmp_path: Path) -> None:
    (tmp_path / "archive.tar.gz").write_bytes(packed(b"a." * 20_000 + b"a = 1"))
    client = "PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple = '', KeyError, None"
    (tmp_path / "pypi_simple.py").write_text(client)
    path = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "tests")))
    ended = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = "fetch: own==1: reading its source takes more than 0.2 seconds\n"
    assert (ended.returncode, ended.stderr) == (1, said)


def test_record_of_a_wheel_names_files_of_the_wheel_alone(tmp_path: Path) -> None:
    """Otherwise the digest of a build's secret would be in the image."""
    composer = load("docker/bases/scripts/compose-environment")
    site = tmp_path / "out" / "opt" / "mlflow" / "lib" / "python3.13" / "site-packages"
    record = site / "own-1.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    program = tmp_path / "out" / "opt" / "mlflow" / "bin" / "own"
    program.parent.mkdir()
    program.write_text("#!/bin/own")
    (site / "own.py").write_text("")
    (tmp_path / "secret").write_text("hunter2")
    above = "../" * 7
    kept = ["own.py,,", "own-1.dist-info/RECORD,,", "../../../bin/own,,"]
    odd = [
        f"{tmp_path}/secret,sha256=x,1",
        f"{above}secret,sha256=x,1",
        "/dev/zero,sha256=x,1",
        "x",
    ]
    record.write_text("\n".join([*kept[:1], *odd, *kept[1:]]))
    composer.correct_records(site)
    assert record.read_text().splitlines() == kept
    assert [row[0] for row in csv.reader(record.read_text().splitlines())][-1].endswith("bin/own")
