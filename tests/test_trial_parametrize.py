"""Which tests run on which images, and promises that nobody tries."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from repository import ROOT

from seatrial.contract import BUILT_IN, Contract, Promise, PromiseSelector, load
from seatrial.errors import UserError
from seatrial.trial.options import TrialOptions
from seatrial.trial.parametrize import cases, is_wanted, require_coverage
from seatrial.trial.sources import CatalogueImage, ImageSource, require_promised

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = TrialOptions()
EMBEDDED = TrialOptions(stack="embedded")


def source_with(name: str = "one", **sections: dict[str, Any]) -> ImageSource:
    """A source whose contract has these sections."""
    return CatalogueImage(
        name=name,
        reference=f"{name}:latest",
        platform="linux/amd64",
        native=True,
        contract_path=Path(f"{name}/contract.toml"),
        contract=Contract.model_validate({"description": name, **sections}),
    )


LITE = source_with("lite", server={"databases": ["sqlite"], "capabilities": ["ui"]})
BOTH = source_with("both", server={"databases": ["sqlite", "postgresql"]})


def _names(
    selectors: list[PromiseSelector], options: TrialOptions = FULL, *, itemwise: bool = False
) -> list[tuple[str, list[str]]]:
    found = cases(selectors, [LITE, BOTH], options, itemwise=itemwise)
    return [(case.source.name, [str(one) for one in case.promises]) for case in found]


def test_test_runs_on_images_that_make_its_promise() -> None:
    assert _names([PromiseSelector("server.databases", "postgresql")]) == [
        ("both", ["server.databases[postgresql]"])
    ]
    assert _names([PromiseSelector("process.keeps_data")]) == []


def test_every_selector_must_be_promised() -> None:
    selectors = [
        PromiseSelector("server.databases", "sqlite"),
        PromiseSelector("server.capabilities", "ui"),
    ]
    assert _names(selectors) == [("lite", ["server.databases[sqlite]", "server.capabilities[ui]"])]


def test_itemwise_runs_once_for_each_item() -> None:
    assert _names([PromiseSelector("server.databases")], itemwise=True) == [
        ("lite", ["server.databases[sqlite]"]),
        ("both", ["server.databases[sqlite]"]),
        ("both", ["server.databases[postgresql]"]),
    ]


def test_embedded_stack_rules_out_what_needs_services() -> None:
    assert _names([PromiseSelector("server.databases", "postgresql")], EMBEDDED) == []
    assert _names([PromiseSelector("server.databases")], EMBEDDED, itemwise=True) == [
        ("lite", ["server.databases[sqlite]"]),
        ("both", ["server.databases[sqlite]"]),
    ]


def test_emulated_image_is_not_tried_on_what_needs_its_own_architecture() -> None:
    native = source_with(serving={"answers_at_once": True, "metrics": True})
    emulated = replace(native, native=False)

    def in_vain(key: str) -> list[bool]:
        found = cases([PromiseSelector(key)], [native, emulated], FULL, itemwise=False)
        return [case.emulated_in_vain for case in found]

    assert in_vain("serving.answers_at_once") == [False, True]
    assert in_vain("serving.metrics") == [False, False]


def test_what_needs_the_engines_socket_says_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    builds = source_with(command_line={"builds_models": ["local", "inside"]})
    local, inside = cases(
        [PromiseSelector("command_line.builds_models")], [builds], FULL, itemwise=True
    )
    monkeypatch.setenv("DOCKER_HOST", "tcp://far.example:2375")
    assert not local.missing
    assert inside.missing.startswith("the engine is at tcp://far.example:2375")
    monkeypatch.setenv("DOCKER_HOST", "unix:///var/run/docker.sock")
    assert not inside.missing


@pytest.fixture
def acceptance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with one module, which tries one item of one promise."""
    folder = tmp_path / "made_up_acceptance"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "test_one.py").write_text(
        "import pytest\n"
        "@pytest.mark.promise('server.databases', 'sqlite')\n"
        "def test_sqlite() -> None: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def test_promise_that_no_test_tries_is_refused(acceptance: Path) -> None:
    require_coverage([source_with(server={"databases": ["sqlite"]})], acceptance, acceptance.name)
    with pytest.raises(UserError) as error:
        require_coverage([BOTH], acceptance, acceptance.name)
    assert str(error.value) == (
        "both/contract.toml promises server.databases[postgresql], and no test in"
        " made_up_acceptance/ is marked with it"
    )


def test_mark_on_a_method_counts(acceptance: Path) -> None:
    (acceptance / "test_two.py").write_text(
        "import pytest\n"
        "class TestDatabases:\n"
        "    @pytest.mark.promise('server.databases', 'postgresql')\n"
        "    def test_postgresql(self) -> None: pass\n"
    )
    require_coverage([BOTH], acceptance, acceptance.name)


def _asking_for(*selectors: str) -> TrialOptions:
    return replace(FULL, promises=tuple(map(PromiseSelector.parse, selectors)))


def test_only_tests_of_the_promises_asked_for() -> None:
    tried = (Promise("server.databases", "sqlite"), Promise("server.quiet"))
    assert is_wanted(*tried, options=FULL)
    assert is_wanted(*tried, options=_asking_for("server.databases"))
    assert is_wanted(*tried, options=_asking_for("python.pins", "server.databases[sqlite]"))
    assert not is_wanted(*tried, options=_asking_for("server.databases[mysql]"))
    assert not is_wanted(options=_asking_for("server.databases[mysql]"))


def test_promises_asked_for_are_passed_on() -> None:
    asked = _asking_for("python.pins", "contents.tools[docker buildx]")
    assert asked.as_arguments() == [
        *("--promise", "python.pins"),
        *("--promise", "contents.tools[docker buildx]"),
    ]


@pytest.mark.parametrize(
    ("mark", "fault"),
    [
        ("'server.colour'", "unknown promise 'server.colour': `invoke promises` shows"),
        (
            "'server.database'",
            "unknown promise 'server.database': did you mean",
        ),
        ("'server.databases', 'oracle'", "server.databases has no item 'oracle': known are postg"),
        ("'server.quiet', 'very'", "server.quiet is one promise, without items such as 'very'"),
    ],
)
@pytest.mark.parametrize("definition", ["def test_it() -> None: pass", "class TestIt: pass"])
def test_mark_that_names_no_promise_is_refused(
    acceptance: Path, mark: str, fault: str, definition: str
) -> None:
    (acceptance / "test_two.py").write_text(
        f"import pytest\n@pytest.mark.promise({mark})\n{definition}\n"
    )
    with pytest.raises(UserError) as error:
        require_coverage([], acceptance, acceptance.name)
    name = re.split(r"\W", definition)[1]
    assert str(error.value).startswith(
        f"made_up_acceptance/test_two.py::{name} is marked with a promise: {fault}"
    )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("arguments", ["", "(1)", "('a', 'b', 'c')", "('server.quiet', item=1)"])
def test_mark_with_other_arguments_is_refused(acceptance: Path, arguments: str) -> None:
    (acceptance / "test_two.py").write_text(
        f"import pytest\npytestmark = pytest.mark.promise{arguments}\n"
    )
    with pytest.raises(UserError, match=r"test_two\.py: the mark `promise` takes a key"):
        require_coverage([], acceptance, acceptance.name)


def test_every_promise_of_the_repository_is_tried() -> None:
    contracts = [*ROOT.glob("docker/*/contract.toml"), *BUILT_IN.values()]
    sources = [
        replace(source_with(), contract_path=path, contract=load(path)) for path in contracts
    ]
    require_coverage(sources, ROOT / "acceptance", "acceptance")


def test_promise_that_no_image_makes_is_refused() -> None:
    require_promised([LITE, BOTH], _asking_for("server.databases[postgresql]", "server.databases"))
    with pytest.raises(UserError) as error:
        require_promised([LITE], _asking_for("server.databases[postgresql]"))
    assert str(error.value) == (
        "lite-amd64: server.databases[postgresql] is not promised, only server.databases[sqlite]"
    )
    with pytest.raises(UserError, match=r"^lite-amd64: python\.pins is not promised$"):
        require_promised([LITE], _asking_for("python.pins"))
