"""The tightest way to run a container that a contract can promise to work in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seatrial.stack.image_under_test import ImageUnderTest

CONFINED_USER = "12345:12345"
"""Nobody's user and group: an image knows neither."""
OTHER_USER = "12345:0"
"""A uid that no image knows, in the group root: what OpenShift gives a container."""


def confinement(image: ImageUnderTest) -> dict[str, Any]:
    """Options of the engine where the contract promises `process.confined`; else none."""
    writable = image.contract.process.confined
    if writable is None:
        return {}
    return {
        "cap_drop": ["ALL"],
        "read_only": True,
        "security_opt": ["no-new-privileges"],
        "tmpfs": dict.fromkeys(writable, ""),
        "user": CONFINED_USER,
    }
