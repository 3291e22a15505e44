"""Mutation testing of the packages in images: which mutants there are, and what is said of them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from mutation import changes, command, declared
from mutation.changes import Mutant
from mutation.declared import Explanation
from mutation.trying import Verdict
from seatrial.errors import UserError

ROOT = Path(__file__).parents[1]


def _changes(source: str) -> set[tuple[str, ...]]:
    text = textwrap.dedent(source)
    found = (changes.mutated("m", Path("m.py"), text, spot) for spot in changes.spots(text))
    return {mutant.change for mutant in found if mutant}


def test_mutants_change_one_thing() -> None:
    assert _changes("a = b == 1 and not c\n") >= {
        ("- a = b == 1 and not c", "+ a = b != 1 and not c"),
        ("- a = b == 1 and not c", "+ a = b == 2 and not c"),
        ("- a = b == 1 and not c", "+ a = b == 1 or not c"),
        ("- a = b == 1 and not c", "+ a = b == 1 and  c"),
    }


def test_what_is_not_executed_is_not_changed() -> None:
    """Annotations stay texts, and types are imported for type checkers alone."""
    source = """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from a import b
        c: b | None
        def d(e: b | None, *, f: b | None = None) -> b | None: ...
        async def g(e: b | None) -> b | None: ...
        """
    assert _changes(source) == set()


def _mutant(code: str = "a = 2") -> Mutant:
    return Mutant("m", Path("m.py"), code, f"--- m.py\n+++ m.py\n@@ -1 +1 @@\n-a = 1\n+{code}\n")


def _explanation(code: str = "a = 2", module: str = "m") -> Explanation:
    return Explanation(module=module, change=("- a = 1", f"+ {code}"), reason="nobody reads it")


def test_explanation_fits_its_mutant_alone() -> None:
    assert _explanation().fits(_mutant())
    assert not _explanation().fits(_mutant("a = 0"))
    assert not _explanation(module="n").fits(_mutant())


def test_explanation_that_explains_nothing_is_found() -> None:
    known = [_explanation()]
    killed, survived = [_mutant()], [_mutant()]
    assert declared.idle(known, [], killed, whole=set()) == known, "a test kills it"
    assert declared.idle(known, [], [], whole={"m"}) == known, "there is no such mutant"
    assert declared.idle(known, survived, survived, whole={"m"}) == []
    assert declared.idle(known, [], [], whole=set()) == [], "the sample was of others"


def test_score_counts_what_a_test_can_know() -> None:
    tally = command.Tally()
    assert tally.score == 100
    for verdict in (Verdict.KILLED, Verdict.KILLED, Verdict.TIMEOUT, Verdict.SURVIVED):
        tally.count(verdict, explained=False)
    tally.count(Verdict.SURVIVED, explained=True)
    assert (tally.mutants, tally.equivalent, tally.score) == (4, 1, 75)


def test_every_module_has_tests_that_are_there() -> None:
    for name, package in declared.packages(ROOT).items():
        folder = ROOT / "packages" / name
        modules = {path.stem for path in folder.glob("mlflow_*/*.py")} - {"__init__"}
        assert package.tests.keys() == modules
        for test in {test for tests in package.tests.values() for test in tests}:
            file, _, function = test.partition("::")
            text = (folder / "tests" / file).read_text(encoding="utf-8")
            assert f"def {function}" in text, f"{test}: there is no such test"


def test_scores_are_noted_of_modules_that_are_there() -> None:
    for package in declared.packages(ROOT).values():
        assert package.scores.keys() <= package.tests.keys()
        assert all(0 < score <= 100 for score in package.scores.values())


def test_module_that_has_become_worse() -> None:
    worse = command.Tally(killed=9, survived=1)
    assert command.is_low(worse, 90.1, whole=True)
    assert not command.is_low(worse, 90.0, whole=True)
    assert not command.is_low(worse, 95.0, whole=False), "the sample may have drawn the survivors"
    assert command.is_low(worse, 100.0, whole=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[mutant]]\nmodule = "m"\nchange = ["- a"]', "reason: Field required"),
        ('[[mutant]]\nmodule = "m"\nchange = "- a"\nreason = "r"', "change: Input should be"),
    ],
)
def test_explanation_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mutation").mkdir()
    (tmp_path / declared.EQUIVALENT).write_text(text)
    with pytest.raises(UserError, match=message):
        declared.explanations(tmp_path)


def test_module_without_tests_is_named() -> None:
    package = declared.Package(scores={}, tests={})
    with pytest.raises(UserError, match=r"no tests of front: name them in \[tool.mutation.p.tests"):
        package.tests_of("p", "front")


def test_module_that_is_not_there() -> None:
    with pytest.raises(UserError, match="no module is called nowhere"):
        command.run(["--module", "nowhere"])
