"""Land what a source made of one vendor payload: append-only, idempotent, whole or not at all.

A row that the lake already has is not landed again, whatever file it comes in.  For the
CFTC's reports, which are downloaded again and again, a row that differs from the newest
vintage of its report is a new vintage, known from the instant at which this lake saw it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from etl.errors import LakeError, printable, refusal
from etl.lake import Lake, after, stamp, write_rows, write_whole
from etl.schemas import COMMON, COT_DATASETS, HIVE_SCHEMA, LINEAGE, UTC, raw_schema, source_schema
from etl.sources import Payload

_PARTITION = ["market", "year", "month"]

_Frame = tuple[str, pl.DataFrame]


@dataclass(frozen=True, slots=True)
class _Staged:
    """A file that is not committed yet, and the span of its rows' ``available_at``."""

    path: Path
    place: Path
    first: datetime
    last: datetime


@dataclass
class Landed:
    """What one payload brought."""

    description: str
    rows: Counter[str] = field(default_factory=Counter)  # dataset → rows appended
    known: Counter[str] = field(default_factory=Counter)  # dataset → rows the lake had already
    left_out: Counter[str] = field(default_factory=Counter)  # reason → rows
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for a person."""
        parts = [f"{rows:,} rows of {name}" for name, rows in sorted(self.rows.items())]
        if known := sum(self.known.values()):
            parts.append(f"{known:,} already there")
        parts += [f"{rows:,} left out ({why})" for why, rows in sorted(self.left_out.items())]
        said = ", ".join([*parts, *self.notes]) or "nothing new"
        return printable(f"{self.description}: {said}")


def land(lake: Lake, payload: Payload, now: datetime, origin: str) -> Landed:
    """Append the new rows of ``payload`` to the lake; the caller holds the write lock.

    Parameters
    ----------
    now : aware datetime
        The run's instant: it becomes ``ingested_at``, and ``available_at`` of a revision.
    origin : {"sample", "vendor"}
        A lake holds data of one origin only.

    Raises
    ------
    BadInput
        The payload is not what it claims: nothing of it lands.
    LakeError
        The lake is of the other origin, or cannot be written.
    """
    lake.claim(origin)
    batch_id = _batch_id(lake, payload, now)
    staging = lake.staging / batch_id
    landed = Landed(payload.description)
    staged: list[_Staged] = []
    record_files: list[dict[str, object]] = []
    try:
        for dataset, frame in _ahead(payload.frames):
            if frame.schema != source_schema(dataset):
                raise LakeError(
                    f"{payload.source} gave {dataset} in another schema than the lake's"
                )
            landed.known[dataset] += frame.height
            if dataset in COT_DATASETS:
                frame = _fresh_reports(lake, dataset, frame, now)
            for (market, year, month), rows in _partitions(frame):
                folder = lake.partition(dataset, market, year, month)
                lake.fetch(folder.glob("*.parquet"))
                fresh = _fresh(folder, rows, staged)
                if fresh.is_empty():
                    continue
                number = len(staged)
                file = _Staged(
                    staging / f"{dataset}-{number}.parquet",
                    folder / f"{batch_id}-{number}.parquet",
                    *_span(fresh),
                )
                about = _write(fresh, now, batch_id, file.path)
                staged.append(file)
                landed.rows[dataset] += fresh.height
                landed.known[dataset] -= fresh.height
                record_files.append(
                    {
                        "path": str(file.place.relative_to(lake.root)),
                        "dataset": dataset,
                        "market": market,
                        "first_available_at": file.first.isoformat(),
                        "last_available_at": file.last.isoformat(),
                        **about,
                    }
                )
        landed.left_out.update(payload.left_out)
        landed.notes += payload.notes
        if staged or payload.cost_usd:  # what was paid for is recorded, whatever it brought
            record = {
                "batch_id": batch_id,
                "source": payload.source,
                "description": payload.description,
                "payload_sha256": payload.sha256,
                "ingested_at": now.isoformat(),
                "rows": sum(landed.rows.values()),
                "kind": payload.kind,
                "layout": payload.layout,
                "left_out": dict(landed.left_out),
                "cost_usd": payload.cost_usd,
                "files": record_files,
            }
            written = staging / "record.json"
            write_whole(written, json.dumps(record, indent=1, sort_keys=True) + "\n")
            moves = {file.path: file.place for file in staged}
            lake.commit(batch_id, {**moves, written: lake.batches / f"{batch_id}.json"})
    except OSError as error:
        reason = error.strerror or refusal(error) or error
        raise LakeError(f"cannot write to the lake at {lake.root}: {reason}") from error
    return landed


def _batch_id(lake: Lake, payload: Payload, now: datetime) -> str:
    """A name that no batch has yet: one payload may bring more in a second run of one instant.

    It comes after that of the last compaction, which stands for all that had landed by then.
    """
    compacted = (after(path.stem) for path in lake.compactions.glob("*.json"))
    at = max([stamp(now), *compacted])
    stem = f"{at}-{payload.sha256[:12]}"
    names = chain([stem], (f"{stem}-{number}" for number in count(2)))
    return next(name for name in names if not (lake.batches / f"{name}.json").exists())


def _ahead(frames: Iterator[_Frame]) -> Iterator[_Frame]:
    """The same frames; the next one is made while one is being landed."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        coming = worker.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = worker.submit(next, frames, None)
            yield frame


def _write(rows: pl.DataFrame, now: datetime, batch_id: str, path: Path) -> dict[str, Any]:
    """Write rows with their lineage; what the batch's record says of the file."""
    stamped = rows.with_columns(
        pl.lit(now).cast(LINEAGE["ingested_at"]).alias("ingested_at"),
        pl.lit(batch_id).alias("batch_id"),
    )
    if not stamped["available_at"].is_sorted():  # as a vendor's stream is
        stamped = stamped.sort("available_at", maintain_order=True)
    return write_rows(path, stamped)


def _partitions(frame: pl.DataFrame) -> list[tuple[tuple[Any, ...], pl.DataFrame]]:
    """The rows of each (market, year, month), without these columns."""
    if frame.height and (alone := _only_partition(frame)):
        return [(alone, frame.drop("market"))]
    months = frame.with_columns(
        pl.col("as_of").dt.year().alias("year"), pl.col("as_of").dt.month().alias("month")
    )
    parts = months.partition_by(_PARTITION, as_dict=True, include_key=False, maintain_order=True)
    return sorted(parts.items())


def _only_partition(frame: pl.DataFrame) -> tuple[str, int, int] | None:
    """The (market, year, month) that all rows are of, as most chunks of a file are."""
    market, first, last, others = frame.select(
        pl.col("market").first(),
        pl.col("as_of").min().alias("first"),
        pl.col("as_of").max().alias("last"),
        (pl.col("market") != pl.col("market").first()).any().alias("others"),
    ).row(0)
    if others or (first.year, first.month) != (last.year, last.month):
        return None
    return market, first.year, first.month


def _fresh(folder: Path, rows: pl.DataFrame, staged: list[_Staged]) -> pl.DataFrame:
    """The rows that neither the folder nor this batch has yet, each once."""
    # Hashes are quick, and equal rows have one; texts take longest and seldom tell rows apart.
    if rows.drop(cs.string()).hash_rows().n_unique() < rows.height:
        rows = rows.unique(maintain_order=True)
    first, last = _span(rows)
    paths = sorted(folder.glob("*.parquet"))
    paths += [
        file.path
        for file in staged
        if file.place.parent == folder and file.first <= last and first <= file.last
    ]
    if not paths:
        return rows
    known = (
        pl.scan_parquet(paths, hive_partitioning=False, glob=False)
        .filter(pl.col("available_at").is_between(first, last))
        .select(rows.columns)
        .collect()
    )
    if known.is_empty():
        return rows
    return rows.join(known, on=rows.columns, how="anti", nulls_equal=True, maintain_order="left")


def _span(rows: pl.DataFrame) -> tuple[datetime, datetime]:
    """First and last instant at which a row became available; there is at least one."""
    first, last = rows.select(
        pl.col("available_at").min().alias("first"), pl.col("available_at").max().alias("last")
    ).row(0)
    return first, last


def _fresh_reports(lake: Lake, dataset: str, frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """COT rows that differ from the newest vintage of their report, stamped with when seen."""
    key = ["market", "report", "report_date"]
    values = [c for c in frame.columns if c not in {*key, *COMMON, "release_estimated"}]
    frame = frame.unique(key, keep="last", maintain_order=True)
    # All vintages of a report lie in the month of its as_of, which follows from its date.
    folders = [lake.partition(dataset, *month) for month, _ in _partitions(frame)]
    paths = [path for folder in folders for path in sorted(folder.glob("*.parquet"))]
    if not paths:
        return frame
    lake.fetch(paths)
    newest = (
        pl.read_parquet(paths, glob=False, hive_partitioning=True, hive_schema=HIVE_SCHEMA)
        .select(list(raw_schema(dataset)))
        .sort("available_at", "ingested_at")
        .unique(key, keep="last", maintain_order=True)
    )
    fresh = frame.join(
        newest, on=[*key, *values], how="anti", nulls_equal=True, maintain_order="left"
    )
    before = newest.select(*key, pl.col("available_at").alias("before"))
    seen = fresh.join(before, on=key, how="left", maintain_order="left")
    # Vintages stay in order even where the clock was set back since the last one.
    after = pl.max_horizontal(
        "available_at", pl.lit(now).cast(UTC), pl.col("before") + pl.duration(microseconds=1)
    )
    return seen.with_columns(
        pl.when(pl.col("before").is_null())
        .then("available_at")
        .otherwise(after)
        .alias("available_at")
    ).select(frame.columns)
