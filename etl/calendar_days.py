"""Trading days and early closes of exchanges, as pandas_market_calendars has them.

To import that library and to have it work a calendar out takes a second, of every command and of
every worker.  So what it says of the calendars of this project's own markets is kept in
``calendar_days.json``, which a test holds equal to the library::

    python -m etl.calendar_days > etl/calendar_days.json
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from etl.errors import BadInput
from etl.market import markets

__all__ = ["KEPT_FROM", "KEPT_UNTIL", "TRADE_DATES", "Days", "days", "kept", "worked_out"]

#: The calendar of days on which trades settle, which others are corrected by.
TRADE_DATES = "CME_TradeDate"

#: The years that are kept.
KEPT_FROM, KEPT_UNTIL = 2006, 2040

_KEPT = Path(__file__).with_suffix(".json")
_SATURDAY = 5


class Days(NamedTuple):
    """A calendar's own name, its days, and the instants of early closes by their day."""

    name: str
    listed: frozenset[date]
    early: Mapping[date, datetime]


def days(calendar: str, first: date, last: date) -> Days:
    """The days of a calendar from ``first`` to ``last``, both included.

    Raises
    ------
    BadInput
        The library has no calendar of the name.
    """
    about = kept().get(calendar)
    if about is None or first.year < KEPT_FROM or last.year > KEPT_UNTIL:
        return worked_out(calendar, first, last)
    closed = {date.fromisoformat(day) for year in about["closed"] for day in year.split()}
    instants = (datetime.fromisoformat(at) for year in about["early"] for at in year.split())
    return Days(
        about["name"],
        frozenset(_weekdays(first, last) - closed),
        {at.date(): at for at in instants if first <= at.date() <= last},
    )


def worked_out(calendar: str, first: date, last: date) -> Days:
    """The same by the library, of any calendar that it has."""
    import pandas_market_calendars as library

    try:
        found = library.get_calendar(calendar)
    except RuntimeError:
        raise BadInput(
            f"unknown session calendar {calendar!r}: give a name that"
            " pandas_market_calendars.get_calendar_names() lists"
        ) from None
    span = (first.isoformat(), last.isoformat())
    return Days(
        found.name,
        frozenset(stamp.date() for stamp in found.valid_days(*span)),
        {
            stamp.date(): close.to_pydatetime().astimezone(UTC)
            for stamp, close in found.special_dates("market_close", *span).items()
        },
    )


@cache
def kept() -> dict[str, Any]:
    """What is kept, by the name that a market's file gives a calendar."""
    found: dict[str, Any] = json.loads(_KEPT.read_text(encoding="utf-8"))
    return found


def _weekdays(first: date, last: date) -> set[date]:
    every = (first + timedelta(n) for n in range((last - first).days + 1))
    return {day for day in every if day.weekday() < _SATURDAY}


def _to_keep() -> dict[str, Any]:
    """What is kept: of each calendar the weekdays without a session and the early closes."""
    first, last = date(KEPT_FROM, 1, 1), date(KEPT_UNTIL, 12, 31)
    found = {}
    for calendar in sorted({TRADE_DATES} | {market.calendar for market in markets().values()}):
        name, listed, early = worked_out(calendar, first, last)
        weekdays = _weekdays(first, last)
        if not listed <= weekdays or any(at.date() != day for day, at in early.items()):
            raise ValueError(f"{calendar} has sessions at a weekend, or closes after midnight UTC")
        closes = [f"{at:%Y-%m-%dT%H:%MZ}" for at in early.values()]
        closed = [day.isoformat() for day in weekdays - listed]
        found[calendar] = {"name": name, "closed": _by_year(closed), "early": _by_year(closes)}
    return found


def _by_year(texts: Iterable[str]) -> list[str]:
    """One text a year: dates or instants, in order."""
    years: defaultdict[str, list[str]] = defaultdict(list)
    for text in sorted(texts):
        years[text[:4]].append(text)
    return [" ".join(of_year) for of_year in years.values()]


if __name__ == "__main__":
    print(json.dumps(_to_keep(), indent=1))
