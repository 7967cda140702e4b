"""The stored months of one market's derived tables: read, staged anew, and changed at once.

A file is named by its content and never changed: a month that is derived anew is another file,
and an unchanged one stays.  ``derived/state/<market>.json`` says which files are in force and
what they were derived from, with the size, hash and rows of each file, which ``hydra verify``
compares.  It also lists what was superseded and when: a database that was built before shows
those files, so that they stay for its readers until ``KEPT`` later.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from glob import glob
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

from etl.lake import Lake, write_rows, write_whole

__all__ = ["KEPT", "Month", "Months", "Staged", "derived_files", "derived_tables", "stage"]

#: How long a superseded file stays, for readers with an older database open.
KEPT = timedelta(days=7)


@dataclass(frozen=True)
class Month:
    """A month of a derived table."""

    table: str
    year: int
    month: int


@dataclass(frozen=True)
class Staged:
    """A month's file that is not in its place yet."""

    month: Month
    path: str  # below the lake
    about: Mapping[str, Any]  # its rows, bytes and sha256


def stage(lake: Lake, folder: str, month: Month, rows: pl.DataFrame) -> Staged:
    """Write a month's rows below ``folder``, under a name that no other try of them has."""
    name = f"{month.table}-{month.year}-{month.month:02d}-{uuid4().hex[:8]}.parquet"
    path = f"{folder}/{name}"
    return Staged(month, path, write_rows(lake.root / path, rows))


def derived_tables(lake: Lake, market: str = "*") -> defaultdict[str, list[str]]:
    """Table → its months in force by path below the lake, of all markets or one, in order."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for record in sorted(lake.state_record(market).parent.glob(f"{market}.json")):
        for path in sorted(lake.state(record.stem).get("tables", ())):
            found[path.split("/")[1].removeprefix("table=")].append(path)
    return found


def derived_files(lake: Lake, table: str) -> list[Path]:
    """The months in force of a derived table, all markets, in a stable order."""
    return [lake.root / path for path in derived_tables(lake)[table]]


class Months:
    """What is stored of a market, and what a run is about to put in its place.

    Attributes
    ----------
    state : what the last run left as its record; empty where there was none
    staging : folder below the lake in which this run's files are staged
    """

    def __init__(self, lake: Lake, market: str) -> None:
        self._lake = lake
        self._market = market
        # A worker that outlives its run writes where no other run looks.
        self._staging = lake.staging / f"derived-{market}-{uuid4().hex[:8]}"
        self.staging = str(self._staging.relative_to(lake.root))
        self.state = lake.state(market)
        # Folder of a month below the lake → its file there, with fingerprint and rows.
        self._files: dict[str, tuple[str, dict[str, Any]]] = {}
        for path, about in self.state.get("tables", {}).items():
            folder, _, name = path.rpartition("/")
            self._files[folder] = name, about
        self._before = self._in_force()
        self._superseded: dict[str, dict[str, Any]] = {**self.state.get("superseded", {})}
        self._staged: dict[str, Path] = {}  # folder → staged file

    def is_whole(self) -> bool:
        """Whether each file in force is there in its recorded size."""
        return all(self._is_there(path, about) for path, about in self._in_force().items())

    def forget(self) -> None:
        """Begin anew: what is stored and not written again is superseded with the commit."""
        self.state, self._files = {}, {}

    def files(self, months: Collection[tuple[int, int]]) -> dict[Month, str]:
        """The files in force of some months, (year, month), by path below the lake."""
        found = {}
        for folder, (name, _) in self._files.items():
            table, _, year, month = (part.split("=")[1] for part in folder.split("/")[-4:])
            if (int(year), int(month)) in months:
                found[Month(table, int(year), int(month))] = f"{folder}/{name}"
        return found

    def put(self, staged: Staged) -> None:
        """Take a staged file for its month, unless the file in force has its rows."""
        folder = self._folder(staged.month)
        file = f"rows-{staged.about['sha256'][:16]}.parquet", dict(staged.about)
        if self._files.get(folder) != file:
            self._files[folder] = file
            self._staged[folder] = self._lake.root / staged.path

    def commit(self, state: dict[str, Any], now: datetime) -> None:
        """Put what is staged in place, with the record of what it was derived from.

        Parameters
        ----------
        now : aware datetime
            The run's instant, at which what is no longer in force is superseded.
        """
        tables = self._in_force()
        superseded = {
            path: about
            for path, about in self._left_behind(now).items()
            if path not in tables and self._is_shown(path, about, now)
        }
        moves = {
            staged: self._lake.root / folder / self._files[folder][0]
            for folder, staged in sorted(self._staged.items())
        }
        pattern = f"derived/table=*/market={self._market}/year=*/month=*/*.parquet"
        stored = sorted(glob(pattern, root_dir=self._lake.root))
        gone = [name for name in stored if name not in tables and name not in superseded]
        for number, name in enumerate(gone):
            moves[self._lake.root / name] = self._staging / "gone" / str(number)
        record = self._staging / "state.json"
        whole = {**state, "tables": tables, "superseded": superseded}
        write_whole(record, json.dumps(whole, indent=1) + "\n")
        moves[record] = self._lake.state_record(self._market)
        self._lake.commit(self._staging.name, moves)

    def _left_behind(self, now: datetime) -> dict[str, dict[str, Any]]:
        """What was in force before this run, and before others, with when it was superseded."""
        at = {"superseded_at": now.isoformat()}
        return {**self._superseded, **{path: about | at for path, about in self._before.items()}}

    def _is_shown(self, path: str, about: dict[str, Any], now: datetime) -> bool:
        """Whether the last database, or one that somebody has open, may show the file."""
        if not self._is_there(path, about):
            return False
        at = datetime.fromisoformat(about["superseded_at"])
        built_at = self._lake.built_at()
        return now - at <= KEPT or (built_at is not None and at >= built_at)

    def _is_there(self, path: str, about: dict[str, Any]) -> bool:
        with suppress(FileNotFoundError, NotADirectoryError):
            return bool(os.path.getsize(f"{self._lake.root}/{path}") == about["bytes"])
        return False

    def _in_force(self) -> dict[str, dict[str, Any]]:
        """Path below the lake → size, hash and rows of each file."""
        found = {f"{folder}/{name}": about for folder, (name, about) in self._files.items()}
        return dict(sorted(found.items()))

    def _folder(self, month: Month) -> str:
        place = self._lake.derived / f"table={month.table}/market={self._market}"
        folder = place / f"year={month.year}/month={month.month:02d}"
        return str(folder.relative_to(self._lake.root))
