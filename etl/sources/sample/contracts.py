"""What is listed when: futures and options contracts with their expirations.

Rules, from CME's contract specifications: lean hog futures and options end at noon on the tenth
business day of the contract month; oat futures end on the business day before the 15th of it;
grain options end on the last Friday that precedes the last business day of the month before
their own by at least two business days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl.calendars import sessions
from etl.market import Market
from etl.sources.sample.products import MONTHS, Product

__all__ = ["DAY_NS", "Contracts", "Sessions", "futures", "local_ns", "options", "session_table"]

Days = NDArray[np.datetime64]
Ints = NDArray[np.int64]

DAY_NS = 86_400_000_000_000
#: The invented world begins here; contracts that were listed earlier count as listed then.
FIRST_YEAR = 2017


@dataclass(frozen=True)
class Sessions:
    """The market's sessions since the world began, in order; instants in ns since 1970, UTC."""

    day: Days
    open_at: Ints
    snapshot_at: Ints
    close_at: Ints

    def __len__(self) -> int:
        return len(self.day)

    @property
    def midnight(self) -> Ints:
        """00:00 UTC of each session's date, in ns."""
        return _day_ns(self.day)


@dataclass(frozen=True)
class Contracts:
    """Contracts in order of expiration; one kind (futures or options) of one market."""

    stem: list[str]  # "HEZ6": the future's symbol, or the beginning of the options'
    year: Ints
    month: Ints  # 1 to 12
    expiry: Days  # exchange-local date
    expires_at: Ints  # ns, UTC
    first: Ints  # index of the first session in which the contract is listed
    last: Ints  # index of the last one
    underlying: Ints  # index of the future that it delivers (its own, for a future)

    def __len__(self) -> int:
        return len(self.stem)

    @property
    def month_number(self) -> Ints:
        """Months since 2010, which instrument ids are made of."""
        return (self.year - 2010) * 12 + self.month - 1


def session_table(market: Market, until_year: int) -> Sessions:
    """Return the sessions from the world's first to the end of ``until_year``."""
    table = sessions(market, date(FIRST_YEAR, 1, 1), date(until_year, 12, 31))

    def instants(column: str) -> Ints:
        return table[column].dt.epoch("us").to_numpy().astype(np.int64) * 1000

    return Sessions(
        day=table["session_date"].to_numpy().astype("datetime64[D]"),
        open_at=instants("open_at"),
        snapshot_at=instants("snapshot_at"),
        close_at=instants("close_at"),
    )


def local_ns(days: Days, clock: time, zone: str) -> Ints:
    """Return the instants of a local time of day, in ns UTC."""
    local = pl.Series(days.astype("datetime64[D]")).cast(pl.Date).dt.combine(clock)
    return local.dt.replace_time_zone(zone).dt.epoch("us").to_numpy().astype(np.int64) * 1000


def futures(market: Market, product: Product, table: Sessions) -> Contracts:
    """Return the market's futures whose expirations the sessions reach."""
    year, month = _months(product.futures_months, table)
    start = _month_start(year, month)
    if product.options_expire_with_future:
        expiry = table.day[np.searchsorted(table.day, start) + 9]
        clock = time(12, 0)
    else:
        expiry = table.day[np.searchsorted(table.day, start + 14) - 1]
        clock = time(12, 1)
    return _contracts(
        market.futures_root,
        year,
        month,
        expiry,
        local_ns(expiry, clock, market.timezone),
        table,
        product.n_futures,
        np.arange(len(year)),
    )


def options(market: Market, product: Product, table: Sessions, on: Contracts) -> Contracts:
    """Return the market's option months; each exercises into the next future of ``on``."""
    if product.options_expire_with_future:
        year, month, expiry, expires_at = on.year, on.month, on.expiry, on.expires_at
        underlying = np.arange(len(on))
    else:
        year, month = _months(product.option_months, table)
        month_number = year * 12 + month
        underlying = np.searchsorted(on.year * 12 + on.month, month_number)
        held = underlying < len(on)
        year, month, underlying = year[held], month[held], underlying[held]
        expiry = _grain_option_expiry(table, _month_start(year, month))
        expires_at = table.close_at[np.searchsorted(table.day, expiry)]
    return _contracts(
        market.option_roots[0],
        year,
        month,
        expiry,
        expires_at,
        table,
        product.n_expiries,
        underlying,
    )


def _months(letters: str, table: Sessions) -> tuple[Ints, Ints]:
    """Return years and months of the contract cycle, two months short of the calendar's end."""
    last = table.day[-1].astype("datetime64[M]").astype(int) + 1970 * 12 - 2
    number = np.arange(FIRST_YEAR * 12 + 1, last)  # from February: an option ends a month before
    listed = np.isin(number % 12 + 1, [MONTHS.index(letter) + 1 for letter in letters])
    number = number[listed].astype(np.int64)
    return number // 12, number % 12 + 1


def _month_start(year: Ints, month: Ints) -> Days:
    return ((year - 1970) * 12 + month - 1).astype("datetime64[M]").astype("datetime64[D]")


def _grain_option_expiry(table: Sessions, month_start: Days) -> Days:
    last = np.searchsorted(table.day, month_start) - 1  # last business day of the month before
    latest = table.day[last - 2]
    weekday = (latest.astype(np.int64) + 3) % 7  # Monday 0
    friday = latest - (weekday - 4) % 7
    return table.day[np.searchsorted(table.day, friday, side="right") - 1]


def _contracts(
    root: str,
    year: Ints,
    month: Ints,
    expiry: Days,
    expires_at: Ints,
    table: Sessions,
    n_listed: int,
    underlying: Ints,
) -> Contracts:
    """Complete the contracts: ``n_listed`` are listed at a time, an expired one makes room."""
    first = np.zeros(len(year), dtype=np.int64)
    first[n_listed:] = np.searchsorted(table.day, expiry[:-n_listed], side="right")
    return Contracts(
        stem=[f"{root}{MONTHS[m - 1]}{y % 10}" for y, m in zip(year, month, strict=True)],
        year=year,
        month=month,
        expiry=expiry,
        expires_at=expires_at,
        first=first,
        last=np.searchsorted(table.day, expiry).astype(np.int64),
        underlying=underlying.astype(np.int64),
    )


def _day_ns(days: Days) -> Ints:
    return days.astype("datetime64[D]").astype(np.int64) * DAY_NS
