"""The stored months of one market's derived tables: read, staged anew, and changed at once.

A file is named by its content and never changed: a month that is derived anew is another file,
and an unchanged one stays.  ``derived/state/<market>.json`` says which files are in force and
what they were derived from, with the size, hash and rows of each file, which ``hydra verify``
compares.  It also lists what was superseded and when: a database that was built before shows
those files, so that they stay for its readers until ``KEPT`` later.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from etl.lake import Lake, write_rows, write_whole

__all__ = ["KEPT", "Months", "derived_files"]

#: How long a superseded file stays, for readers with an older database open.
KEPT = timedelta(days=7)


def derived_files(lake: Lake, table: str) -> list[Path]:
    """The months in force of a derived table, all markets, in a stable order."""
    folder = f"derived/table={table}/"
    states = [lake.state(path.stem) for path in lake.state_record("*").parent.glob("*.json")]
    paths = (path for state in states for path in state.get("tables", ()))
    return sorted(lake.root / path for path in paths if path.startswith(folder))


class Months:
    """What is stored of a market, and what a run is about to put in its place.

    Attributes
    ----------
    state : what the last run left as its record; empty where there was none
    """

    def __init__(self, lake: Lake, market: str) -> None:
        self._lake = lake
        self._market = market
        self._staging = lake.staging / f"derived-{market}"
        self.state = lake.state(market)
        # Folder of a month below the lake → its file there, with fingerprint and rows.
        self._files: dict[str, tuple[str, dict[str, Any]]] = {}
        for path, about in self.state.get("tables", {}).items():
            folder, _, name = path.rpartition("/")
            self._files[folder] = name, about
        self._before = self._in_force()
        self._superseded: dict[str, dict[str, Any]] = self.state.get("superseded", {})
        self._staged: dict[str, Path] = {}  # folder → staged file

    def is_whole(self) -> bool:
        """Whether each file in force is there in its recorded size."""
        return all(self._is_there(path, about) for path, about in self._in_force().items())

    def forget(self) -> None:
        """Begin anew: what is stored and not written again is superseded with the commit."""
        self.state, self._files = {}, {}

    def read(self, table: str, year: int, month: int) -> pl.DataFrame | None:
        """The rows of a month, with what this run has staged of it already."""
        folder = self._folder(table, year, month)
        if folder not in self._files:
            return None
        stored = self._lake.root / folder / self._files[folder][0]
        path = self._staged.get(folder, stored)
        self._lake.fetch([path])
        return pl.read_parquet(path, hive_partitioning=False, glob=False)

    def write(self, table: str, year: int, month: int, rows: pl.DataFrame) -> None:
        """Stage the rows of a month, unless the file in force has them."""
        folder = self._folder(table, year, month)
        staged = self._staging / f"{table}-{year}-{month:02d}.parquet"
        about = write_rows(staged, rows)
        file = f"rows-{about['sha256'][:16]}.parquet", about
        if self._files.get(folder) == file and folder not in self._staged:
            staged.unlink()
            return
        self._files[folder] = file
        self._staged[folder] = staged

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
            for folder, staged in self._staged.items()
        }
        stored = self._lake.derived.glob(f"table=*/market={self._market}/year=*/month=*/*.parquet")
        names = (str(path.relative_to(self._lake.root)) for path in sorted(stored))
        gone = [name for name in names if name not in tables and name not in superseded]
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
        place = self._lake.root / path
        return place.exists() and place.stat().st_size == about["bytes"]

    def _in_force(self) -> dict[str, dict[str, Any]]:
        """Path below the lake → size, hash and rows of each file."""
        found = {f"{folder}/{name}": about for folder, (name, about) in self._files.items()}
        return dict(sorted(found.items()))

    def _folder(self, table: str, year: int, month: int) -> str:
        place = self._lake.derived / f"table={table}/market={self._market}"
        return str((place / f"year={year}/month={month:02d}").relative_to(self._lake.root))
