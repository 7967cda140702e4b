from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from etl import calendar_days
from etl.calendars import session_close_at, sessions
from etl.errors import BadInput
from etl.market import Market, market, markets

CHICAGO = ZoneInfo("America/Chicago")
NEW_YORK = ZoneInfo("America/New_York")
START, END = date(2006, 1, 1), date(2027, 12, 31)

LIVESTOCK, GRAINS = ("HE", "LE", "GF"), ("ZO", "ZC", "ZS", "ZW")
ENERGY_METALS = ("CL", "NG", "GC")
CME = LIVESTOCK + GRAINS + ENERGY_METALS + ("ES",)


def on(code: str, day: date) -> dict[str, datetime]:
    """The session of one day; KeyError-like failure when there is none."""
    found = sessions(market(code), day, day)
    assert found.height == 1, f"{code} has no session on {day}"
    return found.row(0, named=True)


def is_session(code: str, day: date) -> bool:
    return sessions(market(code), day, day).height == 1


def local(instant: datetime, zone: ZoneInfo = CHICAGO) -> str:
    return instant.astimezone(zone).strftime("%Y-%m-%d %H:%M")


def test_a_regular_session_of_lean_hogs() -> None:
    row = on("HE", date(2024, 5, 9))
    assert row["market"] == "HE"
    assert local(row["open_at"]) == "2024-05-09 08:30"
    assert local(row["snapshot_at"]) == local(row["cut_off"]) == "2024-05-09 13:00"
    assert local(row["close_at"]) == "2024-05-09 13:05"


def test_a_session_that_opens_the_evening_before() -> None:
    row = on("ZO", date(2024, 5, 13))  # a Monday
    assert local(row["open_at"]) == "2024-05-12 19:00"
    assert local(row["close_at"]) == "2024-05-13 13:20"


def test_trading_on_a_holiday_belongs_to_the_next_trade_date() -> None:
    # Martin Luther King on Monday, Thanksgiving on Thursday, Good Friday with a short session.
    assert local(on("CL", date(2024, 1, 16))["open_at"], NEW_YORK) == "2024-01-14 18:00"
    assert local(on("ES", date(2024, 11, 29))["open_at"]) == "2024-11-27 17:00"
    assert local(on("ES", date(2023, 4, 10))["open_at"]) == "2023-04-06 17:00"
    # Agriculture is shut on them.
    assert local(on("ZO", date(2024, 1, 16))["open_at"]) == "2024-01-15 19:00"
    assert local(on("HE", date(2024, 1, 16))["open_at"]) == "2024-01-16 08:30"


def test_times_are_of_the_exchange_whatever_the_season() -> None:
    for day, utc in ((date(2024, 3, 8), "19:00"), (date(2024, 3, 11), "18:00")):
        assert on("HE", day)["snapshot_at"].strftime("%H:%M") == utc


def test_new_york_markets_keep_new_york_time() -> None:
    assert local(on("CL", date(2024, 7, 1))["snapshot_at"], NEW_YORK) == "2024-07-01 14:28"
    assert local(on("GC", date(2024, 1, 5))["snapshot_at"], NEW_YORK) == "2024-01-05 13:28"


@pytest.mark.parametrize("place", markets().values(), ids=lambda place: place.code)
def test_shape_order_and_types(place: Market) -> None:
    table = sessions(place, START, END)
    utc = pl.Datetime("us", "UTC")
    assert table.schema == pl.Schema(
        {
            "market": pl.String(),
            "session_date": pl.Date(),
            "open_at": utc,
            "snapshot_at": utc,
            "cut_off": utc,
            "close_at": utc,
        }
    )
    assert table["session_date"].is_sorted()
    assert table["session_date"].is_unique().all()
    assert table.null_count().row(0) == (0,) * 6
    assert table.filter(
        (pl.col("open_at") >= pl.col("snapshot_at"))
        | (pl.col("snapshot_at") > pl.col("cut_off"))
        | (pl.col("cut_off") >= pl.col("close_at"))
        | (pl.col("close_at") >= pl.col("open_at").shift(-1))
    ).is_empty()
    assert (table["session_date"].dt.weekday() <= 5).all()
    per_year = table.group_by(pl.col("session_date").dt.year()).len()["len"]
    assert per_year.is_between(249, 253).all()


@pytest.mark.parametrize(
    "day",
    [
        date(2024, 1, 1),
        date(2024, 1, 15),  # Martin Luther King
        date(2024, 2, 19),
        date(2024, 3, 29),  # Good Friday
        date(2021, 4, 2),  # Good Friday with an employment report
        date(2024, 5, 27),
        date(2022, 6, 20),  # the first Juneteenth
        date(2024, 6, 19),
        date(2027, 6, 18),  # observed on Friday
        date(2024, 7, 4),
        date(2026, 7, 3),  # observed on Friday
        date(2024, 9, 2),
        date(2024, 11, 28),
        date(2024, 12, 25),
        date(2021, 12, 24),  # observed on Friday
    ],
)
@pytest.mark.parametrize("code", [*CME, "SPX"])
def test_nobody_settles_on_a_holiday(code: str, day: date) -> None:
    assert not is_session(code, day)


@pytest.mark.parametrize("code", [*CME, "SPX"])
def test_juneteenth_was_a_session_before_2022(code: str) -> None:
    assert is_session(code, date(2020, 6, 19))
    assert is_session(code, date(2021, 6, 18))


@pytest.mark.parametrize("day", [date(2024, 10, 14), date(2024, 11, 11), date(2021, 12, 31)])
@pytest.mark.parametrize("code", [*CME, "SPX"])
def test_days_on_which_only_others_rest_are_sessions(code: str, day: date) -> None:
    assert is_session(code, day)


@pytest.mark.parametrize("day", [date(2018, 12, 5), date(2025, 1, 9)])
def test_days_of_mourning(day: date) -> None:
    assert all(is_session(code, day) for code in CME)
    assert not is_session("SPX", day)
    assert local(on("ES", day)["close_at"]) == f"{day} 08:30"
    assert local(on("CL", day)["close_at"]) == f"{day} 16:00"


def test_agriculture_closed_early_on_2025_01_09() -> None:
    for code in LIVESTOCK + GRAINS:
        row = on(code, date(2025, 1, 9))
        assert local(row["close_at"]) == "2025-01-09 12:15"
        assert local(row["snapshot_at"]) == "2025-01-09 12:10"


@pytest.mark.parametrize(
    ("code", "day", "close", "snapshot"),
    [
        ("HE", date(2024, 11, 29), "12:05", "12:00"),
        ("HE", date(2024, 12, 24), "12:05", "12:00"),
        ("LE", date(2019, 7, 3), "12:15", "12:10"),
        ("GF", date(2016, 12, 23), "12:15", "12:10"),
        ("ZO", date(2018, 7, 3), "12:05", "12:00"),
        ("ZW", date(2013, 12, 24), "12:00", "11:55"),
        ("ZC", date(2025, 11, 28), "12:05", "12:00"),
        ("CL", date(2013, 12, 24), "12:45", "12:25"),
        ("GC", date(2024, 11, 29), "12:45", "12:25"),
        ("NG", date(2026, 11, 27), "13:45", "13:25"),
        ("ES", date(2024, 7, 3), "12:15", "11:55"),
        ("ES", date(2024, 12, 24), "12:15", "11:55"),
        ("ES", date(2012, 10, 29), "08:15", "07:55"),
        ("SPX", date(2024, 12, 24), "12:15", "11:55"),
        ("SPX", date(2024, 7, 3), "12:15", "11:55"),
    ],
)
def test_an_early_close_takes_snapshot_and_cut_off_along(
    code: str, day: date, close: str, snapshot: str
) -> None:
    row = on(code, day)
    assert local(row["close_at"]) == f"{day} {close}"
    assert local(row["snapshot_at"]) == local(row["cut_off"]) == f"{day} {snapshot}"


def test_a_close_that_is_early_by_little_leaves_the_snapshot_alone() -> None:
    row = on("CL", date(2010, 12, 31))
    assert local(row["close_at"]) == "2010-12-31 15:15"
    assert local(row["snapshot_at"]) == "2010-12-31 13:28"


@pytest.mark.parametrize("day", [date(2023, 7, 3), date(2024, 7, 3), date(2025, 7, 3)])
def test_agriculture_no_longer_closes_early_before_independence_day(day: date) -> None:
    assert local(on("HE", day)["close_at"]) == f"{day} 13:05"
    assert local(on("ZO", day)["close_at"]) == f"{day} 13:20"


def test_index_options_were_shut_for_hurricane_sandy() -> None:
    assert not is_session("SPX", date(2012, 10, 29))
    assert is_session("HE", date(2012, 10, 29))


def test_a_cut_off_of_its_own_keeps_its_distance() -> None:
    place = replace(market("HE"), cut_off="13:03")
    row = sessions(place, date(2024, 12, 24), date(2024, 12, 24)).row(0, named=True)
    assert local(row["snapshot_at"]) == "2024-12-24 12:00"
    assert local(row["cut_off"]) == "2024-12-24 12:03"


def test_both_ends_are_included_and_an_empty_span_is_empty() -> None:
    place = market("HE")
    days = sessions(place, date(2024, 5, 6), date(2024, 5, 10))["session_date"].to_list()
    assert days == [date(2024, 5, day) for day in range(6, 11)]
    empty = sessions(place, date(2024, 5, 10), date(2024, 5, 6))
    assert empty.is_empty()
    assert empty.schema == sessions(place, START, END).schema
    assert sessions(place, date(2024, 5, 11), date(2024, 5, 12)).is_empty()


def test_the_span_asked_for_changes_no_session() -> None:
    for place in (market("ZO"), market("ES")):
        wide = sessions(place, date(1999, 1, 1), date(2035, 12, 31))
        narrow = sessions(place, date(2024, 1, 1), date(2024, 12, 31))
        assert wide.filter(pl.col("session_date").dt.year() == 2024).equals(narrow)
        assert wide["session_date"].dt.year().n_unique() == 37


def test_close_of_any_date() -> None:
    dates = pl.Series(
        "ref_date",
        [
            date(2024, 12, 24),  # early
            None,
            date(2024, 12, 23),
            date(2024, 12, 25),  # no session
            date(2024, 12, 28),  # a Saturday
            date(2024, 12, 23),  # again
            date(1985, 1, 2),
            date(2028, 11, 24),  # beyond the corrections: early by the library's rule
            date(2554, 1, 21),
        ],
    )
    closes = session_close_at(market("HE"), dates)
    assert closes.name == "close_at"
    assert closes.dtype == pl.Datetime("us", "UTC")
    assert [close and local(close) for close in closes] == [
        "2024-12-24 12:05",
        None,
        "2024-12-23 13:05",
        "2024-12-25 13:05",
        "2024-12-28 13:05",
        "2024-12-23 13:05",
        "1985-01-02 13:05",
        "2028-11-24 12:05",
        "2554-01-21 13:05",
    ]


def test_close_of_no_dates() -> None:
    empty = session_close_at(market("ES"), pl.Series([], dtype=pl.Date))
    assert empty.is_empty()
    assert empty.dtype == pl.Datetime("us", "UTC")


@pytest.mark.parametrize("place", markets().values(), ids=lambda place: place.code)
def test_close_of_a_session_is_the_one_in_its_row(place: Market) -> None:
    table = sessions(place, START, END)
    assert session_close_at(place, table["session_date"]).equals(table["close_at"])


def test_es_weekly_options_expire_after_the_snapshot_of_their_day() -> None:
    # EW2F6 in a real definition: expires 2026-01-09 21:00 UTC.
    row = on("ES", date(2026, 1, 9))
    expiry = datetime(2026, 1, 9, 21, tzinfo=ZoneInfo("UTC"))
    assert timedelta() < expiry - row["snapshot_at"] <= timedelta(minutes=10)


def test_a_calendar_that_the_library_has_not_is_refused_in_one_line() -> None:
    place = replace(market("HE"), calendar="CMEGlobex_Unicorns")
    with pytest.raises(BadInput, match="unknown session calendar 'CMEGlobex_Unicorns'") as caught:
        sessions(place, START, END)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("calendar", sorted(calendar_days.kept()))
def test_what_is_kept_of_a_calendar_is_what_the_library_has(calendar: str) -> None:
    whole = date(calendar_days.KEPT_FROM, 1, 1), date(calendar_days.KEPT_UNTIL, 12, 31)
    for first, last in (whole, (START, END), (date(2024, 3, 29), date(2024, 7, 3))):
        assert calendar_days.days(calendar, first, last) == calendar_days.worked_out(
            calendar, first, last
        ), "python -m etl.calendar_days > etl/calendar_days.json"


def test_of_other_years_and_other_calendars_the_library_is_asked() -> None:
    before = date(calendar_days.KEPT_FROM - 2, 5, 31), date(calendar_days.KEPT_FROM, 1, 3)
    found = calendar_days.days("CMEGlobex_Lean_Hog", *before)
    assert found == calendar_days.worked_out("CMEGlobex_Lean_Hog", *before)
    assert date(2004, 5, 31) not in found.listed
    assert date(2004, 6, 1) in found.listed
    assert "NYSE" not in calendar_days.kept()
    days = sessions(replace(market("HE"), calendar="NYSE"), date(2024, 12, 23), date(2024, 12, 27))
    assert days["session_date"].dt.day().to_list() == [23, 24, 26, 27]


def test_of_the_markets_of_the_project_the_slow_library_is_not_imported() -> None:
    code = (
        "import sys; from datetime import date; from etl.calendars import sessions;"
        "from etl.market import markets;"
        "print(*(sessions(m, date(2010, 1, 1), date(2026, 12, 31)).height for m in"
        " markets().values()), 'pandas_market_calendars' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *counts, is_imported = done.stdout.split()
    assert is_imported == "False"
    assert len(counts) == len(markets())
    assert all(4200 < int(count) < 4300 for count in counts)
