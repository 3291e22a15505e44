"""What is kept of a layer, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archives import Member, layer

from seatrial.inspection import image

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_layer_is_kept_until_the_rules_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(image, "_folder", lambda: tmp_path)
    read = layer(Member("bin/sh", b"#!/bin/sh\n", 0o755))
    image._keep(read)
    assert image._recall(read.digest) == read
    before = image._path(read.digest)
    monkeypatch.setattr(image, "_rules", lambda: "others")
    assert not image._path(read.digest).exists()
    image._keep(read)
    assert list(tmp_path.iterdir()) == [image._path(read.digest)]
    assert not before.exists()
