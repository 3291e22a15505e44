"""What an image promises: a typed file beside its Dockerfile, and the promises read from it."""

from seatrial.contract.loading import (
    DEFAULT_CONTRACT,
    MODEL_CONTRACT,
    OWN_CONTRACT,
    STOCK_CONTRACT,
    load,
)
from seatrial.contract.promises import Claim, Promise, promises_of
from seatrial.contract.schema import Contract

__all__ = [
    "DEFAULT_CONTRACT",
    "MODEL_CONTRACT",
    "OWN_CONTRACT",
    "STOCK_CONTRACT",
    "Claim",
    "Contract",
    "Promise",
    "load",
    "promises_of",
]
