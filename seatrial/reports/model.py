"""The report of one trial, as `report.json` holds it: the other forms are made from it."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1
"""Of the schema. It grows when a reader of the old one would misread the new one."""


class Outcome(StrEnum):
    """How a test ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Verdict(StrEnum):
    """What the trial says about a promise."""

    KEPT = "kept"
    """Its tests ran, and all of them passed; some may have been skipped."""
    BROKEN = "broken"
    SKIPPED = "skipped"
    """Each of its tests was skipped."""
    PARTLY_TRIED = "partly tried"
    """No test of it failed, and the trial was limited to some of its tests."""
    NOT_TRIED = "not tried"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Section(_Part):
    """Text that belongs to a failed test, such as the log of a server."""

    title: str
    text: str


class Test(_Part):
    """One test on one image."""

    __test__ = False  # no test of pytest's own

    id: str
    """As pytest takes it."""
    image: str
    """Label of the image; empty for a test that is about none."""
    promises: tuple[str, ...]
    outcome: Outcome
    seconds: float
    reason: str = ""
    """Why it was skipped."""
    failure: str = ""
    """What pytest says about a failure."""
    sections: tuple[Section, ...] = ()
    again: str = ""
    """The command that runs the test again."""


class PromiseResult(_Part):
    """One promise of an image, and what the trial says about it."""

    name: str
    verdict: Verdict
    tests: tuple[str, ...] = ()
    """Ids of the tests that tried it, or were skipped."""
    seconds: float = 0.0
    reasons: tuple[str, ...] = ()
    """Why tests were skipped, or the promise was not tried."""


class Image(_Part):
    """An image under test on one platform."""

    label: str
    """As tests name it, such as `custom-amd64`."""
    name: str
    """The variant, or the reference where the image is not of the catalogue."""
    reference: str
    digest: str
    """What the reference named: an index, or the manifest where there is none."""
    platform: str
    native: bool
    """False where it ran under emulation."""
    contract: str
    """Path of the contract's file."""
    contract_digest: str
    """SHA-256 of the contract's values, with what it takes over from others."""
    installed: str = ""
    """Versions inside the image, as its tests found them."""
    promises: tuple[PromiseResult, ...]


class Suite(_Part):
    """The tests."""

    version: str
    commit: str
    """`unknown` without git; ends in `-dirty` where the tests differ from the commit."""


class Machine(_Part):
    """Where the trial ran."""

    engine: str = ""
    kernel: str = ""
    platform: str = ""
    processors: int = 0


class Service(_Part):
    """A database or a store that the tests used."""

    name: str
    reference: str
    digest: str
    version: str = ""


class Report(_Part):
    """One trial."""

    schema_version: Literal[1] = Field(
        default=1, description="grows when a reader of the old schema would misread the new one"
    )
    began: str
    """RFC 3339, in UTC."""
    seconds: float
    suite: Suite
    machine: Machine
    stack: str
    effort: str
    seed: int
    limits: tuple[str, ...] = ()
    """What limited the trial to some tests, such as `-k`; empty where it was whole."""
    images: tuple[Image, ...]
    services: tuple[Service, ...] = ()
    tests: tuple[Test, ...]
    left_out: tuple[str, ...] = ()
    """Tests that were left out, and why."""

    @property
    def outcomes(self) -> Counter[Outcome]:
        """How many tests ended in which way."""
        return Counter(test.outcome for test in self.tests)

    @property
    def failed(self) -> list[Test]:
        """The tests that failed."""
        return [test for test in self.tests if test.outcome is Outcome.FAILED]

    @property
    def is_green(self) -> bool:
        """Whether tests ran, and none of them failed."""
        return bool(self.outcomes[Outcome.PASSED]) and not self.failed
