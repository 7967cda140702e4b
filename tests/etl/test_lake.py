"""The lake on disk: one writer, whole batches, and files that are the old ones or the new ones."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from etl import lake as lake_module
from etl.errors import BadInput, LakeBusy, LakeError
from etl.lake import Lake, month_of, replace_whole, stamp, write_whole

NOW = datetime(2025, 3, 14, 12, tzinfo=UTC)
#: What a batch's record has, beside what a test is about.
BATCH = {
    **dict.fromkeys(("source", "description", "payload_sha256", "kind"), "x"),
    **{"rows": 0, "cost_usd": None, "layout": {}, "files": []},
}


class Killed(BaseException):
    """Stands for the end of the process: nothing of the project catches it."""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def in_a_process_that_dies(work: Callable[[], None]) -> int:
    """Run ``work`` in a child that ends without tidying up; return its process number."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(9)
    os.waitpid(child, 0)
    return child


def stage(lake: Lake, batch: str, n: int = 3) -> dict[Path, Path]:
    """Files of a batch as the landing stages them, and the place of each."""
    files = {}
    for i in range(n):
        staged = lake.staging / batch / f"cot-{i}.parquet"
        staged.parent.mkdir(parents=True, exist_ok=True)
        staged.write_text(f"{batch} {i}")
        files[staged] = lake.partition("cot", "HE", 2025, i + 1) / f"{batch}-{i}.parquet"
    return files


def commit(lake: Lake, batch: str, n: int = 3, **record: object) -> None:
    """Commit a batch of ``n`` files as the landing does, its record last."""
    files = stage(lake, batch, n)
    staged = lake.staging / batch / "record.json"
    about = {**BATCH, "batch_id": batch, "ingested_at": NOW.isoformat(), **record}
    write_whole(staged, json.dumps(about))
    lake.commit(batch, {**files, staged: lake.batches / f"{batch}.json"})


def contents(lake: Lake) -> list[str]:
    return [path.read_text() for path in lake.raw_files()]


def leftovers(lake: Lake) -> list[Path]:
    return [*lake.root.glob("**/*.part*"), *lake.staging.glob("*")]


# --- what is there ------------------------------------------------------------------------------


def test_opening_a_lake_reads_and_makes_nothing(lake: Lake) -> None:
    assert lake.origin is None
    assert lake.markets() == []
    assert lake.raw_files() == []
    assert lake.batch_records() == []
    assert lake.first_day("HE") is None
    assert not lake.root.exists()


def test_files_lie_by_dataset_market_and_month(lake: Lake) -> None:
    folder = lake.partition("option_quote", "HE", 2025, 3)
    assert folder == lake.root / "raw/dataset=option_quote/market=HE/year=2025/month=03"


def test_what_landed_is_found_by_dataset_and_market(lake: Lake) -> None:
    for dataset, market, year, month in (
        ("cot", "ZO", 2025, 1),
        ("cot", "HE", 2024, 12),
        ("cot", "HE", 2025, 1),
        ("futures_1d", "HE", 2024, 2),
    ):
        folder = lake.partition(dataset, market, year, month)
        folder.mkdir(parents=True)
        (folder / "b-0.parquet").touch()
    assert lake.markets() == ["HE", "ZO"]
    assert [month_of(path) for path in lake.raw_names("cot", "HE")] == [
        date(2024, 12, 1),
        date(2025, 1, 1),
    ]
    assert len(lake.raw_files("cot")) == 3
    assert len(lake.raw_files()) == 4
    assert lake.first_day("HE") == date(2024, 2, 1)


# --- origin -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("held", "other"), [("sample", "vendor"), ("vendor", "sample")])
def test_a_lake_holds_data_of_one_origin(lake: Lake, held: str, other: str) -> None:
    lake.claim(held)
    commit(lake, "1", 0)
    assert lake.origin == held
    lake.claim(held)
    with pytest.raises(LakeError, match=f"holds {held} data and takes no {other} data.*--lake"):
        lake.claim(other)
    assert lake.origin == held


def test_a_marked_lake_in_which_nothing_landed_takes_either(lake: Lake) -> None:
    lake.claim("vendor")
    lake.claim("sample")
    assert lake.origin == "sample"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"format": 2, "origin": "sample"}', '{"format": 1}', "\x00"]
)
def test_a_damaged_marker_is_named(lake: Lake, text: str) -> None:
    lake.root.mkdir()
    lake.marker.write_text(text)
    for look in (lambda: lake.origin, lambda: lake.claim("sample")):
        with pytest.raises(LakeError, match=re.escape(str(lake.marker))):
            look()
    assert lake.marker.read_text() == text


# --- one writer ---------------------------------------------------------------------------------


def test_a_second_writer_is_told_who_writes(lake: Lake) -> None:
    with lake.writing(NOW), pytest.raises(LakeBusy) as refused, Lake(lake.root).writing(NOW):
        pass
    line = str(refused.value)
    holder = f"process {os.getpid()} on {socket.gethostname()} since 2025-03-14T12:00:00Z"
    assert holder in line
    assert str(lake.root) in line
    assert "\n" not in line
    assert refused.value.exit_code == 6


def test_the_lock_ends_with_its_block(lake: Lake) -> None:
    with pytest.raises(ValueError, match="inside"), lake.writing(NOW):
        raise ValueError("inside")
    with lake.writing(NOW):
        pass
    assert (lake.root / ".lock").read_text() == ""


def test_the_refused_writer_leaves_the_lock_alone(lake: Lake) -> None:
    with lake.writing(NOW):
        for _ in range(2):
            with pytest.raises(LakeBusy, match=f"process {os.getpid()} "), lake.writing(NOW):
                pass


def test_the_lock_of_a_dead_process_is_taken_over(lake: Lake) -> None:
    def die_writing() -> None:
        with lake.writing(NOW):
            os._exit(9)

    dead = in_a_process_that_dies(die_writing)
    assert f"process {dead} " in (lake.root / ".lock").read_text()
    with lake.writing(NOW):
        assert f"process {os.getpid()} " in (lake.root / ".lock").read_text()


def test_the_holder_is_named_across_processes(lake: Lake) -> None:
    told, tell = os.pipe()

    def refused() -> None:
        try:
            with lake.writing(NOW):
                os.write(tell, b"wrote")
        except LakeBusy as error:
            os.write(tell, str(error).encode())

    with lake.writing(NOW):
        in_a_process_that_dies(refused)
    assert f"process {os.getpid()} " in os.read(told, 4096).decode()
    os.close(told)
    os.close(tell)


def test_a_place_that_cannot_be_a_lake_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "lake"):
        with (
            pytest.raises(LakeError, match=f"cannot write to the lake at {root}"),
            Lake(root).writing(NOW),
        ):
            pass


def test_time_does_not_go_back(lake: Lake) -> None:
    with lake.writing(NOW):
        commit(lake, "b1")
    with (
        pytest.raises(LakeError, match=r"^it is 2025-03-14T11:59:59Z by the clock, before") as late,
        lake.writing(NOW - timedelta(seconds=1)),
    ):
        pass
    assert f"{lake.root}, 2025-03-14T12:00:00Z: set the clock right, or say --now" in str(
        late.value
    )
    with lake.writing(NOW):
        pass


@pytest.mark.parametrize(
    ("record", "about"),
    [
        (
            "derived/state/HE.json",
            {"known_at": NOW.isoformat(), "code": "", "files": [], "tables": {}, "superseded": {}},
        ),
        ("hydra.duckdb.json", {"built_at": NOW.isoformat(), "sha256": "", "rows": {}}),
    ],
)
def test_every_kind_of_run_counts(lake: Lake, record: str, about: dict[str, object]) -> None:
    write_whole(lake.root / record, json.dumps(about))
    assert lake.last_run() == NOW
    with pytest.raises(LakeError, match="by the clock"), lake.writing(NOW - timedelta(days=1)):
        pass


def test_the_newest_of_many_batches_counts(lake: Lake) -> None:
    """What begins to write asks one record, however long the past is."""
    for day in (3, 1, 2):
        at = NOW + timedelta(days=day)
        commit(lake, f"{stamp(at)}-x", 0, ingested_at=at.isoformat())
    (lake.batches / f"{stamp(NOW)}-x.json").write_text("{")
    assert lake.last_run() == NOW + timedelta(days=3)


def test_a_reader_asks_whether_somebody_writes(lake: Lake) -> None:
    lake.refuse_writer()
    with lake.writing(NOW), pytest.raises(LakeBusy, match=f"process {os.getpid()} "):
        lake.refuse_writer()
    lake.refuse_writer()


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_record_of_a_batch_is_named(lake: Lake, text: str) -> None:
    lake.batches.mkdir(parents=True)
    (lake.batches / "b1.json").write_text(text)
    with pytest.raises(LakeError, match=r"b1\.json is damaged \(.*\): restore it from a backup"):
        lake.batch_records()


@pytest.mark.parametrize(
    ("spoilt", "where"),
    [
        ({"ingested_at": "2025-03-14T12:00:00"}, "its ingested_at is"),
        ({"rows": -1}, "its rows is"),
        ({"rows": True}, "its rows is"),
        ({"files": {}}, "its files is"),
        ({"files": [{"path": "raw/x"}]}, r"its files\.0\.\w+ is"),
        ({"layout": {"bid": ["f64"]}}, r"its layout\.bid is"),
        ({"description": "a\0b"}, "its description is"),
    ],
)
def test_a_record_of_another_shape_is_named_with_the_place(
    lake: Lake, spoilt: dict[str, object], where: str
) -> None:
    lake.batches.mkdir(parents=True)
    about = {**BATCH, "batch_id": "b1", "ingested_at": NOW.isoformat(), **spoilt}
    (lake.batches / "b1.json").write_text(json.dumps(about))
    with pytest.raises(LakeError, match=rf"b1\.json is damaged \({where} no record\): restore"):
        lake.batch_records()


def test_a_copy_of_a_record_is_refused(lake: Lake) -> None:
    lake.batches.mkdir(parents=True)
    about = {**BATCH, "batch_id": "b1", "ingested_at": NOW.isoformat()}
    for name in ("b1.json", "b1 (copy).json"):
        (lake.batches / name).write_text(json.dumps(about))
    with pytest.raises(LakeError, match=r"b1 \(copy\)\.json: is the record of batch b1, .* remove"):
        lake.batch_records()


def test_a_damaged_state_counts_as_none(lake: Lake) -> None:
    write_whole(lake.state_record("HE"), "{")
    assert lake.state("HE") == {}
    assert lake.last_run() is None


# --- a batch lands whole or not at all ----------------------------------------------------------


def test_a_batch_is_in_place_with_its_record(lake: Lake) -> None:
    with lake.writing(NOW):
        commit(lake, "b1", rows=7)
    assert contents(lake) == ["b1 0", "b1 1", "b1 2"]
    (record,) = lake.batch_records()
    assert record["rows"] == 7
    assert not leftovers(lake)


def test_what_is_moved_under_the_staging_folder_is_gone(lake: Lake) -> None:
    with lake.writing(NOW):
        commit(lake, "b1", 2)
        old = lake.raw_files()[0]
        staged = lake.staging / "b2" / "new"
        staged.parent.mkdir()
        staged.write_text("b2")
        lake.commit("b2", {old: staged.parent / "gone", staged: old.with_name("new.parquet")})
    assert sorted(contents(lake)) == ["b1 1", "b2"]
    assert not leftovers(lake)


def test_records_are_read_oldest_first(lake: Lake) -> None:
    for batch in ("20250302", "20250301", "20250303"):
        commit(lake, batch, 0)
    assert [record["batch_id"] for record in lake.batch_records()] == [
        "20250301",
        "20250302",
        "20250303",
    ]


def kill_at(monkeypatch: pytest.MonkeyPatch, where: str, number: int, error: BaseException) -> None:
    """Make the ``number``-th call of an ``os`` function raise ``error`` before it does anything."""
    real, calls = getattr(os, where), iter(range(1, 10_000))

    def call(*arguments: object, **named: object) -> object:
        if next(calls) == number:
            raise error
        return real(*arguments, **named)

    monkeypatch.setattr(os, where, call)


@pytest.mark.parametrize(
    ("where", "number", "lands"),
    [
        ("fsync", 1, False),  # the record's bytes
        ("replace", 1, False),  # the record's name, in the staging folder
        ("fsync", 2, False),
        ("fsync", 3, False),  # the staged names
        ("fsync", 4, False),  # the bytes of the list of moves
        ("replace", 2, False),  # its name
        ("fsync", 5, True),  # which is there: committed
        ("replace", 3, True),
        ("replace", 5, True),
        ("replace", 6, True),  # the record, last
        ("fsync", 6, True),
        ("fsync", 9, True),
        ("rmdir", 1, True),
    ],
)
def test_a_kill_while_committing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, where: str, number: int, lands: bool
) -> None:
    with lake.writing(NOW):
        commit(lake, "b0", 1)
        for folder in stage(lake, "b1").values():  # so that no folder is new
            folder.parent.mkdir(parents=True, exist_ok=True)
    with monkeypatch.context() as patch, lake.writing(NOW):
        kill_at(patch, where, number, Killed())
        with pytest.raises(Killed):
            commit(lake, "b1")
    with lake.writing(NOW):
        pass
    whole = ["b0 0", "b1 0", "b1 1", "b1 2"]
    assert sorted(contents(lake)) == (whole if lands else whole[:1])
    assert len(lake.batch_records()) == 1 + lands
    assert not leftovers(lake)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_process_killed_between_the_moves(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def die_committing() -> None:
        real, calls = os.replace, iter(range(-1, 10))  # the record and the list come first

        def replace(*names: str) -> None:
            if next(calls) == number:
                os._exit(9)
            real(*names)

        with monkeypatch.context() as patch, lake.writing(NOW):
            patch.setattr(os, "replace", replace)
            commit(lake, "b1")

    in_a_process_that_dies(die_committing)
    assert len(contents(lake)) == number - 1
    with lake.writing(NOW):
        assert contents(lake) == ["b1 0", "b1 1", "b1 2"]
        assert not leftovers(lake)


def test_a_disk_that_fills_up_is_one_line_and_the_lake_is_as_before(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, lake.writing(NOW):
        kill_at(patch, "replace", 1, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(LakeError, match="No space left on device"):
            commit(lake, "b1")
    with lake.writing(NOW):
        pass
    assert contents(lake) == []
    assert lake.batch_records() == []
    assert not leftovers(lake)


def test_a_lake_that_cannot_be_put_in_order_is_one_line(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(lake, "b1")
    kill_at(monkeypatch, "rmdir", 1, PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(LakeError, match="in order: Permission denied"), lake.writing(NOW):
        pass


def test_a_writer_drops_what_others_left(lake: Lake) -> None:
    left = [
        lake.root / "lake.json.part",
        lake.root / "reach/sample-HE.json.part",
        lake.root / "exports/daily_v1.csv.part",
        lake.staging / "build/hydra.duckdb.wal",
        lake.spill / "duckdb_temp_storage.tmp",
        lake.staging / "derived-HE/chain_v1-2025-03.parquet",
    ]
    kept = [lake.database, lake.root / "exports/mine.csv", lake.root / "notes.txt"]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with lake.writing(NOW):
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in kept)


# --- one file, the old or the new ---------------------------------------------------------------


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.json"
    write_whole(path, "größer")
    assert path.read_bytes() == "größer".encode()
    write_whole(path, "b")
    assert path.read_text() == "b"
    assert os.listdir(path.parent) == ["x.json"]


@pytest.mark.parametrize(
    ("where", "error", "raised"),
    [
        ("fsync", OSError(errno.ENOSPC, "No space left on device"), LakeError),
        ("replace", PermissionError(errno.EACCES, "Permission denied"), LakeError),
        ("replace", Killed(), Killed),
    ],
)
def test_the_old_file_stays_when_the_new_one_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: BaseException,
    raised: type[BaseException],
) -> None:
    path = tmp_path / "x.json"
    write_whole(path, "old")
    kill_at(monkeypatch, where, 1, error)
    with pytest.raises(raised):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_two_writers_of_a_file_take_turns(tmp_path: Path) -> None:
    """The second neither takes the first one's part away nor puts it in place half full."""
    path = tmp_path / "x.json"
    started, go_on = os.pipe(), os.pipe()

    def slow(part: Path) -> None:
        part.write_text("slow, ")
        os.write(started[1], b".")
        os.read(go_on[0], 1)
        with open(part, "a") as handle:
            handle.write("and whole")

    child = os.fork()
    if child == 0:
        replace_whole(path, slow)
        os._exit(0)
    os.read(started[0], 1)
    second = os.fork()
    if second == 0:
        write_whole(path, "the second")
        os._exit(0)
    time.sleep(0.05)
    assert not path.exists()
    os.write(go_on[1], b".")
    assert os.waitpid(child, 0)[1] == os.waitpid(second, 0)[1] == 0
    assert path.read_text() == "the second"
    assert os.listdir(tmp_path) == ["x.json"]
    for handle in (*started, *go_on):
        os.close(handle)


def test_the_part_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "x.json"

    def die_writing() -> None:
        def write(part: Path) -> None:
            part.write_text("much more than what comes after it")
            os._exit(9)

        replace_whole(path, write)

    in_a_process_that_dies(die_writing)
    assert os.listdir(tmp_path) == ["x.json.part"]
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_part_that_is_being_written_is_not_dropped(lake: Lake) -> None:
    """As an export is, which needs no lock, while another process begins to write."""
    target = lake.root / "exports" / "x.csv"

    def write(part: Path) -> None:
        part.write_text("whole")
        with lake.writing(NOW):
            pass

    replace_whole(target, write)
    assert target.read_text() == "whole"


def test_new_folders_are_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(lake_module, "sync_folder", synced.append)
    write_whole(tmp_path / "a" / "b" / "x.json", "")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_what_the_writer_raises_passes_on_and_nothing_stays(tmp_path: Path) -> None:
    def write(part: Path) -> None:
        part.write_text("half")
        raise ValueError("of the writer")

    with pytest.raises(ValueError, match="of the writer"):
        replace_whole(tmp_path / "x.json", write)
    assert os.listdir(tmp_path) == []


def test_a_file_below_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LakeError, match=r"cannot write .*/file/x\.json: "):
        write_whole(tmp_path / "file" / "x.json", "")


def test_names_are_synced_with_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(os.path.realpath(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(lake_module.os, "fsync", fsync)
    write_whole(tmp_path / "x.json", json.dumps({}))
    assert synced == [str(tmp_path / "x.json.part"), str(tmp_path)]


@pytest.mark.parametrize("place", ["market=ZO/lake", "a/year=1999", "env=prod/x", "\udcff"])
def test_a_lake_does_not_lie_where_its_files_would_be_misread(tmp_path: Path, place: str) -> None:
    with pytest.raises(BadInput, match=r"cannot lie under a folder called|no path in UTF-8"):
        Lake(tmp_path / place)


@pytest.mark.parametrize("place", ["~/lake", "s3:/bucket/lake", "http:/127.0.0.1:9/lake"])
def test_a_relative_place_is_no_home_folder_and_no_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Lake(Path(place)).root == tmp_path / place


@pytest.mark.parametrize("place", ["../outside", "/tmp/outside", "raw/../../outside"])
def test_a_batch_moves_nothing_out_of_its_lake(tmp_path: Path, place: str) -> None:
    """A lake that somebody else packed may hold any record."""
    lake = Lake(tmp_path / "lake")
    staged = lake.staging / "b" / "x.parquet"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"x")
    (staged.parent / "moves.json").write_text(json.dumps([["staging/b/x.parquet", place]]))
    with pytest.raises(LakeError, match="out of the lake: take the folder away"), lake.writing(NOW):
        pass
    assert not (tmp_path / "outside").exists()
    assert staged.exists()
