"""Every order in which three reports and a revision can arrive, seen through every view.

Each order is a market of its own: a copy of the sample's oats, whose open interest, volume and
settlements of three sessions, and whose COT reports of three weeks, come late and in that order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from etl import jobs, sqlfiles
from etl.audit import audit
from etl.build import build
from etl.derive import derive
from etl.export import open_database
from etl.lake import Lake
from etl.landing import land
from etl.market import markets
from etl.schemas import source_schema
from etl.sources import Payload

OATS = markets()["ZO"]
#: Which of the four arrives when: the second report comes twice, as published and as revised.
ORDERS = list(itertools.permutations(range(4)))
MARKETS = {f"P{n:02}": replace(OATS, code=f"P{n:02}") for n in range(len(ORDERS))}
NOW = datetime(2025, 3, 12, 12, tzinfo=UTC)
#: The session or the Tuesday that each of the four is of.
STATISTICS = (date(2025, 3, 3), date(2025, 3, 4), date(2025, 3, 4), date(2025, 3, 5))
REPORTS = (date(2025, 2, 18), date(2025, 2, 25), date(2025, 2, 25), date(2025, 3, 4))


def _utc(*texts: str) -> list[datetime]:
    return [datetime.fromisoformat(f"2025-03-{text}:00Z") for text in texts]


#: Before, after, at and after the cut-offs of sessions: 19:15, and 18:15 from 2025-03-09 on.
ARRIVALS = _utc("06T18:15", "06T20:15", "07T19:15", "10T18:16")
RELEASES = _utc("07T20:30", "08T12:00", "10T18:15", "11T12:00")


def held(lake: Lake, dataset: str) -> pl.DataFrame:
    """A dataset's rows as a source gives them."""
    rows = [pl.read_parquet(path, hive_partitioning=False) for path in lake.raw_files(dataset)]
    return pl.concat(rows).with_columns(market=pl.lit("ZO")).select(list(source_schema(dataset)))


def copies(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows once a market."""
    return pl.concat(rows.with_columns(market=pl.lit(code)) for code in MARKETS)


def late(
    rows: pl.DataFrame, day_column: str, days: Sequence[date], at: Sequence[datetime], value: str
) -> pl.DataFrame:
    """The rows of each of four days, those of the third revised, as they arrive in each order."""
    parts = []
    for code, order in zip(MARKETS, ORDERS, strict=True):
        for which, day in enumerate(days):
            part = rows.filter(pl.col(day_column) == day)
            if which == 2:
                part = part.with_columns(pl.col(value) + 7)
            known = pl.lit(at[order[which]]).cast(rows.schema["available_at"])
            parts.append(part.with_columns(market=pl.lit(code), available_at=known))
    return pl.concat(parts)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("interleaving")
    base, made = Lake(folder / "base"), Lake(folder / "lake")
    with base.writing(NOW):
        jobs.land_sample(base, [OATS], 7, NOW, lambda line: None)
    frames = {dataset: held(base, dataset) for dataset in ("cot", *_THIN)}
    with made.writing(NOW):
        payload = Payload("sample", "all but what is late", "0" * 64, _on_time(frames))
        land(made, payload, NOW, "sample")
        reports = late(frames["cot"], "report_date", REPORTS, RELEASES, "managed_money_long")
        for instant in RELEASES:
            arriving = reports.filter(pl.col("available_at") == instant)
            payload = Payload("sample", f"at {instant}", "1" * 64, iter([("cot", arriving)]))
            land(made, payload, instant, "sample")
        for market in MARKETS.values():
            derive(made, market, NOW)
        build(made, MARKETS, NOW)
    return made


#: Rows enough for one thin slice a session: what a dataset keeps of the sample's.
_EXPIRY = pl.col("contract").str.starts_with("OZOK5")
_THIN: Mapping[str, pl.Expr] = {
    "futures_definition": pl.lit(True),
    "option_definition": _EXPIRY,
    "futures_quote": pl.col("available_at").dt.hour() >= 18,
    "option_quote": _EXPIRY & (pl.col("available_at").dt.hour() >= 18),
    "futures_1d": pl.lit(True),
    "futures_stat": pl.lit(True),
    "option_stat": _EXPIRY,
}


def _on_time(frames: Mapping[str, pl.DataFrame]) -> Iterator[tuple[str, pl.DataFrame]]:
    for dataset, keep in _THIN.items():
        rows = frames[dataset].filter(keep)
        if dataset.endswith("_stat"):
            yield dataset, late(rows, "ref_date", STATISTICS, ARRIVALS, "quantity")
        else:
            yield dataset, copies(rows)
    old = frames["cot"].filter(pl.col("report_date") < REPORTS[0])
    yield "cot", copies(old)


def rows(lake: Lake, query: str) -> list[tuple[object, ...]]:
    connection = open_database(lake.database)
    try:
        found: list[tuple[object, ...]] = connection.sql(query).fetchall()
        return found
    finally:
        connection.close()


#: The slow oracle: every statistic known by each row's cut-off, and of those the newest.
_NEWEST = """
    select v.market, v.as_of, v.contract, any_value(v.{column}) as given,
        arg_max(s.quantity, row(s.as_of, s.available_at)) as newest
    from features.{view} as v
    left join raw.{dataset} as s
        on v.market = s.market and v.contract = s.contract and s.stat_type = {stat_type}
        and s.as_of <= v.as_of and s.available_at <= v.as_of
    where {which}
    group by all
"""


@pytest.mark.parametrize(
    ("view", "column", "dataset", "stat_type", "which"),
    [
        ("chain_v1", "open_interest", "option_stat", 9, "price_source = 'quote'"),
        ("chain_v1", "volume", "option_stat", 6, "price_source = 'quote'"),
        ("session_bar_v1", "open_interest", "futures_stat", 9, "true"),
        ("session_bar_v1", "volume", "futures_stat", 6, "true"),
    ],
)
def test_the_newest_of_what_had_arrived(
    lake: Lake, view: str, column: str, dataset: str, stat_type: int, which: str
) -> None:
    query = _NEWEST.format(
        view=view, column=column, dataset=dataset, stat_type=stat_type, which=which
    )
    (summary,) = rows(
        lake,
        "select count(*), count(distinct market), count(newest), "
        f"count(*) filter (given is distinct from newest) from ({query})",
    )
    count, seen, newest, wrong = summary
    assert (seen, wrong) == (len(ORDERS), 0), summary
    assert 0 < newest <= count
    # The order shows: what one market has at a cut-off, another has not.
    values = (
        f"select distinct as_of, contract, count(distinct newest) as n from ({query}) group by all"
    )
    assert rows(lake, f"select max(n) from ({values})") >= [(3,)]


@pytest.mark.parametrize(
    "t", [t + us for t in RELEASES for us in (-timedelta(microseconds=1), timedelta(0))]
)
def test_the_newest_report_that_was_out(lake: Lake, t: datetime) -> None:
    """Through both macros, the whole-spine one and the wide one, beside a look at every raw row."""
    oracle = f"""
        with newest as (
            select market, max(as_of) as as_of,
                arg_max(managed_money_long - managed_money_short, row(as_of, available_at)) as net
            from raw.cot
            where report = 'disaggregated_futures' and available_at <= '{t.isoformat()}'
            group by market
        )
        select n.market, case when count(c.as_of) <= 1 then any_value(n.net) end
        from newest as n
        left join meta.clock as c
            on n.market = c.market and c.clock = 'release' and n.as_of < c.as_of
            and c.known_at <= '{t.isoformat()}'
        group by n.market order by n.market
    """
    by_one = f"""
        select market, value from answers_at('{t.isoformat()}')
        where feature_name = 'cot_managed_money_net' order by market
    """
    wide = f"select market, cot_managed_money_net from daily_at('{t.isoformat()}') order by market"
    by_spine = f"""
        with spine as (select market, timestamptz '{t.isoformat()}' as t from meta.markets)
        select market, value from features_as_of('spine')
        where feature_name = 'cot_managed_money_net' order by market
    """
    expected = rows(lake, oracle)
    assert len(expected) == len(ORDERS)
    # Before the first arrival nothing of the last weeks is known, after the last one all is.
    assert len({net for _, net in expected}) > 2 or not RELEASES[0] <= t < RELEASES[-1]
    for query in (by_one, wide, by_spine):
        assert rows(lake, query) == expected


def test_every_view_at_every_arrival_is_what_was_known_then(lake: Lake) -> None:
    """A lake of what had arrived alone gives the same rows of every view, in every order."""
    views = {file.name for file in sqlfiles.features()}
    empty = {
        name for name in views if rows(lake, f"select count(*) from features.{name}") == [(0,)]
    }
    assert not empty
    instants = [ARRIVALS[1], RELEASES[2]]
    assert audit(lake, MARKETS, samples=0, instants=instants).findings == ()
