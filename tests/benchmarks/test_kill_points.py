"""Kill -9 at a few of the points, so that every command is killed somewhere; and the document."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kill_points.__main__ import Tally, table, torn

ROOT = Path(__file__).parents[2]
STAGES = ["land", "derive", "build", "export", "check --repair", "compact"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler to count the points with")
def test_what_is_killed_anywhere_recovers(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "benchmarks.kill_points", "--every", "150", "--out", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        call, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    tallies = [Tally(**tally) for tally in json.loads((tmp_path / "kill_points.json").read_text())]
    assert [tally.stage for tally in tallies] == STAGES
    assert all(tally.tried == tally.recovered > 0 for tally in tallies)
    assert sum(tally.points for tally in tallies) > 500


def test_what_is_torn_or_gone_is_seen() -> None:
    states = [{"a": "1", "b": "1"}, {"a": "2", "b": "1", "c": "1"}]
    for whole in (*states, {"a": "2", "b": "1"}):
        assert torn(whole, states) == []
    found = {"a": "3", "c": "1", "d": "1", "x.part": "9", "staging/y": "9"}
    assert torn(found, states) == ["a is torn", "b is gone", "d is torn"]


def test_the_document_shows_the_results() -> None:
    results = json.loads((ROOT / "benchmarks/results/kill_points.json").read_text())
    tallies = [Tally(**tally) for tally in results]
    assert [tally.stage for tally in tallies] == STAGES
    assert all(tally.tried == tally.recovered for tally in tallies)
    assert table(tallies) in (ROOT / "docs/safety.md").read_text()
