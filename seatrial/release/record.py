"""The qualification record: a statement of in-toto about a digest, with the trials behind it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seatrial import documents
from seatrial.errors import UserError
from seatrial.reports.model import Outcome, Report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CONFIGURATION = "seatrial"
"""What policy engines select a trial's record by."""
EXTENSION = "urn:seatrial:trials"
"""The key of the predicate that is not in-toto's own."""
VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Subject(_Part):
    """What the record is about, or a configuration of the trial."""

    name: str
    digest: dict[str, str] = Field(min_length=1)


class Trials(_Part):
    """What the predicate says beyond in-toto's own fields."""

    schema_version: Literal[1] = 1
    checksum: str
    """SHA-256 of the trials: a slip of an editor is seen. A forger is held off by a signature."""
    trials: tuple[Report, ...] = Field(min_length=1)


class Predicate(_Part):
    """The result of the tests, as in-toto's predicate says it."""

    result: Literal["PASSED", "FAILED"]
    configuration: tuple[Subject, ...] = Field(min_length=1)
    passed: tuple[str, ...] = Field(alias="passedTests")
    warned: tuple[str, ...] = Field(alias="warnedTests")
    """Those that were skipped."""
    failed: tuple[str, ...] = Field(alias="failedTests")
    extension: Trials = Field(alias="urn:seatrial:trials")


class Record(_Part):
    """The statement."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(
        default="https://in-toto.io/Statement/v1", alias="_type"
    )
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: Literal["https://in-toto.io/attestation/test-result/v0.1"] = Field(
        default="https://in-toto.io/attestation/test-result/v0.1", alias="predicateType"
    )
    predicate: Predicate

    @property
    def trials(self) -> tuple[Report, ...]:
        """The trials behind it."""
        return self.predicate.extension.trials

    def as_text(self) -> str:
        """The record as JSON."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"


def of(trials: Sequence[Report], manifests: Mapping[str, str], *, qualifies: bool) -> Record:
    """The record of some trials of one digest.

    Args:
        trials: what they have shown. Logs stay out: a record is published.
        manifests: digests of the platforms' manifests, by platform.
        qualifies: whether nothing speaks against the image.
    """
    kept = tuple(map(_without_logs, trials))
    images = [image for trial in kept for image in trial.images]
    name = images[0].reference.partition("@")[0]
    digests = {image.digest: name for image in images}
    digests |= {digest: f"{name} ({platform})" for platform, digest in manifests.items()}
    contracts = dict.fromkeys(image.contract_digest for image in images)
    tests = {outcome: _names(kept, outcome) for outcome in Outcome}
    return Record(
        subject=tuple(Subject(name=name, digest=_split(each)) for each, name in digests.items()),
        predicate=Predicate(
            result="PASSED" if qualifies else "FAILED",
            configuration=(
                Subject(name=CONFIGURATION, digest=_split(next(iter(contracts)))),
                *(Subject(name="contract", digest=_split(each)) for each in contracts),
            ),
            passedTests=tests[Outcome.PASSED],
            warnedTests=tests[Outcome.SKIPPED],
            failedTests=tests[Outcome.FAILED],
            **{EXTENSION: Trials(checksum=_checksum(kept), trials=kept)},
        ),
    )


def read(path: Path) -> Record:
    """Read a record.

    Raises:
        UserError: it is none, is of a later version, or contradicts itself.
    """
    document = documents.read_json(path, "qualification record")
    if (version := _version(document)) > VERSION:
        raise UserError(f"{path}: its version is {version}, and this Seatrial reads {VERSION}")
    try:
        record = Record.model_validate_json(json.dumps(document))
    except ValidationError as error:
        fault = documents.describe(error.errors()[0])
        raise UserError(f"{path}: it is no qualification record: {fault}") from None
    if record.predicate.extension.checksum != _checksum(record.trials):
        raise UserError(f"{path}: it was edited: its checksum is not that of its trials")
    again = of(record.trials, {}, qualifies=record.predicate.result == "PASSED")
    named = {subject.digest.get("sha256") for subject in record.subject}
    if (
        again.predicate != record.predicate
        or not {subject.digest.get("sha256") for subject in again.subject} <= named
    ):
        raise UserError(f"{path}: it was edited: its summary is not that of its trials")
    return record


def _version(document: Any) -> int:  # noqa: ANN401 - JSON
    for key in ("predicate", EXTENSION, "schema_version"):
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, int) else 0


def _without_logs(trial: Report) -> Report:
    bare = {"failure": "", "sections": (), "again": ""}
    return trial.model_copy(
        update={"tests": tuple(test.model_copy(update=bare) for test in trial.tests)}
    )


def _names(trials: Sequence[Report], outcome: Outcome) -> tuple[str, ...]:
    found = (test.id for trial in trials for test in trial.tests if test.outcome is outcome)
    return tuple(dict.fromkeys(found))


def _split(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


def _checksum(trials: Sequence[Report]) -> str:
    found = hashlib.sha256()
    for trial in trials:
        found.update(trial.model_dump_json().encode())
    return found.hexdigest()
