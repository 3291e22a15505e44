"""Operations on registered models, their versions, aliases and tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from seatrial.differential import values
from seatrial.differential.operations import Operation, Scope, all_pages, names_in, reading
from seatrial.differential.steps import Filled, Name, Ref, Step
from seatrial.differential.tracking import comparisons, patterns, within

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypothesis.strategies import SearchStrategy

_TEXT = ("=", "!=", "LIKE", "ILIKE")
_RARE = ("A", "größe", "a b", "a.b", "a%b")
names = st.one_of(
    st.sampled_from(values.LOWER[:2]).map(Name),
    st.sampled_from(values.LOWER[:2]).map(Name),
    st.sampled_from(values.LOWER[:2]).map(Name),
    st.sampled_from([*values.LOWER, *_RARE]).map(Name),
)
"""Few names, so that steps meet on them."""
versions = st.sampled_from(["1", "1", "1", "2", "2", "3", "0", "-1", str(2**31)])
aliases = st.sampled_from(["champion", "Champion", "b", "größe", "v1", "latest", "a b", ""])
stages = st.sampled_from(["Production", "Staging", "Archived", "None", "production"])
short_texts = st.one_of(values.texts, st.just("y" * 5000))
sources = st.sampled_from(["s3://bucket/path", "s3://bucket/a%2Fb", "models:/x/v1", "/etc", ""])


def _version(_: Scope) -> dict[str, SearchStrategy[object]]:
    return {"name": names, "version": versions}


def _model_filters() -> SearchStrategy[Filled]:
    more = st.one_of(
        st.just(""),
        st.sampled_from(values.LOWER).flatmap(
            lambda key: comparisons(f"tags.{key}", _TEXT, patterns)
        ),
        st.sampled_from(["A", "b"]).map(lambda word: f"name ILIKE '%{word}'"),
    )
    return more.map(lambda text: within(f" AND {text}" if text else ""))


OPERATIONS = (
    Operation(
        "create_registered_model",
        lambda _: {"name": names},
        lambda _: {"tags": values.short_tags(), "description": short_texts},
        weight=3,
    ),
    Operation(
        "create_model_version",
        lambda _: {"name": names, "source": sources},
        lambda scope: {
            "tags": values.short_tags(),
            "description": short_texts,
            **({"run_id": scope.one("run")} if scope.count("run") else {}),
        },
        call=lambda side, arguments: side.client.create_model_version(
            **arguments, await_creation_for=0
        ),
        weight=8,
    ),
    Operation("rename_registered_model", lambda _: {"name": names, "new_name": names}, weight=1),
    Operation(
        "update_registered_model", lambda _: {"name": names, "description": short_texts}, weight=1
    ),
    Operation("delete_registered_model", lambda _: {"name": names}, weight=1),
    Operation(
        "set_registered_model_tag",
        lambda _: {"name": names, "key": values.short_keys, "value": values.short_values},
    ),
    Operation("delete_registered_model_tag", lambda _: {"name": names, "key": values.plain_keys}),
    Operation(
        "set_registered_model_alias",
        lambda _: {"name": names, "alias": aliases, "version": versions},
        weight=4,
    ),
    Operation("delete_registered_model_alias", lambda _: {"name": names, "alias": aliases}),
    Operation(
        "update_model_version", lambda scope: {**_version(scope), "description": short_texts}
    ),
    Operation("delete_model_version", _version),
    Operation(
        "set_model_version_tag",
        lambda scope: {**_version(scope), "key": values.short_keys, "value": values.short_values},
    ),
    Operation(
        "delete_model_version_tag", lambda scope: {**_version(scope), "key": values.plain_keys}
    ),
    Operation(
        "transition_model_version_stage",
        lambda scope: {
            **_version(scope),
            "stage": stages,
            "archive_existing_versions": st.booleans(),
        },
    ),
    Operation(
        "search_registered_models",
        lambda _: {"filter_string": _model_filters()},
        lambda _: {"max_results": st.integers(1, 3)},
        call=all_pages(lambda side: side.client.search_registered_models),
        reads=True,
        weight=3,
    ),
    Operation(
        "search_model_versions",
        lambda _: {"filter_string": _model_filters()},
        lambda _: {"max_results": st.integers(1, 3)},
        call=all_pages(lambda side: side.client.search_model_versions),
        reads=True,
        weight=3,
    ),
    Operation(
        "get_model_version_by_alias", lambda _: {"name": names, "alias": aliases}, reads=True
    ),
    Operation(
        "get_latest_versions",
        lambda _: {"name": names},
        lambda _: {"stages": st.lists(stages, max_size=2)},
        call=lambda side, arguments: {
            "latest_versions": side.client.get_latest_versions(**arguments)
        },
        reads=True,
    ),
)
"""What generated sequences of the registry are made of."""
READS = reading(
    Operation("get_registered_model"),
    Operation("get_model_version"),
    Operation("get_model_version_download_uri"),
    Operation(
        "GET registered-models/get",
        call=lambda side, arguments: side.rest(
            "GET", "api/2.0/mlflow/registered-models/get", params=arguments
        ),
    ),
)
"""What reads a single thing."""


def reads(steps: Iterable[Step]) -> list[Step]:
    """Read again all that a sequence has named: by the client, and by plain requests."""
    steps = list(steps)
    named = dict.fromkeys([*names_in(steps, "name"), *names_in(steps, "new_name")])
    found = [
        Step("search_registered_models", {"filter_string": within()}),
        Step("search_model_versions", {"filter_string": within()}),
    ]
    for name in named:
        found += [
            Step("get_registered_model", {"name": name}),
            Step("GET registered-models/get", {"name": name}),
        ]
        asked = dict.fromkeys(
            str(step.arguments["alias"])
            for step in steps
            if "alias" in step.arguments and step.arguments.get("name") == name
        )
        found += [
            Step("get_model_version_by_alias", {"name": name, "alias": alias}) for alias in asked
        ]
    return found


def fixed() -> tuple[Step, ...]:
    """Models and versions, and all searches of them."""
    return (*_models(), *_searches(), *_reversals())


def _models() -> Iterable[Step]:
    yield Step("create_experiment", {"name": Name("a")}, "experiment_1")
    yield Step(
        "create_run",
        {"experiment_id": Ref("experiment_1"), "start_time": 1, "run_name": "a"},
        "run_1",
    )
    for number, name in enumerate(("a", "ab", "b", "c1"), start=1):
        tags = {"key": name, "next": str(number), "same": "yes"}
        yield Step("create_registered_model", {"name": Name(name), "tags": tags})
        yield Step("get_registered_model", {"name": Name(name)})
        for version in range(1, number + 1):
            run = {"run_id": Ref("run_1")} if version == 1 else {}
            yield Step(
                "create_model_version",
                {
                    "name": Name(name),
                    "source": f"s3://bucket/{name}/v{version}",
                    "tags": {"key": str(version), "next": name},
                    "description": f"{name} {version}",
                    **run,
                },
            )
        yield Step(
            "set_registered_model_alias", {"name": Name(name), "alias": "first", "version": "1"}
        )
    yield Step("set_registered_model_alias", {"name": Name("c1"), "alias": "last", "version": "4"})


def _named(comparator: str, name: str) -> Filled:
    return Filled(f"name LIKE '{{}}%' AND name {comparator} '{{}}'", (Name(""), Name(name)))


def _searches() -> Iterable[Step]:
    conditions = [
        f"tags.{key} {each} '{text}'"
        for key in ("key", "next")
        for each in _TEXT
        for text in ("1", "ab", "AB", "a%", "%B", "_b")
    ]
    for search in ("search_registered_models", "search_model_versions"):
        for condition in conditions:
            yield Step(search, {"filter_string": within(f" AND {condition}")})
        for each in ("=", "!=", "LIKE", "ILIKE"):
            if search == "search_registered_models" or each != "!=":
                yield Step(search, {"filter_string": _named(each, "ab")})
        for key in (
            "name",
            "last_updated_timestamp" if search == "search_registered_models" else "version_number",
        ):
            for direction in ("ASC", "DESC"):
                yield Step(
                    search,
                    {
                        "filter_string": within(),
                        "order_by": [f"{key} {direction}"],
                        "max_results": 2,
                    },
                )
    for each in ("=", "!=", "<", "<=", ">", ">="):
        yield Step(
            "search_model_versions", {"filter_string": within(f" AND version_number {each} 2")}
        )
    yield Step("search_model_versions", {"filter_string": Filled("run_id = '{}'", (Ref("run_1"),))})
    yield Step(
        "search_model_versions", {"filter_string": Filled("run_id IN ('{}')", (Ref("run_1"),))}
    )


def _reversals() -> Iterable[Step]:
    yield Step("delete_registered_model_tag", {"name": Name("a"), "key": "key"})
    yield Step("delete_model_version_tag", {"name": Name("c1"), "version": "2", "key": "key"})
    yield Step("set_registered_model_alias", {"name": Name("c1"), "alias": "first", "version": "3"})
    yield Step("delete_registered_model_alias", {"name": Name("b"), "alias": "first"})
    yield Step("rename_registered_model", {"name": Name("ab"), "new_name": Name("other")})
    yield Step("delete_model_version", {"name": Name("b"), "version": "3"})
    yield Step("create_model_version", {"name": Name("b"), "source": "s3://bucket/again"})
    yield Step("delete_registered_model", {"name": Name("a")})
    yield Step("create_registered_model", {"name": Name("a")})
    yield Step("create_model_version", {"name": Name("a"), "source": "s3://bucket/new"})
    for stage, archive in (("Staging", False), ("Production", False), ("Production", True)):
        for version in ("1", "2"):
            yield Step(
                "transition_model_version_stage",
                {
                    "name": Name("c1"),
                    "version": version,
                    "stage": stage,
                    "archive_existing_versions": archive,
                },
            )
    for name in ("a", "other", "b", "c1"):
        yield Step("get_latest_versions", {"name": Name(name)})
