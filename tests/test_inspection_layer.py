"""Layers of any compression, and the file system that they make together."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard
from archives import Member, archive, folder, layer, link

from seatrial.inspection import layer as layers
from seatrial.inspection.filesystem import FileSystem
from seatrial.inspection.layer import Layer

if TYPE_CHECKING:
    from collections.abc import Callable


def system(*parts: Layer) -> FileSystem:
    return FileSystem.of(parts)


def paths(*parts: Layer) -> list[str]:
    return sorted(system(*parts).entries)


def as_is(content: bytes) -> bytes:
    return content


@pytest.mark.parametrize("compress", [as_is, gzip.compress, zstandard.compress])
def test_every_compression_reads_the_same(compress: Callable[[bytes], bytes]) -> None:
    blob = compress(archive(folder("./etc"), Member("./etc/a", b"x" * 100_000, mode=0o4755)))
    read = layers.read("sha256:1", io.BytesIO(blob))
    assert [(one.path, one.type, one.mode) for one in read.entries] == [
        ("/etc", "folder", 0o755),
        ("/etc/a", "file", 0o4755),
    ]


def test_several_zstandard_frames_are_one_layer() -> None:
    plain = archive(Member("a", b"1"), Member("b", b"2"))
    blob = zstandard.compress(plain[:700]) + zstandard.compress(plain[700:])
    assert [one.path for one in layers.read("sha256:1", io.BytesIO(blob)).entries] == ["/a", "/b"]


def test_what_is_no_archive_is_refused() -> None:
    with pytest.raises(tarfile.ReadError):
        layers.read("sha256:1", io.BytesIO(b"no archive" * 100))


def test_layer_survives_json() -> None:
    before = layer(
        folder("a"),
        Member("a/b", b"#!/bin/sh\n", mode=0o755),
        Member("a/strange-\udcff"),
        link("a/c", "b"),
        Member("a/d", kind=tarfile.LNKTYPE, target="a/b"),
        Member("a/.wh.e"),
        Member("a/cap", b"x", capability="\x01\x00\x00\x02"),
    )
    assert Layer.from_json(before.as_json()) == before


def test_removed_and_emptied() -> None:
    lower = layer(
        folder("a"), folder("a/b"), Member("a/b/c"), Member("a/d"), folder("e"), Member("e/f")
    )
    removed = layer(Member("a/.wh.b"))
    assert paths(lower, removed) == ["/a", "/a/d", "/e", "/e/f"]
    emptied = layer(folder("a"), Member("a/.wh..wh..opq"), Member("a/new"))
    assert paths(lower, emptied) == ["/a", "/a/new", "/e", "/e/f"]


def test_a_layer_removes_nothing_of_its_own() -> None:
    assert paths(layer(Member("a/new"), Member("a/.wh..wh..opq"), Member("a/.wh.new"))) == [
        "/a/new"
    ]


def test_a_file_in_place_of_a_folder_takes_its_content_away() -> None:
    lower = layer(folder("a"), Member("a/b"))
    assert paths(lower, layer(Member("a", b"file"))) == ["/a"]
    assert paths(lower, layer(link("a", "elsewhere"))) == ["/a"]
    assert paths(lower, layer(folder("a"), Member("a/c"))) == ["/a", "/a/b", "/a/c"]


def test_an_entry_below_a_linked_folder_lands_where_the_link_leads() -> None:
    lower = layer(folder("usr"), folder("usr/bin"), link("bin", "usr/bin"), Member("usr/bin/old"))
    assert paths(lower, layer(Member("bin/new"), Member("bin/.wh.old"))) == [
        "/bin",
        "/usr",
        "/usr/bin",
        "/usr/bin/new",
    ]


def test_hard_links_share_mode_and_content() -> None:
    shared = system(
        layer(Member("tool", b"#!/bin/sh\n", mode=0o4755)),
        layer(Member("other", kind=tarfile.LNKTYPE, target="tool", mode=0)),
    )
    first, second = shared.entries["/tool"].entry, shared.entries["/other"].entry
    assert (second.type, second.mode, second.traits) == ("file", 0o4755, first.traits)
    assert (shared.entries["/tool"].layer, shared.entries["/other"].layer) == (0, 1)


def test_links_are_followed() -> None:
    linked = system(
        layer(
            folder("usr"),
            folder("usr/bin"),
            Member("usr/bin/tool"),
            link("bin", "usr/bin"),
            link("first", "second"),
            link("second", "/bin/../bin/tool"),
            link("usr/up", "../first"),
            link("beyond", "../../usr/bin/tool"),
            link("dangling", "nowhere"),
            link("circle", "round"),
            link("round", "circle"),
        )
    )
    for path in ("/bin/tool", "/first", "/usr/up", "/beyond", "/usr/bin/tool"):
        assert linked.resolve(path) == "/usr/bin/tool", path
    assert linked.resolve("/dangling") is None
    assert linked.resolve("/circle") is None
    assert linked.resolve("/bin/none") is None
    assert linked.resolve("/") == "/"
