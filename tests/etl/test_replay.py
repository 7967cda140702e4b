"""`hydra replay`: a lake as it really stood, by the market's clock and by the lake's own."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from polars.testing import assert_frame_equal

from etl import jobs, sqlfiles
from etl.build import build
from etl.cli import main
from etl.derive import derive
from etl.export import open_database
from etl.lake import Lake
from etl.landing import land
from etl.market import markets
from etl.schemas import source_schema
from etl.sources import Payload, sample

MARKETS = markets()
SOLD = {"ZO": MARKETS["ZO"]}
SECOND = timedelta(seconds=1)
#: Three runs: statistics come a day late, and a report is revised after that.
RUNS = [datetime(2025, 3, day, 12, tzinfo=UTC) for day in (6, 7, 13)]
#: Tables that say the same whatever folder the lake lies in.
TABLES = [
    *(f"features.{file.name}" for file in sqlfiles.features()),
    # The view shows every run that the lake's folder has, of which a copy's is the original's.
    "(select * exclude (is_newest) from quality.checks"
    " where run_at = (select built_at from meta.builds))",
    "quality.freshness",
    "meta.batches",
    "meta.builds",
    "meta.clock",
]


@dataclass(frozen=True)
class Past:
    """A lake that three runs filled, and copies of it as each of them left it."""

    lake: Lake
    then: tuple[Lake, ...]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    folder = tmp_path_factory.mktemp("past")
    lake, then = Lake(folder / "lake"), []
    start, end = (datetime(2025, 3, day, tzinfo=UTC) for day in (3, 6))
    files = sample.fetch(MARKETS["ZO"], start, end, folder)
    late = [path for path in files if "statistics" in path.name]
    assert late
    first, _, last = RUNS
    for now in RUNS:
        with lake.writing(now):
            if now == last:
                revision = Payload("sample", "a revision", "0" * 64, _revision(lake))
                land(lake, revision, now, "sample")
            else:
                landing = [path for path in files if (path in late) != (now == first)]
                list(jobs.land_dbn(lake, SOLD, landing, now, "sample"))
                published = folder / f"cot-{now:%d}"
                published.mkdir()
                zips = sample.fetch_cot(2024, 2025, now, published)
                list(jobs.land_cot(lake, SOLD, zips, now, "sample"))
            derive(lake, MARKETS["ZO"], now)
            build(lake, dict(MARKETS), now)
        then.append(Lake(folder / f"then-{now:%d}"))
        shutil.copytree(lake.root, then[-1].root)
    return Past(lake, tuple(then))


def _revision(lake: Lake) -> Iterator[tuple[str, pl.DataFrame]]:
    """The newest report with another long position."""
    paths = lake.raw_files("cot", "ZO")
    rows = pl.concat(pl.read_parquet(path, hive_partitioning=False) for path in paths)
    newest = rows.sort("as_of", "available_at").tail(1).with_columns(market=pl.lit("ZO"))
    long = pl.col("managed_money_long") + 1000
    yield "cot", newest.with_columns(managed_money_long=long).select(list(source_schema("cot")))


def table(lake: Lake, name: str, where: str = "true") -> pl.DataFrame:
    connection = open_database(lake.database)
    try:
        rows: pl.DataFrame = connection.sql(f"from {name} where {where} order by all").pl()
        return rows
    finally:
        connection.close()


def hydra_replay(lake: Lake, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--lake", str(lake.root), "-q", "replay", *arguments])


@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_the_lake_had_is_what_it_was(past: Past, tmp_path: Path, which: int) -> None:
    """Every row of every table, though later inputs have since replaced some of them."""
    made = Lake(tmp_path / "made")
    result = hydra_replay(past.lake, str(made.root), "--had-at", RUNS[which].isoformat())
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("raw rows; SAMPLE DATA: synthetic, of no real market\n")
    for name in TABLES:
        assert_frame_equal(table(made, name), table(past.then[which], name), check_exact=True)
    changed = [name for name in TABLES if not table(made, name).equals(table(past.lake, name))]
    assert len(changed) > 8 if which == 0 else len(changed) > 2 if which == 1 else not changed


def test_a_moment_before_a_landing_had_nothing_of_it(past: Past, tmp_path: Path) -> None:
    made = Lake(tmp_path / "made")
    before = RUNS[1] - SECOND
    result = hydra_replay(past.lake, str(made.root), "--had-at", before.isoformat())
    assert result.exit_code == 0, result.output
    assert_frame_equal(table(made, "meta.batches"), table(past.then[0], "meta.batches"))
    assert table(made, "raw.option_stat").is_empty()


def test_both_clocks_bound_the_answer(past: Past, tmp_path: Path) -> None:
    """What the market could know on the Wednesday, of what had landed by the second run."""
    t = datetime(2025, 3, 5, 20, tzinfo=UTC)
    made = Lake(tmp_path / "made")
    arguments = ["--at", t.isoformat(), "--had-at", RUNS[1].isoformat()]
    result = hydra_replay(past.lake, str(made.root), *arguments)
    assert result.exit_code == 0, result.output
    asked = f"features_at('ZO', '{t.isoformat()}')"
    assert_frame_equal(table(made, asked), table(past.then[1], asked), check_exact=True)
    assert table(made, "features.long_v1")["available_at"].max() <= t
    raw = table(made, "raw.cot")
    assert raw["available_at"].max() <= t
    assert raw["ingested_at"].max() <= RUNS[1]


def test_the_records_of_a_replayed_lake_are_true(past: Past, tmp_path: Path) -> None:
    """Rows and hashes are those of the files that are there."""
    made = Lake(tmp_path / "made")
    assert hydra_replay(past.lake, str(made.root), "--at", "2025-03-05T20:00:00Z").exit_code == 0
    files = [file for record in made.batch_records() for file in record["files"]]
    assert sorted(file["path"] for file in files) == [
        str(path.relative_to(made.root)) for path in made.raw_files()
    ]
    for file in files:
        path = made.root / file["path"]
        assert pl.read_parquet(path).height == file["rows"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]


def test_a_time_before_anything_is_said_to_have_nothing(past: Past, tmp_path: Path) -> None:
    result = hydra_replay(past.lake, str(tmp_path / "made"), "--had-at", "2020-01-01T00:00:00Z")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}/made: nothing was there yet\n")


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        ([], "give --at, --had-at or both", 2),
        (["--had-at", "2025-03-06T12:00:00"], "has no zone", 2),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(
    past: Past, tmp_path: Path, arguments: list[str], said: str, code: int
) -> None:
    result = hydra_replay(past.lake, str(tmp_path / "made"), *arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert not (tmp_path / "made").exists()


def test_a_folder_that_holds_something_is_left_alone(past: Past, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    result = hydra_replay(past.lake, str(tmp_path), "--had-at", RUNS[0].isoformat())
    assert result.exit_code == 3
    assert "is not empty: name a folder that does not exist yet" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_without_a_lake_there_is_nothing_to_replay(tmp_path: Path) -> None:
    result = hydra_replay(
        Lake(tmp_path / "none"), str(tmp_path / "made"), "--had-at", "2025-03-06T00:00:00Z"
    )
    assert result.exit_code == 3
    assert "there is no lake at" in result.stderr
