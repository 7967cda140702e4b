"""Replay: a lake as it stood at an instant, by the market's clock, by this lake's, or by both.

Feature rows say what the market could know.  What a lake *had* follows from its raw rows, each of
which says when it landed: a lake of those rows alone, derived and built as of then, answers as
this one did, whatever came in later and whatever was derived anew because of it.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from etl.build import build
from etl.derive import derive
from etl.errors import BadInput
from etl.lake import MERGED, Lake, fingerprint, write_rows, write_whole
from etl.market import Market

__all__ = ["replay"]


def replay(
    lake: Lake,
    target: Lake,
    markets: Mapping[str, Market],
    *,
    known_at: datetime | None = None,
    had_at: datetime | None = None,
) -> int:
    """Fill ``target`` with what ``lake`` held by two clocks, one of them at least; build it.

    Parameters
    ----------
    lake : only read
    target : a lake that does not exist yet
    known_at : aware datetime, optional
        The market's clock: raw rows with ``available_at`` at or before it.
    had_at : aware datetime, optional
        The lake's clock: raw rows with ``ingested_at`` at or before it.

    Returns
    -------
    int
        Raw rows of the replayed lake.  Without any it has no database.

    Raises
    ------
    BadInput
        Something is at the target already, or there is no lake.
    """
    if (origin := lake.origin) is None:
        raise BadInput(f"there is no lake at {lake.root}: name one with --lake")
    if target.root.exists() and any(target.root.iterdir()):
        raise BadInput(f"{target.root} is not empty: name a folder that does not exist yet")
    bounds = {"available_at": known_at, "ingested_at": had_at}
    given = {column: instant for column, instant in bounds.items() if instant is not None}
    now = min(given.values())
    target.claim(origin)
    with target.writing(now):
        batches = lake.batch_records()
        landed_in = _first_files(batches)
        kept: dict[str, int] = {}
        for path in lake.raw_files():
            name = str(path.relative_to(lake.root))
            if path.name.startswith(MERGED):
                kept |= _split(path, target, landed_in[str(Path(name).parent)], given)
            elif rows := _copy(path, target.root / name, given):
                kept[name] = rows
        for record in batches:
            _keep(record, kept, target)
        for code in target.markets():
            derive(target, markets[code], now)
        if kept:
            build(target, dict(markets), now)
    return sum(kept.values())


def _copy(path: Path, place: Path, bounds: Mapping[str, datetime]) -> int:
    """Copy a raw file's rows that lie within the bounds; how many those are."""
    rows = pl.read_parquet(path, hive_partitioning=False, glob=False)
    within = rows.filter(*(pl.col(column) <= instant for column, instant in bounds.items()))
    if within.height:
        place.parent.mkdir(parents=True, exist_ok=True)
        if within.height == rows.height:
            shutil.copyfile(path, place)
        else:
            within.write_parquet(place)
    return within.height


def _first_files(batches: Iterable[Mapping[str, Any]]) -> Mapping[str, Mapping[str, str]]:
    """Folder → batch → the first file that it brought there."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for batch in batches:
        for file in batch["files"]:
            found[str(Path(file["path"]).parent)].setdefault(batch["batch_id"], file["path"])
    return found


def _split(
    path: Path, target: Lake, landed_in: Mapping[str, str], bounds: Mapping[str, datetime]
) -> dict[str, int]:
    """Copy a merged file's rows that lie within the bounds, as files of the batches they are of."""
    rows = pl.read_parquet(path, hive_partitioning=False, glob=False)
    within = rows.filter(*(pl.col(column) <= instant for column, instant in bounds.items()))
    kept = {}
    for (batch_id,), part in within.partition_by("batch_id", as_dict=True).items():
        name = landed_in[str(batch_id)]
        write_rows(target.root / name, part)
        kept[name] = part.height
    return kept


def _keep(record: Mapping[str, object], kept: Mapping[str, int], target: Lake) -> None:
    """Write a batch's record with what is kept of it, if anything is."""
    files = []
    for file in record["files"]:  # type: ignore[attr-defined]
        if rows := kept.get(file["path"]):
            files.append({**file, "rows": rows, **fingerprint(target.root / file["path"])})
    if files:
        whole = {**record, "files": files, "rows": sum(file["rows"] for file in files)}
        text = json.dumps(whole, indent=1, sort_keys=True) + "\n"
        write_whole(target.batches / f"{record['batch_id']}.json", text)
