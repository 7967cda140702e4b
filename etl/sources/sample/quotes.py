"""Best bid and offer at the minute: before the snapshot, at it, and after the cut-off.

At the snapshot a mid is the world's true price but for rounding to half a tick and a little noise;
quotes after it come from a moved future and shifted volatilities, so that a query that looks
ahead shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from etl.sources.sample.contracts import DAY_NS
from etl.sources.sample.dbn_files import UNDEF_PRICE, Records, records
from etl.sources.sample.definitions import nano
from etl.sources.sample.noise import normal, uniform
from etl.sources.sample.world import Chain, World
from mathlib import black76

__all__ = ["OFFSETS", "future_quotes", "option_quotes", "snapshot_quotes"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Minutes from the snapshot at which quotes are stamped.
OFFSETS = (-10, -1, 0, 1, 3)

_MINUTE_NS = 60_000_000_000
_LATE_VOL = 0.06  # shift of volatilities after the cut-off, up or down by session
_CROSSED, _NO_BID, _NO_ASK = 0.015, 0.015, 0.01
_NO_PRICE = np.iinfo(np.int64).max


def future_quotes(world: World, first: int, last: int) -> Records:
    """Return the quotes of outrights and calendar spreads, sessions ``first`` to ``last`` - 1."""
    session = np.arange(first, last)
    listed = world.listed_futures(session)
    n = listed.shape[1]
    row_session, future = session.repeat(n), listed.ravel()
    rank = np.tile(np.arange(n), len(listed))
    path, tick = world.future_path(row_session, future), world.market.tick
    parts = []
    for offset in OFFSETS:
        if offset == 0:
            price = world.future_snapshot(row_session, future)
        elif offset < 0:
            price = path[:, world.product.day_minutes + offset]
        else:
            price = world.future_close(row_session, future)
        at = world.sessions.snapshot_at[row_session] + offset * _MINUTE_NS
        middle = np.rint(price / tick * 2.0).astype(np.int64)
        half_width = 2 - middle % 2 + np.where(rank < 4, 0, 2)  # in half ticks
        open_ = world.futures.expires_at[future] > at
        bid, ask = middle - half_width, middle + half_width
        parts.append(_bbo(world, tick, world.future_id(future), at, bid, ask)[open_])
        by_session = middle.reshape(len(session), n)
        spread = (by_session[:, :-1] - by_session[:, 1:]).ravel()
        half_width = 4 - spread % 2
        near = np.tile(np.arange(n) < n - 1, len(listed))
        parts.append(
            _bbo(
                world,
                tick,
                world.spread_id(future[near]),
                at[near],
                spread - half_width,
                spread + half_width,
            )[open_[near]]
        )
    return _in_order(np.concatenate(parts))


def option_quotes(world: World, chain: Chain) -> Records:
    """Return the quotes of a chain, which holds options that are alive at the snapshot.

    Away from the snapshot the early-exercise premium is taken to be the snapshot's.
    """
    at_snapshot = world.sessions.snapshot_at[chain.session]
    future = world.options.underlying[chain.option]
    smile = world.slices(chain.session, chain.option, at_snapshot)
    strike = chain.strike.astype(np.float64)
    rate = world.rate[chain.session]
    forward = world.future_snapshot(chain.session, future)
    vol = smile.vol(np.log(strike / forward))
    true_price = world.snapshot_price(chain)
    premium = true_price - black76.price(forward, strike, smile.t_years, vol, rate, chain.is_call)
    sessions, row = np.unique(chain.session * len(world.futures) + future, return_inverse=True)
    path = world.future_path(sessions // len(world.futures), sessions % len(world.futures))
    parts = []
    for offset in OFFSETS:
        at = at_snapshot + offset * _MINUTE_NS
        price = true_price
        if offset != 0:
            if offset < 0:
                forward = path[row, world.product.day_minutes + offset]
            else:
                forward = world.future_close(chain.session, future)
            late = _LATE_VOL * world.side(chain.session) if offset > 0 else 0.0
            vol = smile.vol(np.log(strike / forward)) + late
            years = smile.t_years - offset * _MINUTE_NS / (365 * DAY_NS)
            price = premium + black76.price(forward, strike, years, vol, rate, chain.is_call)
        bid, ask = _two_sided(world, chain, price, offset)
        open_ = world.options.expires_at[chain.option] > at
        ids = world.option_id(chain.option, chain.strike, chain.is_call)
        parts.append(_bbo(world, world.market.option_tick, ids, at, bid, ask)[open_])
    return _in_order(np.concatenate(parts))


def snapshot_quotes(world: World, chain: Chain, true_price: Floats) -> tuple[Floats, Floats]:
    """Return bids and asks at the snapshot; NaN where there is none."""
    half = world.market.option_tick / 2
    bid, ask = _two_sided(world, chain, true_price, 0)
    return (
        np.where(bid == _NO_PRICE, np.nan, bid * half),
        np.where(ask == _NO_PRICE, np.nan, ask * half),
    )


def _two_sided(world: World, chain: Chain, price: Floats, offset: int) -> tuple[Ints, Ints]:
    """Return bid and ask around ``price`` in half ticks, ``_NO_PRICE`` where there is none.

    The width is 10 % of the mid at the money and up to 30 % far from it, at least a tick.  It is
    even or odd as the mid is, so that the mid is the half tick nearest to the price.
    """
    tick = world.market.option_tick
    ids = world.option_id(chain.option, chain.strike, chain.is_call)
    at = world.sessions.snapshot_at[chain.session] + offset * _MINUTE_NS
    code = world.market.code
    distance = _deviations(world, chain)
    share = 0.10 + 0.03 * np.abs(distance) ** 2 + 0.02 * uniform(code, "width", ids, at)
    share = np.minimum(share, 0.30)
    forward = world.future_snapshot(chain.session, world.options.underlying[chain.option])
    intrinsic = np.maximum(np.where(chain.is_call, 1.0, -1.0) * (forward - chain.strike), 0.0)
    time_value = np.maximum(price - intrinsic, 0.0)  # what makers disagree about
    noisy = price + 0.03 * share * time_value * normal(code, "mid", ids, at)
    middle = np.rint(noisy / tick * 2.0).astype(np.int64)
    odd = middle % 2
    half_width = 2 * np.rint((price * share / tick - odd) / 2).astype(np.int64) + odd
    half_width = np.maximum(half_width, 2 - odd)
    bid, ask = middle - half_width, middle + half_width
    drawn = uniform(code, "fault", ids, at)
    drawn[np.abs(distance) < world.product.whole_zone] = 1.0
    crossed = (drawn < _CROSSED) & (bid > 0)
    bid[crossed], ask[crossed] = ask[crossed], bid[crossed]
    no_bid = (bid <= 0) | ((drawn >= _CROSSED) & (drawn < _CROSSED + _NO_BID))
    no_ask = (drawn >= _CROSSED + _NO_BID) & (drawn < _CROSSED + _NO_BID + _NO_ASK)
    return np.where(no_bid, _NO_PRICE, bid), np.where(no_ask, _NO_PRICE, ask)


def _deviations(world: World, chain: Chain) -> Floats:
    """Return the distance from the money in standard deviations, signed, at the snapshot."""
    future = world.options.underlying[chain.option]
    forward = world.future_snapshot(chain.session, future)
    at = world.sessions.snapshot_at[chain.session]
    smile = world.slices(chain.session, chain.option, at)
    at_the_money = np.sqrt(smile.total_variance(np.zeros(len(forward))))
    return np.log(chain.strike / forward) / at_the_money


def _bbo(world: World, tick: float, ids: Ints, at: Ints, bid: Ints, ask: Ints) -> Records:
    """Return records stamped ``at``; ``bid`` and ``ask`` count halves of ``tick``."""
    code, half_tick = world.market.code, nano(tick) // 2
    made = records("bbo-1m", len(ids))
    made["instrument_id"] = ids
    made["ts_recv"] = at
    made["ts_event"] = at - 1_000_000 - (uniform(code, "stamp", ids, at) * 55e9).astype(np.int64)
    made["price"] = UNDEF_PRICE
    made["side"] = b"N"
    made["flags"] = 128  # last record of its event
    made["sequence"] = (uniform(code, "seq", ids, at) * 2**31).astype(np.uint32)
    for side, price in (("bid", bid), ("ask", ask)):
        there = price != _NO_PRICE
        size = 1 + (60 * uniform(code, side, ids, at) ** 3).astype(np.uint32)
        made[f"{side}_px_00"] = np.where(there, np.where(there, price, 0) * half_tick, UNDEF_PRICE)
        made[f"{side}_sz_00"] = np.where(there, size, 0)
        made[f"{side}_ct_00"] = np.where(there, 1 + size // 12, 0)
    return made


def _in_order(made: Records) -> Records:
    return made[np.lexsort((made["instrument_id"], made["ts_recv"]))]
