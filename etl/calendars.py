"""Trading sessions of each market, and the instants that cut them.

The days and short days come from pandas_market_calendars, corrected by
``calendar_corrections.toml``; the times of a regular day come from the market's file and hold for
the whole history.  What was traded is checked against these sessions elsewhere.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from etl import calendar_days
from etl.market import Market, time_of_day

__all__ = ["session_close_at", "sessions"]

_CORRECTIONS = Path(__file__).parent / "calendar_corrections.toml"
_CORRECTIONS_ZONE = ZoneInfo("America/Chicago")

#: Every call within these years is answered from one table a market; the corrections cover them.
_FIRST_YEAR, _LAST_YEAR = 2006, 2027

#: Dates outside these years have no session: the library's rules make no sense there.
_NEAR_YEAR, _FAR_YEAR = 1970, 2100

#: A short day settles this long before its close at most, however late a regular day closes.
_SHORT_DAY_LEAD = timedelta(minutes=20)

_UTC = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class _Corrections:
    trade_dates_only: frozenset[str]
    closed: Mapping[str, frozenset[date]]
    opened: Mapping[str, frozenset[date]]
    early: Mapping[str, Mapping[date, datetime]]


def sessions(market: Market, start: date, end: date) -> pl.DataFrame:
    """Return the market's sessions from ``start`` to ``end``, both included.

    On a day that closes early, snapshot and cut-off keep their distance to the close, but lie
    no further from it than 20 minutes: the exchange then settles shortly before the close.

    Returns
    -------
    DataFrame
        ``market`` (String), ``session_date`` (Date), ``open_at``, ``snapshot_at``, ``cut_off``,
        ``close_at`` (Datetime, us, UTC); one row a session, in order of date.  A session that
        opens in the evening before has an ``open_at`` of the day before, or before the holidays
        in between when there was trading on them.

    Raises
    ------
    BadInput
        The library has no calendar of the market's name.
    """
    table = _covering(market, start.year, end.year)
    return table.filter(pl.col("session_date").is_between(start, end))


def session_close_at(market: Market, dates: pl.Series) -> pl.Series:
    """Return the instant at which the session of each date closes.

    Parameters
    ----------
    dates : Series of Date, shape (n,)
        Dates without a session get the time of a regular close, so that a statistic with an odd
        reference date still has an instant.

    Returns
    -------
    Series of Datetime (us, UTC) named ``close_at``, shape (n,); NULL for a NULL date.
    """
    asked = pl.DataFrame({"session_date": dates.cast(pl.Date)})
    year = pl.col("session_date").dt.year()
    first, last = asked.select(year.min().alias("first"), year.max().alias("last")).row(0)
    table = _covering(market, first or _FIRST_YEAR, last or _LAST_YEAR)
    closes = table.select("session_date", "close_at")
    regular = _local("session_date", market.session_close, market.timezone)
    return (
        asked.join(closes, on="session_date", how="left", maintain_order="left")
        .select(pl.coalesce("close_at", regular).alias("close_at"))
        .to_series()
    )


def _covering(market: Market, first_year: int, last_year: int) -> pl.DataFrame:
    return _table(
        market,
        max(min(first_year, _FIRST_YEAR), _NEAR_YEAR),
        min(max(last_year, _LAST_YEAR), _FAR_YEAR),
    )


@lru_cache(maxsize=8)  # a run goes through its markets one after the other
def _table(market: Market, first_year: int, last_year: int) -> pl.DataFrame:
    zone = market.timezone
    opening = pl.col("first_trading").dt.offset_by("-1d" if market.opens_day_before else "0d")
    regular = _local("session_date", market.session_close, zone)
    return (
        _days(market.calendar, date(first_year, 1, 1), date(last_year, 12, 31))
        .with_columns(opening.alias("opening_day"))
        .with_columns(
            pl.lit(market.code).alias("market"),
            _local("opening_day", market.session_open, zone).alias("open_at"),
            *(
                pl.min_horizontal(
                    _local("session_date", clock, zone),
                    pl.col("early_close") - _short_day_lead(market, clock),
                ).alias(name)
                for name, clock in (("snapshot_at", market.snapshot), ("cut_off", market.cut_off))
            ),
            pl.min_horizontal("early_close", regular).alias("close_at"),
        )
        .select("market", "session_date", "open_at", "snapshot_at", "cut_off", "close_at")
    )


def _short_day_lead(market: Market, clock: str) -> timedelta:
    """How long before an early close the instant lies that a regular day has at ``clock``."""
    lead = _since_midnight(market.session_close) - _since_midnight(clock)
    return min(lead, _SHORT_DAY_LEAD)


def _since_midnight(clock: str) -> timedelta:
    at = time_of_day(clock)
    return timedelta(hours=at.hour, minutes=at.minute)


def _local(column: str, clock: str, zone: str) -> pl.Expr:
    """The instant at which it is ``clock`` in ``zone`` on the date in ``column``."""
    at = time_of_day(clock)
    return (
        pl.col(column)
        .dt.combine(at, time_unit="us")
        .dt.replace_time_zone(zone)
        .dt.convert_time_zone("UTC")
    )


@lru_cache(maxsize=32)
def _days(calendar: str, first: date, last: date) -> pl.DataFrame:
    """Session dates of a library calendar as corrected, and the instants of early closes.

    ``first_trading`` is the first calendar day whose trading counts for the session: earlier than
    ``session_date`` only where there was trading on holidays before it.
    """
    name, listed, early = calendar_days.days(calendar, first, last)
    fix = _corrections()
    days = set(listed)
    if name in fix.trade_dates_only:
        days &= calendar_days.days(calendar_days.TRADE_DATES, first, last).listed
    days = (days | fix.opened.get(name, frozenset())) - fix.closed.get(name, frozenset())
    early = {**early, **fix.early.get(name, {})}
    ordered = sorted(day for day in days if first <= day <= last)
    first_trading = ordered
    if name in fix.trade_dates_only and ordered:
        trading = sorted(listed | days)
        after_previous = (trading[bisect_right(trading, day)] for day in ordered[:-1])
        first_trading = [ordered[0], *after_previous]
    return pl.DataFrame(
        {
            "session_date": ordered,
            "first_trading": first_trading,
            "early_close": [early.get(day) for day in ordered],
        },
        schema={"session_date": pl.Date, "first_trading": pl.Date, "early_close": _UTC},
    )


@lru_cache(maxsize=1)
def _corrections() -> _Corrections:
    table = tomllib.loads(_CORRECTIONS.read_text(encoding="utf-8"))
    early: dict[str, dict[date, datetime]] = {}
    for entry in table["early"]:
        for calendar in entry["calendars"]:
            early.setdefault(calendar, {}).update(
                {
                    day: datetime.combine(
                        day, time_of_day(entry["close"]), tzinfo=_CORRECTIONS_ZONE
                    ).astimezone(ZoneInfo("UTC"))
                    for day in entry["dates"]
                }
            )
    return _Corrections(
        trade_dates_only=frozenset(table["trade_dates_only"]),
        closed=_by_calendar(table["closed"]),
        opened=_by_calendar(table["open"]),
        early=early,
    )


def _by_calendar(entries: list[dict[str, Any]]) -> dict[str, frozenset[date]]:
    dates: dict[str, frozenset[date]] = {}
    for entry in entries:
        for calendar in entry["calendars"]:
            dates[calendar] = dates.get(calendar, frozenset()) | frozenset(entry["dates"])
    return dates
