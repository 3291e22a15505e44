"""The catalogue, read for real by bake: needs the buildx plugin, no engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from repository import PROJECT, ROOT, needs_buildx

from seatrial import catalogue
from seatrial.catalogue.bake_file import environment
from seatrial.catalogue.model import Catalogue, Image
from seatrial.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@needs_buildx
def test_holds_the_variants_and_services() -> None:
    chosen = catalogue.load()
    assert {"upstream", "custom", "hardened", "slim", "model-server"} <= set(chosen.variants)
    assert {"postgres", "minio", "mysql"} <= set(chosen.services)
    assert chosen.default == ("custom", "hardened", "slim")
    assert chosen.tried == ("custom",)
    assert [image.name for image in chosen.select([])] == ["custom", "hardened", "slim"]


@needs_buildx
def test_longest_compilation_waits_for_debian_alone() -> None:
    chosen = catalogue.load()
    assert chosen.needed([chosen.service("minio")]) == {"minio", "debian"}


@needs_buildx
def test_first_tag_is_latest_and_the_second_the_version() -> None:
    image = catalogue.load().variant("custom")
    assert image.reference == "seatrial/custom:latest"
    assert image.tags[1] == f"seatrial/custom:{image.labels['org.opencontainers.image.version']}"


@needs_buildx
@pytest.mark.parametrize("given", ["v3.1.1", "3.1.1"])
def test_version_may_have_a_leading_v(given: str) -> None:
    chosen = catalogue.load({"MLFLOW_VERSION": given})
    assert chosen.arguments["MLFLOW_VERSION"] == "3.1.1"
    for image in chosen.variants.values():
        assert image.tags[1].endswith(":3.1.1")
        assert image.labels["org.opencontainers.image.version"] == "3.1.1"


@needs_buildx
def test_pins_are_labels_only_when_given() -> None:
    plain = catalogue.load().variant("custom")
    assert not [label for label in plain.labels if label.startswith("io.seatrial.pin.")]
    pinned = catalogue.load({"BOTO3_VERSION": "1.40.0", "PSYCOPG2_VERSION": "2.9.10"})
    labels = pinned.variant("custom").labels
    assert labels["io.seatrial.pin.boto3"] == "1.40.0"
    assert labels["io.seatrial.pin.psycopg2-binary"] == "2.9.10"


@needs_buildx
def test_registry_is_the_first_part_of_every_tag() -> None:
    chosen = catalogue.load({"REGISTRY": "localhost:5000/team"})
    images = [*chosen.variants.values(), *chosen.services.values()]
    assert {tag.rpartition("/")[0] for image in images for tag in image.tags} == {
        "localhost:5000/team"
    }


@needs_buildx
def test_official_image_takes_the_place_of_the_stand_in() -> None:
    digest = "sha256:" + "0" * 64
    chosen = catalogue.load(
        {}, {"MLFLOW_IMAGE": f"ghcr.io/mlflow/mlflow:v1@{digest}", "MLFLOW_DIGEST": digest}
    )
    labels = chosen.variant("upstream").labels
    assert labels["io.seatrial.stand-in"] == "false"
    assert labels["org.opencontainers.image.base.digest"] == digest
    assert labels["org.opencontainers.image.base.name"].startswith("ghcr.io/mlflow/mlflow:v")
    assert catalogue.load().variant("upstream").labels["io.seatrial.stand-in"] == "true"


@needs_buildx
def test_services_are_for_the_builder_alone_and_variants_for_both() -> None:
    chosen = catalogue.load({}, {"BUILD_PLATFORM": "linux/arm64"})
    assert chosen.service("minio").platforms == ("linux/arm64",)
    assert chosen.variant("custom").platforms == ("linux/amd64", "linux/arm64")
    assert chosen.images["tools"].platforms == ("linux/arm64",)


@needs_buildx
def test_needed_follows_the_parts_to_the_end() -> None:
    chosen = catalogue.load()
    needed = chosen.needed([chosen.variant("custom")])
    assert needed == {"custom", "upstream", "python", "tools", "debian"}
    with_registry = catalogue.load({}, {"DEBIAN_IMAGE": "debian@sha256:" + "0" * 64})
    assert "debian" not in with_registry.needed([with_registry.service("postgres")])


@needs_buildx
def test_every_variant_has_its_contract() -> None:
    chosen = catalogue.load()
    for image in chosen.variants.values():
        assert image.contract.is_file(), image.name


@needs_buildx
def test_labels_and_provenance_are_on_every_shipped_image() -> None:
    filled = {
        "SOURCE": "https://example.org/repository",
        "REVISION": "abc",
        "CREATED": "2026-01-01T00:00:00Z",
        "DEBIAN_DIGEST": "sha256:" + "1" * 64,
    }
    chosen = catalogue.load({}, filled)
    for image in (*chosen.variants.values(), *chosen.services.values()):
        labels = {key.removeprefix("org.opencontainers.image."): image.labels[key]
                  for key in image.labels}  # fmt: skip
        assert labels["source"] == filled["SOURCE"], image.name
        assert labels["revision"] == "abc", image.name
        assert labels["created"] == filled["CREATED"], image.name
        assert labels["version"], image.name
        assert labels["base.name"], image.name


@needs_buildx
def test_unknown_argument_lists_the_known() -> None:
    with pytest.raises(UserError) as fault:
        catalogue.load({"BOTO_VERSION": "1"})
    assert "'BOTO_VERSION'" in str(fault.value)
    assert "BOTO3_VERSION" in str(fault.value)
    assert "\n" not in str(fault.value)


@needs_buildx
def test_internal_variables_are_no_arguments() -> None:
    with pytest.raises(UserError, match="unknown argument 'REVISION'"):
        catalogue.load({"REVISION": "1"})


@needs_buildx
def test_own_variables_of_the_person_do_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVISION", "something of theirs")
    labels = catalogue.load().variant("custom").labels
    assert "org.opencontainers.image.revision" not in labels


def test_missing_docker_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no docker client .* `invoke setup`"):
        catalogue.load()


@pytest.mark.parametrize(
    "printed",
    [
        "docker: unknown command: docker buildx\n\nRun 'docker --help' for more information",
        "docker: 'buildx' is not a docker command.\nSee 'docker --help'",
    ],
)
def test_missing_buildx_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, printed: str
) -> None:
    client = tmp_path / "docker"
    client.write_text(f'#!/bin/sh\necho "{printed}" >&2\nexit 1\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^docker has no buildx plugin: run `invoke setup`$"):
        catalogue.load()


def image(name: str, dependencies: tuple[str, ...] = ()) -> Image:
    return Image(name, (f"r/{name}:latest",), ("linux/amd64",), ROOT, {}, dependencies)


SMALL = Catalogue(
    project=PROJECT,
    variants={"a": image("a", ("base",)), "b": image("b", ("a",))},
    services={"db": image("db")},
    bases={"base": image("base")},
    models={},
    default=("b",),
    tried=("b",),
    arguments={},
)


def test_selecting_keeps_the_order_and_drops_repetitions() -> None:
    assert [each.name for each in SMALL.select(["b", "a", "b"])] == ["b", "a"]
    assert [each.name for each in SMALL.select([])] == ["b"]
    assert [each.name for each in SMALL.select(["db"])] == ["db"]


@pytest.mark.parametrize("method", [lambda n: SMALL.select([n]), SMALL.variant, SMALL.service])
def test_unknown_names_list_the_known(method: Callable[[str], object]) -> None:
    with pytest.raises(UserError, match=r"'base': known are (a|db)"):
        method("base")


def test_environment_always_gives_every_internal_variable() -> None:
    filled = environment({"X": "1"}, {"REVISION": "r"})
    assert filled["REVISION"] == "r"
    assert filled["SOURCE"] == ""
    assert filled["X"] == "1"
    assert "BUILD_PLATFORM" not in filled
