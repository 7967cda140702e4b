"""Databento's Historical API: what each endpoint of it answers.

Names, fields, error bodies and limits are those of https://databento.com/docs/api-historical; the
prices are invented.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.vendors.archive import DATASET, SCHEMAS, Archive, Selection
from tests.vendors.batch import Jobs
from tests.vendors.wire import Answer, Request

__all__ = ["HOSTS", "Historical", "refusal"]

#: The API itself, and where batch files are downloaded from.
HOSTS = ("hist.databento.com", "api.databento.com")

#: Requests that are taken in so many seconds.
_LIMITS = {"timeseries": (100, 1.0), "metadata": (20, 1.0), "batch.submit_job": (20, 60.0)}
_MOST_SYMBOLS = 2000
#: USD per GB.
_PRICES = {
    "definition": 5.0,
    "ohlcv-1d": 600.0,
    "ohlcv-1m": 280.0,
    "bbo-1m": 2.0,
    "mbp-1": 1.8,
    "statistics": 11.0,
}
_CASES = {
    400: "bad_request",
    401: "auth_authentication_failed",
    402: "account_payment_required",
    403: "auth_insufficient_permissions",
    404: "resource_not_found",
    422: "data_unprocessable",
    429: "rate_limit_exceeded",
    500: "internal_server_error",
    503: "service_unavailable",
    504: "gateway_timeout",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


class _RefusedError(Exception):
    """Ends a request with an error answer."""

    def __init__(self, status: int, message: str, case: str | None = None) -> None:
        super().__init__(message)
        self.answer = refusal(status, message, case)


def refusal(
    status: int, message: str, case: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """An error as the API words it."""
    detail = {
        "case": case or _CASES[status],
        "message": message,
        "status_code": status,
        "docs": "https://databento.com/docs/api-historical/basics/errors",
        "payload": None,
    }
    body = json.dumps({"detail": detail}).encode()
    return Answer(body, status, {"Content-Type": "application/json", **(headers or {})})


class Historical:
    """Answers the API's requests from an archive.

    Parameters
    ----------
    key : str
        The one key that is let in.
    conditions : mapping of date to str
        Days that are not ``available`` but ``degraded``, ``pending`` or ``missing``; of the last
        two there are no records.
    limited : bool
        Whether more requests than the vendor's limits allow are turned away.
    """

    def __init__(
        self, archive: Archive, key: str, conditions: Mapping[date, str], limited: bool
    ) -> None:
        self._archive = archive
        self._conditions = conditions
        self._absent = [day for day, state in conditions.items() if state != "degraded"]
        self._authorization = "Basic " + base64.b64encode(f"{key}:".encode()).decode()
        self._paces = {name: _Pace(*limit) for name, limit in (_LIMITS.items() if limited else ())}
        self._jobs = Jobs(archive.end)
        self._endpoints: Mapping[str, Callable[[Mapping[str, str]], Any]] = {
            "metadata.list_publishers": self._list_publishers,
            "metadata.list_datasets": lambda form: [DATASET],
            "metadata.list_schemas": self._list_schemas,
            "metadata.list_fields": self._list_fields,
            "metadata.list_unit_prices": self._list_unit_prices,
            "metadata.get_dataset_range": self._get_dataset_range,
            "metadata.get_dataset_condition": self._get_dataset_condition,
            "metadata.get_cost": lambda form: self._cost(self._select(form)),
            "metadata.get_record_count": lambda form: len(self._select(form).records),
            "metadata.get_billable_size": lambda form: self._select(form).size,
            "symbology.resolve": self._resolve,
            "timeseries.get_range": self._get_range,
            "batch.submit_job": self._submit_job,
            "batch.list_jobs": self._jobs.list_jobs,
            "batch.get_job_details": lambda form: self._job("details", form),
            "batch.list_files": lambda form: self._job("list_files", form),
            "batch.download": lambda form: self._job("zipped", form),
        }

    def answer(self, request: Request) -> Answer:
        """What the vendor says to a request."""
        if request.headers.get("Authorization") != self._authorization:
            return refusal(401, "Authentication failed.")
        family = request.name.split(".")[0]
        pace = self._paces.get(request.name) or self._paces.get(family)
        if pace and (seconds := pace.wait()):
            headers = {"Retry-After": str(seconds)}
            return refusal(429, "Too many requests.", headers=headers)
        if "/batch/download/" in request.path:
            return self._jobs.file(request) or refusal(404, "No such file.")
        endpoint = self._endpoints.get(request.name)
        if endpoint is None:
            return refusal(404, f"No endpoint {request.name}.")
        try:
            given = endpoint(request.form)
        except _RefusedError as refused:
            return refused.answer
        if isinstance(given, Answer):
            return given
        return Answer(json.dumps(given).encode(), headers={"Content-Type": "application/json"})

    # --- metadata -------------------------------------------------------------------------------

    def _list_publishers(self, form: Mapping[str, str]) -> list[dict[str, Any]]:
        venue = {"publisher_id": 1, "dataset": DATASET, "venue": "GLBX"}
        return [{**venue, "description": "CME Globex MDP 3.0"}]

    def _list_schemas(self, form: Mapping[str, str]) -> list[str]:
        self._dataset(form)
        return list(SCHEMAS)

    def _list_fields(self, form: Mapping[str, str]) -> list[dict[str, str]]:
        schema = self._schema(form)
        empty = self._archive.select(schema, [], "parent", 0, 1, None)
        layout = empty.records.dtype
        return [{"name": name, "type": layout[name].name} for name in layout.names or ()]

    def _list_unit_prices(self, form: Mapping[str, str]) -> list[dict[str, Any]]:
        self._dataset(form)
        return [{"mode": m, "unit_prices": _PRICES} for m in ("historical", "historical-streaming")]

    def _get_dataset_range(self, form: Mapping[str, str]) -> dict[str, Any]:
        self._dataset(form)
        stamp = "%Y-%m-%dT%H:%M:%S.000000000Z"
        span = {
            "start": f"{self._archive.start:{stamp}}",
            "end": f"{self._archive.end:{stamp}}",
        }
        return {**span, "schema": dict.fromkeys(SCHEMAS, span)}

    def _get_dataset_condition(self, form: Mapping[str, str]) -> list[dict[str, Any]]:
        self._dataset(form)
        newest = (self._archive.end - timedelta(microseconds=1)).date()
        first = date.fromisoformat(form.get("start_date", f"{self._archive.start:%F}"))
        last = date.fromisoformat(form.get("end_date", f"{newest:%F}"))
        first, last = max(first, self._archive.start.date()), min(last, newest)
        return [
            {
                "date": f"{day:%F}",
                "condition": self._condition(day),
                "last_modified_date": None
                if self._condition(day) == "missing"
                else f"{day + _DAY:%F}",
            }
            for day in (first + n * _DAY for n in range((last - first).days + 1))
        ]

    def _condition(self, day: date) -> str:
        """A Saturday has no data: the exchange opens on Sunday evening."""
        return self._conditions.get(day, "missing" if day.weekday() == 5 else "available")

    def _cost(self, selection: Selection) -> float:
        return selection.size * _PRICES[selection.schema] / 1e9

    # --- records --------------------------------------------------------------------------------

    def _get_range(self, form: Mapping[str, str]) -> Answer:
        selection = self._select(form)
        headers = {"Content-Type": "application/octet-stream"}
        if reduced := self._reduced(selection):
            note = (
                "Warning: The streaming request contained one or more days which have reduced "
                f"quality: {', '.join(reduced)}."
            )
            headers["X-Warning"] = json.dumps([note])
        return Answer(
            selection.encode(compression=form.get("compression", "none")),
            206 if selection.not_found or selection.partial else 200,
            headers,
            streamed=True,
            made_of=selection,
        )

    def _reduced(self, selection: Selection) -> list[str]:
        first, last = _moment(selection.start).date(), _moment(selection.end - 1).date()
        return [
            f"{day:%F} ({state})"
            for day, state in sorted(self._conditions.items())
            if first <= day <= last
        ]

    def _select(self, form: Mapping[str, str]) -> Selection:
        self._dataset(form)
        schema, stype_in = self._schema(form), form.get("stype_in", "raw_symbol")
        symbols = form.get("symbols", "ALL_SYMBOLS").split(",")
        if stype_in not in ("raw_symbol", "parent", "instrument_id"):
            raise _RefusedError(422, f"{stype_in} is not served here.", "symbology_invalid_request")
        if len(symbols) > _MOST_SYMBOLS:
            raise _RefusedError(422, "Too many symbols.", "symbology_invalid_request")
        start, end = self._span(form)
        limit = int(form["limit"]) if "limit" in form else None
        found = self._archive.select(schema, symbols, stype_in, start, end, limit, self._absent)
        if len(found.not_found) == len(symbols):
            text = "None of the symbols could be resolved."
            raise _RefusedError(422, text, "symbology_invalid_request")
        return found

    def _span(self, form: Mapping[str, str]) -> tuple[int, int]:
        try:
            start = _nanoseconds(form["start"])
            # A start without an end means the day, hour, … that it names; here it must be a day.
            end = _nanoseconds(form["end"] if "end" in form else _next_day(form["start"]))
        except (KeyError, ValueError):
            raise _RefusedError(400, "start and end must be ISO 8601 or nanoseconds.") from None
        first, last = (_nanoseconds(f"{at:%FT%TZ}") for at in self._available())
        if start >= end:
            text = "The start must be before the end."
            raise _RefusedError(422, text, "data_time_range_start_on_or_after_end")
        if start < first:
            text = f"The dataset {DATASET} has data available from {_moment(first)}."
            raise _RefusedError(422, text, "data_start_before_available_start")
        if end > last:
            text = f"The dataset {DATASET} has data available up to {_moment(last)}."
            raise _RefusedError(422, text, "data_end_after_available_end")
        return start, end

    def _available(self) -> tuple[datetime, datetime]:
        return self._archive.start, self._archive.end

    def _dataset(self, form: Mapping[str, str]) -> None:
        if form.get("dataset") != DATASET:
            raise _RefusedError(422, f"No dataset {form.get('dataset')}.", "data_invalid_dataset")

    def _schema(self, form: Mapping[str, str]) -> str:
        schema = form.get("schema", "trades")
        if schema not in SCHEMAS:
            raise _RefusedError(422, f"No schema {schema} in {DATASET}.", "data_invalid_schema")
        return schema

    def _resolve(self, form: Mapping[str, str]) -> dict[str, Any]:
        self._dataset(form)
        symbols, stype_in = form["symbols"].split(","), form["stype_in"]
        first = date.fromisoformat(form["start_date"])
        stop = date.fromisoformat(form["end_date"]) if "end_date" in form else first + _DAY
        found = self._archive.resolve(symbols, stype_in, first, stop)
        to_id = form["stype_out"] == "instrument_id"
        result = {
            symbol: [
                {"d0": f"{i.start_date:%F}", "d1": f"{i.end_date:%F}", "s": i.symbol}
                if to_id
                else {"d0": f"{i.start_date:%F}", "d1": f"{i.end_date:%F}", "s": raw}
                for raw, listed in named.items()
                for i in listed
            ]
            for symbol, named in found.items()
            if named
        }
        not_found = [symbol for symbol in symbols if symbol not in result]
        return {
            "result": result,
            "symbols": symbols,
            "stype_in": stype_in,
            "stype_out": form["stype_out"],
            "start_date": f"{first:%F}",
            "end_date": f"{stop:%F}",
            "partial": [],
            "not_found": not_found,
            "message": "Partially resolved" if not_found else "OK",
            "status": 1 if not_found else 0,
        }

    # --- batch ----------------------------------------------------------------------------------

    def _submit_job(self, form: Mapping[str, str]) -> dict[str, Any]:
        selection = self._select(form)
        return self._jobs.submit(form, selection, self._cost(selection))

    def _job(self, what: str, form: Mapping[str, str]) -> Any:
        given = getattr(self._jobs, what)(form.get("job_id", ""))
        if given is None:
            raise _RefusedError(404, f"No job {form.get('job_id')}.")
        return given


class _Pace:
    """So many requests in any stretch of seconds."""

    def __init__(self, most: int, seconds: float) -> None:
        self._seconds = seconds
        self._taken: deque[float] = deque(maxlen=most)
        self._lock = threading.Lock()

    def wait(self) -> int:
        """0 when a request is let through, else the seconds after which it would be."""
        with self._lock:
            now = time.monotonic()
            if len(self._taken) == self._taken.maxlen and now - self._taken[0] < self._seconds:
                return int(self._seconds - (now - self._taken[0])) + 1
            self._taken.append(now)
            return 0


def _nanoseconds(text: str) -> int:
    if text.isdecimal() and len(text) > 8:
        return int(text)
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _next_day(text: str) -> str:
    return (date.fromisoformat(text) + _DAY).isoformat()


def _moment(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
