"""The benchmark of the decoder: all ways give the same values, and a quick run reports them all."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.decode import files, ways
from benchmarks.decode.report import Case, Run, Way, markdown
from etl.market import markets
from etl.sources import dbn

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The JSON and the Markdown of a quick run."""
    out = tmp_path_factory.mktemp("bench")
    command = ["-m", "benchmarks.decode", "--date", "2025-03-14", "--quick", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads((out / "decode.json").read_text()), (out / "decode.md").read_text()


def test_every_way_is_measured_on_every_file(quick_run: tuple[dict[str, Any], str]) -> None:
    values, text = quick_run
    assert [case["schema"] for case in values["cases"]] == ["mbp-1", "ohlcv-1m"]
    for case in values["cases"]:
        assert [way["name"] for way in case["ways"]] == list(ways.WAYS)
        for way in case["ways"]:
            assert len(way["seconds"]) == len(way["peak_mb"]) == values["turns"]
            assert f"| {way['name']} |" in text


def test_a_quick_run_says_so_and_judges_no_time(quick_run: tuple[dict[str, Any], str]) -> None:
    values, text = quick_run
    assert values["quick"]
    assert "A quick run" in text
    assert "PASS" not in text
    assert "FAIL" not in text
    assert "2025-03-14" in text


def test_a_value_that_differs_stops_the_run(tmp_path: Path) -> None:
    path, lake, written = tmp_path / "q.dbn.zst", tmp_path / "lake", tmp_path / "q.parquet"
    ways.make("mbp-1", 500, path)
    ways.land(path, lake)
    ways.to_parquet(path, written)
    assert ways.compare("mbp-1", lake, written) == 500
    theirs = pl.read_parquet(written)
    for wrong in (
        theirs.head(499),
        theirs.with_columns(pl.col("ask_px_00") + 1e-9),
        theirs.with_columns(pl.col("bid_sz_00") + 1),
        theirs.with_columns(pl.col("ts_event") - pl.duration(microseconds=1)),
        theirs.with_columns(pl.lit("HEM4").alias("symbol")),
    ):
        wrong.write_parquet(written)
        with pytest.raises(AssertionError):
            ways.compare("mbp-1", lake, written)


def test_the_quotes_are_of_1500_instruments_and_some_have_one_side(tmp_path: Path) -> None:
    path = tmp_path / "q.dbn.zst"
    files.quotes(path, 30_000)
    payload = dbn.read(path, markets(), None)
    quotes = pl.concat(
        frame.select("as_of", "available_at", "contract", "bid", "ask")
        for _, frame in payload.frames
    )
    assert quotes.height == 30_000
    assert not payload.left_out
    assert quotes["contract"].n_unique() == 1500
    assert 0.04 < quotes["bid"].is_null().mean() < 0.06
    assert quotes["available_at"].min() >= datetime(2024, 5, 13, tzinfo=UTC)


@pytest.mark.parametrize("make", [files.quotes, files.bars])
def test_two_files_of_one_size_are_the_same(tmp_path: Path, make: Any) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    make(one, 1000)
    make(other, 1000)
    assert one.read_bytes() == other.read_bytes()


def run_of(ratio: float = 3.0, peaks: tuple[float, float] = (200.0, 250.0)) -> Run:
    cases = [
        Case(schema, records, 1, [Way(ways.OURS, [1.0], [peak], speed)])
        for schema, records, peak, speed in (
            ("ohlcv-1m", 9_000_000, 900.0, 0.5),  # nothing is asked of it
            ("mbp-1", 3_000_000, peaks[1], ratio),
            ("mbp-1", 1_000_000, peaks[0], 1.0),
        )
    ]
    return Run("2025-03-14", False, {"system": "a machine"}, 1, cases)


def test_what_is_met_passes_and_what_is_not_is_named() -> None:
    assert run_of().shortfalls() == []
    assert "PASS" in markdown(run_of())
    assert run_of(ratio=2.99).shortfalls() == ["2.99 times to_parquet's rate, not 3"]
    grown = run_of(peaks=(200.0, 251.0))
    assert grown.shortfalls() == ["memory grows with the file: 200 MB, then 251 MB"]
    assert "**FAIL**: memory grows" in markdown(grown)
    assert replace(grown, quick=True).shortfalls() == []
