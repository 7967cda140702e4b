"""Downloads from Databento, proved whole before they get their name.

The client does not notice a body that ends early: a stream that is closed on a record boundary
looks complete.  So each file is fetched under a temporary name, read to the end of its zstd
frame, its records are counted against what the vendor announced, and only then is it renamed.

A large request goes through a batch job, as the vendor advises.  A job is paid for when it is
submitted and can be fetched again for thirty days, so one that exists already is never
submitted again.
"""

from __future__ import annotations

import hashlib
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import requests

from etl.errors import BadInput, VendorError
from etl.sources import dbn
from etl.sources.databento.ask import Asker, PassingError, Tell, Unresolved
from etl.sources.databento.plan import Request, instant

if TYPE_CHECKING:
    from databento import Historical

__all__ = ["Fetched", "fetch"]

#: From here on Databento recommends batch downloads ("Size limits"), in uncompressed bytes.
_LARGE = 5_000_000_000

_POLL_SECONDS = 10.0
_TIMEOUTS = (100.0, 100.0)  # seconds to connect, and between bytes: the client's

#: How a job's files are to be: one file of DBN, whatever its size.
_PACKING: dict[str, Any] = {"encoding": "dbn", "compression": "zstd", "split_duration": "none"}


class Fetched(NamedTuple):
    """What a request brought."""

    path: Path | None  # the DBN file; None when there are no records
    records: int
    bytes: int
    usd: float  # its price


def fetch(ask: Asker, request: Request, folder: Path, tell: Tell) -> Fetched:
    """Download what a request answers into ``folder``.

    A whole file of the same request that is there already is taken instead.

    Raises
    ------
    VendorError
        Databento refused, failed, or sent less than it announced; nothing of it stays.
    """
    what, form = str(request), request.form()
    try:
        records = int(ask.number("get_record_count", what, form))
    except Unresolved:  # listed in another part of the span that was planned
        records = 0
    if records == 0:
        return Fetched(None, 0, 0, 0.0)
    usd = ask.number("get_cost", what, form)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / request.file_name()
    if _is_whole(path, request, records):
        tell(f"{what}: {path.name} is there already")
    elif ask.number("get_billable_size", what, form) > _LARGE:
        usd = _from_batch(ask, request, records, usd, path, tell)
    else:
        part = path.with_name(path.name + ".part")
        try:
            ask(what, partial(_stream, request, records, part), family="timeseries")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return Fetched(path, records, path.stat().st_size, usd)


def _stream(request: Request, records: int, part: Path, client: Historical) -> None:
    """Fetch one file; raise unless all of it is there."""
    part.unlink(missing_ok=True)  # the client opens for creation only
    client.timeseries.get_range(**request.form(), path=part)
    _prove(part, request, records)


def _prove(path: Path, request: Request, records: int) -> None:
    try:
        found = dbn.count(path)
        schema = dbn.peek(path).schema
    except BadInput as error:
        raise PassingError(str(error)) from None
    if schema != request.schema:
        raise PassingError(f"got {schema} instead")
    if found != records:
        raise PassingError(f"got {found:,} of {records:,} records")


def _is_whole(path: Path, request: Request, records: int) -> bool:
    if not path.exists():
        return False
    try:
        _prove(path, request, records)
    except PassingError:
        return False
    return True


# --- batch jobs --------------------------------------------------------------------------------


class _Job(NamedTuple):
    """A batch job as the vendor tells of it."""

    number: str
    state: str
    usd: float | None  # what it cost, once that is known

    @classmethod
    def read(cls, details: dict[str, Any]) -> _Job:
        return cls(details["id"], details["state"], details.get("cost_usd"))


def _from_batch(
    ask: Asker, request: Request, records: int, usd: float, path: Path, tell: Tell
) -> float:
    """Fetch one file through a batch job; return what the job cost, ``usd`` if it does not say."""
    job = ask(
        f"batch job for {request}", partial(_found_or_submitted, ask, request), family="submit"
    )
    what = f"batch job {job.number}"
    while job.state != "done":
        if job.state == "expired":
            raise VendorError(f"Databento, {what}: expired; run again for a new one")
        tell(f"{request}: {what} is {job.state}")
        time.sleep(_POLL_SECONDS)
        job = ask(what, partial(_looked_up, job.number), family="batch")
    # What a killed run left of it is gone on with.
    part = path.with_name(f"{job.number}.part")
    ask(what, partial(_batch_file, job.number, request, records, part), family="timeseries")
    os.replace(part, path)
    return usd if job.usd is None else job.usd


def _looked_up(number: str, client: Historical) -> _Job:
    return _Job.read(client.batch.get_job_details(number))


def _found_or_submitted(ask: Asker, request: Request, client: Historical) -> _Job:
    """The job that was submitted for the request, by an earlier run perhaps, or a new one.

    Another attempt looks again: the one before may have submitted it and not heard so.
    """
    for listed in client.batch.list_jobs(states=None):
        ask.keep_pace("batch")
        details = client.batch.get_job_details(listed["id"])
        if _is_for(request, details):
            return _Job.read(details)
    return _Job.read(client.batch.submit_job(**request.form(), **_PACKING))


def _is_for(request: Request, job: dict[str, Any]) -> bool:
    symbols = job["symbols"]
    wanted = {
        **_PACKING,
        "dataset": request.dataset,
        "schema": request.schema,
        "stype_in": request.stype_in,
    }
    return (
        all(job.get(name) == value for name, value in wanted.items())
        and set(symbols.split(",") if isinstance(symbols, str) else symbols) == set(request.symbols)
        and instant(job["start"]) == request.start
        and instant(job["end"]) == request.end
        and not job.get("limit")
        and not job.get("split_symbols")
    )


def _batch_file(
    number: str, request: Request, records: int, path: Path, client: Historical
) -> None:
    """Fetch the job's one DBN file, or the rest of it; its hash and records are checked."""
    files = [f for f in client.batch.list_files(number) if f["filename"].endswith(".dbn.zst")]
    if len(files) != 1:
        raise PassingError(f"has {len(files)} DBN files instead of one")
    (file,) = files
    _fetch_rest(file["urls"]["https"], int(file["size"]), path, client)
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    try:
        if file["hash"] != f"sha256:{digest}":
            raise PassingError(f"{file['filename']} is not what the vendor's hash says")
        _prove(path, request, records)
    except PassingError:
        path.unlink()
        raise


def _fetch_rest(url: str, size: int, path: Path, client: Historical) -> None:
    """Fetch what ``path`` lacks of a job's file of ``size`` bytes.

    The client's own download of it waits for ever on a connection that has gone silent.
    """
    from databento.common.http import check_http_error

    held = path.stat().st_size if path.exists() else 0
    if held < size:
        headers = {"Range": f"bytes={held}-{size - 1}"} if held else {}
        with requests.get(
            url, headers=headers, auth=(client.key, ""), timeout=_TIMEOUTS, stream=True
        ) as response:
            check_http_error(response)
            with path.open("ab" if response.status_code == 206 else "wb") as file:
                for chunk in response.iter_content(1 << 16):
                    file.write(chunk)
    if path.stat().st_size < size:
        raise PassingError("broke off")
