"""The checks' runs: their history in the lake, and what the documents say of them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl

from benchmarks import quality
from etl import checks, sqlfiles
from etl.build import build
from etl.shown import END, NEVER, Shown

ROOT = Path(__file__).parents[2]


def test_a_run_leaves_one_file_with_a_row_a_finding_or_quiet_check(own_lake) -> None:
    results = checks.look(own_lake.lake, own_lake.now)
    checks.keep(own_lake.lake, results, own_lake.now)
    (path,) = own_lake.lake.checks.iterdir()
    assert path.name == "20250314T120000000000Z.parquet"
    rows = pl.read_parquet(path)
    assert rows.schema == checks.RECORDED
    assert set(rows["check_name"]) == {check.name for check in sqlfiles.checks()}
    assert rows.equals(results)
    assert rows.equals(checks.kept(own_lake.lake, own_lake.now))
    assert rows.filter(pl.col("reason").is_not_null()).equals(checks.findings(results))
    quiet = rows.filter(pl.col("reason").is_null())
    assert quiet.select("market", "session_date", "subject").null_count().row(0) == (
        (quiet.height,) * 3
    )


def test_a_history_is_checked_in_parts_as_at_once(own_lake, monkeypatch) -> None:
    at_once = checks.look(own_lake.lake, own_lake.now)
    assert checks.findings(at_once).height > 0
    days = [datetime(2025, 3, day, tzinfo=UTC) for day in (4, 7, 12)]
    monkeypatch.setattr(Shown, "_years", lambda *_: pairwise([NEVER, *days, END]))
    assert checks.look(own_lake.lake, own_lake.now).equals(at_once)


def test_markets_are_checked_one_by_one_as_together(own_lake, monkeypatch) -> None:
    later = own_lake.now + timedelta(days=60)
    one_by_one = checks.look(own_lake.lake, later)
    stale = checks.findings(one_by_one).filter(pl.col("check_name") == "stale_source")
    assert set(stale["market"]) == {"HE", "ZO"}
    cut, together = Shown.parts, (NEVER, END)

    def parts(self, since, *, by_year):
        return cut(self, since, by_year=True) if by_year else [dict.fromkeys(since, together)]

    monkeypatch.setattr(Shown, "parts", parts)
    assert checks.look(own_lake.lake, later).equals(one_by_one)


def test_two_runs_of_one_instant_are_one(own_lake) -> None:
    lake, now = own_lake.lake, own_lake.now
    written = []
    for _ in range(2):
        checks.keep(lake, checks.look(lake, now), now)
        (path,) = lake.checks.iterdir()
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_the_history_shows_every_run_and_tells_the_newest(own_lake) -> None:
    lake, known = own_lake.lake, dict(own_lake.markets)
    later = own_lake.now + timedelta(hours=1)
    for now in (own_lake.now, later):
        with lake.writing(now):
            build(lake, known, now)
    with own_lake.connect() as connection:
        runs = connection.sql("select distinct run_at from quality.runs order by 1").fetchall()
        assert [run_at for (run_at,) in runs] == [own_lake.now, later]
        newest = "select distinct run_at from quality.checks where is_newest"
        assert connection.sql(newest).fetchall() == [(later,)]
        counted = "select sum(findings) from quality.runs group by run_at"
        assert len({n for (n,) in connection.sql(counted).fetchall()}) == 1


def test_a_run_without_findings_is_the_newest_all_the_same(own_lake) -> None:
    lake, later = own_lake.lake, own_lake.now + timedelta(hours=1)
    with lake.writing(own_lake.now):
        build(lake, dict(own_lake.markets), own_lake.now)
    quiet = checks.RECORDED.to_frame().clear(1).with_columns(run_at=pl.lit(later))
    quiet.select(pl.col(n).cast(t) for n, t in checks.RECORDED.items()).write_parquet(
        lake.checks / "later.parquet"
    )
    with own_lake.connect() as connection:
        assert connection.sql("from quality.checks where is_newest").fetchall() == []
        assert connection.sql("from quality.checks").fetchall() != []


def test_a_newer_check_knows_what_was_landed_since(own_lake) -> None:
    """The database is the same, the clock is not: a day later the sources are behind."""
    fresh, stale = (
        checks.findings(checks.look(own_lake.lake, own_lake.now + timedelta(days=days)))
        for days in (0, 10)
    )
    assert "stale_source" not in set(fresh["check_name"])
    assert "stale_source" in set(stale["check_name"])


def test_the_document_lists_every_check() -> None:
    text = (ROOT / "docs/quality.md").read_text()
    for check in sqlfiles.checks():
        assert f"| `{check.name}` | {check.severity} | {check.sentence} |" in text


def test_the_documents_tables_are_those_of_the_benchmark() -> None:
    results = json.loads((ROOT / "benchmarks/results/quality.json").read_text())
    text = (ROOT / "docs/quality.md").read_text()
    shown = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    for table in quality.tables(results):
        assert table in shown
    assert quality.markdown(results) == (ROOT / "benchmarks/results/quality.md").read_text()
    assert quality.is_met(results)
