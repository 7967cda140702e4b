"""Compact: one file a month in place of many, and not a row, a hash or a reader lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

from etl import jobs, verify
from etl.build import build
from etl.cli import main
from etl.compact import CLOSED, Compacted, compact
from etl.derive import derive
from etl.errors import LakeError
from etl.lake import MERGED, Lake
from etl.market import markets
from etl.replay import replay
from etl.schemas import DATASETS
from etl.sources import sample
from etl.stored import KEPT

ZO = markets()["ZO"]
LANDED = datetime(2025, 3, 8, 12, tzinfo=UTC)
NOW = datetime(2025, 4, 1, tzinfo=UTC) + CLOSED
LATER = NOW + KEPT + timedelta(days=1)


def silent(line: str) -> None:
    pass


def make(lake: Lake, now: datetime) -> int:
    """Derive and build; how many sessions were derived."""
    with lake.writing(now):
        done = derive(lake, ZO, now)
        build(lake, dict(markets()), now)
    return done.sessions


def run(lake: Lake, now: datetime = NOW, codes: Sequence[str] = ()) -> Compacted:
    with lake.writing(now):
        return compact(lake, now, codes)


def rows(lake: Lake) -> dict[str, pl.DataFrame]:
    """Every raw row with its lineage."""
    found = {}
    for dataset in DATASETS:
        if paths := lake.raw_files(dataset):
            parts = [pl.read_parquet(path, hive_partitioning=False) for path in paths]
            found[dataset] = pl.concat(parts).sort(pl.all(), nulls_last=True)
    return found


def shown(database: Path) -> dict[str, pl.DataFrame]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return {
            name: connection.sql(f"from raw.{name}").pl().sort(pl.all(), nulls_last=True)
            for name in DATASETS
        }


def assert_same(left: dict[str, pl.DataFrame], right: dict[str, pl.DataFrame]) -> None:
    assert left.keys() == right.keys()
    for name, frame in left.items():
        assert_frame_equal(frame, right[name], check_exact=True)


def files(lake: Lake) -> set[str]:
    return {str(path.relative_to(lake.root)) for path in lake.raw.rglob("*.parquet")}


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lake of four daily runs of March, derived and built, and a copy of it."""
    folder = tmp_path_factory.mktemp("daily")
    lake = Lake(folder / "lake")
    for back in (3, 2, 1, 0):
        now = LANDED - timedelta(days=back)
        with lake.writing(now):
            jobs.land_sample(lake, [ZO], 1, now, silent)
    make(lake, NOW)
    shutil.copytree(lake.root, folder / "as it was made")
    return folder


@pytest.fixture
def lake(daily: Path) -> Lake:
    """That lake as it was made, where it was made: its views hold the paths of that place."""
    root = daily / "lake"
    shutil.rmtree(root)
    shutil.copytree(daily / "as it was made", root)
    return Lake(root)


def test_a_month_is_one_file_of_the_same_rows(lake: Lake) -> None:
    before, many = rows(lake), lake.raw_files()
    done = run(lake)
    assert_same(rows(lake), before)
    for dataset in DATASETS:
        months = [path.parent for path in lake.raw_files(dataset)]
        assert len(months) == len(set(months))
    assert done.merged > 2 * done.months > 0
    assert done.after < done.before
    assert len(lake.raw_files()) == len(many) - done.merged + done.months
    assert verify.verify(lake) == (len(many) + done.months + _others(lake), [])


def _others(lake: Lake) -> int:
    return len(list(lake.derived.rglob("*.parquet"))) + lake.database.exists()


def test_the_same_files_make_the_same_bytes_and_twice_is_once(lake: Lake, tmp_path: Path) -> None:
    other = Lake(tmp_path / "other")
    shutil.copytree(lake.root, other.root)
    run(lake)
    run(other)
    assert files(lake) == files(other)  # a merged file's name has its hash
    before = files(lake)
    again = run(lake, NOW + timedelta(hours=1))
    assert (again.months, again.removed) == (0, 0)
    assert files(lake) == before


def test_two_runs_of_one_instant_leave_two_records(lake: Lake) -> None:
    with lake.writing(NOW):
        jobs.land_sample(lake, [markets()["HE"]], 3, NOW, silent)
    run(lake, codes=["ZO"])
    run(lake, codes=["HE"])
    assert len(lake.compaction_records()) == 2
    assert verify.verify(lake)[1] == []


def test_nothing_is_derived_anew(lake: Lake) -> None:
    run(lake)
    with lake.writing(NOW):
        assert derive(lake, ZO, NOW).sessions == 0


def test_a_month_that_is_not_over_or_not_derived_is_left_alone(lake: Lake) -> None:
    with lake.writing(NOW):
        jobs.land_sample(lake, [ZO], 1, NOW, silent)
    assert lake.raw_files("option_stat", "ZO")[-1].parent.name == "month=04"
    state = lake.state("ZO")
    state["files"] = [name for name in state["files"] if "option_stat" not in name]
    lake.state_record("ZO").write_text(json.dumps(state))
    done = run(lake)
    assert done.waiting == ("ZO",)
    merged = [path for path in lake.raw_files() if path.name.startswith(MERGED)]
    assert merged
    assert all("month=03" in path.parts or "cot" in path.parts[-5] for path in merged)
    assert not [path for path in merged if "dataset=option_stat" in path.parts]


def test_a_reader_of_an_older_database_finds_what_it_found(lake: Lake) -> None:
    with duckdb.connect(str(lake.database), read_only=True) as reader:
        count = "select count(*) from raw.option_stat"
        before = reader.sql(count).fetchall()
        old = shown(lake.database)
        run(lake)
        assert reader.sql(count).fetchall() == before
        assert_same(shown(lake.database), old)
        make(lake, NOW + timedelta(hours=1))
        assert reader.sql(count).fetchall() == before
        assert_same(shown(lake.database), old)


def test_the_small_files_go_when_nobody_needs_them(lake: Lake) -> None:
    many = files(lake)
    run(lake)
    assert run(lake, LATER).removed == 0  # the last database still shows them
    make(lake, LATER)
    before = shown(lake.database)
    done = run(lake, LATER + timedelta(hours=1))
    assert done.removed > 0
    kept = many & files(lake)
    assert len(kept) == len(many) - done.removed
    assert_same(shown(lake.database), before)
    assert verify.verify(lake)[1] == []
    hashes = {f["path"]: f["sha256"] for r in lake.batch_records() for f in r["files"]}
    assert many - files(lake) <= hashes.keys()


def test_small_files_stay_where_the_merged_one_is_not_what_was_recorded(lake: Lake) -> None:
    run(lake)
    make(lake, LATER)
    merged = next(path for path in lake.raw_files() if path.name.startswith(MERGED))
    data = bytearray(merged.read_bytes())
    data[20] ^= 1
    merged.write_bytes(bytes(data))
    before = files(lake)
    with pytest.raises(LakeError, match="has changed since it was written"):
        run(lake, LATER + timedelta(hours=1))
    assert files(lake) == before


def test_what_landed_is_not_landed_again(lake: Lake, tmp_path: Path) -> None:
    run(lake)
    make(lake, LATER)
    run(lake, LATER)
    start, end = (datetime(2025, 3, day, tzinfo=UTC) for day in (5, 8))
    paths = sample.fetch(ZO, start, end, tmp_path)
    with lake.writing(LATER):
        landed = list(jobs.land_dbn(lake, {"ZO": ZO}, paths, LATER, "sample"))
    assert landed
    for one in landed:
        assert not isinstance(one, Exception)
        assert sum(one.known.values()) > 0
        assert sum(one.rows.values()) == 0


def test_what_lands_after_counts_even_at_the_same_instant(lake: Lake, tmp_path: Path) -> None:
    run(lake)
    before = {name: frame.height for name, frame in rows(lake).items()}
    paths = sample.fetch(ZO, LANDED, LANDED + timedelta(days=3), tmp_path)
    with lake.writing(NOW):
        for one in jobs.land_dbn(lake, {"ZO": ZO}, paths, NOW, "sample"):
            assert not isinstance(one, Exception)
            for dataset, count in one.rows.items():
                before[dataset] += count
    assert {name: frame.height for name, frame in rows(lake).items()} == before
    make(lake, NOW)
    again = run(lake, NOW)
    assert again.months > 0
    assert {name: frame.height for name, frame in rows(lake).items()} == before
    assert verify.verify(lake)[1] == []


def test_a_merged_file_that_lacks_a_row_is_found_out(lake: Lake) -> None:
    run(lake)
    (path,) = sorted(lake.compactions.glob("*.json"))
    record = json.loads(path.read_text())
    file = next(file for file in record["files"] if len(file["landed"]) > 1)
    file["landed"].pop()
    path.write_text(json.dumps(record))
    (wrong,) = verify.verify(lake)[1]
    assert wrong.path == file["path"]
    assert wrong.reason == "does not hold the rows of the files that it was merged from"


def test_a_damaged_merged_file_gives_way_to_what_it_was_made_from(lake: Lake) -> None:
    before = rows(lake)
    run(lake)
    merged = next(path for path in lake.raw_files("option_stat") if path.name.startswith(MERGED))
    merged.write_bytes(merged.read_bytes()[:-9])
    with lake.writing(NOW):
        (wrong,) = verify.repair(lake, NOW)
        assert wrong.path == str(merged.relative_to(lake.root))
        assert verify.set_aside(lake) == []
    assert_same(rows(lake), before)
    assert verify.verify(lake)[1] == []


def test_a_damaged_merged_file_names_what_is_to_land_again(lake: Lake) -> None:
    run(lake)
    make(lake, LATER)
    run(lake, LATER)
    merged = next(path for path in lake.raw_files("option_stat") if path.name.startswith(MERGED))
    merged.write_bytes(merged.read_bytes()[:-9])
    with lake.writing(LATER):
        verify.repair(lake, LATER)
        (line,) = verify.set_aside(lake)
    assert line.startswith("ZO: ")
    assert "rows of option_stat are missing since" in line
    assert line.count("statistics") >= 3  # each file that brought some of them


def test_a_replay_has_what_had_landed_by_then(lake: Lake, tmp_path: Path) -> None:
    at = LANDED - timedelta(days=2)
    had = {name: frame.filter(pl.col("ingested_at") <= at) for name, frame in rows(lake).items()}
    run(lake)
    made = Lake(tmp_path / "then")
    replay(lake, made, markets(), had_at=at)
    held = {name: frame for name, frame in had.items() if frame.height}
    assert_same(rows(made), held)
    assert verify.verify(made)[1] == []


def test_the_command_says_what_it_did(lake: Lake) -> None:
    def call(*words: str) -> str:
        at = ["--lake", str(lake.root), "--now", NOW.isoformat()]
        done = CliRunner().invoke(main, [*at, *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert " files of " in call("compact", "--market", "ZO")
    assert "0 files of 0 months" in call("compact")
    assert "files are as they were recorded" in call("verify")
