"""Each example answers its question on a sample lake, and knows nothing too early."""

from __future__ import annotations

import csv
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from etl import jobs
from etl.build import build
from etl.derive import derive
from etl.lake import Lake
from etl.market import chosen, markets

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, lake: Path, folder: Path, *options: str) -> str:
    """What an example prints."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), str(lake), str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "SAMPLE DATA" in done.stdout
    return done.stdout


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def spring_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sessions of hogs about the Hogs & Pigs report of 2025-03-27."""
    lake, known = Lake(tmp_path_factory.mktemp("spring") / "lake"), markets()
    now = datetime(2025, 4, 1, 12, tzinfo=UTC)
    hogs = chosen(known, "HE")
    with lake.writing(now):
        jobs.land_sample(lake, [hogs], 4, now, lambda line: None)
        derive(lake, hogs, now)
        build(lake, known, now)
    return lake.root


def test_that_thursday_knew_no_report_that_came_out_on_friday(
    sample_lake: Any, tmp_path: Path
) -> None:
    said = run("known_on_that_thursday", sample_lake.lake.root, tmp_path)
    assert "Thursday 2025-03-06 12:00 CST" in said
    rows = {r["feature_name"]: r for r in read(tmp_path / "known_on_that_thursday.csv")}
    thursday = datetime(2025, 3, 6, 18, tzinfo=UTC)
    for row in rows.values():
        assert datetime.fromisoformat(row["available_at"]) <= thursday
    positions = rows["cot_managed_money_net"]
    assert datetime.fromisoformat(positions["as_of"]).date().isoformat() == "2025-02-25"
    assert datetime.fromisoformat(positions["hindsight_as_of"]).date().isoformat() == "2025-03-04"
    assert datetime.fromisoformat(positions["hindsight_available_at"]) > thursday


def test_skew_is_of_the_reports_tuesday_and_the_position_of_its_release(
    sample_lake: Any, tmp_path: Path
) -> None:
    said = run("skew_and_positioning", sample_lake.lake.root, tmp_path)
    assert "weeks_ahead" in said
    weeks = read(tmp_path / "skew_and_positioning.csv")
    with sample_lake.connect() as connection:
        for week in [week for week in weeks if week["skew"]]:
            text = "select value from features_at('HE', '{}') where feature_name = '{}'"
            for instant, feature, column in (
                ("tuesday", "opt_rr_25d_90d", "skew"),
                ("released", "cot_managed_money_share", "position"),
            ):
                known = connection.sql(text.format(week[instant], feature)).fetchall()
                assert known == [(float(week[column]),)]
    assert sum(bool(week["skew"]) for week in weeks) >= 1
    assert (tmp_path / "skew_and_positioning.svg").read_text().startswith("<svg")


def test_the_density_is_of_the_sessions_on_both_sides_of_the_report(
    spring_lake: Path, tmp_path: Path
) -> None:
    said = run("density_around_hogs_and_pigs", spring_lake, tmp_path)
    assert "report of 2025-03-27" in said
    assert "2025-03-27 18:00" in said  # 14:00 in New York, before the report
    assert "2025-03-28 18:00" in said
    rows = read(tmp_path / "density_around_hogs_and_pigs.csv")
    for when in ("before", "after"):
        points = [(float(r["strike"]), float(r["density"])) for r in rows if r["when"] == when]
        mass = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points))
        assert mass == pytest.approx(1.0, abs=0.01)
    assert (tmp_path / "density_around_hogs_and_pigs.svg").read_text().startswith("<svg")


def test_a_lake_without_a_report_is_told_so(sample_lake: Any, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "density_around_hogs_and_pigs.py")]
    command += [str(sample_lake.lake.root), str(tmp_path), "--report", "2024-03-28"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "the lake has no density on both sides of 2024-03-28's report\n"
