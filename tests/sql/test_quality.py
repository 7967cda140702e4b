"""sql/quality: each check finds what is wrong and leaves alone what is not."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl import engine, sqlfiles

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


def found(bench, name: str) -> list[tuple[Any, ...]]:
    """What a check finds; every check gives the same four columns."""
    rows = bench.check(name)
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
    def row(contract: str, open: float | None, high: float | None, low: float | None, close: float):
        prices = {"open": open, "high": high, "low": low, "close": close}
        row = times(bench, contract=contract, **prices)
        return {key: row[key] for key in row if key not in {"price_source", "series", "expiry"}}

    bench.given(
        "session_bar_v1",
        row("GOOD", 90.0, 91.0, 89.0, 90.5),
        row("EDGE", 91.0, 91.0, 89.0, 89.0),
        row("QUOTE", None, None, None, 90.0),
        row("SWAPPED", 90.0, 89.0, 91.0, 90.0),
        row("OPEN", 92.0, 91.0, 89.0, 90.0),
        row("CLOSE", 90.0, 91.0, 89.0, 88.9),
        row("HALF", 90.0, 91.0, None, 90.0),
    )
    subjects = [subject for _, subject, _ in found(bench, "bad_bar")]
    assert subjects == ["CLOSE", "HALF", "OPEN", "SWAPPED"]


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
        row("B", 1.0, 1.0),
        row("C", 1.0, None),
        row("D", 1.2, 1.1),
        row("E", 1.3, 1.1),
        row("F", 1.2, 1.1, price_source="settlement"),
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
    text = sqlfiles.text("build/freshness.sql")
    engine.create_as(bench.connection, "quality.freshness", text)


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
    ((day, subject, reason),) = found(bench, "stale_source")
    assert (day, subject) == (DAY, "options_quote")
    assert "2 sessions behind, limit 1" in reason


def test_stale_source_of_a_market_that_was_never_landed(bench) -> None:
    freshness(bench, bench.session()["cut_off"], {})
    assert bench.rows("quality.freshness") == []
    assert found(bench, "stale_source") == []


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
