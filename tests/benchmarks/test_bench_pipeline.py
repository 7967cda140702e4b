"""The pipeline's benchmark: a tiny run shows that everything works, not how fast."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.pipeline import report, scale
from benchmarks.pipeline.__main__ import main
from benchmarks.pipeline.measure import python

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lakes")


@pytest.fixture(scope="module")
def tiny(lakes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    _bench(lakes, out)
    return out


def _bench(lakes: Path, out: Path, *more: str) -> None:
    arguments = ["--date", "2026-01-02", "--sizes", "tiny", "--out", str(out)]
    arguments += ["--folder", str(lakes), *more]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def result(tiny: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tiny / "pipeline.json").read_text())
    return found


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _numbers(one)
    elif isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, float):
        yield value


def test_every_measurement_is_there_and_finite(result: dict[str, Any]) -> None:
    names = {"growth", "derive", "daily", "landing", "query", "spine", "layout"}
    assert names <= result.keys()
    assert all(math.isfinite(number) for number in _numbers(result))


def test_every_lake_went_through_every_stage(result: dict[str, Any]) -> None:
    assert [one["size"] for one in result["growth"]] == ["1x1 tiny", "2x1 tiny"]
    for one in result["growth"]:
        assert tuple(one["stages"]) == report.STAGES
        assert one["rows"] > 0
        assert one["derived_bytes"] > 0


def test_build_and_check_are_measured_again_alone(
    lakes: Path, tiny: Path, result: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(tiny, tmp_path / "out")
    _bench(lakes, tmp_path / "out", "--only", "build and check")
    again = json.loads((tmp_path / "out" / "pipeline.json").read_text())
    for one, other in zip(result["growth"], again["growth"], strict=True):
        same = {name: one["stages"][name] == other["stages"][name] for name in report.STAGES}
        assert same == {"land": True, "derive": True, "build": False, "check": False}
    assert "build and check" in again["runs"]


def test_lakes_that_were_not_kept_are_asked_for(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "out")
    arguments = ["--date", "2026-01-02", "--sizes", "tiny", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*arguments, "--only", "build and check"])
    assert done.exit_code == 2
    assert "is not there: --folder names" in done.output


def test_the_straightforward_build_does_the_same_job(result: dict[str, Any]) -> None:
    apart = result["derive"]["differences"]
    assert apart["options"] >= 20
    assert apart["slices"] >= 2
    assert apart["vol"] < 0.005
    assert apart["stdev"] < 0.05
    assert apart["q05"] < 0.02


def test_the_report_has_a_table_of_all_and_no_verdict(tiny: Path, result: dict[str, Any]) -> None:
    text = (tiny / "pipeline.md").read_text()
    assert "A tiny run" in text
    assert "PASS" not in text
    assert "Measured on 2026-01-02" in text
    for asked, measured, _ in report.verdicts(result):
        assert f"| {asked} | {measured} |" in text
    assert (tiny / "pipeline-growth.svg").read_text().startswith("<svg")


def test_a_size_that_is_none_is_refused(tmp_path: Path) -> None:
    arguments = ["--date", "2026-01-02", "--sizes", "huge", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "'huge' is no size" in done.output


def test_growth_is_the_slope_of_logarithms() -> None:
    lakes = [{"rows": n, "stages": {"build": {"cpu": 3.0 * n**0.5}}} for n in (10, 100, 5_000)]
    assert report.slope({"growth": lakes}, "build") == pytest.approx(0.5)


def test_memory_is_of_a_process_and_its_children() -> None:
    hold = "x = bytearray(64 << 20); import time; time.sleep(1)"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    alone, two = python("-c", hold), python("-c", f"y = bytearray(64 << 20); {start}")
    assert 60 < alone.peak_mb < 110
    assert 120 < two.peak_mb < 200


def test_what_fails_in_a_process_is_said() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        python("-c", "raise SystemExit('no such thing')")


def test_the_tables_of_scale_follow_from_the_rates() -> None:
    times = {name: {"median": value} for name, value in (("cpu", 2.0), ("wall", 1.0))}
    result = {
        "landing": {"records": 1_000_000, "bytes": 30e6, "raw_bytes": 15e6, **times},
        "derive": {
            "sessions": 250,
            "cpu": {"median": 36.0},
            "derived_bytes": 36e6,
            "build": {"cpu": 5.0},
        },
        "layout": {"scan": {"read": 1, "of": 100}},
    }
    text = scale.tables(result)
    assert "| land a million quotes | 2.00 s |" in text
    assert "| derive a thousand options of a session | 0.10 s |" in text
    # 15 years x 252 sessions x 300 markets x 3,000 options x 500 changes
    assert "| quotes | 1.7e+11 | 1.7e+12 | 1.7e+13 |" in text
    assert "| bytes in `raw` | 2.6 TB | 25.5 TB | 255.2 TB |" in text
    assert "| derive, core-hours | 94 | 94 | 94 |" in text


def test_the_page_and_the_report_are_of_the_results() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "pipeline.json").read_text())
    assert (ROOT / "benchmarks" / "results" / "pipeline.md").read_text() == report.markdown(results)
    if results.keys() >= scale.SOURCES:
        page = (ROOT / "docs" / "scale.md").read_text()
        assert scale.with_tables(page, results) == page
