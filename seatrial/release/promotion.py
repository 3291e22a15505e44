"""`invoke release`: the digest that was tried gets its tags, and nothing else does."""

from __future__ import annotations

import re
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from seatrial.build import store
from seatrial.console import make_console
from seatrial.errors import UserError
from seatrial.project import current
from seatrial.registry.attaching import Attachment, attach
from seatrial.registry.client import Repository
from seatrial.registry.copying import EngineImage, copy, is_index
from seatrial.registry.reference import TAG, Reference
from seatrial.release import bills, signing, tags
from seatrial.release import policy as policies
from seatrial.release import record as records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from seatrial.registry.client import Manifest
    from seatrial.registry.copying import ImageSource
    from seatrial.release.record import Record

RECORD_TYPE = "application/vnd.in-toto+json"
"""Media type of an attached record."""


@dataclass(frozen=True)
class Plan:
    """What a release does."""

    image: Reference
    """Where the digest is taken from."""
    target: Reference
    """The repository that it goes to."""
    moves: dict[str, str]
    """What each tag is now, by its name: a digest, or nothing."""

    @property
    def digest(self) -> str:
        """The digest that was tried."""
        return self.image.digest

    @property
    def place(self) -> str:
        """The digest, where it goes."""
        return str(self.target.at(self.digest))


def release(
    *,
    record: Path,
    named: Sequence[str],
    to: str,
    policy: Path,
    key: str,
    unsigned: bool,
    dry_run: bool,
) -> None:
    """Promote the digest of a record.

    Args:
        record: the qualification record.
        named: tags; none for those of the branch, pull request or version.
        to: repository that the digest goes to; empty for the one that it was tried from.
        policy: the policy's file.
        key: that cosign signs with.
        unsigned: whether it stays unsigned.
        dry_run: whether the plan is only shown.

    Raises:
        UserError: the record does not allow it, a tag can't be given, or the registry refuses.
    """
    found = records.read(record)
    _require_allowed(found, policy)
    if bool(key) == unsigned:
        raise UserError("give either --key, which cosign signs with, or --unsigned")
    if key and not dry_run:
        signing.require_cosign()
    image = Reference.parse(found.trials[0].images[0].reference)
    target = Reference.parse(to) if to else image
    if to and (target.tag or target.digest):
        raise UserError(f"--to {to}: name a repository, without a tag or a digest")
    with ExitStack() as stack:
        repository = stack.enter_context(closing(Repository(target, push=not dry_run)))
        plan = _plan(image, target, named, repository)
        make_console().print(_table(plan))
        if dry_run:
            return
        root = copy(_source(image, stack), plan.digest, repository)
        _require_platforms(found, root, plan)
        _attach(found, record, root, plan, repository)
        if key:
            predicate = found.model_dump(by_alias=True, mode="json")["predicate"]
            signing.sign(plan.place, key, predicate)
        # Last: until here nobody pulls it by a name.
        for tag, now in plan.moves.items():
            if now != plan.digest:
                repository.push_manifest(root, tag)
    signed = "unsigned" if unsigned else "signed"
    make_console().print(Text(f"{plan.place}: {signed}, {', '.join(plan.moves)}"))


def _require_allowed(found: Record, policy: Path) -> None:
    if found.predicate.result != "PASSED":
        raise UserError("the record says FAILED: the image does not qualify")
    against = policies.refusals(found.trials, policies.load(policy), datetime.now(UTC))
    if against:
        more = f" (and {len(against) - 1} more)" if len(against) > 1 else ""
        raise UserError(f"the record allows no release: {against[0]}{more}")


def _plan(
    image: Reference, target: Reference, named: Sequence[str], repository: Repository
) -> Plan:
    chosen = tuple(named) or tags.origin(current().root).tags
    if wrong := [tag for tag in chosen if not TAG.fullmatch(tag)]:
        raise UserError(f"--tag {wrong[0]!r}: letters, digits, dots, hyphens, at most 128")
    moves = {}
    for tag in dict.fromkeys(chosen):
        there = repository.manifest(tag)
        moves[tag] = there.digest if there else ""
        if tags.is_version(tag) and moves[tag] not in ("", image.digest):
            raise UserError(
                f"{target.name}:{tag} is {moves[tag]}: a version never moves to another digest"
            )
    return Plan(image, target, moves)


def _source(image: Reference, stack: ExitStack) -> ImageSource:
    """The registry that the reference names; the engine's store where it names none."""
    local = f"{image.repository.removeprefix('library/')}@{image.digest}"
    if image.host == "docker.io" and store.read(local):
        return EngineImage(local)
    return stack.enter_context(closing(Repository(image)))


def _require_platforms(found: Record, root: Manifest, plan: Plan) -> None:
    """Require that the index holds the manifests that were tried, under their platforms."""
    held = platforms(root) if is_index(root) else None
    for subject in found.subject:
        match = re.search(r" \((\S+)\)$", subject.name)
        digest = f"sha256:{subject.digest.get('sha256')}"
        if held is not None and match and held.get(match[1]) != digest:
            raise UserError(f"{plan.place}: {match[1]} is {held.get(match[1], 'missing')}")


def platforms(index: Manifest) -> dict[str, str]:
    """The manifests of an index by platform, without attestations."""
    held = {}
    for entry in index.document["manifests"]:
        known = entry.get("platform") or {}
        names = (known.get("os"), known.get("architecture"), known.get("variant"))
        name = "/".join(str(each) for each in names if each)
        # Debian's arm64 images may name the only variant that there is.
        name = "linux/arm64" if name == "linux/arm64/v8" else name
        if not name.startswith("unknown"):
            held[name] = str(entry.get("digest"))
    return held


def _attach(
    found: Record, record: Path, root: Manifest, plan: Plan, repository: Repository
) -> None:
    annotations = {"in-toto.io/predicate-type": found.predicate_type}
    attach(repository, root, Attachment(RECORD_TYPE, record.read_bytes(), annotations))
    there = {
        (entry.get("artifactType"), (entry.get("annotations") or {}).get(bills.PLATFORM))
        for entry in repository.referrers(root.digest)
    }
    for platform in dict.fromkeys(
        image.platform for trial in found.trials for image in trial.images
    ):
        # Each run of syft gives another text: one is enough.
        if not {(media_type, platform) for media_type in bills.FORMATS.values()} <= there:
            for bill in bills.make(plan.place, platform):
                attach(repository, root, bill)


def _table(plan: Plan) -> Table:
    table = Table("tag", "now", "becomes", title=plan.target.name)
    for tag, now in plan.moves.items():
        same = now == plan.digest
        becomes = Text("stays", "green") if same else Text(plan.digest[:19])
        table.add_row(Text(tag), Text(now[:19] or "not there"), becomes)
    return table
