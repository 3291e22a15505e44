"""A model that needs nothing beside MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow

from seatrial.backends.base import DATA_PATH

if TYPE_CHECKING:
    from pathlib import Path

    from seatrial.stack.workspace import Workspace

DOUBLING = """
class Doubling:
    def predict(self, frame, params=None):
        return [2 * value for value in frame["x"]]

def _load_pyfunc(path):
    return Doubling()
"""


def put_doubling(workspace: Workspace, scratch: Path) -> str:
    """Put a model that needs nothing beside MLflow into a workspace.

    Args:
        workspace: where the folder `model` is put.
        scratch: a folder of this host, in which the model is made.

    Returns:
        the path of the model in the workspace.
    """
    code, folder = scratch / "doubling.py", scratch / "model"
    code.write_text(DOUBLING, encoding="utf-8")
    mlflow.pyfunc.save_model(
        folder, loader_module="doubling", code_paths=[str(code)], pip_requirements=["mlflow"]
    )
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    workspace.put({f"model/{path.relative_to(folder)}": path.read_bytes() for path in files})
    return f"{DATA_PATH}/model"
