"""Train the trial's models, log or save them, and print what a server of them must answer.

The argument is JSON: `server` (a tracking URI; the models are logged there and registered under
`prefix` and their names, with the alias `trial`) or `folder` (they are saved below it). `given`
names a model that exists already instead. The last line that is printed is JSON. It holds, by name
of the model, `uri`, `python` (the version), `weights` and `payloads`; these hold, by name of the
payload, `content_type`, `body`, `predictions` and `variations`, which are other inputs by what
distinguishes them. From the weights, predictions can be computed without this image.
"""

import io
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature, infer_signature
from mlflow.pyfunc.scoring_server import invocations, predictions_to_json
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.utils.proto_json_utils import NumpyEncoder

JSON, CSV = "application/json", "text/csv"
ALIAS = "trial"
ROWS = 1200
"""Rows of a long input: more than a sample of a frame usually has."""
LARGEST = 300_000
"""Most characters of a long frame in JSON: every payload of it is printed."""

AFFINE = """
import ctypes, getpass, logging, os, signal, time
from pathlib import Path

import mlflow
import numpy as np

def trace():
    @mlflow.trace
    def step(number):
        return number + 1

    step(1)

def log():
    for place in (Path("seatrial.log"), Path.home() / "seatrial-home.log"):
        handler = logging.FileHandler(place)
        handler.emit(logging.makeLogRecord({"msg": "predicted"}))
        handler.close()
        if "predicted" not in place.read_text():
            raise RuntimeError(f"{place} has not kept what was logged")

def cache():
    import matplotlib
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    plt.figure()
    plt.savefig("seatrial.png")
    plt.close()
    for folder in (Path("seatrial-cache"), Path.home() / ".cache" / "seatrial"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "entry").write_text("kept")

def ask():
    if not (Path.home().is_dir() and Path("~").expanduser() == Path.home() and getpass.getuser()):
        raise RuntimeError("there is no home")

WORK = {"trace": trace, "log": log, "cache": cache, "ask": ask}
FORMS = {
    "array": lambda x: x.to_numpy(),
    "single precision": lambda x: x.to_numpy("float32"),
    "objects": lambda x: x.to_numpy(object),
    "series": lambda x: x,
    "frame": lambda x: x.to_frame(),
    "list": lambda x: x.tolist(),
    "scalars": lambda x: [np.float32(number) for number in x],
    "dictionary": lambda x: {"x": x.to_numpy(), "NaN": "Infinity, NaN"},
    "nested": lambda x: {"rows": [{"x": (x.to_numpy(), x.iloc[1])}]},
    "number": lambda x: x.iloc[1],
}

class Affine(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        time.sleep(float(os.environ.get("SEATRIAL_LOAD_SECONDS", "0")))
        if reason := os.environ.get("SEATRIAL_FAIL_TO_LOAD"):
            raise RuntimeError(reason)
        for work in os.environ.get("SEATRIAL_WORK_AT_LOAD", "").split():
            WORK[work]()

    def predict(self, context, model_input, params=None):
        params = params or {}
        time.sleep(params.get("pause", 0.0))
        if name := params.get("die_once"):
            # The same request is answered the next time.
            mark = Path("/tmp", name)
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if seconds := params.get("hold"):
            # Extensions may keep Python's lock like this while they compute.
            ctypes.PyDLL(None).usleep(int(seconds * 1e6))
        if size := params.get("eat"):
            with Path("/tmp", "seatrial-eaten").open("a") as marks:
                marks.write(".")
            eaten = []
            for _ in range(int(size) >> 24):
                eaten.append(b"x" * (1 << 24))
                time.sleep(0.005)
        if work := params.get("work"):
            WORK[work]()
        if length := params.get("length"):
            return ["x" * int(length)]
        answer = model_input["x"] * params.get("scale", 2.0) + params.get("shift", 0.0)
        if form := params.get("form"):
            return FORMS[form](answer)
        kept = model_input.drop(columns="x")
        return answer if kept.empty else kept.assign(x=answer)
"""
"""A model that fails and waits when it is told to, by variables of the container while it loads and
by parameters of a request. Columns beside `x` come back unchanged.

`pause` waits for so many seconds, `hold` keeps Python's lock for so many, `eat` takes so many bytes
of memory and counts its calls in /tmp, `length` answers a text of that length instead, `form` has
the predictions of `x` in a form of its name, and `work` traces a function, logs to files, keeps a
cache or asks for its home and user before it answers."""


def requirements(*names: str) -> "list[str]":
    """List requirements with the versions that are installed here."""
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in ("mlflow", "numpy", "pandas", *names)]


def pipeline() -> "dict[str, Any]":
    """Train a pipeline of scikit-learn on a DataFrame."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    points = np.random.default_rng(5).normal(size=(150, 4))
    frame = pd.DataFrame(points, columns=["length", "width", "height", "weight"])
    target = points.argmax(axis=1) % 3
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(frame, target)
    return {
        "flavor": mlflow.sklearn,
        "sk_model": model,
        "pyfunc_predict_fn": "predict_proba",
        "signature": infer_signature(frame, model.predict_proba(frame)),
        "input_example": frame.head(5),
        "pip_requirements": requirements("scikit-learn", "scipy"),
        "weights": {
            "means": model[0].mean_.tolist(),
            "scales": model[0].scale_.tolist(),
            "classes": list(
                zip(model[1].coef_.tolist(), model[1].intercept_.tolist(), strict=True)
            ),
        },
    }


def affine(folder: Path) -> "dict[str, Any]":
    """Write a Python function with parameters, in a code file of its own."""
    code = folder / "seatrial_affine.py"
    code.write_text(AFFINE, encoding="utf-8")
    sys.path.insert(0, str(folder))
    from seatrial_affine import Affine  # type: ignore[import-not-found]

    frame = pd.DataFrame({"x": [1.0, 2.5, -4.0]})
    numbers = {"scale": 2.0, "shift": 0.0, "pause": 0.0}
    parameters = ParamSchema(
        [ParamSpec(name, "double", value) for name, value in numbers.items()]
        + [ParamSpec(name, "double", 0.0) for name in ("hold", "eat", "length")]
        + [ParamSpec(name, "string", "") for name in ("die_once", "form", "work")]
    )
    columns = infer_signature(frame, frame["x"])
    kept = [
        ColSpec(data_type, name, required=False)
        for name, data_type in {"number": "long", "when": "datetime", "word": "string"}.items()
    ]
    return {
        "flavor": mlflow.pyfunc,
        "python_model": Affine(),
        "code_paths": [str(code)],
        "signature": ModelSignature(
            Schema([*columns.inputs.inputs, *kept]), columns.outputs, parameters
        ),
        "input_example": (frame, {"scale": 3.0, "shift": 0.1}),
        "pip_requirements": requirements(),
        "weights": numbers,
    }


def tensor() -> "dict[str, Any]":
    """Train a regression of scikit-learn on an array."""
    from sklearn.linear_model import LinearRegression

    points = np.random.default_rng(7).normal(size=(40, 3))
    model = LinearRegression().fit(points, points @ np.array([0.5, -2.0, 1.25]) + 0.1)
    return {
        "flavor": mlflow.sklearn,
        "sk_model": model,
        "signature": infer_signature(points, model.predict(points)),
        "input_example": points[:4],
        "pip_requirements": requirements("scikit-learn", "scipy"),
        "weights": {"slope": model.coef_.tolist(), "offset": float(model.intercept_)},
    }


def payloads_of(path: str) -> "dict[str, dict[str, Any]]":
    """Make every payload that the model's signature takes from the model's input example."""
    model = mlflow.pyfunc.load_model(path)
    metadata = Model.load(path)
    example = metadata.load_input_example(path)
    if example is None:
        sys.exit("the model has no input example to try it with: log it with input_example")
    parameters = metadata.load_input_example_params(path)
    payloads = inputs_of(model, example)
    for payload in payloads.values():
        payload["variations"] = {}
    for variation, frame in variations_of(example, model.metadata.get_input_schema()).items():
        for name, payload in inputs_of(model, frame).items():
            payloads[name]["variations"][variation] = payload
    if parameters:
        first = json.loads(next(iter(payloads.values()))["body"])
        payloads["params"] = {
            "content_type": JSON,
            "body": as_json({**first, "params": parameters}),
            "predictions": answers(model.predict(example, params=parameters)),
            "variations": {},
        }
    return payloads


def inputs_of(model: Any, example: Any) -> "dict[str, dict[str, Any]]":  # noqa: ANN401
    """Write an input as every payload that it can be, with the model's predictions."""
    if isinstance(example, pd.DataFrame):
        bodies: dict[str, Any] = {
            "dataframe_split": {"dataframe_split": example.to_dict(orient="split")},
            "dataframe_records": {"dataframe_records": example.to_dict(orient="records")},
            "inputs": {"inputs": example.to_dict(orient="list")},
            "instances": {"instances": example.to_dict(orient="records")},
        }
    elif isinstance(example, dict):
        bodies = {
            "inputs": {"inputs": {name: np.asarray(array) for name, array in example.items()}}
        }
    else:
        bodies = {name: {name: np.asarray(example).tolist()} for name in ("inputs", "instances")}
    predicted = {"predictions": answers(model.predict(example))}
    payloads = {
        name: {"content_type": JSON, "body": as_json(body), **predicted}
        for name, body in bodies.items()
    }
    if isinstance(example, pd.DataFrame):
        payloads["csv"] = {"content_type": CSV, "body": example.to_csv(index=False), **predicted}
    return payloads


def variations_of(example: Any, schema: Any) -> "dict[str, pd.DataFrame]":  # noqa: ANN401
    """Make other frames, which the same model takes, from its input example."""
    if not isinstance(example, pd.DataFrame) or schema is None or not schema.has_input_names():
        return {}
    copies = min(ROWS // len(example), LARGEST // len(example.to_json())) + 1
    return {
        "columns in another order": example[example.columns[::-1]],
        "many rows": pd.concat([example] * copies, ignore_index=True),
    }


def as_json(body: object) -> str:
    """Write an input as JSON, with dates and arrays as MLflow writes them."""
    return json.dumps(body, cls=NumpyEncoder)


def accepted_payloads(path: str) -> "dict[str, dict[str, Any]]":
    """Make the payloads that MLflow itself takes for a model, which may be without a signature."""
    model = mlflow.pyfunc.load_model(path)
    schema = model.metadata.get_input_schema()
    payloads = {
        name: payload
        for name, payload in payloads_of(path).items()
        if is_accepted(payload, model, schema)
    }
    for payload in payloads.values():
        payload["variations"] = {
            name: variation
            for name, variation in payload["variations"].items()
            if is_accepted(variation, model, schema)
        }
    return payloads or sys.exit("MLflow takes the model's own input example as no payload")


def is_accepted(payload: "dict[str, Any]", model: Any, schema: Any) -> bool:  # noqa: ANN401 - MLflow's
    """Whether MLflow answers the payload."""
    try:
        answer = invocations(payload["body"], payload["content_type"], model, schema)  # type: ignore[no-untyped-call]
    except MlflowException:
        return False
    return bool(answer.status == 200)


def answers(predictions: object) -> object:
    """Write predictions as MLflow writes them into an answer."""
    text = io.StringIO()
    predictions_to_json(predictions, text)  # type: ignore[no-untyped-call]
    return json.loads(text.getvalue())["predictions"]


def main(options: "dict[str, str]") -> None:
    """Make the models, and print their descriptions."""
    if given := options.get("given"):
        print(json.dumps({"given": model_case(given, accepted_payloads(given), {})}))
        return
    cases = {}
    with tempfile.TemporaryDirectory() as scratch:
        models = {"pipeline": pipeline(), "affine": affine(Path(scratch)), "tensor": tensor()}
        for name, arguments in models.items():
            flavor, weights = arguments.pop("flavor"), arguments.pop("weights")
            folder = str(Path(options.get("folder", scratch), name))
            flavor.save_model(path=folder, **arguments)
            uri = folder
            if server := options.get("server"):
                uri = log(server, flavor, arguments, f"{options['prefix']}-{name}")
            cases[name] = model_case(uri, payloads_of(folder), weights)
    print(json.dumps(cases))


def model_case(
    uri: str, payloads: "dict[str, dict[str, Any]]", weights: "dict[str, Any]"
) -> "dict[str, Any]":
    """Describe a model, as it is printed."""
    return {
        "uri": uri,
        "python": platform.python_version(),
        "weights": weights,
        "payloads": payloads,
    }


def log(server: str, flavor: Any, arguments: "dict[str, Any]", name: str) -> str:  # noqa: ANN401
    """Log and register a model, and return the URI of its alias."""
    mlflow.set_tracking_uri(server)
    with mlflow.start_run():
        logged = flavor.log_model(name="model", registered_model_name=name, **arguments)
    version = str(logged.registered_model_version)
    mlflow.MlflowClient().set_registered_model_alias(name, ALIAS, version)
    return f"models:/{name}@{ALIAS}"


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
