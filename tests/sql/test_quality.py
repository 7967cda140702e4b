"""sql/quality: each check finds what is wrong and leaves alone what is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl import engine, sqlfiles
from etl.market import markets

DAY = date(2025, 3, 6)


def times(bench, **values: Any) -> dict[str, Any]:
    cut_off = bench.session()["cut_off"]
    row = {
        "session_date": DAY,
        "price_source": "quote",
        "series": "HE",
        "expiry": date(2025, 4, 14),
        "as_of": cut_off,
        "available_at": cut_off,
    }
    return {**row, **values}


def found(bench, name: str, **run: datetime) -> list[tuple[Any, ...]]:
    """What a check finds; every check gives the same four columns."""
    rows = bench.check(name, **run)
    for row in rows:
        assert list(row) == ["market", "session_date", "subject", "reason"]
        assert None not in row.values(), "a finding without a reason says nothing"
        assert row["market"] == "HE"
    return sorted(tuple(row.values())[1:] for row in rows)


def test_every_check_is_tested_here() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {check.name for check in sqlfiles.checks()} <= tested


def test_arbitrage(bench) -> None:
    def row(series: str, butterfly: bool | None, calendar: bool | None, quality: str = "full"):
        free = {"butterfly_free": butterfly, "calendar_free": calendar}
        return times(bench, series=series, data_quality=quality, **free)

    bench.given(
        "surface_v1",
        row("FREE", True, True),
        row("BOTH", False, False),
        row("BUTTERFLY", False, True),
        row("CALENDAR", True, False),
        row("THIN", None, None, "degraded"),
    )
    by_series = {subject.split()[1]: reason for _, subject, reason in found(bench, "arbitrage")}
    assert by_series == {
        "BOTH": "negative density",
        "BUTTERFLY": "negative density",
        "CALENDAR": "total variance below an earlier expiry's",
    }


def test_bad_bar(bench) -> None:
    def bar(contract: str, open: Any, high: Any, low: Any, close: Any) -> None:
        bench.bar(contract, close, bench.at("15:00"), open=open, high=high, low=low)

    bar("GOOD", 90.0, 91.0, 89.0, 90.5)
    bar("EDGE", 91.0, 91.0, 89.0, 89.0)
    bar("BELOW ZERO", -37.0, -36.0, -38.0, -37.5)
    bar("SWAPPED", 90.0, 89.0, 91.0, 90.0)
    bar("OPEN", 92.0, 91.0, 89.0, 90.0)
    bar("CLOSE", 90.0, 91.0, 89.0, 88.9)
    bar("HALF", 90.0, 91.0, None, 90.0)
    bar("NAN", 90.0, math.nan, 89.0, 90.0)
    bench.prepare()
    subjects = [subject for _, subject, _ in found(bench, "bad_bar")]
    assert subjects == [f"futures_1m {c}" for c in ("CLOSE", "HALF", "NAN", "OPEN", "SWAPPED")]


#: Classes with a spread and without, of each dataset of reports.
COT_CLASSES = {
    "cot": (("swap", "managed_money", "other_reportable"), ("prod_merc", "nonreportable")),
    "cot_legacy": (("noncommercial",), ("commercial", "nonreportable")),
    "cot_financial": (
        ("dealer", "asset_manager", "leveraged", "other_reportable"),
        ("nonreportable",),
    ),
}


def test_cot_sums(bench) -> None:
    for dataset, (spreading, others) in COT_CLASSES.items():
        classes = spreading + others
        sides = {
            **{f"{name}_long": 100 + i for i, name in enumerate(classes)},
            **{f"{name}_short": 100 + i for i, name in enumerate(reversed(classes))},
            **{f"{name}_spread": 10 for name in spreading},
        }
        total = sum(100 + i for i in range(len(classes))) + 10 * len(spreading)
        wrong = [
            {},
            {"open_interest": total + 1},
            *({f"{name}_{side}": 7} for name in classes for side in ("long", "short")),
            *({f"{name}_spread": 7} for name in spreading),
            {f"{classes[0]}_short": None},  # not disclosed: there is nothing to add up
        ]
        for week, values in enumerate(wrong):
            row = {"report_date": DAY + timedelta(weeks=week), "open_interest": total}
            bench.land(dataset, report=f"{dataset}_combined", **{**row, **sides, **values})
        bench.prepare()
        findings = [row for row in found(bench, "cot_sums") if row[1] == f"{dataset}_combined"]
        days = [day for day, _, _ in findings]
        assert days == [DAY + timedelta(weeks=week) for week in range(1, len(wrong) - 1)]
        assert f"open interest {total + 1}, long" in findings[0][2]


def test_crossed_quotes(bench) -> None:
    def row(contract: str, bid: float | None, ask: float | None, **values: Any):
        return times(bench, contract=contract, bid=bid, ask=ask, **values)

    bench.given(
        "chain_v1",
        row("A", 1.0, 1.1),
        row("C", 1.0, None),
        row("D", 1.2, 1.1, quarantine="crossed"),
        row("E", 1.3, 1.1, quarantine="crossed"),
        row("F", 1.2, 1.1, quarantine="outlier", price_source="settlement"),
        row("G", 1.2, 1.2, quarantine="locked"),
    )
    ((day, subject, reason),) = found(bench, "crossed_quotes")
    assert (day, subject) == (DAY, "HE 2025-04-14")
    assert reason == "2 crossed quotes, first D"


@pytest.mark.parametrize(
    ("mass", "mean", "is_wrong"),
    [
        (1.0, 90.0, False),
        (1 + 9e-7, 90 * (1 - 9e-7), False),
        (0.99, 90.0, True),
        (1.0, 90.01, True),
        (None, 90.0, True),
        (math.nan, 90.0, True),
    ],
)
def test_density_mass(bench, mass: float | None, mean: float, is_wrong: bool) -> None:
    row = times(bench, mass=mass, mean=mean, forward=90.0, data_quality="full")
    thin = times(bench, series="THIN", forward=90.0, data_quality="degraded")
    bench.given("moments_v1", row, thin)
    assert len(found(bench, "density_mass")) == is_wrong


def test_missing_session(bench) -> None:
    sessions = [date(2025, 3, day) for day in (3, 4, 6, 7, 11)]
    bench.quote("HEJ5 C90", 1.0, 1.1)
    bench.prepare()
    bench.given("chain_v1", *(times(bench, session_date=day) for day in sessions))
    days = [day for day, _, _ in found(bench, "missing_session")]
    assert days == [date(2025, 3, 5), date(2025, 3, 10)]


def test_missing_session_leaves_chain_files_alone(bench) -> None:
    bench.quote("HEJ5 C90", 1.0, 1.1, feed="snapshot", source="chain-generic")
    bench.prepare()
    days = (date(2025, 3, 3), date(2025, 3, 7))
    bench.given("chain_v1", *(times(bench, session_date=day) for day in days))
    assert found(bench, "missing_session") == []


def test_missing_session_of_a_future(bench) -> None:
    for day in (3, 4, 6):
        bench.bar("HEJ5", 90.0, bench.at("15:00", date(2025, 3, day)))
    bench.bar("HEJ5", 90.0, bench.at("20:00", date(2025, 3, 5)))
    bench.land("futures_1d", contract="HEJ5", at=bench.at("00:00", date(2025, 3, 11)), close=90.0)
    bench.prepare()
    bench.given("chain_v1")
    assert found(bench, "missing_session") == [
        (date(2025, 3, 5), "futures_bar", "no bar, though sessions before and after have one"),
        (date(2025, 3, 7), "futures_bar", "no bar, though sessions before and after have one"),
    ]


def test_missing_strikes(bench) -> None:
    def row(strike: float, mid: float | None, open_interest: int, kind: str = "C", **values: Any):
        quote = {"bid": mid, "ask": mid, "mid": mid, "open_interest": open_interest}
        return times(bench, strike=strike, option_type=kind, **{**quote, **values})

    bench.given(
        "chain_v1",
        row(80.0, 10.0, 100),
        row(85.0, None, 51),
        row(86.0, None, 50),
        row(90.0, None, 100, bid=1.0),
        row(95.0, 1.0, 100),
        row(100.0, None, 100),
        row(85.0, None, 100, "P"),
    )
    ((day, subject, reason),) = found(bench, "missing_strikes")
    assert (day, subject) == (DAY, "HE 2025-04-14")
    assert reason == "1 of its options with open interest have no quote, first strike 85.0"


def test_negative_open_interest(bench) -> None:
    def row(contract: str, open_interest: int | None, volume: int | None):
        return times(bench, contract=contract, open_interest=open_interest, volume=volume)

    bench.given(
        "chain_v1", row("A", 0, 0), row("B", None, None), row("C", -1, 5), row("D", 5, -1),
        row("E", -1, None),
    )  # fmt: skip
    subjects = [subject for _, subject, _ in found(bench, "negative_open_interest")]
    assert subjects == ["C", "D", "E"]


GOOD_FRIDAY = date(2025, 4, 18)


def test_off_calendar_finds_nothing_in_the_sample(sample_lake) -> None:
    (check,) = [check for check in sqlfiles.checks() if check.name == "off_calendar"]
    with sample_lake.connect() as connection:
        ((bars, quotes),) = connection.sql(
            "select (select count(*) from raw.futures_1m), (select count(*) from raw.option_quote)"
        ).fetchall()
        assert min(bars, quotes) > 0
        assert connection.sql(check.body).fetchall() == []


def test_off_calendar(bench) -> None:
    """Rows of each kind on a holiday."""
    assert bench.rows("meta.sessions", f"session_date = '{GOOD_FRIDAY}'") == []
    bench.bar("HEJ5", 90.0, bench.at("15:00", GOOD_FRIDAY))
    bench.bar("HEM5", 91.0, bench.at("15:00", GOOD_FRIDAY))
    bench.bar("HEJ5", 90.0, bench.at("15:01", GOOD_FRIDAY))
    day_bar = datetime(2025, 4, 19, tzinfo=UTC)
    bench.land("futures_1d", contract="HEJ5", at=day_bar, close=90.0)
    bench.quote("HEJ5 C90", 1.0, 1.1, at=bench.at("14:00", GOOD_FRIDAY))
    bench.quote("HEJ5", 89.0, 91.0, at=bench.at("14:00", GOOD_FRIDAY))
    bench.prepare()
    rows = {subject: (day, reason) for day, subject, reason in found(bench, "off_calendar")}
    assert set(rows) == {"futures_1m", "futures_1d", "option_quote", "futures_quote"}
    assert {day for day, _ in rows.values()} == {GOOD_FRIDAY}
    assert rows["futures_1m"][1].startswith("3 rows outside every session of the calendar, first")
    assert "2025-04-18 14:59:00+00 to 2025-04-18 15:00:00+00" in rows["futures_1m"][1]


def test_off_calendar_knows_the_hours_of_a_bar_and_the_day_of_a_quote(bench) -> None:
    session = bench.session()
    minute = timedelta(minutes=1)
    # The first bar ends a minute after the open; the closing trade may print just after the close.
    for end in (session["open_at"] + minute, session["close_at"], session["close_at"] + minute):
        bench.bar("HEJ5", 90.0, end)
    bench.land("futures_1d", contract="HEJ5", at=bench.at("00:00", date(2025, 3, 7)), close=90.0)
    bench.quote("HEJ5 C90", 1.0, 1.1, at=session["open_at"] - timedelta(hours=1))
    bench.quote("HEJ5 C90", 1.0, 1.1, at=session["close_at"] + timedelta(hours=3))
    bench.quote("HEJ5 C90", 1.0, 1.1, at=bench.at("14:00", GOOD_FRIDAY), feed="snapshot")
    bench.prepare()
    assert found(bench, "off_calendar") == []
    for end in (session["open_at"], session["close_at"] + 2 * minute):
        bench.bar("HEJ5", 90.0, end)
    bench.prepare()
    ((day, subject, reason),) = found(bench, "off_calendar")
    assert (day, subject) == (DAY, "futures_1m")
    assert reason.startswith("2 rows outside")


def test_off_calendar_of_a_session_that_opens_in_the_evening_before(make_bench) -> None:
    bench = make_bench("ES")
    sunday, saturday = date(2025, 3, 9), date(2025, 3, 8)
    bench.bar("ESM5", 5700.0, bench.at("22:30", sunday))
    for dataset_day in (sunday, saturday):
        end = bench.at("00:00", dataset_day + timedelta(days=1))
        bench.land("futures_1d", contract="ESM5", at=end, close=5700.0)
    bench.quote("ESM5", 5700.0, 5701.0, at=bench.at("21:30", sunday))
    bench.quote("ESM5", 5700.0, 5701.0, at=bench.at("18:00", saturday))
    bench.prepare()
    rows = sorted(bench.check("off_calendar"), key=lambda row: row["subject"])
    assert [(row["session_date"], row["subject"]) for row in rows] == [
        (saturday, "futures_1d"),
        (saturday, "futures_quote"),
    ]


def returns(bench, values: list[float | None]) -> None:
    days = [row["session_date"] for row in bench.rows("meta.sessions")]
    rows = [
        {"session_date": day, "contract": "HEJ5", "return_1d": value}
        for day, value in zip(days, values, strict=False)
    ]
    bench.given("futures_v1", *rows)


def test_price_jump(bench) -> None:
    ordinary: list[float | None] = np.random.default_rng(3).normal(0, 0.01, 40).tolist()
    returns(bench, [*ordinary, None, 0.03])
    assert found(bench, "price_jump") == []
    returns(bench, [*ordinary, -0.5])
    ((_, subject, reason),) = found(bench, "price_jump")
    assert (subject, reason) == ("HEJ5", "return of -50.0 % in one session")


def test_price_jump_needs_twenty_returns_that_move(bench) -> None:
    returns(bench, [*([0.01, -0.01] * 9), 0.9])
    assert found(bench, "price_jump") == []
    returns(bench, [*([0.0] * 30), 0.9])
    assert found(bench, "price_jump") == []


def freshness(bench, built_at: datetime, sources: dict[str, tuple[datetime, datetime]]) -> None:
    """``quality.freshness`` as the build makes it, of sources with one row each."""
    if "cot" in sources:
        as_of, available_at = sources["cot"]
        bench.land("cot", as_of=as_of, available_at=available_at)
    bench.prepare()
    tables = {"futures": "futures_v1", "options_quote": "chain_v1"}
    for source, table in tables.items():
        row = dict(zip(("as_of", "available_at"), sources.get(source, ()), strict=False))
        if row and source == "options_quote":
            row["price_source"] = "quote"
        bench.given(table, *([row] if row else []))
    bench.reference(built_at)
    bench.macros()
    select = "from freshness_at((select built_at from meta.builds))"
    engine.create_as(bench.connection, "quality.freshness", select)


def test_stale_source(bench) -> None:
    thursday, friday, monday = (
        bench.session(day)["cut_off"] for day in (DAY, date(2025, 3, 7), date(2025, 3, 10))
    )
    report = (bench.at("22:00", date(2025, 3, 4)), datetime(2025, 3, 7, 20, 30, tzinfo=UTC))
    sources = {
        "futures": (friday, friday),
        "options_quote": (thursday, thursday),
        "cot": report,
    }
    freshness(bench, monday, sources)
    rows = {
        row["source"]: (row["ticks_behind"], row["state"])
        for row in bench.rows("quality.freshness")
    }
    assert rows == {
        "futures": (1, "fresh"),
        "options_quote": (2, "stale"),
        "cot": (0, "fresh"),
    }
    ((day, subject, reason),) = found(bench, "stale_source", run_at=monday)
    assert (day, subject) == (DAY, "options_quote")
    assert "2 sessions behind, limit 1" in reason


def test_stale_source_of_a_market_that_was_never_landed(bench) -> None:
    freshness(bench, bench.session()["cut_off"], {})
    assert bench.rows("quality.freshness") == []
    assert found(bench, "stale_source") == []


# --- freshness ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("until", "is_wrong"), [("18:59", False), ("19:01", True)])
def test_nothing_new(bench, until: str, is_wrong: bool) -> None:
    """Asked twelve hours after Friday's cut-off or later, a source has to have Friday."""
    thursday = bench.session()["cut_off"]
    freshness(bench, bench.session(date(2025, 3, 7))["cut_off"], {"futures": (thursday, thursday)})
    asked = bench.at(until, date(2025, 3, 7)) + timedelta(hours=12)
    reach = {"source": ["databento"], "market": ["HE"], "until": [asked]}
    engine.create_table(bench.connection, "meta.reach", pl.DataFrame(reach))
    rows = found(bench, "nothing_new")
    assert [(day, subject) for day, subject, _ in rows] == [(DAY, "futures")] * is_wrong


def test_nothing_new_of_the_cftc(bench) -> None:
    report = (bench.at("22:00", date(2025, 3, 4)), bench.at("20:30", date(2025, 3, 7)))
    freshness(bench, bench.at("00:00", date(2025, 3, 16)), {"cot": report})
    for day, is_wrong in ((13, False), (15, True)):
        reach = {
            "source": "cftc-disaggregated_futures",
            "market": "HE",
            "until": bench.at("12:00", date(2025, 3, day)),
        }
        engine.create_table(bench.connection, "meta.reach", pl.DataFrame([reach]))
        assert len(found(bench, "nothing_new")) == is_wrong


def chain(
    bench, strikes: Sequence[float] = tuple(range(80, 101, 2)), day: date = DAY, **values: Any
) -> list[dict[str, Any]]:
    """Rows of a slice, calls and puts, whose prices are in order."""
    rows = []
    for kind in "CP":
        for strike in strikes:
            mid = bench.black76(90.0, strike, 0.2, 0.3, 0.0, kind)
            row = {
                "session_date": day,
                "contract": f"HEJ5 {kind}{strike:g}",
                "instrument_id": int(10 * strike) + (kind == "C"),
                "underlying": "HEJ5",
                "option_type": kind,
                "strike": float(strike),
                "bid": mid * 0.98,
                "ask": mid * 1.02,
                "mid": mid,
                "settlement": mid,
                "forward": 90.0,
                "forward_source": "future_quote",
                "discount": 1.0,
                "delta": 0.5,
                "open_interest": 100,
                "is_liquid": True,
                "expiration": datetime(2025, 4, 14, 17, tzinfo=UTC),
                "as_of": bench.session(day)["cut_off"],
                **values,
            }
            rows.append(times(bench, **row))
    return rows


def days(bench, n: int, first: date = date(2025, 1, 6)) -> list[date]:
    """The first ``n`` sessions from a date on."""
    rows = bench.rows("meta.sessions", f"session_date >= '{first}'")
    return [row["session_date"] for row in rows[:n]]


def test_frozen_prices(bench) -> None:
    first, second = days(bench, 2)
    moved = chain(bench, day=second)
    for row in moved:
        row["bid"] += 0.025
    bench.given("futures_v1")
    for rows, is_wrong in ((moved, False), (chain(bench, day=second), True)):
        bench.given("chain_v1", *chain(bench, day=first), *rows)
        assert [(day, subject) for day, subject, _ in found(bench, "frozen_prices")] == [
            (second, "quote HE 2025-04-14")
        ] * is_wrong


def test_frozen_prices_near_nothing_are_no_fault(bench) -> None:
    rows = [
        row
        for day in days(bench, 2)
        for row in chain(bench, day=day, bid=0.025, ask=0.05, mid=0.0375)
    ]
    bench.given("futures_v1")
    bench.given("chain_v1", *rows)
    assert found(bench, "frozen_prices") == []


def test_frozen_prices_of_settlements_and_futures(bench) -> None:
    first, second = days(bench, 2)
    settled = [
        row for day in (first, second) for row in chain(bench, day=day, price_source="settlement")
    ]
    bench.given("chain_v1", *settled)
    for closes, is_wrong in (((90.0, 91.0, 92.0), True), ((90.0, 91.0, 92.1), False)):
        curve = [
            {"session_date": day, "contract": f"HE{n}", "close": close, "volume": 10,
             "as_of": bench.session(day)["cut_off"]}
            for day, prices in ((first, (90.0, 91.0, 92.0)), (second, closes))
            for n, close in enumerate(prices)
        ]  # fmt: skip
        bench.given("futures_v1", *curve)
        subjects = {subject for _, subject, _ in found(bench, "frozen_prices")}
        assert subjects == {"settlement HE 2025-04-14"} | ({"futures"} if is_wrong else set())


# --- completeness -------------------------------------------------------------------------------


def test_strike_gap(bench) -> None:
    for strike in (80, 85, 90, 92, 94, 98, 100, 102, 110):  # 96 is missing; coarse far out is not
        bench.list_option(f"HEJ5 C{strike}")
    bench.prepare()
    ((day, subject, reason),) = found(bench, "strike_gap")
    assert (day, subject) == (date(2025, 4, 14), "HE 2025-04-14")
    assert reason == "1 gaps in the listed strikes, first between 94.0 and 98.0"


@pytest.mark.parametrize(
    ("expiration", "n", "is_wrong"),
    [("2025-04-14", 3, True), ("2025-04-14", 2, False), ("2025-03-07", 3, False)],
)
def test_lost_expiry(bench, expiration: str, n: int, is_wrong: bool) -> None:
    """An expiry of which three options were quoted, and which is not over, cannot be gone."""
    bench.quote("HEJ5 C90", 1.0, 1.1)
    bench.prepare()
    over = datetime.fromisoformat(f"{expiration}T17:00:00+00:00")
    first, second = DAY, date(2025, 3, 7)
    lost = chain(bench, (88.0, 90.0, 92.0)[:n], first, expiration=over)[:n]
    kept = [
        row for day in (first, second) for row in chain(bench, day=day, expiry=date(2025, 5, 14))
    ]
    bench.given("chain_v1", *lost, *kept)
    assert [day for day, _, _ in found(bench, "lost_expiry")] == [second] * is_wrong


@pytest.mark.parametrize(("check", "field"), [("quote_count", "bid"), ("liquid_count", "strike")])
def test_quote_count(bench, check: str, field: str) -> None:
    """Half a chain is found, also after another one, and new strikes are no fault."""
    *before, half, good, again, more = days(bench, 16)
    rows = [row for day in before for row in chain(bench, day=day)]
    for day in (half, again):
        rows += chain(bench, tuple(range(80, 90, 2)), day)
    rows += chain(bench, day=good) + chain(bench, tuple(range(70, 120, 2)), more)
    bench.given("chain_v1", *rows)
    assert [day for day, _, _ in found(bench, check)] == [half, again]


test_liquid_count = test_quote_count


def test_quote_count_knows_expiries(bench) -> None:
    """An expiry that ends or begins changes no other's count."""
    *before, last = days(bench, 12)
    rows = [row for day in before for row in chain(bench, day=day, expiry=date(2025, 2, 14))]
    rows += [row for day in [*before, last] for row in chain(bench, day=day)]
    rows += chain(bench, day=last, expiry=date(2025, 6, 13))
    bench.given("chain_v1", *rows)
    assert found(bench, "quote_count") == found(bench, "liquid_count") == []


def test_row_count(bench) -> None:
    """Rows a contract: twice as many are found, a second contract is not."""
    *before, twice, wider = days(bench, 12)
    for day in (*before, twice, wider):
        for minute in range(8 if day == twice else 4):
            at = bench.at("18:00", day) + timedelta(minutes=minute)
            for contract in ("HEJ5 C90", "HEJ5 P90")[: 2 if day == wider else 1]:
                bench.quote(contract, 1.0, 1.1, at=at)
    bench.prepare()
    ((day, subject, reason),) = found(bench, "row_count")
    assert (day, subject) == (twice, "option_quote")
    assert reason == "8.0 rows a contract, median 4.0 of the 10 days before"
    # The day of the run is not over.
    assert bench.check("row_count", bench.at("20:00", twice)) == []


def test_duplicate_rows(bench) -> None:
    first, second = days(bench, 2)
    for minute in range(10):
        for day in (first, second):
            at = bench.at("18:00", day) + timedelta(minutes=minute)
            bench.quote("HEJ5 C90", 1.0, 1.1, at=at, sequence=minute)
            if day == second:
                bench.quote("HEJ5 C90", 1.0, 1.1, at=at, sequence=100 + minute)
            bench.quote("HEJ5", 89.0, 91.0, at=at, sequence=minute)
            # Another size is another state of the book.
            bench.quote("HEJ5", 89.0, 91.0, at=at, sequence=100 + minute, bid_size=2)
    bench.prepare()
    assert found(bench, "duplicate_rows") == [
        (second, "option_quote", "10 of 20 rows repeat another one")
    ]


def test_vendor_day(bench) -> None:
    saturday = date(2025, 3, 8)
    said = {
        date(2025, 3, 5): "available",
        DAY: "degraded",
        date(2025, 3, 7): "missing",
        saturday: "missing",
    }
    rows = {
        "market": ["HE"] * len(said),
        "dataset": ["GLBX.MDP3"] * len(said),
        "day": list(said),
        "condition": list(said.values()),
    }
    engine.create_table(bench.connection, "meta.vendor_days", pl.DataFrame(rows))
    assert found(bench, "vendor_day") == [
        (DAY, "GLBX.MDP3", f"the vendor calls {DAY} degraded"),
        (date(2025, 3, 7), "GLBX.MDP3", "the vendor calls 2025-03-07 missing"),
    ]


# --- validity -----------------------------------------------------------------------------------


def test_swapped_quotes(bench) -> None:
    few, most = chain(bench), chain(bench, series="LE")
    for rows, n in ((few, 3), (most, 12)):
        for row in rows[:n]:
            row["bid"], row["ask"] = row["ask"], row["bid"]
    bench.given("chain_v1", *few, *most)
    ((_, subject, reason),) = found(bench, "swapped_quotes")
    assert (subject, reason) == (
        "LE 2025-04-14",
        "12 of 22 quotes are crossed, first HEJ5 C100",
    )


@pytest.mark.parametrize(
    ("check", "why"),
    [("locked_quotes", "locked"), ("stale_quotes", "stale"), ("outlier_prices", "outlier")],
)
def test_locked_quotes(bench, check: str, why: str) -> None:
    """What is in quarantine is named, once a slice, with its reason's own check."""
    rows = chain(bench, quote_as_of=bench.session()["snapshot_at"])
    rows[0]["quarantine"] = rows[1]["quarantine"] = why
    rows[2]["quarantine"] = "crossed"
    bench.given("chain_v1", *rows)
    ((day, subject, reason),) = found(bench, check)
    assert (day, subject.removeprefix("quote ")) == (DAY, "HE 2025-04-14")
    assert reason.startswith("2 ")


test_stale_quotes = test_outlier_prices = test_locked_quotes


def test_stale_quotes_of_a_whole_chain(bench) -> None:
    for minutes, is_wrong in ((240, False), (241, True)):
        at = bench.session()["snapshot_at"] - timedelta(minutes=minutes)
        bench.given("chain_v1", *chain(bench, quote_as_of=at))
        subjects = [subject for _, subject, _ in found(bench, "stale_quotes")]
        assert subjects == ["option_quote"] * is_wrong


@pytest.mark.parametrize(
    ("bid", "ask", "is_wrong"),
    [
        (0.0, 1.0, False),
        (None, 1.0, False),
        (None, None, False),
        (0.0, 0.0, True),
        (-1.0, 1.0, True),
        (1.0, math.inf, True),
        (math.nan, 1.0, True),
    ],
)
def test_zero_quotes(bench, bid: float | None, ask: float | None, is_wrong: bool) -> None:
    bench.given("chain_v1", times(bench, contract="A", bid=bid, ask=ask))
    assert len(found(bench, "zero_quotes")) == is_wrong


def test_the_ladder_checks_leave_a_sound_slice_alone(bench) -> None:
    bench.given("chain_v1", *chain(bench), *chain(bench, series="LE", price_source="settlement"))
    for name in ("not_monotone", "not_convex", "parity_broken", "calendar_quotes"):
        assert found(bench, name) == [], name


def priced(rows: list[dict[str, Any]], kind: str, strike: float, mid: float) -> None:
    """Give one row of a slice another price."""
    (row,) = [row for row in rows if (row["option_type"], row["strike"]) == (kind, strike)]
    row.update(bid=mid * 0.98, ask=mid * 1.02, mid=mid)


@pytest.mark.parametrize(
    ("kind", "strike", "mid"),
    [("C", 96.0, 4.0), ("P", 84.0, 4.0), ("C", 90.0, 8.0), ("P", 90.0, 8.0)],
)
def test_not_monotone(bench, kind: str, strike: float, mid: float) -> None:
    """Above a dearer neighbour, or further from it than the strikes are apart."""
    rows = chain(bench)
    priced(rows, kind, strike, mid)
    bench.given("chain_v1", *rows)
    ((_, subject, _),) = found(bench, "not_monotone")
    assert subject == "HE 2025-04-14"


def test_not_convex(bench) -> None:
    rows = chain(bench)
    at = {row["strike"]: row["mid"] for row in rows if row["option_type"] == "C"}
    priced(rows, "C", 90.0, 0.5 * (at[88.0] + at[92.0]))  # within the spread of a line
    bench.given("chain_v1", *rows)
    assert found(bench, "not_convex") == []
    priced(rows, "C", 90.0, 0.55 * (at[88.0] + at[92.0]))
    bench.given("chain_v1", *rows)
    ((_, _, reason),) = found(bench, "not_convex")
    assert reason == "1 butterflies below zero, first at HEJ5 C90"
    assert found(bench, "not_monotone") == []


@pytest.mark.parametrize("european", [False, True])
def test_parity_broken(make_bench, european: bool) -> None:
    """American options may be off by the interest that early exercise saves."""
    bench = make_bench("HE", exercise="european" if european else "american")
    # Interest of 2 % on 100 is 2.00: allowed to an American call, wrong for a European one.
    rows = chain(bench, (88.0, 100.0), discount=0.98)
    for row in rows:
        forward = 90.0 + (0.5 if row["option_type"] == "C" else 0.0)
        mid = bench.black76(forward, row["strike"], 0.2, 0.3, 0.0, row["option_type"])
        row.update(bid=mid * 0.999, ask=mid * 1.001, mid=mid)
    bench.given("chain_v1", *rows)
    assert len(found(bench, "parity_broken")) == european
    priced(rows, "C", 88.0, 9.0)
    bench.given("chain_v1", *rows)
    ((_, _, reason),) = found(bench, "parity_broken")
    assert reason.endswith("first HEJ5 C88") or european


def test_calendar_quotes(bench) -> None:
    later = {"expiry": date(2025, 5, 14), "expiration": datetime(2025, 5, 14, 17, tzinfo=UTC)}
    early, late = chain(bench), chain(bench, **later)
    bench.given("chain_v1", *early, *late)
    assert found(bench, "calendar_quotes") == []
    priced(late, "C", 90.0, 1.0)
    other = chain(bench, **later, underlying="HEM5", series="LE", bid=0.01, ask=0.02, mid=0.015)
    bench.given("chain_v1", *early, *late, *other)
    ((_, subject, reason),) = found(bench, "calendar_quotes")
    assert subject == "HE 2025-05-14"
    assert reason == "1 options cheaper than those that expire on 2025-04-14, first HEJ5 C90"


def test_volume_jump(bench) -> None:
    rng = np.random.default_rng(5)
    sessions = days(bench, 41)

    def rows(last: int) -> list[dict[str, Any]]:
        volumes = [*np.exp(rng.normal(9, 0.3, 40)).astype(int).tolist(), last]
        return [
            {"session_date": day, "contract": "HEJ5", "volume": volume,
             "as_of": bench.session(day)["cut_off"]}
            for day, volume in zip(sessions, volumes, strict=True)
        ]  # fmt: skip

    for last, is_wrong in ((16_000, False), (1_000_000, True), (1, True)):
        bench.given("futures_v1", *rows(last))
        assert [day for day, _, _ in found(bench, "volume_jump")] == sessions[-1:] * is_wrong


@pytest.mark.parametrize(("factor", "is_wrong"), [(1.2, False), (2.0, True), (0.4, True)])
def test_open_interest_jump(bench, factor: float, is_wrong: bool) -> None:
    *before, last = days(bench, 12)
    rows, curve = [], []
    for n, day in enumerate([*before, last]):
        held = int(102 * factor) if day == last else 100 + n % 3
        rows += chain(bench, day=day, open_interest=held)
        curve.append({"session_date": day, "contract": "HEJ5", "open_interest": 10 * held,
                      "t_years": 0.1, "as_of": bench.session(day)["cut_off"]})  # fmt: skip
    new = (102.0, 104.0, 106.0, 108.0, 110.0)  # newly listed strikes are no jump
    rows += chain(bench, new, last, open_interest=1000)
    bench.given("chain_v1", *rows)
    bench.given("futures_v1", *curve)
    assert [(day, subject) for day, subject, _ in found(bench, "open_interest_jump")] == [
        (last, "HE 2025-04-14"),
        (last, "HEJ5"),
    ][: 2 * is_wrong]


def test_settlement_off_quotes(bench) -> None:
    """The future went up by 1 from snapshot to settlement, which is worth 0.50 of an option."""
    settled = {"price_source": "settlement", "forward": 91.0}
    for off, is_wrong in ((0.5, False), (2.0, True)):
        rows = chain(bench, **settled)
        for row in rows:
            row["settlement"] += off
        bench.given("chain_v1", *chain(bench), *rows)
        subjects = [subject for _, subject, _ in found(bench, "settlement_off_quotes")]
        assert subjects == ["HE 2025-04-14"] * is_wrong


# --- COT ----------------------------------------------------------------------------------------

POSITIONS = {
    "open_interest": 1000,
    **{f"{name}_{side}": 100 for name in ("prod_merc", "swap", "managed_money",
       "other_reportable", "nonreportable") for side in ("long", "short")},
    **{f"{name}_spread": 50 for name in ("swap", "managed_money", "other_reportable")},
    **{f"{name}_net": 0 for name in ("prod_merc", "swap", "managed_money",
       "other_reportable", "nonreportable")},
}  # fmt: skip


def report(day: date, **values: Any) -> dict[str, Any]:
    released = datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=3)
    row = {"report": "disaggregated_futures", "report_date": day, "available_at": released}
    return {**row, **POSITIONS, **values}


def test_cot_off_calendar(bench) -> None:
    tuesdays = [date(2025, 10, 28) + timedelta(weeks=n) for n in range(6)]
    held = [day for day in tuesdays if day not in (date(2025, 11, 11), date(2025, 11, 25))]
    # Veterans Day is a Tuesday: the report is of the Monday.  A Thursday is of no report.
    for day in (*held, date(2025, 11, 10), date(2025, 11, 20)):
        bench.land("cot", at=bench.at("22:00", day), report_date=day)
    bench.prepare()
    assert found(bench, "cot_off_calendar") == [
        (date(2025, 11, 20), "disaggregated_futures", "no report is due of a Thursday"),
        (
            date(2025, 11, 25),
            "disaggregated_futures",
            "1 weeks without a report up to that of 2025-12-02",
        ),
    ]


def test_cot_class_missing(bench) -> None:
    weeks = [date(2025, 3, 4) + timedelta(weeks=n) for n in range(3)]
    lacking = [{}, {"swap_spread": None}, {"open_interest": None, "nonreportable_long": None}]
    names = [name for name in POSITIONS if not name.endswith("_net")]
    for week, values in zip(weeks, lacking, strict=True):
        whole = {name: POSITIONS[name] for name in names}
        bench.land("cot", at=bench.at("22:00", week), report_date=week, **{**whole, **values})
    legacy = {f"{name}_{side}": 1 for name in ("commercial", "noncommercial", "nonreportable")
              for side in ("long", "short")}  # fmt: skip
    for week, spread in zip(weeks[:2], (1, None), strict=True):
        row = {**legacy, "open_interest": 9, "noncommercial_spread": spread}
        bench.land("cot_legacy", report="legacy_futures", report_date=week, **row)
    bench.prepare()
    assert found(bench, "cot_class_missing") == [
        (weeks[1], "disaggregated_futures", "no swap dealers"),
        (weeks[1], "legacy_futures", "no non-commercials"),
        (weeks[2], "disaggregated_futures", "no open interest, small traders"),
    ]


@pytest.mark.parametrize(("net", "is_wrong"), [(50, False), (51, True), (-51, True)])
def test_cot_revision(bench, net: int, is_wrong: bool) -> None:
    day, later = date(2025, 3, 4), date(2025, 3, 11)
    again = report(day)["available_at"] + timedelta(days=7)
    revised = report(day, managed_money_net=net, available_at=again)
    bench.given("cot_v1", report(day), revised, report(later, managed_money_net=400))
    assert [found_on for found_on, _, _ in found(bench, "cot_revision")] == [day] * is_wrong


def test_cot_frozen(bench) -> None:
    weeks = [date(2025, 3, 4) + timedelta(weeks=n) for n in range(3)]
    bench.given(
        "cot_v1",
        report(weeks[0], swap_long=99),
        report(weeks[1]),
        report(weeks[2]),
    )
    ((day, _, reason),) = found(bench, "cot_frozen")
    assert (day, reason) == (weeks[2], "all numbers are those of 2025-03-11")


# --- drift --------------------------------------------------------------------------------------


def test_distribution_drift(bench) -> None:
    rng = np.random.default_rng(7)
    *before, last = days(bench, 26)

    def rows(day: date, wide: float) -> list[dict[str, Any]]:
        spreads = 0.1 * wide * np.exp(rng.normal(0, 0.3, 200))
        return [
            times(bench, session_date=day, spread_pct=spread, iv=0.3, open_interest=100)
            for spread in spreads.tolist()
        ]

    history = [row for day in before for row in rows(day, 1.0)]
    for wide, is_wrong in ((1.1, False), (3.0, True)):
        bench.given("chain_v1", *history, *rows(last, wide))
        rows_found = [(day, subject) for day, subject, _ in found(bench, "distribution_drift")]
        assert rows_found == [(last, "spread_pct")] * is_wrong


# --- model --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("atm_iv", "kurtosis", "forward", "says"),
    [
        (0.44, 4.0, 90.0, None),
        (0.46, 4.0, 90.0, "at-the-money vol from 0.300 to 0.460"),
        (0.19, 4.0, 90.0, "at-the-money vol from 0.300 to 0.190"),
        (0.46, 4.0, 95.0, None),  # the market moved, and vol with it
        (0.30, 6.1, 90.0, "kurtosis from 4.00 to 6.10"),
    ],
)
def test_moment_jump(
    bench, atm_iv: float, kurtosis: float, forward: float, says: str | None
) -> None:
    surfaces, moments = [], []
    for day, vol, k, f in zip(
        days(bench, 2), (0.3, atm_iv), (4.0, kurtosis), (90.0, forward), strict=True
    ):
        key = times(bench, session_date=day, as_of=bench.session(day)["cut_off"])
        surfaces.append({**key, "t_years": 0.2, "forward": f, "atm_iv": vol, "atm_iv_se": 0.002,
                         "data_quality": "full"})  # fmt: skip
        moments.append({**key, "log_kurtosis": k, "log_kurtosis_se": 0.1})
    bench.given("surface_v1", *surfaces)
    bench.given("moments_v1", *moments)
    reasons = [reason for _, _, reason in found(bench, "moment_jump")]
    assert [reason.split(",")[0] for reason in reasons] == ([says] if says else [])


@pytest.mark.parametrize(
    ("gex", "contracts", "moved", "is_wrong"),
    [
        (-300.0, 1000, 0.001, True),
        (300.0, 1000, 0.001, False),
        (-300.0, 1100, 0.001, False),  # positions changed
        (-300.0, 1000, 0.05, False),  # the price went through the zero
        (-50.0, 1000, 0.001, False),  # hardly anything on either side
    ],
)
def test_gamma_flip(bench, gex: float, contracts: int, moved: float, is_wrong: bool) -> None:
    rows, curve = [], []
    for day, value, n in zip(days(bench, 2), (300.0, gex), (1000, contracts), strict=True):
        key = times(bench, session_date=day, as_of=bench.session(day)["cut_off"])
        for convention, exposure in (("calls_long_puts_short", value), ("dealer_long", 1000.0)):
            rows.append({**key, "series": None, "expiry": None, "scope": "total",
                         "weight": "open_interest", "convention": convention,
                         "contracts": n, "gex": exposure})  # fmt: skip
        curve.append({"session_date": day, "contract": "HEJ5", "contract_rank": 1,
                      "return_1d": moved, "rv_cc_21d": 0.3})  # fmt: skip
    bench.given("flow_v1", *rows)
    bench.given("futures_v1", *curve)
    assert len(found(bench, "gamma_flip")) == is_wrong


@pytest.mark.parametrize(("n_lost", "is_wrong"), [(1, False), (2, True), (4, True)])
def test_degraded_share(bench, n_lost: int, is_wrong: bool) -> None:
    first, second = days(bench, 2)
    rows = [
        times(
            bench, session_date=day, expiry=date(2025, month, 14), t_years=month / 12,
            data_quality="degraded" if day == second and month <= 4 + n_lost else "full",
        )
        for day in (first, second)
        for month in (5, 6, 7, 8)
    ]  # fmt: skip
    bench.given("surface_v1", *rows)
    assert [day for day, _, _ in found(bench, "degraded_share")] == [second] * is_wrong


def test_schema_drift(bench) -> None:
    """New, lost and retyped columns are named; blank ones, and other kinds of files, are not."""
    layouts = {
        "1": ("bbo-1m", {"a": "<i8", "b": "<i8", "c": ""}),
        "2": ("bbo-1m", {"a": "<i8", "b": "<i8", "c": "text"}),
        "3": ("definition", {"z": "<i8"}),
        "4": ("bbo-1m", {"a": "<i4", "c": "text", "d": "<i8"}),
    }
    rows = [
        {"batch_id": batch, "source": "databento", "kind": kind, "market": "HE",
         "column_name": name, "column_type": dtype}
        for batch, (kind, columns) in layouts.items()
        for name, dtype in columns.items()
    ]  # fmt: skip
    batches = [
        {"batch_id": batch, "description": f"file {batch}",
         "ingested_at": bench.at("20:00", date(2025, 3, int(batch)))}
        for batch in layouts
    ]  # fmt: skip
    engine.create_table(bench.connection, "meta.layouts", pl.DataFrame(rows))
    engine.create_table(bench.connection, "meta.batches", pl.DataFrame(batches))
    assert found(bench, "schema_drift") == [
        (date(2025, 3, 4), "databento bbo-1m", "file 4: new d, lost b, retyped a")
    ]


# --- thresholds ---------------------------------------------------------------------------------


def test_a_markets_own_threshold_decides(make_bench) -> None:
    ordinary: list[float | None] = np.random.default_rng(3).normal(0, 0.01, 40).tolist()
    for limit, is_wrong in ((10.0, True), (100.0, False)):
        quality = {**markets()["HE"].quality, "price_deviations": limit}
        bench = make_bench("HE", quality=quality)
        returns(bench, [*ordinary, -0.5])
        assert len(found(bench, "price_jump")) == is_wrong


def test_every_threshold_is_used() -> None:
    text = " ".join(check.body for check in sqlfiles.checks())
    assert [name for name in markets()["HE"].quality if name not in text] == []
