"""Lower bounds of latency: a handler that does nothing, and the work of an answer without HTTP."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.candidate import PORT, Candidate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

HANDLER = f"""
import uvicorn
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
uvicorn.run(app, host="0.0.0.0", port={PORT}, log_level="warning", lifespan="off")
"""


def handler(reference: str, interpreter: str) -> Candidate:
    """Describe a server that echoes its input: one process of the image's own uvicorn.

    Args:
        reference: of the image.
        interpreter: the image's Python.
    """
    return Candidate(
        f"bare uvicorn in {reference}",
        reference,
        ("-c", HANDLER),
        entrypoint=(interpreter,),
        path="/",
    )


IN_PROCESS = """
import json, sys, time
from statistics import median
import mlflow
from mlflow.pyfunc import scoring_server
body, warm, count = sys.argv[1].encode(), int(sys.argv[2]), int(sys.argv[3])
model = mlflow.pyfunc.load_model("/opt/ml/model")
schema = model.metadata.get_input_schema()
took = []
for _ in range(warm + count):
    before = time.perf_counter()
    answer = scoring_server.invocations(body, "application/json", model, schema)
    took.append(time.perf_counter() - before)
print(json.dumps({"milliseconds": median(took[warm:]) * 1000, "answer": answer.response}))
"""
"""Measures MLflow's function for an answer, on the model and without HTTP."""


def statements(url: str, run: str) -> list[tuple[str, Any]]:
    """Record the SQL that MLflow sends to read a run: statements and their parameters.

    Args:
        url: of a database that a server of this MLflow version has made, for SQLAlchemy.
        run: the id of a run in it.
    """
    # Imported here: both take seconds, and most measurements need neither.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import event

    store: Any = SqlAlchemyStore(url, "/nowhere")  # type: ignore[no-untyped-call]
    store.get_run(run)
    found: list[tuple[str, Any]] = []

    def note(*seen: Any) -> None:  # noqa: ANN401
        _, _, statement, parameters, *_ = seen
        found.append((statement, parameters))

    event.listen(store.engine, "before_cursor_execute", note)
    store.get_run(run)
    store.engine.dispose()
    return found


def replay(
    connection: psycopg.Connection, recorded: Sequence[tuple[str, Any]], *, warm: int, count: int
) -> float:
    """Send recorded statements in one transaction, again and again.

    Returns:
        The median, in milliseconds for all of them with their rows.
    """
    took = []
    for _ in range(warm + count):
        before = time.perf_counter()
        with connection.transaction():
            for statement, parameters in recorded:
                connection.execute(statement.encode(), parameters).fetchall()
        took.append(time.perf_counter() - before)
    return median(took[warm:]) * 1000
