"""What the schema declares about promises holds for each key."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from seatrial.contract import Contract, Need, Promise, PromiseSelector
from seatrial.contract.declarations import declaration, declarations, sections
from seatrial.contract.declaring import Table, Trait
from seatrial.errors import UserError


def tables() -> dict[str, type[Table]]:
    """Every table of a contract, `start` included."""
    return {
        name: field.annotation
        for name, field in Contract.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Table)
    }


def lists() -> dict[str, Any]:
    """Every key that holds a list, with an item that it may hold."""
    found = {}
    for section, table in tables().items():
        for key, schema in table.model_json_schema()["properties"].items():
            for shape in schema.get("anyOf", [schema]):
                if shape.get("type") == "array":
                    items = shape["items"]
                    known = items.get("enum", [items.get("const", "word")])
                    found[f"{section}.{key}"] = items.get("minimum", known[0])
    return found


def is_command(name: str) -> bool:
    section, _, key = name.partition(".")
    return Trait.COMMAND in tables()[section].model_fields[key].metadata


@pytest.mark.parametrize("name", [name for name in lists() if not is_command(name)])
def test_list_that_names_the_same_thing_twice_is_refused(name: str) -> None:
    section, _, key = name.partition(".")
    table, item = tables()[section], lists()[name]
    table.model_validate({key: [item]})
    with pytest.raises(ValidationError) as error:
        Contract.model_validate({"description": "x", section: {key: [item, item]}})
    (fault,) = error.value.errors()
    assert fault["loc"] == (section, key)
    assert "names the same thing twice" in fault["msg"]


def test_words_of_a_command_may_repeat() -> None:
    commands = [name for name in lists() if is_command(name)]
    assert commands == ["start.command", "image.entrypoint"]
    contract = Contract.model_validate(
        {"description": "x", "start": {"command": ["a", "a"]}, "image": {"entrypoint": ["b", "b"]}}
    )
    assert contract.image.entrypoint == ["b", "b"]


@pytest.mark.parametrize("key", declarations())
def test_key_says_what_it_promises(key: str) -> None:
    assert declaration(key).meaning.endswith("."), "no sentence stands below it"
    assert not declaration(key).field.is_required()
    assert declaration(key).field.default is None


@pytest.mark.parametrize("key", declarations())
def test_marks_fit_the_type(key: str) -> None:
    found = declaration(key)
    if found.alike:
        assert found.itemwise, "one promise can't have items that are alike"
    for needs in found.needs:
        for item in needs.only:
            found.require_item(item)


def test_sections_are_all_tables_but_start() -> None:
    assert list(sections()) == [name for name in tables() if name != "start"]


def test_items_are_promises_unless_the_key_is_whole() -> None:
    itemwise = {key for key, each in declarations().items() if each.itemwise}
    assert {"server.databases", "image.environment", "image.exposed_ports"} <= itemwise
    assert not itemwise & {"image.entrypoint", "process.confined", "server.quiet"}


def test_what_items_need() -> None:
    assert Promise("server.databases", "mysql").needs == {Need.SERVICES}
    assert Promise("server.databases", "sqlite").needs == set()
    assert Promise("server.multipart", "proxied").needs == {Need.SERVICES}
    assert Promise("command_line.builds_models", "local").needs == {Need.NATIVE}
    assert Promise("command_line.builds_models", "inside").needs == {Need.NATIVE, Need.SOCKET}


@pytest.mark.parametrize(
    ("key", "uses"),
    [
        ("image.user", False),
        ("server.metrics", False),
        ("server.tls", True),
        ("http.limits_heads", True),
    ],
)
def test_what_services_show_nothing_more_about(key: str, uses: bool) -> None:
    assert declaration(key).uses_services is uses


def test_items_are_known_where_the_schema_lists_them() -> None:
    assert PromiseSelector.of("server.databases", "sqlite") == PromiseSelector(
        "server.databases", "sqlite"
    )
    assert PromiseSelector.of("python.imports", "anything.at.all").item == "anything.at.all"
    with pytest.raises(UserError, match=r"^server\.databases has no item 'oracle': known are"):
        PromiseSelector.of("server.databases", "oracle")
    with pytest.raises(UserError, match=r"^process\.confined is one promise, without items"):
        PromiseSelector.of("process.confined", "/tmp")
