"""Qualification records: what speaks against an image, and files that are no such record."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from seatrial.errors import UserError
from seatrial.release import policy, qualification, record
from seatrial.release.policy import Allowance, Policy
from seatrial.reports.model import (
    Image,
    Machine,
    Outcome,
    PromiseResult,
    Report,
    Suite,
    Test,
    Verdict,
)

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
TODAY = NOW.date()
AMD64, ARM64 = "linux/amd64", "linux/arm64"
PROMISE = "server.databases[sqlite]"


def trial(
    verdict: Verdict = Verdict.KEPT,
    outcome: Outcome = Outcome.PASSED,
    *,
    platform: str = AMD64,
    digest: str = "1",
    contract: str = "2",
    native: bool = True,
    began: datetime | None = None,
    commit: str = "0",
) -> Report:
    """A trial of one promise by one test."""
    label = f"made-up-{platform}"
    return Report(
        began=(began or NOW).isoformat(),
        seconds=1,
        suite=Suite(version="0.1.0", commit=commit * 40),
        machine=Machine(),
        stack="full",
        effort="quick",
        seed=1,
        images=(
            Image(
                label=label,
                name="made-up",
                reference="made/up@sha256:" + digest * 64,
                digest="sha256:" + digest * 64,
                platform=platform,
                native=native,
                contract="contract.toml",
                contract_digest="sha256:" + contract * 64,
                promises=(PromiseResult(name=PROMISE, verdict=verdict, reasons=("why",)),),
            ),
        ),
        tests=(
            Test(
                id=f"test_one[{label}]",
                image=label,
                promises=(PROMISE,),
                outcome=outcome,
                seconds=1,
                reason="why" if outcome is Outcome.SKIPPED else "",
                failure="a log with a secret" if outcome is Outcome.FAILED else "",
            ),
        ),
    )


def against(*trials: Report, **changes: Any) -> list[str]:
    """What speaks against trials under a policy that asks for amd64."""
    return policy.refusals(trials, Policy(**{"platforms": (AMD64,), **changes}), NOW)


def test_nothing_speaks_against_a_whole_green_trial() -> None:
    assert against(trial()) == []


@pytest.mark.parametrize(
    ("trials", "changes", "line"),
    [
        ((trial(), trial(digest="3")), {}, "more than one digest: sha256:111"),
        ((trial(), trial(contract="3")), {}, "more than one contract: sha256:222"),
        ((trial(), trial(commit="3")), {}, "more than one suite: 0.1.0 000"),
        ((trial(),), {"platforms": (AMD64, ARM64)}, "linux/arm64: not tried"),
        ((trial(native=False),), {"native": (AMD64,)}, "linux/amd64: tried under emulation"),
        ((trial(Verdict.BROKEN, Outcome.FAILED),), {}, "failed: test_one[made-up-linux/amd64]"),
        ((trial(Verdict.PARTLY_TRIED),), {}, f"linux/amd64: {PROMISE}: partly tried: why"),
        ((trial(Verdict.NOT_TRIED),), {}, f"linux/amd64: {PROMISE}: not tried: why"),
        ((trial(Verdict.SKIPPED, Outcome.SKIPPED),), {}, f"linux/amd64: {PROMISE}: skipped: why"),
        ((trial(Verdict.KEPT, Outcome.SKIPPED),), {}, f"linux/amd64: {PROMISE}: skipped: why"),
        ((trial(began=NOW - timedelta(days=9)),), {}, "a trial is 9 days old"),
    ],
)
def test_image_is_refused(trials: tuple[Report, ...], changes: dict[str, Any], line: str) -> None:
    assert any(found.startswith(line) for found in against(*trials, **changes))


def test_listed_skip_is_allowed_until_its_last_day() -> None:
    def allowing(until: date) -> list[str]:
        listed = Allowance(promise=PROMISE, reason="no such machine", until=until)
        return against(trial(Verdict.SKIPPED, Outcome.SKIPPED), allowed=(listed,))

    assert allowing(TODAY) == []
    (line,) = allowing(TODAY - timedelta(days=1))
    assert line.endswith("allowed until 2026-11-26, which is over")


def test_limited_trial_is_refused_even_where_skips_are_allowed() -> None:
    listed = Allowance(promise=PROMISE, reason="no such machine", until=TODAY)
    assert against(trial(Verdict.PARTLY_TRIED), allowed=(listed,))


def written(tmp_path: Path, *trials: Report, qualifies: bool = True) -> Path:
    """The file of a record."""
    path = tmp_path / "record.json"
    found = record.of(trials, {AMD64: "sha256:" + "4" * 64}, qualifies=qualifies)
    path.write_text(found.as_text(), encoding="utf-8")
    return path


def test_record_is_a_statement_without_logs(tmp_path: Path) -> None:
    path = written(tmp_path, trial(Verdict.BROKEN, Outcome.FAILED), qualifies=False)
    document = json.loads(path.read_text())
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert document["predicate"]["configuration"][0]["name"] == "seatrial"
    assert document["predicate"]["failedTests"] == ["test_one[made-up-linux/amd64]"]
    assert [each["digest"]["sha256"][0] for each in document["subject"]] == ["1", "4"]
    assert "secret" not in path.read_text()
    assert record.read(path).predicate.result == "FAILED"


@settings(deadline=None)
@given(data=st.data())
def test_edited_record_is_one_line(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = written(tmp_path_factory.mktemp("edited"), trial())
    document = json.loads(path.read_text())
    place = data.draw(st.sampled_from(list(_places(document))))
    parent: Any = document
    for key in place[:-1]:
        parent = parent[key]
    new = data.draw(
        st.sampled_from(["", "passed", "sha256", 7, -1, None, True, [], {}, ["x"], 10**30])
    )
    if type(new) is type(parent[place[-1]]) and new == parent[place[-1]]:
        return
    parent[place[-1]] = new
    path.write_text(json.dumps(document))
    # The name of a subject is free; all else is checked, or read as it was meant.
    try:
        found = record.read(path)
    except UserError as error:
        lines = str(error).splitlines()
    else:
        lines = []
        assert found.trials == (trial(),)
    assert len(lines) <= 1


def _places(value: Any, before: tuple[str | int, ...] = ()) -> Any:
    pairs: Any = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value) if isinstance(value, list) else pairs
    for key, inner in pairs:
        yield (*before, key)
        yield from _places(inner, (*before, key))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "not valid JSON at line 1$"),
        ("[" * 100_000, "not a qualification record: its values are nested too deeply$"),
        ("[]", "it is no qualification record"),
        (
            '{"predicate": {"urn:seatrial:trials": {"schema_version": 2}}}',
            "its version is 2, and this Seatrial reads 1",
        ),
    ],
)
def test_file_that_is_no_record_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(UserError, match=line):
        record.read(path)


def test_records_of_two_machines_are_joined(tmp_path: Path) -> None:
    rules = tmp_path / "qualification.toml"
    rules.write_text('platforms = ["linux/amd64", "linux/arm64"]\nmax_age_days = 100000\n')
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = written(tmp_path / "a", trial())
    other = written(tmp_path / "b", trial(platform=ARM64))
    out = tmp_path / "out.json"
    qualification.merge([one, other], out=out, policy=rules)
    assert len(record.read(out).trials) == 2
    out.unlink()
    with pytest.raises(UserError, match="does not qualify, for 1 reasons: nothing is written"):
        qualification.merge([one], out=out, policy=rules)
    assert not out.exists()


def test_reference_without_a_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="write REF@sha256:"):
        qualification.qualify(
            image="made/up:1",
            variant="",
            platform="native",
            out=tmp_path / "out.json",
            policy=tmp_path / "none.toml",
        )


@pytest.mark.parametrize("qualifies", [True, False])
def test_record_is_a_statement_of_in_toto(qualifies: bool) -> None:
    """As in-toto's own library and its definition of the predicate read it, to the last field."""
    found = record.of([trial()], {AMD64: "sha256:" + "3" * 64}, qualifies=qualifies)
    document = json.loads(found.as_text())

    statement = Statement.copy_from_pb(json_format.ParseDict(document, statement_pb2.Statement()))
    statement.validate()
    assert json_format.MessageToDict(statement.pb) == document

    predicate = document["predicate"]
    extension = predicate.pop(record.EXTENSION)
    result = json_format.ParseDict(predicate, test_result_pb2.TestResult())
    assert result.result == ("PASSED" if qualifies else "FAILED")
    assert result.configuration[0].name == "seatrial"
    assert list(result.passed_tests) == [f"test_one[made-up-{AMD64}]"]
    assert extension["schema_version"] == 1
