"""Operations on experiments, runs, what is logged to them, and logged models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)

from seatrial.differential import values
from seatrial.differential.operations import (
    Operation,
    Scope,
    all_pages,
    reading,
)
from seatrial.differential.steps import Built, Filled, Name, Ref, Step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypothesis.strategies import SearchStrategy

    from seatrial.differential.side import Side

ACTIVE, DELETED, ALL = 1, 2, 3
"""MLflow's ViewType."""
STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
_TEXT = ("=", "!=", "LIKE", "ILIKE")
_NUMBER = ("=", "!=", "<", "<=", ">", ">=")
view_types = st.sampled_from([ACTIVE, DELETED, ALL])


def built(make: Any, **arguments: SearchStrategy[Any]) -> SearchStrategy[Built]:  # noqa: ANN401
    """Objects of MLflow's."""
    return st.fixed_dictionaries(arguments).map(lambda drawn: Built(make, tuple(drawn.items())))


def quoted(text: str) -> str:
    """A text as it stands in a filter."""
    return "'" + text.replace("'", "") + "'"


def comparisons(
    field: str, comparators: Iterable[str], compared: SearchStrategy[str]
) -> SearchStrategy[str]:
    """Conditions on one field."""
    return st.builds("{} {} {}".format, st.just(field), st.sampled_from([*comparators]), compared)


_words = st.sampled_from([*values.LOWER, "A", "B"])
words = _words.map(quoted)
patterns = st.one_of(words, _words.map(lambda word: quoted(f"%{word}%")), st.just("'%'"))
numbers = st.sampled_from(["0", "1", "-1", "0.1", "2", "1e-9", str(2**31)])
_key_names = st.sampled_from([*values.LOWER, "`a b`", "`a/b`", '"a.b"'])


def _run_conditions() -> SearchStrategy[str]:
    text = st.one_of(
        st.sampled_from(["attributes.status", "attributes.run_name", "attributes.user_id"]),
        _key_names.map("params.{}".format),
        _key_names.map("tags.{}".format),
    )
    number = st.one_of(
        _key_names.map("metrics.{}".format),
        st.sampled_from(["attributes.start_time", "attributes.end_time"]),
    )
    statuses = comparisons("attributes.status", ("=", "!="), st.sampled_from(STATUSES).map(quoted))
    return st.one_of(
        statuses,
        text.flatmap(lambda field: comparisons(field, _TEXT, patterns)),
        number.flatmap(lambda field: comparisons(field, _NUMBER, numbers)),
        _key_names.map("params.{} IS NULL".format),
        _key_names.map("tags.{} IS NOT NULL".format),
        comparisons("datasets.name", _TEXT, patterns),
        st.just("attributes.run_name IN ('a', 'b')"),
        st.just("attributes.run_name NOT IN ('a', 'b')"),
    )


def filters(conditions: SearchStrategy[str]) -> SearchStrategy[str]:
    """Up to two conditions."""
    return st.lists(conditions, min_size=1, max_size=2).map(" AND ".join)


def _orders() -> SearchStrategy[list[str]]:
    keys = st.one_of(
        _key_names.map("metrics.{}".format),
        st.sampled_from(["attributes.start_time", "attributes.end_time", "attributes.status"]),
    )
    return st.lists(
        st.builds("{} {}".format, keys, st.sampled_from(["ASC", "DESC"])), min_size=1, max_size=2
    )


def _experiment_filters(_: Scope) -> SearchStrategy[Filled]:
    more = st.one_of(
        st.just(""),
        _key_names.flatmap(lambda key: comparisons(f"tags.{key}", _TEXT, patterns)),
        _words.map(lambda word: f"name ILIKE '%{word}'"),
    )
    return more.map(lambda text: within(f" AND {text}" if text else ""))


def within(more: str = "") -> Filled:
    """A filter that finds only what the sequence has named."""
    return Filled("name LIKE '{}%'" + more.replace("{", "{{").replace("}", "}}"), (Name(""),))


def _start_times(scope: Scope) -> SearchStrategy[int]:
    """Start times by which runs have an order: no two are the same."""
    return st.integers(0, 1000).map(lambda number: number * 64 + scope.count("run"))


def datasets() -> SearchStrategy[Built]:
    """Inputs of runs."""
    return built(
        DatasetInput,
        dataset=built(
            Dataset,
            name=st.sampled_from([*values.LOWER, "größe"]),
            digest=st.sampled_from(["1", "d2"]),
            source_type=st.just("local"),
            source=st.sampled_from(["s", "a/b"]),
            schema=st.one_of(st.none(), st.just("{}")),
            profile=st.one_of(st.none(), st.just("p")),
        ),
        tags=st.lists(
            built(InputTag, key=st.just("mlflow.data.context"), value=values.plain_keys), max_size=1
        ),
    )


def metrics() -> SearchStrategy[Built]:
    """Points of metrics."""
    return built(
        Metric,
        key=values.keys,
        value=values.numbers,
        timestamp=values.times,
        step=values.steps,
    )


OPERATIONS = (
    Operation(
        "create_experiment",
        lambda _: {"name": values.names},
        lambda _: {"tags": values.short_tags()},
        makes="experiment",
        weight=1,
    ),
    Operation(
        "create_run",
        lambda scope: {
            "experiment_id": scope.one("experiment"),
            "start_time": _start_times(scope),
            "run_name": values.run_names,
        },
        lambda _: {"tags": values.short_tags()},
        makes="run",
        identify=lambda run: str(run.info.run_id),
        needs=("experiment",),
        most=5,
    ),
    Operation(
        "log_metric",
        lambda scope: {
            "run_id": scope.one("run"),
            "key": values.keys,
            "value": values.numbers,
            "timestamp": values.times,
            "step": values.steps,
        },
        needs=("run",),
        weight=4,
    ),
    Operation(
        "log_param",
        lambda scope: {"run_id": scope.one("run"), "key": values.keys, "value": values.values},
        needs=("run",),
    ),
    Operation(
        "set_tag",
        lambda scope: {"run_id": scope.one("run"), "key": values.keys, "value": values.values},
        needs=("run",),
    ),
    Operation(
        "delete_tag",
        lambda scope: {"run_id": scope.one("run"), "key": values.plain_keys},
        needs=("run",),
    ),
    Operation(
        "log_batch",
        lambda scope: {
            "run_id": scope.one("run"),
            "metrics": st.lists(metrics(), max_size=4),
            "params": st.lists(built(Param, key=values.keys, value=values.values), max_size=3),
            "tags": st.lists(built(RunTag, key=values.keys, value=values.values), max_size=3),
        },
        needs=("run",),
    ),
    Operation(
        "log_inputs",
        lambda scope: {
            "run_id": scope.one("run"),
            "datasets": st.lists(datasets(), min_size=1, max_size=2),
        },
        needs=("run",),
    ),
    Operation(
        "set_terminated",
        lambda scope: {
            "run_id": scope.one("run"),
            "status": st.sampled_from(STATUSES),
            "end_time": values.times,
        },
        needs=("run",),
        weight=4,
    ),
    Operation(
        "update_run",
        lambda scope: {"run_id": scope.one("run")},
        lambda _: {"status": st.sampled_from(STATUSES), "name": values.plain_keys},
        needs=("run",),
    ),
    Operation("delete_run", lambda scope: {"run_id": scope.one("run")}, needs=("run",)),
    Operation("restore_run", lambda scope: {"run_id": scope.one("run")}, needs=("run",)),
    Operation(
        "delete_experiment",
        lambda scope: {"experiment_id": scope.one("experiment")},
        needs=("experiment",),
    ),
    Operation(
        "restore_experiment",
        lambda scope: {"experiment_id": scope.one("experiment")},
        needs=("experiment",),
    ),
    Operation(
        "rename_experiment",
        lambda scope: {"experiment_id": scope.one("experiment"), "new_name": values.names},
        needs=("experiment",),
    ),
    Operation(
        "set_experiment_tag",
        lambda scope: {
            "experiment_id": scope.one("experiment"),
            "key": values.short_keys,
            "value": values.short_values,
        },
        needs=("experiment",),
    ),
    Operation(
        "delete_experiment_tag",
        lambda scope: {"experiment_id": scope.one("experiment"), "key": values.plain_keys},
        needs=("experiment",),
    ),
    Operation(
        "create_logged_model",
        lambda scope: {
            "experiment_id": scope.one("experiment"),
            "name": st.one_of(st.sampled_from(values.LOWER), st.sampled_from(values.ODD)),
        },
        lambda scope: {
            "tags": values.short_tags(),
            "params": values.short_tags(),
            "model_type": values.plain_keys,
            **({"source_run_id": scope.one("run")} if scope.count("run") else {}),
        },
        makes="model",
        identify=lambda model: str(model.model_id),
        needs=("experiment",),
        most=3,
    ),
    Operation(
        "finalize_logged_model",
        lambda scope: {
            "model_id": scope.one("model"),
            "status": st.sampled_from(["READY", "FAILED"]),
        },
        needs=("model",),
    ),
    Operation(
        "set_logged_model_tags",
        lambda scope: {"model_id": scope.one("model"), "tags": values.short_tags()},
        needs=("model",),
        weight=1,
    ),
    Operation(
        "delete_logged_model_tag",
        lambda scope: {"model_id": scope.one("model"), "key": values.plain_keys},
        needs=("model",),
        weight=1,
    ),
    Operation(
        "log_model_params",
        lambda scope: {"model_id": scope.one("model"), "params": values.short_tags()},
        needs=("model",),
        weight=1,
    ),
    Operation(
        "log_outputs",
        lambda scope: {
            "run_id": scope.one("run"),
            "models": st.lists(
                built(LoggedModelOutput, model_id=scope.one("model"), step=values.steps),
                min_size=1,
                max_size=2,
            ),
        },
        needs=("run", "model"),
        weight=1,
    ),
    Operation(
        "log_model_inputs",
        lambda scope: {
            "run_id": scope.one("run"),
            "models": st.lists(
                built(LoggedModelInput, model_id=scope.one("model")), min_size=1, max_size=2
            ),
        },
        call=lambda side, arguments: side.client.log_inputs(**arguments),
        needs=("run", "model"),
        weight=1,
    ),
    Operation(
        "delete_logged_model",
        lambda scope: {"model_id": scope.one("model")},
        needs=("model",),
        weight=1,
    ),
    Operation(
        "search_runs",
        lambda scope: {
            "experiment_ids": scope.some("experiment"),
            "filter_string": filters(_run_conditions()),
            "run_view_type": view_types,
        },
        lambda _: {"order_by": _orders(), "max_results": st.integers(1, 3)},
        reads=True,
        call=all_pages(lambda side: side.client.search_runs),
        needs=("run",),
        weight=5,
    ),
    Operation(
        "search_experiments",
        lambda scope: {"view_type": view_types, "filter_string": _experiment_filters(scope)},
        lambda _: {"max_results": st.integers(1, 3)},
        reads=True,
        call=all_pages(lambda side: side.client.search_experiments),
        needs=("experiment",),
    ),
    Operation(
        "search_logged_models",
        lambda scope: {"experiment_ids": scope.some("experiment")},
        lambda _: {
            "max_results": st.integers(1, 2),
            "filter_string": st.one_of(
                comparisons("name", _TEXT, patterns),
                _key_names.flatmap(lambda key: comparisons(f"tags.{key}", _TEXT, patterns)),
                _key_names.flatmap(lambda key: comparisons(f"params.{key}", _TEXT, patterns)),
            ),
        },
        reads=True,
        call=all_pages(lambda side: side.client.search_logged_models),
        needs=("model",),
    ),
)
"""What generated sequences of tracking are made of."""


def _get(path: str) -> Any:  # noqa: ANN401 - a call of an operation
    def call(side: Side, arguments: dict[str, Any]) -> object:
        return side.rest("GET", f"api/2.0/mlflow/{path}", params=arguments)

    return call


READS = reading(
    Operation("get_experiment"),
    Operation("get_experiment_by_name"),
    Operation("get_run"),
    Operation("get_metric_history"),
    Operation("get_logged_model"),
    Operation("GET experiments/get", call=_get("experiments/get")),
    Operation("GET runs/get", call=_get("runs/get")),
)
"""What reads a single thing."""


def reads(steps: Iterable[Step]) -> list[Step]:
    """Read again all that a sequence has made or named: by the client, and by plain requests."""
    steps = list(steps)
    scope = Scope(steps)
    experiments = [Ref(label) for label in scope.labels("experiment")]
    found = [
        Step("search_experiments", {"view_type": ALL, "filter_string": within()}),
        Step("search_runs", {"experiment_ids": experiments, "run_view_type": ALL}),
    ]
    for experiment in experiments:
        found += [
            Step("get_experiment", {"experiment_id": experiment}),
            Step("GET experiments/get", {"experiment_id": experiment}),
        ]
    for run in map(Ref, scope.labels("run")):
        found += [Step("get_run", {"run_id": run}), Step("GET runs/get", {"run_id": run})]
        found += [
            Step("get_metric_history", {"run_id": run, "key": key})
            for key in dict.fromkeys(_metric_keys(steps, run))
        ]
    models = scope.labels("model")
    found += [Step("get_logged_model", {"model_id": Ref(label)}) for label in models]
    if models:
        found.append(Step("search_logged_models", {"experiment_ids": experiments}))
    return found if experiments else found[:1]


def _metric_keys(steps: Iterable[Step], run: Ref) -> Iterable[str]:
    for step in steps:
        if step.arguments.get("run_id") != run:
            continue
        if step.operation == "log_metric":
            yield str(step.arguments["key"])
        points = step.arguments.get("metrics", ())
        for point in points if isinstance(points, list) else ():
            yield str(dict(point.arguments)["key"])
