"""A lake in an object store, on moto's server: what holds on a disk holds there."""

from __future__ import annotations

import json
import os
import pickle
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result
from polars.testing import assert_frame_equal

import etl
from etl import jobs, lease, manifest, remote, verify
from etl.build import build
from etl.cli import main
from etl.commands import commands
from etl.errors import LakeBusy, LakeError
from etl.export import open_database
from etl.lake import Lake
from etl.landing import Landed
from etl.manifest import Manifest
from etl.market import markets
from etl.objects import Address, Store
from etl.remote import RemoteLake
from etl.sources import databento, sample
from tests.conftest import NOW, SECRET_KEY

LATER = NOW + timedelta(days=1)

VENDOR_KEY = "db-SeCrEt-0123456789abcdefghijkl"
MARKETS = markets()
LANDED = {code: MARKETS[code] for code in ("HE", "ZO")}

Machine = Callable[[str], None]


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Go to another machine: one with a cache folder of its own."""

    def go(name: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "machines" / name))

    go("one")
    return go


def hydra(place: object, words: str, now: datetime = NOW) -> Result:
    call = ["--now", now.isoformat(), "--lake", str(place), *shlex.split(words)]
    return CliRunner().invoke(main, call)


def done(place: object, words: str, now: datetime = NOW) -> str:
    result = hydra(place, words, now)
    assert result.exit_code == 0, result.output
    return result.output


def stored(url: str) -> Manifest:
    """What the store's manifest says."""
    found = Store(Address.parse(url)).read(manifest.KEY)
    assert found
    return Manifest.parse(found[0], url)


def content(lake: Lake) -> dict[str, bytes]:
    """Every file of a lake but the database, the page and what no other machine has."""
    local = {"logs", ".lock", "hydra.duckdb", "hydra.duckdb.json", "report.html"}
    return {
        str(path.relative_to(lake.root)): path.read_bytes()
        for path in sorted(lake.root.rglob("*"))
        if path.is_file() and path.relative_to(lake.root).parts[0] not in local
    }


def database(lake: Lake) -> dict[str, pl.DataFrame]:
    """Every table and view of the database, its rows in one order, but for where files lie."""
    names = "select table_schema || '.' || table_name from information_schema.tables"
    connection = open_database(lake.database)
    try:
        found = [name for (name,) in connection.sql(f"{names} order by all").fetchall()]
        rows = {name: connection.sql(f"from {name} order by all").pl() for name in found}
        return {**rows, "meta.files": rows["meta.files"].drop("path")}
    finally:
        connection.close()


def assert_same(url: str, on_disk: Path) -> None:
    """Files byte for byte, the database row for row."""
    there, here = remote.at(url), Lake(on_disk)
    there.bring()
    assert content(there) == content(here)
    rows, wanted = database(there), database(here)
    assert rows.keys() == wanted.keys()
    assert rows["raw.option_quote"].height > 1000
    for name, frame in wanted.items():
        assert_frame_equal(rows[name], frame, check_exact=True)
    assert verify.verify(there)[1] == []


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of some vendor's, with a year of reports and a database."""
    lake = Lake(tmp_path_factory.mktemp("on-disk") / "lake")
    with lake.writing(NOW):
        land_reports(lake, 2023)
        build(lake, dict(MARKETS), NOW)
    return lake


@pytest.fixture
def small(on_disk: Lake, bucket: str, on: Machine) -> RemoteLake:
    """That lake in the object store; its views name the files on the disk."""
    lake = remote.at(f"{bucket}/small")
    with lake.held():
        shutil.copytree(on_disk.root, lake.root, dirs_exist_ok=True)
    return lake


def land_reports(lake: Lake, year: int) -> None:
    with TemporaryDirectory() as folder:
        zips = sample.fetch_cot(year, year, NOW, Path(folder))
        for landed in jobs.land_cot(lake, LANDED, zips, NOW):
            assert isinstance(landed, Landed), landed


def test_a_daily_there_is_a_daily_on_disk_from_whatever_machine(
    bucket: str, on: Machine, tmp_path: Path
) -> None:
    there, here = f"{bucket}/a lake", tmp_path / "lake"
    words = "-q daily --source sample --days 2 --market HE"
    for place in (there, here):
        done(place, words)
    before = stored(there)
    on("two")
    assert_same(there, here)
    for place in (there, here):
        done(place, words, LATER)
    on("one")
    assert_same(there, here)
    generation = stored(there).generation
    done(there, words, LATER)  # all of it is there, whoever made it
    assert stored(there).generation == generation
    kept = {path for path in before.files if path.startswith(("raw/", "batches/"))}
    after = stored(there).files
    assert all(after[path] == before.files[path] for path in kept)
    assert any(path.startswith("raw/") for path in after.keys() - kept)
    with etl.open_lake(there) as lake:
        assert lake.features_at("HE", NOW).height > 50
    on("two")
    for place in (there, here):
        done(place, "compact", NOW + timedelta(days=60))
    on("one")
    assert_same(there, here)
    assert any("/merged-" in path for path in stored(there).files)
    files = [path for path in (tmp_path / "machines").rglob("*") if path.is_file()]
    assert not any(SECRET_KEY.encode() in path.read_bytes() for path in files)
    store = Store(Address.parse(there))
    for number, (key, *_) in enumerate(store.list()):
        store.download(key, tmp_path / str(number))
        assert SECRET_KEY.encode() not in (tmp_path / str(number)).read_bytes()


def test_a_backfill_that_ends_early_goes_on_from_another_machine(
    bucket: str, on: Machine, vendor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each month is in the store when it has landed, and is not paid for again."""
    monkeypatch.setenv("DATABENTO_API_KEY", VENDOR_KEY)
    monkeypatch.setattr(databento, "connect", lambda _, tell: vendor.asker())
    monkeypatch.setattr(jobs, "land_reports", lambda *_: None)
    now = datetime(2024, 5, 20, tzinfo=UTC)
    words = "-q backfill --market HE --start 2024-01-15 --end 2024-03-31"
    lost = threading.Event()
    real = RemoteLake.publish

    def publish(lake: RemoteLake) -> None:
        real(lake)
        if stored(lake.name).generation == 2 and not lost.is_set():
            lost.set()
            raise KeyboardInterrupt

    monkeypatch.setattr(RemoteLake, "publish", publish)
    url = f"{bucket}/lake"
    assert hydra(url, words, now).exit_code == 1
    assert lost.is_set()
    assert vendor.count("get_range") == 10
    assert {path.split("/")[4] for path in stored(url).files if path.startswith("raw/")} == {
        "month=01",
        "month=02",
    }
    on("two")
    done(url, words, now)
    assert vendor.count("get_range") == 15
    on("three")
    lake = remote.at(url)
    lake.bring()
    assert verify.verify(lake)[1] == []
    assert len({path.parent.name for path in lake.raw_files()}) == 3
    kept = [path.read_bytes() for path in lake.root.parent.rglob("*") if path.is_file()]
    assert not any(VENDOR_KEY.encode() in each or SECRET_KEY.encode() in each for each in kept)


def test_polars_reads_raw_where_it_lies(small: RemoteLake, object_store: str) -> None:
    files = stored(small.name).files
    keys = [entry.key for path, entry in files.items() if path.startswith("raw/dataset=cot/")]
    rows = pl.read_parquet(
        [f"{small.name}/{key}" for key in keys],
        hive_partitioning=True,
        storage_options={"aws_endpoint_url": object_store, "aws_allow_http": "true"},
    )
    assert set(rows["market"]) == {"HE", "ZO"}
    assert rows.height == landed_rows(small)


def landed_rows(lake: Lake, *markets: str) -> int:
    """How many rows the batches' records speak of, of some markets or of all."""
    files = (file for batch in lake.each_batch() for file in batch["files"])
    return sum(file["rows"] for file in files if not markets or file["market"] in markets)


def count(url: str, rows: str) -> int:
    """How many rows a question to a lake has."""
    answer = json.loads(done(url, f'-q sql "select count(*) as n from {rows}" --format json'))
    return int(answer[0]["n"])


def test_a_question_brings_the_files_that_it_opens_alone(small: RemoteLake, on: Machine) -> None:
    done(small.name, "-q build")
    on("two")
    lake = remote.at(small.name)
    assert count(small.name, "features.cot_v1") > 0
    assert not any(map(lake.has, lake.raw_files()))
    assert count(small.name, "raw.cot where market = 'ZO'") == landed_rows(small, "ZO")
    held = {path for path in lake.raw_files() if lake.has(path)}
    assert {path for path in held if "market=ZO" in str(path)} == set(lake.raw_files(market="ZO"))
    assert len(held - set(lake.raw_files(market="ZO"))) <= 1  # the first, for its columns
    assert count(small.name, "quality.checks") > 0


def test_files_that_were_read_are_let_go(small: RemoteLake) -> None:
    done(small.name, "-q build")
    with etl.open_lake(small.name) as lake:
        opened = []
        for _ in range(3):
            assert lake.table("raw.cot").height > 0
            opened.append(len(os.listdir("/proc/self/fd")))
    assert max(opened) <= opened[0] + 2


def test_a_bare_duckdb_with_httpfs_reads_the_store(small: RemoteLake, object_store: str) -> None:
    """What no machine has a copy of: views and macros, by the database's own object."""
    cli = shutil.which("duckdb", path=str(Path(sys.executable).parent))
    assert cli, "the development environment has duckdb-cli"
    found = find_spec("duckdb_extension_httpfs")
    if found is None or found.origin is None:
        pytest.skip("DuckDB's httpfs is not installed: make test does so where it can be had")
    (httpfs,) = Path(found.origin).parent.rglob("httpfs.duckdb_extension")
    done(small.name, "-q build")
    key = stored(small.name).files["hydra.duckdb"].key
    landed = landed_rows(small)
    shutil.rmtree(small.root)
    setting = f"""
        load '{httpfs}';
        create secret (type s3, key_id '{os.environ["AWS_ACCESS_KEY_ID"]}', secret '{SECRET_KEY}',
            region 'us-east-1', endpoint '{object_store.removeprefix("http://")}',
            use_ssl false, url_style 'path');
        attach '{small.name}/{key}' as lake (read_only);
        use lake;
    """
    asked = (
        "select (select count(*) from raw.cot), (select count(*) from cot_at('HE', now(), now()))"
    )
    call = [cli, "-noheader", "-csv", "-c", setting, "-c", f"{asked};"]
    answer = subprocess.run(call, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    reports, known = map(int, answer.stdout.splitlines()[-1].split(","))
    assert reports == landed
    assert known > 0


def test_a_file_that_the_store_lost_is_named_in_one_line(
    small: RemoteLake, on: Machine, tmp_path: Path
) -> None:
    done(small.name, "-q build")
    lost = next(e.key for path, e in stored(small.name).files.items() if path.startswith("raw/"))
    on("two")
    small.store.delete([lost])
    for words in (
        'sql "select count(report_date) from raw.cot"',
        f"export raw.cot -o {tmp_path}/x.csv",
        "check",
    ):
        result = hydra(small.name, words)
        assert result.exit_code == LakeError.exit_code, result.output
        said = result.output.splitlines()[-1]
        assert lost in said
        assert "is gone or has changed since it was put there" in said
        assert "Traceback" not in result.output


def test_nothing_new_is_no_new_generation(small: RemoteLake, on: Machine) -> None:
    before = stored(small.name)
    for machine in ("one", "two"):
        on(machine)
        lake = remote.at(small.name)
        with lake.held(whole=False), lake.writing(NOW):
            land_reports(lake, 2023)
    assert stored(small.name) == before


def test_a_landing_brings_what_it_compares_with_alone(small: RemoteLake, on: Machine) -> None:
    on("two")
    lake = remote.at(small.name)
    with lake.held(whole=False), lake.writing(NOW):
        assert not lake.has(lake.database)
        assert lake.markets() == ["HE", "ZO"]
        assert not any(map(lake.has, lake.raw_files()))
        verify.refuse_wrong(lake)
        with TemporaryDirectory() as folder:
            zips = sample.fetch_cot(2024, 2024, NOW, Path(folder))
            list(jobs.land_cot(lake, {"ZO": MARKETS["ZO"]}, zips, NOW))
        assert {path.parts[-4] for path in lake.raw_files() if lake.has(path)} == {"market=ZO"}
    assert not lake.has(lake.database)
    on("one")
    small.bring()
    assert verify.verify(small)[1] == []
    assert all(map(small.has, small.raw_files()))


def test_who_writes_is_told_to_the_second_writer(small: RemoteLake, on: Machine) -> None:
    holder = rf"process {os.getpid()} on {re.escape(socket.gethostname())} since 20\d\d-"
    busy = rf"hydra: the lake at {small.name} is being written by {holder}.*: wait for it to end"
    with small.held():
        for machine in ("one", "two"):
            on(machine)
            result = hydra(small.name, "build")
            assert result.exit_code == 6
            assert re.match(busy, result.output.splitlines()[-1])
        assert "ZO" in done(small.name, "-q status")  # to read needs no lease
    done(small.name, "-q build", LATER)


def test_a_lease_that_ended_is_taken_over(
    small: RemoteLake, on: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LASTS", timedelta(seconds=-1))
    with lease.held(small.store, "run", "another copy"):
        done(small.name, "-q build", LATER)
        assert small.store.read(lease.KEY) is None


def test_a_lease_is_renewed_while_it_is_held(
    small: RemoteLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEWED", timedelta(seconds=0.01))
    until = set()
    with lease.held(small.store, "run", "a copy"):
        while len(until) < 2:
            found = small.store.read(lease.KEY)
            assert found
            until.add(json.loads(found[0])["until"])
    assert small.store.read(lease.KEY) is None


@pytest.mark.parametrize("ignored", [("create",), ("e_tag",), ("create", "e_tag")])
def test_a_store_without_conditional_puts_is_refused(
    bucket: str, monkeypatch: pytest.MonkeyPatch, ignored: tuple[str, ...]
) -> None:
    real = Store.write

    def write(
        store: Store, key: str, content: bytes, after: dict[str, str] | None
    ) -> dict[str, str]:
        kind = "e_tag" if after else "create"
        return {"e_tag": '"x"'} if kind in ignored else real(store, key, content, after)

    monkeypatch.setattr(Store, "write", write)
    lake = remote.at(f"{bucket}/lake")
    with pytest.raises(LakeError, match="the store ignores conditional puts"), lake.held():
        pass


def test_of_two_commits_on_one_generation_the_second_is_refused(
    small: RemoteLake, on: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the lease is there to say before: here it has ended under its holder."""
    monkeypatch.setattr(lease, "LASTS", timedelta(seconds=-1))
    on("two")
    other = remote.at(small.name)

    def race() -> None:
        with small.held(), small.writing(NOW):
            with other.held(), other.writing(NOW):
                land_reports(other, 2024)
            land_reports(small, 2025)

    with pytest.raises(LakeBusy, match=r"process \d+ on .* committed since this run began: noth"):
        race()
    committed = stored(small.name)
    assert sum("/year=2024/" in path for path in committed.files) > 0
    assert sum("/year=2025/" in path for path in committed.files) == 0
    with small.held(), small.writing(NOW):
        assert len(small.batch_records()) == 2  # of 2023 and 2024: what lost is not there
        assert not list(small.raw.rglob("year=2025"))
        land_reports(small, 2025)
    assert verify.verify(small)[1] == []
    assert len(stored(small.name).files) > len(committed.files)


def test_an_answer_that_was_lost_is_no_lost_race(
    small: RemoteLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Store.write

    def write(store: Store, key: str, content: bytes, after: object) -> dict[str, str]:
        made = real(store, key, content, after)
        if key == manifest.KEY:  # the put is repeated, and finds itself
            return real(store, key, content, after)
        return made

    monkeypatch.setattr(Store, "write", write)
    with small.held(), small.writing(NOW):
        land_reports(small, 2024)
    assert any("/year=2024/" in path for path in stored(small.name).files)


def refuse(*_: object, **__: object) -> None:
    raise LakeError("the store failed")


def fail_to_publish(lake: RemoteLake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Land reports that do not get into the store."""
    before = stored(lake.name)

    def fail() -> None:
        with lake.held(), lake.writing(NOW):
            land_reports(lake, 2024)
            patch.setattr(Store, "upload", refuse)

    with monkeypatch.context() as patch, pytest.raises(LakeError, match="the store failed"):
        fail()
    assert stored(lake.name) == before


def test_what_could_not_be_put_there_is_put_there_by_the_next_run(
    small: RemoteLake, on: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_publish(small, monkeypatch)
    small.bring()
    assert len(small.batch_records()) == 2
    with small.held():
        pass
    on("two")
    elsewhere = remote.at(small.name)
    elsewhere.bring()
    assert len(elsewhere.batch_records()) == 2
    assert verify.verify(elsewhere)[1] == []


def test_a_database_that_could_not_be_put_there_names_the_files_that_the_next_run_puts(
    small: RemoteLake, on: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        with small.held(), small.writing(NOW):
            land_reports(small, 2024)
            build(small, dict(MARKETS), NOW)
            patch.setattr(Store, "upload", refuse)

    with monkeypatch.context() as patch, pytest.raises(LakeError, match="the store failed"):
        fail()
    with small.held():
        pass
    on("two")
    assert count(small.name, "raw.cot") == landed_rows(remote.at(small.name))


def test_what_could_not_be_put_there_goes_when_it_is_damaged(
    small: RemoteLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_publish(small, monkeypatch)
    newest = next(path for path in small.raw_files() if "/year=2024/" in str(path))
    newest.write_bytes(b"")
    small.bring()
    assert len(small.batch_records()) == 1
    assert verify.verify(small)[1] == []


def test_a_run_that_fails_keeps_what_landed_before(small: RemoteLake, on: Machine) -> None:
    with suppress(ZeroDivisionError), small.held(), small.writing(NOW):
        land_reports(small, 2024)
        raise ZeroDivisionError
    on("two")
    elsewhere = remote.at(small.name)
    elsewhere.bring()
    assert len(elsewhere.batch_records()) == 2


def rot(path: Path) -> None:
    """Change a byte, which no time and no size tells of."""
    about = path.stat()
    text = bytearray(path.read_bytes())
    text[len(text) // 2] ^= 1
    path.write_bytes(text)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


#: What may happen to a working copy, and whether its file's time and size tell.
DAMAGES = {
    "gone": (Path.unlink, True),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-9]), True),
    "changed": (lambda path: path.write_bytes(path.read_bytes()[:-9] + b"x" * 9), True),
    "rotten": (rot, False),
}


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        *(("raw/**/*.parquet", damage) for damage in ("gone", "changed", "rotten")),
        ("batches/*.json", "cut"),
        *(("hydra.duckdb", damage) for damage in ("gone", "rotten")),
    ],
)
def test_a_damaged_copy_is_brought_anew(
    small: RemoteLake, on: Machine, damage: str, pattern: str
) -> None:
    on("two")
    lake = remote.at(small.name)
    lake.bring()
    whole, rows = content(lake), database(lake)
    hurt, tells = DAMAGES[damage]
    hurt(next(lake.root.glob(pattern)))
    if tells:
        lake.bring()
    else:
        done(lake.name, "verify")
    assert verify.verify(lake)[1] == []
    assert content(lake) == whole
    assert all(frame.equals(rows[name]) for name, frame in database(lake).items())


def test_foreign_files_leave_the_copy_and_downloads_stay(small: RemoteLake) -> None:
    foreign = [small.root / "raw" / "x.parquet", small.staging / "x" / "moves.json"]
    kept = small.root / "downloads" / "paid.dbn.zst"
    for path in (*foreign, kept):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    with small.held():
        assert not any(path.exists() for path in foreign)
        assert kept.exists()
    assert "downloads/paid.dbn.zst" not in stored(small.name).files


def test_verify_names_what_the_store_lost(small: RemoteLake) -> None:
    path, entry = next(iter(stored(small.name).files.items()))
    small.store.delete([entry.key])
    result = hydra(small.name, "verify")
    assert result.exit_code == 2
    assert result.output.startswith(f"{path}: {small.name}/{entry.key} is gone or cut\n")


def test_repair_removes_what_killed_runs_left_after_a_day(
    small: RemoteLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.store.write("raw/left.0-killed.parquet", b"x", None)
    before = {key for key, *_ in small.store.list()}
    assert done(small.name, "check --repair") == "nothing to set aside\n"
    assert {key for key, *_ in small.store.list()} == before
    monkeypatch.setattr(remote, "_GRACE", timedelta(0))
    sleep(1)  # the store's clock has whole seconds
    said = done(small.name, "check --repair")
    assert said == "nothing to set aside\nremoved 1 objects that no run refers to\n"
    assert before - {key for key, *_ in small.store.list()} == {"raw/left.0-killed.parquet"}
    assert verify.verify(small)[1] == []


def test_replaced_objects_stay_for_a_day(
    small: RemoteLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stored(small.name).files["hydra.duckdb"].key
    done(small.name, "-q build", LATER)
    assert first in stored(small.name).gone
    assert first in {key for key, *_ in small.store.list()}
    monkeypatch.setattr(remote, "_GRACE", timedelta(0))
    done(small.name, "-q build", LATER + timedelta(days=1))
    assert first not in stored(small.name).gone
    assert first not in {key for key, *_ in small.store.list()}


def test_what_another_machine_sent_is_committed_unseen(small: RemoteLake, on: Machine) -> None:
    """As a worker does: it reads what it needs, stages a file and sends it."""
    staged, place = (
        "staging/x/rows.parquet",
        "derived/table=x/market=ZO/year=2025/month=01/x.parquet",
    )
    with small.held(whole=False):
        on("worker")
        worker = pickle.loads(pickle.dumps(small))
        worker.bring(whole=False)
        worker.fetch([worker.raw_files()[0]])
        assert worker.has(worker.raw_files()[0])
        (worker.root / staged).parent.mkdir(parents=True)
        (worker.root / staged).write_bytes(b"of a worker")
        sent = pickle.loads(pickle.dumps(worker.send([staged])))
        small.adopt(sent)
        assert (small.root / staged).stat().st_size == len(b"of a worker")
        small.commit("x", {small.root / staged: small.root / place})
        assert not small.has(small.root / place)
    on("two")
    lake = remote.at(small.name)
    lake.bring()
    assert (lake.root / place).read_bytes() == b"of a worker"


def test_a_reader_beside_a_writer_on_this_machine_reads_what_is_there(small: RemoteLake) -> None:
    with small.held(), small.writing(LATER):
        land_reports(small, 2024)
        assert "ZO" in done(small.name, "-q status")
        reader = remote.at(small.name)
        reader.bring()
        assert len(reader.batch_records()) == 2
    assert len(stored(small.name).files) > 10


def test_a_lake_of_vendor_data_takes_no_sample_data_there(small: RemoteLake, on: Machine) -> None:
    on("two")
    before = stored(small.name)
    result = hydra(small.name, "daily --source sample", LATER)
    assert result.exit_code == 7
    assert "holds vendor data and takes no sample data" in result.output
    assert stored(small.name) == before


def test_what_cannot_be_is_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ("status", "build", "verify"):
        result = hydra("s3://never-made/lake", words)
        assert (result.exit_code, result.output.count("\n")) == (7, 1)
        assert result.output.startswith("hydra: there is no bucket never-made for s3://never-mad")
    result = hydra("ftp://bucket/lake", "status")
    assert (result.exit_code, result.output.count("\n")) == (3, 1)
    assert result.output.startswith("hydra: a lake cannot lie at ftp://…: give a folder, or an ad")
    result = hydra(f"{bucket}/lake", "status")
    assert (result.exit_code, result.output.count("\n")) == (3, 1)
    assert "no database yet: run hydra daily" in result.output
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    result = hydra(f"{bucket}/lake", "build")
    assert (result.exit_code, result.output.count("\n")) == (7, 1)
    assert "the store cannot be reached: check the network and the endpoint" in result.output


#: What the commands want beside the lake; those that have nothing to do with one are not here.
WORDS = {
    **dict.fromkeys(("hydra audit", "hydra build", "hydra check", "hydra compact"), ""),
    **dict.fromkeys(("hydra derive", "hydra doctor", "hydra markets", "hydra report"), ""),
    **dict.fromkeys(("hydra status", "hydra verify"), ""),
    "hydra backfill": "--start 2024-01-01 --end 2024-01-02",
    "hydra daily": "--source sample",
    "hydra export": "features.daily_v1 -o x.csv",
    "hydra land chain": "x.csv --format generic --market ZO",
    "hydra land cot": "x.zip",
    "hydra land dbn": "x.dbn",
    "hydra publish": "postgresql:///x",
    "hydra replay": "x --at 2024-01-01T00:00:00Z",
    "hydra sql": "'select 1'",
}
ELSEWHERE = {
    "hydra",
    "hydra land",
    *(f"hydra {n}" for n in ("catalog", "init", "release", "roots")),
}


@pytest.mark.parametrize("path", sorted({path for path, _ in commands()} - ELSEWHERE))
def test_every_command_opens_the_lake_where_it_is(bucket: str, path: str) -> None:
    result = hydra("s3://never-made/lake", f"{path.removeprefix('hydra ')} {WORDS[path]}")
    assert result.exit_code == 7
    assert result.output.startswith("hydra: there is no bucket never-made for s3://never-made/la")


def test_settings_take_an_address(
    small: RemoteLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hydra.toml").write_text(f'lake = "{small.name}"\n')
    result = CliRunner().invoke(main, ["--settings", str(tmp_path / "hydra.toml"), "status"])
    assert result.output.startswith(f"{small.name}: vendor data\n")


def test_help_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_LAKE", "s3://never-made/lake")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert CliRunner().invoke(main, ["build", "--help"]).exit_code == 0
    assert CliRunner().invoke(main, ["catalog", "surface_v1"]).exit_code == 0


#: A landing in a process that is killed at one of its calls of the store, before it or after.
KILLED = """
import itertools, os, signal, sys
from etl.cli import main
from etl.commands import commands
from etl.objects import Store

at, after, *words = sys.argv[1:]
calls = itertools.count(1)

def killing(real):
    def call(*given, **named):
        number = next(calls)
        if number == int(at) and after == "no":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real(*given, **named)
        finally:
            if number == int(at):
                os.kill(os.getpid(), signal.SIGKILL)
    return call

for name in ("read", "write", "upload", "download", "delete"):
    setattr(Store, name, killing(getattr(Store, name)))
main(words)
"""


@pytest.mark.parametrize(
    ("at", "after"),
    [(2, "yes"), (9, "yes"), (22, "no"), (22, "yes"), (25, "yes")],
)
def test_a_run_killed_at_any_call_leaves_the_old_lake_or_the_new_one(
    small: RemoteLake, on: Machine, at: int, after: str, tmp_path: Path
) -> None:
    """Five calls take the lease and read the manifest, the 22nd commits, the 25th is the last."""
    (zipped,) = sample.fetch_cot(2025, 2025, NOW, tmp_path)
    words = ["--now", LATER.isoformat(), "--lake", small.name, "land", "cot", str(zipped)]
    before = stored(small.name)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(at), after, *words], capture_output=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    now = stored(small.name)
    assert (now == before) == ((at, after) < (22, "yes"))
    on("two")
    elsewhere = remote.at(small.name)
    elsewhere.bring()
    assert verify.verify(elsewhere)[1] == []
    assert len(elsewhere.batch_records()) == (1 if now == before else 2)
    on("one")
    done(small.name, f"land cot {zipped}", LATER)
    assert len(small.batch_records()) == 2
    assert verify.verify(small)[1] == []
    on("two")
    elsewhere.bring()
    assert content(elsewhere) == content(small)
