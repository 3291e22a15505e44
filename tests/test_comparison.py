"""What has changed from one image to another, and how it is shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from repository import ROOT

from seatrial.build.store import StoredPlatform
from seatrial.comparison import rendering
from seatrial.comparison.compare import changes, comparison, run
from seatrial.comparison.model import VERSION, Comparison
from seatrial.comparison.sides import ComparedImage
from seatrial.errors import UserError
from seatrial.reports import schema

SCHEMA = ROOT / "seatrial" / "comparison" / "comparison-1.schema.json"
NAMES = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=6)


def image(config: dict[str, Any] | None = None, **given: Any) -> ComparedImage:
    """An image of two layers."""
    layers = given.pop("layers", {"sha256:" + "1" * 64: 3_000_000, "sha256:" + "2" * 64: 1_000_000})
    stored = StoredPlatform(
        platform="linux/amd64",
        digest="sha256:" + "a" * 64,
        size=sum(layers.values()),
        layers=tuple(layers),
        labels={},
        config=config or {},
    )
    parts = {"promises": {}, "packages": {"debian": {}, "python": {}}, **given}
    return ComparedImage("harbour/mlflow:1", stored, layers, **parts)


def test_same_image_has_no_changes() -> None:
    found = comparison(image({"User": "1000"}), image({"User": "1000"}))
    assert not (*found.promises, *found.python, *found.debian, *found.settings, *found.layers)
    assert found.shared == 4_000_000


@given(NAMES, NAMES)
def test_changes_lead_from_one_to_the_other(old: dict[str, str], new: dict[str, str]) -> None:
    result = dict(old)
    for change in changes(old, new):
        assert change.old != change.new
        assert result.get(change.name) == change.old
        if change.new is None:
            del result[change.name]
        else:
            result[change.name] = change.new
    assert result == new


def test_each_kind_of_change_is_found() -> None:
    old = image(
        {"User": "0", "Env": ["A=1", "DB_PASSWORD=hunter2"], "ExposedPorts": {"5000/tcp": {}}},
        promises={"process.user": "0", "server.databases[mysql]": "mysql"},
        packages={"debian": {"bash": "5.2"}, "python": {"mlflow": "3.16.0", "boto3": "1.44.5"}},
    )
    new = image(
        {"User": "1000", "Env": ["A=2", "DB_PASSWORD=hunter3"], "Entrypoint": ["mlflow", "server"]},
        promises={"process.user": "1000"},
        packages={"debian": {}, "python": {"mlflow": "3.17.2", "boto3": "1.44.5", "uvloop": "1"}},
        layers={"sha256:" + "1" * 64: 3_000_000, "sha256:" + "3" * 64: 500_000},
    )
    found = comparison(old, new)
    assert [(each.name, each.old, each.new) for each in found.promises] == [
        ("process.user", "0", "1000"),
        ("server.databases[mysql]", "mysql", None),
    ]
    assert [(each.name, each.old, each.new) for each in found.python] == [
        ("mlflow", "3.16.0", "3.17.2"),
        ("uvloop", None, "1"),
    ]
    assert [(each.name, each.old, each.new) for each in found.debian] == [("bash", "5.2", None)]
    assert [(each.name, each.old, each.new) for each in found.settings] == [
        ("Entrypoint", None, "mlflow server"),
        ("Env A", "1", "2"),
        ("ExposedPorts 5000/tcp", "", None),
        ("User", "0", "1000"),
    ]
    assert [(each.digest[7], each.side, each.size) for each in found.layers] == [
        ("2", "old", 1_000_000),
        ("3", "new", 500_000),
    ]
    for form in ("text", "json", "markdown"):
        assert "hunter" not in rendering.render(found, form)


def test_image_without_a_contract_has_lost_no_promise() -> None:
    found = comparison(image(promises={"process.user": "0"}), image())
    assert found.promises == ()
    for form in ("text", "markdown"):
        assert "no contract for harbour" in rendering.render(found, form)


@given(st.text(max_size=30))
def test_text_of_an_image_steers_nothing(hostile: str) -> None:
    found = comparison(image({"User": "0"}), image({"User": f"{hostile}x"}))
    text = rendering.render(found, "text")
    assert all(line.isprintable() for line in text.split("\n"))
    html = MarkdownIt("commonmark").enable("table").render(rendering.render(found, "markdown"))
    assert html.count("<h3>") == 4
    assert not any(tag in html for tag in ("<a ", "<img", "<script", "<code", "<em>"))
    assert Comparison.model_validate_json(rendering.render(found, "json")) == found


def test_published_schema_is_the_models() -> None:
    assert SCHEMA.read_text() == schema.of(Comparison, "comparison", VERSION)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"form": "html"}, "--format html: known are text, json, markdown"),
        ({"out": "nowhere/at/all.md"}, "its folder does not exist"),
        ({"platform": "all"}, "one platform at a time"),
    ],
)
def test_wrong_words_are_one_line(given: dict[str, str], fault: str) -> None:
    words = {
        "platform": "amd64",
        "old_contract": "",
        "new_contract": "",
        "form": "text",
        "out": "",
    }
    with pytest.raises(UserError, match=fault):
        run("a", "b", **{**words, **given})
