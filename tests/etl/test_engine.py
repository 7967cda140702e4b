"""Raw views: what no market can have is NULL, and stays in the file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from etl import engine
from etl.lake import Lake
from etl.schemas import raw_schema

AT = datetime(2025, 3, 6, 19, tzinfo=UTC)


def view(folder: Path, dataset: str, column: str, values: Sequence[Any]) -> list[Any]:
    """What a raw view shows of a column that a landed file holds."""
    schema = {name: dtype for name, dtype in raw_schema(dataset).items() if name != "market"}
    rows = [{"as_of": AT, "available_at": AT, column: value} for value in values]
    path = folder / f"dataset={dataset}/market=HE/year=2025/month=03/rows.parquet"
    path.parent.mkdir(parents=True)
    pl.DataFrame(rows, schema=schema).write_parquet(path)
    connection = engine.connect()
    try:
        engine.create_raw_views(connection, {dataset: [path]})
        return [
            value for (value,) in connection.sql(f"select {column} from raw.{dataset}").fetchall()
        ]
    finally:
        connection.close()


@pytest.mark.parametrize("price", [84.125, -3.5, 0.0, 1e-9, 9_223_372_036.854775])
def test_a_price_is_as_it_landed(tmp_path: Path, price: float) -> None:
    assert view(tmp_path, "futures_1d", "close", [price]) == [price]


@pytest.mark.parametrize("price", [math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, None])
def test_no_price_is_null(tmp_path: Path, price: float | None) -> None:
    assert view(tmp_path, "futures_1d", "close", [84.0, price, 85.0]) == [84.0, None, 85.0]


def test_minus_zero_is_zero(tmp_path: Path) -> None:
    (zero,) = view(tmp_path, "futures_1d", "close", [-0.0])
    assert math.copysign(1.0, zero) == 1.0


def test_a_count_that_would_overflow_is_null(tmp_path: Path) -> None:
    counts = [2**63 - 1, -(2**63), 10**12, -5]
    assert view(tmp_path, "option_stat", "quantity", counts) == [None, None, 10**12, -5]


def test_a_number_that_is_a_name_is_kept(tmp_path: Path) -> None:
    assert view(tmp_path, "option_stat", "instrument_id", [2**63 - 1]) == [2**63 - 1]


def test_a_date_that_cannot_be_is_null(tmp_path: Path) -> None:
    days = [date(1677, 9, 21), date(2025, 3, 6), date(2262, 4, 12), date(9999, 12, 31)]
    assert view(tmp_path, "cot", "report_date", days) == [None, date(2025, 3, 6), None, None]


@pytest.mark.parametrize("year", [1677, 1970, 2262, 9999])
def test_a_row_of_an_instant_that_cannot_be_is_not_there(tmp_path: Path, year: int) -> None:
    instants = [datetime(year, 6, 1, tzinfo=UTC), AT]
    assert len(view(tmp_path, "futures_1d", "available_at", instants)) == 1


def test_an_expiration_that_cannot_be_is_open(tmp_path: Path) -> None:
    far = datetime(2262, 4, 11, tzinfo=UTC)
    assert view(tmp_path, "option_definition", "expiration", [far]) == [None]


def test_a_text_without_end_is_null(tmp_path: Path) -> None:
    texts = ["x" * 10_000_000, "'; drop table x; --", "\u202e\0/../"]
    assert view(tmp_path, "futures_1d", "contract", texts) == [None, *texts[1:]]


def test_no_extension_is_fetched() -> None:
    connection = engine.connect()
    try:
        with pytest.raises(duckdb.Error, match="httpfs"):
            connection.sql("from read_parquet('https://127.0.0.1:9/x.parquet')")
    finally:
        connection.close()


@pytest.mark.parametrize("folder", ["a 'quoted' one", "two\nlines", "a [pattern]?"])
def test_a_view_says_what_its_files_have_in_common_once(tmp_path: Path, folder: str) -> None:
    """A database's views are read by all who attach it, so that a file should be few bytes."""
    lake = Lake(tmp_path / folder)
    for market in ("HE", "ZO"):
        for number in range(20):
            path = lake.partition("futures_1d", market, 2025, 3) / f"{number}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = {k: v for k, v in raw_schema("futures_1d").items() if k != "market"}
            rows = [{"as_of": AT, "available_at": AT, "close": float(number)}]
            pl.DataFrame(rows, schema=columns).write_parquet(path)
    files = lake.raw_names("futures_1d")
    connection = engine.connect()
    try:
        engine.create_raw_views(connection, {"futures_1d": lake.addresses(files)})
        connection.execute("create view raw.one as from raw.futures_1d where market = 'ZO'")
        found = "select market, sum(close), count(*) from raw.futures_1d group by all order by all"
        assert connection.sql(found).fetchall() == [("HE", 190.0, 20), ("ZO", 190.0, 20)]
        assert connection.sql("select count(*) from raw.one").fetchall() == [(20,)]
        text = "select sql from duckdb_views() where view_name = 'futures_1d'"
        ((sql,),) = connection.sql(text).fetchall()
    finally:
        connection.close()
    assert sql.count("dataset=futures_1d/") == 2
    assert sql.count("month=03/7") == 2
    assert sql.count(".parquet") == 2
