"""The stored months of one market's derived tables: read, staged anew, and changed at once.

``derived/state/<market>.json`` says what they were derived from, and the size, hash and rows
of each file, which ``hydra verify`` compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from etl.lake import Lake, write_rows, write_whole

__all__ = ["Months"]


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

    def read(self, table: str, year: int, month: int) -> pl.DataFrame | None:
        """The rows of a month, with what this run has staged of it already."""
        place = self._place(table, year, month)
        path = self._staged.get(place, place)
        if path is place and str(place.relative_to(self._lake.root)) not in self._files:
            return None
        self._lake.fetch([path])
        return pl.read_parquet(path, hive_partitioning=False, glob=False)

    def write(self, table: str, year: int, month: int, rows: pl.DataFrame) -> None:
        """Stage the rows of a month."""
        place = self._place(table, year, month)
        staged = self._staging / f"{table}-{year}-{month:02d}.parquet"
        self._files[str(place.relative_to(self._lake.root))] = write_rows(staged, rows)
        self._staged[place] = staged

    def commit(self, state: dict[str, Any]) -> None:
        """Put what is staged in place, with the record of what it was derived from."""
        moves = {staged: place for place, staged in self._staged.items()}
        stored = self._lake.derived.glob(f"table=*/market={self._market}/year=*/month=*/*.parquet")
        gone = (p for p in sorted(stored) if str(p.relative_to(self._lake.root)) not in self._files)
        for number, path in enumerate(gone):
            moves[path] = self._staging / "gone" / str(number)
        record = self._staging / "state.json"
        tables = dict(sorted(self._files.items()))
        write_whole(record, json.dumps({**state, "tables": tables}, indent=1) + "\n")
        moves[record] = self._lake.state_record(self._market)
        self._lake.commit(self._staging.name, moves)

    def _place(self, table: str, year: int, month: int) -> Path:
        folder = self._lake.derived / f"table={table}/market={self._market}"
        return folder / f"year={year}/month={month:02d}/rows.parquet"
