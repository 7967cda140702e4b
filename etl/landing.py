"""Land what a source made of one vendor payload: append-only, idempotent, whole or not at all.

A row that the lake already has is not landed again, whatever file it comes in.  For the
CFTC's reports, which are downloaded again and again, a row that differs from the newest
vintage of its report is a new vintage, known from the instant at which this lake saw it.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, count
from pathlib import Path

import polars as pl

from etl.errors import LakeError, printable
from etl.lake import HIVE_SCHEMA, Lake
from etl.schemas import COMMON, LINEAGE, UTC, raw_schema, source_schema
from etl.sources import Payload

_PARTITION = ["market", "year", "month"]


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
    files: dict[Path, Path] = {}
    record_files: list[dict[str, object]] = []
    try:
        for dataset, frame in payload.frames:
            if frame.schema != source_schema(dataset):
                raise LakeError(
                    f"{payload.source} gave {dataset} in another schema than the lake's"
                )
            fresh = _fresh(lake, dataset, frame, now, files)
            landed.known[dataset] += frame.height - fresh.height
            for (market, year, month), rows in _partitions(fresh, now, batch_id):
                number = len(files)
                staged = staging / f"{dataset}-{number}.parquet"
                place = (
                    lake.partition(dataset, market, year, month) / f"{batch_id}-{number}.parquet"
                )
                _write(rows, staged)
                files[staged] = place
                landed.rows[dataset] += rows.height
                record_files.append(
                    {
                        "path": str(place.relative_to(lake.root)),
                        "dataset": dataset,
                        "market": market,
                        "rows": rows.height,
                        "sha256": hashlib.sha256(staged.read_bytes()).hexdigest(),
                    }
                )
        landed.left_out.update(payload.left_out)
        landed.notes += payload.notes
        if files:
            record = {
                "batch_id": batch_id,
                "source": payload.source,
                "description": payload.description,
                "payload_sha256": payload.sha256,
                "ingested_at": now.isoformat(),
                "rows": sum(landed.rows.values()),
                "left_out": dict(landed.left_out),
                "files": record_files,
            }
            lake.commit(batch_id, record, files)
    except OSError as error:
        raise LakeError(f"cannot write to the lake at {lake.root}: {error.strerror}") from error
    return landed


def _batch_id(lake: Lake, payload: Payload, now: datetime) -> str:
    """A name that no batch has yet: one payload may bring more in a second run of one instant."""
    stem = f"{now:%Y%m%dT%H%M%S%fZ}-{payload.sha256[:12]}"
    names = chain([stem], (f"{stem}-{number}" for number in count(2)))
    return next(name for name in names if not (lake.batches / f"{name}.json").exists())


def _write(rows: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as handle:
        rows.write_parquet(handle, compression="zstd", statistics=True)
        handle.flush()
        os.fsync(handle.fileno())


def _partitions(
    frame: pl.DataFrame, now: datetime, batch_id: str
) -> Iterator[tuple[tuple[str, int, int], pl.DataFrame]]:
    stamped = frame.with_columns(
        pl.lit(now).cast(LINEAGE["ingested_at"]).alias("ingested_at"),
        pl.lit(batch_id).alias("batch_id"),
        pl.col("as_of").dt.year().alias("year"),
        pl.col("as_of").dt.month().alias("month"),
    )
    parts = stamped.partition_by(_PARTITION, as_dict=True, include_key=True, maintain_order=True)
    for (market, year, month), rows in sorted(parts.items()):
        yield (market, year, month), rows.drop(_PARTITION).sort("available_at", maintain_order=True)


def _fresh(
    lake: Lake, dataset: str, frame: pl.DataFrame, now: datetime, files: dict[Path, Path]
) -> pl.DataFrame:
    """The rows of ``frame`` that neither the lake nor this batch has yet, each once."""
    frame = frame.unique(maintain_order=True)
    if frame.is_empty():
        return frame
    if dataset == "cot":
        return _fresh_reports(lake, frame, now)
    known = _known(lake, dataset, frame, files)
    if known is None:
        return frame
    return frame.join(
        known, on=list(frame.columns), how="anti", nulls_equal=True, maintain_order="left"
    )


def _known(
    lake: Lake, dataset: str, frame: pl.DataFrame, files: dict[Path, Path]
) -> pl.DataFrame | None:
    """Rows of the months and instants that ``frame`` touches, landed or staged."""
    months = frame.select(
        "market", pl.col("as_of").dt.year().alias("year"), pl.col("as_of").dt.month().alias("month")
    ).unique()
    first, last = frame["available_at"].min(), frame["available_at"].max()
    found: list[pl.DataFrame] = []
    for market, year, month in months.sort(_PARTITION).iter_rows():
        folder = lake.partition(dataset, market, year, month)
        paths = sorted(folder.glob("*.parquet"))
        paths += [staged for staged, place in files.items() if place.parent == folder]
        if paths:
            found.append(
                pl.scan_parquet(paths, hive_partitioning=False, glob=False)
                .filter(pl.col("available_at").is_between(first, last))
                .with_columns(pl.lit(market).alias("market"))
                .select(frame.columns)
                .collect()
            )
    return pl.concat(found) if found else None


def _fresh_reports(lake: Lake, frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """COT rows that differ from the newest vintage of their report, stamped with when seen."""
    key = ["market", "report", "report_date"]
    values = [c for c in frame.columns if c not in {*key, *COMMON, "release_estimated"}]
    frame = frame.unique(key, keep="last", maintain_order=True)
    paths = [p for m in frame["market"].unique().sort() for p in lake.raw_files("cot", m)]
    if not paths:
        return frame
    newest = (
        pl.read_parquet(paths, glob=False, hive_partitioning=True, hive_schema=HIVE_SCHEMA)
        .select(list(raw_schema("cot")))
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
