"""Operations on traces, their spans, and assessments of them."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from mlflow.entities import (
    AssessmentSource,
    Expectation,
    Feedback,
    Span,
    TraceInfo,
    TraceLocation,
    TraceState,
)

from seatrial.differential import values
from seatrial.differential.operations import Operation, Scope, all_pages, on_store, reading
from seatrial.differential.steps import Built, Later, Name, Ref, Step, World
from seatrial.differential.tracking import built, comparisons, filters, patterns, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hypothesis.strategies import SearchStrategy

    from seatrial.differential.side import Side

_TEXT = ("=", "!=", "LIKE", "ILIKE")
_NUMBER = ("=", "!=", "<", "<=", ">", ">=")
STATES = ("OK", "ERROR", "IN_PROGRESS", "STATE_UNSPECIFIED")
_CODES = ("STATUS_CODE_OK", "STATUS_CODE_ERROR", "STATUS_CODE_UNSET")
_PREFIX = "tr-"
_MILLISECOND = 10**6
"""In nanoseconds."""
_APART = 1000
"""Milliseconds between traces: searches order them by time, which spans may make earlier."""


@dataclass(frozen=True)
class TraceId(Later):
    """The id of a trace: clients make it, so each server gets another one."""

    label: str

    def resolved(self, world: World) -> str:
        """Thirty-two hexadecimal digits behind MLflow's prefix."""
        digest = hashlib.sha256(f"{world.prefix}{self.label}".encode()).hexdigest()
        # It is known to the comparison even where no server has taken it.
        return world.ids.setdefault(self.label, f"{_PREFIX}{digest[:32]}")

    def shown(self) -> str:
        """The label."""
        return self.label


def trace_info(experiment_id: str, **fields: Any) -> TraceInfo:  # noqa: ANN401
    """What a client sends when it makes a trace."""
    fields["state"] = TraceState[fields["state"]]
    return TraceInfo(trace_location=TraceLocation.from_experiment_id(experiment_id), **fields)


def span(
    trace_id: str,
    number: int,
    name: str,
    *,
    parent: int = 0,
    start: int = 0,
    end: int = 0,
    status: str = _CODES[0],
    attributes: Mapping[str, object] | None = None,
    events: Iterable[tuple[str, int]] = (),
) -> Span:
    """A span of a trace.

    Args:
        trace_id: of its trace.
        number: what its id is made of.
        name: of the span.
        parent: the number of the span that it is in; 0 for the outermost.
        start: of the span, in nanoseconds.
        end: the same of its end.
        status: as OpenTelemetry names it.
        attributes: of the span, each as MLflow's client encodes it.
        events: their names and times, in nanoseconds.
    """

    def encoded(value: int, size: int) -> str:
        return base64.b64encode(value.to_bytes(size, "big")).decode()

    # An id that is unique beside those of other traces: a database has one table for all spans.
    trace = int(trace_id.removeprefix(_PREFIX), 16)
    known = {"mlflow.traceRequestId": trace_id, **(attributes or {})}
    return Span.from_dict(
        {
            "trace_id": encoded(trace, 16),
            "span_id": encoded(number, 8),
            "parent_span_id": encoded(parent, 8) if parent else None,
            "name": name,
            "start_time_unix_nano": start,
            "end_time_unix_nano": end,
            "status": {"code": status, "message": "said" if status == _CODES[1] else ""},
            "attributes": {key: json.dumps(value) for key, value in known.items()},
            "events": [
                {"name": event, "time_unix_nano": time, "attributes": {}} for event, time in events
            ],
        }
    )


def _one_trace(scope: Scope) -> SearchStrategy[TraceId]:
    return scope.one("trace").map(lambda ref: TraceId(ref.label))


def _new_trace(scope: Scope) -> SearchStrategy[Built]:
    number = scope.count("trace") + 1
    return built(
        trace_info,
        trace_id=st.just(TraceId(f"trace_{number}")),
        experiment_id=scope.one("experiment"),
        request_time=st.integers(0, 99).map(lambda drawn: number * _APART + drawn),
        state=st.sampled_from(STATES),
        execution_duration=st.sampled_from([0, 1, 5, 2**31]),
        request_preview=values.texts,
        response_preview=values.texts,
        client_request_id=st.one_of(st.none(), values.plain_keys),
        trace_metadata=st.dictionaries(values.plain_keys, values.texts, max_size=2),
        tags=st.dictionaries(values.plain_keys, values.texts, max_size=2),
    )


def _span(scope: Scope) -> SearchStrategy[Built]:
    return st.sampled_from(range(1, scope.count("trace") + 1)).flatmap(_span_of)


def _span_of(number: int) -> SearchStrategy[Built]:
    begin = number * _APART * _MILLISECOND
    return built(
        span,
        trace_id=st.just(TraceId(f"trace_{number}")),
        number=st.integers(1, 3),
        name=st.sampled_from([*values.LOWER, "größe", "a/b"]),
        parent=st.integers(0, 2),
        start=st.integers(0, 9).map(lambda drawn: begin + drawn * _MILLISECOND),
        end=st.integers(9, 12).map(lambda drawn: begin + drawn * _MILLISECOND),
        status=st.sampled_from(_CODES),
        attributes=st.dictionaries(
            st.sampled_from([*values.LOWER, "mlflow.spanInputs", "mlflow.spanOutputs"]),
            st.one_of(
                values.texts, st.integers(-5, 2**40), st.booleans(), st.just({"a": [1, None]})
            ),
            max_size=2,
        ),
        events=st.lists(
            st.tuples(values.plain_keys, st.integers(1, 9).map(_MILLISECOND.__mul__)), max_size=1
        ),
    )


_sources = built(
    AssessmentSource,
    source_type=st.sampled_from(["HUMAN", "LLM_JUDGE", "CODE"]),
    source_id=st.sampled_from(["a", "größe"]),
)
_json = st.one_of(values.texts, st.booleans(), st.integers(-3, 3), st.just(0.5), st.just(["a", 1]))


def _feedback(scope: Scope) -> SearchStrategy[Built]:
    return built(
        Feedback,
        name=values.plain_keys,
        value=_json,
        source=_sources,
        trace_id=_one_trace(scope),
        rationale=st.one_of(st.none(), values.texts),
        metadata=st.dictionaries(values.plain_keys, values.texts, max_size=2),
    )


def _expectation(scope: Scope) -> SearchStrategy[Built]:
    return built(
        Expectation,
        name=values.plain_keys,
        value=_json,
        source=_sources,
        trace_id=_one_trace(scope),
    )


def _conditions() -> SearchStrategy[str]:
    keys = st.sampled_from(values.LOWER)
    return st.one_of(
        comparisons("attributes.status", ("=", "!="), st.sampled_from([f"'{s}'" for s in STATES])),
        comparisons("attributes.timestamp_ms", _NUMBER, st.sampled_from(["1000", "1050", "2000"])),
        comparisons("attributes.execution_time_ms", _NUMBER, st.sampled_from(["0", "1", "5"])),
        comparisons("attributes.client_request_id", ("=", "!="), words),
        keys.flatmap(lambda key: comparisons(f"tags.{key}", _TEXT, patterns)),
        keys.flatmap(lambda key: comparisons(f"metadata.{key}", ("=", "!="), words)),
        comparisons("span.name", _TEXT, patterns),
        keys.flatmap(lambda key: comparisons(f"feedback.{key}", ("=", "!="), words)),
    )


def _log_spans(side: Side, arguments: dict[str, Any]) -> None:
    side.store.log_spans(arguments["location"], arguments["spans"])


def _get_trace(side: Side, arguments: dict[str, Any]) -> object:
    return side.client.get_trace(arguments["trace_id"], display=False)


OPERATIONS = (
    Operation(
        "start_trace",
        lambda scope: {"trace_info": _new_trace(scope)},
        call=on_store("start_trace"),
        makes="trace",
        identify=lambda info: str(info.trace_id),
        needs=("experiment",),
    ),
    Operation(
        "log_spans",
        lambda scope: {
            "location": scope.one("experiment"),
            "spans": st.lists(_span(scope), min_size=1, max_size=1),
        },
        call=_log_spans,
        needs=("trace",),
        weight=3,
    ),
    Operation(
        "set_trace_tag",
        lambda scope: {
            "trace_id": _one_trace(scope),
            "key": values.short_keys,
            "value": values.texts,
        },
        needs=("trace",),
    ),
    Operation(
        "delete_trace_tag",
        lambda scope: {"trace_id": _one_trace(scope), "key": values.plain_keys},
        needs=("trace",),
    ),
    Operation(
        "create_feedback",
        lambda scope: {"assessment": _feedback(scope)},
        call=on_store("create_assessment"),
        makes="assessment",
        identify=lambda made: str(made.assessment_id),
        needs=("trace",),
    ),
    Operation(
        "create_expectation",
        lambda scope: {"assessment": _expectation(scope)},
        call=on_store("create_assessment"),
        makes="assessment",
        identify=lambda made: str(made.assessment_id),
        needs=("trace",),
    ),
    Operation(
        "update_assessment",
        lambda scope: {"trace_id": _one_trace(scope), "assessment_id": scope.one("assessment")},
        lambda _: {
            "name": values.plain_keys,
            "rationale": values.texts,
            "metadata": st.dictionaries(values.plain_keys, values.texts, max_size=1),
        },
        call=on_store("update_assessment"),
        needs=("assessment",),
    ),
    Operation(
        "delete_assessment",
        lambda scope: {"trace_id": _one_trace(scope), "assessment_id": scope.one("assessment")},
        call=on_store("delete_assessment"),
        needs=("assessment",),
        weight=1,
    ),
    Operation(
        "link_traces_to_run",
        lambda scope: {
            "trace_ids": st.lists(_one_trace(scope), min_size=1, max_size=2, unique=True),
            "run_id": scope.one("run"),
        },
        needs=("trace", "run"),
        weight=1,
    ),
    Operation(
        "delete_traces",
        lambda scope: {
            "experiment_id": scope.one("experiment"),
            "trace_ids": st.lists(_one_trace(scope), min_size=1, max_size=2, unique=True),
        },
        needs=("trace",),
        weight=1,
    ),
    Operation(
        "search_traces",
        lambda scope: {"locations": scope.some("experiment")},
        lambda _: {"filter_string": filters(_conditions()), "max_results": st.integers(1, 3)},
        call=all_pages(lambda side: side.store.search_traces),
        needs=("trace",),
        reads=True,
        weight=5,
    ),
)
"""What generated sequences of tracing are made of."""
READS = reading(
    Operation("get_trace", call=_get_trace),
    Operation("get_trace_info", call=on_store("get_trace_info")),
    Operation(
        "GET traces",
        call=lambda side, arguments: side.rest(
            "GET", f"api/3.0/mlflow/traces/{arguments['trace_id']}"
        ),
    ),
    Operation("get_assessment", call=on_store("get_assessment")),
)
"""What reads a single thing."""


def reads(steps: Iterable[Step]) -> list[Step]:
    """Read again all that a sequence has made: by the client, and by plain requests."""
    steps = list(steps)
    scope = Scope(steps)
    experiments = [Ref(label) for label in scope.labels("experiment")]
    found = [Step("search_traces", {"locations": experiments})] if experiments else []
    for trace in map(TraceId, scope.labels("trace")):
        found += [
            Step(name, {"trace_id": trace})
            for name in ("get_trace", "get_trace_info", "GET traces")
        ]
    for step in steps:
        if step.operation in ("create_feedback", "create_expectation"):
            fields = dict(step.arguments["assessment"].arguments)  # type: ignore[attr-defined]
            where = {"trace_id": fields["trace_id"], "assessment_id": Ref(step.makes)}
            found.append(Step("get_assessment", where))
    return found


def fixed() -> tuple[Step, ...]:
    """Traces with spans and assessments, and all searches of them."""
    return (*_traces(), *_searches(), *_reversals())


def _traces() -> Iterable[Step]:
    yield Step("create_experiment", {"name": Name("a")}, "experiment_1")
    yield Step(
        "create_run",
        {"experiment_id": Ref("experiment_1"), "start_time": 1, "run_name": "a"},
        "run_1",
    )
    for number, text in enumerate(("ab", "AB", "abc", "b", "a%"), start=1):
        trace = TraceId(f"trace_{number}")
        fields = {
            "trace_id": trace,
            "experiment_id": Ref("experiment_1"),
            "request_time": _APART * number,
            "state": STATES[(number - 1) % len(STATES)],
            "execution_duration": 10 * number,
            "request_preview": text,
            "response_preview": text,
            "client_request_id": text,
            "trace_metadata": {"key": text, "next": str(number)},
            "tags": {"key": text, "next": str(number), "same": "yes", "mlflow.traceName": text},
        }
        yield Step(
            "start_trace", {"trace_info": Built(trace_info, (*fields.items(),))}, trace.label
        )
        spans = [
            {
                "trace_id": trace,
                "number": 10 * number + child,
                "name": f"{text}{child}",
                "parent": 10 * number if child else 0,
                "start": (_APART * number + child) * _MILLISECOND + 1,
                "end": (_APART * number + 5) * _MILLISECOND,
                "status": _CODES[number % len(_CODES)],
                "attributes": {"key": text, "mlflow.spanInputs": {"at": number}},
                "events": [[text, 1_500_000]],
            }
            for child in range(2)
        ]
        yield Step(
            "log_spans",
            {
                "location": Ref("experiment_1"),
                "spans": [Built(span, (*each.items(),)) for each in spans],
            },
        )
        source = Built(AssessmentSource, (("source_type", "HUMAN"), ("source_id", text)))
        given = {"trace_id": trace, "source": source}
        feedback = {"name": "good", "value": number % 2 == 0, "rationale": text, **given}
        expected = {"name": "wanted", "value": text, **given}
        yield Step(
            "create_feedback",
            {"assessment": Built(Feedback, (*feedback.items(),))},
            f"assessment_{2 * number - 1}",
        )
        yield Step(
            "create_expectation",
            {"assessment": Built(Expectation, (*expected.items(),))},
            f"assessment_{2 * number}",
        )
    both = [TraceId("trace_1"), TraceId("trace_2")]
    yield Step("link_traces_to_run", {"trace_ids": both, "run_id": Ref("run_1")})


def _searches() -> Iterable[Step]:
    texts = ("ab", "AB", "a%", "_b")
    conditions = [
        *(f"attributes.status {each} '{of}'" for each in ("=", "!=") for of in STATES),
        *(f"attributes.timestamp_ms {each} {at}" for each in _NUMBER for at in (1000, 3000)),
        *(f"attributes.execution_time_ms {each} {at}" for each in _NUMBER for at in (10, 30)),
        *(
            f"{field} {each} '{text}'"
            for field in ("tags.key", "metadata.key", "attributes.client_request_id", "span.name")
            for each in _TEXT
            for text in texts
        ),
        *(f"feedback.good {each} 'true'" for each in ("=", "!=")),
        *(f"expectation.wanted {each} 'ab'" for each in ("=", "!=")),
        *(f"tags.{key} IS {what}" for key in ("key", "other") for what in ("NULL", "NOT NULL")),
        "tags.same = 'yes' AND tags.next != '3'",
    ]
    for condition in conditions:
        yield _search(filter_string=condition)
    for key in ("timestamp_ms", "execution_time_ms", "status"):
        for direction in ("ASC", "DESC"):
            yield _search(order_by=[f"{key} {direction}"], max_results=2)


def _reversals() -> Iterable[Step]:
    first, second = TraceId("trace_1"), TraceId("trace_2")
    yield Step("delete_trace_tag", {"trace_id": first, "key": "key"})
    yield Step("set_trace_tag", {"trace_id": second, "key": "key", "value": "new"})
    yield Step(
        "update_assessment",
        {"trace_id": first, "assessment_id": Ref("assessment_1"), "rationale": "another"},
    )
    yield Step("delete_assessment", {"trace_id": second, "assessment_id": Ref("assessment_3")})
    yield Step(
        "delete_traces", {"experiment_id": Ref("experiment_1"), "trace_ids": [TraceId("trace_4")]}
    )


def _search(**arguments: object) -> Step:
    return Step("search_traces", {"locations": [Ref("experiment_1")], **arguments})
