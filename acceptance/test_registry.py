"""The model registry: versions, aliases, and models that predict the same after loading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow.sklearn
import numpy as np
import pytest
from mlflow.models import infer_signature
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge

from seatrial.trial.clients import pages_of

from .comparisons import assert_equal
from .refused_requests import refused

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from seatrial.stack.server import MLflowServer
    from seatrial.trial.fixtures import NewName

pytestmark = pytest.mark.promise("server.capabilities", "registry")

REQUIREMENTS = ["scikit-learn"]
"""Requirements of the models: to infer them costs a second interpreter for every model."""


def test_versions_aliases_and_tags(
    client: MlflowClient, experiment: str, new_name: NewName, server: MLflowServer
) -> None:
    name = new_name()
    client.create_registered_model(name, tags={"team": "größe"}, description="first words")
    run_id = client.create_run(experiment).info.run_id
    for number in range(1, 4):
        client.log_text(run_id, f"weights {number}", f"model-{number}/weights.txt")
        version = client.create_model_version(
            name, f"runs:/{run_id}/model-{number}", run_id, tags={"number": str(number)}
        )
        assert_equal(
            "the pair of version and status in the server's answer to a new version",
            (version.version, version.status),
            (str(number), "READY"),
        )
    client.set_registered_model_alias(name, "champion", "2")
    client.set_model_version_tag(name, "2", "validated", "yes")
    client.update_model_version(name, "2", description="the good one")
    champion = client.get_model_version_by_alias(name, "champion")
    for field, found, written in (
        ("number", champion.version, "2"),
        ("set of tags", champion.tags, {"number": "2", "validated": "yes"}),
        ("description", champion.description, "the good one"),
    ):
        assert_equal(f"the {field} of the version that the client reads by alias", found, written)
    client.set_registered_model_alias(name, "champion", "3")
    assert_equal(
        "the version that the client reads by an alias that it moved from 2 to 3",
        client.get_model_version_by_alias(name, "champion").version,
        "3",
    )
    rows = server.rows(
        "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'champion'",
        [name],
    )
    assert_equal("the version in the database of the alias that was moved to 3", rows, [(3,)])
    client.delete_registered_model_alias(name, "champion")
    with refused("a look at a version by an alias that was deleted", match="champion"):
        client.get_model_version_by_alias(name, "champion")
    assert_equal(
        "the set of tags that the client reads of the registered model that it created",
        client.get_registered_model(name).tags,
        {"team": "größe"},
    )
    stored = server.rows(
        "SELECT version, source, run_id, status, description FROM model_versions WHERE name = ?",
        [name],
    )
    read = client.search_model_versions(f"name = '{name}'")
    assert_equal(
        "the list of the model's versions in the database, against what a search finds,",
        sorted(stored),
        sorted(
            (
                int(version.version),
                version.source,
                version.run_id,
                version.status,
                version.description,
            )
            for version in read
        ),
    )
    tags = server.rows("SELECT version, key, value FROM model_version_tags WHERE name = ?", [name])
    expected = {(number, "number", str(number)) for number in range(1, 4)}
    assert_equal(
        "the set of the versions' tags in the database, which the client set,",
        set(tags),
        expected | {(2, "validated", "yes")},
    )


def test_search_and_deletion(client: MlflowClient, experiment: str, new_name: NewName) -> None:
    prefix = new_name()
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "weights", "model/weights.txt")
    names = [f"{prefix}-{number}" for number in range(5)]
    for name in names:
        client.create_registered_model(name)
        client.create_model_version(name, f"runs:/{run_id}/model", run_id)
    pages = pages_of(
        lambda token: client.search_registered_models(
            f"name LIKE '{prefix}%'", max_results=2, order_by=["name DESC"], page_token=token
        )
    )
    found = [[model.name for model in page] for page in pages]
    assert_equal(
        "the list of models, page by page, in a search for 5 models, by falling name, 2 to a page,",
        found,
        [names[:2:-1], names[2:0:-1], names[:1]],
    )
    of_run = client.search_model_versions(f"run_id = '{run_id}'")
    assert_equal(
        "the list of models in a search for the versions of their run",
        sorted(version.name for version in of_run),
        names,
    )

    client.delete_model_version(names[0], "1")
    with refused("a look at a version that was deleted", code="RESOURCE_DOES_NOT_EXIST"):
        client.get_model_version(names[0], "1")
    client.delete_registered_model(names[1])
    left = client.search_registered_models(f"name = '{names[1]}'")
    assert left == [], f"a search finds the registered model {names[1]}, which the client deleted"
    with refused("a second registered model of the same name", match="already exists"):
        client.create_registered_model(names[2])


def test_classifier_predicts_the_same_after_loading_by_alias(
    client: MlflowClient, experiment: str, new_name: NewName
) -> None:
    features, classes = make_classification(n_samples=200, n_features=8, random_state=3)
    model = RandomForestClassifier(n_estimators=15, random_state=3).fit(features, classes)
    before = model.predict_proba(features)
    name = new_name()

    with mlflow.start_run(experiment_id=experiment):
        mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=name,
            signature=infer_signature(features, before),
            pip_requirements=REQUIREMENTS,
            serialization_format="cloudpickle",
        )
    client.set_registered_model_alias(name, "champion", "1")

    loaded = mlflow.sklearn.load_model(f"models:/{name}@champion")
    np.testing.assert_array_equal(
        loaded.predict_proba(features),
        before,
        "the model that was loaded by its alias predicts other probabilities than before",
    )
    as_function = mlflow.pyfunc.load_model(f"models:/{name}/1")
    np.testing.assert_array_equal(
        as_function.predict(features),
        model.predict(features),
        "the model that was loaded by its version predicts other classes than before",
    )


def test_alias_moves_to_the_new_version(
    client: MlflowClient, experiment: str, new_name: NewName
) -> None:
    features = np.linspace(0, 1, 40).reshape(20, 2)
    name = new_name()
    predictions = []
    for slope in (1.0, -2.0):
        model = Ridge().fit(features, slope * features.sum(axis=1))
        predictions.append(model.predict(features))
        with mlflow.start_run(experiment_id=experiment):
            mlflow.sklearn.log_model(
                model,
                name="model",
                registered_model_name=name,
                pip_requirements=REQUIREMENTS,
                serialization_format="cloudpickle",
            )
    for version, expected in enumerate(predictions, start=1):
        client.set_registered_model_alias(name, "live", str(version))
        loaded = mlflow.pyfunc.load_model(f"models:/{name}@live")
        np.testing.assert_array_equal(
            loaded.predict(features),
            expected,
            f"the alias was set to version {version}, and the model behind it predicts otherwise",
        )
    assert not np.array_equal(*predictions), "the trial is at fault: its two models predict alike"
