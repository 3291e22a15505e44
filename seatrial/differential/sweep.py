"""Fixed sequences that go along every boundary: comparators, sort keys, pages.

Generated sequences find what meets by chance; these find what a search does at the very edge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow.entities import Dataset, DatasetInput, InputTag

from seatrial.differential.steps import Built, Name, Ref, Step
from seatrial.differential.tracking import ACTIVE, ALL, DELETED, STATUSES, within

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBER = ("=", "!=", "<", "<=", ">", ">=")
_TEXT = ("=", "!=", "LIKE", "ILIKE")
_DIRECTIONS = ("ASC", "DESC")
_TEXTS = ("ab", "AB", "a%", "%B", "_b", "c")
_POINTS = ((-1.0, -5), (0.0, 0), (0.1, 2**31), (1.0, -(2**31)), (1.0 + 2**-52, 1), (2.0**31, 2))
"""Value and step of one metric of each run: the last run has none."""


def tracking() -> tuple[Step, ...]:
    """Experiments and runs, and all searches of them."""
    return (*_experiments(), *_runs(), *_searches(), *_reversals())


def _experiments() -> Iterator[Step]:
    for number, name in enumerate(("a", "ab", "b", "c1")):
        tags = {"key": name, "of it": str(number)} if number else {}
        yield Step(
            "create_experiment", {"name": Name(name), "tags": tags}, f"experiment_{number + 1}"
        )
    yield Step("delete_experiment", {"experiment_id": Ref("experiment_3")})
    yield Step("delete_experiment_tag", {"experiment_id": Ref("experiment_2"), "key": "of it"})
    for view in (ACTIVE, DELETED, ALL):
        for more in (
            "",
            *(
                f" AND tags.key {comparator} '{text}'"
                for comparator in _TEXT
                for text in _TEXTS[:3]
            ),
        ):
            yield Step("search_experiments", {"view_type": view, "filter_string": within(more)})
    for key in ("name", "experiment_id", "creation_time", "last_update_time"):
        for direction in _DIRECTIONS:
            yield Step(
                "search_experiments",
                {
                    "view_type": ALL,
                    "filter_string": within(),
                    "order_by": [f"{key} {direction}"],
                    "max_results": 2,
                },
            )


def _runs() -> Iterator[Step]:
    experiment = Ref("experiment_1")
    for number, text in enumerate(("ab", "AB", "abc", "b", "a%", "c", "größe"), start=1):
        run = Ref(f"run_{number}")
        yield Step(
            "create_run",
            {
                "experiment_id": experiment,
                "start_time": 1000 * number,
                "run_name": text,
                "tags": {"key": text, "next": str(number), "same": "yes"},
            },
            run.label,
        )
        yield Step("log_param", {"run_id": run, "key": "key", "value": text})
        if number <= len(_POINTS):
            value, step = _POINTS[number - 1]
            yield Step(
                "log_metric",
                {"run_id": run, "key": "key", "value": value, "timestamp": 5, "step": step},
            )
        yield Step(
            "log_inputs",
            {
                "run_id": run,
                "datasets": [
                    Built(
                        DatasetInput,
                        (
                            (
                                "dataset",
                                Built(
                                    Dataset,
                                    (
                                        ("name", text),
                                        ("digest", str(number)),
                                        ("source_type", "local"),
                                        ("source", "s"),
                                    ),
                                ),
                            ),
                            (
                                "tags",
                                [
                                    Built(
                                        InputTag,
                                        (("key", "mlflow.data.context"), ("value", "train")),
                                    )
                                ],
                            ),
                        ),
                    )
                ],
            },
        )
        if number <= len(STATUSES):
            yield Step(
                "set_terminated",
                {"run_id": run, "status": STATUSES[number - 1], "end_time": 500 * number},
            )
    yield Step("delete_run", {"run_id": Ref("run_6")})


def _searches() -> Iterator[Step]:
    conditions = [
        *(f"metrics.key {each} {at}" for each in _NUMBER for at in ("0", "1", "2147483648")),
        *(f"attributes.start_time {each} {at}" for each in _NUMBER for at in ("1000", "3000")),
        *(f"attributes.end_time {each} {at}" for each in _NUMBER for at in ("500", "1500")),
        *(
            f"{field} {each} '{text}'"
            for field in ("params.key", "tags.key", "attributes.run_name", "datasets.name")
            for each in _TEXT
            for text in _TEXTS
        ),
        *(f"attributes.status {each} '{of}'" for each in ("=", "!=") for of in STATUSES),
        *(
            f"{kind}.{key} IS {what}"
            for kind in ("params", "tags")
            for key in ("key", "other")
            for what in ("NULL", "NOT NULL")
        ),
        *(f"attributes.run_name {each} ('ab', 'c')" for each in ("IN", "NOT IN")),
        *(f"datasets.digest {each} '3'" for each in ("=", "!=")),
        "datasets.context = 'train'",
        "tags.same = 'yes' AND tags.next != '3'",
    ]
    for condition in conditions:
        yield _search(filter_string=condition)
    for view in (ACTIVE, DELETED, ALL):
        yield _search(run_view_type=view)
    keys = ("start_time", "end_time", "status", "metrics.key", "metrics.other", "tags.next")
    for key in keys:
        for direction in _DIRECTIONS:
            yield _search(order_by=[f"{key} {direction}"], run_view_type=ALL, max_results=3)


def _reversals() -> Iterator[Step]:
    for number in range(1, 4):
        yield Step("delete_tag", {"run_id": Ref(f"run_{number}"), "key": "key"})
    yield Step("restore_run", {"run_id": Ref("run_6")})
    yield Step("delete_experiment", {"experiment_id": Ref("experiment_1")})
    yield _search(run_view_type=ALL)
    yield Step("restore_experiment", {"experiment_id": Ref("experiment_1")})
    yield _search(run_view_type=ACTIVE)
    yield Step(
        "rename_experiment", {"experiment_id": Ref("experiment_1"), "new_name": Name("other")}
    )
    yield Step("restore_experiment", {"experiment_id": Ref("experiment_3")})


def _search(**arguments: object) -> Step:
    return Step("search_runs", {"experiment_ids": [Ref("experiment_1")], **arguments})
