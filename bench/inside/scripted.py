"""Save the trial's model that waits when it is told to, and print how it is asked and answers.

The arguments are a folder, which gets the model in the folder `1`, and the number 1. Beside this
file lies the trial's `train_models.py`.
"""

import json
import platform
import sys
import tempfile
from pathlib import Path

import mlflow
import pandas as pd
import train_models  # type: ignore[import-not-found]


def main(folder: Path) -> None:
    """Make the model."""
    path = str(folder / "1")
    with tempfile.TemporaryDirectory() as scratch:
        words = train_models.affine(Path(scratch))
        flavor = words.pop("flavor")
        del words["weights"]
        flavor.save_model(path=path, **words)
        frame = {"columns": ["x"], "data": [[1.0], [2.5], [-4.0]]}
        predictions = mlflow.pyfunc.load_model(path).predict(pd.DataFrame({"x": [1.0, 2.5, -4.0]}))
    made = {
        "python": platform.python_version(),
        "body": {"dataframe_split": frame},
        "predictions": train_models.answers(predictions),
    }
    print(json.dumps(made))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
