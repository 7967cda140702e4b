"""How quotes are best laid out in Parquet: order, row groups, compression."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from etl.lake import Lake

__all__ = ["ways"]

#: Order, rows a row group and zstd level of the lake's files; None is Polars' own choice.
_LAKES = ("available_at", None, None)
_ORDERS = ("available_at", "available_at, instrument_id", "instrument_id, available_at")
_ROW_GROUPS = (4_096, 16_384, 65_536, None)
_LEVELS = (1, None, 9, 15)
_TURNS = 5

#: What is asked of the file: all of two columns, a session's rows, an option's rows.
_SCANS = {
    "whole": "select avg(ask - bid) from {file}",
    "session": "select avg(ask - bid) from {file} where available_at = timestamptz '{instant}'",
    "option": "select avg(ask - bid) from {file} where instrument_id = {instrument}",
}


def ways(lake: Lake) -> list[dict[str, Any]]:
    """Size, seconds to write and seconds of each scan of a market's quotes, a way a row."""
    paths = lake.raw_files("option_quote", lake.markets()[0])
    rows = pl.concat(pl.read_parquet(path, hive_partitioning=False) for path in paths)
    chosen = [(order, *_LAKES[1:]) for order in _ORDERS]
    chosen += [(_LAKES[0], group, _LAKES[2]) for group in _ROW_GROUPS]
    chosen += [(*_LAKES[:2], level) for level in _LEVELS]
    with tempfile.TemporaryDirectory() as folder:
        return [_way(rows, Path(folder), *way) for way in dict.fromkeys(chosen)]


def _way(
    rows: pl.DataFrame, folder: Path, order: str, group: int | None, level: int | None
) -> dict[str, Any]:
    path = folder / "rows.parquet"
    rows = rows.sort(order.split(", "), maintain_order=True)
    middle = rows.row(rows.height // 2, named=True)
    words = {
        "file": f"read_parquet('{path}')",
        "instant": middle["available_at"],
        "instrument": middle["instrument_id"],
    }

    def write() -> None:
        rows.write_parquet(
            path, compression="zstd", compression_level=level, row_group_size=group, statistics=True
        )

    about = {"order": order, "row_group": group, "level": level, "write": _median(write)}
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    for name, text in _SCANS.items():
        statement = text.format(**words)
        about[name] = _median(lambda statement=statement: connection.sql(statement).fetchall())
    return {**about, "bytes": path.stat().st_size, "rows": rows.height}


def _median(work: Any) -> float:
    spent = []
    for _ in range(_TURNS + 1):
        begin = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begin)
    return round(statistics.median(spent[1:]), 5)
