"""Export a view to one CSV or Parquet file, the same bytes each time."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

import duckdb

from etl import engine
from etl.errors import BadInput, LakeError
from etl.lake import Lake, replace_whole

#: How each format is written: UTC times in ISO 8601 with their zone, floats in full.
FORMATS: Mapping[str, str] = {
    "csv": "format csv, header true, timestampformat '%Y-%m-%dT%H:%M:%S.%fZ'",
    "parquet": "format parquet, compression zstd",
}

#: The columns that --start and --end speak of, the first that a view has.
_DATES = ("session_date", "report_date", "as_of")

#: What must be at or before --at.
_KNOWN = ("as_of", "available_at")


def open_database(path: Path) -> duckdb.DuckDBPyConnection:
    """Open the lake's database for reading.

    Raises
    ------
    BadInput
        There is none yet, or the file is not a DuckDB database.
    """
    if not os.path.exists(path):
        raise BadInput(f"{path}: no database yet: run hydra daily, or hydra build")
    try:
        return engine.connect(str(path), read_only=True)
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"{path}: cannot be opened ({reason}): rebuild it with hydra build"
        ) from None


def export(
    database: Path,
    view: str,
    format: str,
    target: Path,
    *,
    market: str | None = None,
    start: date | None = None,
    end: date | None = None,
    at: datetime | None = None,
) -> int:
    """Write the rows of a view, in the order of its columns, and return how many there are.

    Parameters
    ----------
    view : a table or view with its schema, ``features.daily_v1``
    format : a key of ``FORMATS``
    start, end : first and last session date, report date or UTC date of ``as_of``
    at : only rows that were known at this instant

    Raises
    ------
    BadInput
        The view or the market is unknown, the view lacks a column that an option needs, the
        dates are in the wrong order, or the target is something else than a file, a file of the
        lake's own, or no path in UTF-8.
    LakeError
        The view cannot be read, or the file not written.
    """
    try:
        str(target).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{target}: is no path in UTF-8; name another file") from None
    if os.path.exists(target) and not target.is_file():
        raise BadInput(f"{target}: is no file; name a new one, or one to replace")
    lake, place = Lake(database.parent.resolve()), Path(os.path.realpath(target))
    inside = place.is_relative_to(lake.root) and not place.is_relative_to(lake.root / "exports")
    if inside and lake.marker.exists():
        raise BadInput(f"{target}: would stand among the lake's own files; name one under exports")
    if start is not None and end is not None and start > end:
        raise BadInput(f"the first date, {start}, comes after the last, {end}")
    connection = open_database(database)
    try:
        columns = _columns(connection, view)
        conditions: list[str] = []
        if market is not None:
            conditions.append(f"market = {engine.quoted(_known_market(connection, market))}")
        if start is not None or end is not None:
            day = next((name for name in _DATES if name in columns), None)
            if day is None:
                raise BadInput(f"{view} has no date: leave --start and --end out")
            conditions += [f"{day}::date >= date '{start}'"] if start else []
            conditions += [f"{day}::date <= date '{end}'"] if end else []
        if at is not None:
            conditions += [f"{name} <= timestamptz '{at}'" for name in _KNOWN]
        needed = ("market",) * (market is not None) + _KNOWN * (at is not None)
        for name in needed:
            if name not in columns:
                raise BadInput(f"{view} has no column {name}: leave the option on it out")
        where = " and ".join(conditions) or "true"
        schema, name = (engine.identifier(part) for part in view.split("."))
        rows = f"select * from {schema}.{name} where {where} order by all"
        options = FORMATS[format]
        if format == "parquet":
            # A CSV file has no place for it; features.daily_v1 has a column.
            ((origin,),) = connection.sql("select origin from meta.builds").fetchall()
            about = f"origin: {engine.quoted(origin)}, view: {engine.quoted(view)}"
            options += f", kv_metadata {{{about}}}"
        written: list[int] = []

        def write(part: Path) -> None:
            # DuckDB takes a leading ~ for the home folder.
            copy = f"copy ({rows}) to {engine.quoted(part.absolute())} ({options})"
            written.append(connection.execute(copy).fetchall()[0][0])

        replace_whole(target, write)
        return written[0]
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise LakeError(f"cannot write {view} to {target}: {reason}") from error
    finally:
        connection.close()


def _columns(connection: duckdb.DuckDBPyConnection, view: str) -> list[str]:
    """The columns of a view; a mistyped name is answered with the nearest ones."""
    text = "select schema_name || '.' || view_name from duckdb_views() where not internal"
    known = {name for (name,) in connection.sql(text).fetchall()}
    text = "select schema_name || '.' || table_name from duckdb_tables()"
    known |= {name for (name,) in connection.sql(text).fetchall()}
    if view not in known:
        near = difflib.get_close_matches(view, sorted(known), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "features.daily_v1 is one"
        raise BadInput(f"unknown view {view!r}: {hint}")
    about = connection.sql(f"describe {'.'.join(map(engine.identifier, view.split('.')))}")
    return [row[0] for row in about.fetchall()]


def _known_market(connection: duckdb.DuckDBPyConnection, market: str) -> str:
    known = [code for (code,) in connection.sql("select market from meta.markets").fetchall()]
    if market not in known:
        raise BadInput(f"the lake has no market {market!r}: it has {', '.join(sorted(known))}")
    return market
