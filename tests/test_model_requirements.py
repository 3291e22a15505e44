"""What a model requires, parsed: what is understood goes on as it was meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from seatrial.errors import UserError
from seatrial.model import requirements, wheels

if TYPE_CHECKING:
    from pathlib import Path

INDEX = "https://packages.example/simple"


def read(
    folder: Path, *lines: str, allowed: tuple[str, ...] = (), own: tuple[str, ...] = ()
) -> requirements.Requirements:
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines))
    return requirements.read(folder, allowed, own)


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("six", "six"),
        ("six==1.16.0", "six==1.16.0"),
        ("  scikit_learn [a, b] >=1 , <2  # why", "scikit_learn[a,b]<2,>=1"),
        ("six ; python_version < '4'", 'six; python_version < "4"'),
        ("six==1.16.0 \\\n  ; python_version < '4'", 'six==1.16.0; python_version < "4"'),
        ("torch==2.9.0+cpu", "torch==2.9.0+cpu"),
        ("six~=1.0!=1.1", None),
        ("six===1.0", "six===1.0"),
    ],
)
def test_requirement_is_written_anew(line: str, parsed: str | None, tmp_path: Path) -> None:
    if parsed is None:
        with pytest.raises(UserError, match="is no requirement"):
            read(tmp_path, line)
    else:
        assert read(tmp_path, line).wanted == (parsed,)


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("code/own_tool-1.0-py3-none-any.whl", "own-tool @ file://${LISTS}/own/{wheel}"),
        ("./code/own_tool-1.0-py3-none-any.whl", "own-tool @ file://${LISTS}/own/{wheel}"),
        ("code/own_tool-1.0-py3-none-any.whl[a,b]", "own-tool[a,b] @ file://${LISTS}/own/{wheel}"),
    ],
)
def test_wheel_of_the_model_is_taken(line: str, written: str, tmp_path: Path) -> None:
    wheel = tmp_path / "code" / "own_tool-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()

    found = read(tmp_path, "six", line)

    assert found.wanted == ("six", written.replace("{wheel}", wheel.name))
    assert found.wheels == (wheel,)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("code/own-1.0.tar.gz", "is a source, which an image is not made of; build a wheel"),
        ("code/own-1.0.zip", "is a source"),
        ("code/own", "is a source"),
        ("./code/own/", "is a source"),
        ("code/missing-1.0-py3-none-any.whl", "names a file that the model has not got"),
        ("missing-1.0-py3-none-any.whl", "names a file that the model has not got"),
        ("code/own.txt", "is no wheel"),
        ("code/wrong.whl", "is no wheel"),
        ("../own-1.0-py3-none-any.whl", "names something outside the model's folder"),
        ("/etc/own-1.0-py3-none-any.whl", "is no requirement"),
        ("file:code/own-1.0-py3-none-any.whl", "is no requirement"),
        ("own @ file:code/own-1.0-py3-none-any.whl", "is no plain http"),
    ],
)
def test_other_file_of_the_model_is_refused_by_its_line(
    line: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "code" / "own").mkdir(parents=True)
    for name in ("own-1.0.tar.gz", "own-1.0.zip", "own.txt", "wrong.whl"):
        (tmp_path / "code" / name).touch()
    with pytest.raises(UserError, match=re.escape(why)) as caught:
        read(tmp_path, line)
    assert line in str(caught.value)


def test_two_wheels_of_one_name_are_refused(tmp_path: Path) -> None:
    lines = [f"{folder}/own-1.0-py3-none-any.whl" for folder in ("code", "more")]
    for line in lines:
        (tmp_path / line).parent.mkdir()
        (tmp_path / line).touch()
    with pytest.raises(UserError, match="names a second wheel of this file name"):
        read(tmp_path, *lines)


@pytest.mark.parametrize(
    ("name", "architecture", "fits"),
    [
        ("own-1-py3-none-any.whl", "arm64", True),
        ("own-1-py2.py3-none-any.whl", "amd64", True),
        ("own-1-py2-none-any.whl", "amd64", False),
        ("own-1-cp313-cp313-manylinux_2_28_x86_64.whl", "amd64", True),
        ("own-1-cp313-cp313-manylinux_2_28_x86_64.whl", "arm64", False),
        ("own-1-cp313-cp313-linux_aarch64.whl", "arm64", True),
        ("own-1-cp312-cp312-linux_x86_64.whl", "amd64", False),
        ("own-1-cp39-abi3-manylinux2014_x86_64.whl", "amd64", True),
        ("own-1-cp314-abi3-manylinux2014_x86_64.whl", "amd64", False),
        ("own-1-cp313-cp313-win_amd64.whl", "amd64", False),
        ("own-1-cp313-cp313-macosx_11_0_arm64.whl", "arm64", False),
        ("own-1-cp313-cp313-musllinux_1_2_x86_64.whl", "amd64", False),
    ],
)
def test_wheel_of_another_platform_is_refused(
    name: str, architecture: str, *, fits: bool, tmp_path: Path
) -> None:
    if fits:
        wheels.require_fitting([tmp_path / name], [architecture], "3.13")
        return
    with pytest.raises(UserError, match=f"{name} is not for linux/{architecture} and Python 3.13"):
        wheels.require_fitting([tmp_path / name], [architecture], "3.13")


def test_what_conda_would_bring_is_named(tmp_path: Path) -> None:
    (tmp_path / "conda.yaml").write_text(
        "channels: [conda-forge, https://user:secret@conda.example/own, defaults]\n"
        "dependencies:\n- python=3.13.5\n- pip<=25.2\n- setuptools\n- openjdk=11\n"
        "- conda-forge::libgomp\n- Scikit_Learn=1.7\n- 7\n"
        "- pip:\n  - six==1.16.0\n  - more[a]==1.0\n"
    )
    assert read(tmp_path, "six", "scikit-learn==1.7.2").unmet == (
        "conda.yaml names 'openjdk=11', a package of conda's, which is not installed",
        "conda.yaml names 'conda-forge::libgomp', a package of conda's, which is not installed",
        "conda.yaml names '7', a package of conda's, which is not installed",
        "conda.yaml names 'more[a]==1.0', which requirements.txt does not",
        "conda.yaml names the channel 'https://conda.example/own', which is not asked",
    )


def test_conda_of_mlflow_itself_names_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "conda.yaml").write_text(
        "channels:\n- conda-forge\ndependencies:\n- python=3.13.5\n- pip<=25.2\n"
        "- pip:\n  - six==1.16.0\nname: mlflow-env\n"
    )
    assert read(tmp_path, "six==1.16.0").unmet == ()


@pytest.mark.parametrize("line", ["", "# only a comment", "   ", "--prefer-binary"])
def test_line_that_requires_nothing(line: str, tmp_path: Path) -> None:
    assert read(tmp_path, "six", line).wanted == ("six",)


def test_versions_before_a_release_may_be_asked_for(tmp_path: Path) -> None:
    assert read(tmp_path, "--pre", "six").prereleases
    assert not read(tmp_path, "six").prereleases


@pytest.mark.parametrize(
    "line",
    [f"--extra-index-url {INDEX}", f"--extra-index-url={INDEX}/", f"--find-links '{INDEX}'"],
)
def test_index_is_taken_where_it_is_allowed(line: str, tmp_path: Path) -> None:
    (source,) = read(tmp_path, line, allowed=(INDEX,)).sources
    assert source.rstrip("/") == line.replace("=", " ", 1).replace("'", "").rstrip("/")


def test_index_of_this_machine_is_not_named_again(tmp_path: Path) -> None:
    own = (f"https://me:hunter2@{INDEX.removeprefix('https://')}/",)
    assert read(tmp_path, f"--index-url {INDEX}", own=own).sources == ()


def test_password_of_an_index_is_not_compared_and_not_shown(tmp_path: Path) -> None:
    line = f"--extra-index-url {INDEX.replace('//', '//me:hunter2@')}"
    assert read(tmp_path, line, allowed=(INDEX,)).sources == (line,)
    with pytest.raises(UserError, match=f"--allow-index {INDEX} takes it") as caught:
        read(tmp_path, line)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("allowed", ["https://packages.example", "https://packages.example/w"])
def test_wheel_by_its_address_is_taken_below_what_is_allowed(allowed: str, tmp_path: Path) -> None:
    line = "own @ https://packages.example/w/own-1-py3-none-any.whl"
    assert read(tmp_path, line, allowed=(allowed,)).wanted == (line,)


@pytest.mark.parametrize("allowed", ["packages.example", "file:///x", "http://a b/", "", "ftp://x"])
def test_allowed_index_has_to_be_an_address(allowed: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no address of an index, such as https://"):
        read(tmp_path, "six", allowed=(allowed,))


def test_constraints_beside_the_requirements_are_read(tmp_path: Path) -> None:
    """MLflow writes them so; they may name more of them."""
    (tmp_path / "constraints.txt").write_text("six<2\n--constraint=sub/more.txt # too\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "more.txt").write_text("-r ../third.txt\n")
    (tmp_path / "third.txt").write_text("attrs>1\n")
    found = read(tmp_path, "six", "-c constraints.txt")
    assert found.wanted == ("six",)
    assert found.constraints == ("six<2", "attrs>1")


def test_environments_that_mlflow_writes_are_understood(tmp_path: Path) -> None:
    (tmp_path / "conda.yaml").write_text(
        "channels:\n- conda-forge\ndependencies:\n- python=3.13.5\n- pip<=25.2\n"
        "- pip:\n  - mlflow==3.17.2\n  - six\nname: mlflow-env\n"
    )
    (tmp_path / "python_env.yaml").write_text(
        "python: 3.13.5\nbuild_dependencies:\n- pip==25.2\n- setuptools\n- wheel==0.45.1\n"
        "dependencies:\n- -r requirements.txt\n"
    )
    assert read(tmp_path, "six").wanted == ("six",)


@pytest.mark.parametrize("content", [b"six\xff\n", b"\xff\xfes\0i\0x\0"])
def test_list_that_is_no_text_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"requirements.txt of the model cannot be read: .*UTF-8"):
        requirements.read(tmp_path, ())


def test_names_are_normalised() -> None:
    lines = ["MLflow==3.1", "six ; python_version < '4'", "scikit_learn[a]>=1"]
    assert requirements.names(lines) == {"mlflow", "six", "scikit-learn"}
