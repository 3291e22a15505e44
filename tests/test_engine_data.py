"""What an engine that does not run has left on a disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from seatrial.engine import data

if TYPE_CHECKING:
    from pathlib import Path

BLOBS = "io.containerd.content.v1.content/blobs/sha256"
IMAGE = "imagedb/content/sha256/1234"
SKELETON = ("containers", "image/overlay2/imagedb/content/sha256", "overlay2", "volumes", "tmp")


def put(root: Path, *names: str) -> None:
    """Make empty files with their folders."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root: Path, settings: dict[str, Any] | None = None) -> list[str]:
    return [str(data) for data in data.find(settings, root)]


def test_machine_without_an_engine_has_none(tmp_path: Path) -> None:
    assert found(tmp_path) == []


def test_folders_of_an_engine_that_was_only_started_are_no_data(tmp_path: Path) -> None:
    for name in SKELETON:
        (tmp_path / "var/lib/docker" / name).mkdir(parents=True)
    put(tmp_path, "var/lib/docker/engine-id", "var/lib/docker/volumes/metadata.db")
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"image/overlay2/{IMAGE}", "1 image in /var/lib/docker (overlay2)"),
        (f"image/vfs/{IMAGE}", "1 image in /var/lib/docker (vfs)"),
        (f"containerd/daemon/{BLOBS}/12", "images in /var/lib/docker (containerd's store)"),
        ("containers/12/config.v2.json", "1 container in /var/lib/docker"),
        ("volumes/name/_data/file", "1 volume in /var/lib/docker"),
    ],
)
def test_each_kind_of_data_is_found(tmp_path: Path, name: str, expected: str) -> None:
    put(tmp_path, f"var/lib/docker/{name}")
    assert found(tmp_path) == [expected]


def test_containerd_of_the_system_is_found(tmp_path: Path) -> None:
    put(tmp_path, f"var/lib/containerd/{BLOBS}/12")
    assert found(tmp_path) == ["images in /var/lib/containerd (containerd's store)"]


def test_both_stores_of_one_engine_are_found(tmp_path: Path) -> None:
    put(
        tmp_path,
        f"var/lib/docker/image/overlay2/{IMAGE}",
        "var/lib/docker/volumes/name/_data/file",
        f"var/lib/docker/containerd/daemon/{BLOBS}/12",
    )
    assert found(tmp_path) == [
        "1 image, 1 volume in /var/lib/docker (overlay2)",
        "images in /var/lib/docker (containerd's store)",
    ]


@pytest.mark.parametrize(
    ("settings", "file", "text"),
    [
        ({"data-root": "/srv/engine"}, None, ""),
        ({"graph": "/srv/engine"}, None, ""),
        (None, "etc/default/docker", 'DOCKER_OPTS="--data-root=/srv/engine -D"\n'),
        (None, "etc/default/docker", 'DOCKER_OPTS="-D -g /srv/engine"\n'),
        (
            None,
            "etc/systemd/system/docker.service.d/override.conf",
            "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd --data-root /srv/engine\n",
        ),
    ],
)
def test_folder_that_was_moved_is_found(
    tmp_path: Path, settings: dict[str, Any] | None, file: str | None, text: str
) -> None:
    put(tmp_path, f"srv/engine/image/overlay2/{IMAGE}")
    if file:
        put(tmp_path, file)
        (tmp_path / file).write_text(text)
    assert found(tmp_path, settings) == ["1 image in /srv/engine (overlay2)"]


def test_option_in_a_comment_names_nothing(tmp_path: Path) -> None:
    put(tmp_path, f"srv/engine/image/overlay2/{IMAGE}", "etc/default/docker")
    (tmp_path / "etc/default/docker").write_text("# DOCKER_OPTS=--data-root=/srv/engine\n")
    assert found(tmp_path) == []
