"""Each fault of a vendor: what the person reads, the exit code, and a lake that is whole.

Through the command line and the real clients, against the loopback vendors.  The lake is exactly
as before or exactly complete, vendor by vendor; ``docs/vendors.md`` shows what is observed here.
Waits between attempts are not waited for; time-outs are shortened where slowness is the fault.
"""

from __future__ import annotations

import base64
import re
import traceback
from pathlib import Path

import pytest

from tests.vendors import KEY, faults
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
Stages = dict[bool, Stage]
SECRETS = (KEY, base64.b64encode(f"{KEY}:".encode()).decode())


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """For a market that is in the COT reports, and for one that is not."""
    return {
        reported: Stage(tmp_path_factory.mktemp("stage"), reported) for reported in (False, True)
    }


def documented() -> list[str]:
    """The rows of the table in the documentation."""
    section = DOCS.read_text().partition("## Faults\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines[:2] == list(HEADER)
    return lines[2:]


def test_the_documentation_has_every_fault_in_this_order() -> None:
    assert [row.split("|")[1].strip() for row in documented()] == [case.title for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_fault(stages: Stages, tmp_path: Path, case: Case) -> None:
    lake = tmp_path / "lake"
    seen = stages[case.reported].observe(case, lake)

    assert seen.result.exit_code == case.exit_code, seen.result.output
    assert re.search(case.says, "\n".join(seen.said)), seen.said
    assert seen.rows == case.rows
    if case.rows == UNTOUCHED and case.exit_code:
        assert tree(lake) == stages[case.reported].tree
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
def test_the_next_run_makes_it_complete(stages: Stages, tmp_path: Path, title: str) -> None:
    (case,) = [case for case in CASES if case.title == title]
    stages[case.reported].observe(case, tmp_path / "lake")
    after = stages[case.reported].go_on(tmp_path / "lake")
    assert (after.result.exit_code, after.rows) == (0, COMPLETE)


@pytest.mark.parametrize(
    ("fault", "rows"),
    [
        (faults.reset(at="*.bbo-1m.dbn.zst", times=1), COMPLETE),
        (faults.damaged("*.bbo-1m.dbn.zst"), UNTOUCHED),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_batch_job_is_paid_for_once(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: faults.Fault, rows: str
) -> None:
    """Its files are fetched again, from where they broke off, and checked against their hashes."""
    monkeypatch.setattr("etl.sources.databento.download._LARGE", 0)
    case = Case("batch", (fault,), 0 if rows == COMPLETE else 4, "", rows)
    seen = stages[False].observe(case, tmp_path / "lake")
    assert (seen.result.exit_code, seen.rows) == (case.exit_code, rows), seen.result.output
    names = [asked.name for asked in seen.asked]
    assert "timeseries.get_range" not in names
    after = stages[False].go_on(tmp_path / "lake")
    assert (after.result.exit_code, after.rows) == (0, COMPLETE)
    submitted = [asked.form["schema"] for asked in seen.asked if asked.name == "batch.submit_job"]
    assert len(submitted) == len(set(submitted)) == 5


@pytest.mark.parametrize(
    "case", [case for case in FAILING if not case.reported][::5], ids=lambda case: case.title
)
def test_a_traceback_holds_no_secret(stages: Stages, tmp_path: Path, case: Case) -> None:
    seen = stages[case.reported].observe(case, tmp_path / "lake", "--debug")
    text = seen.result.output + "".join(traceback.format_exception(seen.result.exception))
    assert not any(secret in text for secret in SECRETS)
    assert "Traceback" in text
