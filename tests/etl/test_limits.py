"""What a machine refuses is one line and an exit code, and the lake is as before."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from etl.cli import main
from etl.lake import Lake
from etl.market import markets
from etl.sources import sample

NOW = "2025-03-14T12:00:00Z"
NOBODY = 65534

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, or be another user")

#: The command after its imports, which another user might not be able to read.
AS_NOBODY = f"""
import etl.build, etl.checks, etl.cli, etl.derive, etl.export, etl.jobs, etl.logs, etl.verify
import logging.handlers, mathlib.udf, os, pytz, rich.console, rich.table
os.setgid({NOBODY})
os.setuid({NOBODY})
etl.cli.main(prog_name="hydra")
"""


def hydra(
    lake: Path, *words: object, descriptors: int | None = None, nobody: bool = False
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""

    def limit() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    program = ["-c", AS_NOBODY] if nobody else ["-m", "etl"]
    call = [sys.executable, *program, "-q", "--lake", str(lake), "--now", NOW, *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=False, preexec_fn=limit)


def refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert done.returncode == 7, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("hydra: cannot ")
    assert line.endswith(reason)


def tree(lake: Path) -> dict[str, str]:
    """Every file with its hash, but for the lock, the log and what the next writer drops."""
    files = {path.relative_to(lake): path for path in sorted(lake.rglob("*")) if path.is_file()}
    return {
        str(name): hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if name.parts[0] not in {".lock", "logs", "staging"}
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample vendor's files of three sessions of ZO, a folder each."""
    folder = tmp_path_factory.mktemp("dbn")
    for day in (11, 12, 13):
        (folder / str(day)).mkdir()
        days = (datetime(2025, 3, day + n, tzinfo=UTC) for n in (0, 1))
        sample.fetch(markets()["ZO"], *days, folder / str(day))
    return folder


@pytest.fixture(scope="module")
def made(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of the first session that is derived and built, and of the second that is not."""
    lake = tmp_path_factory.mktemp("made") / "lake"
    for words in (
        ["land", "dbn", files / "12"],
        ["derive"],
        ["build"],
        ["land", "dbn", files / "13"],
    ):
        call = ["-q", "--lake", str(lake), "--now", NOW, *map(str, words)]
        done = CliRunner().invoke(main, call)
        assert done.exit_code == 0, done.output
    return lake


@pytest.fixture
def lake(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "lake")
    return tmp_path / "lake"


@contextmanager
def mounted(*options: object) -> Iterator[None]:
    *_, place = options
    subprocess.run(["mount", *map(str, options)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextmanager
def small_disk(place: Path, lake: Path, free_kb: int) -> Iterator[Path]:
    """A copy of a lake on a disk with so much room left, and the file that fills the disk."""
    place.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=48m", "none", place):
        shutil.copytree(lake, place / "lake")
        room = os.statvfs(place)
        fill = place / "fill"
        fill.write_bytes(bytes(room.f_bavail * room.f_frsize - free_kb * 1024))
        yield fill


# --- a full disk ----------------------------------------------------------------------------------


@root_only
@pytest.mark.parametrize(
    ("words", "free_kb"),
    [
        ("land dbn {new}", 0),
        ("land dbn {new}", 40),
        ("derive", 0),
        ("derive", 100),
        ("build", 0),
        ("build", 5000),
        ("export features.chain_v1 -o {lake}/exports/x.csv", 40),
        ("export features.chain_v1 --format parquet -o {lake}/exports/x.parquet", 8),
    ],
)
def test_a_full_disk(made: Path, files: Path, tmp_path: Path, words: str, free_kb: int) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, made, free_kb) as fill:
        lake = disk / "lake"
        call = words.format(new=files / "11", lake=lake).split()
        before = tree(lake)
        refused(hydra(lake, *call), "No space left on device")
        after = tree(lake)
        assert before.items() <= after.items()
        assert words.startswith("land") or after == before  # what landed whole before stays
        assert hydra(lake, "verify").returncode == 0
        fill.unlink()
        done = hydra(lake, *call)
        assert done.returncode == 0, done.stderr


# --- no right to write, or to read ----------------------------------------------------------------

WRITES = ["land dbn {}", "derive", "build", "check --repair", "daily --source sample"]
READS = ["verify", "status", "check", "export features.daily_v1 -o {}"]


@root_only
def test_a_read_only_lake_is_read_and_not_written(lake: Path, files: Path, tmp_path: Path) -> None:
    before = tree(lake)
    with mounted("--bind", lake, lake):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(lake)], check=True)
        for words in WRITES:
            refused(hydra(lake, *words.format(files).split()), f"{lake}: Read-only file system")
        inside = hydra(lake, "export", "features.daily_v1", "-o", lake / "exports/x.csv")
        refused(inside, f"{lake}/exports/x.csv: Read-only file system")
        for words in READS:
            done = hydra(lake, *words.format(tmp_path / "x.csv").split())
            assert done.returncode == 0, done.stderr
    assert tree(lake) == before


@root_only
def test_a_lake_of_somebody_elses(lake: Path, files: Path) -> None:
    for folder in (lake, *lake.parents):
        os.chmod(folder, folder.stat().st_mode | 0o055)
    before = tree(lake)
    for words in WRITES[1:4]:
        refused(hydra(lake, *words.split(), nobody=True), f"{lake}: Permission denied")
    assert hydra(lake, "verify", nobody=True).returncode == 0
    path = Lake(lake).raw_files()[0]
    path.chmod(0o600)
    refused(hydra(lake, "verify", nobody=True), f"cannot read {path}: Permission denied")
    assert tree(lake) == before


# --- few file descriptors, a clock that goes back -------------------------------------------------


@pytest.mark.parametrize("words", ["land dbn {}", "derive", "build"])
def test_a_limit_of_file_descriptors(lake: Path, files: Path, words: str) -> None:
    call = words.format(files).split()
    before = tree(lake)
    few = hydra(lake, *call, descriptors=8)
    refused(few, "Too many open files")
    assert tree(lake) == before
    enough = hydra(lake, *call, descriptors=256)
    assert enough.returncode == 0, enough.stderr


@pytest.mark.parametrize("words", WRITES)
def test_a_clock_that_was_set_back(lake: Path, files: Path, words: str) -> None:
    before = tree(lake)
    early = "2025-03-14T11:59:00Z"
    call = ["--lake", str(lake), "--now", early, *words.format(files).split()]
    done = CliRunner().invoke(main, ["-q", *call])
    assert done.exit_code == 7
    (line,) = done.stderr.splitlines()
    assert line == (
        f"hydra: it is {early} by the clock, before the last run on the lake at {lake}, {NOW}: "
        "set the clock right, or say --now"
    )
    assert tree(lake) == before
