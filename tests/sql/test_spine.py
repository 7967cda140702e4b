"""spine.sql: which cut-offs there are, what each values and which quotes count."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

MICROSECOND = timedelta(microseconds=1)


def test_a_session_with_quotes_has_one_quote_cut_off(bench) -> None:
    bench.quote("HEJ5 C90", 1.0, 1.1)
    (row,) = bench.derive("spine")
    session = bench.session()
    assert (row["market"], row["session_date"]) == ("HE", date(2025, 3, 6))
    assert (row["price_source"], row["feed"]) == ("quote", "stream")
    assert row["as_of"] == session["cut_off"]
    assert row["valued_at"] == row["quotes_to"] == session["snapshot_at"]
    assert row["quotes_from"] == session["open_at"]


@pytest.mark.parametrize(
    ("instant", "counts"),
    [
        ("open_at", False),
        ("just after open_at", True),
        ("snapshot_at", True),
        ("just after snapshot_at", False),
    ],
)
def test_quotes_count_after_the_open_until_the_snapshot(bench, instant: str, counts: bool) -> None:
    edge = bench.session()[instant.split()[-1]]
    bench.quote("HEJ5 C90", 1.0, 1.1, at=edge + MICROSECOND * instant.startswith("just"))
    assert len(bench.derive("spine")) == counts


def test_a_cut_off_that_has_not_passed_is_not_there(bench) -> None:
    bench.quote("HEJ5 C90", 1.0, 1.1)
    cut_off = bench.session()["cut_off"]
    assert len(bench.derive("spine", known_at=cut_off)) == 1
    assert bench.derive("spine", known_at=cut_off - MICROSECOND) == []


@pytest.mark.parametrize(
    ("published", "cut_off"),
    [
        ("22:45:00.000001", "23:00"),
        ("22:59:59", "23:00"),
        ("23:00:00", "23:00"),
        ("23:00:00.000001", "23:15"),
    ],
)
def test_publications_are_gathered_to_the_end_of_their_quarter_hour(
    bench, published: str, cut_off: str
) -> None:
    bench.settle("HEJ5 C90", 1.0, at=bench.at(published))
    (row,) = bench.derive("spine")
    assert (row["price_source"], row["feed"]) == ("settlement", "stream")
    assert row["as_of"] == bench.at(cut_off)
    assert row["valued_at"] == bench.session()["close_at"]


def test_each_quarter_hour_with_a_settlement_is_a_vintage(bench) -> None:
    correction = bench.at("14:20", date(2025, 3, 10))
    for at in (bench.at("20:05"), bench.at("20:06"), bench.at("23:00"), correction):
        bench.settle("HEJ5 C90", 1.0, at=at)
    vintages = [row["as_of"] for row in bench.derive("spine")]
    assert vintages == [bench.at("20:15"), bench.at("23:00"), bench.at("14:30", correction.date())]


def test_other_statistics_make_no_cut_off(bench) -> None:
    bench.open_interest("HEJ5 C90", 10)
    bench.volume("HEJ5 C90", 10)
    assert bench.derive("spine") == []


def test_an_intraday_price_makes_no_cut_off(bench) -> None:
    bench.settle("HEJ5 C90", 1.0, at=bench.at("16:00"), is_final=False, stat_flags=0b1010)
    assert bench.derive("spine") == []


def test_a_correction_counts_for_45_days(bench) -> None:
    close = bench.session()["close_at"]
    bench.settle("HEJ5 C90", 1.0, at=close + timedelta(days=45) - timedelta(minutes=15))
    bench.settle("HEJ5 C90", 1.1, at=close + timedelta(days=45, minutes=1))
    assert len(bench.derive("spine")) == 1


def test_a_chain_file_is_a_cut_off_of_its_own(bench) -> None:
    stamp = bench.at("17:30")
    bench.quote("HEJ5 C90", 1.0, 1.1, at=stamp, feed="snapshot", source="chain-generic")
    (row,) = bench.derive("spine")
    assert (row["price_source"], row["feed"]) == ("quote", "snapshot")
    assert row["as_of"] == row["valued_at"] == row["quotes_to"] == stamp
    assert row["quotes_from"] < stamp


def test_a_stamp_after_the_close_describes_the_close(bench) -> None:
    stamp = bench.at("23:30")
    bench.quote("HEJ5 C90", 1.0, 1.1, at=stamp, feed="snapshot", source="chain-generic")
    (row,) = bench.derive("spine")
    assert row["as_of"] == stamp
    assert row["valued_at"] == bench.session()["close_at"]


def test_a_stamp_on_a_weekend_belongs_to_the_session_before(bench) -> None:
    stamp = bench.at("15:00", date(2025, 3, 8))
    bench.quote("HEJ5 C90", 1.0, 1.1, at=stamp, feed="snapshot", source="chain-generic")
    (row,) = bench.derive("spine", sessions=[date(2025, 3, 7)])
    assert row["session_date"] == date(2025, 3, 7)
    assert bench.derive("spine", sessions=[date(2025, 3, 6)]) == []


def test_a_stamp_is_dated_in_the_exchanges_zone(bench) -> None:
    """03:00 UTC is still the evening before in Chicago."""
    stamp = bench.at("03:00", date(2025, 3, 7))
    bench.quote("HEJ5 C90", 1.0, 1.1, at=stamp, feed="snapshot", source="chain-generic")
    (row,) = bench.derive("spine", sessions=[date(2025, 3, 6), date(2025, 3, 7)])
    assert row["session_date"] == date(2025, 3, 6)


def test_summer_time_moves_the_sessions(bench) -> None:
    """Monday 10 March 2025 is in summer time: 13:00 in Chicago is 18:00 UTC."""
    assert bench.session()["snapshot_at"] == bench.at("19:00")
    assert bench.session(date(2025, 3, 10))["snapshot_at"] == bench.at("18:00", date(2025, 3, 10))


def test_rows_are_numbered_once_each(bench) -> None:
    bench.quote("HEJ5 C90", 1.0, 1.1)
    bench.settle("HEJ5 C90", 1.0, at=bench.at("20:05"))
    bench.settle("HEJ5 C90", 1.0)
    assert [row["spine_id"] for row in bench.derive("spine")] == [1, 2, 3]
