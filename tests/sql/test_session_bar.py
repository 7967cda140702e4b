"""session_bar_v1.sql: a future's session from the prices that were known at the cut-off."""

from __future__ import annotations

import math
from datetime import date, timedelta

import pytest

NEXT_DAY = date(2025, 3, 7)
MICROSECOND = timedelta(microseconds=1)


def day_bar(bench, contract: str = "HEJ5", close: float = 91.0, **values) -> None:
    """A UTC-day bar of 6 March: it ends, and is known, at midnight."""
    prices = {"open": 90.0, "high": 92.0, "low": 89.0, "close": close, "volume": 500}
    midnight = bench.at("00:00", NEXT_DAY)
    bench.land("futures_1d", contract=contract, at=midnight, **{**prices, **values})


def test_minutes_make_a_session_up_to_the_cut_off(bench) -> None:
    bench.bar("HEJ5", 90.0, bench.at("14:31"), open=89.5, high=90.5, low=89.0, volume=10)
    bench.bar("HEJ5", 91.0, bench.at("16:00"), open=90.1, high=91.5, low=90.0, volume=20)
    bench.bar("HEJ5", 90.7, bench.session()["cut_off"], volume=30)
    bench.bar("HEJ5", 99.0, bench.session()["cut_off"] + timedelta(minutes=1), volume=40)
    bench.bar("HEJ5", 70.0, bench.session()["open_at"], volume=40)
    (row,) = bench.derive("session_bar_v1")
    prices = [row[name] for name in ("open", "high", "low", "close", "close_source")]
    assert prices == [89.5, 91.5, 89.0, 90.7, "bar_1m"]
    assert row["bar_volume"] == 60
    assert row["as_of"] == row["available_at"] == bench.session()["cut_off"]


def test_a_minute_that_landed_again_counts_once_as_it_landed_last(bench) -> None:
    for close, day in ((90.0, NEXT_DAY), (90.5, date(2025, 3, 8))):
        bench.bar("HEJ5", close, bench.at("16:00"), volume=10, ingested_at=bench.at("12:00", day))
    (row,) = bench.derive("session_bar_v1")
    assert (row["close"], row["high"], row["low"]) == (90.5, 90.5, 90.5)
    assert row["bar_volume"] == 10


def test_without_bars_the_newest_quote_at_the_snapshot_is_the_close(bench) -> None:
    bench.quote("HEJ5", 90.0, 90.2, at=bench.at("18:00"))
    bench.quote("HEJ5", 91.0, 91.2, at=bench.at("18:30"))
    bench.quote("HEJ5", 92.0, None, at=bench.at("18:40"))
    bench.quote("HEJ5", 93.0, 93.2, at=bench.session()["snapshot_at"] + MICROSECOND)
    (row,) = bench.derive("session_bar_v1")
    assert row["close"] == pytest.approx(91.1)
    assert row["close_source"] == "quote"
    assert row["open"] is row["high"] is row["bar_volume"] is None
    assert row["available_at"] == bench.at("18:30")


def test_the_order_of_sources_is_bar_quote_settlement_day(bench) -> None:
    bench.bar("HEG5", 80.0, bench.at("16:00"))
    for contract in ("HEG5", "HEJ5"):
        bench.quote(contract, 81.0, 81.0)
    for contract in ("HEG5", "HEJ5", "HEK5"):
        bench.settle(contract, 82.0, at=bench.at("18:59"), is_final=False)
    for contract in ("HEG5", "HEJ5", "HEK5", "HEM5"):
        day_bar(bench, contract, 83.0, open=83.0, high=83.0, low=83.0)
    rows = bench.derive("session_bar_v1")
    assert {row["contract"]: (row["close"], row["close_source"]) for row in rows} == {
        "HEG5": (80.0, "bar_1m"),
        "HEJ5": (81.0, "quote"),
        "HEK5": (82.0, "settlement"),
        "HEM5": (83.0, "bar_1d"),
    }


def test_a_settlement_after_the_cut_off_is_not_the_close(bench) -> None:
    bench.settle("HEJ5", 90.0)
    assert bench.derive("session_bar_v1") == []


def test_an_intraday_price_is_no_settlement(bench) -> None:
    bench.settle("HEJ5", 90.0, at=bench.at("16:00"), is_final=False, stat_flags=0b1010)
    assert bench.derive("session_bar_v1") == []


def test_a_day_bar_is_known_at_midnight_and_not_at_the_cut_off(bench) -> None:
    day_bar(bench)
    midnight = bench.at("00:00", NEXT_DAY)
    (row,) = bench.derive("session_bar_v1")
    assert row["session_date"] == date(2025, 3, 6)
    assert row["as_of"] == row["available_at"] == midnight
    assert (row["high"], row["close"], row["bar_volume"], row["volume"]) == (92.0, 91.0, 500, 500)
    assert bench.derive("session_bar_v1", known_at=midnight - MICROSECOND) == []


def test_published_volume_and_open_interest_are_the_newest_by_the_cut_off(bench) -> None:
    bench.bar("HEJ5", 90.0, bench.at("16:00"))
    closes = {day: bench.session(day)["close_at"] for day in (date(2025, 3, 4), date(2025, 3, 5))}
    for day, close in closes.items():
        known = bench.at("13:00", day + timedelta(days=1))
        bench.volume("HEJ5", 100 * day.day, ref_date=day, at=known, as_of=close)
        bench.open_interest("HEJ5", 1000 * day.day, ref_date=day, at=known, as_of=close)
    bench.open_interest("HEJ5", 5555, at=bench.session()["cut_off"] + MICROSECOND)
    (row,) = bench.derive("session_bar_v1")
    assert (row["volume"], row["open_interest"]) == (500, 5000)
    assert row["volume_as_of"] == row["open_interest_as_of"] == closes[date(2025, 3, 5)]


def test_an_open_interest_taken_back_gives_way_to_the_session_before(bench) -> None:
    bench.bar("HEJ5", 90.0, bench.at("16:00"))
    bench.open_interest("HEJ5", 400, ref_date=date(2025, 3, 4))
    bench.open_interest("HEJ5", 500)
    bench.open_interest("HEJ5", 500, is_deleted=True, at=bench.at("14:00"))
    (row,) = bench.derive("session_bar_v1")
    assert row["open_interest"] == 400


def test_a_contract_with_statistics_alone_has_no_row(bench) -> None:
    bench.open_interest("HEJ5", 500)
    assert bench.derive("session_bar_v1") == []


def test_the_expiration_is_as_defined_by_then(bench) -> None:
    expirations = [bench.at("17:00", date(2025, 4, day)) for day in (14, 15, 16)]
    bench.land("futures_definition", contract="HEJ5", expiration=expirations[0])
    known = bench.at("12:00")
    bench.land("futures_definition", contract="HEJ5", expiration=expirations[1], at=known)
    known = bench.session()["cut_off"] + MICROSECOND
    bench.land("futures_definition", contract="HEJ5", expiration=expirations[2], at=known)
    bench.bar("HEJ5", 90.0, bench.at("16:00"))
    (row,) = bench.derive("session_bar_v1")
    assert row["expiration"] == expirations[1]


def test_a_contract_without_a_definition_has_its_month(bench) -> None:
    bench.bar("HEJ5", 90.0, bench.at("16:00"))
    (row,) = bench.derive("session_bar_v1")
    assert row["expiration"] is None
    assert row["contract_month"] == date(2025, 4, 1)


@pytest.mark.parametrize(
    ("contract", "month"),
    [
        ("HEJ5", date(2025, 4, 1)),
        ("HEZ5", date(2025, 12, 1)),
        ("HEG6", date(2026, 2, 1)),
        ("HEF4", date(2034, 1, 1)),
        ("HEM25", date(2025, 6, 1)),
        ("HE.c.0", None),
        ("HE-HOG", None),
        ("HE", None),
    ],
)
def test_the_month_of_a_symbol(bench, contract: str, month: date | None) -> None:
    """One digit is the next such year from the session's on; an odd symbol has no month."""
    bench.bar(contract, 90.0, bench.at("16:00"))
    (row,) = bench.derive("session_bar_v1")
    assert row["contract_month"] == month


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": 95.0},
        {"high": 85.0},
        {"open": 99.0},
        {"close": math.nan, "open": 90.0},
        {"high": math.inf},
        {"low": None},
    ],
    ids=str,
)
def test_a_minute_that_contradicts_itself_is_put_in_quarantine(
    bench, wrong: dict[str, float | None]
) -> None:
    """It stays in raw, is counted, and gives no price."""
    bench.bar("HEJ5", 90.0, bench.at("16:00"), volume=10)
    prices = {"close": 90.0, "open": 90.0, "high": 91.0, "low": 89.0, **wrong}
    bench.bar("HEJ5", at=bench.at("17:00"), volume=5, **prices)
    (row,) = bench.derive("session_bar_v1")
    assert [row[name] for name in ("open", "high", "low", "close")] == [90.0] * 4
    assert (row["bar_volume"], row["bars_in_quarantine"]) == (15, 1)


def test_a_day_that_contradicts_itself_gives_no_price(bench) -> None:
    day_bar(bench, "HEJ5", 91.0)
    day_bar(bench, "HEM5", 91.0, low=92.0)
    assert [row["contract"] for row in bench.derive("session_bar_v1")] == ["HEJ5"]
