"""Declared packages against those of an image, in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from seatrial.errors import UserError
from seatrial.inspection.declared import debian_faults, python_faults
from seatrial.inspection.sbom import Package

if TYPE_CHECKING:
    from pathlib import Path

LINUX = {"sys_platform": "linux", "python_version": "3.13", "platform_machine": "x86_64"}


def distribution(name: str, version: str) -> Package:
    return Package("python", name, version, f"/site-packages/{name}-{version}.dist-info/METADATA")


BOTO3 = distribution("boto3", "1.44.5")
LEFT_PAD = distribution("left_pad", "1.0")
PACKAGES = (
    Package("debian", "libc6", "2.41", "/var/lib/dpkg/status.d/libc6"),
    Package("debian", "bash", "5.2", "/var/lib/dpkg/status.d/bash"),
    distribution("MLflow", "3.17.2"),
    BOTO3,
    LEFT_PAD,
)


def written(folder: Path, text: str) -> Path:
    path = folder / "declared.txt"
    path.write_text(text)
    return path


def test_debian_packages_in_both_directions(tmp_path: Path) -> None:
    declared = written(tmp_path, "# why\nlibc6  # the C library\n\ntzdata\n")
    assert debian_faults(declared, PACKAGES) == [
        "tzdata is in declared.txt, but not in the image",
        "bash 5.2 is in the image (/var/lib/dpkg/status.d/bash), but not in declared.txt",
    ]
    assert debian_faults(written(tmp_path, "bash\nlibc6\n"), PACKAGES) == []


def test_distributions_in_both_directions(tmp_path: Path) -> None:
    declared = written(
        tmp_path,
        "--index-url x\n"
        "mlflow==3.17.2 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\n"
        "boto3[crt]==1.44.4\n"
        "colorama==0.4 ; sys_platform == 'win32'\n"
        "flask==3.1\n",
    )
    faults = python_faults(declared, PACKAGES, environment=LINUX, omitted=[])
    assert faults == [
        "flask is in declared.txt, but not in the image",
        f"boto3 is 1.44.5 in {BOTO3.path}, declared.txt says ==1.44.4",
        f"left_pad 1.0 is in the image ({LEFT_PAD.path}), but not in declared.txt",
    ]


def test_what_is_left_out_on_purpose_is_not_missing(tmp_path: Path) -> None:
    declared = written(tmp_path, "mlflow\nboto3\nleft-pad==1.0\nPyArrow==25\n")
    assert python_faults(declared, PACKAGES, environment=LINUX, omitted=["pyarrow"]) == []
    assert python_faults(declared, PACKAGES, environment=LINUX, omitted=[]) == [
        "pyarrow is in declared.txt, but not in the image"
    ]


def test_a_list_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.txt can't be read as a list of packages"):
        debian_faults(tmp_path / "none.txt", PACKAGES)
    with pytest.raises(UserError, match=r"'a b c' is no requirement"):
        python_faults(written(tmp_path, "a b c\n"), PACKAGES, environment={}, omitted=[])
