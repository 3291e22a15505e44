"""`invoke verify`: what a consumer can know of a release, from the registry alone."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from seatrial.console import make_console
from seatrial.errors import UserError, printable
from seatrial.registry.attaching import attached
from seatrial.registry.client import Repository
from seatrial.registry.copying import is_index
from seatrial.registry.reference import Reference
from seatrial.release import bills, signing
from seatrial.release import policy as policies
from seatrial.release import record as records
from seatrial.release.promotion import RECORD_TYPE, platforms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seatrial.registry.client import Manifest
    from seatrial.release.policy import Policy
    from seatrial.release.record import Record

_ATTESTED = "vnd.docker.reference.digest"
"""Annotation by which BuildKit's index names what an attestation is about."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    fault: str
    """Empty where nothing is wrong."""
    detail: str = ""


def verify(*, reference: str, policy: Path, key: str, unsigned: bool) -> None:
    """Check a release, and show each check.

    Args:
        reference: a tag or a digest of a registry.
        policy: what is asked of the trial.
        key: the public key that it must be signed with, as cosign takes it.
        unsigned: whether the signature is not looked at.

    Raises:
        UserError: something is wrong, or the registry does not say.
    """
    if bool(key) == unsigned:
        raise UserError("give either --key, the public one, or --unsigned")
    asked = policies.load(policy)
    image = Reference.parse(reference)
    if not image.tag and not image.digest:
        raise UserError(f"{reference}: name a tag or a digest")
    with closing(Repository(image)) as repository:
        root = repository.manifest(image.digest or image.tag)
        if root is None:
            raise UserError(f"{reference}: there is no such image")
        checks = list(_checks(repository, root, asked, key))
    table = Table("check", "verdict", "", title=f"{image.name}@{root.digest}")
    for check in checks:
        verdict = Text("wrong", "red") if check.fault else Text("right", "green")
        table.add_row(check.name, verdict, Text(printable(check.fault or check.detail)))
    make_console().print(table)
    wrong = [check for check in checks if check.fault]
    if wrong:
        raise UserError(
            f"{reference}: {len(wrong)} of {len(checks)} checks failed: {wrong[0].fault}"
        )


def _checks(repository: Repository, root: Manifest, policy: Policy, key: str) -> Iterator[Check]:
    found, faults = _record(repository, root.digest)
    if found is None:
        yield Check("record", faults or "no record of a trial is attached")
    else:
        trial = found.trials[0]
        detail = f"suite {trial.suite.version}, {trial.suite.commit[:12]}, {trial.began[:16]}"
        yield Check("record", "", detail)
        against = policies.refusals(found.trials, policy, datetime.now(UTC))
        if found.predicate.result != "PASSED":
            against.insert(0, "the record says FAILED")
        yield Check("policy", "; ".join(against[:3]), f"{len(found.predicate.passed)} tests passed")
    held = platforms(root) if is_index(root) else {}
    yield from _of_platforms(held, root, found, policy)
    entries = repository.referrers(root.digest)
    for platform in held or dict.fromkeys(policy.platforms):
        there = {
            entry.get("artifactType")
            for entry in entries
            if (entry.get("annotations") or {}).get(bills.PLATFORM) == platform
        }
        missing = [name for name, kind in bills.FORMATS.items() if kind not in there]
        fault = f"no {' and no '.join(missing)} is attached" if missing else ""
        yield Check(f"SBOM of {platform}", fault, ", ".join(bills.FORMATS))
    if key:
        yield from _signed(repository, root, found, key)


def _record(repository: Repository, digest: str) -> tuple[Record | None, str]:
    """The last record that is attached and is about this digest, or what is wrong with it."""
    found, fault = None, ""
    for name, content in attached(repository, digest, RECORD_TYPE):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "record.json"
            path.write_bytes(content)
            try:
                read = records.read(path)
            except UserError as error:
                fault = f"{name[:19]}: {str(error).removeprefix(f'{path}: ')}"
                continue
        if digest.removeprefix("sha256:") not in {
            subject.digest.get("sha256") for subject in read.subject
        }:
            fault = f"{name[:19]}: the record is of another digest"
        elif found is None or read.trials[0].began > found.trials[0].began:
            found = read
    return found, fault


def _of_platforms(
    held: dict[str, str], root: Manifest, found: Record | None, policy: Policy
) -> Iterator[Check]:
    tried = {each.digest.get("sha256") for each in found.subject} if found else set()
    about = {
        (entry.get("annotations") or {}).get(_ATTESTED)
        for entry in root.document.get("manifests") or []
    }
    for platform in policy.platforms:
        digest = held.get(platform, "")
        if not digest:
            fault = "missing in the index"
        elif found and digest[7:] not in tried:
            fault = "another manifest than the one that was tried"
        elif digest not in about:
            fault = "without provenance"
        else:
            fault = ""
        yield Check(platform, fault, digest[:19])


def _signed(
    repository: Repository, root: Manifest, found: Record | None, key: str
) -> Iterator[Check]:
    place = str(repository.reference.at(root.digest))
    yield Check("signature", signing.faults(place, key), "cosign, by this key")
    signed = signing.attested(place, key)
    predicate = found.model_dump(by_alias=True, mode="json")["predicate"] if found else None
    fault = "" if predicate in signed else "the record is not what this key has attested"
    yield Check("attestation", fault, signing.PREDICATE_TYPE)
