"""The database: plain SQL for any DuckDB 1.x client, made whole, readable all the while."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from etl import build as module
from etl import sqlfiles
from etl.build import build
from etl.export import open_database
from etl.shown import END, NEVER

CLI = shutil.which("duckdb", path=str(Path(sys.executable).parent))


def ask(database: Path, statement: str, folder: Path) -> str:
    """What the bare command line answers from another folder, as CSV."""
    assert CLI, "the development environment has duckdb-cli"
    done = subprocess.run(
        [CLI, "-readonly", "-csv", "-noheader", str(database), "-c", statement],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TZ": "America/Chicago"},
    )
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr, done.stderr
    return done.stdout.strip()


def test_the_command_line_is_of_duckdb_1(sample_lake, tmp_path: Path) -> None:
    assert ask(sample_lake.lake.database, "select version()", tmp_path).startswith("v1.")


def test_every_table_and_view_runs_in_a_bare_command_line(sample_lake, tmp_path: Path) -> None:
    database = sample_lake.lake.database
    names = ask(
        database,
        "select schema_name || '.' || view_name from duckdb_views() where not internal"
        " union all select schema_name || '.' || table_name from duckdb_tables()",
        tmp_path,
    ).split()
    features = {f"features.{file.name}" for file in sqlfiles.features()}
    unversioned = {f"features.{file.base}" for file in sqlfiles.features()}
    raw = {f"raw.{name}" for name in module.DATASETS}
    assert features | unversioned | raw | {"quality.checks", "quality.freshness"} <= set(names)
    for name in names:
        count = ask(database, f"select count(*) from (select * from {name})", tmp_path)
        # The sample vendor has no Legacy and no Financial report.
        empty = {"quality.checks", "meta.vendor_days", "raw.cot_legacy", "raw.cot_financial"}
        assert name in empty or int(count) > 0, name


@pytest.mark.parametrize(
    "question",
    [
        "features_at('HE', '2025-03-13T20:00:00Z')",
        "features_at('ZO', timestamptz '2025-03-13 20:00:00+00')",
        "daily_at('2025-03-13T20:00:00Z')",
        "daily_at(now())",
        "cot_at('HE', '2025-03-13T20:00:00Z', now())",
        "freshness_at('2025-03-13T20:00:00Z')",
    ],
)
def test_every_macro_runs_in_a_bare_command_line(
    sample_lake, tmp_path: Path, question: str
) -> None:
    assert int(ask(sample_lake.lake.database, f"select count(*) from {question}", tmp_path)) > 0


def test_the_command_line_gives_the_same_answers_as_the_library(
    sample_lake, tmp_path: Path
) -> None:
    query = (
        "select feature_name, round(value, 9), quality from"
        " features_at('HE', '2025-03-12T20:00:00Z') where value is not null order by 1"
    )
    with sample_lake.connect() as connection:
        ours = connection.sql(query).fetchall()
    theirs = [line.split(",") for line in ask(sample_lake.lake.database, query, tmp_path).split()]
    assert len(ours) > 40
    assert [(name, pytest.approx(float(value)), quality) for name, value, quality in theirs] == ours


def test_an_open_session_keeps_reading_while_builds_replace_the_file(own_lake, tmp_path) -> None:
    """An independent process holds the old file; another build is not in its way."""
    assert CLI
    database = own_lake.lake.database
    session = subprocess.Popen(
        [CLI, "-readonly", "-csv", "-noheader", str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert session.stdin
    assert session.stdout
    question = "select count(*) from features.chain_v1;\n"
    session.stdin.write(question)
    session.stdin.flush()
    before = session.stdout.readline()
    inode = database.stat().st_ino
    with own_lake.lake.writing(own_lake.now):
        build(own_lake.lake, dict(own_lake.markets), own_lake.now)
    assert database.stat().st_ino != inode
    session.stdin.write(question)
    session.stdin.flush()
    assert session.stdout.readline() == before
    session.stdin.close()
    assert session.wait(timeout=30) == 0
    assert ask(database, question, tmp_path) == before.strip()


def test_a_killed_build_leaves_the_old_database(own_lake, monkeypatch: pytest.MonkeyPatch) -> None:
    database = own_lake.lake.database
    before = database.read_bytes()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_checks", die)
    with pytest.raises(KeyboardInterrupt), own_lake.lake.writing(own_lake.now):
        build(own_lake.lake, dict(own_lake.markets), own_lake.now)
    assert database.read_bytes() == before
    monkeypatch.undo()
    with own_lake.lake.writing(own_lake.now):
        build(own_lake.lake, dict(own_lake.markets), own_lake.now)
    left = sorted(path.name for path in own_lake.lake.root.iterdir() if "part" in path.name)
    assert left == []


def test_the_same_lake_gives_the_same_database(own_lake, sample_lake) -> None:
    def contents() -> dict[str, list[tuple[object, ...]]]:
        connection = open_database(own_lake.lake.database)
        try:
            names = connection.sql(
                "select schema_name || '.' || table_name from duckdb_tables() order by all"
            ).fetchall()
            names += [(f"features.{file.name}",) for file in sqlfiles.stage("derive")]
            return {name: connection.sql(f"from {name}").fetchall() for (name,) in names}
        finally:
            connection.close()

    first = repr(contents())  # repr, since NaN is not itself
    with own_lake.lake.writing(own_lake.now):
        build(own_lake.lake, dict(own_lake.markets), own_lake.now)
    here, there = own_lake.lake.root, sample_lake.lake.root  # a view names its files by them
    assert repr(contents()) == first.replace(str(there), str(here))


def test_what_is_derived_is_shown_and_not_copied(own_lake) -> None:
    """A question on one market and a month of it reads no file of another market."""
    with own_lake.lake.writing(own_lake.now):
        build(own_lake.lake, dict(own_lake.markets), own_lake.now)
    for file in (own_lake.lake.derived / "table=chain_v1/market=ZO").rglob("*.parquet"):
        file.write_bytes(b"no Parquet")
    connection = open_database(own_lake.lake.database)
    try:
        tables = connection.sql("select table_name from duckdb_tables()").fetchall()
        of_one = "select count(*), min(session_date) from features.chain where market = 'HE'"
        ((count, first),) = connection.sql(of_one).fetchall()
        of_all = "select distinct market from features.chain_v1"
        with pytest.raises(duckdb.InvalidInputException, match="market=ZO"):
            connection.sql(of_all).fetchall()
    finally:
        connection.close()
    assert ("chain_v1",) not in tables
    assert count > 0
    assert first.year == 2025


def test_it_says_when_the_rows_of_each_file_became_known(own_lake) -> None:
    """Also of one that two records tell of; one of which nothing is said may hold any."""
    batches = sorted(own_lake.lake.batches.glob("*.json"))
    twice = json.loads(batches[0].read_text())
    twice["files"].append(twice["files"][0])
    batches[0].write_text(json.dumps(twice))
    untold = json.loads(batches[-1].read_text())
    for file in untold["files"]:
        file["first_available_at"] = file["last_available_at"] = None
    batches[-1].write_text(json.dumps(untold))
    with own_lake.lake.writing(own_lake.now):
        build(own_lake.lake, dict(own_lake.markets), own_lake.now)
    connection = open_database(own_lake.lake.database)
    try:
        about = "select view_name, path, market, month, known_from, known_until from meta.files"
        files = connection.sql(about).fetchall()
        known = {
            path: connection.sql(
                f"select min(available_at), max(available_at) from read_parquet('{path}')"
            ).fetchall()[0]
            for view, path, *_ in files
            if view.startswith("raw.")
        }
    finally:
        connection.close()
    root = own_lake.lake.root
    untold_paths = {str(root / file["path"]) for file in untold["files"]}
    assert len(untold_paths) < len(known)
    assert sorted(known) == sorted(map(str, own_lake.lake.raw_files()))
    assert len(files) == len({path for _, path, *_ in files}) > len(known)
    for view, path, market, month, *span in files:
        place = f"/market={market}/year={month.year}/month={month.month:02d}/"
        assert place in path or view.startswith("features.")
        if path in untold_paths:
            assert span == [NEVER, END]
        else:
            assert span == list(known.get(path, (None, None))), path


def test_nothing_in_the_file_needs_a_python_function(sample_lake) -> None:
    from mathlib.udf import FUNCTIONS

    with sample_lake.connect() as connection:
        texts = connection.sql(
            "select sql from duckdb_views() where not internal"
            " union all select macro_definition from duckdb_functions()"
            " where function_type like '%macro' and not internal"
        ).fetchall()
    assert len(texts) > 20
    for (text,) in texts:
        assert not any(f"{name}(" in text for name in FUNCTIONS)


def test_what_built_it_is_recorded(sample_lake) -> None:
    with sample_lake.connect() as connection:
        (built,) = connection.sql("from meta.builds").pl().iter_rows(named=True)
        versions = connection.sql("select view_name, sha256 from meta.sql_versions").fetchall()
        batches = connection.sql("select sum(rows), count(*) from meta.batches").fetchall()
        rows = sum(
            connection.sql(f"select count(*) from raw.{name}").fetchall()[0][0]
            for name in module.DATASETS
        )
    assert built["built_at"] == sample_lake.now
    assert dict(versions) == {file.name: file.sha256 for file in sqlfiles.features()}
    assert batches[0][0] == rows
