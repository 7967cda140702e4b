"""Exports: the view's own rows, the same bytes each time, and a whole file or none."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from etl import lake as lake_module
from etl.errors import BadInput, HydraError, LakeError
from etl.export import FORMATS, export, open_database

WIDE = "features.daily_v1"
each_format = pytest.mark.parametrize("form", sorted(FORMATS))


def rows_of(sample_lake: Any, text: str) -> list[tuple[Any, ...]]:
    with sample_lake.connect() as connection:
        return connection.sql(text).fetchall()


def read(path: Path) -> list[tuple[Any, ...]]:
    """The rows of an exported Parquet file."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        return connection.execute("from read_parquet(?)", [str(path)]).fetchall()


# --- the rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "view",
    ["features.daily_v1", "features.daily", "features.chain_v1", "raw.cot", "meta.batches"],
)
def test_a_view_comes_out_as_it_is(sample_lake: Any, tmp_path: Path, view: str) -> None:
    target = tmp_path / "x.parquet"
    count = export(sample_lake.lake.database, view, "parquet", target)
    want = rows_of(sample_lake, f"from {view} order by all")
    assert count == len(want) > 0
    assert read(target) == want
    with sample_lake.connect() as connection:
        about = connection.sql(f"describe {view}").fetchall()
    schema = pl.read_parquet_schema(target)
    assert list(schema) == [name for name, *_ in about]


def test_csv_holds_utc_instants_with_their_zone_and_whole_numbers(
    sample_lake: Any, tmp_path: Path
) -> None:
    target = tmp_path / "x.csv"
    view = "features.surface_v1"
    count = export(sample_lake.lake.database, view, "csv", target)
    with target.open(newline="") as file:
        table = list(csv.DictReader(file))
    want = rows_of(sample_lake, f"select as_of, atm_iv, a from {view} order by all")
    assert count == len(table) == len(want)
    got = sorted(
        (
            datetime.fromisoformat(row["as_of"]),
            float(row["atm_iv"]) if row["atm_iv"] else None,
            float(row["a"]) if row["a"] else None,
        )
        for row in table
    )
    assert all(row["as_of"].endswith("Z") for row in table)
    assert got == want


@each_format
def test_two_exports_are_the_same_bytes(sample_lake: Any, tmp_path: Path, form: str) -> None:
    long = () if form == "xlsx" else ("features.chain_v1", "raw.option_quote")  # a cell at a time
    for view in (WIDE, "features.density_v1", *long):
        one, other = tmp_path / "one", tmp_path / "other"
        for target in (one, other):
            export(sample_lake.lake.database, view, form, target)
        assert one.read_bytes() == other.read_bytes()
        assert one.stat().st_size > 1000


@pytest.mark.parametrize("view", [WIDE, "features.cot_v1", "features.long_v1"])
def test_one_market_is_that_markets_rows(sample_lake: Any, tmp_path: Path, view: str) -> None:
    target = tmp_path / "x.parquet"
    export(sample_lake.lake.database, view, "parquet", target, market="ZO")
    want = rows_of(sample_lake, f"from {view} where market = 'ZO' order by all")
    assert read(target) == want
    assert want


@pytest.mark.parametrize(
    ("view", "day"),
    [
        (WIDE, "session_date"),
        ("features.cot_v1", "report_date"),
        ("features.long_v1", "as_of::date"),
        ("raw.futures_1m", "as_of::date"),
    ],
)
@pytest.mark.parametrize(
    ("start", "end"),
    [
        (date(2025, 3, 4), date(2025, 3, 11)),
        (date(2025, 3, 11), date(2025, 3, 11)),
        (date(2025, 3, 4), None),
        (None, date(2025, 3, 11)),
    ],
)
def test_dates_are_inclusive_bounds(
    sample_lake: Any,
    tmp_path: Path,
    view: str,
    day: str,
    start: date | None,
    end: date | None,
) -> None:
    target = tmp_path / "x.parquet"
    export(sample_lake.lake.database, view, "parquet", target, start=start, end=end)
    low, high = start or date(1900, 1, 1), end or date(2100, 1, 1)
    where = f"where {day} between date '{low}' and date '{high}'"
    want = rows_of(sample_lake, f"from {view} {where} order by all")
    assert read(target) == want


def test_at_keeps_what_was_known(sample_lake: Any, tmp_path: Path) -> None:
    """The release of 2025-03-07 20:30 UTC is there from that instant on."""
    release, tick = datetime(2025, 3, 7, 20, 30, tzinfo=UTC), timedelta(microseconds=1)
    target = tmp_path / "x.parquet"
    newest = []
    for at in (release - tick, release, release.astimezone(timezone(timedelta(hours=-5)))):
        export(sample_lake.lake.database, "features.cot_v1", "parquet", target, at=at)
        newest.append(pl.read_parquet(target)["report_date"].max())
    assert newest == [date(2025, 2, 25), date(2025, 3, 4), date(2025, 3, 4)]
    export(sample_lake.lake.database, "features.long_v1", "parquet", target, at=release)
    frame = pl.read_parquet(target)
    assert (frame["available_at"] <= release).all()
    assert (frame["as_of"] <= release).all()


def test_options_combine(sample_lake: Any, tmp_path: Path) -> None:
    target = tmp_path / "x.parquet"
    at = datetime(2025, 3, 12, tzinfo=UTC)
    given = {"market": "HE", "start": date(2025, 3, 5), "end": date(2025, 3, 13), "at": at}
    count = export(sample_lake.lake.database, WIDE, "parquet", target, **given)
    days = pl.read_parquet(target)["session_date"].to_list()
    assert count == len(days) == 5
    assert days == sorted(days)
    assert (min(days), max(days)) == (date(2025, 3, 5), date(2025, 3, 11))


def test_no_rows_make_a_file_of_columns(sample_lake: Any, tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    assert export(sample_lake.lake.database, WIDE, "csv", target, end=date(1999, 1, 1)) == 0
    (line,) = target.read_text().splitlines()
    assert line.startswith("market,session_date,as_of,available_at,origin,fut_front_close,")


# --- what is refused ----------------------------------------------------------------------------

HOSTILE = [
    "x' or 1=1 --",
    "HE'; drop table features.daily_v1; --",
    'features.daily_v1"; drop table features.daily_v1; --',
    "features.daily_v1; drop table features.daily_v1",
    "features.daily_v1, meta.batches",
    "features.daily_v1 where false",
    "(select 1)",
    "read_csv('/etc/passwd')",
    "'/etc/passwd'",
    "information_schema.tables",
    "duckdb_secrets()",
    "features.answers_at",
    "features.",
    ".",
    "",
    "\x00",
    "🐖.🐖",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("option", ["view", "market"])
def test_hostile_names_are_refused_and_do_no_harm(
    sample_lake: Any, tmp_path: Path, text: str, option: str
) -> None:
    database = sample_lake.lake.database
    before = hashlib.sha256(database.read_bytes()).hexdigest()
    given = {"view": WIDE, "market": None} | {option: text}
    with pytest.raises(BadInput) as refused:
        export(database, format="csv", target=tmp_path / "x.csv", **given)
    assert "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == []
    assert hashlib.sha256(database.read_bytes()).hexdigest() == before


@pytest.mark.parametrize("name", ["o'brien.csv", 'say "x".csv', "a;b--.csv", "ü b.csv", "*.csv"])
def test_a_file_may_have_any_name(sample_lake: Any, tmp_path: Path, name: str) -> None:
    export(sample_lake.lake.database, WIDE, "csv", tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == sorted([name, "datapackage.json"])


@pytest.mark.parametrize(
    ("view", "near"),
    [
        ("features.dayly_v1", "features.daily_v1"),
        ("daily_v1", "features.daily_v1"),
        ("features.cot_v2", "features.cot_v1"),
        ("FEATURES.CHAIN_V1", "features.daily_v1 is one"),
        ("raw.option_quotes", "raw.option_quote"),
    ],
)
def test_an_unknown_view_is_answered_with_the_nearest(
    sample_lake: Any, tmp_path: Path, view: str, near: str
) -> None:
    with pytest.raises(BadInput, match=f"unknown view '{view}'.*{near}"):
        export(sample_lake.lake.database, view, "csv", tmp_path / "x.csv")


def test_an_unknown_market_is_answered_with_the_known_ones(
    sample_lake: Any, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"no market 'HO': .*it has HE, ZO"):
        export(sample_lake.lake.database, WIDE, "csv", tmp_path / "x.csv", market="HO")


@pytest.mark.parametrize(
    ("view", "options", "said"),
    [
        ("meta.features", {"market": "HE"}, "has no column market"),
        ("meta.sessions", {"at": datetime(2025, 3, 1, tzinfo=UTC)}, "has no column as_of"),
        ("meta.features", {"start": date(2025, 3, 1)}, "has no date"),
        ("meta.features", {"end": date(2025, 3, 1)}, "has no date"),
        (WIDE, {"start": date(2025, 3, 2), "end": date(2025, 3, 1)}, "comes after the last"),
    ],
)
def test_an_option_that_a_view_cannot_answer_is_refused(
    sample_lake: Any, tmp_path: Path, view: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        export(sample_lake.lake.database, view, "csv", tmp_path / "x.csv", **options)
    assert os.listdir(tmp_path) == []


def test_a_lake_without_a_database_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no database yet: run hydra daily"):
        export(tmp_path / "hydra.duckdb", WIDE, "csv", tmp_path / "x.csv")


@pytest.mark.parametrize("content", [b"", b"market,close\n", b"\x00" * 20_000])
def test_a_database_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hydra.duckdb"
    path.write_bytes(content)
    with pytest.raises(BadInput) as refused:
        export(path, WIDE, "csv", tmp_path / "x.csv")
    assert "\n" not in str(refused.value)


# --- a whole file or none -----------------------------------------------------------------------


_META = {
    "builds": "'vendor' as origin, now() as built_at",
    "features": "'' as feature_name, '' as unit",
    "sql_versions": "'x_v1' as view_name, '' as status, '' as sentence, '' as sha256",
}


@pytest.fixture
def torn(tmp_path: Path) -> Path:
    """A database with a view on files that are gone, and one that fails in its midst."""
    path = tmp_path / "torn.duckdb"
    parquet = tmp_path / "gone.parquet"
    pl.DataFrame({"market": ["HE"]}).write_parquet(parquet)
    with duckdb.connect(str(path)) as connection:
        for schema in ("features", "raw", "meta"):
            connection.execute(f"create schema {schema}")
        for table, columns in _META.items():
            connection.execute(f"create table meta.{table} as select {columns}")
        connection.execute(f"create view raw.gone as from read_parquet('{parquet}')")
        failing = "case when i = 99999 then error('of the view') else i end"
        connection.execute(
            f"create view features.fails as select {failing} as x from range(1e6::int) as r(i)"
        )
    parquet.unlink()
    return path


@each_format
@pytest.mark.parametrize("view", ["features.fails", "raw.gone"])
def test_a_view_that_fails_leaves_the_old_file(torn: Path, form: str, view: str) -> None:
    folder = torn.parent / "out"
    folder.mkdir()
    (folder / "x").write_text("old")
    with pytest.raises(LakeError, match=f"cannot write {view} to ") as refused:
        export(torn, view, form, folder / "x")
    assert "\n" not in str(refused.value)
    assert (folder / "x").read_text() == "old"
    assert os.listdir(folder) == ["x"]


@each_format
def test_a_kill_leaves_the_old_file(
    sample_lake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    target = tmp_path / "x"
    target.write_text("old")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lake_module.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        export(sample_lake.lake.database, WIDE, form, target)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_an_old_file_is_replaced(sample_lake: Any, tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    target.write_text("old")
    export(sample_lake.lake.database, WIDE, "csv", target)
    assert target.read_text().startswith("market,")


def test_folders_on_the_way_are_made(sample_lake: Any, tmp_path: Path) -> None:
    target = tmp_path / "of" / "2025" / "x.csv"
    assert export(sample_lake.lake.database, WIDE, "csv", target) > 0
    assert target.exists()


@pytest.mark.parametrize("below", ["file/x.csv", "file/deep/x.csv", "/proc/none/x.csv"])
def test_a_place_that_cannot_be_written_is_one_line(
    sample_lake: Any, tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HydraError, match=r"cannot write .*x\.csv: ") as refused:
        export(sample_lake.lake.database, WIDE, "csv", tmp_path / below)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 7


def test_what_is_no_file_is_not_replaced(sample_lake: Any, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target in (tmp_path, pipe, Path("/dev/null")):
        with pytest.raises(BadInput, match="is no file"):
            export(sample_lake.lake.database, WIDE, "csv", target)
    assert os.listdir(tmp_path) == ["pipe"]


def test_readers_do_not_shut_an_export_out(sample_lake: Any, tmp_path: Path) -> None:
    readers = [open_database(sample_lake.lake.database) for _ in range(4)]
    assert export(sample_lake.lake.database, WIDE, "csv", tmp_path / "x.csv") > 0
    for reader in readers:
        assert reader.sql("select 1").fetchall() == [(1,)]
        reader.close()


def test_the_database_is_opened_for_reading_only(sample_lake: Any) -> None:
    with sample_lake.connect() as connection, pytest.raises(duckdb.Error, match="read-only"):
        connection.execute("create table x (i integer)")


def test_a_parquet_export_says_where_its_data_comes_from(sample_lake: Any, tmp_path: Path) -> None:
    target = tmp_path / "x.parquet"
    export(sample_lake.lake.database, "features.long_v1", "parquet", target)
    about = pl.read_parquet_metadata(target)
    assert (about["origin"], about["view"]) == ("sample", "features.long_v1")


def test_a_mistyped_market_is_answered_with_the_nearest(sample_lake, tmp_path: Path) -> None:
    database = sample_lake.lake.database
    for given, near in (("he", "did you mean HE? "), ("ZZ", "did you mean ZO? "), ("QQQ", "")):
        with pytest.raises(BadInput, match=f"no market '{given}': {re.escape(near)}it has HE, ZO"):
            export(database, "features.daily_v1", "csv", tmp_path / "x.csv", market=given)


@pytest.mark.parametrize("name", ["hydra.duckdb", "raw/x.csv", "exports/../lake.json", "new"])
def test_a_lakes_own_files_are_not_replaced(own_lake: Any, name: str) -> None:
    lake = own_lake.lake
    before = {path: path.read_bytes() for path in lake.root.rglob("*") if path.is_file()}
    with pytest.raises(BadInput, match="among the lake's own files; name one under exports"):
        export(lake.database, "features.cot_v1", "csv", lake.root / name)
    assert before == {path: path.read_bytes() for path in before}
    assert not (lake.root / "new").exists()


def test_a_tilde_is_no_home_folder(
    sample_lake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB alone would take it for one, and leave a file there."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    export(sample_lake.lake.database, "features.cot_v1", "csv", Path("~/x.csv"))
    assert (here / "~" / "x.csv").exists()
    assert not list(home.iterdir())


@pytest.mark.parametrize(("name", "kind"), [("\udcff.csv", BadInput), ("x" * 300, LakeError)])
def test_a_name_that_cannot_be_written_is_one_line(
    sample_lake: Any, tmp_path: Path, name: str, kind: type[HydraError]
) -> None:
    with pytest.raises(kind) as error:
        export(sample_lake.lake.database, "features.cot_v1", "csv", tmp_path / name)
    assert str(error.value).isprintable()
