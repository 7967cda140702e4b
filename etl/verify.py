"""Verify: whether every file of a lake is still what its records say, and what to do if not.

A batch's record has the size, hash and row count of each raw file, a market's state those of
its derived files, and a record beside the database those of the database.  A file that is
not what was recorded, or that no record speaks of, is wrong; ``repair`` moves it out of the
lake's way and writes down why, so that the rest keeps working.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow
import pyarrow.parquet

from etl import engine, records
from etl.errors import LakeError, TaskFailed, refusal
from etl.export import open_database
from etl.lake import Lake, fingerprint, make_folder, sync_folder, write_whole

__all__ = ["Wrong", "guarded", "refuse_wrong", "repair", "set_aside", "verify"]

_SET_ASIDE = "set-aside"

#: What a damaged file makes the engines raise, whichever of them meets it.
_BREAKS = (duckdb.Error, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


@dataclass(frozen=True)
class Wrong:
    """A file that is not what it should be."""

    path: str  # below the lake
    reason: str

    def line(self) -> str:
        """One line for a person."""
        return f"{self.path}: {self.reason}"


def verify(lake: Lake) -> tuple[int, list[Wrong]]:
    """Compare every file with its recorded size, hash and row count.

    Returns
    -------
    How many files were looked at, and what is wrong, raw files first.

    Raises
    ------
    LakeBusy
        Something is wrong, but a process is writing: that may be what is under way.
    LakeError
        A file cannot be read for a reason that lies outside of it.
    """
    lost = [Wrong(path, reason) for path, reason in lake.mend()]
    count, found = _compare(lake)
    if found:
        lake.refuse_writer()
        count, found = _compare(lake)  # what a writer had under way is in place now
    return count, [*lost, *found]


def refuse_wrong(lake: Lake, *, raw: bool = True, derived: bool = False) -> None:
    """Look at the names and sizes of all raw files, of the derived ones, or of both.

    Raises
    ------
    LakeError
        A file is gone, has another size than recorded, or is one that nothing brought.
    """
    wrong = list(_raw(lake, thorough=False)) if raw else []
    if derived:
        wrong += _derived(lake, thorough=False)
    if wrong:
        raise _refusal(lake, wrong)


@contextmanager
def guarded(lake: Lake) -> Iterator[None]:
    """Refuse a lake with wrong files, and name the one that broke the block, if one did.

    Raises
    ------
    LakeError
        A file of the lake is wrong, or the machine refused something.
    """
    refuse_wrong(lake)
    try:
        yield
    except (*_BREAKS, TaskFailed) as error:
        if refused := refusal(error):
            raise LakeError(f"cannot go on with the lake at {lake.root}: {refused}") from error
        _, wrong = _compare(lake)
        if wrong:
            tasks = f"{error.tasks}: " if isinstance(error, TaskFailed) else ""
            raise LakeError(f"{tasks}{_refusal(lake, wrong)}") from error
        raise


def repair(lake: Lake, now: datetime) -> list[Wrong]:
    """Set aside every raw and derived file that is wrong; the caller holds the write lock.

    A file goes to the same path under ``set-aside/``, with a record of the reason beside it.

    Raises
    ------
    LakeError
        A file cannot be read or moved for a reason that lies outside of it.
    """
    lake.mend()
    wrong_ones = [*_raw(lake, thorough=True), *_derived(lake, thorough=True)]
    # What a run before has set aside is gone, and its reason stands.
    aside = _aside(lake)
    found = [wrong for wrong in wrong_ones if wrong.path not in aside]
    landed = {file["path"]: (batch, file) for batch, file in _landed(lake)}
    merged = {path: (_brought(file, landed), file) for path, file in lake.merged().items()}
    for wrong in found:
        batch, file = {**landed, **merged}.get(wrong.path, ({}, {}))
        record = {
            "path": wrong.path,
            "reason": wrong.reason,
            "set_aside_at": now.isoformat(),
            **{name: file.get(name) for name in ("dataset", "market", "rows")},
            **{name: batch.get(name) for name in ("batch_id", "description", "payload_sha256")},
        }
        _set_aside(lake, wrong.path, record)
    return found


def set_aside(lake: Lake) -> list[str]:
    """A line for each landed file that was set aside and not brought back since.

    It is back when it stands in its place again, or when its payload has landed again.
    """
    reasons = sorted((lake.root / _SET_ASIDE).rglob("*.json"))
    landed = list(_landed(lake)) if reasons else []
    by_path = {file["path"]: batch for batch, file in landed}
    merged = lake.merged()
    lines = []
    for path in reasons:
        record = records.read(path, records.REASON)
        if record.get("batch_id") is None or (lake.root / record["path"]).exists():
            continue
        payloads = {record.get("payload_sha256")}
        if file := merged.get(record["path"]):
            if all((lake.root / one).exists() for one in file["landed"]):
                continue  # what it was merged from is there still
            payloads = {by_path[one]["payload_sha256"] for one in file["landed"]}
        again = payloads <= {
            batch["payload_sha256"]
            for batch, file in landed
            if batch["ingested_at"] >= record["set_aside_at"]
            and batch["batch_id"] != record["batch_id"]
            and file["dataset"] == record.get("dataset")
        }
        if not again:
            lines.append(
                f"{record.get('market')}: {record['rows'] or 0:,} rows of {record.get('dataset')} "
                f"are missing since {record['path']} was set aside: "
                f"land {record.get('description')} again"
            )
    return lines


def _aside(lake: Lake) -> set[str]:
    """The files that were set aside and in whose place none stands again."""
    names = lake.below(lake.root / _SET_ASIDE)
    reasons = [name.removeprefix(f"{_SET_ASIDE}/") for name in names if name.endswith(".json")]
    paths = {reason.removesuffix(".json") for reason in reasons}
    return {path for path in paths if not (lake.root / path).exists()}


def _set_aside(lake: Lake, path: str, record: Mapping[str, Any]) -> None:
    source, target = lake.root / path, lake.root / _SET_ASIDE / path
    write_whole(target.with_name(target.name + ".json"), json.dumps(record, indent=1) + "\n")
    if source.exists():
        try:
            make_folder(target.parent)
            os.replace(source, target)
            sync_folder(source.parent)
            sync_folder(target.parent)
        except OSError as error:
            raise LakeError(f"cannot set {source} aside: {error.strerror}") from error


def _refusal(lake: Lake, wrong: list[Wrong]) -> LakeError:
    more = f" and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
    return LakeError(
        f"{lake.root / wrong[0].path}: {wrong[0].reason}{more}: "
        "hydra verify names all, hydra check --repair sets them aside"
    )


def _compare(lake: Lake) -> tuple[int, list[Wrong]]:
    files = [path for folder in (lake.raw, lake.derived) for path in lake.below(folder)]
    count = sum(path.endswith(".parquet") for path in files) + lake.database.exists()
    found = [*_raw(lake, thorough=True), *_derived(lake, thorough=True), *_database(lake)]
    return count, found


def _landed(lake: Lake) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each raw file's entry in the record of the batch that brought it."""
    for batch in lake.each_batch():
        for file in batch["files"]:
            yield batch, file


def _brought(file: Mapping[str, Any], landed: Mapping[str, tuple[Any, Any]]) -> dict[str, str]:
    """What brought the rows of a merged file, as a batch's record would say it."""
    batches = {landed[path][0]["batch_id"]: landed[path][0] for path in file["landed"]}
    names = [batch["description"] for batch in batches.values()]
    return {"batch_id": Path(file["path"]).stem, "description": "; ".join(names)}


def _raw(lake: Lake, *, thorough: bool) -> Iterator[Wrong]:
    merged = lake.merged()
    # What a merged file holds too may be gone.
    newest = {str(Path(path).parent): path for path in merged}
    held = {path for file in merged.values() for path in file["landed"]}
    held |= merged.keys() - set(newest.values())
    aside = _aside(lake)

    def is_due(path: str) -> bool:
        return path not in aside and (path not in held or (lake.root / path).exists())

    known: set[str] = set()
    found: list[Wrong] = []
    rows: dict[str, tuple[str, int]] = {}  # of what was merged: batch and number
    for batch in lake.each_batch():  # held one by one
        due = {file["path"]: file for file in batch["files"] if is_due(file["path"])}
        found += _changed(lake, due, thorough)
        known.update(due)
        if thorough:
            merging = (file for file in batch["files"] if file["path"] in held)
            rows |= {file["path"]: (batch["batch_id"], file["rows"]) for file in merging}
    due = {path: file for path, file in merged.items() if is_due(path)}
    found += _changed(lake, due, thorough)
    known.update(due)
    yield from sorted(found, key=attrgetter("path"))
    yield from _foreign(lake, lake.raw, known, "no landing brought it")
    if thorough:
        sound = due.keys() - {one.path for one in found}
        for path in sorted(path for path in sound if lake.has(lake.root / path)):
            if not _holds(lake.root / path, [rows[one] for one in merged[path]["landed"]]):
                yield Wrong(path, "does not hold the rows of the files that it was merged from")


def _holds(path: Path, landed: Iterable[tuple[str, int]]) -> bool:
    """Whether a merged file has as many rows of each batch as the batches' records say."""
    recorded: Counter[str] = Counter()
    for batch_id, rows in landed:
        recorded[batch_id] += rows
    scan = pl.scan_parquet(path, hive_partitioning=False, glob=False)
    return dict(scan.group_by("batch_id").len().collect().iter_rows()) == recorded


def _derived(lake: Lake, *, thorough: bool) -> Iterator[Wrong]:
    known: set[str] = set()
    found: list[Wrong] = []
    for record in sorted(lake.state_record("*").parent.glob("*.json")):  # held one by one
        state = lake.state(record.stem)
        superseded = state.get("superseded", {}).items()  # of which none needs to be there
        expected = {path: about for path, about in superseded if (lake.root / path).exists()}
        expected |= state.get("tables", {})
        found += _changed(lake, expected, thorough)
        known.update(expected)
    found.sort(key=attrgetter("path"))
    for wrong in [*found, *_foreign(lake, lake.derived, known, "no derivation made it")]:
        yield Wrong(wrong.path, f"{wrong.reason}: hydra derive makes it anew")


def _changed(lake: Lake, expected: Mapping[str, Any], thorough: bool) -> Iterator[Wrong]:
    """The files that are not as recorded."""
    root = str(lake.root)
    for path, about in sorted(expected.items()):
        place = f"{root}/{path}"
        if reason := _difference(place, about, thorough and lake.has(Path(place))):
            yield Wrong(path, reason)


def _foreign(lake: Lake, folder: Path, known: Collection[str], reason: str) -> Iterator[Wrong]:
    """The Parquet files of a folder that no record speaks of."""
    there = (path for path in lake.below(folder) if path.endswith(".parquet"))
    yield from (Wrong(path, reason) for path in there if path not in known)


def _difference(path: str, about: Mapping[str, Any], thorough: bool) -> str | None:
    """What differs between a file and its record; ``None`` where nothing does."""
    try:
        size = os.path.getsize(path)
        recorded = about.get("bytes", size)  # the first lakes' records have no size
        if size != recorded:
            cut = "is cut off" if size < recorded else "has grown"
            return f"{cut}: {size:,} bytes where {recorded:,} were recorded"
        if not thorough:
            return None
        rows = pyarrow.parquet.read_metadata(path).num_rows
        if fingerprint(Path(path))["sha256"] != about["sha256"]:
            return "has changed since it was written"
        return None if rows == about["rows"] else f"has {rows:,} rows, not {about['rows']:,}"
    except FileNotFoundError:
        return "is gone"
    except (pyarrow.ArrowException, OSError) as error:
        if refused := refusal(error):
            raise LakeError(f"cannot read {path}: {refused}") from error
        return f"is damaged: {' '.join(str(error).split())}"


def _database(lake: Lake) -> Iterator[Wrong]:
    """What is wrong with the database, which the next build makes anew."""
    if reason := _database_difference(lake):
        yield Wrong(lake.database.name, f"{reason}: hydra build makes it anew")


def _database_difference(lake: Lake) -> str | None:
    if not lake.database.exists():
        return "is gone" if lake.database_record.exists() else None
    if not lake.database_record.exists():
        return "has no record"
    about = records.read(lake.database_record, records.DATABASE)
    if fingerprint(lake.database)["sha256"] != about["sha256"]:
        return "has changed since it was built"
    connection = open_database(lake.database)
    try:
        for name, rows in about["rows"].items():
            table = ".".join(map(engine.identifier, name.split(".")))
            ((found,),) = connection.sql(f"select count(*) from {table}").fetchall()
            if found != rows:
                return f"has {found:,} rows in {name}, not {rows:,}"
    finally:
        connection.close()
    return None
