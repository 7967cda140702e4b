"""Publishing into a real PostgreSQL server: every vintage, once, whole or not at all."""

from __future__ import annotations

import itertools
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import psycopg
import pytest
from click.testing import CliRunner

from etl import sqlfiles
from etl.cli import main
from etl.errors import BadInput, LakeBusy, VendorError
from etl.publish import Published, publish

PASSWORD = "pw/SeCrEt@1"

_numbers = itertools.count()


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server of the tests' own, on a socket in a folder."""

    socket: Path

    def url(self, database: str, user: str = "owner", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@/{database}?host={self.socket}"

    def ask(self, database: str, text: str, values: Sequence[object] = ()) -> list[Any]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(text.encode(), values)
            return cursor.fetchall() if cursor.description else []


def _programs() -> Path:
    found = shutil.which("initdb") or max(
        map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None
    )
    if not found:
        pytest.skip("no PostgreSQL server is installed: there is no initdb")
    return Path(found).resolve().parent


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    programs = _programs()
    root = Path(tempfile.mkdtemp(prefix="hydra-pg-"))
    account = None
    if os.getuid() == 0:  # whom the server refuses to run as
        names = [entry.pw_name for entry in pwd.getpwall()]
        account = "postgres" if "postgres" in names else "nobody"
        shutil.chown(root, account)
    secret = root / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    data = root / "data"

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(data), *arguments]
        subprocess.run(command, check=True, capture_output=True, user=account, cwd=root, env={})

    options = f"-k {root} -c listen_addresses= -c fsync=off -c shared_buffers=16MB"
    try:
        run("initdb", "-U", "owner", "-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8")
        run("pg_ctl", "-w", "-o", options, "-l", str(root / "log"), "start")
        try:
            yield Server(root)
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def database(server: Server) -> str:
    """A new database on the server."""
    name = f"test_{next(_numbers)}"
    server.ask("postgres", f"create database {name}")
    return name


def altered(lake: Any, *statements: str) -> Path:
    """The lake's database after statements: as a later build could have left it."""
    with duckdb.connect(str(lake.lake.database)) as connection:
        connection.execute("set timezone = 'UTC'")
        shown = connection.sql("select view_name from duckdb_views()").fetchall()
        for name in sorted(set(re.findall(r"features\.(\w+)", " ".join(statements)))):
            if (name,) in shown:  # a view on files: a table of the same rows and comments
                _stored(connection, name)
        for statement in statements:
            connection.execute(statement)
    path: Path = lake.lake.database
    return path


def _stored(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Put a table in the place of a view."""
    about = "select comment from duckdb_views() where view_name = ?"
    ((comment,),) = connection.execute(about, [name]).fetchall()
    about = "select column_name, comment from duckdb_columns() where table_name = ?"
    columns = connection.execute(about, [name]).fetchall()
    connection.execute(f"create table features.stored as from features.{name}")
    connection.execute(f"drop view features.{name}")
    connection.execute(f"alter table features.stored rename to {name}")
    said = [("table", "", comment), *(("column", f".{column}", text) for column, text in columns)]
    for kind, rest, text in said:
        quoted = text.replace("'", "''")
        connection.execute(f"comment on {kind} features.{name}{rest} is '{quoted}'")


def rows_of(lake: Any, view: str, order: str = "all") -> list[tuple[Any, ...]]:
    with lake.connect() as connection:
        return connection.sql(f"from {view} order by {order}").fetchall()


# --- the rows -----------------------------------------------------------------------------------


def test_every_versioned_view_is_there_row_by_row(
    sample_lake: Any, server: Server, database: str
) -> None:
    done = publish(sample_lake.lake.database, server.url(database))
    made = [f.name for f in sqlfiles.features() if f.base != "known"]
    assert sorted(p.view for p in done) == sorted(f"features.{name}" for name in made)
    for published in done:
        name = published.view.removeprefix("features.")
        counted = server.ask(database, f"select count(*) from hydra.{name}")
        with sample_lake.connect() as connection:
            assert connection.sql(f"select count(*) from {published.view}").fetchall() == counted
            want = connection.sql(f"from {published.view} where market = 'ZO'").fetchall()
        assert counted == [(published.added,)]
        assert published.changed == 0
        got = server.ask(database, f"select * from hydra.{name} where market = 'ZO'")
        assert got
        assert sorted(map(repr, map(_utc, want))) == sorted(map(repr, map(_utc, got)))


def _utc(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row with its instants as numbers, whatever zone a client shows them in."""
    return tuple(v.timestamp() if hasattr(v, "timestamp") else v for v in row)


def test_twice_adds_nothing_and_touches_nothing(
    sample_lake: Any, server: Server, database: str
) -> None:
    url = server.url(database)
    views = ("features.cot_v1", "features.daily_v1", "features.surface_v1")
    publish(sample_lake.lake.database, url, views)
    state = "select ctid, xmin, xmax, * from hydra.surface_v1 order by ctid"
    before = server.ask(database, state)
    assert publish(sample_lake.lake.database, url, views) == [Published(v, 0, 0) for v in views]
    assert server.ask(database, state) == before


def test_a_later_vintage_stands_beside_the_earlier_and_a_recomputed_value_replaces_its_own(
    own_lake: Any, server: Server, database: str
) -> None:
    url, view = server.url(database), "features.cot_v1"
    publish(own_lake.lake.database, url, [view])
    count = len(rows_of(own_lake, view))
    revised = (
        "select * replace (available_at + interval '1 day' as available_at, 7 as open_interest)"
    )
    newest = "order by available_at desc, report limit 1"
    path = altered(
        own_lake,
        f"insert into {view} {revised} from (from {view} {newest})",
        f"update {view} set open_interest = 5 where available_at = (select min(available_at) "
        f"from {view}) and report = 'disaggregated_futures' and market = 'HE'",
    )
    ((changed,),) = _ask(path, f"select count(*) from {view} where open_interest = 5")
    assert publish(path, url, [view]) == [Published(view, 1, changed)]
    assert changed > 0
    assert server.ask(database, "select count(*) from hydra.cot_v1") == [(count + 1,)]
    beside = server.ask(
        database,
        "select count(*), min(open_interest) from hydra.cot_v1 "
        "group by market, report, report_date having count(*) > 1",
    )
    assert beside == [(2, 7)]


def _ask(path: Path, text: str) -> list[Any]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.sql(text).fetchall()


def test_what_the_lake_no_longer_has_stays(own_lake: Any, server: Server, database: str) -> None:
    url, view = server.url(database), "features.cot_v1"
    publish(own_lake.lake.database, url, [view])
    count = len(rows_of(own_lake, view))
    path = altered(own_lake, f"delete from {view} where market = 'HE'")
    assert publish(path, url, [view]) == [Published(view, 0, 0)]
    assert server.ask(database, "select count(*) from hydra.cot_v1") == [(count,)]


def test_a_density_that_was_fitted_anew_keeps_no_old_point(
    own_lake: Any, server: Server, database: str
) -> None:
    url, view = server.url(database), "features.density_v1"
    publish(own_lake.lake.database, url, [view])
    count = len(rows_of(own_lake, view))
    slice_of = "select market, session_date, price_source, series, expiry, as_of, available_at"
    one = f"({slice_of} from {view} order by all limit 1)"
    path = altered(
        own_lake,
        f"update {view} set strike = strike + 0.001 "
        f"where ({slice_of.removeprefix('select ')}) in {one}",
        f"delete from {view} where market = 'ZO'",  # what is not there is left alone
    )
    assert publish(path, url, [view]) == [Published(view, 101, 0)]
    assert server.ask(database, "select count(*) from hydra.density_v1") == [(count,)]


def test_texts_lists_and_numbers_that_are_none_arrive_as_they_are(
    own_lake: Any, server: Server, database: str
) -> None:
    view = "features.surface_v1"
    odd = r"""'a "quoted", \N text' || chr(10) || 'ü'"""
    path = altered(
        own_lake,
        f"update {view} set forward_source = '', forward = 'nan', atm_iv = '-inf'",
        f"update {view} set forward_source = {odd}, covariance = [1.5, null, 'inf'::double] "
        f"where rowid % 2 = 0",
        f"update {view} set forward_source = '\\N' where rowid % 3 = 0",
        f"update {view} set forward_source = null, covariance = [] where rowid % 5 = 0",
    )
    publish(path, server.url(database), [view])
    columns = "forward_source, forward, atm_iv, covariance"
    got = server.ask(database, f"select {columns} from hydra.surface_v1")
    want = _ask(path, f"select {columns} from {view}")
    assert sorted(map(repr, got)) == sorted(map(repr, want))


def test_tables_and_columns_say_what_they_are_and_that_they_are_synthetic(
    sample_lake: Any, server: Server, database: str
) -> None:
    publish(sample_lake.lake.database, server.url(database), ["features.daily_v1"])
    ((about,),) = server.ask(
        database, "select obj_description('hydra.daily_v1'::regclass, 'pg_class')"
    )
    assert about.startswith("SAMPLE DATA, synthetic. The wide table")
    ((schema,),) = server.ask(database, "select obj_description('hydra'::regnamespace)")
    assert schema.startswith("SAMPLE DATA")
    without = server.ask(
        database,
        "select attname from pg_attribute where attrelid = 'hydra.daily_v1'::regclass "
        "and attnum > 0 and col_description(attrelid, attnum) is null",
    )
    assert without == []


def test_a_column_that_is_new_in_the_view_is_added(
    own_lake: Any, server: Server, database: str
) -> None:
    url, view = server.url(database), "features.cot_v1"
    publish(own_lake.lake.database, url, [view])
    count = len(rows_of(own_lake, view))
    path = altered(own_lake, f"alter table {view} add column extra double default 1.5")
    assert publish(path, url, [view]) == [Published(view, 0, count)]
    assert server.ask(database, "select distinct extra from hydra.cot_v1") == [(1.5,)]


# --- what is refused ----------------------------------------------------------------------------


def test_a_table_with_other_columns_is_refused(
    sample_lake: Any, server: Server, database: str
) -> None:
    url, view = server.url(database), "features.cot_v1"
    publish(sample_lake.lake.database, url, [view])
    server.ask(database, "alter table hydra.cot_v1 alter column open_interest type integer")
    with pytest.raises(BadInput, match=r"hydra\.cot_v1 has the column open_interest"):
        publish(sample_lake.lake.database, url, [view])
    publish(sample_lake.lake.database, url, [view], schema="other-one")
    assert server.ask(database, 'select count(*) > 0 from "other-one".cot_v1') == [(True,)]


def test_sample_and_vendor_data_do_not_mix(own_lake: Any, server: Server, database: str) -> None:
    url, view = server.url(database), "features.cot_v1"
    publish(own_lake.lake.database, url, [view])
    path = altered(own_lake, "update meta.builds set origin = 'vendor'")
    with pytest.raises(BadInput, match="holds sample data and the lake vendor data"):
        publish(path, url, [view])


def test_one_publisher_at_a_time(sample_lake: Any, server: Server, database: str) -> None:
    with psycopg.connect(server.url(database)) as other:
        other.execute("select pg_advisory_xact_lock(hashtext('hydra publish hydra'))")
        with pytest.raises(LakeBusy, match="another hydra publish"):
            publish(sample_lake.lake.database, server.url(database))
        publish(sample_lake.lake.database, server.url(database), ["features.cot_v1"], "elsewhere")


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ("features.surfac_v1", "did you mean features.surface_v1?"),
        ("features.surface", "did you mean features.surface_v1?"),
        ("features.known_v1", "no view 'features.known_v1' to publish"),
        ("meta.builds", "no view 'meta.builds' to publish"),
    ],
)
def test_a_view_that_is_not_published_is_refused(sample_lake: Any, view: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        publish(sample_lake.lake.database, "postgresql://nowhere.invalid/x", [view])
    assert said in str(refused.value)


def test_a_role_that_may_not_create_is_told_so(
    sample_lake: Any, server: Server, database: str
) -> None:
    role = f"role_{database}"
    server.ask(database, f"create role {role} login password 'x'")
    with pytest.raises(VendorError, match="permission denied for database"):
        publish(sample_lake.lake.database, server.url(database, role, "x"))


# --- whole or not at all ------------------------------------------------------------------------


def test_what_fails_in_the_middle_leaves_what_was_there(
    own_lake: Any, server: Server, database: str
) -> None:
    url = server.url(database)
    publish(own_lake.lake.database, url, ["features.cot_v1"])
    server.ask(database, "create view hydra.daily_v1 as select 1 as one")  # no table to merge into
    path = altered(own_lake, "update features.cot_v1 set open_interest = 5")
    with pytest.raises((VendorError, BadInput)):
        publish(path, url, ["features.cot_v1", "features.daily_v1"])
    five = "select count(*) from hydra.cot_v1 where open_interest = 5"
    assert server.ask(database, five) == [(0,)]


def test_a_publisher_that_is_killed_leaves_what_was_there(
    own_lake: Any, server: Server, database: str, tmp_path: Path
) -> None:
    url = server.url(database)
    publish(own_lake.lake.database, url, ["features.cot_v1"])
    altered(own_lake, "update features.cot_v1 set open_interest = 5")
    with psycopg.connect(url) as other:
        # The publisher comes as far as the second view's table, whose rows it may not see.
        other.execute("create table hydra.daily_v1 (one int)")
        command = [sys.executable, "-m", "etl", "--lake", str(own_lake.lake.root), "publish", url]
        child = subprocess.Popen([*command, "features.cot_v1", "features.daily_v1"])
        waiting = "select count(*) from pg_stat_activity where application_name = 'hydra publish' "
        waiting += "and wait_event_type = 'Lock'"
        for _ in range(600):
            if server.ask(database, waiting) == [(1,)]:
                break
            assert child.poll() is None
            time.sleep(0.05)
        else:
            pytest.fail("the publisher did not come so far")
        child.send_signal(signal.SIGKILL)
        child.wait()
    five = "select count(*) from hydra.cot_v1 where open_interest = 5"
    assert server.ask(database, five) == [(0,)]


# --- the command --------------------------------------------------------------------------------


def test_the_command_says_what_came_to_the_server(
    sample_lake: Any, server: Server, database: str
) -> None:
    count = len(rows_of(sample_lake, "features.cot_v1"))
    lines = _hydra(sample_lake, server.url(database), "features.cot_v1", code=0)
    note = "SAMPLE DATA: synthetic, of no real market"
    assert lines == f"features.cot_v1: {count} rows new, 0 changed; {note}\n"


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://owner:{wrong}@/postgres?host={socket}", 4),
        ("postgresql://owner:{wrong}@/postgres?host=/nowhere", 4),
        ("postgresql://owner:{wrong}@nowhere.invalid:1/postgres", 4),
        ("postgresql://owner:{wrong}%zz@/postgres", 3),
        ("postgresql://owner:a@{wrong}@host/postgres", 3),
        ("postgresql://owner:1/{wrong}@host/postgres", 3),
        ("postgresql://owner:a?b{wrong}@host:port:1/postgres?x", 3),
        ("mysql://owner:{wrong}@host/postgres", 3),
        ("owner:{wrong}@host/postgres", 3),
    ],
)
def test_no_error_shows_the_password(
    sample_lake: Any, server: Server, url: str, code: int, debug: bool
) -> None:
    wrong = "WrOnG-SeCrEt-77"
    address = url.format(wrong=wrong, socket=server.socket)
    said = _run(sample_lake, address, debug=debug)
    assert wrong not in said.stdout + said.stderr
    assert said.returncode == (1 if debug else code)
    if not debug:
        assert said.stderr.count("\n") == 1, said.stderr


def test_an_address_in_a_views_place_is_not_shown(sample_lake: Any) -> None:
    said = _run(sample_lake, "postgresql://host/x", "postgresql://u:WrOnG@host/x", debug=False)
    assert said.returncode == 3
    assert "WrOnG" not in said.stderr


def test_the_password_may_come_from_the_environment(
    sample_lake: Any, server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    url = f"postgresql://owner@/{database}?host={server.socket}"
    _hydra(sample_lake, url, "features.cot_v1", code=0)


def _hydra(lake: Any, *arguments: str, code: int) -> str:
    result = CliRunner().invoke(main, ["--lake", str(lake.lake.root), "publish", *arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def _run(lake: Any, *arguments: str, debug: bool) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "etl", "--lake", str(lake.lake.root)]
    command += ["--debug"] * debug + ["publish", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# --- TimescaleDB --------------------------------------------------------------------------------


def test_with_timescaledb_a_table_is_a_hypertable(
    sample_lake: Any, server: Server, database: str
) -> None:
    there = "select 1 from pg_available_extensions where name = 'timescaledb'"
    if not server.ask(database, there):
        pytest.skip("the server has no TimescaleDB to install")
    server.ask(database, "create extension timescaledb")
    view = "features.surface_v1"
    count = len(rows_of(sample_lake, view))
    assert publish(sample_lake.lake.database, server.url(database), [view])[0].added == count
    assert publish(sample_lake.lake.database, server.url(database), [view])[0].added == 0
    made = "select hypertable_name from timescaledb_information.hypertables"
    assert server.ask(database, made) == [("surface_v1",)]


def test_what_timescaledb_is_asked_for(sample_lake: Any, server: Server, database: str) -> None:
    """By a stand-in that notes its call, with the names of the extension's own parameters."""
    server.ask(
        database,
        "create schema ts; create table ts.asked (relation text, arguments text[]); "
        "create function ts.create_hypertable(relation regclass, time_column_name name, "
        "chunk_time_interval interval, create_default_indexes boolean) returns void language sql "
        "as $$ insert into ts.asked values ($1, array[$2, $3::text, $4::text]) $$; "
        "set allow_system_table_mods = on; insert into pg_extension "
        "values (99999, 'timescaledb', 10, 'ts'::regnamespace, false, '2', null, null)",
    )
    for _ in range(2):  # once made, it is left as it is
        publish(sample_lake.lake.database, server.url(database), ["features.cot_v1"])
    asked = server.ask(database, "select relation, arguments from ts.asked")
    assert asked == [("hydra.cot_v1", ["as_of", "1 year", "false"])]
