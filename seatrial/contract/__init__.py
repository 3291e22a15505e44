"""What an image promises: a typed file beside its Dockerfile, and the promises read from it."""

from seatrial.contract.declaring import Need
from seatrial.contract.loading import (
    BUILT_IN,
    DEFAULT_CONTRACT,
    MLFLOW_MODEL_CONTRACT,
    MODEL_CONTRACT,
    SEATRIAL_MODEL_CONTRACT,
    load,
)
from seatrial.contract.promises import Promise, PromiseSelector, promises_of
from seatrial.contract.schema import Contract

__all__ = [
    "BUILT_IN",
    "DEFAULT_CONTRACT",
    "MLFLOW_MODEL_CONTRACT",
    "MODEL_CONTRACT",
    "SEATRIAL_MODEL_CONTRACT",
    "Contract",
    "Need",
    "Promise",
    "PromiseSelector",
    "load",
    "promises_of",
]
