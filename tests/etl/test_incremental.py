"""Days one by one, all at once, and in another order: the same database, row for row."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from etl import jobs, reach
from etl.build import build
from etl.derive import derive
from etl.export import open_database
from etl.lake import Lake
from etl.market import markets
from etl.sources import sample

MARKETS = markets()
CODES = ("HE", "ZO")
LAST = datetime(2025, 3, 8, 12, tzinfo=UTC)
#: Days of runs over a week's and a month's end, a report's release and a Sunday without a run.
DAYS = [datetime(2025, *day, 12, tzinfo=UTC) for day in ((2, 28), (3, 1), (3, 3), (3, 4))]
#: What says when this lake did something, and not what it knows.
OF_THE_RUN = {"ingested_at", "batch_id"}
RUNS_OWN = {
    ("meta", "files"),
    ("meta", "batches"),
    ("meta", "layouts"),
    ("quality", "recorded"),
    ("quality", "checks"),
    ("quality", "runs"),
}


def run(lake: Lake, now: datetime, days: int) -> None:
    """A whole day's run."""
    chosen = [MARKETS[code] for code in CODES]
    with lake.writing(now):
        jobs.land_sample(lake, chosen, days, now, lambda line: None)
        _derive_and_build(lake, now)


def _derive_and_build(lake: Lake, now: datetime) -> None:
    for code in lake.markets():
        derive(lake, MARKETS[code], now)
    build(lake, dict(MARKETS), now)


def database(lake: Lake) -> dict[str, pl.DataFrame]:
    """Every table and view of the database, its rows in one order."""
    connection = open_database(lake.database)
    try:
        names = connection.sql(
            "select table_schema, table_name from information_schema.tables order by all"
        ).fetchall()
        found = {}
        for schema, name in names:
            if (schema, name) not in RUNS_OWN:
                rows: pl.DataFrame = connection.sql(f"from {schema}.{name}").pl()
                own = [column for column in rows.columns if column not in OF_THE_RUN]
                found[f"{schema}.{name}"] = rows.select(own).sort(own, nulls_last=True)
        return found
    finally:
        connection.close()


def assert_same(one: Lake, other: Lake) -> None:
    left, right = database(one), database(other)
    assert left.keys() == right.keys()
    assert len(left) > 25
    heights = ({name: rows.height for name, rows in each.items()} for each in (left, right))
    assert next(heights) == next(heights)
    for name, rows in left.items():
        assert rows.height > 0 or not name.startswith("features."), name
        assert_frame_equal(rows, right[name], check_exact=True)


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("at-once") / "lake")
    run(lake, DAYS[-1], days=3)
    return lake


def test_days_one_by_one_are_the_same_database(at_once: Lake, tmp_path: Path) -> None:
    by_day = Lake(tmp_path / "by-day")
    for now in DAYS:
        run(by_day, now, days=1)
    assert reach.held(by_day, "sample", "HE") == reach.held(at_once, "sample", "HE")
    assert len(by_day.raw_files()) > len(at_once.raw_files())
    assert_same(at_once, by_day)


def test_another_order_of_landing_is_the_same_database(tmp_path: Path) -> None:
    """Files forth and back; and a market's one by one, each derived and built before its next."""
    start, end = (datetime(2025, 3, day, tzinfo=UTC) for day in (4, 7))
    chosen = {code: MARKETS[code] for code in CODES}
    each = [jobs.dbn_files(sample.fetch(MARKETS[code], start, end, tmp_path)) for code in CODES]
    files = [file for of_market in each for file in of_market]
    zips = sample.fetch_cot(2024, 2025, end, tmp_path)
    forth, back, apart = (Lake(tmp_path / name) for name in ("forth", "back", "apart"))
    for lake, step in ((forth, 1), (back, -1)):
        with lake.writing(LAST):
            list(jobs.land_cot(lake, chosen, zips[::step], LAST, "sample"))
            list(jobs.land_dbn(lake, chosen, files[::step], LAST, "sample"))
            _derive_and_build(lake, LAST)
    with apart.writing(LAST):
        for of_kind in zip(*each, strict=True):
            list(jobs.land_dbn(apart, chosen, of_kind, LAST, "sample"))
            _derive_and_build(apart, LAST)
        for file in zips:
            list(jobs.land_cot(apart, chosen, [file], LAST, "sample"))
            _derive_and_build(apart, LAST)
    assert_same(forth, back)
    assert_same(forth, apart)
