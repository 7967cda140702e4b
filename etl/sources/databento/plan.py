"""What to ask Databento for, and what it costs: nothing here downloads anything."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from etl import spans
from etl.errors import BadInput, VendorError
from etl.market import Market
from etl.sources.databento.ask import Asker, Unresolved
from etl.spans import Span

__all__ = [
    "QUOTES",
    "Condition",
    "Offer",
    "Priced",
    "Request",
    "instant",
    "offer",
    "price",
    "requests",
    "schemas",
    "series",
]

#: Which quotes can be asked for, the cheapest first.
QUOTES = ("bbo-1m", "bbo-1s", "mbp-1")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_BARS = {"ohlcv-1d": _DAY, "ohlcv-1m": timedelta(minutes=1)}


@dataclass(frozen=True, slots=True)
class Request:
    """One schema of some symbols over a span: what one download answers."""

    market: str
    dataset: str
    schema: str
    symbols: tuple[str, ...]
    start: datetime
    end: datetime
    stype_in: str = "parent"

    def form(self) -> dict[str, Any]:
        """The request as the client's arguments."""
        return {
            "dataset": self.dataset,
            "schema": self.schema,
            "symbols": list(self.symbols),
            "stype_in": self.stype_in,
            "start": self.start,
            "end": self.end,
        }

    def file_name(self) -> str:
        """A name that no other request has."""
        digest = hashlib.sha256(f"{self.dataset} {self.stype_in} {self.symbols}".encode())
        name = f"{self.market}_{self.schema}_{_stamp(self.start)}_{_stamp(self.end)}"
        return f"{name}_{digest.hexdigest()[:8]}.dbn.zst"

    def months(self) -> Iterator[Request]:
        """The request, cut by month, oldest first."""
        for start, end in spans.months((self.start, self.end)):
            yield replace(self, start=start, end=end)

    def series(self) -> list[str]:
        """What it is about, a name for each symbol."""
        return [series(self.schema, symbol) for symbol in self.symbols]

    def __str__(self) -> str:
        return f"{self.schema} of {', '.join(self.symbols)}"


class Condition(NamedTuple):
    """What the vendor says of one day of a dataset."""

    state: str  # available, degraded, pending or missing
    modified: date | None  # the date on which it last changed the day's data


class Priced(NamedTuple):
    """A request of the symbols that the vendor knows, and what it says about the others."""

    request: Request
    usd: float
    unresolved: tuple[str, ...]


@dataclass(frozen=True)
class Offer:
    """What the vendor has of a dataset: up to when, and how good each day is."""

    dataset: str
    ranges: Mapping[str, Any]
    conditions: Mapping[date, Condition]

    def spans(self, schema: str, wanted: Sequence[Span]) -> list[Span]:
        """What can be asked for of ``wanted``: whole bars, and no day that is still pending."""
        first, last = self.range_of(schema)
        pending = [
            (midnight, midnight + _DAY)
            for day, condition in self.conditions.items()
            if condition.state == "pending"
            for midnight in [_midnight(day)]
        ]
        found: list[Span] = []
        for start, end in wanted:
            for since, until in spans.lacking((max(start, first), min(end, last)), pending):
                if bar := _BARS.get(schema):
                    # A bar is found by its start: the one under way when the span begins belongs
                    # to it, and the one under way when it ends is not whole yet.
                    since, until = _floor(since, bar), _floor(until, bar)
                found.append((since, until))
        return spans.united(found)

    def days(self, span: Span) -> dict[date, Condition]:
        """The conditions of the days that a span touches."""
        start, end = span
        return {
            day: condition
            for day, condition in self.conditions.items()
            if start - _DAY < _midnight(day) < end
        }

    def range_of(self, schema: str) -> Span:
        """What the vendor has of a schema, or of the dataset where it does not tell them apart."""
        try:
            said = self.ranges.get("schema", {}).get(schema, self.ranges)
            return instant(said["start"]), instant(said["end"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise VendorError(
                f"Databento's range of {self.dataset} makes no sense; try later"
            ) from None


def series(schema: str, symbol: str) -> str:
    """The name under which a lake keeps what it has of a symbol's schema."""
    return f"{schema} {symbol}"


def schemas(market: Market, quotes: str) -> dict[str, tuple[str, ...]]:
    """Schema -> parents that a market needs, definitions first.

    Raises
    ------
    BadInput
        ``quotes`` is not one of ``QUOTES``.
    """
    if quotes not in QUOTES:
        raise BadInput(f"no quotes in {quotes!r}; give one of {', '.join(QUOTES)}")
    futures, both = market.futures_parents, market.futures_parents + market.option_parents
    return {
        "definition": both,
        "ohlcv-1d": futures,
        "ohlcv-1m": futures,
        "statistics": both,
        quotes: both,
    }


def offer(ask: Asker, dataset: str, span: Span) -> Offer:
    """What the vendor has of a dataset in a span.

    Raises
    ------
    VendorError
        It refused, failed, or answered with something that makes no sense.
    """
    ranges = ask(f"range of {dataset}", lambda client: client.metadata.get_dataset_range(dataset))
    whole = Offer(dataset, ranges, {})
    start, end = span
    first, last = whole.range_of("")
    days = (max(start, first).date(), (min(end, last) - timedelta(microseconds=1)).date())
    if days[0] > days[1]:
        return whole
    answer = ask(
        f"condition of {dataset}",
        lambda client: client.metadata.get_dataset_condition(dataset, *days),
    )
    try:
        conditions = {
            date.fromisoformat(str(day["date"])): Condition(
                str(day["condition"]), date.fromisoformat(changed) if changed else None
            )
            for day in answer
            for changed in [day.get("last_modified_date")]
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise VendorError(f"Databento's condition of {dataset} makes no sense; try later") from None
    return replace(whole, conditions=conditions)


def requests(
    market: Market, quotes: str, missing: Callable[[str], list[Span]], offered: Offer
) -> list[Request]:
    """What to ask for of a market: parents that lack the same span go into one request.

    Parameters
    ----------
    quotes : one of ``QUOTES``
    missing : series -> spans that the lake lacks of it
    offered : what the vendor has
    """
    found: list[Request] = []
    for schema, parents in schemas(market, quotes).items():
        by_span: dict[Span, list[str]] = {}
        for parent in dict.fromkeys(parents):
            for span in offered.spans(schema, missing(series(schema, parent))):
                by_span.setdefault(span, []).append(parent)
        for span, symbols in sorted(by_span.items()):
            found.append(Request(market.code, offered.dataset, schema, tuple(symbols), *span))
    return found


def price(ask: Asker, request: Request) -> Priced:
    """What a request costs, without those of its symbols that the vendor does not know."""
    try:
        return Priced(request, ask.number("get_cost", str(request), request.form()), ())
    except Unresolved:
        if len(request.symbols) == 1:
            return Priced(replace(request, symbols=()), 0.0, request.symbols)
    parts = [price(ask, replace(request, symbols=(symbol,))) for symbol in request.symbols]
    known = tuple(symbol for part in parts for symbol in part.request.symbols)
    unresolved = tuple(symbol for part in parts for symbol in part.unresolved)
    return Priced(replace(request, symbols=known), sum(part.usd for part in parts), unresolved)


def instant(text: str) -> datetime:
    """An instant of the vendor's, which is in UTC when it names no zone."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _stamp(moment: datetime) -> str:
    """The moment in a file's name, short where it is midnight."""
    return f"{moment:%Y%m%d}" if moment.time() == time() else f"{moment:%Y%m%dT%H%M%S%f}"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _floor(moment: datetime, length: timedelta) -> datetime:
    return moment - (moment - _EPOCH) % length
