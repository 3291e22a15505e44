"""Which promises have a mutant, what a mutant says of itself, and when it counts as refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from repository import ROOT

from seatrial import catalogue
from seatrial.contract import Claim
from seatrial.errors import UserError
from seatrial.mutants import command, coverage, judging, reading
from seatrial.mutants.judging import Outcome, Run
from seatrial.mutants.model import Mutant

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]

SQLITE = Claim("server.databases", "sqlite")
POSTGRESQL = Claim("server.databases", "postgresql")
PINS = Claim("python.pins")


def _mutant(name: str, promise: Claim, *also: Claim, variant: str = "one") -> Mutant:
    return Mutant(name, f"seatrial/mutant-{name}:latest", variant, promise, (), also)


def _failed(promise: Claim, *more: Claim, test: str = "test_it: test_one") -> Outcome:
    return Outcome(test, (promise, *more), failure="it is broken")


def _passed(promise: Claim) -> Outcome:
    return Outcome("test_it: test_two", (promise,))


def _run(*outcomes: Outcome, code: int = judging.TESTS_FAILED, said: str = "1 failed") -> Run:
    return Run(code, said, outcomes, 1.5)


def _target(**labels: str) -> dict[str, Any]:
    said = {f"io.seatrial.mutant.{name}": value for name, value in labels.items()}
    return {
        "tags": ["seatrial/mutant-x:latest"],
        "labels": said,
        "contexts": {"tools": "docker/bases/tools", "slim": "docker-image://seatrial/slim:latest"},
    }


def test_labels() -> None:
    target = _target(
        promise="entrypoint.forms[mlflow server]",
        variant="hardened",
        also="python.pins; server.databases[sqlite]",
    )
    assert reading.mutant("x", target) == Mutant(
        name="x",
        reference="seatrial/mutant-x:latest",
        variant="hardened",
        promise=Claim("entrypoint.forms", "mlflow server"),
        made_from=("seatrial/slim:latest",),
        also=(PINS, SQLITE),
    )


def test_promise_that_there_is_not() -> None:
    with pytest.raises(UserError, match=r"^the mutant x: unknown promise 'server\.colour'"):
        reading.mutant("x", _target(promise="server.colour", variant="hardened"))


@pytest.mark.parametrize("missing", ["promise", "variant"])
def test_label_that_is_missing(missing: str) -> None:
    labels = {"promise": "python.pins", "variant": "hardened"}
    del labels[missing]
    with pytest.raises(UserError) as error:
        reading.mutant("x", _target(**labels))
    assert str(error.value) == f"the mutant x has no label io.seatrial.mutant.{missing}"


def test_selection() -> None:
    known = {name: _mutant(name, PINS) for name in ("a", "b")}
    assert reading.select(known, []) == list(known.values())
    assert reading.select(known, ["b", "b"]) == [known["b"]]
    with pytest.raises(UserError, match="unknown mutant 'c'"):
        reading.select(known, ["c"])


@pytest.fixture(scope="module")
def mutants() -> dict[str, Mutant]:
    """Those of the project."""
    return reading.load()


def test_every_promise_of_the_catalogue_has_one(mutants: dict[str, Mutant]) -> None:
    variants = catalogue.load().variants
    contracts = {name: image.contract for name, image in variants.items()}
    coverage.require_whole(mutants.values(), contracts)


def test_references_are_of_their_own(mutants: dict[str, Mutant]) -> None:
    assert len({mutant.reference for mutant in mutants.values()}) == len(mutants)
    for name, mutant in mutants.items():
        assert mutant.reference == f"seatrial/mutant-{name}:latest"


def test_every_patch_is_used(mutants: dict[str, Mutant]) -> None:
    patches = {path.stem for path in (ROOT / "docker/mutants/patches").iterdir()}
    assert patches <= set(mutants)


def test_they_are_listed(mutants: dict[str, Mutant], capsys: pytest.CaptureFixture[str]) -> None:
    name = next(iter(mutants))
    assert command.run(["--list", name]) == 0
    printed = capsys.readouterr().out
    assert name in printed
    assert str(mutants[name].promise) in printed


@pytest.fixture
def contracts(tmp_path: Path) -> dict[str, Path]:
    """One variant that promises two databases and two labels."""
    path = tmp_path / "contract.toml"
    path.write_text(
        'description = "one"\n'
        '[image]\nlabels = ["a", "b"]\n'
        '[server]\ndatabases = ["sqlite", "postgresql"]\n'
    )
    return {"one": path}


def _require(contracts: dict[str, Path], *promises: Claim, **more: Any) -> None:
    made = [_mutant(f"m{number}", one, **more) for number, one in enumerate(promises)]
    coverage.require_whole(made, contracts)


def test_whole(contracts: dict[str, Path]) -> None:
    _require(contracts, SQLITE, POSTGRESQL, Claim("image.labels", "b"))


def test_item_without_one(contracts: dict[str, Path]) -> None:
    with pytest.raises(UserError) as error:
        _require(contracts, SQLITE, Claim("image.labels", "b"))
    assert str(error.value) == (
        f"{contracts['one']} promises server.databases[postgresql], and no mutant breaks it:"
        " add one to docker/mutants/docker-bake.hcl"
    )


def test_what_nobody_promises(contracts: dict[str, Path]) -> None:
    with pytest.raises(UserError) as error:
        _require(contracts, SQLITE, PINS)
    assert str(error.value) == (
        f"the mutant m1 is to break python.pins, which {contracts['one']} doesn't promise"
    )
    with pytest.raises(UserError, match=r"to break image\.labels, which"):
        _require(contracts, Claim("image.labels"))


def test_unknown_variant(contracts: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"is made from 'two': known variants are one$"):
        _require(contracts, SQLITE, variant="two")


MUTANT = _mutant("x", SQLITE, PINS)


def test_refused_for_its_promise() -> None:
    by = _failed(SQLITE, POSTGRESQL)
    verdict = judging.judge(MUTANT, _run(_passed(SQLITE), by, _failed(PINS)))
    assert (verdict.by, verdict.why_not) == (by, "")


def test_not_refused() -> None:
    verdict = judging.judge(MUTANT, _run(_passed(SQLITE), code=0))
    assert (verdict.by, verdict.why_not) == (None, "nothing fails of 1 tests")


def test_refused_for_another_promise_too() -> None:
    run = _run(_failed(SQLITE), _failed(POSTGRESQL, test="test_it: test_other"))
    assert judging.judge(MUTANT, run).why_not == (
        "test_it: test_other names server.databases[postgresql]: it is broken"
    )


def test_refused_only_for_what_can_not_be_told_apart() -> None:
    assert not judging.judge(MUTANT, _run(_failed(PINS))).by


def test_run_that_ended_with_an_error() -> None:
    run = _run(code=pytest.ExitCode.USAGE_ERROR, said="it does not run as an MLflow server")
    assert judging.judge(MUTANT, run).why_not == (
        "no test was run: it does not run as an MLflow server"
    )


def test_promises_that_nothing_has_passed() -> None:
    skipped = Outcome("test_it: test_three", (PINS,), skipped="not here")
    run = _run(_passed(SQLITE), skipped, _failed(POSTGRESQL))
    assert judging.untried([SQLITE, PINS, POSTGRESQL], run) == [
        "python.pins",
        "server.databases[postgresql]",
    ]


def test_report_of_pytest(pytester: pytest.Pytester) -> None:
    """As pytest writes it, with the promises that the trial's plugin notes."""
    pytester.makeconftest(
        """
        def pytest_collection_modifyitems(items):
            for item in items:
                note = "x:latest-amd64: server.databases[sqlite]"
                item.user_properties.append(("seatrial.promise", note))
        """
    )
    pytester.mkpydir("acceptance").joinpath("test_it.py").write_text(
        "import pytest\n"
        "@pytest.fixture\n"
        "def broken(): raise ValueError('first line\\nsecond line')\n"
        "@pytest.mark.parametrize('case', ['x:latest-amd64', 'x:latest-amd64-5000'])\n"
        "def test_good(case): pass\n"
        "def test_bad(): assert 1 == 2, 'one is not two'\n"
        "def test_never(broken): pass\n"
        "def test_left_out(): pytest.skip('not here')\n"
    )
    report = pytester.path / "report.xml"
    # In this process `acceptance` may be the project's own by now.
    pytester.runpytest_subprocess("acceptance", f"--junitxml={report}", "-o", "junit_family=xunit1")
    assert judging.read(report) == (
        Outcome("test_it: test_good", (SQLITE,)),
        Outcome("test_it: test_good[5000]", (SQLITE,)),
        Outcome("test_it: test_bad", (SQLITE,), "AssertionError: one is not two"),
        Outcome(
            "test_it: test_never",
            (SQLITE,),
            'failed on setup with "ValueError: first line',
        ),
        Outcome("test_it: test_left_out", (SQLITE,), skipped="not here"),
    )
    assert judging.read(report.with_name("never-written.xml")) == ()
