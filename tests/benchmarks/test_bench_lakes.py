"""The generated lakes: as dense as they say, and the same however they are cut."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from benchmarks.pipeline.lakes import (
    DENSE,
    LAST_YEAR,
    TINY,
    Size,
    World,
    market_files,
    parse,
    sizes,
)

ONE = Size("one tiny month", 1, 1, months=1, expiries=3, strikes=8)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    (market,) = market_files(ONE, tmp_path_factory.mktemp("markets")).values()
    return World(market, ONE)


def frames(world: World, *runs: range) -> dict[str, pl.DataFrame]:
    found: dict[str, list[pl.DataFrame]] = defaultdict(list)
    for sessions in runs:
        for dataset, frame in world.payload(sessions).frames:
            found[dataset].append(frame)
    return {name: pl.concat(parts).sort(pl.all(), nulls_last=True) for name, parts in found.items()}


def test_a_month_has_the_same_rows_session_by_session(world: World) -> None:
    (month,) = world.months()
    whole = frames(world, month)
    days = frames(world, *(range(session, session + 1) for session in month))
    assert whole.keys() == days.keys()
    for dataset, rows in whole.items():
        assert_frame_equal(days[dataset], rows, check_exact=True)


def test_a_session_has_every_expiry_strike_and_right_once(world: World) -> None:
    (month,) = world.months()
    quotes = frames(world, month)["option_quote"]
    assert quotes.height == len(month) * ONE.expiries * ONE.strikes * 2
    assert quotes.select("available_at", "contract").is_unique().all()


def test_years_are_as_dense_as_lean_hogs(tmp_path: Path) -> None:
    (year,) = sizes("1x1")
    (market,) = market_files(year, tmp_path).values()
    sessions = [session for month in World(market, year).months() for session in month]
    assert 245 <= len(sessions) <= 255
    assert (year.expiries, year.strikes) == (6, 32)
    assert (DENSE.expiries, DENSE.strikes) == (12, 60)
    assert year.first.year == LAST_YEAR


def test_nothing_is_known_before_its_session_or_after_its_download(world: World) -> None:
    (month,) = world.months()
    since, until = world.after(month[0] - 1), world.after(month[0])
    for dataset, frame in frames(world, month[:1]).items():
        assert frame["available_at"].is_between(since, until).all(), dataset


def test_a_size_is_markets_by_years() -> None:
    assert sizes("1x1 3x2") == (Size("1x1", 1, 1), Size("3x2", 3, 2))
    assert sizes("3x2")[0].codes == ["B01", "B02", "B03"]
    assert sizes("tiny") == TINY
    with pytest.raises(ValueError, match="'big' is no size: tiny, or markets x years, as 4x5"):
        sizes("big")


def test_a_size_goes_to_another_process_in_a_word() -> None:
    for one in (*TINY, *sizes("20x10")):
        assert parse(one.words) == one
