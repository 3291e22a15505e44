"""Reports of a trial: the published schema, and text of images that stays text."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seatrial.errors import UserError
from seatrial.reports import Report, page, schema, summary, write
from seatrial.reports.model import (
    Image,
    Machine,
    Outcome,
    PromiseResult,
    Section,
    Suite,
    Test,
    Verdict,
)

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = st.one_of(
    st.text(min_size=1),  # a text that is missing has no heading either
    st.sampled_from(
        [
            "</script><script>alert(1)</script>",
            "</pre><img src=x onerror=alert(1)>",
            '"><svg onload=alert(1)>',
            "{{ 7 * 7 }}{% raw %}",
            "| a | b |\n# title\n@someone [x](javascript:1)",
            "\x1b]0;title\x07\x00\u2028",
        ]
    ),
)


def report(text: str = "text", *, outcome: Outcome = Outcome.FAILED) -> Report:
    """A report in which `text` stands wherever an image, or a test, may have put it."""
    verdict = Verdict.BROKEN if outcome is Outcome.FAILED else Verdict.KEPT
    return Report(
        began="2026-11-27T11:00:00+00:00",
        seconds=12.5,
        suite=Suite(version="0.1.0", commit="0" * 40),
        machine=Machine(engine=text, kernel=text, platform="linux/amd64", processors=2),
        stack="full",
        effort="quick",
        seed=1,
        images=(
            Image(
                label=text,
                name=text,
                reference=text,
                digest="sha256:" + "1" * 64,
                platform="linux/amd64",
                native=True,
                contract=text,
                contract_digest="sha256:" + "2" * 64,
                installed=text,
                promises=(
                    PromiseResult(name=text, verdict=verdict, tests=("t",), reasons=(text,)),
                ),
            ),
        ),
        tests=(
            Test(
                id=text,
                image=text,
                promises=(text,),
                outcome=outcome,
                seconds=1.0,
                failure=text,
                sections=(Section(title=text, text=text),),
                again=text,
            ),
        ),
        left_out=(text,),
    )


class Elements(HTMLParser):
    """Collects the elements of a page, with their attributes' names."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element."""
        self.found.append((tag, tuple(name for name, _ in attrs)))


def elements(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """The elements of a page."""
    parser = Elements()
    parser.feed(text)
    return parser.found


@settings(deadline=None)
@given(HOSTILE)
def test_text_of_an_image_adds_no_element_to_the_page(text: str) -> None:
    assert elements(page.render(report(text))) == elements(page.render(report()))


@settings(deadline=None)
@given(HOSTILE)
def test_text_of_an_image_adds_no_line_to_the_summary(text: str) -> None:
    lines = summary.render(report(text)).splitlines()
    assert len(lines) == len(summary.render(report()).splitlines())
    assert not any("<" in line.replace("\\<", "") for line in lines)


@settings(deadline=None)
@given(HOSTILE)
def test_report_is_read_as_it_was_written(text: str) -> None:
    written = report(text.encode("utf-8", "replace").decode())
    assert Report.model_validate_json(written.model_dump_json()) == written


def test_published_schema_is_that_of_the_model() -> None:
    """`python -m seatrial.reports.schema` makes it anew."""
    assert schema.PUBLISHED.read_text(encoding="utf-8") == schema.text()


def test_page_needs_nothing_beside_it() -> None:
    text = page.render(report())
    assert not [
        tag for tag, names in elements(text) if {"src", "href"} & set(names) or tag == "link"
    ]


def test_failure_stands_with_the_command_that_repeats_it() -> None:
    text = page.render(report("pytest 'acceptance/test_one.py::test_one[x]'"))
    assert "<h4>Run it again</h4>" in text
    assert "pytest &#39;acceptance/test_one.py::test_one[x]&#39;" in text


def test_limited_trial_is_never_called_whole() -> None:
    limited = report(outcome=Outcome.PASSED).model_copy(update={"limits": ("-k",)})
    assert "green, and limited" in summary.render(limited)
    assert "Not a whole trial: limited by -k." in page.render(limited)


def test_files_are_written(tmp_path: Path) -> None:
    write(report(), tmp_path / "report")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"report.json", "report.html", "summary.md"}
    assert json.loads((tmp_path / "report" / "report.json").read_text())["schema_version"] == 1


def test_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the report can't be written to"):
        write(report(), tmp_path / "file")
