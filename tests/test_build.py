"""What is built where, from options to bake's settings."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from repository import PROJECT, ROOT

from seatrial.build import bootstrap, build, lock_files, network, record, revision, store
from seatrial.build import builder as builders
from seatrial.catalogue.model import Catalogue, Image
from seatrial.errors import UserError
from seatrial.project import Project

if TYPE_CHECKING:
    from pathlib import Path

AMD, ARM = "linux/amd64", "linux/arm64"
ENGINE = builders.Builder("default", "docker", AMD)
ELSEWHERE = builders.Builder("far", "docker-container", ARM)


def image(
    name: str, platforms: tuple[str, ...] = (AMD, ARM), dependencies: tuple[str, ...] = ()
) -> Image:
    return Image(name, (f"r/{name}:latest",), platforms, ROOT, {}, dependencies)


CHOSEN = Catalogue(
    project=PROJECT,
    variants={
        "upstream": image("upstream", dependencies=("python", "tools")),
        "custom": image("custom", dependencies=("upstream", "tools")),
        "writer": image("writer", platforms=(AMD,)),
    },
    services={"minio": image("minio", platforms=(AMD,), dependencies=("tools",))},
    bases={"python": image("python", dependencies=("tools",)), "tools": image("tools", (AMD,))},
    models={},
    default=("custom",),
    tried=("custom",),
    arguments={},
)


def test_arguments_are_split_at_the_first_equals() -> None:
    assert build.parse(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}


@pytest.mark.parametrize("argument", ["A", "=1", ""])
def test_malformed_arguments_are_one_line(argument: str) -> None:
    with pytest.raises(UserError, match="is not NAME=VALUE"):
        build.parse([argument])


def test_parts_get_the_platforms_of_what_is_made_from_them() -> None:
    images = [CHOSEN.variants["custom"], CHOSEN.services["minio"]]
    platforms = build.spread(CHOSEN, images, (ARM,), ENGINE, push=False)
    assert platforms == {
        "custom": (ARM,),
        "minio": (AMD,),  # a service is the builder's own
        "upstream": (ARM,),
        "python": (ARM,),
    }


def test_what_a_service_shares_with_a_variant_is_made_for_both() -> None:
    sharing = dataclasses.replace(CHOSEN.services["minio"], dependencies=("python",))
    chosen = dataclasses.replace(CHOSEN, services={"minio": sharing})
    images = [CHOSEN.variants["custom"], sharing]
    platforms = build.spread(chosen, images, (ARM,), ENGINE, push=False)
    assert platforms["python"] == (AMD, ARM)
    assert platforms["upstream"] == (ARM,)


def test_an_image_for_one_platform_takes_part_in_all() -> None:
    images = [CHOSEN.variants["custom"], CHOSEN.variants["writer"]]
    platforms = build.spread(CHOSEN, images, (AMD, ARM), ENGINE, push=False)
    assert platforms["writer"] == (AMD,)
    assert platforms["custom"] == (AMD, ARM)


def test_a_platform_that_an_image_is_not_made_for_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"writer is not made for linux/arm64, only for linux/amd64"
    ):
        build.spread(CHOSEN, [CHOSEN.variants["writer"]], (ARM,), ENGINE, push=False)


def test_another_builder_loads_one_platform_and_pushes_any_number() -> None:
    images = [CHOSEN.variants["custom"]]
    with pytest.raises(UserError, match=r"far \(docker-container\) can load one platform"):
        build.spread(CHOSEN, images, (AMD, ARM), ELSEWHERE, push=False)
    assert build.spread(CHOSEN, images, (AMD, ARM), ELSEWHERE, push=True)["custom"] == (AMD, ARM)
    assert build.spread(CHOSEN, images, (ARM,), ELSEWHERE, push=False)["custom"] == (ARM,)


def test_only_asked_images_have_an_output() -> None:
    platforms = {"custom": (AMD, ARM), "upstream": (AMD, ARM)}
    given = build.settings(platforms, [CHOSEN.variants["custom"]], ENGINE, "zstd", push=False)
    assert given == [
        "custom.platform=linux/amd64",
        "custom.platform=linux/arm64",
        "upstream.platform=linux/amd64",
        "upstream.platform=linux/arm64",
        "custom.output=type=docker,compression=zstd",
    ]


def test_pushing_keeps_the_attestations_and_loading_elsewhere_drops_them() -> None:
    images = [CHOSEN.variants["custom"]]
    pushed = build.settings({"custom": (ARM,)}, images, ELSEWHERE, "zstd", push=True)
    assert pushed == [
        "custom.platform=linux/arm64",
        "custom.output=type=image,push=true,compression=zstd",
    ]
    loaded = build.settings({"custom": (ARM,)}, images, ELSEWHERE, "zstd", push=False)
    assert "custom.attest=type=provenance,disabled=true" in loaded


def test_proxies_are_collected_in_both_spellings() -> None:
    found = network.proxies({"https_proxy": "http://p:1", "NO_PROXY": "x", "HTTP_PROXY": ""})
    assert found == {
        **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://p:1"),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "x"),
    }


def test_package_indexes_are_told_to_uv_and_to_pip() -> None:
    found = network.indexes({"PIP_INDEX_URL": "http://i:1", "UV_INDEX": "http://j:2"})
    assert found["UV_DEFAULT_INDEX"] == found["PIP_INDEX_URL"] == "http://i:1"
    assert found["UV_INDEX"] == found["PIP_EXTRA_INDEX_URL"] == "http://j:2"
    assert network.indexes({"UV_INDEX_URL": ""}) == {}


INSPECTION = """\
Name:          far
Driver:        docker-container

Nodes:
Name:      far0
Endpoint:  unix:///var/run/docker.sock
Status:    running
Platforms: linux/arm64*, linux/amd64, linux/386
"""


def test_builder_is_read_from_its_inspection() -> None:
    assert builders.read(INSPECTION, AMD) == ELSEWHERE
    own = "Name:   default\nDriver: docker\n\nNodes:\nName: default\n"
    assert builders.read(own, ARM) == builders.Builder("default", "docker", ARM)


def test_builder_that_does_not_answer_is_one_line() -> None:
    stopped = INSPECTION.replace(
        "Platforms: linux/arm64*, linux/amd64, linux/386", "Error: refused"
    )
    with pytest.raises(UserError, match="the builder far cannot be used: refused"):
        builders.read(stopped, AMD)


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@github.com:a/b.git", "https://github.com/a/b"),
        ("https://user:secret@example.org/x/y.git", "https://example.org/x/y"),
        ("ssh://git@example.org:2222/a/b", "https://example.org/a/b"),
        ("https://example.org/a/b/", "https://example.org/a/b"),
        ("/home/someone/repository", ""),
        ("file:///home/someone/repository", ""),
        ("", ""),
    ],
)
def test_addresses_hold_no_credentials_and_no_machine_paths(remote: str, address: str) -> None:
    assert revision.public_address(remote) == address


def git(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z"}
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment)


def test_revision_is_the_commit_and_says_when_the_tree_differs(tmp_path: Path) -> None:
    project = Project(tmp_path, None, tmp_path)
    git(tmp_path, "init")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    clean = revision.of(project)
    assert len(clean.commit) == 40
    assert clean.moment == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert clean.created == "2026-01-02T03:04:05Z"
    assert clean.epoch == "1767323045"
    (tmp_path / "file").write_text("2")
    assert revision.of(project).commit == f"{clean.commit}-dirty"


def test_without_git_the_moment_is_fixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project = Project(tmp_path, None, tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    found = revision.of(project)
    assert (found.commit, found.source) == (revision.UNKNOWN, revision.UNPUBLISHED)
    assert found.created == "1980-01-01T00:00:00Z"
    monkeypatch.setenv("PATH", "")
    assert revision.of(project) == found


def test_package_sources_are_the_machine_s_mirror() -> None:
    listed = (
        "Debian|Debian|http://mirror/debian/\nDebian|Debian-Security|http://mirror/security/\n"
        "Docker|Docker|http://elsewhere/\nDebian|Debian|http://second/\n"
    )
    assert bootstrap.sources(listed) == [
        "deb http://mirror/debian/ trixie main",
        "deb http://mirror/debian/ trixie-updates main",
        "deb http://mirror/security/ trixie-security main",
    ]


@pytest.mark.parametrize("listed", ["", "Ubuntu|Ubuntu|http://x/\n", "Debian|Debian|file:/srv\n"])
def test_package_sources_default_to_mmdebstrap_s(listed: str) -> None:
    assert bootstrap.sources(listed) == []


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A cache of its own and an mmdebstrap that writes what is asked of it."""
    calls = []

    def make(architecture: str, target: Path) -> None:
        calls.append(architecture)
        target.write_bytes(b"root of " + architecture.encode())

    monkeypatch.setattr(bootstrap, "builtin", lambda: Project(tmp_path, None, tmp_path))
    monkeypatch.setattr(bootstrap, "_make", make)
    return calls


def test_bootstrap_is_made_once_and_renewed_on_demand(cache: list[str]) -> None:
    first = bootstrap.ensure("amd64")
    assert first.digest.startswith("sha256:")
    assert bootstrap.ensure("amd64") == first
    assert cache == ["amd64"]
    assert bootstrap.ensure("amd64", renew=True).digest == first.digest
    assert cache == ["amd64", "amd64"]


def test_bootstrap_of_a_killed_run_does_not_count(cache: list[str], tmp_path: Path) -> None:
    folder = tmp_path / bootstrap.FOLDER
    bootstrap.ensure("amd64")
    # Killed between the archive and its notes, and again while a new one was written.
    (folder / "amd64.json").unlink()
    (folder / "amd64.partial").write_bytes(b"half")
    bootstrap.ensure("amd64")
    assert cache == ["amd64", "amd64"]
    assert (folder / "amd64.tar").read_bytes() == b"root of amd64"
    assert not (folder / "amd64.partial").exists()


def test_bootstrap_without_mmdebstrap_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bootstrap, "builtin", lambda: Project(tmp_path, None, tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"mmdebstrap.* is not installed: run `invoke setup`"):
        bootstrap.ensure("amd64")


def test_bootstrap_that_fails_shows_the_first_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "mmdebstrap"
    program.write_text("#!/bin/sh\necho I: start >&2\necho E: no mirror >&2\nexit 25\n")
    program.chmod(0o755)
    monkeypatch.setattr(bootstrap, "builtin", lambda: Project(tmp_path, None, tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UserError, match="could not make Debian trixie for amd64: E: no mirror"):
        bootstrap.ensure("amd64")
    assert not (tmp_path / bootstrap.FOLDER / "amd64.tar").exists()


INDEX, MANIFEST, CONFIG, ATTESTED, STATEMENT = (f"sha256:{n}" for n in "abcde")
DOCUMENTS: dict[str, Any] = {
    "index.json": {
        "manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": INDEX}]
    },
    INDEX: {
        "manifests": [
            {"digest": MANIFEST},
            {"digest": "sha256:not-pulled"},
            {
                "digest": ATTESTED,
                "annotations": {
                    "vnd.docker.reference.type": "attestation-manifest",
                    "vnd.docker.reference.digest": MANIFEST,
                },
            },
        ]
    },
    MANIFEST: {
        "config": {"digest": CONFIG, "size": 5},
        "layers": [{"digest": "sha256:lower", "size": 10}, {"digest": "sha256:upper", "size": 20}],
    },
    CONFIG: {
        "os": "linux",
        "architecture": "arm64",
        "config": {"User": "999:999", "Labels": {"a": "b"}},
        "history": [{"created_by": "ENV A=B"}, {"empty_layer": True}],
    },
    ATTESTED: {
        "layers": [
            {
                "digest": STATEMENT,
                "annotations": {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"},
            }
        ]
    },
    STATEMENT: {"predicate": {"buildType": "x"}},
}


def test_an_index_tells_platforms_sizes_and_provenance() -> None:
    found = store._interpret("r/x:latest", DOCUMENTS)
    assert (found.digest, found.index) == (INDEX, True)
    (only,) = found.platforms
    assert found.platform(ARM) is only
    assert found.platform(AMD) is None
    assert (only.digest, only.size) == (MANIFEST, 35)
    assert only.layers == ("sha256:lower", "sha256:upper")
    assert only.history == ("ENV A=B", "")
    assert only.labels == {"a": "b"}
    assert only.config["User"] == "999:999"
    assert only.provenance == {"buildType": "x"}


def test_an_image_without_index_has_no_provenance() -> None:
    documents = {**DOCUMENTS, "index.json": {"manifests": [{"digest": MANIFEST}]}}
    found = store._interpret("r/x", documents)
    assert (found.digest, found.index) == (MANIFEST, False)
    assert found.platforms[0].provenance is None


def test_the_classic_store_is_refused() -> None:
    with pytest.raises(UserError, match="containerd image store"):
        store._interpret("r/x", {"manifest.json": []})


def test_what_is_kept_reads_back_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store, "current", lambda: Project(tmp_path, None, tmp_path))
    found = store._interpret("r/x:latest", DOCUMENTS)
    assert store.recall([MANIFEST]) is None
    store._keep(found)
    document = json.loads(store._path(INDEX).read_text())
    assert store._revive("r/x:latest", document) == found
    # A platform is known by its manifest, whatever index it is in next time.
    assert store.recall([MANIFEST]) == (dataclasses.replace(found.platforms[0], attestations={}),)
    assert store.recall([MANIFEST, "sha256:other"]) is None
    assert store.recall([]) is None


def test_record_is_written_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(record, "current", lambda: Project(tmp_path, None, tmp_path))
    made = record.Made("custom", "r/custom:latest", INDEX, ARM, MANIFEST, 35, False, 1.5, True)  # noqa: FBT003
    written = record.write(
        record.BuildRecord("2026-01-02T03:04:05+00:00", 2.0, ENGINE, "abc", {}, {}, [made])
    )
    content = json.loads(written.read_text())
    assert content["images"][0]["digest"] == MANIFEST
    assert content["builder"]["driver"] == "docker"
    assert [path.suffix for path in written.parent.iterdir()] == [".json"]


def test_versions_of_a_lock_come_with_their_markers() -> None:
    text = (
        "boto3==1.44.5 \\\n    --hash=sha256:00\n"
        "psycopg[binary]==3.3.9 ; python_version >= '3.10' \\\n    --hash=sha256:01\n# a==1\n"
    )
    assert lock_files.versions(text) == [
        "boto3==1.44.5",
        "psycopg[binary]==3.3.9 ; python_version >= '3.10'",
    ]
