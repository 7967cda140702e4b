"""chain_v1.sql: which quote, statistic, definition and forward an option's row is made of."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

CALL, PUT = "HEJ5 C90", "HEJ5 P90"
TUESDAY, WEDNESDAY, THURSDAY = date(2025, 3, 4), date(2025, 3, 5), date(2025, 3, 6)
MICROSECOND = timedelta(microseconds=1)


def only(rows: list[dict[str, Any]], **where: Any) -> dict[str, Any]:
    """The one row that holds the values."""
    (row,) = [row for row in rows if all(row[name] == value for name, value in where.items())]
    return row


# Quotes.


def test_the_newest_quote_at_the_snapshot_is_taken(bench) -> None:
    bench.list_option(CALL)
    bench.quote(CALL, 1.0, 1.2, at=bench.at("18:00"))
    bench.quote(CALL, 2.0, 2.2, at=bench.session()["snapshot_at"])
    bench.quote(CALL, 1.5, 1.7, at=bench.at("18:30"))
    (row,) = bench.derive("chain_v1")
    assert (row["bid"], row["ask"]) == (2.0, 2.2)
    assert row["mid"] == pytest.approx(2.1)
    assert row["spread_pct"] == pytest.approx(0.2 / 2.1)
    assert row["quote_as_of"] == row["as_of"] == row["available_at"] == bench.at("19:00")


def test_a_quote_after_the_snapshot_or_before_the_open_is_not(bench) -> None:
    bench.list_option(CALL)
    bench.list_option(PUT)
    bench.quote(CALL, 1.0, 1.2, at=bench.session()["snapshot_at"] + MICROSECOND)
    bench.quote(CALL, 1.0, 1.2, at=bench.session()["open_at"])
    bench.quote(PUT, 1.0, 1.2)
    assert [row["option_type"] for row in bench.derive("chain_v1")] == ["P"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_quotes_of_one_instant_are_ordered_by_sequence(bench, order: tuple[int, ...]) -> None:
    bench.list_option(CALL)
    for sequence in order:
        bench.quote(CALL, 1.0 + sequence, 1.2 + sequence, sequence=sequence)
    (row,) = bench.derive("chain_v1")
    assert row["bid"] == 3.0


def test_a_quote_that_was_taken_back_does_not_linger(bench) -> None:
    """The newest state of the book is that there is none."""
    bench.list_option(CALL)
    bench.quote(CALL, 1.0, 1.2, at=bench.at("18:00"))
    bench.quote(CALL, None, None, at=bench.at("18:30"))
    (row,) = bench.derive("chain_v1")
    assert row["bid"] is row["ask"] is row["mid"] is row["iv"] is None


@pytest.mark.parametrize(
    ("bid", "ask"), [(1.0, None), (None, 1.0), (1.2, 1.0), (0.0, 1.0), (-1.0, 1.0)]
)
def test_a_quote_without_two_sound_sides_has_no_mid(bench, bid: Any, ask: Any) -> None:
    bench.option(CALL, bid, ask)
    bench.bar("HEJ5", 90.0, bench.at("18:59"))
    (row,) = bench.derive("chain_v1")
    assert (row["bid"], row["ask"]) == (bid, ask)
    assert row["mid"] is row["spread_pct"] is row["iv"] is row["delta"] is None
    assert row["is_liquid"] is False


# Quarantine: what is wrong stays in the row, and out of everything that is computed from it.


@pytest.mark.parametrize(
    ("bid", "ask", "why"),
    [
        (1.0, 1.1, None),
        (1.0, None, None),
        (1.0, 1.0, "locked"),
        (1.1, 1.0, "crossed"),
        (0.0, 1.0, "zero"),
        (0.0, 0.0, "zero"),
        (-1.0, 1.0, "zero"),
        (1.0, math.inf, "not finite"),
        (math.nan, 1.0, "not finite"),
        (1.0, math.nan, "not finite"),
    ],
)
def test_a_quote_that_cannot_be_is_put_in_quarantine(
    bench, bid: float, ask: float | None, why: str | None
) -> None:
    bench.option(CALL, bid, ask)
    bench.quote("HEJ5", 89.9, 90.1)
    (row,) = bench.derive("chain_v1")
    assert row["quarantine"] == why
    assert repr((row["bid"], row["ask"])) == repr((bid, ask)), "what came is still shown"
    is_used = why is None and ask is not None
    assert (row["mid"] is not None) == (row["iv"] is not None) == is_used
    assert is_used or not row["is_liquid"]


@pytest.mark.parametrize(("minutes", "why"), [(240, None), (241, "stale")])
def test_a_quote_long_before_the_chains_newest_is_stale(
    bench, minutes: int, why: str | None
) -> None:
    newest = bench.session()["snapshot_at"]
    for contract, at in ((CALL, newest), (PUT, newest - timedelta(minutes=minutes))):
        bench.list_option(contract)
        bench.quote(contract, 1.0, 1.1, at=at)
    assert [row["quarantine"] for row in bench.derive("chain_v1")] == [None, why]


def test_a_chain_whose_feed_ended_early_is_consistent_in_itself(bench) -> None:
    bench.list_option(CALL)
    bench.quote(CALL, 1.0, 1.1, at=bench.session()["open_at"] + MICROSECOND)
    (row,) = bench.derive("chain_v1")
    assert row["quarantine"] is None


STRIKES = tuple(float(strike) for strike in range(80, 101, 2))


@pytest.mark.parametrize(("kind", "factor"), [("C", 10.0), ("P", 10.0), ("C", 0.1)])
@pytest.mark.parametrize("wrong", [84.0, 90.0, 96.0])
def test_the_price_that_contradicts_the_others_is_an_outlier(
    bench, wrong: float, kind: str, factor: float
) -> None:
    """One wrong price contradicts many; each of those contradicts only the wrong one."""
    years, rate = bench.years(), bench.rate()
    for strike in STRIKES:
        for side in "CP":
            mid = bench.black76(90.0, strike, years, 0.3, rate, side)
            mid *= factor if (strike, side) == (wrong, kind) else 1.0
            bench.option(f"HEJ5 {side}{strike:g}", mid * 0.98, mid * 1.02)
    rows = bench.derive("chain_v1")
    found = {(r["strike"], r["option_type"]): r["quarantine"] for r in rows if r["quarantine"]}
    assert found == {(wrong, kind): "outlier"}
    (row,) = [r for r in rows if r["quarantine"]]
    assert row["mid"] is row["iv"] is None


def test_two_outliers_do_not_hide_each_other(bench) -> None:
    years, rate = bench.years(), bench.rate()
    for strike in STRIKES:
        mid = bench.black76(90.0, strike, years, 0.3, rate, "C")
        mid *= {88.0: 10.0, 94.0: 10.0}.get(strike, 1.0)
        bench.option(f"HEJ5 C{strike:g}", mid * 0.98, mid * 1.02)
    rows = bench.derive("chain_v1")
    assert [r["strike"] for r in rows if r["quarantine"] == "outlier"] == [88.0, 94.0]


def test_two_prices_that_contradict_each_other_alone_are_both_kept(bench) -> None:
    """Nothing says which of them is wrong."""
    bench.option("HEJ5 C90", 1.0, 1.1)
    bench.option("HEJ5 C92", 1.2, 1.3)
    assert {row["quarantine"] for row in bench.derive("chain_v1")} == {None}


def test_an_outlier_among_settlements_is_put_in_quarantine(bench) -> None:
    years, rate = bench.years(), bench.rate()
    for strike in STRIKES:
        contract = f"HEJ5 C{strike:g}"
        price = bench.black76(90.0, strike, years, 0.3, rate, "C") * (10 if strike == 92 else 1)
        bench.list_option(contract)
        bench.settle(contract, price)
    bench.settle("HEJ5", 90.0)
    rows = bench.derive("chain_v1")
    assert [r["strike"] for r in rows if r["quarantine"] == "outlier"] == [92.0]
    assert [r["strike"] for r in rows if r["iv"] is None] == [92.0]


def test_settlements_a_tick_out_of_order_are_rounded_not_wrong(bench) -> None:
    for strike, price in ((90.0, 0.025), (92.0, 0.05), (94.0, 0.025), (96.0, 0.05)):
        contract = f"HEJ5 C{strike:g}"
        bench.list_option(contract)
        bench.settle(contract, price)
    assert {row["quarantine"] for row in bench.derive("chain_v1")} == {None}


# The liquid-strike rule: open interest above 50, spread below 20 % of the mid.


@pytest.mark.parametrize(
    ("open_interest", "bid", "ask", "is_liquid"),
    [
        (50, 1.0, 1.1, False),
        (51, 1.0, 1.1, True),
        (51, 0.9, 1.1, False),
        (51, 2.7, 3.3, False),
        (51, 5.4, 6.6, False),
        (51, 0.900001, 1.1, True),
        (51, 1.0, 1.5, False),
    ],
)
def test_liquid_needs_open_interest_above_50_and_a_spread_below_20_per_cent(
    bench, open_interest: int, bid: float, ask: float, is_liquid: bool
) -> None:
    bench.option(CALL, bid, ask, open_interest)
    (row,) = bench.derive("chain_v1")
    assert row["is_liquid"] is is_liquid


def test_an_option_without_known_open_interest_is_not_liquid(bench) -> None:
    bench.list_option(CALL)
    bench.quote(CALL, 1.0, 1.1)
    (row,) = bench.derive("chain_v1")
    assert row["open_interest"] is None
    assert row["is_liquid"] is False


def test_an_option_with_open_interest_and_no_quote_is_there(bench) -> None:
    bench.option(CALL, 1.0, 1.1)
    bench.list_option(PUT)
    bench.open_interest(PUT, 7)
    bench.list_option("HEJ5 P80")
    bench.open_interest("HEJ5 P80", 0)
    rows = bench.derive("chain_v1")
    assert [(row["contract"], row["open_interest"]) for row in rows] == [(CALL, 1000), (PUT, 7)]


# Definitions.


def test_an_expired_option_is_out(bench) -> None:
    snapshot = bench.session()["snapshot_at"]
    bench.option(CALL, 1.0, 1.1, expiration=snapshot)
    bench.option(PUT, 1.0, 1.1, expiration=snapshot + timedelta(minutes=2))
    (row,) = bench.derive("chain_v1")
    assert row["contract"] == PUT
    assert row["t_years"] == pytest.approx(2 / (365 * 24 * 60))


def test_a_deleted_option_is_out(bench) -> None:
    bench.option(CALL, 1.0, 1.1)
    bench.option(PUT, 1.0, 1.1)
    bench.list_option(CALL, update_action="D", at=bench.at("12:00"))
    (row,) = bench.derive("chain_v1")
    assert row["contract"] == PUT


def test_a_definition_counts_once_it_is_known(bench) -> None:
    bench.option(CALL, 1.0, 1.1)
    bench.list_option(CALL, strike=91.0, at=bench.at("12:00"))
    bench.list_option(CALL, strike=92.0, at=bench.session()["cut_off"] + MICROSECOND)
    (row,) = bench.derive("chain_v1")
    assert row["strike"] == 91.0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_definitions_of_one_instant_the_newest_counts(bench, order: tuple[int, ...]) -> None:
    """Of one that was both changed and deleted, the change."""
    noon = bench.at("12:00")
    bench.option(CALL, 1.0, 1.1)
    definitions = [
        {"strike": 91.0, "as_of": noon - MICROSECOND},
        {"strike": 92.0, "as_of": noon, "update_action": "A"},
        {"strike": 93.0, "as_of": noon, "update_action": "D"},
    ]
    for number in order:
        bench.list_option(CALL, at=noon, **definitions[number])
    (row,) = bench.derive("chain_v1")
    assert row["strike"] == 92.0


def test_a_number_used_again_is_another_option(bench) -> None:
    bench.list_option("HEH5 C70", instrument_id=5, expiration=bench.at("18:00", TUESDAY))
    bench.list_option("HEJ5 C90", instrument_id=5, at=bench.at("12:00", WEDNESDAY))
    bench.quote("HEJ5 C90", 1.0, 1.1, instrument_id=5)
    (row,) = bench.derive("chain_v1")
    assert (row["contract"], row["strike"]) == (CALL, 90.0)


def test_expiry_is_the_date_in_the_exchanges_zone(bench) -> None:
    """03:30 UTC is the evening before in Chicago."""
    bench.option(CALL, 1.0, 1.1, expiration=datetime(2025, 4, 15, 3, 30, tzinfo=UTC))
    (row,) = bench.derive("chain_v1")
    assert row["expiry"] == date(2025, 4, 14)


def test_a_strike_at_or_below_zero_has_no_vol_and_harms_nobody(bench) -> None:
    bench.option("HEJ5 C-7", 97.0, 97.2)
    bench.option("HEJ5 C0", 90.0, 90.2)
    bench.option(CALL, 1.0, 1.1)
    bench.bar("HEJ5", 90.0, bench.at("18:59"))
    rows = bench.derive("chain_v1")
    assert [row["iv"] is None for row in rows] == [True, True, False]


# Statistics.


def test_open_interest_is_the_newest_published_by_the_cut_off(bench) -> None:
    bench.option(CALL, 1.0, 1.1, open_interest=500)
    bench.open_interest(
        CALL, 400, ref_date=TUESDAY, at=bench.at("13:00", WEDNESDAY), as_of=bench.at("19:05")
    )
    bench.open_interest(CALL, 600, ref_date=THURSDAY, at=bench.session()["cut_off"] + MICROSECOND)
    (row,) = bench.derive("chain_v1")
    assert row["open_interest"] == 500


def test_open_interest_and_volume_carry_their_own_as_of(bench) -> None:
    bench.list_option(CALL)
    bench.quote(CALL, 1.0, 1.1)
    closes = {day: bench.session(day)["close_at"] for day in (TUESDAY, WEDNESDAY)}
    bench.open_interest(CALL, 500, as_of=closes[TUESDAY], ref_date=TUESDAY)
    bench.volume(CALL, 30, as_of=closes[WEDNESDAY], ref_date=WEDNESDAY)
    (row,) = bench.derive("chain_v1")
    assert (row["open_interest"], row["open_interest_as_of"]) == (500, closes[TUESDAY])
    assert (row["volume"], row["volume_as_of"]) == (30, closes[WEDNESDAY])


def test_of_one_session_the_newest_published_counts(bench) -> None:
    bench.option(CALL, 1.0, 1.1, open_interest=500)
    bench.open_interest(CALL, 510, at=bench.at("13:30"))
    (row,) = bench.derive("chain_v1")
    assert row["open_interest"] == 510


def test_a_late_correction_of_an_old_session_does_not_displace_a_newer_one(bench) -> None:
    bench.option(CALL, 1.0, 1.1, open_interest=500)
    bench.open_interest(CALL, 410, ref_date=TUESDAY, at=bench.at("14:00"))
    (row,) = bench.derive("chain_v1")
    assert row["open_interest"] == 500


@pytest.mark.parametrize(("days", "known"), [(10, True), (11, False)])
def test_open_interest_is_carried_for_ten_days(bench, days: int, known: bool) -> None:
    bench.list_option(CALL)
    bench.quote(CALL, 1.0, 1.1)
    ref_date = THURSDAY - timedelta(days=days)
    bench.open_interest(CALL, 500, ref_date=ref_date, at=bench.at("23:00", ref_date))
    (row,) = bench.derive("chain_v1")
    assert row["open_interest"] == (500 if known else None)


def test_a_statistic_without_a_session_is_not_one_of_a_session(bench) -> None:
    """Intraday ones have no reference date: they would be carried for ever."""
    bench.list_option(CALL)
    bench.quote(CALL, 1.0, 1.1)
    bench.open_interest(CALL, 500, ref_date=None, at=bench.at("13:00", date(2025, 2, 1)))
    (row,) = bench.derive("chain_v1")
    assert row["open_interest"] is None


def test_a_value_taken_back_gives_way_to_the_session_before(bench) -> None:
    bench.option(CALL, 1.0, 1.1, open_interest=500)
    bench.open_interest(CALL, 400, ref_date=TUESDAY, at=bench.at("13:00", WEDNESDAY))
    bench.open_interest(CALL, 500, is_deleted=True, at=bench.at("14:00"))
    (row,) = bench.derive("chain_v1")
    assert row["open_interest"] == 400


def test_statistics_of_one_instant_are_ordered_by_sequence(bench) -> None:
    bench.list_option(CALL)
    bench.quote(CALL, 1.0, 1.1)
    bench.open_interest(CALL, 300, sequence=3)
    bench.open_interest(CALL, 200, sequence=2, ingested_at=bench.at("23:00"))
    (row,) = bench.derive("chain_v1")
    assert row["open_interest"] == 300


# Settlements.


@pytest.mark.parametrize("landed", [("preliminary", "final"), ("final", "preliminary")])
def test_preliminary_and_final_are_two_vintages_in_any_order_of_landing(bench, landed) -> None:
    bench.list_option(CALL)
    published = {
        "preliminary": {"price": 2.0, "at": bench.at("20:05"), "is_final": False},
        "final": {"price": 2.5, "at": bench.at("23:50"), "is_final": True},
    }
    for hours, status in enumerate(landed):
        ingested = bench.at("12:00", date(2025, 3, 8)) + timedelta(hours=hours)
        bench.settle(CALL, **published[status], ingested_at=ingested)
    rows = bench.derive("chain_v1")
    assert [(r["as_of"], r["settlement"], r["settlement_status"]) for r in rows] == [
        (bench.at("20:15"), 2.0, "preliminary"),
        (bench.at("00:00", date(2025, 3, 7)), 2.5, "final"),
    ]
    assert [row["available_at"] for row in rows] == [bench.at("20:05"), bench.at("23:50")]
    assert {row["price_source"] for row in rows} == {"settlement"}


def test_a_vintage_holds_what_was_published_in_earlier_windows_too(bench) -> None:
    for contract, price, clock in ((CALL, 2.0, "20:05"), (PUT, 3.0, "20:20"), (CALL, 2.1, "23:00")):
        bench.settle(contract, price, at=bench.at(clock))
    bench.list_option(CALL)
    bench.list_option(PUT)
    vintages: dict[datetime, dict[str, float]] = {}
    for row in bench.derive("chain_v1"):
        vintages.setdefault(row["as_of"], {})[row["option_type"]] = row["settlement"]
    assert vintages == {
        bench.at("20:15"): {"C": 2.0},
        bench.at("20:30"): {"C": 2.0, "P": 3.0},
        bench.at("23:00"): {"C": 2.1, "P": 3.0},
    }


def test_a_correction_is_a_further_vintage_and_the_earlier_ones_stay(bench) -> None:
    bench.list_option(CALL)
    bench.settle(CALL, 2.0)
    before = bench.derive("chain_v1")
    bench.settle(CALL, 2.2, at=bench.at("15:00", date(2025, 3, 11)))
    rows = bench.derive("chain_v1")
    assert rows[0] == before[0]
    assert [row["settlement"] for row in rows] == [2.0, 2.2]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_roundings_the_clearing_ticks_is_taken(bench, order: tuple[int, int]) -> None:
    """Flag bit 2 marks the price that is rounded to the trading tick."""
    bench.list_option(CALL)
    roundings = ((2.125, 0b011, 7), (2.13, 0b111, 8))
    for landed, which in enumerate(order):
        price, flags, sequence = roundings[which]
        ingested = bench.at("12:00", date(2025, 3, 7)) + timedelta(hours=landed)
        bench.settle(CALL, price, stat_flags=flags, sequence=sequence, ingested_at=ingested)
    (row,) = bench.derive("chain_v1")
    assert row["settlement"] == 2.125


def test_the_settlement_of_another_session_is_not_carried(bench) -> None:
    bench.list_option(CALL)
    bench.list_option(PUT)
    bench.settle(CALL, 2.0, ref_date=WEDNESDAY, at=bench.at("23:00", WEDNESDAY))
    bench.settle(PUT, 3.0)
    rows = bench.derive("chain_v1")
    assert [(row["contract"], row["settlement"]) for row in rows] == [(PUT, 3.0)]


def test_an_intraday_price_is_no_settlement(bench) -> None:
    """Flag bit 3; a value whose flags are not defined (255) is not an intraday one."""
    for contract in (CALL, PUT):
        bench.list_option(contract)
    bench.settle(CALL, 1.0, at=bench.at("16:00"), is_final=False, stat_flags=0b1010)
    bench.settle("HEJ5", 80.0, at=bench.at("22:59"), is_final=False, stat_flags=0b1010)
    bench.settle("HEJ5", 90.0, at=bench.at("22:58"))
    bench.settle(PUT, 3.0, is_final=None, stat_flags=255)
    (row,) = bench.derive("chain_v1")
    assert (row["contract"], row["settlement"], row["forward"]) == (PUT, 3.0, 90.0)


def test_a_settlement_before_the_snapshot_knows_no_later_quote(bench) -> None:
    """Its cut-off is 18:30, half an hour before the snapshot: the quote of 18:50 is unknown."""
    bench.list_option(CALL)
    bench.quote(CALL, 1.0, 1.1, at=bench.at("18:25"))
    bench.quote(CALL, 8.0, 8.1, at=bench.at("18:50"))
    bench.settle(CALL, 2.0, at=bench.at("18:20"))
    row = only(bench.derive("chain_v1"), price_source="settlement")
    assert (row["as_of"], row["bid"]) == (bench.at("18:30"), 1.0)
    assert row["available_at"] <= row["as_of"]


def test_a_settlement_taken_back_is_gone(bench) -> None:
    for contract in (CALL, PUT):
        bench.list_option(contract)
        bench.settle(contract, 2.0, at=bench.at("20:05"))
    bench.settle(CALL, 2.0, at=bench.at("23:00"), is_deleted=True)
    rows = bench.derive("chain_v1")
    at_last = [row["contract"] for row in rows if row["as_of"] == bench.at("23:00")]
    assert at_last == [PUT]


def test_a_settlement_row_is_liquid_with_any_open_interest(bench) -> None:
    for contract, open_interest in ((CALL, 1), (PUT, 0)):
        bench.list_option(contract)
        bench.settle(contract, 2.0)
        bench.open_interest(contract, open_interest)
    rows = bench.derive("chain_v1")
    assert [(row["option_type"], row["is_liquid"]) for row in rows] == [("C", True), ("P", False)]


def test_quote_and_settlement_rows_are_priced_apart(bench) -> None:
    """The settlement is not known at the quotes' cut-off, and its row is priced by it alone."""
    bench.option(CALL, 1.0, 1.1)
    bench.settle(CALL, 2.0)
    bench.bar("HEJ5", 90.0, bench.at("18:59"))
    bench.settle("HEJ5", 90.0)
    rows = bench.derive("chain_v1")
    quote = only(rows, price_source="quote")
    settlement = only(rows, price_source="settlement")
    assert quote["settlement"] is quote["settlement_status"] is None
    assert settlement["iv"] > quote["iv"] * 1.5
    assert settlement["t_years"] == pytest.approx(bench.years() - 5 / (365 * 24 * 60))


# The forward.


def land_forwards(bench, names: set[str]) -> None:
    """A call and a put with the forward of each source one apart."""
    for contract, mid in ((CALL, 5.0), (PUT, 2.0)):
        bench.list_option(contract)
        price = 89.0 if "file" in names else None
        bench.quote(contract, mid - 0.1, mid + 0.1, underlying_price=price)
    if "future_quote" in names:
        bench.quote("HEJ5", 90.9, 91.1)
    if "future_bar" in names:
        bench.bar("HEJ5", 92.0, bench.at("18:59"))


@pytest.mark.parametrize(
    ("names", "source", "forward"),
    [
        ({"future_quote", "future_bar", "file"}, "future_quote", 91.0),
        ({"future_bar", "file"}, "future_bar", 92.0),
        ({"file"}, "file", 89.0),
    ],
)
def test_the_future_is_preferred_to_the_file(
    bench, names: set[str], source: str, forward: float
) -> None:
    land_forwards(bench, names)
    for row in bench.derive("chain_v1"):
        assert row["forward_source"] == source
        assert row["forward"] == pytest.approx(forward)


def test_without_any_future_parity_gives_the_forward(bench) -> None:
    land_forwards(bench, set())
    growth = 2.718281828459045 ** (bench.rate() * bench.years())
    for row in bench.derive("chain_v1"):
        assert row["forward_source"] == "parity"
        assert row["forward"] == pytest.approx(90 + (5 - 2) * growth)


def test_a_future_quoted_on_one_side_gives_way_to_its_bar(bench) -> None:
    land_forwards(bench, {"future_bar"})
    bench.quote("HEJ5", None, 91.1)
    assert {row["forward_source"] for row in bench.derive("chain_v1")} == {"future_bar"}


def test_the_future_after_the_snapshot_does_not_count(bench) -> None:
    bench.option(CALL, 5.0, 5.1)
    bench.bar("HEJ5", 90.0, bench.session()["snapshot_at"])
    bench.bar("HEJ5", 95.0, bench.session()["snapshot_at"] + timedelta(minutes=1))
    bench.quote("HEJ5", 94.0, 94.2, at=bench.session()["snapshot_at"] + MICROSECOND)
    (row,) = bench.derive("chain_v1")
    assert (row["forward"], row["forward_source"]) == (90.0, "future_bar")


def test_another_contracts_price_is_not_the_forward(bench) -> None:
    bench.option(CALL, 5.0, 5.1)
    bench.quote("HEM5", 95.0, 95.2)
    (row,) = bench.derive("chain_v1")
    assert row["forward"] is row["iv"] is row["forward_source"] is None


def test_the_forward_of_settlements_is_the_futures_settlement_known_by_then(bench) -> None:
    bench.list_option(CALL)
    bench.bar("HEJ5", 95.0, bench.at("18:59"))
    for at, final, option, future in (("20:05", False, 2.0, 90.0), ("23:00", True, 2.1, 90.5)):
        bench.settle(CALL, option, at=bench.at(at), is_final=final)
        bench.settle("HEJ5", future, at=bench.at(at), is_final=final)
    rows = bench.derive("chain_v1")
    assert [(row["forward"], row["forward_source"]) for row in rows] == [
        (90.0, "future_settlement"),
        (90.5, "future_settlement"),
    ]


@pytest.mark.parametrize("broken", [None, 88.0, 90.0, 92.0])
def test_parity_is_robust_to_one_broken_pair(bench, broken: float | None) -> None:
    """Whichever pair is broken, the forward is what the others say."""
    years, rate = bench.years(), bench.rate()
    for strike in (84.0, 86.0, 88.0, 90.0, 92.0, 94.0, 96.0):
        for kind in "CP":
            mid = bench.black76(90.3, strike, years, 0.3, rate, kind)
            mid += 4.0 * (strike == broken and kind == "C")
            bench.option(f"HEJ5 {kind}{strike:g}", mid - 0.05, mid + 0.05)
    forwards = {round(row["forward"], 9) for row in bench.derive("chain_v1")}
    assert forwards == {90.3}


def test_parity_is_per_expiry(bench) -> None:
    for underlying, forward, expiration in (
        ("HEJ5", 90.0, datetime(2025, 4, 14, 17, tzinfo=UTC)),
        ("HEM5", 99.0, datetime(2025, 6, 13, 17, tzinfo=UTC)),
    ):
        bench.chain(
            (90.0, 92.0, 95.0, 99.0), 0.3,
            underlying=underlying, forward=forward, expiration=expiration,
        )  # fmt: skip
    forwards = {row["underlying"]: row["forward"] for row in bench.derive("chain_v1")}
    assert forwards == pytest.approx({"HEJ5": 90.0, "HEM5": 99.0})


def test_an_index_is_not_its_own_forward(make_bench) -> None:
    """The price of an index at the snapshot is a spot: parity gives the forward."""
    bench = make_bench("SPX")
    stamp = bench.session()["snapshot_at"]
    snapshot = {"at": stamp, "feed": "snapshot", "source": "chain-cboe"}
    for kind, mid in (("C", 120.0), ("P", 100.0)):
        name = f"SPXW {kind}5800"
        bench.list_option(name, underlying=None, source="chain-cboe")
        bench.quote(name, mid - 1, mid + 1, underlying_price=5750.0, **snapshot)
    for row in bench.derive("chain_v1"):
        assert row["forward_source"] == "parity"
        assert row["forward"] == pytest.approx(5820.0, abs=0.5)


# Vols and Greeks.


def test_vol_and_greeks_of_a_european_market(make_bench) -> None:
    """NG's options are European: Black-76 in plain Python, Greeks by differences of it."""
    bench = make_bench("NG")
    day = bench.session()
    expiration = day["snapshot_at"] + timedelta(days=73)
    bench.quote("NGK5", 3.999, 4.001)
    years, rate, vol = 73 / 365, bench.rate(), 0.55
    for kind in "CP":
        mid = bench.black76(4.0, 4.2, years, vol, rate, kind)
        bench.option(f"NGK5 {kind}4.2", mid - 0.01, mid + 0.01, expiration=expiration)
    h = 1e-4
    for row in bench.derive("chain_v1"):
        kind = row["option_type"]

        def price(f: float = 4.0, t: float = years, v: float = vol, kind: str = kind) -> float:
            return bench.black76(f, 4.2, t, v, rate, kind)

        def delta(t: float = years, v: float = vol) -> float:
            return (price(4.0 + h, t, v) - price(4.0 - h, t, v)) / (2 * h)

        assert row["iv_status"] == 0
        assert row["iv"] == pytest.approx(vol, abs=1e-9)
        assert row["t_years"] == pytest.approx(years, rel=1e-12)
        assert row["rate"] == rate
        assert row["discount"] == pytest.approx(2.718281828459045 ** (-rate * years))
        assert row["delta"] == pytest.approx(delta(), rel=1e-6)
        gamma = (price(4.0 + h) - 2 * price() + price(4.0 - h)) / h**2
        assert row["gamma"] == pytest.approx(gamma, rel=1e-5)
        vega = (price(v=vol + h) - price(v=vol - h)) / (2 * h)
        assert row["vega"] == pytest.approx(vega, rel=1e-6)
        theta = -(price(t=years + h) - price(t=years - h)) / (2 * h)
        assert row["theta"] == pytest.approx(theta, rel=1e-5)
        assert row["vanna"] == pytest.approx(
            (delta(v=vol + h) - delta(v=vol - h)) / (2 * h), rel=1e-5
        )
        assert row["charm"] == pytest.approx(
            -(delta(t=years + h) - delta(t=years - h)) / (2 * h), rel=1e-4
        )


def test_an_american_price_has_its_early_exercise_taken_out(bench) -> None:
    """The same price gives a lower vol where the right to exercise early is worth something."""
    expiration = bench.session()["snapshot_at"] + timedelta(days=365)
    mid = bench.black76(90.0, 110.0, 1.0, 0.25, bench.rate(), "P")
    bench.option("HEJ5 P110", mid - 0.01, mid + 0.01, expiration=expiration)
    bench.quote("HEJ5", 89.99, 90.01)
    (row,) = bench.derive("chain_v1")
    assert 0.2 < row["iv"] < 0.25 - 1e-4


def test_european_roots_of_an_american_market_are_european(make_bench) -> None:
    bench = make_bench("ES")
    assert bench.market.exercise == "american"
    european = bench.market.european_roots[0]
    expiration = bench.session()["snapshot_at"] + timedelta(days=365)
    bench.quote("ESM5", 5799.75, 5800.25)
    mid = bench.black76(5800.0, 6500.0, 1.0, 0.2, bench.rate(), "P")
    for name, series in (("ESM5 P6500", "ES"), (f"{european} P6500", european)):
        bench.option(
            name, mid - 0.5, mid + 0.5, expiration=expiration, series=series, underlying="ESM5"
        )
    vols = {row["series"]: row["iv"] for row in bench.derive("chain_v1")}
    assert vols[european] == pytest.approx(0.2, abs=1e-9)
    assert vols["ES"] < 0.2 - 1e-4


def test_a_price_below_intrinsic_has_a_status_and_no_vol(bench) -> None:
    bench.option("HEJ5 C80", 4.9, 5.1)
    bench.quote("HEJ5", 89.99, 90.01)
    (row,) = bench.derive("chain_v1")
    assert row["iv"] is row["delta"] is None
    assert row["iv_status"] != 0


# Knowledge time.


def test_available_at_is_the_latest_of_the_rows_inputs(bench) -> None:
    bench.list_option(CALL)
    bench.quote(CALL, 1.0, 1.1, at=bench.at("18:00"))
    bench.open_interest(CALL, 100, at=bench.at("15:00"))
    bench.quote("HEJ5", 90.0, 90.1, at=bench.at("18:30"))
    bench.quote("HEJ5", 91.0, 91.1, at=bench.at("18:45"))
    (row,) = bench.derive("chain_v1")
    assert row["available_at"] == bench.at("18:45")


def test_no_row_knows_more_than_its_cut_off(bench) -> None:
    bench.chain((86.0, 90.0, 94.0), 0.3)
    for contract in (CALL, PUT):
        for clock, price in (("20:05", 3.0), ("23:10", 3.1)):
            bench.settle(contract, price, at=bench.at(clock))
            bench.open_interest(contract, 9, ref_date=THURSDAY, at=bench.at("22:00"))
    rows = bench.derive("chain_v1")
    assert len({row["as_of"] for row in rows}) == 3
    assert all(row["available_at"] <= row["as_of"] for row in rows)


# Chain files.


def test_a_chain_file_and_the_vendors_stream_do_not_mix(bench) -> None:
    stamp = bench.at("17:00")
    source = "chain-generic"
    bench.option(CALL, 1.0, 1.1, open_interest=500)
    bench.list_option("file C90", underlying=None, source=source, at=stamp)
    bench.quote("file C90", 1.2, 1.3, feed="snapshot", source=source, at=stamp)
    bench.open_interest("file C90", 77, ref_date=None, source=source, at=stamp)
    rows = bench.derive("chain_v1")
    found = {row["contract"]: (row["as_of"], row["open_interest"]) for row in rows}
    assert found == {"file C90": (stamp, 77), CALL: (bench.at("19:00"), 500)}


def test_a_second_chain_file_of_a_day_has_its_own_statistics(bench) -> None:
    source = "chain-generic"
    for clock, open_interest in (("17:00", 77), ("18:00", None)):
        stamp = bench.at(clock)
        bench.list_option("file C90", underlying=None, source=source, at=stamp)
        bench.quote("file C90", 1.2, 1.3, feed="snapshot", source=source, at=stamp)
        if open_interest:
            bench.open_interest("file C90", 77, ref_date=None, source=source, at=stamp)
    rows = bench.derive("chain_v1")
    assert [row["open_interest"] for row in rows] == [77, None]


def test_a_weekends_chain_file_is_of_the_session_before(bench) -> None:
    """Its volume and settlements carry Saturday's date and are Friday's."""
    friday, saturday = date(2025, 3, 7), date(2025, 3, 8)
    stamp, source = bench.at("15:00", saturday), "chain-generic"
    file = {"source": source, "at": stamp}
    bench.list_option("file C90", underlying=None, **file)
    bench.quote("file C90", 1.2, 1.3, feed="snapshot", **file)
    bench.open_interest("file C90", 77, ref_date=None, **file)
    bench.volume("file C90", 5, ref_date=saturday, **file)
    bench.settle("file C90", 1.25, ref_date=saturday, **file)
    rows = bench.derive("chain_v1", sessions=[friday])
    assert [row["session_date"] for row in rows] == [friday, friday]
    quote, settlement = only(rows, price_source="quote"), only(rows, price_source="settlement")
    assert (quote["open_interest"], quote["volume"]) == (77, 5)
    assert settlement["settlement"] == 1.25


def test_where_a_file_and_the_stream_meet_the_stream_stands(bench) -> None:
    """Both at the cut-off to the microsecond would be one slice with every strike twice."""
    stamp, source = bench.session()["cut_off"], "chain-generic"
    file = {"source": source, "at": stamp}
    bench.option(CALL, 1.0, 1.1)
    bench.list_option("file C90", underlying=None, **file)
    bench.quote("file C90", 1.2, 1.3, feed="snapshot", **file)
    (row,) = bench.derive("chain_v1")
    assert row["contract"] == CALL


def test_a_price_is_known_once_those_that_it_is_judged_beside_are(bench) -> None:
    """Whether it stands follows from them; what has no price is known by its own inputs."""
    early, late = bench.at("18:20"), bench.at("18:30")
    bench.quote("HEJ5", 89.9, 90.1, at=early)
    for strike, at in ((88, early), (90, early), (92, late)):
        bench.list_option(f"HEJ5 C{strike}")
        bench.quote(f"HEJ5 C{strike}", 100 - strike - 0.1, 100 - strike + 0.1, at=at)
    bench.list_option("HEJ5 C94")
    bench.open_interest("HEJ5 C94", 100)
    known = {row["strike"]: row["available_at"] for row in bench.derive("chain_v1")}
    assert known == {88: late, 90: late, 92: late, 94: early}
