"""The sample vendor's chaos: faults that are known, repeatable and found by the checks."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import quality
from etl import checks, jobs
from etl.build import build
from etl.derive import derive
from etl.lake import Lake
from etl.market import markets
from etl.sources import dbn, sample

MARKETS = markets()
START, END = datetime(2025, 2, 3, tzinfo=UTC), datetime(2025, 3, 15, tzinfo=UTC)
SEED = 3


def quotes(folder: Path, start: datetime, end: datetime, seed: int | None) -> pl.DataFrame:
    """The option quotes of HE that the vendor sends of a range."""
    folder.mkdir()
    files = sample.fetch(MARKETS["HE"], start, end, folder, seed)
    (definitions,) = [path for path in files if ".OPT_definition" in path.name]
    (path,) = [path for path in files if ".OPT_bbo" in path.name]
    (listed,) = [pl.concat(f for _, f in dbn.read(definitions, MARKETS, None, "sample").frames)]
    columns = ["market", "instrument_id", "contract", "activation", "expiration"]
    known = listed.select(pl.lit("option").alias("kind"), *columns).unique()
    known = known.select("market", "kind", *columns[1:])
    frames = [frame for _, frame in dbn.read(path, MARKETS, known, "sample").frames]
    return pl.concat(frames)


def test_a_seed_gives_the_same_faults_whatever_range_is_asked_for(tmp_path: Path) -> None:
    whole = quotes(tmp_path / "whole", START, END, SEED)
    middle = datetime(2025, 2, 20, tzinfo=UTC)
    parts = [
        quotes(tmp_path / "first", START, middle, SEED),
        quotes(tmp_path / "second", middle, END, SEED),
    ]
    order = ["available_at", "instrument_id", "sequence"]
    assert pl.concat(parts).sort(order).equals(whole.sort(order))
    listed = sample.planted(MARKETS["HE"], START, END, SEED)
    halves = [
        *sample.planted(MARKETS["HE"], START, middle, SEED),
        *sample.planted(MARKETS["HE"], middle, END, SEED),
    ]
    assert listed == halves
    assert listed != sample.planted(MARKETS["HE"], START, END, SEED + 1)


def test_what_is_not_listed_is_as_it_was(tmp_path: Path) -> None:
    clean = quotes(tmp_path / "clean", START, END, None)
    faulty = quotes(tmp_path / "faulty", START, END, SEED)
    hit = [fault.session_date for fault in sample.planted(MARKETS["HE"], START, END, SEED)]
    assert hit
    is_hit = pl.col("as_of").dt.date().is_in(hit)
    assert clean.filter(~is_hit).equals(faulty.filter(~is_hit))
    for day in hit:
        of_day = pl.col("as_of").dt.date() == day
        assert not clean.filter(of_day).equals(faulty.filter(of_day))


def test_without_a_seed_nothing_is_planted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    until = START + timedelta(days=3)
    one = sample.fetch(MARKETS["ZO"], START, until, tmp_path / "a")
    other = sample.fetch(MARKETS["ZO"], START, until, tmp_path / "b", None)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_a_withheld_report_is_the_newest_and_comes_with_the_next(tmp_path: Path) -> None:
    """Over two years a seed withholds some reports, each until a newer one is there."""
    fridays = [datetime(2024, 1, 6, tzinfo=UTC) + timedelta(weeks=n) for n in range(104)]
    late = [day for day in fridays if sample.withheld(day, SEED) is not None]
    assert 2 <= len(late) <= 25
    for number, seed in enumerate((None, SEED)):
        (tmp_path / str(number)).mkdir()
        zips = sample.fetch_cot(
            late[0].year, late[0].year, late[0], tmp_path / str(number), seed=seed
        )
        newest = _newest(zips[-1])
        missing = sample.withheld(late[0], SEED)
        assert (newest == missing) == (seed is None)


def _newest(path: Path) -> date:
    from etl.sources import cftc

    (frame,) = [frame for _, frame in cftc.read(path, MARKETS, "sample").frames]
    newest: date = frame["report_date"].max()
    return newest


@pytest.mark.parametrize("kind", sample.KINDS)
def test_every_kind_is_planted(kind: str) -> None:
    faults = sample.planted(MARKETS["HE"], START - timedelta(days=700), END, SEED)
    assert kind in {fault.kind for fault in faults}
    share = len(faults) / np.busday_count((START - timedelta(days=700)).date(), END.date())
    assert 0.05 < share < 0.15


@pytest.mark.parametrize("seed", [48, 17])
def test_what_is_planted_is_caught_and_nothing_else(sample_lake, tmp_path: Path, seed: int) -> None:
    """The sample's lake once more, of hogs and with faults: each has a finding of its kind."""
    now, lake = sample_lake.now, Lake(tmp_path / "lake")
    with lake.writing(now):
        jobs.land_sample(lake, [MARKETS["HE"]], 12, now, lambda line: None, seed)
        derive(lake, MARKETS["HE"], now)
        build(lake, MARKETS, now)
    clean, faulty = (
        set(checks.findings(checks.kept(each, now)).drop("run_at").rows())
        for each in (sample_lake.lake, lake)
    )
    faults = sample.planted(MARKETS["HE"], datetime(2025, 2, 26, tzinfo=UTC), now, seed)
    assert len({fault.kind for fault in faults}) >= 2
    for score in quality.score(faults, clean, faulty, date(2025, 2, 26)).values():
        assert (score.caught, score.false_alarms) == (score.planted, 0)
    assert not any(finding[1] == "error" for finding in clean)
