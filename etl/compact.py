"""Compact: the many small files that daily runs leave of a month become one, and lose no row.

A merged file holds the rows of the files that it was made from as they are, with when they were
landed and by which batch.  It takes their place at the moment at which it appears
(``Lake.raw_files``); a record under ``compactions/`` says which they were, and the batches'
records keep the hash and the rows of each, so that ``hydra verify`` proves one by the others.
The small files stay for the readers of a database that was built before, and go with a later
compaction: when the last build knows the merged ones and ``KEPT`` is over.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from etl.errors import LakeError
from etl.lake import (
    MERGED,
    Lake,
    after,
    fingerprint,
    landed_at,
    month_of,
    stamp,
    write_rows,
    write_whole,
)
from etl.stored import KEPT

__all__ = ["CLOSED", "Compacted", "compact"]

#: How long after a month's end its files are left alone: the last of its values come late.
CLOSED = timedelta(days=7)


@dataclass(frozen=True)
class Compacted:
    """What a run did."""

    months: int  # of a dataset and a market, each one file now
    merged: int  # files that these were made from
    before: int  # bytes of them
    after: int  # bytes of the merged ones
    removed: int  # small files of earlier runs that went
    waiting: tuple[str, ...]  # markets of which something is not derived yet, and was left alone

    def line(self) -> str:
        """One line for a person."""
        return (
            f"{self.merged:,} files of {self.months:,} months in {self.months:,}, "
            f"{self.before:,} bytes in {self.after:,}; {self.removed:,} old ones removed"
        )


def compact(lake: Lake, now: datetime, markets: Collection[str] = ()) -> Compacted:
    """Merge the raw files of each closed month of each dataset and market, all of them at once.

    The caller holds the write lock.

    Parameters
    ----------
    now : aware datetime
        The run's instant.
    markets : only these; all by default

    Raises
    ------
    LakeError
        A file cannot be read or written, or a merged file is not what was recorded.
    """
    codes = [code for code in lake.markets() if not markets or code in markets]
    chosen, waiting = _chosen(lake, now, codes)
    names = [landed_at(path.name) for paths in chosen for path in paths]
    before = (after(path.stem) for path in lake.compactions.glob("*.json"))
    at = max([stamp(now), *names, *before])
    staging = lake.staging / f"compact-{at}"
    moves: dict[Path, Path] = {}
    files: list[dict[str, Any]] = []
    try:
        landed = {path: file["landed"] for path, file in lake.merged().items()}
        for number, paths in enumerate(chosen):
            staged = staging / f"{number}.parquet"
            files.append(_merge(lake, paths, staged, at, landed))
            moves[staged] = lake.root / files[-1]["path"]
        removed = _superseded(lake, now, codes)
        for number, path in enumerate(removed):
            moves[path] = staging / "gone" / str(number)
        if files:
            record = staging / "record.json"
            about = {"compacted_at": now.isoformat(), "files": files}
            write_whole(record, json.dumps(about, indent=1, sort_keys=True) + "\n")
            states = _states(lake, codes, files, staging)
            moves |= {**states, record: lake.compactions / f"{at}.json"}
        size = sum(path.stat().st_size for paths in chosen for path in paths)
        if moves:
            lake.commit(staging.name, moves)
    except OSError as error:
        raise LakeError(f"cannot write to the lake at {lake.root}: {error.strerror}") from error
    return Compacted(
        months=len(chosen),
        merged=sum(map(len, chosen)),
        before=size,
        after=sum(file["bytes"] for file in files),
        removed=len(removed),
        waiting=waiting,
    )


def _chosen(
    lake: Lake, now: datetime, codes: Iterable[str]
) -> tuple[list[list[Path]], tuple[str, ...]]:
    """The files of each month that is to be merged, and the markets that have to be derived first.

    What is not derived yet keeps its files: derive goes by their names.
    """
    chosen, waiting = [], []
    for code in codes:
        months: dict[Path, list[Path]] = defaultdict(list)
        for path in lake.raw_files(market=code):
            months[path.parent].append(path)
        derived = lake.state(code).get("files")
        many = [paths for paths in months.values() if len(paths) > 1 and _is_closed(paths[0], now)]
        ready = [paths for paths in many if derived is None or _names(lake, paths) <= {*derived}]
        chosen += ready
        if len(ready) < len(many):
            waiting.append(code)
    return chosen, tuple(waiting)


def _is_closed(path: Path, now: datetime) -> bool:
    first = month_of(str(path))
    after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return now.date() >= after + CLOSED


def _names(lake: Lake, paths: Iterable[Path]) -> set[str]:
    return {str(path.relative_to(lake.root)) for path in paths}


def _merge(
    lake: Lake, paths: list[Path], staged: Path, at: str, landed: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Write the rows of a month's files as one; what the record says of it.

    ``landed`` are the files that each one merged before stands for.
    """
    lake.fetch(paths)
    rows = pl.concat(pl.read_parquet(path, hive_partitioning=False, glob=False) for path in paths)
    rows = rows.sort("available_at", maintain_order=True)
    about = write_rows(staged, rows)
    folder = paths[0].parent
    place = folder / f"{MERGED}{at}-{about['sha256'][:12]}.parquet"
    dataset, market = (part.partition("=")[2] for part in folder.relative_to(lake.raw).parts[:2])
    return {
        "path": str(place.relative_to(lake.root)),
        "dataset": dataset,
        "market": market,
        "first_available_at": rows["available_at"][0].isoformat(),
        "last_available_at": rows["available_at"][-1].isoformat(),
        "landed": sorted(one for name in _names(lake, paths) for one in landed.get(name, [name])),
        **about,
    }


def _states(
    lake: Lake, codes: Iterable[str], files: list[dict[str, Any]], staging: Path
) -> dict[Path, Path]:
    """Each market's state with the merged files in place of theirs: nothing is derived anew."""
    moves = {}
    for code in codes:
        state = lake.state(code)
        new = [file for file in files if file["market"] == code]
        if not state or not new:
            continue
        folders = {str(Path(file["path"]).parent) for file in new}
        kept = [name for name in state["files"] if str(Path(name).parent) not in folders]
        state = {**state, "files": sorted([*kept, *(file["path"] for file in new)])}
        staged = staging / f"state-{code}.json"
        write_whole(staged, json.dumps(state, indent=1) + "\n")
        moves[staged] = lake.state_record(code)
    return moves


def _superseded(lake: Lake, now: datetime, codes: Collection[str]) -> list[Path]:
    """The files that nobody reads any more, their rows proved to be in a merged one.

    Raises
    ------
    LakeError
        A merged file is not what was recorded.
    """
    built_at = lake.built_at()
    newest = {}  # folder → the entry of its newest merged file, and when that was made
    for record in lake.compaction_records():
        at = datetime.fromisoformat(record["compacted_at"])
        for file in record["files"]:
            newest[(lake.root / file["path"]).parent] = file, at
    found = []
    for folder, (file, at) in sorted(newest.items()):
        if file["market"] not in codes or now - at <= KEPT or (built_at and built_at <= at):
            continue
        held = lake.root / file["path"]
        old = [
            path
            for path in sorted(folder.glob("*.parquet"))
            if path != held and landed_at(path.name) <= landed_at(held.name)
        ]
        lake.fetch([held] if old else [])
        if old and fingerprint(held)["sha256"] != file["sha256"]:
            raise LakeError(f"{held}: has changed since it was written: hydra verify")
        found += old
    return found
