"""Models that are served by the images."""

from __future__ import annotations

import json
import signal
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acceptance.inside import serving
from acceptance.models import put_doubling

if TYPE_CHECKING:
    from seatrial.stack.subject import Subject
    from seatrial.stack.workplace import Workplace


@pytest.mark.promise("command_line.serves_models")
def test_models_serve(workplace: Workplace, subject: Subject, tmp_path: Path) -> None:
    """By MLflow's own server, inside the image."""
    model = put_doubling(workplace, tmp_path)
    start = [*subject.configuration.entrypoint, *subject.mlflow_command]
    work = workplace.python(Path(serving.__file__).read_text(encoding="utf-8"), model, *start)
    assert work.code == 0, f"a model can't be served: {work}"
    said = json.loads(work.printed.splitlines()[-1])
    answers, log = said["answers"], f"; it said:\n{said['output'][-3000:]}"
    assert answers["ping"][0] == HTTPStatus.OK, f"/ping never said 200: {answers['ping']}{log}"
    for form in ("dataframe_split", "csv"):
        status, text = answers[form]
        assert status == HTTPStatus.OK, f"{form}: {status} {text}{log}"
        assert json.loads(text)["predictions"] == [2, 5, -8], f"{form}: wrong numbers: {text}"
    assert HTTPStatus.BAD_REQUEST <= answers["no JSON"][0] < HTTPStatus.INTERNAL_SERVER_ERROR, (
        f"input that is no JSON: {answers['no JSON']}{log}"
    )
    assert answers["ping at the end"][0] == HTTPStatus.OK, f"bad input ended it{log}"
    stopped = (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert said["code"] in stopped, f"after SIGTERM it ended with {said['code']}{log}"
