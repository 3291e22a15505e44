"""Traces and logged models, which MLflow 3 adds to tracking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.entities import LoggedModelStatus

from seatrial.trial.clients import pages_of

from .comparisons import assert_equal
from .refused_requests import refused

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from seatrial.stack.server import MLflowServer

pytestmark = pytest.mark.promise("server.capabilities", "tracing")


def _trace(experiment: str, question: str) -> str:
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_span("answer", span_type="CHAIN") as outer:
        outer.set_inputs({"question": question})
        with mlflow.start_span("look-up", span_type="RETRIEVER") as inner:
            inner.set_attributes({"documents": 3})
        outer.set_outputs({"answer": f"{question}!"})
    mlflow.flush_trace_async_logging()
    return outer.trace_id


def test_trace_with_its_spans(client: MlflowClient, experiment: str, server: MLflowServer) -> None:
    trace_id = _trace(experiment, "größe?")
    trace = client.get_trace(trace_id)
    spans = {span.name: span for span in trace.data.spans}
    assert_equal(
        "the set of spans that the client reads of the trace that it sent",
        set(spans),
        {"answer", "look-up"},
    )
    outer, inner = spans["answer"], spans["look-up"]
    for field, read, sent in (
        ("parent of the inner span", inner.parent_id, outer.span_id),
        ("input of the outer span", outer.inputs, {"question": "größe?"}),
        ("output of the outer span", outer.outputs, {"answer": "größe?!"}),
        ("attribute 'documents' of the inner span", inner.attributes.get("documents"), 3),
        ("state of the trace", trace.info.state, "OK"),
    ):
        assert_equal(f"the {field} that the client reads of the trace that it sent", read, sent)
    stored = server.rows(
        "SELECT span_id, parent_span_id, name FROM spans WHERE trace_id = ?", [trace_id]
    )
    assert_equal(
        "the set of the trace's spans (id, parent, name) in the database, against the client's",
        set(stored),
        {(span.span_id, span.parent_id, span.name) for span in trace.data.spans},
    )


def test_traces_are_searched_tagged_and_deleted(
    client: MlflowClient, experiment: str, server: MLflowServer
) -> None:
    ids = [_trace(experiment, f"question {number}") for number in range(5)]
    client.set_trace_tag(ids[2], "picked", "yes")
    picked = client.search_traces(locations=[experiment], filter_string="tag.picked = 'yes'")
    assert_equal(
        "the list of traces that a search for a tag finds, which the client set on one of five,",
        [trace.info.trace_id for trace in picked],
        [ids[2]],
    )

    pages = pages_of(
        lambda token: client.search_traces(locations=[experiment], max_results=2, page_token=token)
    )
    assert_equal(
        "the list of the pages' sizes in a search for 5 traces, 2 to a page,",
        [len(page) for page in pages],
        [2, 2, 1],
    )
    assert_equal(
        "the set of traces on all pages of a search for the 5 that the client sent",
        {trace.info.trace_id for page in pages for trace in page},
        set(ids),
    )
    stored = server.rows(
        "SELECT request_id FROM trace_info WHERE experiment_id = ?", [int(experiment)]
    )
    assert_equal(
        "the list in the database of the traces that the client sent",
        sorted(row[0] for row in stored),
        sorted(ids),
    )
    tags = server.rows(
        "SELECT value FROM trace_tags WHERE request_id = ? AND key = 'picked'", [ids[2]]
    )
    assert_equal("the tag in the database that the client set on a trace", tags, [("yes",)])

    assert_equal(
        "the count of deleted traces in the server's answer to a client that deletes 4",
        client.delete_traces(experiment, trace_ids=ids[:4]),
        4,
    )
    left = client.search_traces(locations=[experiment])
    assert_equal(
        "the list of traces that a search finds, after the client deleted 4 of 5,",
        [trace.info.trace_id for trace in left],
        ids[4:],
    )
    stored = server.rows(
        "SELECT request_id FROM trace_info WHERE experiment_id = ?", [int(experiment)]
    )
    assert_equal(
        "the list of traces in the database, after the client deleted 4 of 5,",
        stored,
        [(ids[4],)],
    )


def test_logged_models(client: MlflowClient, experiment: str, server: MLflowServer) -> None:
    run_id = client.create_run(experiment).info.run_id
    models = [
        client.create_logged_model(
            experiment,
            name=f"candidate-{number}",
            source_run_id=run_id,
            params={"depth": str(number)},
            tags={"family": "tree"},
        )
        for number in range(3)
    ]
    for number, model in enumerate(models):
        client.log_metric(run_id, "accuracy", 0.9 - number / 10, model_id=model.model_id)
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    found = client.search_logged_models(
        [experiment],
        filter_string="metrics.accuracy > 0.75",
        order_by=[{"field_name": "metrics.accuracy", "ascending": False}],
    )
    assert_equal(
        "the list of models that a search by accuracy finds, for 0.9, 0.8 and 0.7 above 0.75,",
        [model.name for model in found],
        ["candidate-0", "candidate-1"],
    )
    best = client.get_logged_model(models[0].model_id)
    for field, read, logged in (
        ("status", best.status, LoggedModelStatus.READY),
        ("set of params", best.params, {"depth": "0"}),
        ("source run", best.source_run_id, run_id),
        ("tag 'family'", best.tags.get("family"), "tree"),
    ):
        assert_equal(f"the {field} that the client reads of the model it logged", read, logged)
    client.set_logged_model_tags(best.model_id, {"stage": "chosen"})
    assert_equal(
        "the tag 'stage' that the client reads of the logged model on which it set it",
        client.get_logged_model(best.model_id).tags.get("stage"),
        "chosen",
    )
    rows = server.rows(
        "SELECT m.name, p.param_value FROM logged_models m JOIN logged_model_params p"
        " ON p.model_id = m.model_id WHERE m.model_id = ?",
        [best.model_id],
    )
    assert_equal(
        "the list of the logged model's name and param in the database", rows, [(best.name, "0")]
    )
    client.delete_logged_model(models[2].model_id)
    with refused("a look at a logged model that the client deleted", match="not found"):
        client.get_logged_model(models[2].model_id)
