"""Raw rows with values that no market has: what a foreign Parquet file in a lake may hold."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from etl.export import open_database
from etl.lake import Lake

_FLOATS = (
    *(math.nan, math.inf, -math.inf, 5e-324, -5e-324, 1e-310, -0.0, 0.0),
    *(1e308, -1e308, 1e15, -1.0, 1e-9, 9.2e9, None),
)
_INTEGERS = (2**63 - 1, -(2**63), 2**62, -(2**31), 2**31 - 1, 0, -1, None)
_SMALL = (2**31 - 1, -(2**31), 0, -1, 8, None)
_DAYS = (date(1677, 9, 21), date(2262, 4, 12), date(1, 1, 1), date(9999, 12, 31), None)
_INSTANTS = (-(2**63) + 1, 2**63 - 1, 0, -1, -9_223_372_036_854_775, 9_223_372_036_854_775, None)
_TEXTS = (
    *("", "\0", "HE\0Z5", "\u202eHE", "'; drop table raw.cot; --", "../../../etc/passwd"),
    *("%s{}\n\t", "x" * 100_000, "\ufffd", "HEZ5", "C", None),
)

#: By what a spoilt value may be replaced.
VALUES: Mapping[type[pl.DataType], Sequence[Any]] = {
    pl.Float64: _FLOATS,
    pl.Int64: _INTEGERS,
    pl.Int32: _SMALL,
    pl.Date: _DAYS,
    pl.Datetime: _INSTANTS,
    pl.String: _TEXTS,
    pl.Boolean: (True, False, None),
}


def spoil(lake: Lake, rng: random.Random, columns: int = 3, share: float = 0.02) -> None:
    """Spoil a ``share`` of the values of some ``columns`` of every raw file of a lake."""
    for path in lake.raw_files():
        frame = pl.read_parquet(path, hive_partitioning=False, glob=False)
        for name in rng.sample(frame.columns, min(columns, frame.width)):
            frame = frame.with_columns(_spoilt(frame[name], rng, share))
        frame.write_parquet(path)


def _spoilt(values: pl.Series, rng: random.Random, share: float) -> pl.Series:
    count = max(1, round(len(values) * share))
    places = sorted(rng.sample(range(len(values)), count))
    chosen = [rng.choice(VALUES[type(values.dtype)]) for _ in places]
    plain = values.to_physical() if values.dtype == pl.Datetime else values
    return plain.scatter(places, pl.Series(chosen, dtype=plain.dtype)).cast(values.dtype)


def not_finite(database: Path) -> Iterator[str]:
    """The columns of features that hold NaN or an infinity."""
    connection = open_database(database)
    try:
        columns = connection.sql(
            "select schema_name, table_name, column_name, data_type from duckdb_columns() "
            "where schema_name in ('features', 'quality') and data_type in ('DOUBLE', 'DOUBLE[]')"
        ).fetchall()
        for schema, table, column, kind in columns:
            value = f"unnest({column})" if kind == "DOUBLE[]" else column
            wrong = (
                f"select count(*) from (select {value} as v from {schema}.{table}) "
                "where not isfinite(v)"
            )
            ((count,),) = connection.sql(wrong).fetchall()
            if count:
                yield f"{schema}.{table}.{column}: {count}"
    finally:
        connection.close()
