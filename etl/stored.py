"""The stored months of one market's derived tables: read, staged anew, and changed at once.

``derived/state/<market>.json`` says what they were derived from, and the size, hash and rows
of each file, which ``hydra verify`` compares.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

from etl.lake import Lake, write_rows, write_whole

__all__ = ["Month", "Months", "Staged", "stage"]


@dataclass(frozen=True, order=True)
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
        folder = lake.staging / f"derived-{market}-{uuid4().hex[:8]}"
        self.staging = str(folder.relative_to(lake.root))
        self._files: dict[str, dict[str, Any]] = {}  # path below the lake → its fingerprint, rows
        self._staged: dict[Path, Path] = {}  # place → staged file
        self.state = lake.state(market)
        self._files |= self.state.get("tables", {})

    def is_whole(self) -> bool:
        """Whether each stored file is there in its recorded size."""
        sizes = {path: about["bytes"] for path, about in self._files.items()}
        return all(
            (place := self._lake.root / path).exists() and place.stat().st_size == size
            for path, size in sizes.items()
        )

    def forget(self) -> None:
        """Begin anew: what is stored and not written again vanishes with the commit."""
        self.state, self._files = {}, {}

    def files(self, months: Collection[tuple[int, int]]) -> dict[Month, str]:
        """The stored files of some months, (year, month), by path below the lake."""
        found = {}
        for path in self._files:
            table, _, year, month = (part.split("=")[1] for part in Path(path).parts[-5:-1])
            if (int(year), int(month)) in months:
                found[Month(table, int(year), int(month))] = path
        return found

    def put(self, staged: Staged) -> None:
        """Take a staged file for its month."""
        place = self._place(staged.month)
        self._files[str(place.relative_to(self._lake.root))] = dict(staged.about)
        self._staged[place] = self._lake.root / staged.path

    def commit(self, state: dict[str, Any]) -> None:
        """Put what is staged in place, with the record of what it was derived from."""
        moves = {staged: place for place, staged in sorted(self._staged.items())}
        stored = self._lake.derived.glob(f"table=*/market={self._market}/year=*/month=*/*.parquet")
        gone = (p for p in sorted(stored) if str(p.relative_to(self._lake.root)) not in self._files)
        folder = self._lake.root / self.staging
        for number, path in enumerate(gone):
            moves[path] = folder / "gone" / str(number)
        record = folder / "state.json"
        tables = dict(sorted(self._files.items()))
        write_whole(record, json.dumps({**state, "tables": tables}, indent=1) + "\n")
        moves[record] = self._lake.state_record(self._market)
        self._lake.commit(folder.name, moves)

    def _place(self, month: Month) -> Path:
        folder = self._lake.derived / f"table={month.table}/market={self._market}"
        return folder / f"year={month.year}/month={month.month:02d}/rows.parquet"


def stage(lake: Lake, folder: str, month: Month, rows: pl.DataFrame) -> Staged:
    """Write a month's rows below ``folder``, under a name that no other try of them has."""
    name = f"{month.table}-{month.year}-{month.month:02d}-{uuid4().hex[:8]}.parquet"
    path = f"{folder}/{name}"
    return Staged(month, path, write_rows(lake.root / path, rows))
