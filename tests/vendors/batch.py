"""Databento's batch jobs: queued, split into files, downloaded with resumption."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from tests.vendors.archive import DATASET, Selection
from tests.vendors.wire import Answer, Request

__all__ = ["Jobs"]

_USER = "SAMPLE01"
#: A job moves on by one state each time that it is looked at.
_STATES = ("received", "queued", "processing", "done")
_STAMP = "%Y-%m-%dT%H:%M:%S.000000000Z"
_DAY = timedelta(days=1)


class Jobs:
    """The jobs of the one account, the first of them submitted at ``since``."""

    def __init__(self, since: datetime) -> None:
        self._since = since
        self._jobs: dict[str, dict[str, Any]] = {}
        self._files: dict[str, dict[str, bytes]] = {}
        self._lock = threading.Lock()

    def submit(self, form: Mapping[str, str], selection: Selection, cost: float) -> dict[str, Any]:
        """Take a job in: its cost is due from now on."""
        with self._lock:
            at = self._since + timedelta(seconds=len(self._jobs))
            number = hashlib.sha256(f"{len(self._jobs)}".encode()).hexdigest()[:10].upper()
            job_id = f"GLBX-{at:%Y%m%d}-{number}"
            files = _files(form, selection)
            self._files[job_id] = files
            self._jobs[job_id] = {
                "id": job_id,
                "user_id": _USER,
                "api_key": None,
                "cost_usd": cost,
                "dataset": DATASET,
                "symbols": form["symbols"],
                "stype_in": form["stype_in"],
                "stype_out": form["stype_out"],
                "schema": form["schema"],
                "start": _stamp(selection.start),
                "end": _stamp(selection.end),
                "limit": selection.limit,
                "encoding": form["encoding"],
                "compression": form.get("compression", "none"),
                "pretty_px": False,
                "pretty_ts": False,
                "map_symbols": False,
                "split_symbols": False,
                "split_duration": form.get("split_duration", "day"),
                "split_size": None,
                "packaging": None,
                "delivery": "download",
                "record_count": len(selection.records),
                "billed_size": selection.size,
                "actual_size": sum(map(len, files.values())),
                "package_size": sum(map(len, files.values())),
                "state": _STATES[0],
                "ts_received": f"{at:{_STAMP}}",
                "ts_queued": None,
                "ts_process_start": None,
                "ts_process_done": None,
                "ts_expiration": f"{at + 30 * _DAY:{_STAMP}}",
                "progress": None,
            }
            return dict(self._jobs[job_id])

    def list_jobs(self, form: Mapping[str, str]) -> list[dict[str, Any]]:
        """Jobs in the asked states, in the short form: id, state and when they were received."""
        states = form.get("states", "received,queued,processing,done").split(",")
        since = form.get("since", "")
        with self._lock:
            for job in self._jobs.values():
                self._move_on(job)
            return [
                {name: job[name] for name in ("id", "state", "ts_received")}
                for job in self._jobs.values()
                if job["state"] in states and job["ts_received"] >= since
            ]

    def details(self, job_id: str) -> dict[str, Any] | None:
        """Everything about one job."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job:
                self._move_on(job)
            return dict(job) if job else None

    def list_files(self, job_id: str) -> list[dict[str, Any]] | None:
        """The files of a job; none before it is done."""
        if job_id not in self._jobs:
            return None
        at = f"https://api.databento.com/v0/batch/download/{_USER}/{job_id}"
        return [
            {
                "filename": name,
                "size": len(content),
                "hash": f"sha256:{hashlib.sha256(content).hexdigest()}",
                "urls": {"https": f"{at}/{name}"},
            }
            for name, content in self._done(job_id).items()
        ]

    def zipped(self, job_id: str) -> Answer | None:
        """All files of a job in one zip, streamed; it cannot be resumed."""
        if job_id not in self._jobs:
            return None
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in self._done(job_id).items():
                archive.writestr(zipfile.ZipInfo(name), content)
        return Answer(packed.getvalue(), headers={"Content-Type": "application/zip"}, streamed=True)

    def file(self, request: Request) -> Answer | None:
        """One file, or the rest of it from a byte on."""
        job_id, name = request.path.rsplit("/", 2)[1:]
        content = self._done(job_id).get(name)
        if content is None:
            return None
        asked = request.headers.get("Range", "")
        if not asked.startswith("bytes="):
            return Answer(content, headers={"Accept-Ranges": "bytes"})
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop = int(first), int(last or len(content) - 1) + 1
        there = f"bytes {start}-{stop - 1}/{len(content)}"
        return Answer(content[start:stop], 206, {"Content-Range": there})

    def _done(self, job_id: str) -> Mapping[str, bytes]:
        done = job_id in self._jobs and self._jobs[job_id]["state"] == "done"
        return self._files[job_id] if done else {}

    def _move_on(self, job: dict[str, Any]) -> None:
        place = min(_STATES.index(job["state"]) + 1, len(_STATES) - 1)
        job["state"] = _STATES[place]
        if job["state"] == "done":
            job["progress"], job["ts_process_done"] = 100, job["ts_received"]


def _files(form: Mapping[str, str], selection: Selection) -> dict[str, bytes]:
    """The job's files, the records split by time as asked."""
    files: dict[str, bytes] = {}
    compression = form.get("compression", "none")
    ending = ".zst" if compression == "zstd" else ""
    for first, stop, part in _split(selection, form.get("split_duration", "day")):
        days = f"{first:%Y%m%d}" if stop - first == _DAY else f"{first:%Y%m%d}-{stop - _DAY:%Y%m%d}"
        name = f"glbx-mdp3-{days}.{selection.schema}.dbn{ending}"
        files[name] = part.encode(compression=compression)
    files["metadata.json"] = json.dumps({"version": 1, "query": dict(form)}, indent=4).encode()
    listed = [
        {"filename": name, "size": len(content), "hash": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    ]
    files["manifest.json"] = json.dumps({"files": listed}, indent=4).encode()
    return files


def _split(selection: Selection, duration: str) -> Iterator[tuple[date, date, Selection]]:
    """The stretches of UTC days that have records, as (first day, day after, records)."""
    days = selection.times.astype("datetime64[ns]").astype("datetime64[D]")
    start, end = (_moment(ns) for ns in (selection.start, selection.end))
    first, stop = start.date(), (end - timedelta(microseconds=1)).date() + _DAY
    begin = first
    while begin < stop:
        after = min(_after(begin, duration, stop), stop)
        inside = (days >= np.datetime64(begin)) & (days < np.datetime64(after))
        if inside.any():
            yield begin, after, selection.only(inside)
        begin = after


def _after(day: date, duration: str, stop: date) -> date:
    """The day after the stretch that holds ``day``."""
    if duration == "day":
        return day + _DAY
    if duration == "week":  # begins on Sunday
        return day + timedelta(days=7 - (day.weekday() + 1) % 7)
    if duration == "month":
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    if duration == "year":
        return date(day.year + 1, 1, 1)
    return stop


def _stamp(nanoseconds: int) -> str:
    return f"{_moment(nanoseconds):{_STAMP}}"


def _moment(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
