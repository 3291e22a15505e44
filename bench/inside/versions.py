"""Save versions of the trial's pipeline, and print how the first is asked and what it answers.

The arguments are a folder, which gets each version in a folder of its own, and their number. They
need the same environment and differ in their weights. Beside this file lies the trial's
`train_models.py`.
"""

import json
import platform
import sys
from pathlib import Path

import mlflow
import train_models  # type: ignore[import-not-found]


def main(folder: Path, count: int) -> None:
    """Make the versions."""
    words = train_models.pipeline()
    flavor = words.pop("flavor")
    del words["weights"]  # of the first version
    weights = words["sk_model"][-1].coef_
    row = words["input_example"].head(1)
    printed: dict[str, object] = {}
    for number in range(1, count + 1):
        path = str(folder / str(number))
        flavor.save_model(path=path, **words)
        if not printed:
            split = row.to_dict(orient="split")
            printed = {
                "python": platform.python_version(),
                "body": {"dataframe_split": {key: split[key] for key in ("columns", "data")}},
                "predictions": train_models.answers(mlflow.pyfunc.load_model(path).predict(row)),
            }
        weights *= 1.25
    print(json.dumps(printed))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
