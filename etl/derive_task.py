"""A part of a derivation: some sessions of a market, and what they give.

A task reads the raw files of its window and the stored months that it changes, writes those
months anew beside them, and says what it wrote.  Its result follows from the task alone, so that
it may run in any process, and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import uuid4

import duckdb
import polars as pl

from etl import engine, sqlfiles
from etl.lake import Lake
from etl.market import Market
from etl.schemas import DATASETS
from etl.stored import Month, Staged, stage
from mathlib import udf

__all__ = ["Made", "Task", "compute", "window"]

#: What may count in a session became known from so long before it to so long after it: the
#: SQL carries statistics for ten days and gathers settlements for 45.
_BEFORE, _AFTER = timedelta(days=15), timedelta(days=46)

#: What the nearest session is looked up in reaches so far beyond a task's sessions.
_NEIGHBOURS = timedelta(days=31)


@dataclass(frozen=True)
class Task:
    """Sessions of whole months of a market; paths are below the lake."""

    lake: Lake
    market: Market
    sessions: tuple[date, ...]
    known_at: datetime  # nothing with a cut-off after it is derived
    raw: Mapping[str, tuple[str, ...]]  # dataset → the files that its window needs
    stored: Mapping[Month, str]  # what is stored of the months
    staging: str  # folder for the months anew

    @property
    def reads(self) -> list[str]:
        """Every file that the work opens."""
        return [*(path for paths in self.raw.values() for path in paths), *self.stored.values()]

    def __str__(self) -> str:
        return f"{self.market.code}, sessions {self.sessions[0]} to {self.sessions[-1]}"


@dataclass(frozen=True)
class Made:
    """What a task wrote."""

    files: tuple[Staged, ...]
    rows: int  # that its sessions gave, all tables together
    sent: Mapping[str, Any]  # what the lake takes the files from, where that is not this machine


def window(sessions: tuple[date, ...]) -> tuple[datetime, datetime]:
    """The instants between which all became known that may count in the sessions."""
    first, last = (datetime.combine(day, time(0), UTC) for day in (sessions[0], sessions[-1]))
    return first - _BEFORE, last + _AFTER


def compute(task: Task, share: int) -> Made:
    """Derive the sessions of a task and stage their months.

    Parameters
    ----------
    share : how many tasks share the machine
    """
    lake = task.lake
    lake.bring(whole=False)
    lake.fetch(lake.root / path for path in task.reads)
    spill = lake.staging / f"spill-{uuid4().hex[:8]}"
    connection = engine.connect(spill=spill, share=share)
    _fix_sides(connection)
    files: list[Staged] = []
    count = 0
    try:
        udf.register(connection)
        _prepare(connection, task)
        features = sqlfiles.stage("derive")
        for number, file in enumerate(features):
            engine.create_feature(connection, file)
            rows = connection.sql(f"from features.{file.name}").pl()
            count += rows.height
            files += _stage(task, file, rows)
            _forget(connection, features[: number + 1], features[number + 1 :])
    finally:
        connection.close()
    return Made(tuple(files), count, lake.send(staged.path for staged in files))


def _fix_sides(connection: duckdb.DuckDBPyConnection) -> None:
    """Have a left join keep its right side in memory, as the SQL is written for.

    By its estimates DuckDB would now and then keep the left one, which in a chain is the wide one:
    the same rows, in a fifth more memory than the task before.
    """
    off = "current_setting('disabled_optimizers') || ',build_side_probe_side'"
    connection.execute(f"set disabled_optimizers = {off}")


def _prepare(connection: duckdb.DuckDBPyConnection, task: Task) -> None:
    """Reference tables, the raw rows of the window, and the cut-offs that all hangs on."""
    for schema in ("derive", "features"):
        connection.execute(f"create schema {schema}")
    run = pl.DataFrame({"known_at": [task.known_at]})
    engine.create_table(connection, "derive.run", run)
    first, last = task.sessions[0] - _NEIGHBOURS, task.sessions[-1] + _NEIGHBOURS
    engine.create_reference(connection, [task.market], first, last)
    days = pl.DataFrame({"session_date": task.sessions})
    engine.create_table(connection, "derive.days", days)
    chosen = "select * from meta.sessions semi join derive.days using (session_date)"
    engine.create_as(connection, "derive.sessions", chosen)
    files = {name: [task.lake.root / path for path in paths] for name, paths in task.raw.items()}
    since, until = window(task.sessions)
    known = f"available_at <= timestamptz '{until}'"
    inside = f"{known} and available_at >= timestamptz '{since}'"
    conditions = {name: known if name.endswith("definition") else inside for name in DATASETS}
    engine.create_raw_views(connection, files, where=conditions)
    engine.create_as(connection, "derive.spine", sqlfiles.text("derive/spine.sql"))


def _stage(task: Task, file: sqlfiles.SqlFile, rows: pl.DataFrame) -> Iterator[Staged]:
    """The months of a table with the sessions' new rows in place of their old ones.

    They are in the order of the grain, as the SQL gives them.
    """
    day = pl.col("session_date")
    for year, month in sorted({(day.year, day.month) for day in task.sessions}):
        key = Month(file.name, year, month)
        found = rows.filter(day.dt.year() == year, day.dt.month() == month)
        stored = task.stored.get(key)
        if stored is not None:
            old = pl.read_parquet(task.lake.root / stored, hive_partitioning=False, glob=False)
            if old.schema == rows.schema:  # else of older SQL: all is derived anew
                kept = old.filter(~day.is_in(task.sessions))
                found = pl.concat([kept, found]).sort(file.grain, nulls_last=True)
        if found.height or stored is not None:
            # In one chunk: a file's bytes follow from its rows, however a task was cut.
            yield stage(task.lake, task.staging, key, found.rechunk())


def _forget(
    connection: duckdb.DuckDBPyConnection,
    made: Sequence[sqlfiles.SqlFile],
    to_come: Sequence[sqlfiles.SqlFile],
) -> None:
    """Free the tables that no later one reads."""
    read = {source for file in to_come for source in file.sources}
    for file in made:
        if f"features.{file.name}" not in read:
            connection.execute(f"drop table if exists features.{file.name}")
