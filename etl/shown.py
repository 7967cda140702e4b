"""What a question reads of a database: its names as views, on no more than concerns some sessions.

A database shows raw and derived rows by views on all months' files, and whoever opens such a view
opens all of them.  Here the same names stand, in the connection's own memory, for the files with
rows known within a span of time, market by market.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import polars as pl

from etl import engine, sqlfiles
from etl.schemas import COT_DATASETS, DATASETS
from etl.schemas import UTC as UTC_TYPE
from etl.spans import Span

__all__ = ["CORRECTED", "END", "NEVER", "Shown"]

#: Before every row, and after.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(2200, 1, 1, tzinfo=UTC)

#: A settlement is corrected for 45 days: nothing else of a session changes so late.
CORRECTED = timedelta(days=50)

_SPANS = {"market": pl.String(), "shown_from": UTC_TYPE, "shown_until": UTC_TYPE}
#: Tables of ``meta`` with many rows a market, that are read whole otherwise.
_LONG = ("clock", "held", "layouts", "listed", "sessions")
_OF_THESE = "where market in (select market from build.spans)"


class Shown:
    """Views in the memory of a connection, with the database attached as ``hydra``.

    Parameters
    ----------
    reports : database of the CFTC's reports, which are few rows in many files that many ask for;
        made where there is none
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, reports: Path) -> None:
        self._connection = connection
        # Parts are small: each thread more takes as much memory again, and saves little time.
        connection.execute("set threads = 1")
        for schema in ("build", "meta", "raw", "features"):
            connection.execute(f"create schema memory.{schema}")
        self.limit({})
        for (name,) in connection.sql(sqlfiles.text("build/shown.sql")).fetchall():
            rows = f"from hydra.meta.{name} {_OF_THESE if name in _LONG else ''}"
            connection.execute(f"create view memory.meta.{name} as {rows}")
        engine.create_name_type(connection)
        engine.create_raw_views(connection, {})
        if not reports.exists():
            self._keep_reports(reports)
        connection.execute(f"attach {engine.quoted(reports)} as reports (read_only)")
        self._show_reports()

    def limit(self, spans: Mapping[str, Span]) -> None:
        """Show of these markets what concerns these spans of time, where not all is asked for."""
        rows = [(market, *span) for market, span in spans.items()]
        engine.create_table(
            self._connection, "memory.build.spans", pl.DataFrame(rows, _SPANS, orient="row")
        )
        self._found: dict[int | None, Mapping[str, list[str]]] = {}
        self._days: int | None = None  # how far back all is shown; nothing is yet
        engine.let_go(self._connection)

    def parts(
        self, since: Mapping[str, datetime], *, by_year: bool
    ) -> Iterator[Mapping[str, Span]]:
        """All time from an instant on, in parts: what is new, and what is asked for whole.

        Parameters
        ----------
        since : market → the instant; ``NEVER`` asks for it whole
        by_year : whether of a market that is asked for whole each year is a part of its own
        """
        new = {market: (start, END) for market, start in since.items() if start != NEVER}
        if new:
            yield new
        for market in sorted(since.keys() - new.keys()):
            for span in self._years(market) if by_year else [(NEVER, END)]:
                yield {market: span}

    def _years(self, market: str) -> Iterable[Span]:
        """All time, cut at the years of which anything is derived."""
        years = "select distinct year(month) from meta.files where known_from is null"
        of_it = f"{years} and market = {engine.quoted(market)} order by all"
        _, *later = self._connection.sql(of_it).fetchall() or [(None,)]
        return pairwise([NEVER, *(datetime(year, 1, 1, tzinfo=UTC) for (year,) in later), END])

    def show_all(self, days: int) -> None:
        """Show of the spans' markets all that is raw or a feature from so many days before on."""
        if days == self._days:
            return
        self._days = days
        engine.let_go(self._connection)  # of the questions before
        for file in sqlfiles.features():
            self.show(f"features.{file.name}", sqlfiles.LookBack(days, ()))
        paths = self._paths(days)
        raw = {name: paths[f"raw.{name}"] for name in DATASETS.keys() - COT_DATASETS.keys()}
        engine.create_raw_views(self._connection, raw)
        self._show_reports()

    def show_stored(self) -> None:
        """Show of the spans' markets all that the database stores, and the CFTC's reports.

        What lies in the lake's files is not there: whoever asks for it whole would open them all.
        """
        self._days = None
        for file in sqlfiles.features():
            if file.stage == "build":
                self.show(f"features.{file.name}", None)
            else:
                self._connection.execute(f"drop view if exists memory.features.{file.name}")
        for name in DATASETS.keys() - COT_DATASETS.keys():
            self._connection.execute(f"drop view if exists memory.raw.{name}")

    def _keep_reports(self, place: Path) -> None:
        """Read the reports market by market, since a question holds all of its files open."""
        self._connection.execute(f"attach {engine.quoted(place)} as reports")
        for name in COT_DATASETS:
            engine.create_as(self._connection, f"reports.{name}", f"from raw.{name}")
        markets = "select distinct market from meta.files order by all"
        for (market,) in self._connection.sql(markets).fetchall():
            self.limit({market: (NEVER, END)})
            files = {name: self._paths(None)[f"raw.{name}"] for name in COT_DATASETS}
            engine.create_raw_views(self._connection, files)
            for name in COT_DATASETS:
                insert = f"insert into reports.{name} from raw.{name}"
                self._connection.execute(insert).fetchall()
        self._connection.execute("detach reports")

    def _show_reports(self) -> None:
        for name in COT_DATASETS:
            rows = f"from reports.{name} {_OF_THESE}"
            self._connection.execute(f"create or replace view memory.raw.{name} as {rows}")

    def show(self, source: str, look_back: sqlfiles.LookBack | None) -> None:
        """Let a feature's name stand for as much of it as is looked back on; ``None`` is all.

        It is of the markets of the spans alone.
        """
        file = next(
            (file for file in sqlfiles.features() if f"features.{file.name}" == source), None
        )
        if file is None:  # what is raw is read whole
            return
        days = None if look_back is None or source in look_back.whole else look_back.days
        if file.stage == "derive":
            engine.create_derived_view(self._connection, file, self._paths(days)[source])
            return
        rows = f"from hydra.{source} {_OF_THESE}"
        if days is not None:
            joined = f"hydra.{source} join build.spans using (market)"
            rows = (
                f"select * exclude (shown_from, shown_until) from {joined} where {file.known_at} "
                f"between shown_from - interval {days} days "
                f"and shown_until + interval {CORRECTED.days} days"
            )
        self._connection.execute(f"create or replace view memory.{source} as {rows}")

    def _paths(self, days: int | None) -> Mapping[str, list[str]]:
        """View → its files with rows from so many days before the spans on; ``None`` is all."""
        if days not in self._found:
            found = defaultdict(list)
            self._connection.execute(f"set variable days = {'null' if days is None else days}")
            files = self._connection.sql(sqlfiles.text("build/concerned.sql")).fetchall()
            for view, path in files:
                found[view].append(path)
            self._found[days] = found
        return self._found[days]
