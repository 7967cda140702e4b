"""Derive does what is needed, does it once, and knows nothing of what comes later."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from etl import derive as module
from etl import derive_task, jobs, sqlfiles
from etl.derive import derive
from etl.lake import Lake
from etl.market import markets
from etl.stored import Staged, derived_files

#: Without reports, of which nothing is derived.
MARKETS = {code: replace(market, cot_code=None) for code, market in markets().items()}
TABLES = [file.name for file in sqlfiles.stage("derive")]


def noon(day: int) -> datetime:
    return datetime(2025, 3, day, 12, tzinfo=UTC)


def silent(line: str) -> None:
    """Progress that nobody reads."""


def run(lake: Lake, now: datetime, days: int = 4, codes: Iterable[str] = ("ZO",)) -> int:
    """Land and derive at an instant; how many sessions were derived."""
    chosen = [MARKETS[code] for code in codes]
    with lake.writing(now):
        jobs.land_sample(lake, chosen, days, now, silent)
        return sum(derive(lake, market, now).sessions for market in chosen)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of six sessions, derived."""
    lake = Lake(tmp_path_factory.mktemp("whole") / "lake")
    assert run(lake, noon(6), days=6) > 0
    return lake


@pytest.fixture
def own(whole: Lake, tmp_path: Path) -> Lake:
    """A copy of that lake that a test may write to."""
    shutil.copytree(whole.root, tmp_path / "lake")
    return Lake(tmp_path / "lake")


@pytest.fixture
def landed(own: Lake) -> Lake:
    """That lake before it was derived."""
    shutil.rmtree(own.derived)
    return own


def rows(lake: Lake, table: str) -> pl.DataFrame:
    """Every stored row of a derived table."""
    frames = [pl.read_parquet(path, hive_partitioning=False) for path in derived_files(lake, table)]
    return pl.concat(frames)


def assert_same(one: Lake, other: Lake) -> None:
    for table in TABLES:
        assert_frame_equal(rows(one, table), rows(other, table), check_exact=True)


def test_passes_of_few_sessions_equal_one_pass(
    whole: Lake, landed: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SESSIONS", 2)
    assert run(landed, noon(6)) > 0
    assert_same(whole, landed)


def test_a_run_with_nothing_new_derives_nothing(own: Lake) -> None:
    before = {path: path.stat().st_mtime_ns for name in TABLES for path in derived_files(own, name)}
    assert before
    assert run(own, noon(6) + timedelta(hours=3)) == 0
    after = {path: path.stat().st_mtime_ns for name in TABLES for path in derived_files(own, name)}
    assert before == after


def test_a_new_day_derives_a_few_sessions_of_a_long_history(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    run(lake, noon(20), days=30)
    assert run(lake, noon(21), days=30) <= 12


def test_a_change_of_code_derives_everything_anew(
    landed: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = run(landed, noon(6))
    monkeypatch.setattr(module, "_code_hash", lambda market: "another")
    assert run(landed, noon(6)) == everything > 0


def test_the_code_that_rows_follow_from_includes_the_raw_views(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They make what cannot be NULL: with another bound, other rows would be derived."""
    hashed: set[str] = set()
    whole = sqlfiles.code_hash

    def code_hash(extra: Iterable[Path] = ()) -> str:
        paths = list(extra)
        hashed.update(path.name for path in paths)
        return whole(paths)

    monkeypatch.setattr(sqlfiles, "code_hash", code_hash)
    module._code_hash(MARKETS["ZO"])
    assert hashed >= {"black76.py", "udf.py", "calendars.py", "engine.py", "outside.py"}


def test_a_killed_run_is_completed_by_the_next(
    whole: Lake, landed: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = derive_task.stage
    calls = 0

    def stage_some(*arguments: Any) -> Staged:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt
        return stage(*arguments)

    monkeypatch.setattr(derive_task, "stage", stage_some)
    with pytest.raises(KeyboardInterrupt):
        run(landed, noon(6))
    monkeypatch.setattr(derive_task, "stage", stage)
    run(landed, noon(6))
    assert_same(whole, landed)


def test_nothing_is_derived_whose_cut_off_has_not_passed(landed: Lake) -> None:
    with landed.writing(noon(6)):
        instant = datetime(2025, 3, 5, 15, tzinfo=UTC)  # the rows of later hours have landed
        derive(landed, MARKETS["ZO"], instant)
        for table in TABLES:
            assert rows(landed, table)["as_of"].max() <= instant
        derive(landed, MARKETS["ZO"], noon(6))
    assert rows(landed, "chain_v1")["as_of"].max() > instant


def test_inputs_are_known_by_the_cut_off(sample_lake) -> None:
    for table in TABLES:
        found = rows(sample_lake.lake, table)
        assert found.height
        assert (found["available_at"] <= found["as_of"]).all()
        assert found["available_at"].null_count() == 0


def test_rows_do_not_change_when_later_ones_land(tmp_path: Path) -> None:
    """The past as it was derived at K equals the past derived with all that came after."""
    early, late = Lake(tmp_path / "early"), Lake(tmp_path / "late")
    run(early, noon(5), days=4)
    run(late, noon(8), days=7)
    known = datetime(2025, 3, 5, tzinfo=UTC)  # the sample vendor's files end at midnight
    for table in TABLES:
        then = rows(early, table)
        first = rows(late, table)["session_date"].min()
        since = then["session_date"].min()
        assert first <= since
        now = rows(late, table).filter(pl.col("as_of") <= known, pl.col("session_date") > since)
        then = then.filter(pl.col("session_date") > since)
        assert then.height
        assert_frame_equal(then, now, check_exact=True)


def test_grain_is_unique(sample_lake) -> None:
    for file in sqlfiles.stage("derive"):
        found = rows(sample_lake.lake, file.name)
        assert not found.select(file.grain).is_duplicated().any(), file.name


def test_rows_are_in_the_order_of_their_grain(sample_lake) -> None:
    for file in sqlfiles.stage("derive"):
        for path in derived_files(sample_lake.lake, file.name):
            keys = pl.read_parquet(path, hive_partitioning=False).select(file.grain)
            assert keys.equals(keys.sort(file.grain, nulls_last=True)), path


def test_settlements_have_two_vintages(sample_lake) -> None:
    slices = rows(sample_lake.lake, "surface_v1").filter(pl.col("price_source") == "settlement")
    vintages = slices.group_by("market", "session_date", "series", "expiry").len()
    assert vintages["len"].max() >= 2
