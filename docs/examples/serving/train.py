"""Train a model of one number, log it, and make it the champion."""

import argparse

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--slope", type=float, required=True, help="what the model is to learn")
slope = parser.parse_args().slope

frame = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
model = LinearRegression().fit(frame, slope * frame["x"])
with mlflow.start_run():
    logged = mlflow.sklearn.log_model(
        model,
        name="model",
        registered_model_name="guide",
        signature=infer_signature(frame, model.predict(frame)),
        input_example=frame.head(2),
    )
version = logged.registered_model_version
mlflow.MlflowClient().set_registered_model_alias("guide", "champion", str(version))
print(f"models:/guide@champion is version {version}")
