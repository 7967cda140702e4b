"""Minute and UTC-day bars of the futures, along the path that the quotes lie on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etl.sources.sample.dbn_files import Records, records
from etl.sources.sample.definitions import nano
from etl.sources.sample.noise import normal, uniform
from etl.sources.sample.world import World

__all__ = ["Bars", "day_bars", "minute_bars", "trace"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_MINUTE_NS = 60_000_000_000
_MINUTE_CONTRACTS = 4  # contracts with minute bars, nearest first
#: Chance that a minute has a trade, by the contract's place in the listing; the last one on.
_BUSY = np.array([0.98, 0.9, 0.75, 0.5, 0.2, 0.1, 0.05, 0.05])


@dataclass(frozen=True)
class Bars:
    """Bars of contract days (rows) by minute (columns), prices in ticks."""

    session: Ints
    future: Ints
    rank: Ints
    start: Ints  # ns, one a bar
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    traded: Bools


def trace(world: World, first: int, last: int) -> Bars:
    """Return every contract's minutes of sessions ``first`` to ``last`` - 1.

    The bar that ends at the snapshot closes on the snapshot's price; the next one opens on it and
    closes on the close.
    """
    session = np.arange(first, last)
    listed = world.listed_futures(session)
    n = listed.shape[1]
    rank = np.tile(np.arange(n), len(session))
    session, future = session.repeat(n), listed.ravel()
    sessions, tick = world.sessions, world.market.tick
    day = sessions.day[session].astype(np.int64)[:, None]

    snapshot = sessions.snapshot_at[session]
    after = (sessions.close_at[session] - snapshot) // _MINUTE_NS
    extra = int(after.max()) if len(after) else 0
    minutes = world.product.day_minutes
    place = np.arange(minutes + extra)
    keys = (world.market.code, "bar", future[:, None], day, place[None, :])

    final = np.rint(world.future_close(session, future) / tick).astype(np.int64)
    before = np.rint(world.future_path(session, future) / tick).astype(np.int64)
    wander = np.rint(1.2 * uniform(*keys, 1)[:, minutes:] - 0.6).astype(np.int64)
    wander[np.arange(extra) == (after - 1)[:, None]] = 0
    ends = np.concatenate((before, final[:, None] + wander), axis=1)
    opens, closes = ends[:, :-1], ends[:, 1:]

    start = snapshot[:, None] + (place - minutes) * _MINUTE_NS
    traded = uniform(*keys, 2) < _BUSY[rank][:, None]
    traded |= (rank < _MINUTE_CONTRACTS)[:, None] & (place == minutes - 1)
    traded &= (start >= sessions.open_at[session][:, None]) & (place < (minutes + after)[:, None])
    traded &= start + _MINUTE_NS <= world.futures.expires_at[future][:, None]
    size = world.future_volume(session, future)[:, None] / (minutes + extra)
    return Bars(
        session=session,
        future=future,
        rank=rank,
        start=start,
        open=opens,
        high=np.maximum(opens, closes) + (2.5 * uniform(*keys, 3) ** 2).astype(np.int64),
        low=np.minimum(opens, closes) - (2.5 * uniform(*keys, 4) ** 2).astype(np.int64),
        close=closes,
        volume=1 + (size * np.exp(0.7 * normal(*keys, 5))).astype(np.int64),
        traded=traded,
    )


def minute_bars(world: World, bars: Bars) -> Records:
    """Return the ohlcv-1m records of the nearest contracts; a minute without a trade has none."""
    row, column = np.nonzero(bars.traded & (bars.rank < _MINUTE_CONTRACTS)[:, None])
    made = records("ohlcv-1m", len(row))
    made["instrument_id"] = world.future_id(bars.future[row])
    made["ts_event"] = bars.start[row, column]
    for field in ("open", "high", "low", "close"):
        made[field] = getattr(bars, field)[row, column] * nano(world.market.tick)
    made["volume"] = bars.volume[row, column]
    return made[np.lexsort((made["instrument_id"], made["ts_event"]))]


def day_bars(world: World, bars: Bars) -> Records:
    """Return the ohlcv-1d records of outrights and calendar spreads.

    No sample trade falls in an evening, so that a UTC day holds one session.
    """
    keep = np.flatnonzero(bars.traded.any(axis=1))
    traded = bars.traded[keep]
    begin = traded.argmax(axis=1)
    end = traded.shape[1] - 1 - traded[:, ::-1].argmax(axis=1)
    big = np.int64(2**40)
    made = records("ohlcv-1d", len(keep))
    made["instrument_id"] = world.future_id(bars.future[keep])
    made["ts_event"] = world.sessions.midnight[bars.session[keep]]
    tick = nano(world.market.tick)
    made["open"] = bars.open[keep, begin] * tick
    made["close"] = bars.close[keep, end] * tick
    made["high"] = np.where(traded, bars.high[keep], -big).max(axis=1) * tick
    made["low"] = np.where(traded, bars.low[keep], big).min(axis=1) * tick
    made["volume"] = np.where(traded, bars.volume[keep], 0).sum(axis=1)
    made = np.concatenate((made, _spread_days(world, bars, made, keep)))
    return made[np.lexsort((made["instrument_id"], made["ts_event"]))]


def _spread_days(world: World, bars: Bars, outrights: Records, keep: Ints) -> Records:
    """Return a flat bar for each pair of neighbours that both traded."""
    near = np.flatnonzero(np.diff(keep) == 1)
    near = near[bars.session[keep[near]] == bars.session[keep[near + 1]]]
    made = records("ohlcv-1d", len(near))
    made["instrument_id"] = world.spread_id(bars.future[keep[near]])
    made["ts_event"] = outrights["ts_event"][near]
    for field in ("open", "high", "low", "close"):
        made[field] = outrights["close"][near] - outrights["close"][near + 1]
    made["volume"] = 1 + outrights["volume"][near + 1] // 8
    return made
