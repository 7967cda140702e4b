"""What a download from the sample vendor writes: one DBN file a schema and parent symbol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from etl.errors import BadInput
from etl.market import Market
from etl.sources.sample import bars, chaos, definitions, quotes, statistics
from etl.sources.sample.contracts import DAY_NS
from etl.sources.sample.dbn_files import DbnFile, Interval, Records
from etl.sources.sample.definitions import option_symbol
from etl.sources.sample.world import FIRST_SESSION, World, world

__all__ = ["fetch", "planted"]

_LAST_DAY = date(2098, 12, 31)  # the calendars that its world stands on end a year later
_BLOCK = 32  # sessions that are in memory at a time
_BAR_NS = {"ohlcv-1m": 60_000_000_000, "ohlcv-1d": DAY_NS}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Statistics of a session appear until the morning of the next one: go back past any holidays.
_REACH = timedelta(days=7)


def fetch(
    market: Market, start: datetime, end: datetime, directory: Path, seed: int | None = None
) -> list[Path]:
    """Write the vendor's files of a range and return their paths.

    Every record with ``start <= ts_recv < end`` is in them, and every bar that ends after
    ``start`` and not after ``end``: a bar is not there before it is complete, and consecutive
    ranges hold each record once.  ``directory`` must hold none of the files yet.  With a
    ``seed``, the faults that ``planted`` lists are in them.

    Raises
    ------
    BadInput
        The vendor does not have the market or the time, or ``end`` is not after ``start``.
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError("start and end must carry a time zone")
    if start >= end:
        raise BadInput(f"sample: nothing lies between {start.isoformat()} and {end.isoformat()}")
    if not FIRST_SESSION < end.astimezone(UTC).date() <= _LAST_DAY:
        raise BadInput(
            f"sample: has data from {FIRST_SESSION} to {_LAST_DAY}, none to {end.isoformat()}"
        )
    start_ns, end_ns = _ns(start), _ns(end)
    place = world(market, end.astimezone(UTC).date())
    first, last = _sessions(place, start, end)
    files = [
        *(("FUT", schema) for schema in ("definition", "ohlcv-1d", "ohlcv-1m")),
        *(("FUT", schema) for schema in ("bbo-1m", "statistics")),
        *(("OPT", schema) for schema in ("definition", "bbo-1m", "statistics")),
    ]
    mappings = {
        "FUT": _future_mappings(place, first, last, start, end),
        "OPT": _option_mappings(place, first, last, start, end),
    }
    parents = {"FUT": market.futures_parents[0], "OPT": market.option_parents[0]}
    span = f"{start.astimezone(UTC):%Y%m%dT%H%M%S}-{end.astimezone(UTC):%Y%m%dT%H%M%S}"
    with ExitStack() as stack:
        written = {
            (kind, schema): stack.enter_context(
                DbnFile(
                    directory / f"sample_{parents[kind]}_{schema}_{span}.dbn.zst",
                    schema,
                    parents[kind],
                    start_ns,
                    end_ns,
                    mappings[kind],
                )
            )
            for kind, schema in files
        }
        for begin in range(first, last, _BLOCK):
            stop = min(begin + _BLOCK, last)
            for kind, schema, made in _block(place, begin, stop):
                if seed is not None:
                    made = chaos.planted(place, begin, stop, seed, kind, schema, made)
                if schema in _BAR_NS:
                    ended = made["ts_event"] + np.uint64(_BAR_NS[schema])
                    inside = (ended > start_ns) & (ended <= end_ns)
                else:
                    inside = (made["ts_recv"] >= start_ns) & (made["ts_recv"] < end_ns)
                written[kind, schema].write(made[inside])
    return [file.path for file in written.values()]


def planted(market: Market, start: datetime, end: datetime, seed: int) -> list[chaos.Fault]:
    """The faults of the sessions whose snapshot lies in ``start`` to ``end``, in order."""
    place = world(market, end.astimezone(UTC).date())
    span = np.searchsorted(place.sessions.snapshot_at, [_ns(start), _ns(end)])
    return chaos.faults(place, int(span[0]), int(span[1]), seed)


def _block(place: World, first: int, last: int) -> Iterator[tuple[str, str, Records]]:
    """Yield each file's records of sessions ``first`` to ``last`` - 1, in order of time."""
    yield "FUT", "definition", definitions.future_definitions(place, first, last)
    yield "FUT", "bbo-1m", quotes.future_quotes(place, first, last)
    yield "FUT", "statistics", statistics.future_statistics(place, first, last)
    traced = bars.trace(place, first, last)
    yield "FUT", "ohlcv-1m", bars.minute_bars(place, traced)
    yield "FUT", "ohlcv-1d", bars.day_bars(place, traced)
    chain = place.chain(first, last)
    yield "OPT", "definition", definitions.option_definitions(place, chain)
    yield "OPT", "bbo-1m", quotes.option_quotes(place, chain.where(chain.quoted))
    yield "OPT", "statistics", statistics.option_statistics(place, chain.where(chain.settled))


def _sessions(place: World, start: datetime, end: datetime) -> tuple[int, int]:
    """Return the run of sessions that may publish something in the range."""
    begin = max(start.astimezone(UTC).date() - _REACH, FIRST_SESSION)
    stop = end.astimezone(UTC).date()
    first = int(np.searchsorted(place.sessions.day, np.datetime64(begin)))
    last = int(np.searchsorted(place.sessions.day, np.datetime64(stop), side="right"))
    return first, max(first, last)


def _future_mappings(
    place: World, first: int, last: int, start: datetime, end: datetime
) -> dict[str, list[Interval]]:
    found: dict[str, list[Interval]] = {}
    contracts = place.futures
    ids, spreads = place.future_id, place.spread_id
    for i in np.flatnonzero((contracts.first < last) & (contracts.last >= first)).tolist():
        index = np.array([i])
        expiry = contracts.expiry[i].item()
        listed = _listed(place, int(contracts.first[i]), expiry)
        _add(found, contracts.stem[i], listed, int(ids(index)[0]), start, end)
        if contracts.first[i + 1] < last:
            spread = f"{contracts.stem[i]}-{contracts.stem[i + 1]}"
            listed = _listed(place, int(contracts.first[i + 1]), expiry)
            _add(found, spread, listed, int(spreads(index)[0]), start, end)
    return found


def _option_mappings(
    place: World, first: int, last: int, start: datetime, end: datetime
) -> dict[str, list[Interval]]:
    found: dict[str, list[Interval]] = {}
    contracts, root = place.options, place.market.option_roots[0]
    for i in np.flatnonzero((contracts.first < last) & (contracts.last >= first)).tolist():
        index, expiry = np.array([i]), contracts.expiry[i].item()
        begin = int(contracts.first[i])
        strikes, since = place.listed_strikes(i, last)
        for is_call in (True, False):
            ids = place.option_id(index, strikes, np.full(len(strikes), is_call))
            for strike, session, one in zip(
                strikes.tolist(), since.tolist(), ids.tolist(), strict=True
            ):
                symbol = option_symbol(place, i, strike, is_call)
                _add(found, symbol, _listed(place, session, expiry), one, start, end)
        strangle, user = (int(place.combination_id(index, own)[0]) for own in (False, True))
        listed = _listed(place, begin, expiry)
        _add(found, f"{contracts.stem[i]}:ST", listed, strangle, start, end)
        _add(found, f"UD:{root}: SG {user}", listed, user, start, end)
    return found


def _listed(place: World, session: int, expiry: date) -> tuple[date, date]:
    """Return the dates of a listing, the last one exclusive."""
    return place.sessions.day[session].item(), expiry + timedelta(days=1)


def _add(
    found: dict[str, list[Interval]],
    symbol: str,
    listed: tuple[date, date],
    instrument: int,
    start: datetime,
    end: datetime,
) -> None:
    """Add the part of a listing that lies in the range."""
    last = (end.astimezone(UTC) - timedelta(microseconds=1)).date() + timedelta(days=1)
    begin, stop = max(listed[0], start.astimezone(UTC).date()), min(listed[1], last)
    if begin < stop:
        found.setdefault(symbol, []).append(Interval(begin, stop, str(instrument)))


def _ns(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1) * 1000
