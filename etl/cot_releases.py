"""When each Commitments of Traders report became known.

The CFTC releases the positions of a Tuesday on the Friday after it, at 15:30 in Washington; a
federal holiday on the Wednesday, Thursday or Friday moves the release to the next working day, a
holiday earlier in the week does not.  What departed from that stands in ``cot_releases.toml``.
"""

from __future__ import annotations

import calendar
import tomllib
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl

__all__ = ["COVERED_TO", "release_day", "releases", "report_as_of", "runs_out"]

_TABLE = Path(__file__).parent / "cot_releases.toml"
_WASHINGTON = "America/New_York"
_RELEASE_TIME = time(15, 30)
_CLOSE_OF_BUSINESS = time(17, 0)
_FRIDAY = 4
_ONE_DAY = timedelta(days=1)
_NOTICE = timedelta(days=180)  # to look up next year's holidays before they matter


def releases(report_dates: pl.Series) -> pl.DataFrame:
    """Return when the report of each date was released.

    Parameters
    ----------
    report_dates : Series of Date, shape (n,)
        The days whose positions the reports state: Tuesdays, or Mondays before a holiday.

    Returns
    -------
    DataFrame, n rows in the order given
        ``report_date`` (Date), ``available_at`` (Datetime, us, UTC), ``estimated`` (Boolean): the
        release day is not known and was taken late, or lies beyond ``COVERED_TO``.  NULL dates
        stay NULL.
    """
    asked = report_dates.cast(pl.Date).alias("report_date")
    days = {day: release_day(day) for day in asked.drop_nulls().unique().to_list()}
    known = pl.DataFrame(
        {
            "report_date": list(days),
            "available_at": [_washington(day, _RELEASE_TIME) for day, _ in days.values()],
            "estimated": [estimated for _, estimated in days.values()],
        },
        schema={
            "report_date": pl.Date,
            "available_at": pl.Datetime("us", "UTC"),
            "estimated": pl.Boolean,
        },
    )
    return asked.to_frame().join(known, on="report_date", how="left", maintain_order="left")


def report_as_of(report_dates: pl.Series) -> pl.Series:
    """Return the close of business (17:00 America/New_York) of each report date, in UTC."""
    return (
        report_dates.cast(pl.Date)
        .to_frame("as_of")
        .select(
            pl.col("as_of")
            .dt.combine(_CLOSE_OF_BUSINESS, time_unit="us")
            .dt.replace_time_zone(_WASHINGTON)
            .dt.convert_time_zone("UTC")
        )
        .to_series()
    )


def release_day(report_date: date) -> tuple[date, bool]:
    """Return the day on which a report came out, and whether that day is an estimate."""
    friday = _friday_after(report_date)
    if friday in _departures():
        return _departures()[friday]
    wednesday_to_friday = {friday - 2 * _ONE_DAY, friday - _ONE_DAY, friday}
    day = friday
    if wednesday_to_friday & _holidays_around(friday):
        day = friday + 3 * _ONE_DAY
        while day in _holidays_around(day):
            day += _ONE_DAY
    return day, report_date > COVERED_TO


def _friday_after(report_date: date) -> date:
    """The Friday of a report's week; from Thursday on that of the next: none comes faster."""
    soonest = report_date + timedelta(days=2)
    return soonest + timedelta(days=(_FRIDAY - soonest.weekday()) % 7)


def _washington(day: date, clock: time) -> datetime:
    return datetime.combine(day, clock, tzinfo=ZoneInfo(_WASHINGTON)).astimezone(ZoneInfo("UTC"))


@lru_cache(maxsize=1)
def _departures() -> dict[date, tuple[date, bool]]:
    """(Release day, estimated) where the weekly rule did not hold, by the Friday it names.

    The Friday stands for the week: the rule must not come back for a report dated a day off.
    """
    found: dict[date, tuple[date, bool]] = {}
    for event in tomllib.loads(_TABLE.read_text(encoding="utf-8"))["event"]:
        for key, estimated in (("released", False), ("by", True)):
            for report, day in event.get(key, {}).items():
                found[_friday_after(date.fromisoformat(report))] = (day, estimated)
    return found


def _holidays_around(day: date) -> set[date]:
    return set(_federal_holidays(day.year)) | set(_federal_holidays(day.year + 1))


@lru_cache(maxsize=128)
def _federal_holidays(year: int) -> frozenset[date]:
    """Days off of federal offices for the holidays of ``year`` (5 U.S.C. 6103).

    A holiday on Saturday is observed on the Friday before, one on Sunday on the Monday after, so
    that the New Year of ``year`` can fall into the year before.
    """
    return frozenset(day + _OBSERVED.get(day.weekday(), timedelta()) for day in _holidays(year))


#: Saturday and Sunday, by ``date.weekday()``.
_OBSERVED = {5: -_ONE_DAY, 6: _ONE_DAY}


def _holidays(year: int) -> Iterator[date]:
    yield date(year, 1, 1)
    yield _nth_weekday(year, 1, calendar.MONDAY, 3)  # Martin Luther King
    yield _nth_weekday(year, 2, calendar.MONDAY, 3)  # Washington
    yield _nth_weekday(year, 6, calendar.MONDAY, 1) - timedelta(days=7)  # Memorial Day
    if year >= 2022:  # the law came on the day before the observance of 2021
        yield date(year, 6, 19)
    yield date(year, 7, 4)
    yield _nth_weekday(year, 9, calendar.MONDAY, 1)  # Labor Day
    yield _nth_weekday(year, 10, calendar.MONDAY, 2)  # Columbus Day
    yield date(year, 11, 11)
    yield _nth_weekday(year, 11, calendar.THURSDAY, 4)  # Thanksgiving
    yield date(year, 12, 25)


def _nth_weekday(year: int, month: int, weekday: int, nth: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))


def _covered_to() -> date:
    covered: date = tomllib.loads(_TABLE.read_text(encoding="utf-8"))["covered_to"]
    return covered


#: The last report date for which the rule and the table are known to hold.
COVERED_TO: date = _covered_to()


def runs_out(today: date) -> str | None:
    """A line for a person once the table ends within half a year of ``today``."""
    if today < COVERED_TO - _NOTICE:
        return None
    return (
        f"the COT release calendar covers reports to {COVERED_TO}: later ones are estimated; "
        "update etl/cot_releases.toml, or install a newer version"
    )
