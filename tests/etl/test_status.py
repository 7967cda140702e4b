"""Status and markets: what the lake holds, and how thick its markets are."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from click.testing import CliRunner, Result

from etl import status
from etl.cli import main
from etl.market import markets


def hydra(root: Path, *words: str) -> Result:
    result = CliRunner().invoke(main, ["--lake", str(root), *words])
    assert result.exit_code == 0, result.output
    return result


def test_status_counts_what_is_on_disk(sample_lake: Any) -> None:
    lake = sample_lake.lake
    found = status.look(lake)
    assert found.built_at == sample_lake.now
    for code, landed in found.landed.items():
        paths = lake.raw_files(market=code)
        assert landed.files == len(paths)
        assert landed.bytes == sum(path.stat().st_size for path in paths)
        assert landed.rows == sum(
            pl.scan_parquet(path, hive_partitioning=False).select(pl.len()).collect().item()
            for path in paths
        )
        assert landed.at == sample_lake.now
        assert landed.sources == {"sample"}
    assert set(found.landed) == set(lake.markets()) == {"HE", "ZO"}
    files = [path for path in lake.derived.rglob("*") if path.is_file()]
    assert found.derived_bytes == sum(path.stat().st_size for path in files)
    assert found.database_bytes == lake.database.stat().st_size


def test_status_shows_where_each_source_begins_and_ends(sample_lake: Any) -> None:
    rows = {
        row[:2]: dict(zip(status.Status.COLUMNS, row, strict=True))
        for row in status.look(sample_lake.lake).holdings
    }
    with sample_lake.connect() as connection:
        first, last = connection.sql(
            "select min(session_date), max(as_of) from features.futures_v1 where market = 'HE'"
        ).fetchall()[0]
    assert rows["HE", "futures"]["first"] == first
    assert rows["HE", "futures"]["newest"] == last
    assert rows["HE", "futures"]["state"] == "fresh"


def test_status_for_people_names_origin_run_and_sizes(sample_lake: Any) -> None:
    lines = hydra(sample_lake.lake.root, "status").stdout.splitlines()
    assert lines[0].endswith("SAMPLE DATA: synthetic, of no real market")
    assert lines[1].startswith("last built 2025-03-14 12:00Z by hydra ")
    assert ", from sample; last landed 2025-03-14 12:00Z" in lines[2]
    assert lines[4].split() == list(status.Status.COLUMNS)


def test_status_for_programs(sample_lake: Any) -> None:
    rows = json.loads(hydra(sample_lake.lake.root, "status", "--format", "json").stdout)
    assert Counter(row["market"] for row in rows) == {"HE": 5, "ZO": 5}
    assert {row["origin"] for row in rows} == {"sample"}
    assert {row["built_at"] for row in rows} == {"2025-03-14T12:00:00Z"}
    text = hydra(sample_lake.lake.root, "status", "--format", "csv").stdout
    held = list(csv.DictReader(io.StringIO(text)))
    assert [row["raw_rows"] for row in held] == [str(row["raw_rows"]) for row in rows]
    assert datetime.fromisoformat(held[0]["newest"]).tzinfo == UTC


def test_thickness_is_the_average_of_a_months_sessions(sample_lake: Any) -> None:
    with sample_lake.connect() as connection:
        slices = connection.sql("from features.surface_v1").pl()
    rows = status.thickness(sample_lake.lake)
    assert [row[:3] for row in rows] == sorted({row[:3] for row in rows})
    assert {row[0] for row in rows} == {"HE", "ZO"}
    for market, month, prices, sessions, strikes, full, expiries in rows:
        of = slices.filter(
            (pl.col("market") == market)
            & (pl.col("session_date").dt.strftime("%Y-%m") == month)
            & (pl.col("price_source") == prices)
        )
        days = of.partition_by("session_date")
        assert sessions == len(days)
        assert strikes == round(sum(day["n_liquid"].sum() for day in days) / len(days), 1)
        good = sum((day["data_quality"] == "full").sum() for day in days)
        assert abs(full - good / len(days)) <= 0.0501
        assert abs(expiries - of.height / len(days)) <= 0.0501


def test_markets_are_configured_ones_then_their_months(sample_lake: Any, tmp_path: Path) -> None:
    listed, months = hydra(sample_lake.lake.root, "markets").stdout.split("\n\n")
    head, *rows = listed.splitlines()
    assert head.split() == list(status.MARKET)
    assert [row.split()[0] for row in rows] == list(markets())
    assert "HE      Lean hogs                     400  american  054642    CMEGlobex" in listed
    assert months.split()[: len(status.THICKNESS)] == list(status.THICKNESS)
    assert hydra(tmp_path / "none", "markets").stdout == listed + "\n"
    assert not (tmp_path / "none").exists()


def test_markets_for_programs_are_a_row_a_month(sample_lake: Any) -> None:
    rows = json.loads(hydra(sample_lake.lake.root, "markets", "--format", "json").stdout)
    assert [*dict.fromkeys(row["market"] for row in rows)] == list(markets())
    (corn,) = [row for row in rows if row["market"] == "ZC"]
    assert corn["month"] is None
    assert corn["multiplier"] == 50
    hogs = [row for row in rows if row["market"] == "HE"]
    assert len(hogs) == sum(row[0] == "HE" for row in status.thickness(sample_lake.lake))
    assert all(row["liquid_strikes"] > 0 for row in hogs)
