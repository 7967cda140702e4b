"""A lake shows every change to its files, sets aside what is wrong, and goes on without it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from polars.testing import assert_frame_equal

from etl.cli import main
from etl.lake import Lake
from etl.market import markets
from etl.schemas import HIVE_SCHEMA, LINEAGE
from etl.sources import sample
from etl.stored import derived_files

NOW = datetime(2025, 3, 14, 12, tzinfo=UTC)
MONTH = "market=ZO/year=2025/month=03"


def hydra(lake: Lake, *words: object, hour: int = 12) -> Result:
    now = f"2025-03-14T{hour}:00:00Z"
    return CliRunner().invoke(main, ["--lake", str(lake.root), "--now", now, *map(str, words)])


def done(lake: Lake, *words: object, hour: int = 12) -> Result:
    result = hydra(lake, *words, hour=hour)
    assert result.exit_code == 0, result.output
    return result


def refused(result: Result, exit_code: int = 7) -> str:
    """The one line of a refusal."""
    assert result.exit_code == exit_code, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("hydra: "))
    assert "Traceback" not in result.output
    return line


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample vendor's files of two sessions of ZO."""
    folder = tmp_path_factory.mktemp("dbn")
    days = datetime(2025, 3, 12, tzinfo=UTC), datetime(2025, 3, 14, tzinfo=UTC)
    sample.fetch(markets()["ZO"], *days, folder)
    return folder


@pytest.fixture(scope="module")
def made(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of those files, derived and built; for reading only."""
    lake = Lake(tmp_path_factory.mktemp("made") / "lake")
    for words in (["land", "dbn", files], ["derive"], ["build"]):
        done(lake, *words)
    return lake


@pytest.fixture(scope="module")
def without_quotes(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake into which the quotes of options never came, derived."""
    lake = Lake(tmp_path_factory.mktemp("without-quotes") / "lake")
    done(lake, "land", "dbn", *(p for p in files.iterdir() if "OPT_bbo" not in p.name))
    done(lake, "derive")
    return lake


@pytest.fixture
def lake(made: Lake, tmp_path: Path) -> Lake:
    shutil.copytree(made.root, tmp_path / "lake")
    return Lake(tmp_path / "lake")


def raw_file(lake: Lake, dataset: str = "option_quote") -> Path:
    (path,) = lake.raw_files(dataset, "ZO")
    return path


def rows(lake: Lake) -> pl.DataFrame:
    """The raw quotes without where they came from."""
    frame = pl.read_parquet(lake.raw_files("option_quote"), hive_schema=HIVE_SCHEMA)
    kept = frame.drop(*LINEAGE)
    return kept.sort(kept.columns)


def tables(lake: Lake) -> dict[str, pl.DataFrame]:
    """The derived rows by table; a month without any is none."""
    names = sorted(path.name.removeprefix("table=") for path in lake.derived.glob("table=*"))
    found = {n: pl.concat(map(pl.read_parquet, derived_files(lake, n))) for n in names}
    return {name: frame for name, frame in found.items() if frame.height}


def assert_same_tables(one: Lake, other: Lake) -> None:
    mine, theirs = tables(one), tables(other)
    assert mine.keys() == theirs.keys()
    for name, frame in mine.items():
        assert_frame_equal(frame, theirs[name], check_exact=True)


# --- damage ---------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def lengthened(path: Path) -> None:
    with open(path, "ab") as handle:
        handle.write(b"x")


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def text(path: Path) -> None:
    path.write_bytes(b"no parquet "[: path.stat().st_size] * (path.stat().st_size // 11 + 1))


def text_of_its_size(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes((b"no parquet " * size)[:size])


def fewer_rows(path: Path) -> None:
    pl.read_parquet(path, hive_partitioning=False).head(3).write_parquet(path)


def deleted(path: Path) -> None:
    path.unlink()


def joined_by_a_copy(path: Path) -> None:
    shutil.copy(path, path.with_name("copy.parquet"))


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (cut, "is cut off: "),
    (emptied, "is cut off: 0 bytes where "),
    (lengthened, "has grown: "),
    (one_bit, "has changed since it was written"),
    (text, "has grown: "),
    (text_of_its_size, "is damaged: "),
    (fewer_rows, "is cut off: "),
    (deleted, "is gone"),
]


def test_a_lake_as_it_was_made_is_right(made: Lake) -> None:
    result = done(made, "verify")
    recorded = [*made.raw.rglob("*.parquet"), *made.derived.rglob("*.parquet"), made.database]
    count = len(recorded)
    assert result.stdout == f"verify: {count} files are as they were recorded\n"


def test_what_is_wrong_for_programs(lake: Lake) -> None:
    path = lake.raw_files()[0]
    path.unlink()
    result = hydra(lake, "verify", "--format", "json")
    assert result.exit_code == 2
    name = str(path.relative_to(lake.root))
    assert json.loads(result.stdout) == [{"path": name, "reason": "is gone"}]


@pytest.mark.parametrize(("damage", "reason"), DAMAGE)
@pytest.mark.parametrize("where", ["raw", "derived"])
def test_every_change_to_a_file_is_named(
    lake: Lake, where: str, damage: Callable[[Path], None], reason: str
) -> None:
    path = raw_file(lake) if where == "raw" else derived_files(lake, "chain_v1")[0]
    damage(path)
    result = hydra(lake, "verify")
    assert result.exit_code == 2
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{path.relative_to(lake.root)}: {reason}")
    assert line.endswith("hydra derive makes it anew") == (where == "derived")


@pytest.mark.parametrize("where", ["raw", "raw/dataset=option_quote", "derived", "derived/x"])
def test_a_file_that_nothing_brought_is_named(lake: Lake, where: str) -> None:
    (lake.root / where).mkdir(exist_ok=True)
    shutil.copy(raw_file(lake), lake.root / where / "mine.parquet")
    result = hydra(lake, "verify")
    assert result.exit_code == 2
    brought = "no landing brought it" if where.startswith("raw") else "no derivation made it"
    assert result.stdout.startswith(f"{where}/mine.parquet: {brought}")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(one_bit, "has changed since it was built"), (deleted, "is gone")],
)
def test_a_changed_database_is_named(
    lake: Lake, damage: Callable[[Path], None], reason: str
) -> None:
    damage(lake.database)
    result = hydra(lake, "verify")
    assert result.exit_code == 2
    assert result.stdout == f"hydra.duckdb: {reason}: hydra build makes it anew\n"
    done(lake, "build")
    done(lake, "verify")


def test_rows_are_counted_beside_the_hash(lake: Lake) -> None:
    (batch,) = (b for b in lake.batch_records() if b["files"][0]["dataset"] == "option_quote")
    batch["files"][0]["rows"] += 1
    (lake.batches / f"{batch['batch_id']}.json").write_text(json.dumps(batch))
    result = hydra(lake, "verify")
    assert result.exit_code == 2
    assert " rows, not " in result.stdout


def test_a_damaged_record_is_named(lake: Lake) -> None:
    record = next(lake.batches.iterdir())
    record.write_text("{")
    for words in (["verify"], ["derive"], ["check", "--repair"]):
        assert f"{record} is damaged" in refused(hydra(lake, *words))


def test_the_first_lakes_recorded_no_sizes(lake: Lake) -> None:
    for batch in lake.batch_records():
        for file in batch["files"]:
            del file["bytes"]
        (lake.batches / f"{batch['batch_id']}.json").write_text(json.dumps(batch))
    done(lake, "verify")
    cut(raw_file(lake))
    assert hydra(lake, "verify").exit_code == 2


def test_what_a_writer_has_under_way_is_no_finding(lake: Lake) -> None:
    with lake.writing(NOW):
        done(lake, "verify")
        joined_by_a_copy(raw_file(lake))
        assert f"process {os.getpid()} on " in refused(hydra(lake, "verify"), 6)
    assert hydra(lake, "verify").exit_code == 2


# --- what it stops --------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [cut, lengthened, deleted, joined_by_a_copy])
@pytest.mark.parametrize("words", ["land dbn {}", "derive", "build"])
def test_no_command_builds_on_a_wrong_file(
    lake: Lake, files: Path, damage: Callable[[Path], None], words: str
) -> None:
    before = lake.database.read_bytes()
    damage(raw_file(lake))
    line = refused(hydra(lake, *words.format(files).split()))
    assert f"{lake.root}/raw/dataset=option_quote/{MONTH}/" in line
    assert line.endswith("hydra verify names all, hydra check --repair sets them aside")
    assert lake.database.read_bytes() == before


def test_a_file_that_breaks_a_run_is_named_though_its_size_is_right(lake: Lake) -> None:
    text_of_its_size(raw_file(lake))
    shutil.rmtree(lake.derived)
    assert f"{raw_file(lake)}: is damaged: " in refused(hydra(lake, "derive"))


@pytest.mark.parametrize("damage", [cut, deleted])
def test_a_build_refuses_derived_files_that_are_wrong(
    lake: Lake, damage: Callable[[Path], None]
) -> None:
    damage(derived_files(lake, "surface_v1")[0])
    assert "hydra derive makes it anew" in refused(hydra(lake, "build"))


@pytest.mark.parametrize("damage", [cut, deleted])
def test_what_is_derived_mends_itself(
    made: Lake, lake: Lake, damage: Callable[[Path], None]
) -> None:
    damage(derived_files(lake, "surface_v1")[0])
    done(lake, "derive")
    assert_same_tables(lake, made)
    done(lake, "build")
    done(lake, "verify")


# --- setting aside --------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [cut, one_bit, text_of_its_size, deleted])
def test_the_rest_keeps_working(
    lake: Lake, made: Lake, without_quotes: Lake, files: Path, damage: Callable[[Path], None]
) -> None:
    path = raw_file(lake)
    place = path.relative_to(lake.root)
    damage(path)
    damaged = path.read_bytes() if path.exists() else None
    result = done(lake, "check", "--repair")
    assert result.stdout.startswith(f"set aside {place}: ")
    assert "next: hydra derive && hydra build" in result.stderr
    assert not path.exists()
    aside = lake.root / "set-aside" / place
    assert (aside.read_bytes() if aside.exists() else None) == damaged
    record = json.loads(aside.with_name(aside.name + ".json").read_text())
    assert record["path"] == str(place)
    assert record["reason"] in result.stdout
    assert record["set_aside_at"] == NOW.isoformat()

    missing = f"ZO: {rows(made).height:,} rows of option_quote are missing"
    for words in (["derive"], ["build"], ["verify"]):
        assert missing in done(lake, *words).stderr
    assert_same_tables(lake, without_quotes)

    again = done(lake, "land", "dbn", files, hour=13)
    assert sum("rows of option_quote" in line for line in again.stdout.splitlines()) == 1
    assert_frame_equal(rows(lake), rows(made))
    for words in (["derive"], ["build"], ["verify"]):
        assert "missing" not in done(lake, *words, hour=13).stderr
    assert_same_tables(lake, made)


def test_a_foreign_file_is_set_aside_and_nothing_is_missing(lake: Lake, made: Lake) -> None:
    joined_by_a_copy(raw_file(lake))
    result = done(lake, "check", "--repair")
    assert "copy.parquet: no landing brought it" in result.stdout
    for words in (["derive"], ["build"], ["verify"]):
        assert "missing" not in done(lake, *words).stderr
    assert_frame_equal(rows(lake), rows(made))


def test_a_file_put_back_from_a_backup_is_back(lake: Lake, made: Lake) -> None:
    cut(raw_file(lake))
    place = raw_file(lake).relative_to(lake.root)
    done(lake, "check", "--repair")
    shutil.copy(made.root / place, lake.root / place)
    for words in (["derive"], ["build"], ["verify"]):
        assert "missing" not in done(lake, *words).stderr
    assert_same_tables(lake, made)


def test_a_derived_file_is_set_aside_and_made_anew(lake: Lake, made: Lake) -> None:
    one_bit(derived_files(lake, "chain_v1")[0])
    assert "set aside derived/table=chain_v1/" in done(lake, "check", "--repair").stdout
    for words in (["derive"], ["build"], ["verify"]):
        done(lake, *words)
    assert_same_tables(lake, made)


def test_a_second_repair_leaves_the_reason_of_the_first(lake: Lake) -> None:
    path = derived_files(lake, "chain_v1")[0]
    one_bit(path)
    done(lake, "check", "--repair")
    record = lake.root / "set-aside" / f"{path.relative_to(lake.root)}.json"
    reason = record.read_text()
    assert "has changed since it was written" in reason
    assert done(lake, "check", "--repair").stdout == "nothing to set aside\n"
    assert record.read_text() == reason


def test_a_market_of_which_all_is_set_aside_is_no_trouble(lake: Lake) -> None:
    for path in lake.raw_files():
        emptied(path)
    done(lake, "check", "--repair")
    for words in (["derive"], ["build"], ["verify"], ["status"]):
        done(lake, *words)


def test_there_is_nothing_to_repair_in_a_lake_that_is_right(lake: Lake) -> None:
    assert done(lake, "check", "--repair").stdout == "nothing to set aside\n"
    assert not (lake.root / "set-aside").exists()
    cut(raw_file(lake))
    assert "set aside raw" in done(lake, "check", "--repair").stdout
    again = done(lake, "check", "--repair")
    assert again.stdout == "nothing to set aside\n"
    assert "are missing" in again.stderr
