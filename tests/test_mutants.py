"""Which promises have a mutant, what a mutant says of itself, and when it counts as refused."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

from seatrial import catalogue
from seatrial.contract import PromiseSelector
from seatrial.errors import UserError
from seatrial.mutants import coverage, loader, overlay, try_mutants, verdict
from seatrial.mutants.mutant import Mutant, Recipe, SourceChange
from seatrial.mutants.verdict import Outcome, TrialRun

pytest_plugins = ["pytester"]

SQLITE = PromiseSelector("server.databases", "sqlite")
POSTGRESQL = PromiseSelector("server.databases", "postgresql")
PINS = PromiseSelector("python.pins")


MUTANT_FILE = """
breaks = "entrypoint.forms[mlflow server]"
why = "Nothing starts."
also = ["python.pins", "server.databases[sqlite]"]
"""
CHANGE = """
[[change]]
file = "mlflow/cli/__init__.py"
before = "1"
after = "2"
"""


def _mutant(
    name: str, promise: PromiseSelector, *also: PromiseSelector, variant: str = "one"
) -> Mutant:
    return Mutant(name, variant, promise, also)


def _failed(
    promise: PromiseSelector, *more: PromiseSelector, test: str = "test_it: test_one"
) -> Outcome:
    return Outcome(test, (promise, *more), failure="it is broken")


def _passed(promise: PromiseSelector) -> Outcome:
    return Outcome("test_it: test_two", (promise,))


def _run(*outcomes: Outcome, code: int = verdict.TESTS_FAILED, said: str = "1 failed") -> TrialRun:
    return TrialRun(code, said, outcomes, 1.5)


def _saved(folder: Path, text: str, name: str = "entrypoint/forms.starts-nothing.toml") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_file_with_changes(tmp_path: Path) -> None:
    assert loader.read(_saved(tmp_path, MUTANT_FILE + CHANGE)) == Mutant(
        name="starts-nothing",
        variant="hardened",
        promise=PromiseSelector("entrypoint.forms", "mlflow server"),
        also=(PINS, SQLITE),
        why="Nothing starts.",
        changes=(SourceChange("mlflow/cli/__init__.py", "1", "2"),),
    )


def test_file_with_a_recipe(tmp_path: Path) -> None:
    recipe = 'of = "slim"\nuses = ["hardened"]\ndockerfile = "FROM slim"\nprovenance = false\n'
    mutant = loader.read(_saved(tmp_path, MUTANT_FILE + recipe))
    assert mutant.recipe == Recipe("FROM slim", uses=("hardened",), provenance=False)
    assert mutant.made_from == ("slim", "hardened")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (MUTANT_FILE, "it takes either [[change]] or dockerfile"),
        (
            f'{MUTANT_FILE}dockerfile = "FROM hardened"\n{CHANGE}',
            "it takes either [[change]] or dockerfile",
        ),
        (f"{MUTANT_FILE}online = true\n{CHANGE}", "online goes with dockerfile"),
        (MUTANT_FILE.replace("why", "because") + CHANGE, "why: required, but not given"),
        (MUTANT_FILE + 'colour = "red"\n' + CHANGE, "colour: unknown key"),
        (MUTANT_FILE + CHANGE.replace('"1"', "1"), "change.0.before: input should be a valid s"),
        (MUTANT_FILE + CHANGE.replace('"1"', '""'), "change.0.before: string should have at lea"),
        (MUTANT_FILE.replace("forms", "colours") + CHANGE, "unknown promise 'entrypoint.colours'"),
        (MUTANT_FILE.replace("pins", "colours") + CHANGE, "unknown promise 'python.colours'"),
        ("breaks =", "not valid TOML at end of document"),
        (
            MUTANT_FILE.replace("entrypoint.forms[mlflow server]", "python.pins") + CHANGE,
            "call it python/pins.NAME.toml",
        ),
    ],
)
def test_file_that_breaks_the_rules(tmp_path: Path, text: str, fault: str) -> None:
    path = _saved(tmp_path, text)
    with pytest.raises(UserError) as error:
        loader.read(path)
    assert str(error.value).startswith(str(path))
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["entrypoint/forms.toml", "server/forms.starts-nothing.toml"])
def test_file_of_another_name(tmp_path: Path, name: str) -> None:
    path = _saved(tmp_path, MUTANT_FILE + CHANGE, name)
    with pytest.raises(UserError, match=r"call it entrypoint/forms\.NAME\.toml$"):
        loader.read(path)


def test_two_of_one_name(tmp_path: Path) -> None:
    _saved(tmp_path, MUTANT_FILE + CHANGE)
    other = MUTANT_FILE.replace("entrypoint.forms[mlflow server]", "python.pins") + CHANGE
    _saved(tmp_path, other, "python/pins.starts-nothing.toml")
    with pytest.raises(UserError, match=r"are called the same: starts-nothing$"):
        loader.load(tmp_path)


def test_selection() -> None:
    known = {name: _mutant(name, PINS) for name in ("a", "b")}
    assert loader.select(known, []) == list(known.values())
    assert loader.select(known, ["b", "b"]) == [known["b"]]
    with pytest.raises(UserError, match="unknown mutant 'c'"):
        loader.select(known, ["c"])


@pytest.fixture(scope="module")
def mutants() -> dict[str, Mutant]:
    """Mutants of the project."""
    return loader.load()


def test_every_promise_of_the_catalogue_has_one(mutants: dict[str, Mutant]) -> None:
    variants = catalogue.load().variants
    contracts = {name: image.contract for name, image in variants.items()}
    coverage.require_whole(mutants.values(), contracts)


def test_reference_is_in_the_registry_of_its_variant(mutants: dict[str, Mutant]) -> None:
    hardened = catalogue.load().variant("hardened")
    assert mutants["rounds-metrics"].reference(hardened) == "seatrial/mutant-rounds-metrics:latest"


def test_every_file_is_read(mutants: dict[str, Mutant]) -> None:
    files = list(loader.FOLDER.rglob("*.toml"))
    assert len(files) == len(mutants) > 100


def test_variants_that_they_name_are_in_the_catalogue(mutants: dict[str, Mutant]) -> None:
    known = set(catalogue.load().variants)
    for mutant in mutants.values():
        assert set(mutant.made_from) <= known, mutant.name


def test_changes_fit_what_they_change(mutants: dict[str, Mutant]) -> None:
    """The packages of this repository, and MLflow and its drivers as they are installed here."""
    folders = [*(ROOT / "packages").iterdir(), Path(sysconfig.get_path("purelib"))]
    faults = []
    for mutant in mutants.values():
        texts: dict[str, str] = {}
        for change in mutant.changes:
            places = [folder / change.file for folder in folders]
            source = next(place for place in places if place.exists())
            text = texts.get(change.file) or source.read_text(encoding="utf-8")
            try:
                texts[change.file] = overlay.applied(change, text)
            except UserError as error:
                faults.append(f"{mutant.name}: {error}")
    assert not faults


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("c = 3\n", "c = 4\n", "a.py holds this 0 times, not once: c = 3"),
        (" = 1\n", " = 2\n", "a.py holds this 2 times, not once: = 1"),
        ("b = 1\n", "b = (\n", "a.py is no Python any more: '(' was never closed (a.py, line 2)"),
    ],
)
def test_change_that_does_not_fit(before: str, after: str, fault: str) -> None:
    with pytest.raises(UserError) as error:
        overlay.applied(SourceChange("a.py", before, after), "a = 1\nb = 1\n")
    assert str(error.value) == fault


def test_change_that_fits() -> None:
    assert (
        overlay.applied(SourceChange("a.py", "b = 1", "b = 2"), "a = 1\nb = 1\n")
        == "a = 1\nb = 2\n"
    )


def test_they_are_listed(mutants: dict[str, Mutant], capsys: pytest.CaptureFixture[str]) -> None:
    name = next(iter(mutants))
    assert try_mutants.run(["--list", name]) == 0
    printed = capsys.readouterr().out
    assert name in printed
    assert str(mutants[name].promise) in printed


@pytest.fixture
def contracts(tmp_path: Path) -> dict[str, Path]:
    """Catalogue with one variant that promises two databases and two labels."""
    path = tmp_path / "contract.toml"
    path.write_text(
        'description = "one"\n'
        '[image]\nlabels = ["a", "b"]\n'
        '[server]\ndatabases = ["sqlite", "postgresql"]\n'
    )
    return {"one": path}


def _require(contracts: dict[str, Path], *promises: PromiseSelector, **more: Any) -> None:
    made = [_mutant(f"m{number}", one, **more) for number, one in enumerate(promises)]
    coverage.require_whole(made, contracts)


def test_whole(contracts: dict[str, Path]) -> None:
    _require(contracts, SQLITE, POSTGRESQL, PromiseSelector("image.labels", "b"))


def test_item_without_one(contracts: dict[str, Path]) -> None:
    with pytest.raises(UserError) as error:
        _require(contracts, SQLITE, PromiseSelector("image.labels", "b"))
    assert str(error.value) == (
        f"{contracts['one']} promises server.databases[postgresql], and no mutant breaks it:"
        " add one to docker/mutants/"
    )


def test_what_nobody_promises(contracts: dict[str, Path]) -> None:
    with pytest.raises(UserError) as error:
        _require(contracts, SQLITE, PINS)
    assert str(error.value) == (
        f"the mutant m1 is to break python.pins, which {contracts['one']} doesn't promise"
    )
    with pytest.raises(UserError, match=r"to break image\.labels, which"):
        _require(contracts, PromiseSelector("image.labels"))


def test_unknown_variant(contracts: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"is made from 'two': known variants are one$"):
        _require(contracts, SQLITE, variant="two")


MUTANT = _mutant("x", SQLITE, PINS)


def test_refused_for_its_promise() -> None:
    by = _failed(SQLITE, POSTGRESQL)
    found = verdict.judge(MUTANT, _run(_passed(SQLITE), by, _failed(PINS)))
    assert (found.by, found.why_not) == (by, "")


def test_not_refused() -> None:
    found = verdict.judge(MUTANT, _run(_passed(SQLITE), code=0))
    assert (found.by, found.why_not) == (None, "nothing fails of 1 tests")


def test_refused_for_another_promise_too() -> None:
    run = _run(_failed(SQLITE), _failed(POSTGRESQL, test="test_it: test_other"))
    assert verdict.judge(MUTANT, run).why_not == (
        "test_it: test_other names server.databases[postgresql]: it is broken"
    )


def test_refused_only_for_what_can_not_be_told_apart() -> None:
    assert not verdict.judge(MUTANT, _run(_failed(PINS))).by


def test_run_that_ended_with_an_error() -> None:
    run = _run(code=pytest.ExitCode.USAGE_ERROR, said="it does not run as an MLflow server")
    assert verdict.judge(MUTANT, run).why_not == (
        "no test was run: it does not run as an MLflow server"
    )


def test_promises_that_nothing_has_passed() -> None:
    skipped = Outcome("test_it: test_three", (PINS,), skipped="not here")
    run = _run(_passed(SQLITE), skipped, _failed(POSTGRESQL))
    assert verdict.untried([SQLITE, PINS, POSTGRESQL], run) == [
        "python.pins",
        "server.databases[postgresql]",
    ]


def test_report_of_pytest(pytester: pytest.Pytester) -> None:
    """Report as pytest writes it, with the promises that the trial's plugin notes."""
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
    assert verdict.read(report) == (
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
    assert verdict.read(report.with_name("never-written.xml")) == ()


@pytest.mark.parametrize("shares", [1, 2, 3, 7, 500])
def test_shares_are_everything_once(shares: int) -> None:
    mutants = list(loader.load().values())
    parts = [try_mutants._share(mutants, f"{number}/{shares}") for number in range(1, shares + 1)]
    together = [mutant.name for part in parts for mutant in part]
    assert sorted(together) == sorted(mutant.name for mutant in mutants)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1/0", "a/b", "1", "1/2/3", "\u0661/\u0662", ""])
def test_share_that_is_none(shard: str) -> None:
    with pytest.raises(UserError, match="write I/N, such as 1/4"):
        try_mutants.run(["--list", "--shard", shard])
