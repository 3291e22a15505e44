"""The trial's own models, trained in this environment rather than in a container."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from acceptance.predictions import computed_predictions, difference
from seatrial.errors import UserError
from seatrial.trial import model_cases

if TYPE_CHECKING:
    from pathlib import Path


def test_models_are_described_with_what_they_predict(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-", json.dumps({"folder": str(tmp_path)})],
        input=model_cases._script(),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    cases = model_cases._read(done.returncode, done.stdout, done.stderr)
    assert cases.keys() == {"pipeline", "affine", "tensor"}
    for kind, case in cases.items():
        assert (tmp_path / kind / "MLmodel").is_file()
        for name, payload in case.payloads.items():
            assert payload.content_type in ("application/json", "text/csv"), name
            if computed := computed_predictions(case, payload):
                assert not difference(payload.predictions, computed, 1e-9), f"{kind}, {name}"
    assert cases["pipeline"].payloads["csv"].variations.keys() == {
        "columns in another order",
        "many rows",
    }


def test_failed_training_says_why() -> None:
    with pytest.raises(UserError, match=r"could not be made: no module named mlflow$"):
        model_cases._read(1, "", "no module named mlflow")
