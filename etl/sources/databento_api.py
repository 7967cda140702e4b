"""Downloads from Databento's Historical API, through its own client, proved whole.

The client neither retries nor notices a body that ends early: a stream that is closed on a record
boundary looks complete.  So each file is fetched under a temporary name, read to the end of its
zstd frame, its records are counted against what the vendor announced, and only then is it renamed.
"""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import requests
import tenacity
from databento_dbn import DBNError
from zstandard import ZstdError

from etl.errors import BadInput, CostLimit, VendorError
from etl.market import Market
from etl.sources import dbn

if TYPE_CHECKING:
    from databento import Historical

__all__ = ["Fetched", "fetch"]

_ATTEMPTS = 5
_FIRST_WAIT = 1.0  # seconds; doubled each time, with jitter
_LONGEST_WAIT = 60.0
_LONGEST_RETRY_AFTER = 300.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BARS = {"ohlcv-1d": timedelta(days=1), "ohlcv-1m": timedelta(minutes=1)}
_QUOTES = ("bbo-1m", "bbo-1s", "mbp-1")

_Event = Callable[[str], None]
_T = TypeVar("_T")

#: What a person does about an answer that will not get better.
_ADVICE = {
    401: "check DATABENTO_API_KEY",
    402: "see the billing page of the account",
    403: "see which datasets the account is subscribed to",
    422: "check the market's parents and the dates",
}


@dataclass(frozen=True, slots=True)
class _Request:
    """One file to ask for."""

    dataset: str
    schema: str
    symbols: tuple[str, ...]
    start: datetime
    end: datetime

    def form(self) -> dict[str, Any]:
        """The request as the client's arguments."""
        return {
            "dataset": self.dataset,
            "schema": self.schema,
            "symbols": list(self.symbols),
            "stype_in": "parent",
            "start": self.start,
            "end": self.end,
        }

    def file_name(self) -> str:
        """Schema and span."""
        return f"{self.schema}_{self.start:%Y%m%dT%H%M%S}_{self.end:%Y%m%dT%H%M%S}.dbn.zst"

    def __str__(self) -> str:
        return f"{self.schema} of {', '.join(self.symbols)}"


class Fetched(NamedTuple):
    """What one download brought."""

    files: list[Path]  # DBN files, definitions first; none for a schema without records
    until: datetime  # the vendor has nothing after it yet, of one schema at least


class _PassingError(Exception):
    """A failure that another attempt may cure, after ``wait`` seconds at least."""

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait


def fetch(
    market: Market,
    start: date | datetime,
    end: date | datetime,
    directory: Path,
    key: str,
    *,
    quote_schema: str = "bbo-1m",
    max_cost: float = 5.0,
    client: Historical | None = None,
    on_event: _Event | None = None,
) -> Fetched:
    """Download a market's definitions, bars, statistics and quotes.

    Parameters
    ----------
    market : Market
        With its ``databento_dataset`` and parents.
    start, end : date or aware datetime
        The span, ``end`` excluded; a date is its midnight in UTC.  What the vendor has not got yet
        is cut off.
    directory : Path
        Where the files go.
    key : str
        The API key; no text ever shows it.
    quote_schema : {"bbo-1m", "bbo-1s", "mbp-1"}
        Which quotes.
    max_cost : float
        USD that the download may cost at most.
    client : databento.Historical, optional
        Another client than the one that ``key`` makes.
    on_event : callable, optional
        Gets one line a step.

    Returns
    -------
    Fetched
        The files, and up to when they are complete: ask from there on the next time.

    Raises
    ------
    CostLimit
        The download would cost more than ``max_cost``; nothing was downloaded.
    VendorError
        Databento refused, failed, or sent less than it announced.
    BadInput
        The market is not at Databento, or an argument is wrong.
    """
    tell = on_event or (lambda line: None)
    if market.databento_dataset is None:
        raise BadInput(f"{market.code} is not at Databento; land a chain file of it instead")
    if quote_schema not in _QUOTES:
        raise BadInput(f"no quotes in {quote_schema!r}; give one of {', '.join(_QUOTES)}")
    ask = _Asker(client or _client(key), key)
    plan, until = _plan(
        ask, market, market.databento_dataset, _instant(start), _instant(end), quote_schema
    )
    if not plan:
        tell(f"{market.code}: Databento has nothing yet between {start} and {end}")
        return Fetched([], until)
    cost = sum(ask.number("get_cost", request) for request in plan)
    tell(f"{market.code}: {len(plan)} requests, USD {cost:.2f}")
    if cost > max_cost:
        raise CostLimit(
            f"{market.code} from {start:%Y-%m-%d} to {end:%Y-%m-%d} would cost USD {cost:.2f}, "
            f"above the limit of USD {max_cost:.2f}; nothing was downloaded; "
            "ask for fewer days or raise the limit"
        )
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for request in plan:
        records = int(ask.number("get_record_count", request))
        if records == 0:
            tell(f"{request}: no records")
            continue
        path = directory / f"{market.code}_{request.file_name()}"
        paths.append(_download(ask, request, records, path, tell))
        tell(f"{request}: {records:,} records")
    return Fetched(paths, until)


def _client(key: str) -> Historical:
    if not key.strip():
        raise VendorError("no Databento key; set DATABENTO_API_KEY")
    from databento import Historical  # takes half a second: only when it is needed

    return Historical(key)


def _instant(moment: date | datetime) -> datetime:
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time(), UTC)
    if moment.tzinfo is None:
        raise BadInput(f"{moment} has no time zone; give it in UTC")
    return moment.astimezone(UTC)


def _plan(
    ask: _Asker, market: Market, dataset: str, start: datetime, end: datetime, quote_schema: str
) -> tuple[list[_Request], datetime]:
    """The requests for what the vendor has of the span, and up to when it has all schemas."""
    futures, options = market.futures_parents, market.option_parents
    has = ask("get_dataset_range", lambda client: client.metadata.get_dataset_range(dataset))
    plan, complete = [], end
    for schema, symbols in (
        ("definition", futures + options),
        ("ohlcv-1d", futures),
        ("ohlcv-1m", futures),
        ("statistics", futures + options),
        (quote_schema, futures + options),
    ):
        first, last = _range_of(has, schema, dataset)
        since, until = max(start, first), min(end, last)
        complete = max(start, min(complete, until))
        if bar := _BARS.get(schema):
            # A bar is found by its start: the one under way when the span begins belongs to it, and
            # the one under way when it ends is not whole yet.
            since, until = _floor(since, bar), _floor(until, bar)
        if symbols and since < until:
            plan.append(_Request(dataset, schema, symbols, since, until))
    return plan, complete


def _range_of(has: Any, schema: str, dataset: str) -> tuple[datetime, datetime]:
    """What the vendor has of a schema, or of the dataset where it does not tell them apart."""
    try:
        span = has.get("schema", {}).get(schema, has)
        first, last = (datetime.fromisoformat(span[name]) for name in ("start", "end"))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise VendorError(f"Databento's range of {dataset} makes no sense; try later") from None
    return _utc(first), _utc(last)


def _utc(moment: datetime) -> datetime:
    """The moment in UTC, which is what the vendor means when it names no zone."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _floor(moment: datetime, length: timedelta) -> datetime:
    return moment - (moment - _EPOCH) % length


def _download(ask: _Asker, request: _Request, records: int, path: Path, tell: _Event) -> Path:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
        temporary = Path(folder) / path.name
        ask(str(request), partial(_whole, request, records, temporary, tell))
        os.replace(temporary, path)
    return path


def _whole(request: _Request, records: int, path: Path, tell: _Event, client: Historical) -> None:
    """Fetch one file; raise unless all of it is there."""
    path.unlink(missing_ok=True)  # the client opens for creation only
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.timeseries.get_range(**request.form(), path=path)
    for warning in caught:
        tell(f"{request}: {_one_line(warning.message)}")
    try:
        found = dbn.count(path)
        schema = dbn.peek(path).schema
    except BadInput as error:
        raise _PassingError(str(error)) from None
    if schema != request.schema:
        raise _PassingError(f"got {schema} instead")
    if found != records:
        raise _PassingError(f"got {found:,} of {records:,} records")


class _Asker:
    """Calls the client, tries again what may pass, and says the rest in one line."""

    def __init__(self, client: Historical, key: str) -> None:
        self._client = client
        self._key = key

    def number(self, name: str, request: _Request) -> float:
        """A figure of the metadata endpoint about ``request``."""
        value = self(
            f"{name} for {request}",
            lambda client: getattr(client.metadata, name)(**request.form()),
        )
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise VendorError(f"Databento, {name} for {request}: answered no number; try later")
        return value

    def __call__(self, what: str, call: Callable[[Historical], _T]) -> _T:
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=_wait,
            retry=tenacity.retry_if_exception_type(_PassingError),
            reraise=True,
        )
        try:
            answer: _T = attempts(self._once, what, call)
            return answer
        except _PassingError as error:
            raise VendorError(
                f"Databento, {what}: {self._clean(error)}, on each of {_ATTEMPTS} attempts; "
                "try later"
            ) from None

    def _once(self, what: str, call: Callable[[Historical], _T]) -> _T:
        from databento.common.error import BentoError, BentoHttpError

        try:
            return call(self._client)
        except BentoHttpError as error:
            status = error.http_status
            text = self._clean(error)
            if status in (408, 429) or status >= 500:
                raise _PassingError(text, _retry_after(error.headers)) from None
            advice = _ADVICE.get(status, "see Databento's status page")
            raise VendorError(f"Databento, {what}: {text}; {advice}") from None
        except requests.RequestException as error:
            raise _PassingError(f"no answer ({type(error).__name__})") from None
        except (BentoError, DBNError, ZstdError, ValueError) as error:
            # A stream that broke, an empty body, or something else than DBN.
            raise _PassingError(self._clean(error)) from None

    def _clean(self, error: Exception) -> str:
        return _one_line(error).replace(self._key, "***") if self._key else _one_line(error)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _retry_after(headers: Any) -> float:
    """Seconds of a ``Retry-After`` header; 0 without one, or when it is a date."""
    try:
        return min(max(float(headers.get("Retry-After", 0)), 0.0), _LONGEST_RETRY_AFTER)
    except ValueError:
        return 0.0


def _wait(state: tenacity.RetryCallState) -> float:
    growing = tenacity.wait_exponential(_FIRST_WAIT, _LONGEST_WAIT)
    backoff = growing(state) + tenacity.wait_random(0, _FIRST_WAIT)(state)
    error = state.outcome.exception() if state.outcome else None
    return max(backoff, error.wait if isinstance(error, _PassingError) else 0.0)
