"""Contracts: what is wrong with one is one line that names the file and the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from repository import ROOT

from seatrial.contract import DEFAULT_CONTRACT, Contract, Promise, load, promises_of
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[[str], Path]

COMPLETE = """
description = "A server"
[image]
entrypoint = ["tini", "--"]
environment = { MODE = "safe" }
exposed_ports = [5000]
[server]
capabilities = ["tracking", "artifacts"]
databases = ["sqlite"]
artifact_stores = ["s3"]
artifact_access = ["proxied", "direct"]
[python]
distributions = { mlflow = ">=3", boto3 = "" }
"""


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Write a contract and give back its path."""

    def write(text: str) -> Path:
        path = tmp_path / "contract.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_every_contract_of_the_repository_is_valid() -> None:
    paths = [*ROOT.glob("docker/*/contract.toml"), DEFAULT_CONTRACT]
    assert len(paths) >= 3
    for path in paths:
        assert promises_of(load(path)), path


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "description: required, but not given"),
        ("description = ''", "description: string should have at least 1 character"),
        ("description = 'x'\nflies = true", "flies: unknown key"),
        ("description = 'x'\n[server]\nflies = true", "server.flies: unknown key"),
        ("description = 'x'\n[process]\nstops_within = '10'", "process.stops_within: "),
        ("description = 'x'\n[process]\nstops_within = 0", "process.stops_within: "),
        ("description = 'x'\n[process]\nkeeps_data = false", "process.keeps_data: "),
        ("description = 'x'\n[start]\nport = 70000", "start.port: "),
        ("description = 'x'\n[start]\nready_within = -1", "start.ready_within: "),
        ("description = 'x'\n[server]\ndatabases = ['oracle']", "server.databases.0: "),
        ("description = 'x'\n[python]\ndistributions = { a = '2' }", "is no version specifier"),
        ("x = [", "not valid TOML at end of document"),
        ("description = 'x'\ny z", "not valid TOML at line 2, column 3"),
    ],
)
def test_fault_is_one_line_with_file_and_key(written: Write, text: str, fault: str) -> None:
    path = written(text)
    with pytest.raises(UserError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


def test_two_faults_are_named_together(written: Write) -> None:
    with pytest.raises(UserError, match=r"^\S+: process\.a: unknown key; server\.b: unknown key$"):
        load(written("description = 'x'\n[process]\na = 1\n[server]\nb = 2"))


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.toml: no such contract file$"):
        load(tmp_path / "nowhere.toml")


def test_folder_and_bytes_are_no_contract(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "binary.toml"):
        with pytest.raises(UserError, match="can't be read as a contract"):
            load(path)


@pytest.mark.parametrize(
    ("section", "contradiction"),
    [
        ('[server]\ndatabases = ["sqlite"]', "serving and server are given"),
        ("[entrypoint]\nreplicas = 3", "serving and entrypoint are given"),
        ("[process]\nkeeps_data = true", "process.keeps_data is given with serving"),
    ],
)
def test_what_is_not_tried_on_a_models_server_is_refused(
    written: Write, section: str, contradiction: str
) -> None:
    with pytest.raises(UserError, match=contradiction):
        load(written(f'description = "A server"\n[serving]\nmetrics = true\n{section}\n'))


@pytest.mark.parametrize(
    ("change", "contradiction"),
    [
        (("exposed_ports = [5000]", "exposed_ports = [8080]"), "start.port is 5000, but"),
        (('"tracking", "artifacts"', '"tracking"'), "has no 'artifacts'"),
        (('["s3"]', '["file"]'), "has 'direct', but server.artifact_stores has no 's3'"),
        (('["s3"]', "[]"), "artifact_stores"),
        (('"tracking", ', '"registry", '), "which needs 'tracking'"),
        (('databases = ["sqlite"]', ""), "server.databases is empty"),
        (('["proxied", "direct"]', '[]\nmultipart = ["proxied"]'), "server.multipart has"),
        (
            ('["s3"]', '["file"]\nreports_faults = ["bucket"]'),
            "server.reports_faults has 'bucket'",
        ),
        (('["s3"]', '["s3", "s3"]'), "server.artifact_stores: names the same thing twice"),
    ],
)
def test_contradiction_is_refused(
    written: Write, change: tuple[str, str], contradiction: str
) -> None:
    assert change[0] in COMPLETE
    text = COMPLETE.replace(*change)
    if "reports_faults" in change[1]:
        text = text.replace(', "direct"', "")
    with pytest.raises(UserError) as error:
        load(written(text))
    assert contradiction in str(error.value)
    assert "\n" not in str(error.value)


def test_promises_are_items_of_lists_and_tables(written: Write) -> None:
    promises = promises_of(load(written(COMPLETE)))
    assert Promise("image.entrypoint", None, ["tini", "--"]) in promises
    assert Promise("image.environment", "MODE", "safe") in promises
    assert Promise("image.exposed_ports", "5000", 5000) in promises
    assert Promise("server.artifact_access", "direct", "direct") in promises
    assert Promise("python.distributions", "boto3", "") in promises
    names = {str(promise) for promise in promises}
    assert "server.databases[sqlite]" in names
    assert not [name for name in names if name.startswith(("start", "description"))]


def test_what_is_left_out_is_not_promised() -> None:
    assert promises_of(Contract(description="nothing")) == []
