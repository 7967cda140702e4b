"""What a lake holds at a glance, and how thick its markets are."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from etl import show, sqlfiles
from etl.export import open_database
from etl.lake import Lake, market_of
from etl.market import Market

__all__ = ["MARKET", "THICKNESS", "Landed", "Status", "by_month", "configured", "look", "thickness"]

#: What is said of each configured market.
MARKET = ("market", "name", "multiplier", "exercise", "cot_code", "calendar")
#: What is said of each market, month and source of prices; averages of a session from the fifth.
THICKNESS = (
    *("market", "month", "prices", "sessions"),
    *("liquid_strikes", "full_expiries", "expiries"),
)


@dataclass
class Landed:
    """What has landed of one market."""

    rows: int = 0
    files: int = 0
    bytes: int = 0
    at: datetime | None = None  # the last landing
    sources: set[str] = field(default_factory=set)

    def line(self) -> str:
        """One line for a person."""
        sources = ", ".join(sorted(self.sources))
        last = f"; last landed {_minute(self.at)}" if self.at else ""
        return f"{self.rows:,} raw rows, {show.size(self.bytes)}, from {sources}{last}"


@dataclass(frozen=True)
class Status:
    """What a lake holds.

    ``holdings`` has a row a market and source, ``COLUMNS`` names its values; ``landed`` is by
    market; sizes are in bytes.
    """

    COLUMNS = ("market", "source", "first", "newest", "state", "holds")

    built_at: datetime
    versions: str
    derived_bytes: int
    database_bytes: int
    landed: dict[str, Landed]
    holdings: list[tuple[Any, ...]]

    def lines(self) -> list[str]:
        """What a person reads above the holdings."""
        raw = sum(landed.bytes for landed in self.landed.values())
        sizes = {"raw": raw, "derived": self.derived_bytes, "database": self.database_bytes}
        parts = ", ".join(f"{name} {show.size(count)}" for name, count in sizes.items())
        return [
            f"last built {_minute(self.built_at)} by {self.versions}; {parts}",
            *(f"{market}: {landed.line()}" for market, landed in sorted(self.landed.items())),
        ]

    def table(self, origin: str | None) -> tuple[list[str], list[tuple[Any, ...]]]:
        """For programs: column names, and the holdings with what has landed of their market."""
        names = [*self.COLUMNS, "origin", "built_at", "raw_rows", "raw_bytes", "landed_at"]
        rows = []
        for row in self.holdings:
            landed = self.landed.get(row[0], Landed())
            raw = landed.rows, landed.bytes, landed.at
            rows.append((*row, origin, self.built_at, *raw))
        return names, rows


def configured(markets: Mapping[str, Market]) -> list[tuple[Any, ...]]:
    """The configured markets, as ``MARKET`` names their values."""
    return [
        (market.code, *(getattr(market, name) for name in MARKET[1:]))
        for market in markets.values()
    ]


def by_month(
    listed: Sequence[tuple[Any, ...]], months: Sequence[tuple[Any, ...]]
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """For programs: column names, and the markets joined to their months, if they have any."""
    empty = (None,) * (len(THICKNESS) - 1)
    rows = []
    for market in listed:
        held = [month[1:] for month in months if month[0] == market[0]] or [empty]
        rows += [(*market, *month) for month in held]
    return [*MARKET, *THICKNESS[1:]], rows


def look(lake: Lake) -> Status:
    """Say what a lake holds, by its records and its database.

    Raises
    ------
    BadInput
        There is no database yet.
    """
    connection = open_database(lake.database)
    try:
        holdings = connection.sql(sqlfiles.text("report/holdings.sql")).fetchall()
        versions = "select built_at, hydra_version, duckdb_version from meta.builds"
        ((built_at, hydra, duckdb),) = connection.sql(versions).fetchall()
    finally:
        connection.close()
    return Status(
        built_at=built_at,
        versions=f"hydra {hydra} with duckdb {duckdb}",
        derived_bytes=_derived_bytes(lake),
        database_bytes=lake.database.stat().st_size,
        landed=_landed(lake),
        holdings=holdings,
    )


def thickness(lake: Lake) -> list[tuple[Any, ...]]:
    """How thick each market was by month; nothing without a database.

    Returns
    -------
    list of tuples
        As ``THICKNESS`` names their values.
    """
    if not lake.database.exists():
        return []
    connection = open_database(lake.database)
    try:
        rows: list[tuple[Any, ...]] = connection.sql(
            sqlfiles.text("report/thickness.sql")
        ).fetchall()
    finally:
        connection.close()
    return rows


def _landed(lake: Lake) -> dict[str, Landed]:
    found: defaultdict[str, Landed] = defaultdict(Landed)
    for record in lake.each_batch():
        for file in record["files"]:
            landed = found[file["market"]]
            landed.rows += file["rows"]
            landed.at = datetime.fromisoformat(record["ingested_at"])
            landed.sources.add(record["source"])
    for name in lake.raw_names():
        landed = found[market_of(name)]
        landed.files += 1
        landed.bytes += os.path.getsize(f"{lake.root}/{name}")
    return dict(found)


def _derived_bytes(lake: Lake) -> int:
    total = 0
    for name in lake.below(lake.derived):
        with suppress(FileNotFoundError):  # a run took it away in the meantime
            total += os.path.getsize(f"{lake.root}/{name}")
    return total


def _minute(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%MZ}"
