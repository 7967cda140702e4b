"""Each fault of a vendor: what the person reads, the exit code, and a lake that is whole.

Through the command line and the real clients, against the loopback vendors.  The lake is exactly
as before or exactly complete, vendor by vendor; ``docs/vendors.md`` shows what is observed here.
"""

from __future__ import annotations

import base64
import re
import traceback
from pathlib import Path

import pytest

from tests.vendors import KEY
from tests.vendors.fault_table import (
    CASES,
    COMPLETE,
    HEADER,
    UNTOUCHED,
    Case,
    Stage,
    markdown,
    tree,
)

DOCS = Path(__file__).parents[2] / "docs" / "vendors.md"
FAILING = [case for case in CASES if case.exit_code]
SECRETS = (KEY, base64.b64encode(f"{KEY}:".encode()).decode())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"))


def documented() -> list[str]:
    """The rows of the table in the documentation."""
    section = DOCS.read_text().partition("## Faults\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines[:2] == list(HEADER)
    return lines[2:]


def test_the_documentation_has_every_fault_in_this_order() -> None:
    assert [row.split("|")[1].strip() for row in documented()] == [case.title for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_fault(stage: Stage, tmp_path: Path, case: Case) -> None:
    lake = tmp_path / "lake"
    seen = stage.observe(case, lake)

    assert seen.result.exit_code == case.exit_code, seen.result.output
    assert re.search(case.says, "\n".join(seen.said)), seen.said
    assert (seen.databento, seen.cot) == (case.databento, case.cot)
    if (seen.databento, seen.cot) == (UNTOUCHED, UNTOUCHED):
        assert tree(lake) == stage.tree
    if case.exit_code:
        (line,) = [line for line in seen.said if line.startswith("hydra: ")]
        assert seen.result.stderr.splitlines()[-1] == line
    assert "Traceback" not in seen.result.output
    assert not any(secret in seen.result.output for secret in SECRETS)

    struck = [asked for asked in seen.asked if asked.fault]
    assert struck or case.conditions
    assert sum(seen.waits) >= case.patience
    assert markdown(case, seen) in documented()


@pytest.mark.parametrize("title", ["body cut on a record, always", "CFTC: zip cut off, always"])
def test_the_next_run_makes_it_complete(stage: Stage, tmp_path: Path, title: str) -> None:
    (case,) = [case for case in CASES if case.title == title]
    stage.observe(case, tmp_path / "lake")
    after = stage.go_on(tmp_path / "lake")
    assert (after.result.exit_code, after.databento, after.cot) == (0, COMPLETE, COMPLETE)


@pytest.mark.parametrize("case", FAILING[::3], ids=lambda case: case.title)
def test_a_traceback_holds_no_secret(stage: Stage, tmp_path: Path, case: Case) -> None:
    seen = stage.observe(case, tmp_path / "lake", "--debug")
    text = seen.result.output + "".join(traceback.format_exception(seen.result.exception))
    assert not any(secret in text for secret in SECRETS)
    assert "Traceback" in text
