"""affected_sessions.sql: every session whose rows may have changed is named."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from etl import engine, sqlfiles
from etl.schemas import DATASETS

CONTRACT = "HEJ5 C90"


def affected(
    bench,
    fresh: set[str],
    known_at: datetime,
    last_known_at: datetime = datetime(2025, 3, 1, tzinfo=UTC),
) -> list[date]:
    """The sessions that are derived again when the rows of the datasets ``fresh`` are new."""
    bench.prepare(known_at=known_at, last_known_at=last_known_at)
    for dataset in DATASETS:
        only = "true" if dataset in fresh else "false"
        rows = f"select * from raw.{dataset} where {only}"
        engine.create_as(bench.connection, f"fresh.{dataset}", rows)
    months = "select unnest([date '2025-02-01', date '2025-03-01']) as first_day"
    engine.create_as(bench.connection, "derive.months", months)
    rows = bench.sql(sqlfiles.text("derive/affected_sessions.sql"))
    days = [row["session_date"] for row in rows]
    assert days == sorted(set(days))
    return days


def sessions(bench, first: date, last: date) -> list[date]:
    rows = bench.rows("meta.sessions", f"session_date between '{first}' and '{last}'")
    return [row["session_date"] for row in rows]


def test_with_nothing_new_and_no_cut_off_passed_nothing_is_affected(bench) -> None:
    now = bench.at("20:00")
    bench.quote(CONTRACT, 1.0, 1.1)
    assert affected(bench, set(), now, last_known_at=now) == []


def test_a_session_is_affected_when_its_cut_off_passes(bench) -> None:
    bench.quote(CONTRACT, 1.0, 1.1)
    cut_off = bench.session()["cut_off"]
    microsecond = timedelta(microseconds=1)
    before = cut_off - microsecond
    assert affected(bench, set(), cut_off, last_known_at=before) == [date(2025, 3, 6)]
    assert affected(bench, set(), before, last_known_at=before - microsecond) == []
    assert affected(bench, set(), cut_off + microsecond, last_known_at=cut_off) == []


def test_a_fresh_quote_affects_its_session(bench) -> None:
    now = bench.at("12:00", date(2025, 3, 20))
    bench.quote(CONTRACT, 1.0, 1.1)
    assert date(2025, 3, 6) in affected(bench, {"option_quote"}, now, last_known_at=now)


def test_a_statistic_affects_every_session_that_may_carry_it(bench) -> None:
    now = bench.at("12:00", date(2025, 3, 31))
    bench.open_interest(CONTRACT, 5)
    days = affected(bench, {"option_stat"}, now, last_known_at=now)
    assert set(sessions(bench, date(2025, 3, 5), date(2025, 3, 16))) <= set(days)
    assert date(2025, 2, 25) not in days


def test_a_settlement_that_became_known_affects_its_session(bench) -> None:
    """The file landed before, but its window ends only now."""
    bench.settle(CONTRACT, 2.0, at=bench.at("23:05"))
    days = affected(bench, set(), bench.at("23:15"), last_known_at=bench.at("23:14"))
    assert days == [date(2025, 3, 6)]
    assert affected(bench, set(), bench.at("23:40"), last_known_at=bench.at("23:30")) == []


def test_the_settlements_of_a_weekends_chain_file_are_the_session_befores(bench) -> None:
    saturday = date(2025, 3, 8)
    file = {"source": "chain-generic", "ref_date": saturday, "at": bench.at("15:05", saturday)}
    bench.settle(CONTRACT, 2.0, **file)
    now = bench.at("15:15", saturday)
    days = affected(bench, set(), now, last_known_at=bench.at("15:06", saturday))
    assert days == [date(2025, 3, 7)]


def test_a_definition_affects_all_sessions_after_it(bench) -> None:
    now = bench.at("12:00", date(2025, 3, 13))
    bench.list_option(CONTRACT, at=bench.at("12:00", date(2025, 3, 5)))
    bench.quote(CONTRACT, 1.0, 1.1)
    days = affected(bench, {"option_definition"}, now, last_known_at=now)
    assert set(sessions(bench, date(2025, 3, 5), date(2025, 3, 12))) <= set(days)


def test_a_session_that_has_not_opened_is_not_affected(bench) -> None:
    now = bench.at("12:00", date(2025, 3, 13))
    bench.list_option(CONTRACT, at=bench.at("12:00", date(2025, 3, 5)))
    days = affected(bench, {"option_definition"}, now, last_known_at=now)
    assert max(days) < date(2025, 3, 13)


def test_months_without_prices_have_no_sessions_to_derive(bench) -> None:
    now = bench.at("12:00", date(2025, 6, 2))
    bench.list_option(CONTRACT, at=bench.at("12:00", date(2024, 11, 5)))
    days = affected(bench, {"option_definition"}, now, last_known_at=now)
    assert min(days) >= date(2025, 1, 27)
    assert max(days) <= date(2025, 4, 15)


def _chain_file(bench, at: datetime) -> None:
    source = "chain-generic"
    bench.list_option(CONTRACT, underlying=None, source=source, at=at)
    bench.quote(CONTRACT, 1.0, 1.1, feed="snapshot", source=source, at=at)
    bench.open_interest(CONTRACT, 9, ref_date=None, source=source, at=at)


#: What may land late, each with the datasets that it is new in.
ARRIVALS = {
    "quote": ({"option_quote"}, lambda b, at: b.quote(CONTRACT, 2.0, 2.2, at=at)),
    "future": ({"futures_quote"}, lambda b, at: b.quote("HEJ5", 91.0, 91.2, at=at)),
    "minute": ({"futures_1m"}, lambda b, at: b.bar("HEJ5", 92.0, at)),
    "open interest": ({"option_stat"}, lambda b, at: b.open_interest(CONTRACT, 7, at=at)),
    "volume": ({"futures_stat"}, lambda b, at: b.volume("HEJ5", 7, at=at)),
    "settlement": ({"option_stat"}, lambda b, at: b.settle(CONTRACT, 1.3, at=at)),
    "future's settlement": ({"futures_stat"}, lambda b, at: b.settle("HEK5", 90.4, at=at)),
    "definition": (
        {"option_definition"},
        lambda b, at: b.list_option(CONTRACT, at=at, strike=91.0),
    ),
    "future's definition": (
        {"futures_definition"},
        lambda b, at: b.land("futures_definition", contract="HEJ5", at=at),
    ),
    "chain file": ({"option_definition", "option_quote", "option_stat"}, _chain_file),
}
TABLES = ("chain_v1", "session_bar_v1")
WINDOW = [date(2025, 2, day) for day in range(24, 29)] + [
    date(2025, 3, day) for day in range(1, 25)
]


def derived(bench, now: datetime) -> dict[date, list[dict[str, Any]]]:
    """Every derived row by session."""
    by_day: dict[date, list[dict[str, Any]]] = {}
    for table in TABLES:
        for row in bench.derive(table, sessions=WINDOW, known_at=now):
            by_day.setdefault(row["session_date"], []).append(row)
    return by_day


@pytest.mark.parametrize("what", list(ARRIVALS))
def test_whatever_lands_late_no_changed_session_is_left_out(bench, what: str) -> None:
    """Derive, land one row more, derive again: what differs is among the affected."""
    now = datetime(2025, 3, 25, 12, tzinfo=UTC)
    bench.list_option(CONTRACT)
    for day in sessions(bench, date(2025, 3, 3), date(2025, 3, 14)):
        snapshot = bench.session(day)["snapshot_at"]
        bench.quote(CONTRACT, 1.0, 1.1, at=snapshot - timedelta(hours=2))
        bench.bar("HEJ5", 90.0, snapshot - timedelta(hours=2))
        bench.settle(CONTRACT, 1.2, ref_date=day, at=bench.at("23:00", day))
        bench.settle("HEJ5", 90.1, ref_date=day, at=bench.at("23:00", day))
    landed, before = bench.landed(), derived(bench, now)
    datasets, land = ARRIVALS[what]
    changed_ever = set()
    for instant in (
        bench.at("14:00"),
        bench.at("18:59"),
        bench.at("23:05"),
        bench.at("15:00", date(2025, 3, 8)),  # a Saturday
    ):
        land(bench, instant)
        after = derived(bench, now)
        days = before.keys() | after.keys()
        changed = {day for day in days if before.get(day) != after.get(day)}
        assert changed <= set(affected(bench, datasets, now, last_known_at=now))
        changed_ever |= changed
        bench.forget(landed)
    assert changed_ever, "the case shows nothing"
