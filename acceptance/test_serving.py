"""Predictions of served models, inside a tracking image and in images of their own."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import secrets
import signal
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from .endings import WITHIN, wait_ended
from .inside import models_serve as served_inside
from .models import put_doubling
from .predictions import (
    ACROSS_ARCHITECTURES,
    assert_answered,
    assert_predicts,
    computed_predictions,
    difference,
)
from .serving import (
    AT_ONCE,
    JSON,
    SCRIPTABLE,
    SCRIPTED,
    at_once,
    scripted,
    stop,
    with_parameters,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seatrial.contract import Promise
    from seatrial.stack.image_under_test import ImageUnderTest
    from seatrial.stack.model_server import ModelServer
    from seatrial.stack.workspace import Workspace
    from seatrial.trial.model_serving import ModelServers

    from .serving import ServedSample, StartServer

MIB = 1 << 20
ROWS = 100_000
"""Rows of an input of two megabytes of JSON."""
LONGEST_ROW = 32
"""Bytes of a row in JSON."""
LOGGED_WITHIN = 0.5
"""Seconds until the log lines of a request can be read."""


@pytest.mark.promise("command_line.serves_models")
def test_models_serve(workspace: Workspace, image: ImageUnderTest, tmp_path: Path) -> None:
    """MLflow's own server predicts inside the image, and ends when it is told to."""
    model = put_doubling(workspace, tmp_path)
    start = [*image.configuration.entrypoint, *image.mlflow_command]
    script = Path(served_inside.__file__).read_text(encoding="utf-8")
    work = workspace.python(script, str(image.scale), model, *start)
    assert work.code == 0, f"`mlflow models serve` can't be tried in the image: {work}"
    printed = json.loads(work.printed.splitlines()[-1])
    answers, log = printed["answers"], f"; its log:\n{printed['output'][-3000:]}"
    assert answers["ping"][0] == HTTPStatus.OK, (
        f"`mlflow models serve` in the image never said 200 on /ping: {answers['ping']}{log}"
    )
    for payload in ("dataframe_split", "csv"):
        status, text = answers[payload]
        assert status == HTTPStatus.OK, (
            f"`mlflow models serve` in the image answers {payload} with {status} {text}{log}"
        )
        assert json.loads(text)["predictions"] == [2, 5, -8], (
            f"`mlflow models serve` in the image predicts by {payload}: {text}, not [2, 5, -8]"
        )
    assert HTTPStatus.BAD_REQUEST <= answers["no JSON"][0] < HTTPStatus.INTERNAL_SERVER_ERROR, (
        f"`mlflow models serve` in the image answers input that is no JSON, where 4xx is due, with"
        f" {answers['no JSON']}{log}"
    )
    assert answers["ping at the end"][0] == HTTPStatus.OK, (
        f"after input that is no JSON, /ping is answered with {answers['ping at the end']}{log}"
    )
    stopped = (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert printed["code"] in stopped, (
        f"after SIGTERM, `mlflow models serve` in the image ended with {printed['code']}{log}"
    )


@pytest.mark.promise("serving.inputs")
def test_input_gets_its_predictions(
    serving: ModelServers, promised: Promise, image: ImageUnderTest
) -> None:
    models = [name for name, case in serving.cases.items() if promised.item in case.payloads]
    if not models:
        pytest.skip(f"the model that was given takes no {promised.item}")
    for model in models:
        case, server = serving.cases[model], serving.server(model)
        payload, shown = case.payloads[str(promised.item)], f"{model}, {promised.item}"
        if computed := computed_predictions(case, payload):
            wrong = difference(payload.predictions, computed, ACROSS_ARCHITECTURES)
            assert not wrong, f"{shown}: the model itself is wrong in Python: {wrong}"
        for name, variation in {"": payload, **payload.variations}.items():
            answer = server.ask(variation.body.encode(), variation.content_type)
            assert_answered(answer, variation.predictions, image, f"{shown} {name}".rstrip())
        # An idle server may always take the same worker.
        for answer in at_once(server, payload):
            assert_answered(answer, payload.predictions, image, f"{shown}, {AT_ONCE} at once")


@pytest.mark.promise("serving.inputs", "dataframe_split")
@pytest.mark.parametrize("announces", ["its length", "nothing"])
@pytest.mark.parametrize("rows", [1, ROWS])
def test_any_number_of_rows(
    scriptable_server: ModelServer, rows: int, announces: str, image: ImageUnderTest
) -> None:
    """A body of 2 MB is taken as well, whole or in chunks."""
    if limit := image.contract.serving.limits_requests:
        rows = min(rows, limit * MIB * 3 // 4 // LONGEST_ROW)
    numbers = [number / 7 for number in range(rows)]
    frame = {"columns": ["x"], "data": [[number] for number in numbers]}
    body = json.dumps({"dataframe_split": frame}).encode()
    chunks = (body[start : start + 65536] for start in range(0, len(body), 65536))
    answer = scriptable_server.ask(body if announces == "its length" else chunks)
    expected = [{"x": 2.0 * number} for number in numbers]
    assert_answered(answer, expected, image, f"{rows} rows in {len(body)} bytes")


KEPT: list[dict[str, object]] = [
    {"number": 2**53 + 1, "when": "2026-01-31T23:59:59.123456", "word": "007", "x": 1 / 3},
    {
        "number": -(2**63),
        "when": "1969-07-20T20:17:40.000001",
        "word": 'na\u00efve, "\u65e5\u672c"\nx',
        "x": None,
    },
]
"""Rows with values that are lost easily: integers that no double holds, microseconds, text that
looks like a number or takes several bytes, quotes, missing values."""


@pytest.mark.promise("serving.inputs")
def test_values_are_kept(
    scriptable_server: ModelServer, promised: Promise, image: ImageUnderTest
) -> None:
    """Values of columns whose types the signature tells reach the model, and come back."""
    payload = str(promised.item)
    rows, scale = KEPT, 2.0
    if payload == "csv":
        # MLflow itself reads no dates from CSV.
        rows = [{name: row[name] for name in ("number", "word", "x")} for row in KEPT]
        table = io.StringIO()
        writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        answer = scriptable_server.ask(table.getvalue().encode(), "text/csv")
    else:
        names = list(KEPT[0])
        frame = {"columns": names, "data": [list(row.values()) for row in KEPT]}
        bodies: dict[str, dict[str, object]] = {
            "dataframe_split": {"dataframe_split": frame},
            "dataframe_records": {"dataframe_records": KEPT},
            "instances": {"instances": KEPT},
            "inputs": {"inputs": {name: [row[name] for row in KEPT] for name in names}},
            "params": {"dataframe_split": frame, "params": {"scale": 1.0}},
        }
        scale = 1.0 if payload == "params" else scale
        answer = scriptable_server.ask(json.dumps(bodies[payload], ensure_ascii=False).encode())
    expected = [
        {**row, "x": math.nan if row["x"] is None else scale * float(str(row["x"]))} for row in rows
    ]
    assert_answered(answer, expected, image, f"integers, dates and text by {payload}")


NUMBERS = {"columns": ["x"], "data": [[0.0], [1e200], [-1e200], [None]]}
BY_FORM: dict[str, object] = {
    "array": [0.5, None, None, None],
    "single precision": [0.5, None, None, None],
    "objects": [0.5, None, None, None],
    "series": [{"x": 0.5}, {"x": None}, {"x": None}, {"x": None}],
    "frame": [{"x": 0.5}, {"x": None}, {"x": None}, {"x": None}],
    "list": [0.5, None, None, None],
    "scalars": [0.5, None, None, None],
    "dictionary": {"x": [0.5, None, None, None], "NaN": "Infinity, NaN"},
    "nested": {"rows": [{"x": [[0.5, None, None, None], None]}]},
    "number": None,
}
"""Answers where the model predicts 0.5, infinity, minus infinity and NaN; by the form of
the scriptable model's predictions."""


@pytest.mark.promise("serving.valid_json")
@pytest.mark.parametrize("form", BY_FORM)
def test_predictions_that_json_has_no_number_for(scriptable_server: ModelServer, form: str) -> None:
    """The answer is JSON as other languages parse it, or a refusal in one line."""
    parameters = {"scale": 1e200, "shift": 0.5, "form": form}
    answer = scriptable_server.ask(json.dumps({"dataframe_split": NUMBERS, "params": parameters}))
    if answer.status_code >= HTTPStatus.BAD_REQUEST:
        lines = answer.text.strip().splitlines()
        assert len(lines) == 1, f"{form}: refused in {len(lines)} lines: {answer.text[:500]}"
        return

    def refuse(word: str) -> None:
        pytest.fail(f"{form}: {word} is no JSON, and most parsers refuse it: {answer.text[:500]}")

    found = json.loads(answer.text, parse_constant=refuse)["predictions"]
    different = difference(found, BY_FORM[form], 0.0)
    assert not different, f"{form}: {different}"


@pytest.mark.promise("serving.inputs", "dataframe_split")
def test_charset_may_be_named(
    sample_server: ModelServer, sample: ServedSample, image: ImageUnderTest
) -> None:
    content_type = f"{sample.payload.content_type}; charset=utf-8"
    answer = sample_server.ask(sample.payload.body, content_type)
    assert_answered(answer, sample.payload.predictions, image, content_type)
    found = answer.headers.get("Content-Type", "")
    assert found.startswith("application/json"), (
        f"predictions are answered with the content type {found!r}, not application/json"
    )


@pytest.mark.promise("serving.inputs", "params")
def test_parameters_are_of_one_request(
    scriptable_server: ModelServer, image: ImageUnderTest
) -> None:
    """Requests that are answered meanwhile or later have their own parameters."""
    shifts = [0.1, 0.2, 0.3, 0.4]
    with ThreadPoolExecutor(len(shifts)) as pool:
        asked = {
            shift: pool.submit(
                scriptable_server.ask,
                # The later requests are answered first.
                with_parameters(scale=1 / 3, shift=shift, pause=(1 - 2 * shift) * image.scale),
            )
            for shift in shifts
        }
    for shift, request in asked.items():
        assert_answered(request.result(), scripted(1 / 3, shift), image, f"shifted by {shift}")
    for answer in at_once(scriptable_server, SCRIPTED):
        assert_answered(answer, SCRIPTED.predictions, image, "without parameters, afterwards")


NO_INPUTS: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", JSON),
    "no JSON": ("{", JSON),
    "a number": ("7", JSON),
    "an unknown key": ('{"rows": [[1]]}', JSON),
    "two keys": ('{"inputs": [1], "instances": [1]}', JSON),
    "text for a number": ('{"dataframe_records": [{"x": "one"}]}', JSON),
    "a missing column": ('{"dataframe_split": {"columns": ["y"], "data": [[1]]}}', JSON),
    "another content type": ("<x>1</x>", "application/xml"),
}
NO_TEXT = (b"\xff\xfe\x00", "text/csv")
CONTENT_TYPES = (JSON, "text/csv", "application/vnd.apache.parquet")
"""Content types that MLflow's scoring protocol knows."""
OF_COLUMN_X = ("text for a number", "a missing column")
"""Faults for a model whose signature has this column of numbers."""


@pytest.mark.promise("serving.refuses_bad_input")
@pytest.mark.parametrize("fault", NO_INPUTS)
def test_bad_input_is_refused(sample_server: ModelServer, sample: ServedSample, fault: str) -> None:
    """The answer is 4xx, and the next request gets its predictions."""
    if fault in OF_COLUMN_X and sample.model != SCRIPTABLE:
        pytest.skip("the model that was given may take this")
    _assert_refused(sample_server, fault, *NO_INPUTS[fault])
    assert_predicts(sample_server, sample.payload, f"after {fault}")


@pytest.mark.promise("serving.names_content_types")
@pytest.mark.parametrize("sent", ["application/xml", "text/html; charset=utf-8", None])
def test_refused_content_type_is_told_what_is_taken(
    sample_server: ModelServer, sample: ServedSample, sent: str | None
) -> None:
    """What the server takes, it has to name; whatever else the client must not be shown again."""
    unsupported = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    taken = [
        content_type
        for content_type in CONTENT_TYPES
        if sample_server.ask("{", content_type).status_code != unsupported
    ]
    answer = requests.post(
        f"{sample_server.url}/invocations",
        sample.payload.body.encode(),
        headers={"Content-Type": sent} if sent else {},
        timeout=60 * sample_server.image.scale,
    )
    shown = f"{sent or 'no content type'}: {answer.status_code} {answer.text[:500]}"
    assert HTTPStatus.BAD_REQUEST <= answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, (
        f"4xx is due for {shown}"
    )
    unnamed = [content_type for content_type in taken if content_type not in answer.text]
    assert not unnamed, f"the server takes {', '.join(unnamed)}, and does not say so for {shown}"


@pytest.mark.promise("serving.refuses_bad_bytes")
def test_bytes_that_are_no_text_are_refused(
    sample_server: ModelServer, sample: ServedSample
) -> None:
    """The promise stands alone, because MLflow has kept it since August 2026 only."""
    _assert_refused(sample_server, "bytes that are no text", *NO_TEXT)
    assert_predicts(sample_server, sample.payload, "after bytes that are no text")


def _assert_refused(server: ModelServer, fault: str, body: str | bytes, content_type: str) -> None:
    try:
        answer = server.ask(body, content_type)
    except requests.RequestException as error:
        pytest.fail(f"{fault}: no answer, where 4xx is due: {error}")
    assert HTTPStatus.BAD_REQUEST <= answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, (
        f"{fault}: the model's server answers {answer.status_code}, where 4xx is due:"
        f" {answer.text[:500]}"
    )


def _settled_log(server: ModelServer) -> str:
    """Read the log a moment later: servers may collect lines, and engines do."""
    time.sleep(LOGGED_WITHIN * server.image.scale)
    return server.logs(5000)


def _blanks(size: int, announces: str) -> bytes | Iterator[bytes]:
    """Make blanks, with which JSON may begin, of a known length or in chunks."""
    if announces == "its length":
        return b" " * size
    return (b" " * min(65536, size - start) for start in range(0, size, 65536))


@pytest.mark.promise("serving.limits_requests")
@pytest.mark.parametrize("announces", ["its length", "nothing"])
def test_large_request_is_refused(
    sample_server: ModelServer, sample: ServedSample, promised_number: int, announces: str
) -> None:
    size = promised_number * MIB * 5 // 4
    refused_before = _settled_log(sample_server).count(" 413 ")
    try:
        answer = sample_server.ask(_blanks(size, announces))
    except requests.ConnectionError:
        # A client that is refused before it has sent everything may not get to read the answer.
        answer = None
    if answer is not None:
        assert answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE, (
            f"an input of {size} bytes, beyond the limit of {promised_number} MiB, is answered with"
            f" {answer.status_code} instead of 413: {answer.text[:200]}"
        )
    refused = _settled_log(sample_server).count(" 413 ") > refused_before
    assert refused or answer is not None, (
        f"an input of {size} bytes, beyond the limit of {promised_number} MiB, got no answer, and"
        " the server's log has no 413"
    )
    assert_predicts(sample_server, sample.payload)


@pytest.mark.promise("serving.limits_requests")
@pytest.mark.parametrize("announces", ["its length", "nothing"])
def test_request_below_the_limit_is_answered(
    sample_server: ModelServer, sample: ServedSample, promised_number: int, announces: str
) -> None:
    payload = sample.payload
    if payload.content_type != JSON:
        pytest.skip("the model that was given takes no JSON, which can be made longer")
    size = promised_number * MIB * 3 // 4
    blanks, end = _blanks(size - len(payload.body), announces), payload.body.encode()
    body = blanks + end if isinstance(blanks, bytes) else itertools.chain(blanks, [end])
    answer = sample_server.ask(body, payload.content_type)
    assert_answered(answer, payload.predictions, sample_server.image, f"{size} bytes")


@pytest.mark.promise("serving.keeps_input_private")
def test_input_is_repeated_nowhere(serve_sample: StartServer) -> None:
    server = serve_sample()
    # A number whose text is the same in JSON, pandas and NumPy.
    secret, number = f"private-{secrets.token_hex(8)}", secrets.randbelow(900_000) + 100_000.5
    bodies = {
        "text for a number": json.dumps({"dataframe_records": [{"x": secret}]}),
        "an unknown column": json.dumps({"dataframe_split": {"columns": [secret], "data": [[1]]}}),
        "an unknown key": json.dumps({secret: [1]}),
        "no JSON": f'{{"inputs": "{secret}"',
        "a bad parameter": with_parameters(scale=secret),
        "a column too many": json.dumps(
            {"dataframe_split": {"columns": ["x", secret], "data": [[1.0, 2.0]]}}
        ),
        "a tensor of text": json.dumps({"inputs": {"x": [secret]}}),
        "a number in another column": json.dumps({"dataframe_records": [{"y": number}]}),
        "a number in a list": json.dumps({"inputs": {"x": {"deep": [number]}}}),
        "what the model fails at": with_parameters(die_once=f"nowhere/{secret}"),
        "good input": json.dumps({"dataframe_split": {"columns": ["x"], "data": [[number]]}}),
    }
    answers: dict[str, requests.Response] = {}
    for fault, body in bodies.items():
        answers[fault] = server.ask(body)
    answers["csv"] = server.ask(f"x\n{secret}\n", "text/csv")
    answers["a content type"] = server.ask("{}", f"text/{secret}")
    limit = 30 * server.image.scale
    for fault, path in (("a query", f"/invocations?key={secret}"), ("a path", f"/{secret}")):
        answers[fault] = requests.post(f"{server.url}{path}", json={}, timeout=limit)
    repeating = [
        f"{fault}: {whole[:500]}"
        for fault, answer in answers.items()
        if secret in (whole := f"{answer.headers} {answer.text}") or str(number) in whole
    ]
    assert not repeating, (
        f"{len(repeating)} answers of the server repeat the client's private input, such as that"
        f" to {repeating[0]}"
    )
    stop(server)  # a server writes the output that it has kept back at its end
    wait_ended(server, "it was told to stop", WITHIN)
    lines = [
        line
        for line in server.logs(5000).splitlines()
        for text in (secret, str(number), str(2 * number))
        if text in line
    ]
    assert not lines, f"the server's log repeats the client's private input: {lines[0][:300]}"


@pytest.mark.promise("serving.answers_at_once")
def test_kept_connection_is_no_slower_than_a_new_one(
    sample_server: ModelServer, sample: ServedSample
) -> None:
    """TCP may hold small answers back for 40 ms on a kept connection, but not on a new one."""
    url, payload = f"{sample_server.url}/invocations", sample.payload
    limit = 30 * sample_server.image.scale
    headers = {"Content-Type": payload.content_type}

    def seconds(post: Callable[..., requests.Response]) -> float:
        begun = time.perf_counter()
        post(url, data=payload.body, headers=headers, timeout=limit).raise_for_status()
        return time.perf_counter() - begun

    with requests.Session() as session:
        seconds(session.post)
        kept = statistics.median(seconds(session.post) for _ in range(25))
        new = statistics.median(seconds(requests.post) for _ in range(25))
    assert kept < 2 * new, (
        f"an answer takes {kept * 1000:.0f} ms on a connection that the client keeps, and"
        f" {new * 1000:.0f} ms on a new one: the server's socket holds small answers back"
    )
