"""What vendors were asked for: spans with their gaps, and what was said of each day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from etl import reach
from etl.errors import LakeError
from etl.lake import Lake
from etl.reach import Day

START = datetime(2025, 3, 5, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_nothing_is_held_at_first(lake: Lake) -> None:
    assert reach.held(lake, "databento", "HE") == []
    assert reach.days(lake) == {}
    assert not lake.root.exists()


def test_spans_are_held_with_their_gaps(lake: Lake) -> None:
    late, early = (START + 9 * DAY, START + 10 * DAY), (START, START + DAY)
    for span in (late, early):
        reach.extend(lake, "databento", "HE", span, ["a", "b"])
    reach.extend(lake, "databento", "HE", (START + DAY, START + 9 * DAY), ["b"])
    assert reach.held(lake, "databento", "HE", "a") == [early, late]
    assert reach.held(lake, "databento", "HE", "b") == [(START, START + 10 * DAY)]
    assert reach.held(lake, "databento", "HE") == []
    assert reach.held(lake, "databento", "LE", "a") == []
    assert reach.held(lake, "sample", "HE", "a") == []


def test_days_are_as_last_said(lake: Lake) -> None:
    first, second = date(2025, 3, 5), date(2025, 3, 6)
    old = Day("degraded", second, START)
    new = Day("available", date(2025, 3, 9), START + DAY)
    missing = Day("missing", None, START)
    reach.record_days(lake, "GLBX.MDP3", {first: old, second: missing})
    reach.record_days(lake, "GLBX.MDP3", {first: new})
    assert reach.days(lake) == {"GLBX.MDP3": {first: new, second: missing}}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": 3}', '{"a": [["x", "y"]]}', '{"from": "2025-03-05"}']
)
def test_a_damaged_file_is_named(lake: Lake, text: str) -> None:
    reach.extend(lake, "databento", "HE", (START, START + DAY))
    reach.record_days(lake, "GLBX.MDP3", {START.date(): Day("available", None, START)})
    for path in (lake.root / "reach").iterdir():
        path.write_text(text)
        with pytest.raises(LakeError, match=f"{path} is damaged"):
            reach.days(lake) if path.name.startswith("days") else reach.held(
                lake, "databento", "HE"
            )
