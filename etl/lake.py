"""The lake on disk: where things lie, who may write, and how a batch becomes visible.

Layout (``lake/README.md`` explains it to a person)::

    lake.json                     format and origin ("sample" or "vendor")
    raw/dataset=…/market=…/year=…/month=…/<batch>-<n>.parquet
    batches/<batch>.json          what each batch brought, with the hash of every file
    reach/<source>-<market>.json  the spans that a vendor was asked for and that have landed
    reach/days-<dataset>.json     what the vendor says of each day that was asked for
    downloads/                    vendors' files between their download and their landing
    derived/table=…/market=…/year=…/month=…/rows.parquet, derived/state/<market>.json
    hydra.duckdb, report.html, exports/

A batch is staged under ``staging/<batch>/``, committed by the appearance of its record
in ``batches/``, and then moved into place.  What was committed and not yet moved is moved
by the next writer; what was staged and not committed is dropped by it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from etl.errors import BadInput, LakeBusy, LakeError

FORMAT = 1
ORIGINS = ("sample", "vendor")

#: What the folders of a raw file say, for Polars.
HIVE_SCHEMA = {"dataset": pl.String, "market": pl.String, "year": pl.Int32, "month": pl.Int32}


@dataclass(frozen=True)
class Lake:
    """A lake at ``root``; opening one reads nothing but its marker."""

    root: Path

    def __post_init__(self) -> None:
        """Refuse a place that DuckDB and Polars would not find, or take for a partition's.

        Raises
        ------
        BadInput
            The path is not UTF-8, or a folder in it is called ``key=value`` like the lake's own.
        """
        # Both take a leading ~ for the home folder and s3: for a service, which Python does not.
        if self.root.parts and re.match("~|.*:", self.root.parts[0]):
            object.__setattr__(self, "root", self.root.absolute())
        if wrong := [part for part in self.root.absolute().parts if "=" in part]:
            raise BadInput(f"{self.root}: a lake cannot lie under a folder called {wrong[0]}")
        try:
            str(self.root).encode()
        except UnicodeEncodeError:
            raise BadInput(f"{self.root}: is no path in UTF-8; give the lake another one") from None

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    @property
    def derived(self) -> Path:
        return self.root / "derived"

    @property
    def batches(self) -> Path:
        return self.root / "batches"

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def database(self) -> Path:
        return self.root / "hydra.duckdb"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def marker(self) -> Path:
        return self.root / "lake.json"

    @property
    def origin(self) -> str | None:
        """ "sample" or "vendor"; ``None`` while nothing has landed."""
        try:
            marker = json.loads(self.marker.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise LakeError(
                f"{self.marker} is damaged ({error}): restore it from a backup"
            ) from error
        if not isinstance(marker, dict) or (
            marker.get("format") != FORMAT or marker.get("origin") not in ORIGINS
        ):
            raise LakeError(f"{self.marker} is not of a lake that this version reads: {marker}")
        return str(marker["origin"])

    def claim(self, origin: str) -> None:
        """Mark an empty lake as ``origin``; refuse data of another origin.

        Raises
        ------
        LakeError
            The lake holds data of the other origin.
        """
        self.refuse_other(origin)
        if self.origin != origin or not self._holds_something():
            write_whole(self.marker, json.dumps({"format": FORMAT, "origin": origin}) + "\n")

    def refuse_other(self, origin: str) -> None:
        """Make sure that the lake takes data of ``origin``; change nothing.

        Raises
        ------
        LakeError
            The lake holds data of the other origin.
        """
        held = self.origin
        if held not in (None, origin) and self._holds_something():
            raise LakeError(
                f"{self.root} holds {held} data and takes no {origin} data: "
                "name another lake with --lake"
            )

    def _holds_something(self) -> bool:
        return any(self.batches.glob("*.json"))

    def partition(self, dataset: str, market: str, year: int, month: int) -> Path:
        """The folder of one dataset, market and month (of ``as_of``)."""
        return self.raw / f"dataset={dataset}/market={market}/year={year}/month={month:02d}"

    def raw_files(self, dataset: str = "*", market: str = "*") -> list[Path]:
        """Every landed file of a dataset and market, in a stable order."""
        return sorted(self.raw.glob(f"dataset={dataset}/market={market}/year=*/month=*/*.parquet"))

    def markets(self) -> list[str]:
        """Markets for which anything has landed."""
        found = self.raw.glob("dataset=*/market=*")
        return sorted({path.name.removeprefix("market=") for path in found})

    def first_day(self, market: str) -> date | None:
        """First day of the earliest month for which anything of the market has landed."""
        months = self.raw.glob(f"dataset=*/market={market}/year=*/month=*")
        return min(map(_month, months), default=None)

    def batch_records(self) -> list[dict[str, Any]]:
        """The record of every committed batch, oldest first."""
        return [json.loads(path.read_text()) for path in sorted(self.batches.glob("*.json"))]

    @contextmanager
    def writing(self, now: datetime) -> Iterator[None]:
        """Hold the lake's only write lock; finish or drop what a killed writer left.

        The lock is the operating system's, so it ends with the process that holds it.

        Raises
        ------
        LakeBusy
            Another process is writing.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = open(self.root / ".lock", "a+")  # noqa: SIM115 - held for the block
        except OSError as error:
            raise LakeError(f"cannot write to the lake at {self.root}: {error.strerror}") from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read().strip() or "another process"
                raise LakeBusy(
                    f"the lake at {self.root} is being written by {holder}: "
                    "wait for it to end, or stop it"
                ) from None
            handle.seek(0)
            handle.truncate()
            handle.write(f"process {os.getpid()} on {socket.gethostname()} since {now:%FT%TZ}\n")
            handle.flush()
            try:
                self._recover()
            except OSError as error:
                raise LakeError(
                    f"cannot put the lake at {self.root} in order: {error.strerror}"
                ) from error
            try:
                yield
            finally:
                handle.seek(0)
                handle.truncate()

    def commit(self, batch_id: str, record: dict[str, Any], files: dict[Path, Path]) -> None:
        """Make a staged batch part of the lake: all of its files, or none.

        ``files`` maps each staged file to its place; both lie in this lake.

        Raises
        ------
        LakeError
            A file cannot be written: the next writer finishes the batch or drops it.
        """
        moves = {
            str(staged.relative_to(self.root)): str(place.relative_to(self.root))
            for staged, place in files.items()
        }
        for folder in {staged.parent for staged in files}:
            sync_folder(folder)
        write_whole(
            self.batches / f"{batch_id}.json",
            json.dumps({**record, "moves": moves}, indent=1, sort_keys=True) + "\n",
        )
        self._move(moves)
        shutil.rmtree(self.staging / batch_id, ignore_errors=True)

    def _move(self, moves: dict[str, str]) -> None:
        folders: set[Path] = set()
        for staged, place in moves.items():
            source, target = self.root / staged, self.root / place
            if ".." in (*source.parts, *target.parts) or not target.is_relative_to(self.raw):
                raise LakeError(
                    f"{self.batches}: a record would move {place}, files outside the lake: it is "
                    "not this program's; do not use this lake"
                )
            if not source.exists():  # moved before the writer was killed
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(source, target)
            folders.add(target.parent)
        for folder in folders:
            sync_folder(folder)

    def _recover(self) -> None:
        for folder in sorted(self.staging.glob("*")):
            record = self.batches / f"{folder.name}.json"
            if record.exists():
                self._move(json.loads(record.read_text())["moves"])
            shutil.rmtree(folder)
        for pattern in ("*.part*", "batches/*.part", "derived/**/*.part", "reach/*.part"):
            for left in self.root.glob(pattern):
                left.unlink()


def month_of(path: Path) -> date:
    """The first day of the month in whose folder a file lies."""
    return _month(path.parent)


def _month(folder: Path) -> date:
    year, month = (part.split("=")[1] for part in folder.parts[-2:])
    return date(int(year), int(month), 1)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a file beside ``path`` and put it in its place, synced, in one step.

    Raises
    ------
    LakeError
        The file cannot be written: the old one stays.  What else ``write`` raises passes on.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        try:
            write(part)
            with open(part, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise LakeError(f"cannot write {path}: {error.strerror or error}") from error


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to ``path``: the old content or the new, never a part of it."""

    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    replace_whole(path, write)
