"""Kept layers: their content, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archives import Member, layer

from seatrial.inspection import layers

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_layer_is_kept_until_the_rules_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(layers, "_folder", lambda: tmp_path)
    read = layer(Member("bin/sh", b"#!/bin/sh\n", 0o755))
    layers._keep(read)
    assert layers._recall(read.digest) == read
    before = layers._path(read.digest)
    monkeypatch.setattr(layers, "_rules", lambda: "others")
    assert not layers._path(read.digest).exists()
    layers._keep(read)
    assert list(tmp_path.iterdir()) == [layers._path(read.digest)]
    assert not before.exists()
