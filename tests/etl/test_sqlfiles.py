"""The SQL files say what they are, and the built database is what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl import engine, sqlfiles
from etl.errors import LakeError

FILES = sqlfiles.features()
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)

HEADER = """\
-- Open interest of a session,
-- one row a market.
--
-- name: interest_v1
-- status: draft
-- stage: build
-- grain: market, session_date
-- time: as_of is the cut-off; available_at the latest
--   among the row's inputs
-- sources: raw.option_stat, features.chain_v1
-- max_age: 1 session
--
-- columns:
--   market VARCHAR: market code
--   session_date DATE: exchange date of the session
--   total BIGINT: contracts, of all expiries
--     that the exchange lists
--   parts DOUBLE[]: one an expiry: see total

-- not of the header
select market, session_date, 1::bigint as total, [1.0] as parts
from meta.sessions
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that stands for ``sql``."""
    monkeypatch.setattr(sqlfiles, "root", lambda: tmp_path)
    sqlfiles.features.cache_clear()
    (tmp_path / "features").mkdir()
    (tmp_path / "quality").mkdir()
    yield tmp_path
    sqlfiles.features.cache_clear()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / "features" / f"{name}.sql"
    path.write_text(text, encoding="utf-8")
    return path


def feature(folder: Path, name: str, sources: str, stage: str = "build") -> Path:
    text = HEADER.replace("interest_v1", name).replace("stage: build", f"stage: {stage}")
    return write(folder, name, re.sub("-- sources: .*", f"-- sources: {sources}", text))


@pytest.fixture(scope="module")
def database(sample_lake: Any) -> Iterator[duckdb.DuckDBPyConnection]:
    with sample_lake.connect() as connection:
        yield connection


# --- what a header says -------------------------------------------------------------------------


def test_a_header_is_read(folder: Path) -> None:
    file = sqlfiles.parse(write(folder, "interest_v1", HEADER))
    assert file.sentence == "Open interest of a session, one row a market."
    assert (file.name, file.base, file.version) == ("interest_v1", "interest", 1)
    assert file.stage == "build"
    assert file.grain == ("market", "session_date")
    assert file.sources == ("raw.option_stat", "features.chain_v1")
    assert file.fields["time"] == (
        "as_of is the cut-off; available_at the latest among the row's inputs"
    )
    assert file.columns == (
        sqlfiles.Column("market", "VARCHAR", "market code"),
        sqlfiles.Column("session_date", "DATE", "exchange date of the session"),
        sqlfiles.Column("total", "BIGINT", "contracts, of all expiries that the exchange lists"),
        sqlfiles.Column("parts", "DOUBLE[]", "one an expiry: see total"),
    )
    assert file.body.startswith("-- not of the header\nselect market")


def test_a_version_of_two_digits_is_a_version(folder: Path) -> None:
    file = sqlfiles.parse(feature(folder, "open_interest_v12", "raw.cot"))
    assert (file.base, file.version) == ("open_interest", 12)


@pytest.mark.parametrize("key", ["name", "status", "stage", "grain", "time", "sources", "max_age"])
def test_a_header_that_lacks_a_field_is_refused(folder: Path, key: str) -> None:
    text = re.sub(rf"-- {key}: .*\n(--   [^\n]*\n)?", "", HEADER, count=1)
    path = write(folder, "interest_v1", text)
    with pytest.raises(LakeError, match=f"{path}: the header lacks {key}$"):
        sqlfiles.parse(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("-- columns:\n", "", "has no line '-- columns:'"),
        ("-- Open interest of a session,\n-- one row a market.\n", "", "lacks a sentence"),
        ("status: draft", "status: final", "status one of"),
        ("stage: build", "stage: later", "stage is one of"),
        ("name: interest_v1", "name: interest_v2", "'interest_v2', not the file's"),
        ("total BIGINT: contracts", "total: contracts", "cannot read the header's column line"),
        ("total BIGINT: contracts", "total bigint: contracts", "cannot read the header's column"),
        ("total BIGINT: contracts", "Total BIGINT: contracts", "cannot read the header's column"),
        (": market code", ":", "cannot read the header's column line"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(
    folder: Path, old: str, new: str, said: str
) -> None:
    assert old in HEADER
    path = write(folder, "interest_v1", HEADER.replace(old, new))
    with pytest.raises(LakeError) as refused:
        sqlfiles.parse(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 7


@pytest.mark.parametrize("text", ["", "select 1", "--", "-- columns:", "-- x\n-- columns:\n"])
def test_a_file_without_a_header_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(LakeError, match=r"interest_v1\.sql: the header"):
        sqlfiles.parse(write(folder, "interest_v1", text))


@pytest.mark.parametrize("name", ["interest", "interest_v", "Interest_v1", "interest-v1"])
def test_a_name_without_its_version_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(LakeError, match="not the file's"):
        sqlfiles.parse(feature(folder, name, "raw.cot"))


# --- the order they run in ----------------------------------------------------------------------


def test_a_file_comes_after_what_it_reads(folder: Path) -> None:
    feature(folder, "a_v1", "features.b_v1, features.c_v1")
    feature(folder, "b_v1", "features.c_v1", stage="derive")
    feature(folder, "c_v1", "raw.cot", stage="derive")
    assert [file.name for file in sqlfiles.features()] == ["c_v1", "b_v1", "a_v1"]
    assert [file.name for file in sqlfiles.stage("derive")] == ["c_v1", "b_v1"]
    assert [file.name for file in sqlfiles.stage("build")] == ["a_v1"]


@pytest.mark.parametrize("circle", [["a_v1"], ["a_v1", "b_v1"], ["a_v1", "b_v1", "c_v1"]])
def test_files_that_read_each_other_in_a_circle_are_refused(
    folder: Path, circle: list[str]
) -> None:
    for name, source in zip(circle, [*circle[1:], circle[0]], strict=True):
        feature(folder, name, f"raw.cot, features.{source}")
    with pytest.raises(LakeError, match="in a circle") as refused:
        sqlfiles.features()
    assert all(f"features.{name}" in str(refused.value) for name in circle)
    assert "\n" not in str(refused.value)


def test_the_projects_own_order_holds() -> None:
    place = {f"features.{file.name}": i for i, file in enumerate(FILES)}
    assert len(FILES) > 10
    for file in FILES:
        for source in file.sources:
            assert place.get(source, -1) < place[f"features.{file.name}"]


# --- checks and hashes --------------------------------------------------------------------------


def test_a_check_is_read(folder: Path) -> None:
    text = "-- A bar is torn:\n-- its high lies below its low.\n-- severity: error\n"
    text += "-- look_back: 30 days\nselect 1\n"
    (folder / "quality" / "torn.sql").write_text(text)
    (check,) = sqlfiles.checks()
    sentence = "A bar is torn: its high lies below its low."
    assert check == sqlfiles.Check("torn", sentence, "error", 30, "select 1")


@pytest.mark.parametrize("line", ["", "-- severity: fatal\n", "-- severity: error\n" * 2])
def test_a_check_needs_one_severity(folder: Path, line: str) -> None:
    path = folder / "quality" / "torn.sql"
    path.write_text(f"-- A bar is torn.\n{line}select 1\n")
    with pytest.raises(LakeError, match=f"{path}: the header needs one line '-- severity: "):
        sqlfiles.checks()


@pytest.mark.parametrize("line", ["", "-- look_back: long\n", "-- look_back: all\n" * 2])
def test_a_check_says_how_far_it_looks_back(folder: Path, line: str) -> None:
    path = folder / "quality" / "torn.sql"
    path.write_text(f"-- A bar is torn.\n-- severity: error\n{line}select 1\n")
    with pytest.raises(LakeError, match=f"{path}: the header needs one line '-- look_back: "):
        sqlfiles.checks()


def test_how_far_a_feature_looks_back(folder: Path) -> None:
    path = folder / "features" / "x_v1.sql"
    head = "-- A row.\n--\n-- name: x_v1\n-- status: draft\n-- stage: build\n-- grain: market\n"
    head += "-- time: none\n-- sources: features.y_v1\n-- max_age: 1 session\n{}-- columns:\n"
    text = head + "--   market VARCHAR: market code\n\nselect 1\n"
    for line, days, whole in (
        ("-- look_back: 60 days\n", 60, ()),
        ("-- look_back: 60 days, all of features.y_v1\n", 60, ("features.y_v1",)),
    ):
        path.write_text(text.format(line))
        assert sqlfiles.parse(path).look_back == sqlfiles.LookBack(days, whole)
    path.write_text(text.format(""))
    assert sqlfiles.parse(path).look_back is None
    path.write_text(text.format("-- look_back: long\n"))
    with pytest.raises(LakeError, match="look_back is such as '60 days"):
        sqlfiles.parse(path)


def test_the_projects_own_checks_say_what_they_look_for() -> None:
    assert len(sqlfiles.checks()) >= 10
    for check in sqlfiles.checks():
        assert check.sentence.endswith(".")
        assert check.body.startswith(("select", "with"))


def test_the_code_hash_changes_with_what_derives_and_with_nothing_else(folder: Path) -> None:
    derived = feature(folder, "a_v1", "raw.cot", stage="derive")
    built = feature(folder, "b_v1", "raw.cot")
    (folder / "derive").mkdir()
    spine, extra = folder / "derive" / "spine.sql", folder / "black76.py"
    spine.write_text("select 1")
    extra.write_text("pass")
    seen = {sqlfiles.code_hash([extra])}
    assert sqlfiles.code_hash([extra]) in seen
    for path, is_new in ((built, False), (derived, True), (spine, True), (extra, True)):
        path.write_text(path.read_text() + "\n-- more\n")
        sqlfiles.features.cache_clear()
        now = sqlfiles.code_hash([extra])
        assert (now not in seen) is is_new, path.name
        seen.add(now)


# --- the files and the database -----------------------------------------------------------------


@each_file
def test_a_header_is_of_use_to_a_reader(file: sqlfiles.SqlFile) -> None:
    assert file.sentence.endswith(".")
    named = [column.name for column in file.columns]
    assert len(named) == len(set(named))
    assert set(file.grain) <= set(named)
    assert {"market", "as_of", "available_at"} <= set(named)
    for column in file.columns:
        assert len(column.comment) > 3


@each_file
def test_sources_are_those_that_the_sql_reads(
    database: duckdb.DuckDBPyConnection, file: sqlfiles.SqlFile
) -> None:
    code = re.sub(r"--[^\n]*", "", file.body)
    read = set(re.findall(r"\b(?:from|join)\s+((?:raw|features)\.[a-z0-9_]+)", code))
    assert read <= set(file.sources)
    held = "select table_schema || '.' || table_name from information_schema.tables"
    assert set(file.sources) <= {name for (name,) in database.sql(held).fetchall()}


@each_file
def test_the_table_has_the_columns_types_and_comments_of_the_header(
    database: duckdb.DuckDBPyConnection, file: sqlfiles.SqlFile
) -> None:
    about = database.execute(
        "select column_name, data_type, comment from duckdb_columns() "
        "where schema_name = 'features' and table_name = ? order by column_index",
        [file.name],
    ).fetchall()
    stated = [(c.name, c.type, c.comment) for c in file.columns if c.name != "*"]
    assert about[: len(stated)] == stated
    rest = about[len(stated) :]
    assert bool(rest) is (len(stated) < len(file.columns))
    assert all(kind == "DOUBLE" and comment for _, kind, comment in rest)
    ((comment,),) = database.execute(
        "select comment from duckdb_tables() where schema_name = 'features' and table_name = $1 "
        "union all "
        "select comment from duckdb_views() where schema_name = 'features' and view_name = $1",
        [file.name],
    ).fetchall()
    assert comment == f"SAMPLE DATA, synthetic. {file.sentence}"


@each_file
def test_the_bare_name_is_the_newest_version(
    database: duckdb.DuckDBPyConnection, file: sqlfiles.SqlFile
) -> None:
    newest = max(other.version for other in FILES if other.base == file.base)
    versioned, bare = f"features.{file.base}_v{newest}", f"features.{file.base}"
    for one, other in ((versioned, bare), (bare, versioned)):
        assert database.sql(f"from {one} except all from {other}").fetchall() == []


@each_file
def test_the_grain_is_a_key(database: duckdb.DuckDBPyConnection, file: sqlfiles.SqlFile) -> None:
    key = ", ".join(file.grain)
    text = f"select {key} from features.{file.name} group by {key} having count(*) > 1"
    assert database.sql(text).limit(3).fetchall() == []
    ((rows,),) = database.sql(f"select count(*) from features.{file.name}").fetchall()
    assert rows > 0


@each_file
def test_a_row_says_when_it_could_be_known(
    database: duckdb.DuckDBPyConnection, file: sqlfiles.SqlFile
) -> None:
    text = f"select count(*) from features.{file.name} where as_of is null or available_at is null"
    assert database.sql(text).fetchall() == [(0,)]


def test_the_database_says_which_sql_made_it(database: duckdb.DuckDBPyConnection) -> None:
    held = database.sql("select view_name, stage, sha256 from meta.sql_versions").fetchall()
    assert set(held) == {(file.name, file.stage, file.sha256) for file in FILES}


# --- a SELECT and its header --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1::bigint as total", "1::integer as total"),
        ("1::bigint as total", "1::bigint as sum"),
        ("market, session_date, ", "session_date, market, "),
        (", [1.0] as parts", ""),
        ("[1.0] as parts", "[1.0]::double[] as parts, 1 as more"),
    ],
)
def test_a_select_that_gives_something_else_is_refused(folder: Path, old: str, new: str) -> None:
    text = HEADER.replace("[1.0] as parts", "[1.0]::double[] as parts")
    text = text.replace("from meta.sessions", "from (select 'HE' as market, current_date as x)")
    text = text.replace("market, session_date, 1", "market, x as session_date, 1")
    good = sqlfiles.parse(write(folder, "interest_v1", text))
    with engine.connect() as connection:
        connection.execute("create schema features")
        engine.create_feature(connection, good)
        old = old.replace("[1.0] as", "[1.0]::double[] as").replace("session", "x as session")
        new = new.replace("session", "x as session")
        bad = sqlfiles.parse(write(folder, "interest_v1", text.replace(old, new)))
        assert bad.body != good.body
        with pytest.raises(LakeError, match=r"interest_v1\.sql: the SELECT and the header differ"):
            engine.create_feature(connection, bad)
