"""What goes wrong with vendors: named faults, each with where and how often it strikes."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from fnmatch import fnmatch
from io import BytesIO

from tests.vendors import cftc
from tests.vendors.archive import Selection
from tests.vendors.historical import refusal
from tests.vendors.wire import Answer, Request

__all__ = [
    "ZIPS",
    "Fault",
    "broken",
    "cut_frame",
    "cut_on_a_record",
    "cut_zip",
    "damaged",
    "dear",
    "empty",
    "fewer_records",
    "html_page",
    "json_answer",
    "miscounted",
    "no_such_file",
    "not_found",
    "partial",
    "refused",
    "renamed_member",
    "reset",
    "slow",
    "stale_year",
    "status",
    "too_many_requests",
    "unavailable",
]

GET_RANGE = "timeseries.get_range"
ZIPS = "*.zip"

#: A request, the good answer to it, and how to get the good answer to another one.
Change = Callable[[Request, Answer, Callable[[Request], Answer]], Answer]


@dataclass(frozen=True)
class Fault:
    """One way in which a vendor misbehaves.

    Attributes
    ----------
    name : str
        What it is, in a few words.
    change : callable, optional
        Makes the bad answer; without one the connection is refused.
    at : str
        The endpoint or file, as a pattern; the host for a connection that is refused.
    schema : str, optional
        Requests for this schema alone.
    times : int, optional
        How many requests it strikes, the first ones; None for all.
    """

    name: str
    change: Change | None
    at: str
    schema: str | None = None
    times: int | None = None

    def hits(self, request: Request) -> bool:
        """Whether it concerns a request."""
        return (
            self.change is not None
            and fnmatch(request.name, self.at)
            and self.schema in (None, request.form.get("schema"))
        )


def _always(answer: Answer) -> Change:
    return lambda request, good, again: answer


# --- both vendors -------------------------------------------------------------------------------


def refused(host: str, times: int | None = None) -> Fault:
    """No connection to ``host`` is made."""
    return Fault("connection refused", None, host, times=times)


def slow(
    seconds: float, at: str = GET_RANGE, schema: str | None = None, times: int | None = None
) -> Fault:
    """Nothing comes for so many seconds."""
    return Fault(
        "slow", lambda request, good, again: replace(good, wait=seconds), at, schema, times
    )


def reset(at: str = GET_RANGE, schema: str | None = None, times: int | None = None) -> Fault:
    """The connection is reset in the middle of the body."""
    return Fault(
        "reset mid-stream",
        lambda request, good, again: replace(good, ends="reset"),
        at,
        schema,
        times,
    )


def empty(at: str = GET_RANGE, schema: str | None = None, times: int | None = None) -> Fault:
    """A 200 without a body."""
    return Fault("empty 200", _always(Answer(b"")), at, schema, times)


# --- Databento ----------------------------------------------------------------------------------


def status(
    code: int,
    at: str = GET_RANGE,
    schema: str | None = None,
    times: int | None = None,
    message: str = "The request was refused.",
) -> Fault:
    """An error answer of the API."""
    return Fault(f"HTTP {code}", _always(refusal(code, message)), at, schema, times)


def too_many_requests(
    seconds: int,
    at: str = GET_RANGE,
    schema: str | None = None,
    times: int | None = None,
    *,
    as_date: bool = False,
) -> Fault:
    """429 that says when to come back: in so many seconds, or at that date of the vendor's."""

    def change(request: Request, good: Answer, again: Callable[[Request], Answer]) -> Answer:
        then = formatdate(time.time() + seconds, usegmt=True) if as_date else str(seconds)
        return refusal(429, "Too many requests.", headers={"Retry-After": then})

    return Fault("HTTP 429", change, at, schema, times)


def dear(usd: float) -> Fault:
    """Every request costs so many USD."""
    return Fault("dear", _always(Answer(json.dumps(usd).encode())), "metadata.get_cost")


def broken(schema: str | None = None, times: int | None = None) -> Fault:
    """The stream stops before its last chunk."""

    def change(request: Request, good: Answer, again: Callable[[Request], Answer]) -> Answer:
        return replace(good, body=good.body[: len(good.body) // 2], ends="broken")

    return Fault("stream broken off", change, GET_RANGE, schema, times)


def cut_frame(schema: str | None = None, times: int | None = None) -> Fault:
    """The body ends in the middle of its zstd frame; the connection is closed cleanly."""

    def change(request: Request, good: Answer, again: Callable[[Request], Answer]) -> Answer:
        return replace(good, body=good.body[: len(good.body) // 2])

    return Fault("body cut mid-frame", change, GET_RANGE, schema, times)


def _half(selection: Selection) -> Selection:
    return selection.only(slice(len(selection.records) // 2))


def cut_on_a_record(schema: str | None = None, times: int | None = None) -> Fault:
    """The body ends after half of its records, cleanly; its zstd frame does not."""

    def change(request: Request, good: Answer, again: Callable[[Request], Answer]) -> Answer:
        return replace(good, body=_half(good.made_of).encode(ended=False))

    return Fault("body cut on a record boundary", change, GET_RANGE, schema, times)


def damaged(at: str, times: int | None = None) -> Fault:
    """A file of the announced size whose last bytes are others."""

    def change(request: Request, good: Answer, again: Callable[[Request], Answer]) -> Answer:
        return replace(good, body=good.body[:-8] + b"\0" * 8)

    return Fault("file damaged on its way", change, at, times=times)


def fewer_records(schema: str | None = None, times: int | None = None) -> Fault:
    """A whole file in every respect, of half the records."""

    def change(request: Request, good: Answer, again: Callable[[Request], Answer]) -> Answer:
        return replace(good, body=_half(good.made_of).encode())

    return Fault("half of the records in a whole file", change, GET_RANGE, schema, times)


def miscounted(schema: str | None = None, times: int | None = None) -> Fault:
    """One record more is announced than there is."""

    def change(request: Request, good: Answer, again: Callable[[Request], Answer]) -> Answer:
        return replace(good, body=str(int(good.body) + 1).encode())

    return Fault("wrong record count", change, "metadata.get_record_count", schema, times)


def json_answer(schema: str | None = None, times: int | None = None) -> Fault:
    """JSON where a file should be."""
    body = json.dumps({"status": "ok"}).encode()
    answer = Answer(body, headers={"Content-Type": "application/json"})
    return Fault("JSON in a 200", _always(answer), GET_RANGE, schema, times)


def partial(schema: str | None = None, times: int | None = None) -> Fault:
    """206: the last symbol resolves on some of the days alone."""

    def change(request: Request, good: Answer, again: Callable[[Request], Answer]) -> Answer:
        marked = replace(good.made_of, partial=good.made_of.symbols[-1:])
        return replace(good, status=206, body=marked.encode())

    return Fault("206, a symbol resolved on some days", change, GET_RANGE, schema, times)


def not_found(symbol: str) -> Fault:
    """206: a symbol does not resolve, and there is nothing of it."""

    def change(request: Request, good: Answer, again: Callable[[Request], Answer]) -> Answer:
        asked = request.form.get("symbols", "").split(",")
        if symbol not in asked or len(asked) == 1:
            return good
        others = ",".join(one for one in asked if one != symbol)
        answer = again(replace(request, form={**request.form, "symbols": others}))
        if request.name != GET_RANGE:
            return answer
        marked = replace(answer.made_of, symbols=tuple(asked), not_found=(symbol,))
        return replace(answer, status=206, body=marked.encode())

    return Fault("206, a symbol not found", change, "*")


# --- the CFTC -----------------------------------------------------------------------------------


def no_such_file(at: str = ZIPS, times: int | None = None) -> Fault:
    """404, as for a new year's file early in January."""
    return Fault("HTTP 404", _always(cftc.page(404, "Page Not Found")), at, times=times)


def unavailable(at: str = ZIPS, times: int | None = None) -> Fault:
    """503 with a page for a person."""
    return Fault("HTTP 503", _always(cftc.page(503, "Service Unavailable")), at, times=times)


def html_page(at: str = ZIPS, times: int | None = None) -> Fault:
    """A page for a person and HTTP 200."""
    return Fault("HTML page in place of a zip", _always(cftc.page(200, "CFTC")), at, times=times)


def cut_zip(at: str = ZIPS, times: int | None = None) -> Fault:
    """Half of the zip, cleanly closed."""

    def change(request: Request, good: Answer, again: Callable[[Request], Answer]) -> Answer:
        return replace(good, body=good.body[: len(good.body) // 2])

    return Fault("zip cut off", change, at, times=times)


def renamed_member(at: str = ZIPS, times: int | None = None) -> Fault:
    """The zip's text has a name that nobody expects."""

    def change(request: Request, good: Answer, again: Callable[[Request], Answer]) -> Answer:
        with zipfile.ZipFile(BytesIO(good.body)) as archive:
            text = archive.read(archive.namelist()[0])
        return replace(good, body=cftc.zipped("annual_report.csv", text))

    return Fault("renamed zip member", change, at, times=times)


def stale_year(year: int, at: str = ZIPS, times: int | None = None) -> Fault:
    """The file of ``year`` under every other year's name."""

    def change(request: Request, good: Answer, again: Callable[[Request], Answer]) -> Answer:
        stem = request.path.rsplit("_", 1)[0]
        return again(replace(request, path=f"{stem}_{year}.zip"))

    return Fault("stale year", change, at, times=times)
