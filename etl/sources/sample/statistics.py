"""Statistics: settlements in two vintages, cleared volume, open interest, and intraday extremes."""

from __future__ import annotations

from datetime import time

import numpy as np
from numpy.typing import NDArray

from etl.sources.sample.contracts import local_ns
from etl.sources.sample.dbn_files import (
    UNDEF_PRICE,
    UNDEF_QUANTITY,
    UNDEF_TIME,
    Records,
    records,
)
from etl.sources.sample.definitions import nano
from etl.sources.sample.noise import normal, uniform
from etl.sources.sample.world import Chain, World

__all__ = [
    "future_preliminary",
    "future_statistics",
    "option_settlements",
    "option_statistics",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SETTLEMENT, VOLUME, OPEN_INTEREST = 3, 6, 9
LOWEST_OFFER, HIGHEST_BID = 7, 8
FINAL, ACTUAL, TRADING_TICK = 1, 2, 4  # bits of a settlement's flags, CME tag 731

_MINUTE_NS = 60_000_000_000
_PRELIMINARY = 25 * _MINUTE_NS  # after the close
_FINAL = time(18, 0)
_NEXT_MORNING = time(5, 30)


def future_statistics(world: World, first: int, last: int) -> Records:
    """Return what is published about the futures of sessions ``first`` to ``last`` - 1."""
    session = np.arange(first, last)
    listed = world.listed_futures(session)
    n = listed.shape[1]
    session, future = session.repeat(n), listed.ravel()
    live = world.futures.expires_at[future] > world.sessions.close_at[session]
    session, future = session[live], future[live]
    ids = world.future_id(future)
    parts = _settlements(
        world,
        session,
        ids,
        future_preliminary(world, session, future),
        world.future_settlement(session, future),
        np.ones(len(ids), dtype=np.bool_),
    )
    parts += _counts(world, session, ids, VOLUME, world.future_volume(session, future))
    open_interest = world.future_open_interest(session, future)
    parts += _counts(world, session, ids, OPEN_INTEREST, open_interest)
    parts += _extremes(world, session, future, ids)
    return _in_order(parts)


def option_statistics(world: World, chain: Chain) -> Records:
    """Return what is published about a chain; it holds options that are alive at the close."""
    ids = world.option_id(chain.option, chain.strike, chain.is_call)
    preliminary, final = option_settlements(world, chain)
    volume = world.volume(chain)
    parts = _settlements(world, chain.session, ids, preliminary, final, volume > 0)
    parts += _counts(world, chain.session, ids, VOLUME, volume)
    parts += _counts(world, chain.session, ids, OPEN_INTEREST, world.open_interest(chain))
    return _in_order(parts)


def future_preliminary(world: World, session: Ints, future: Ints) -> Floats:
    """Return the futures' preliminary settlements: some are off by a tick."""
    day = world.sessions.day[session].astype(np.int64)
    drawn = uniform(world.market.code, "prelim", future, day)
    off = np.where(drawn < 0.1, -1.0, np.where(drawn > 0.9, 1.0, 0.0))
    return world.future_settlement(session, future) + off * world.market.tick


def option_settlements(world: World, chain: Chain) -> tuple[Floats, Floats]:
    """Return a chain's preliminary and final settlements.

    The final ones are the true prices at the close in whole ticks, with the cabinet price where
    that is nothing; the preliminary ones have each expiry's volatilities a little off.
    """
    future = world.options.underlying[chain.option]
    forward = world.future_settlement(chain.session, future)
    at = world.sessions.close_at[chain.session]
    day = world.sessions.day[chain.session].astype(np.int64)
    off = 1.0 + 0.006 * normal(world.market.code, "prelim", chain.option, day)
    true_price = world.option_price(chain, forward, at)
    # Away from the true volatility the early-exercise premium hardly changes: scale the price's
    # time value, which is what the shift of a volatility does near the money.
    intrinsic = np.maximum(np.where(chain.is_call, 1.0, -1.0) * (forward - chain.strike), 0.0)
    shifted = intrinsic + (true_price - intrinsic) * off
    return _settled(world, shifted), _settled(world, true_price)


def _settled(world: World, price: Floats) -> Floats:
    tick = world.market.option_tick
    rounded = np.rint(price / tick) * tick
    return np.where(rounded > 0.0, rounded, world.product.cabinet)


def _settlements(
    world: World, session: Ints, ids: Ints, preliminary: Floats, final: Floats, actual: Bools
) -> list[Records]:
    sessions, zone = world.sessions, world.market.timezone
    flags = TRADING_TICK + np.where(actual, ACTUAL, 0)
    evening = local_ns(sessions.day, _FINAL, zone)[session]
    parts = []
    for price, at, minutes, bit in (
        (preliminary, sessions.close_at[session] + _PRELIMINARY, 10, 0),
        (final, evening, 1, FINAL),
    ):
        made = _published(world, session, ids, SETTLEMENT, at, minutes)
        made["price"] = np.rint(price * 1e9).astype(np.int64)
        made["stat_flags"] = flags + bit
        parts.append(made)
    return parts


def _counts(world: World, session: Ints, ids: Ints, kind: int, count: Ints) -> list[Records]:
    """Return what the exchange publishes on the morning of the next session."""
    sessions = world.sessions
    morning = local_ns(sessions.day, _NEXT_MORNING, world.market.timezone)
    made = _published(world, session, ids, kind, morning[session + 1], 2)
    made["quantity"] = count
    return [made]


def _extremes(world: World, session: Ints, future: Ints, ids: Ints) -> list[Records]:
    """Return the day's highest bid and lowest offer as of an hour before the snapshot."""
    until = world.product.day_minutes - 60
    path = world.future_path(session, future)[:, : until + 1] / world.market.tick
    at = world.sessions.snapshot_at[session] - 60 * _MINUTE_NS
    parts = []
    for kind, ticks in (
        (HIGHEST_BID, np.floor(path.max(axis=1)) - 1),
        (LOWEST_OFFER, np.ceil(path.min(axis=1)) + 1),
    ):
        made = _published(world, session, ids, kind, at, 1)
        made["ts_ref"] = UNDEF_TIME
        made["price"] = ticks.astype(np.int64) * nano(world.market.tick)
        parts.append(made)
    return parts


def _published(
    world: World, session: Ints, ids: Ints, kind: int, at: Ints, minutes: int
) -> Records:
    """Return records of one statistic, spread over the ``minutes`` after ``at``."""
    code = world.market.code
    made = records("statistics", len(ids))
    made["instrument_id"] = ids
    made["stat_type"] = kind
    delay = uniform(code, "publish", ids, at, kind) * minutes * _MINUTE_NS
    made["ts_event"] = at + delay.astype(np.int64)
    made["ts_recv"] = made["ts_event"] + 400_000
    made["ts_ref"] = world.sessions.midnight[session]
    made["ts_in_delta"] = 20_000
    made["price"] = UNDEF_PRICE
    made["quantity"] = UNDEF_QUANTITY
    made["update_action"] = 1
    made["stat_flags"] = 255
    made["sequence"] = (uniform(code, "seq", ids, at, kind) * 2**31).astype(np.uint32)
    return made


def _in_order(parts: list[Records]) -> Records:
    made = np.concatenate(parts)
    return made[np.lexsort((made["instrument_id"], made["ts_recv"]))]
