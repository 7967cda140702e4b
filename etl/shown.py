"""What a question reads of a database: its names as views, on no more than concerns some sessions.

A database shows raw and derived rows by views on all months' files, and whoever opens such a view
opens all of them.  Here the same names stand, in the connection's own memory, for the files with
rows known within a span of time, market by market.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import duckdb
import polars as pl

from etl import engine, sqlfiles
from etl.lake import Lake
from etl.schemas import COT_DATASETS, DATASETS
from etl.schemas import UTC as UTC_TYPE
from etl.spans import Span

__all__ = ["CORRECTED", "END", "NEVER", "Shown", "landed", "named"]

#: Before every row, and after.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(2200, 1, 1, tzinfo=UTC)

#: A settlement is corrected for 45 days: nothing else of a session changes so late.
CORRECTED = timedelta(days=50)

#: What is about a session becomes known around it, but for corrections of its settlements.
_AROUND = timedelta(days=5)

_FILE = re.compile(r"'((?:[^']|'')*/market=([^/']+)/year=(\d+)/month=(\d+)/[^/']+\.parquet)'")
_SPANS = {"market": pl.String(), "shown_from": UTC_TYPE, "shown_until": UTC_TYPE}


@dataclass(frozen=True)
class _File:
    """A file that a view of the database names."""

    path: str  # as the view has it
    month: date
    known: Span | None  # first and last ``available_at`` of raw rows; derived ones lie by session


class Shown:
    """Views in the memory of a connection, with the database attached as ``hydra``."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
        self._connection = connection
        for schema in ("build", "meta", "raw", "features"):
            connection.execute(f"create schema memory.{schema}")
        for schema, name in connection.sql(sqlfiles.text("build/shown.sql")).fetchall():
            connection.execute(f"create view memory.{schema}.{name} as from hydra.{schema}.{name}")
        engine.create_name_type(connection)
        for name in COT_DATASETS:  # few rows in many files, which many ask for
            engine.create_as(connection, f"memory.build.{name}", f"from hydra.raw.{name}")
        self._show_reports()
        self._files = _files(connection, lake)
        self._spans: Mapping[str, Span] = {}
        self._days: int | None = -1  # how far back all is shown; nothing is yet

    def limit(self, spans: Mapping[str, Span]) -> None:
        """Show of these markets what concerns these spans of time, where not all is asked for."""
        rows = [(market, *span) for market, span in spans.items()]
        engine.create_table(
            self._connection, "memory.build.spans", pl.DataFrame(rows, _SPANS, orient="row")
        )
        self._spans = spans
        self._days = -1

    def years(self, market: str) -> Iterable[Span]:
        """All time, cut at the years of which anything is derived."""
        priced = self._files["features.chain_v1"], self._files["features.session_bar_v1"]
        years = sorted({file.month.year for files in priced for file in files[market]})
        cuts = [datetime(year, 1, 1, tzinfo=UTC) for year in years[1:]]
        return pairwise([NEVER, *cuts, END])

    def show_all(self, days: int | None) -> None:
        """Show all that is raw or a feature from so many days before the spans on.

        ``None`` is all of it, of all markets.
        """
        if days == self._days:
            return
        self._days = days
        look_back = None if days is None else sqlfiles.LookBack(days, ())
        for file in sqlfiles.features():
            self.show(f"features.{file.name}", look_back)
        raw = {
            name: self._shown(f"raw.{name}", days) for name in DATASETS.keys() - COT_DATASETS.keys()
        }
        engine.create_raw_views(self._connection, raw)
        self._show_reports()

    def _show_reports(self) -> None:
        for name in COT_DATASETS:
            view = f"create or replace view memory.raw.{name} as from memory.build.{name}"
            self._connection.execute(view)

    def show(self, source: str, look_back: sqlfiles.LookBack | None) -> None:
        """Let a feature's name stand for as much of it as is looked back on; ``None`` is all."""
        file = next(
            (file for file in sqlfiles.features() if f"features.{file.name}" == source), None
        )
        if file is None:  # what is raw is read whole
            return
        days = None if look_back is None or source in look_back.whole else look_back.days
        if file.stage == "derive":
            engine.create_derived_view(self._connection, file, self._shown(source, days))
            return
        rows = f"from hydra.{source}"
        if days is not None:
            joined = f"{rows} join build.spans using (market)"
            rows = (
                f"select * exclude (shown_from, shown_until) {joined} where {file.known_at} "
                f"between shown_from - interval {days} days "
                f"and shown_until + interval {CORRECTED.days} days"
            )
        self._connection.execute(f"create or replace view memory.{source} as {rows}")

    def _shown(self, source: str, days: int | None) -> list[str]:
        """The files of a view with rows from so many days before the spans on."""
        files = self._files[source]
        if days is None:
            return [file.path for market in sorted(files) for file in files[market]]
        return [
            file.path
            for market, span in sorted(self._spans.items())
            for file in files[market]
            if _concerns(file, span, timedelta(days=days))
        ]


def _concerns(file: _File, span: Span, before: timedelta) -> bool:
    """Whether a file may have rows about a span of time, or known in it, or so long before it."""
    start, end = span[0] - before, span[1]
    if file.known is None:
        return start.date().replace(day=1) <= file.month <= end.date()
    return file.known[0] <= end + _AROUND and file.known[1] >= start - _AROUND


def named(view: str) -> Iterator[tuple[str, str, date]]:
    """Path, market and month of each file that the text of a view names."""
    for path, market, year, month in _FILE.findall(view):
        yield path.replace("''", "'"), market, date(int(year), int(month), 1)


def landed(lake: Lake) -> dict[str, dict[str, Any]]:
    """Path → what the records say of a raw file, landed or merged of such."""
    batches = [*lake.batch_records(), *lake.compaction_records()]
    return {file["path"]: file for batch in batches for file in batch["files"]}


def _files(
    connection: duckdb.DuckDBPyConnection, lake: Lake
) -> defaultdict[str, defaultdict[str, list[_File]]]:
    """View → market → the files that it names, in its order."""
    records = landed(lake)
    found: defaultdict[str, defaultdict[str, list[_File]]]
    found = defaultdict(lambda: defaultdict(list))
    for name, text in connection.sql(sqlfiles.text("build/files.sql")).fetchall():
        for path, market, month in named(text):
            known = None
            if name.startswith("raw."):
                about = records.get("/".join(path.split("/")[-6:]), {})
                first, last = about.get("first_available_at"), about.get("last_available_at")
                known = _instant(first) or NEVER, _instant(last) or END
            found[name][market].append(_File(path, month, known))
    return found


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
