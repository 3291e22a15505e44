"""`invoke qualify`: the whole trial on one digest, and the record of what it has shown."""

from __future__ import annotations

import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from seatrial import catalogue, files
from seatrial.build import store
from seatrial.errors import UserError, printable
from seatrial.release import policy as policies
from seatrial.release import record as records
from seatrial.reports.model import Report
from seatrial.reports.writing import JSON
from seatrial.trial import run_pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seatrial.release.policy import Policy

_REFERENCE = re.compile(r"[^@\s]+@(?P<digest>sha256:[0-9a-f]{64})")


def qualify(*, image: str, variant: str, platform: str, out: Path, policy: Path) -> None:
    """Try an image and write the record, whatever the trial has shown.

    Args:
        image: its reference with a digest.
        variant: whose contract it is held to; empty for the built-in one.
        platform: as `invoke test` takes it.
        out: where the record is written.
        policy: the policy's file.

    Raises:
        UserError: an argument is wrong, or something speaks against the image.
    """
    match = _REFERENCE.fullmatch(image)
    if match is None:
        raise UserError(f"--image {image}: write REF@sha256: and the digest's 64 digits")
    asked = policies.load(policy)
    _require_folder(out)
    contract = ["--contract", str(catalogue.load().variant(variant).contract)] if variant else []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "report"
        words = ["--image", image, *contract, "--platform", platform, "--report", str(place)]
        try:
            run_pytest.run(words)
        except SystemExit:
            if not (place / JSON).is_file():
                raise
            # Tests have failed: the record says which.
        trial = Report.model_validate_json((place / JSON).read_text(encoding="utf-8"))
    if {each.digest for each in trial.images} != {match["digest"]}:
        raise UserError(f"{image}: the engine has tried another digest: is it of one platform?")
    stored = store.read(image)
    manifests = {each.platform: each.digest for each in stored.platforms} if stored else {}
    _write([trial], manifests, asked, out, [each.platform for each in trial.images])


def merge(paths: Sequence[Path], *, out: Path, policy: Path) -> None:
    """Join records into one, which is written only where nothing speaks against the image.

    Raises:
        UserError: a file is no record, or something speaks against the image.
    """
    asked = policies.load(policy)
    _require_folder(out)
    found = [records.read(path) for path in paths]
    trials = [trial for record in found for trial in record.trials]
    against = policies.refusals(trials, asked, datetime.now(UTC))
    if against:
        _refuse(against, "nothing is written")
    manifests = {
        match[1]: f"sha256:{subject.digest['sha256']}"
        for record in found
        for subject in record.subject
        if (match := re.search(r" \((\S+)\)$", subject.name))
    }
    files.write_atomically(out, records.of(trials, manifests, qualifies=True).as_text())


def _write(
    trials: Sequence[Report],
    manifests: dict[str, str],
    policy: Policy,
    out: Path,
    platforms: Sequence[str],
) -> None:
    against = policies.refusals(trials, policy, datetime.now(UTC), platforms)
    record = records.of(trials, manifests, qualifies=not against)
    files.write_atomically(out, record.as_text())
    if against:
        _refuse(against, f"{out} says so")


def _refuse(reasons: Sequence[str], end: str) -> None:
    for reason in reasons:
        sys.stderr.write(f"seatrial: {printable(reason)}\n")
    raise UserError(f"the image does not qualify, for {len(reasons)} reasons: {end}")


def _require_folder(out: Path) -> None:
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: its folder does not exist")
