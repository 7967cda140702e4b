"""What the page shows: queries under ``sql/report``, as nested columns that JSON holds compactly.

What is derived is read of the months that are drawn alone: the database's views are on all.
Every query is bounded by the asked instant: a row counts when its ``as_of`` and ``available_at``
are at or before it, and of a session's vintages the newest of those is drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from etl import engine, sqlfiles

#: Strikes that the page draws, over all markets, and sessions in the histories of slices: with
#: these it stays well under 3 MB.
STRIKES = 12_000
SESSIONS = 6_000

#: Digits that a chart can show: of prices six, so that ticks are told apart, of the rest four.
_PRICE_DIGITS = 6
_DIGITS = 4
_PRICES = frozenset(
    {"strike", "forward", "close", "zero_gamma", "fut_front_close"}
    | {f"q{percent:02}" for percent in (5, 10, 25, 50, 75, 90, 95)}
)

#: Query → the columns that it is nested by; a leaf holds the other columns.
_TABLES: Mapping[str, tuple[str, ...]] = {
    "slices": ("market", "session_date", "price_source"),
    "smile": ("market", "session_date", "price_source", "slice"),
    "surface": ("market", "session_date", "price_source", "slice"),
    "density": ("market", "session_date", "price_source", "slice"),
    "slice_history": ("market", "price_source", "slice"),
    "flow": ("market", "session_date", "slice", "convention"),
    "flow_total": ("market", "session_date"),
    "futures_curve": ("market", "session_date"),
}
#: Derived features that the histories of slices are made of; of the others less is drawn.
_HISTORIES = ("surface_v1", "moments_v1")

_SERIES = ("daily", "positions", "answers", "sources", "page_findings")

Data = dict[str, Any]


def collect(connection: duckdb.DuckDBPyConnection, at: datetime) -> Data:
    """What was known at an instant, by market.

    Parameters
    ----------
    connection : of ``etl.connect``; gets temporary tables, and views in memory
    at : aware datetime

    Returns
    -------
    dict
        ``markets``: market → what describes it.  Each other key is a query of ``sql/report``:
        market → nested keys → column → list, or market → column → list for a series.
    """
    asked = pl.DataFrame({"known_by": [at], "strikes": [STRIKES], "sessions": [SESSIONS]})
    connection.register("given", asked.to_arrow())
    _keep(connection, "page", "from given")
    for name in ("answered", "snapshots", "near"):
        _keep(connection, name, _query(name))
    features = {file.name for file in sqlfiles.stage("derive")}
    _show(connection, features - {*_HISTORIES}, "near")
    for name in ("detailed_slices", "history"):
        _keep(connection, name, _query(name))
    _show(connection, _HISTORIES, "history")
    markets = _frame(connection, "page_markets").to_dicts()
    data: Data = {"markets": {row.pop("market"): row for row in markets}}
    for name, keys in _TABLES.items():
        data[name] = _nested(_frame(connection, name), keys)
    for name in _SERIES:
        frames = _frame(connection, name).partition_by("market", as_dict=True, include_key=False)
        data[name] = {key[0]: part.to_dict(as_series=False) for key, part in frames.items()}
    return data


def built(connection: duckdb.DuckDBPyConnection) -> Data:
    """What the database was made of and holds: versions, batches, views and features."""
    (run,) = connection.sql("from meta.builds").pl().to_dicts()
    views = "select view_name, status, sentence, sha256 from meta.sql_versions order by view_name"
    features = "select feature_name, unit, description from meta.features order by feature_number"
    return {
        "run": run,
        "batches": _frame(connection, "batches").to_dicts(),
        "views": connection.sql(views).pl().to_dicts(),
        "features": connection.sql(features).pl().to_dict(as_series=False),
        "conventions": [name for (name,) in connection.sql(_query("conventions")).fetchall()],
    }


def _query(name: str) -> str:
    return sqlfiles.text(f"report/{name}.sql")


def _keep(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> None:
    connection.execute(f"create or replace temp table {name} as {select}").fetchall()


def _show(connection: duckdb.DuckDBPyConnection, names: Collection[str], kept: str) -> None:
    """Make views in memory of derived features, on the months of the snapshots that are kept."""
    _keep(connection, "drawn", f"from {kept}")
    paths: defaultdict[str, list[str]] = defaultdict(list)
    for view, path in connection.sql(_query("files")).fetchall():
        paths[view].append(path)
    connection.execute("use memory")
    connection.execute("create schema if not exists features")
    for file in (file for file in sqlfiles.stage("derive") if file.name in names):
        engine.create_derived_view(connection, file, paths[f"features.{file.name}"])
    connection.execute("use lake")


def _frame(connection: duckdb.DuckDBPyConnection, name: str) -> pl.DataFrame:
    """A query's rows, numbers rounded to what a chart can show."""
    frame: pl.DataFrame = connection.sql(_query(name)).pl()
    rounded = []
    for column, dtype in frame.schema.items():
        digits = _PRICE_DIGITS if column in _PRICES else _DIGITS
        if dtype == pl.Float64:
            rounded.append(pl.col(column).round_sig_figs(digits))
        elif dtype == pl.List(pl.Float64):
            element = pl.element().round_sig_figs(digits)
            rounded.append(pl.col(column).list.eval(element))
    return frame.with_columns(rounded)


def _nested(frame: pl.DataFrame, keys: tuple[str, ...]) -> Data:
    nested: Data = {}
    for row in frame.iter_rows(named=True):
        level = nested
        *path, last = (str(row.pop(key)) for key in keys)
        for step in path:
            level = level.setdefault(step, {})
        level[last] = row
    return nested
