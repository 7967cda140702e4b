"""The ways from a DBN file to Parquet, and a comparison of what they wrote.

Every function runs in a fresh process and imports what it needs itself, before its clock starts.
"""

from __future__ import annotations

import resource
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import polars as pl

OURS, TO_PARQUET, TO_DF = "hydra land dbn", "DBNStore.to_parquet", "DBNStore.to_df, Polars"

_NOW = datetime(2024, 6, 1, tzinfo=UTC)


class Spent(NamedTuple):
    """What one way took of one file."""

    seconds: float
    peak_mb: float


def make(schema: str, n: int, path: Path) -> None:
    """A file of ``n`` records at ``path`` and the definitions of its instruments beside it."""
    from benchmarks.decode import files

    (files.quotes if schema == "mbp-1" else files.bars)(path, n)
    files.definitions(_definitions(path), schema)


def _definitions(path: Path) -> Path:
    return path.with_name("definition." + path.name)


def land(path: Path, out: Path) -> Spent:
    """Into a lake that has the definitions: what ``hydra land dbn`` does, all of it."""
    from etl.jobs import land_dbn
    from etl.lake import Lake
    from etl.market import markets

    lake, known = Lake(out), markets()
    with lake.writing(_NOW):
        list(land_dbn(lake, known, [_definitions(path)], _NOW))
        begin = time.perf_counter()
        (landed,) = land_dbn(lake, known, [path], _NOW)
        seconds = time.perf_counter() - begin
    if isinstance(landed, Exception):
        raise landed
    return _spent(seconds)


def to_parquet(path: Path, out: Path) -> Spent:
    """The vendor's own writer with its default options: float prices, times, symbols."""
    import databento

    warnings.simplefilter("ignore")  # pandas' about what the client does
    begin = time.perf_counter()
    databento.DBNStore.from_file(path).to_parquet(out)
    return _spent(time.perf_counter() - begin)


def to_df(path: Path, out: Path) -> Spent:
    """The vendor's frame with its default options, as Polars writes it."""
    import databento
    import polars as pl

    warnings.simplefilter("ignore")
    begin = time.perf_counter()
    frame = databento.DBNStore.from_file(path).to_df().reset_index()
    pl.from_pandas(frame).write_parquet(out, compression="zstd")
    return _spent(time.perf_counter() - begin)


WAYS: dict[str, Callable[[Path, Path], Spent]] = {
    OURS: land,
    TO_PARQUET: to_parquet,
    TO_DF: to_df,
}


def _spent(seconds: float) -> Spent:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Spent(seconds, peak / (1024**2 if sys.platform == "darwin" else 1024))


def compare(schema: str, lake: Path, *written: Path) -> int:
    """The number of rows, when the lake holds what the vendor's client wrote, value by value.

    Raises
    ------
    AssertionError
        It does not.
    """
    import polars as pl
    from polars.testing import assert_frame_equal

    from etl.lake import Lake

    datasets = ("futures_quote", "option_quote") if schema == "mbp-1" else ("futures_1m",)
    landed = [path for dataset in datasets for path in Lake(lake).raw_files(dataset)]
    for file in written:
        theirs = (_quotes if schema == "mbp-1" else _bars)(pl.read_parquet(file))
        columns = theirs.columns
        ours = pl.concat(
            pl.read_parquet(path, columns=columns, hive_partitioning=False) for path in landed
        ).select(columns)
        assert_frame_equal(ours.sort(columns), theirs.sort(columns), check_exact=True)
    return ours.height


def _quotes(theirs: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    bid, ask = (pl.col(f"{side}_px_00").fill_nan(None) for side in ("bid", "ask"))
    return theirs.select(
        pl.col("instrument_id").cast(pl.Int64),
        pl.col("symbol").alias("contract"),
        _micros(pl.col("ts_event")).alias("as_of"),
        _micros(pl.col("ts_recv") + pl.duration(nanoseconds=999)).alias("available_at"),
        bid.alias("bid"),
        ask.alias("ask"),
        pl.when(bid.is_not_null()).then(pl.col("bid_sz_00").cast(pl.Int64)).alias("bid_size"),
        pl.when(ask.is_not_null()).then(pl.col("ask_sz_00").cast(pl.Int64)).alias("ask_size"),
        pl.col("sequence").cast(pl.Int64),
    )


def _bars(theirs: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    end = _micros(pl.col("ts_event")) + pl.duration(minutes=1)
    return theirs.select(
        pl.col("instrument_id").cast(pl.Int64),
        pl.col("symbol").alias("contract"),
        end.alias("as_of"),
        end.alias("available_at"),
        *("open", "high", "low", "close"),
        pl.col("volume").cast(pl.Int64),
    )


def _micros(instant: pl.Expr) -> pl.Expr:
    return instant.dt.cast_time_unit("us")
