"""Which tests run on which images, and promises that nobody tries."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from seatrial.contract import Claim, Contract, Promise, promises_of
from seatrial.errors import UserError
from seatrial.trial.options import TrialOptions
from seatrial.trial.parametrize import NEEDS_SERVICES, cases, is_wanted, require_coverage
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
    claims: list[Claim], options: TrialOptions = FULL, *, itemwise: bool = False
) -> list[tuple[str, list[str]]]:
    found = cases(claims, [LITE, BOTH], options, itemwise=itemwise)
    return [(case.source.name, [str(one) for one in case.promises]) for case in found]


def test_test_runs_on_images_that_make_its_promise() -> None:
    assert _names([Claim("server.databases", "postgresql")]) == [
        ("both", ["server.databases[postgresql]"])
    ]
    assert _names([Claim("process.keeps_data")]) == []


def test_every_claim_must_be_promised() -> None:
    claims = [Claim("server.databases", "sqlite"), Claim("server.capabilities", "ui")]
    assert _names(claims) == [("lite", ["server.databases[sqlite]", "server.capabilities[ui]"])]


def test_itemwise_runs_once_for_each_item() -> None:
    assert _names([Claim("server.databases")], itemwise=True) == [
        ("lite", ["server.databases[sqlite]"]),
        ("both", ["server.databases[sqlite]"]),
        ("both", ["server.databases[postgresql]"]),
    ]


def test_embedded_stack_rules_out_what_needs_services() -> None:
    assert _names([Claim("server.databases", "postgresql")], EMBEDDED) == []
    assert _names([Claim("server.databases")], EMBEDDED, itemwise=True) == [
        ("lite", ["server.databases[sqlite]"]),
        ("both", ["server.databases[sqlite]"]),
    ]


def test_promises_that_need_services_exist() -> None:
    everything = source_with(
        server={
            "capabilities": ["tracking", "artifacts"],
            "databases": ["postgresql", "mysql", "sqlite"],
            "artifact_stores": ["s3", "file"],
            "artifact_access": ["proxied", "direct"],
            "multipart": ["proxied", "direct"],
            "reports_faults": ["database", "bucket"],
            "tls": ["s3"],
        },
        entrypoint={
            "forms": ["mlflow server", "none"],
            "expands_variables": True,
            "secret_files": True,
            "hides_secrets": True,
            "waits_for_database": True,
            "replicas": 2,
            "schema_upgrade": ["asked", "unasked"],
        },
    )
    known = {Promise(one.key, one.item) for one in promises_of(everything.contract)}
    assert known >= NEEDS_SERVICES


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


def _asking_for(*claims: str) -> TrialOptions:
    return replace(FULL, promises=tuple(map(Claim.parse, claims)))


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


@pytest.mark.parametrize("text", ["server", "server.colour", "start.port", "server.tls[", "[s3]"])
def test_unknown_promise_is_refused(text: str) -> None:
    with pytest.raises(UserError) as error:
        Claim.parse(text)
    assert str(error.value).startswith(f"unknown promise '{text}': known keys are image.archit")


def test_promise_that_no_image_makes_is_refused() -> None:
    require_promised([LITE, BOTH], _asking_for("server.databases[postgresql]", "server.databases"))
    with pytest.raises(UserError) as error:
        require_promised([LITE], _asking_for("server.databases[postgresql]"))
    assert str(error.value) == (
        "lite-amd64: server.databases[postgresql] is not promised, only server.databases[sqlite]"
    )
    with pytest.raises(UserError, match=r"^lite-amd64: python\.pins is not promised$"):
        require_promised([LITE], _asking_for("python.pins"))
