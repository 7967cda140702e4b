"""DuckDB connections over a lake: raw views, reference tables, mathlib's functions."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from etl import calendars, cot_releases, sqlfiles
from etl.engines import cores
from etl.errors import LakeError
from etl.market import Market
from etl.outside import EARLIEST, LATEST
from etl.schemas import DATASETS, raw_schema

#: Gives a connection for a block.
Opened = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]

#: What reads the addresses of a service in place of DuckDB's own extension, by their scheme.
file_systems: dict[str, Any] = {}

#: Megabytes that the connections of a run may take; more than this spills to disk.
MEMORY = 2000
_SMALLEST = 32  # what of a cache is let alone

#: No price is larger, or smaller than the inverse and not zero; no count larger, no text longer.
_LARGEST, _MOST, _LONGEST = 10**15, 10**12, 256
#: The last instant that a row may have.
_LAST = LATEST - timedelta(microseconds=1)
#: What must lie within the bounds for a row to be one, and what has none: names, as numbers too.
_INSTANTS = ("as_of", "available_at")
_AS_IS = (*_INSTANTS, "market", "instrument_id", "underlying_id", "sequence", "batch_id")

_SQL_TYPES: Mapping[type[pl.DataType], str] = {
    pl.String: "VARCHAR",
    pl.Int64: "BIGINT",
    pl.Int32: "INTEGER",
    pl.Float64: "DOUBLE",
    pl.Boolean: "BOOLEAN",
    pl.Date: "DATE",
    pl.Datetime: "TIMESTAMP WITH TIME ZONE",
}


def connect(
    database: str = ":memory:", spill: Path | None = None, share: int = 1, **options: Any
) -> duckdb.DuckDBPyConnection:
    """Open DuckDB with UTC as its time zone, bounded memory and no extension but its own.

    Parameters
    ----------
    spill : folder for what does not fit into memory; by default one in the system's for such files
    share : how many such connections, in processes of their own, share the machine
    """
    connection = duckdb.connect(database, **options)
    connection.execute("set autoinstall_known_extensions = false")
    connection.execute("set autoload_known_extensions = false")
    for scheme, files in file_systems.items():
        if not connection.filesystem_is_registered(scheme):
            connection.register_filesystem(files)
    connection.execute("set enable_progress_bar = false")  # a worker takes itself for a session
    # DuckDB 2.0.0 fails on what this makes of a window over many files: an internal error.
    connection.execute("set disabled_optimizers = 'window_self_join'")
    # Where many rows are taken for few, DuckDB's join by loops is ten times slower than by sorting.
    connection.execute("set asof_loop_join_threshold = 0")
    connection.execute("set timezone = 'UTC'")
    connection.execute(f"set memory_limit = '{MEMORY // share}MB'")
    if share > 1:
        connection.execute(f"set threads = {max(1, cores() // share)}")
    folder = spill or Path(tempfile.gettempdir()) / f"hydra-spill-{os.getpid()}"
    connection.execute(f"set temp_directory = {quoted(folder)}")
    return connection


def let_go(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop what is cached of tables: DuckDB keeps all that it has read while its limit allows.

    Of what is freed by detaching a database nothing returns to the system.
    """
    with suppress(duckdb.Error):  # what cannot be put aside stays
        connection.execute(f"set memory_limit = '{_SMALLEST}MB'")
    connection.execute(f"set memory_limit = '{MEMORY}MB'")


def quoted(text: str | Path) -> str:
    """``text`` as a SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """``name`` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def create_table(connection: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> None:
    """Store a frame as the table ``name``."""
    connection.register("incoming", frame.to_arrow())
    create_as(connection, name, "from incoming")
    connection.unregister("incoming")


def insert(connection: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> None:
    """Add the rows of a frame to the table ``name``."""
    connection.register("incoming", frame.to_arrow())
    connection.execute(f"insert into {name} from incoming").fetchall()
    connection.unregister("incoming")


def create_as(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> None:
    """Store the rows of a SELECT as the table ``name``."""
    connection.execute(f"create or replace table {name} as {select}").fetchall()


def create_feature(
    connection: duckdb.DuckDBPyConnection,
    file: sqlfiles.SqlFile,
    table: str | None = None,
    within: str = "",
) -> None:
    """Run a feature file and store its rows.

    Parameters
    ----------
    table : where to; ``features.<name>`` by default
    within : which rows to store: a condition on each alone, so that they keep their order; by
        default all

    Raises
    ------
    LakeError
        The columns are not the ones that the file's header states.
    """
    table = table or f"features.{file.name}"
    rows = file.body
    if within:
        rows = f"from ({rows}\n) as body where {within}"
    create_as(connection, table, rows)
    about = connection.sql(f"describe {table}").fetchall()
    given = [(name, kind) for name, kind, *_ in about]
    stated = [(column.name, column.type) for column in file.columns if column.name != "*"]
    if len(stated) < len(file.columns):
        given = given[: len(stated)]
    if given != stated:
        wrong = sorted(set(given) ^ set(stated)) or [("the order of the columns", "")]
        raise LakeError(f"{file.path}: the SELECT and the header differ in {wrong}")


def create_name_type(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the type ``feature``: the names in ``meta.features``, in their order."""
    names = "select feature_name from meta.features order by feature_number"
    connection.execute(f"create type feature as enum ({names})")


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the macros that answer at an instant, in the database in use."""
    for macro in sorted(sqlfiles.root().glob("macros/*.sql")):
        connection.execute(macro.read_text(encoding="utf-8"))


def create_derived_view(
    connection: duckdb.DuckDBPyConnection, file: sqlfiles.SqlFile, files: Sequence[str]
) -> None:
    """Create ``features.<name>`` over a table's derived files; typed and empty without any.

    The market is taken from their folders, so that a question on one market opens no other's.
    """
    if files:
        names = ", ".join(identifier(column.name) for column in file.columns)
        hive = "hive_partitioning = true, hive_types = {'market': VARCHAR}"
        body = f"select {names} from read_parquet({_list(files)}, {hive})"
    else:
        body = no_row(file)
    connection.execute(f"create or replace view features.{file.name} as {body}")


def _list(files: Sequence[Path | str]) -> str:
    """A list of files, in SQL: one text of a line a file, with what all begin and end with once.

    Whoever attaches a database reads its views, and of a list each text would be a value to keep.
    """
    paths = [str(file) for file in files]
    begin = os.path.commonprefix(paths)  # noqa: RUF071 - as text, not as folders
    rests = [path.removeprefix(begin) for path in paths]
    end = os.path.commonprefix([rest[::-1] for rest in rests])[::-1]  # noqa: RUF071 - the same
    lines = quoted("\n".join(rest.removesuffix(end) for rest in rests))
    begin, end = quoted(begin), quoted(end)
    between = f"{end} || chr(0) || {begin}"  # a character that no path can hold
    return f"string_split({begin} || replace({lines}, chr(10), {between}) || {end}, chr(0))"


def no_row(file: sqlfiles.SqlFile) -> str:
    """A SELECT of no row of a feature, in the columns that its header names."""
    return _empty({column.name: column.type for column in file.columns if column.name != "*"})


def _empty(types: Mapping[str, str]) -> str:
    """A SELECT of no row."""
    typed = ", ".join(f"null::{kind} as {identifier(name)}" for name, kind in types.items())
    return f"select {typed} where false"


def create_raw_views(
    connection: duckdb.DuckDBPyConnection,
    files: Mapping[str, Sequence[Path | str]],
    schema: str = "raw",
    where: Mapping[str, str] | None = None,
) -> None:
    """Create a view a dataset over its files; typed and empty where there are none.

    A value that no market can have is NULL in them, and a row whose instants cannot be is not
    there: NaN and infinities compare and sum to nonsense, and the largest integers overflow.  The
    files keep what they hold.

    Parameters
    ----------
    files : dataset → paths or globs
    where : dataset → condition on its rows, optional
    """
    connection.execute(f"create schema if not exists {schema}")
    for dataset in DATASETS:
        columns = raw_schema(dataset)
        paths = files.get(dataset, ())
        if paths:
            names = ", ".join(_sound(name, dtype) for name, dtype in columns.items())
            hive = "hive_partitioning = true, hive_types = {'market': VARCHAR}"
            condition = (where or {}).get(dataset, "true")
            body = f"select {names} from read_parquet({_list(paths)}, {hive}) where {condition}"
            body += "".join(f" and {_between(name, EARLIEST, _LAST)}" for name in _INSTANTS)
        else:
            body = _empty({name: sql_type(dtype) for name, dtype in columns.items()})
        connection.execute(f"create or replace view {schema}.{dataset} as {body}")


def _sound(name: str, dtype: pl.DataType) -> str:
    """A column of a raw view, NULL where its value cannot be."""
    column = identifier(name)
    if name in _AS_IS:
        return column
    match dtype:
        case pl.Float64():  # a subnormal number or minus zero is none either
            # The statistics of a file know no NaN, so that a comparison alone may be left out.
            sound = f"isfinite({column}) and abs({column}) between {1 / _LARGEST} and {_LARGEST}"
            zero = f"when {column} = 0 then 0.0::double"
            return f"case when {sound} then {column} {zero} end as {column}"
        case pl.Int64():
            sound = f"{column} between -{_MOST} and {_MOST}"
        case pl.Int32():
            sound = f"{column} between -{10**9} and {10**9}"
        case pl.Date():
            sound = _between(name, EARLIEST.date(), _LAST.date())
        case pl.Datetime():
            sound = _between(name, EARLIEST, _LAST)
        case pl.String():
            sound = f"length({column}) <= {_LONGEST}"
        case _:
            return column
    return f"case when {sound} then {column} end as {column}"


def _between(name: str, first: date, last: date) -> str:
    kind = "timestamptz" if isinstance(first, datetime) else "date"
    return f"{identifier(name)} between {kind} '{first}' and {kind} '{last}'"


def sql_type(dtype: pl.DataType) -> str:
    """The DuckDB type of a schema's column."""
    return _SQL_TYPES[type(dtype)]


def create_reference(
    connection: duckdb.DuckDBPyConnection, markets: Sequence[Market], first: date, last: date
) -> None:
    """Create ``meta.markets``, ``thresholds``, ``sessions``, ``rates`` and ``cot_releases``.

    Sessions and releases reach from ``first`` to ``last``, both included.
    """
    connection.execute("create schema if not exists meta")
    create_table(connection, "meta.markets", _markets(markets))
    create_table(connection, "meta.thresholds", _thresholds(markets))
    make = create_table
    for market in sorted(markets, key=lambda market: market.code):
        make(connection, "meta.sessions", calendars.sessions(market, first, last))
        make = insert
    create_table(connection, "meta.rates", _rates(markets))
    create_table(connection, "meta.cot_releases", _releases(first, last))


def _markets(markets: Sequence[Market]) -> pl.DataFrame:
    names = (
        *("name", "exchange", "currency", "timezone", "calendar", "exercise", "underlying"),
        *("quote_unit", "multiplier", "tick", "option_tick", "cot_code", "min_open_interest"),
        *("max_spread", "min_strikes", "max_quote_age", "roll_sessions"),
    )
    rows = [
        {
            "market": market.code,
            **{name: getattr(market, name) for name in names},
            "european_roots": list(market.european_roots),
        }
        for market in markets
    ]
    texts = {"cot_code": pl.String(), "european_roots": pl.List(pl.String)}
    return pl.DataFrame(rows, schema_overrides=texts).sort("market")


def _thresholds(markets: Sequence[Market]) -> pl.DataFrame:
    rows = [{"market": market.code, **market.quality} for market in markets]
    return pl.DataFrame(rows).sort("market")


def _rates(markets: Sequence[Market]) -> pl.DataFrame:
    rows = [
        (market.code, valid_from, rate)
        for market in markets
        for valid_from, rate in market.risk_free
    ]
    schema = {"market": pl.String, "valid_from": pl.Date, "rate": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _releases(first: date, last: date) -> pl.DataFrame:
    tuesday = first + timedelta(days=(1 - first.weekday()) % 7)
    tuesdays = pl.date_range(tuesday, max(last, tuesday), "1w", eager=True)
    released = cot_releases.releases(tuesdays)
    return released.with_columns(cot_releases.report_as_of(tuesdays).alias("as_of"))
