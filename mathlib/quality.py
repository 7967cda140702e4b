"""Which quotes can be used: the liquid-strike rule, quote flags, static-arbitrage checks.

Quotes are arrays of ``bid`` and ``ask`` in the quote unit, NaN where a side is missing.  Slices
(one expiry of one underlying) come in the ragged layout: slice ``i`` is rows ``offsets[i]`` up to
``offsets[i + 1]``.
"""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mathlib._arrays import (
    BoolArray,
    FloatArray,
    IndexArray,
    as_bool,
    as_float,
    checked_offsets,
)

__all__ = ["Arbitrage", "QuoteFlag", "is_liquid", "quote_flags", "slice_flags", "static_flags"]

FlagArray = NDArray[np.uint8]

#: Share of the strike below which a gain is the rounding of the arithmetic.
_ROUNDING = 1e-12


class QuoteFlag(IntFlag):
    """What is wrong with a quote; 0 is a two-sided quote in order."""

    NO_BID = 1  #: the bid is missing
    NO_ASK = 2  #: the ask is missing
    ZERO_BID = 4  #: nobody bids: the bid is 0
    CROSSED = 8  #: the bid is above the ask
    LOCKED = 16  #: the bid is the ask
    IMPOSSIBLE = 32  #: infinite or negative, or an ask of 0


class Arbitrage(IntFlag):
    """A static arbitrage that can be traded at the quotes of a slice; 0 is none."""

    MONOTONE = 1  #: a vertical spread is worth less than 0 or more than its strikes are apart
    CONVEX = 2  #: a butterfly is worth less than 0
    PARITY = 4  #: call less put is not what put-call parity allows
    BOUND = 8  #: below what exercise is worth or above the underlying (call) or strike (put)


def quote_flags(bid: ArrayLike, ask: ArrayLike) -> FlagArray:
    """What is wrong with each quote.

    Parameters
    ----------
    bid, ask : array_like
        In the quote unit, NaN where the side is missing; broadcast.

    Returns
    -------
    ndarray of uint8
        Sum of `QuoteFlag`; 0 for a two-sided quote in order.
    """
    b, a = np.broadcast_arrays(as_float("bid", bid), as_float("ask", ask))
    flags = np.zeros(b.shape, np.uint8)
    flags |= np.where(np.isnan(b), QuoteFlag.NO_BID, 0).astype(np.uint8)
    flags |= np.where(np.isnan(a), QuoteFlag.NO_ASK, 0).astype(np.uint8)
    flags |= np.where(b == 0.0, QuoteFlag.ZERO_BID, 0).astype(np.uint8)
    flags |= np.where(b > a, QuoteFlag.CROSSED, 0).astype(np.uint8)
    flags |= np.where(b == a, QuoteFlag.LOCKED, 0).astype(np.uint8)
    impossible = np.isinf(b) | np.isinf(a) | (b < 0.0) | (a <= 0.0)
    flags |= np.where(impossible, QuoteFlag.IMPOSSIBLE, 0).astype(np.uint8)
    return flags


def is_liquid(
    bid: ArrayLike,
    ask: ArrayLike,
    open_interest: ArrayLike,
    min_open_interest: ArrayLike = 50,
    max_spread: ArrayLike = 0.20,
) -> BoolArray:
    """The liquid-strike rule: held by many and quoted tightly.

    Parameters
    ----------
    bid, ask : array_like
        In the quote unit.
    open_interest : array_like
        Contracts; NaN where not known.
    min_open_interest : array_like
        Open interest must be above this.
    max_spread : array_like
        ``(ask - bid)/mid`` must be below this.

    Returns
    -------
    ndarray of bool
        False where a side or the open interest is missing, the bid is 0 or the quote crossed.
    """
    b, a = as_float("bid", bid), as_float("ask", ask)
    interest = as_float("open_interest", open_interest)
    with np.errstate(all="ignore"):
        # A spread of exactly the limit is out, however its last digit was rounded.
        tight = (a - b) < as_float("max_spread", max_spread) * 0.5 * (a + b) * (1.0 - 1e-12)
    quoted = (b > 0.0) & (a >= b) & np.isfinite(a)
    held = interest > as_float("min_open_interest", min_open_interest)
    return np.asarray(quoted & tight & held)


def slice_flags(offsets: ArrayLike, flags: ArrayLike) -> FlagArray:
    """All flags raised in each slice: the bitwise union of its rows, 0 for an empty slice."""
    values = np.asarray(flags)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise TypeError("flags must be a one-dimensional array of integers")
    bounds = checked_offsets(offsets, values.size)
    padded = np.append(values.astype(np.uint8), np.uint8(0))
    union = np.bitwise_or.reduceat(padded, bounds[:-1]) if bounds.size > 1 else padded[:0]
    return np.where(np.diff(bounds) > 0, union, np.uint8(0)).astype(np.uint8)


def static_flags(
    offsets: ArrayLike,
    strike: ArrayLike,
    bid: ArrayLike,
    ask: ArrayLike,
    is_call: ArrayLike,
    forward: ArrayLike,
    discount: ArrayLike,
    is_american: ArrayLike = False,
) -> FlagArray:
    """Static arbitrage beyond the spread, per quote.

    A check fails where a portfolio bought at asks and sold at bids costs less than it is surely
    worth; every quote in it is flagged.  Quotes are compared with the next of the same type in
    strike, a call with the put of its strike.

    Parameters
    ----------
    offsets : array_like of int
        ``n + 1`` entries that cut the rows into slices; rows of a slice in any order.
    strike, bid, ask : array_like
        One entry a row; rows whose two sides are not there or that are crossed are left out.
    is_call : array_like of bool
        One entry a row.
    forward, discount : array_like
        One entry a slice (or one for all); NaN leaves out the checks that need it.
    is_american : array_like of bool
        One entry a slice (or one for all): exercise on any day, where parity is a band.

    Returns
    -------
    ndarray of uint8
        Sum of `Arbitrage` per row; 0 where nothing is wrong or nothing can be said.

    Raises
    ------
    TypeError, ValueError
        Wrong dtypes; shapes or ``offsets`` that do not fit.
    """
    columns = [as_float(n, c) for n, c in (("strike", strike), ("bid", bid), ("ask", ask))]
    calls = as_bool("is_call", is_call)
    size = np.broadcast_shapes(*(c.shape for c in columns), calls.shape)
    if len(size) != 1:
        raise ValueError("strike, bid, ask and is_call must be one-dimensional")
    k, b, a = (np.broadcast_to(c, size) for c in columns)
    bounds = checked_offsets(offsets, size[0])
    owner = np.repeat(np.arange(bounds.size - 1), np.diff(bounds))
    slices = (bounds.size - 1,)
    f = np.broadcast_to(as_float("forward", forward), slices)[owner]
    d = np.broadcast_to(as_float("discount", discount), slices)[owner]
    american = np.broadcast_to(as_bool("is_american", is_american), slices)[owner]

    usable = (quote_flags(b, a) & ~np.uint8(QuoteFlag.ZERO_BID | QuoteFlag.LOCKED)) == 0
    rows = np.flatnonzero(usable & np.isfinite(k) & (k > 0.0))
    rows = rows[np.lexsort((k[rows], np.broadcast_to(calls, size)[rows], owner[rows]))]
    quotes = _Quotes(
        row=rows,
        owner=owner[rows],
        is_call=np.broadcast_to(calls, size)[rows],
        strike=k[rows],
        bid=b[rows],
        ask=a[rows],
        forward=f[rows],
        discount=d[rows],
        is_american=american[rows],
        tolerance=_ROUNDING * k[rows],
    )
    flags = np.zeros(size[0], np.uint8)
    with np.errstate(all="ignore"):
        _flag_verticals(flags, quotes)
        _flag_butterflies(flags, quotes)
        _flag_bounds(flags, quotes)
        _flag_parity(flags, quotes)
    return flags


class _Quotes(NamedTuple):
    """Usable quotes in the order of slice, puts before calls, strike."""

    row: IndexArray  # where they stand in the caller's arrays
    owner: IndexArray
    is_call: BoolArray
    strike: FloatArray
    bid: FloatArray
    ask: FloatArray
    forward: FloatArray
    discount: FloatArray
    is_american: BoolArray
    tolerance: FloatArray

    def same_run(self, apart: int) -> BoolArray:
        """Whether each quote and the one ``apart`` places on are of one slice and type."""
        owners = self.owner[:-apart] == self.owner[apart:]
        return np.asarray(owners & (self.is_call[:-apart] == self.is_call[apart:]))

    def payoff_worth(self) -> FloatArray:
        """What one unit of payoff is worth at most: paid at expiry, or now where that is more."""
        return np.where(self.is_american, np.fmax(1.0, self.discount), self.discount)


def _raise(flags: FlagArray, flag: Arbitrage, *rows: IndexArray) -> None:
    for each in rows:
        flags[each] |= np.uint8(flag)


def _flag_verticals(flags: FlagArray, q: _Quotes) -> None:
    pair = q.same_run(1)
    # The option that is worth more and the one that is worth less: calls fall with the strike.
    dearer_bid = np.where(q.is_call[1:], q.bid[:-1], q.bid[1:])
    dearer_ask = np.where(q.is_call[1:], q.ask[:-1], q.ask[1:])
    cheaper_bid = np.where(q.is_call[1:], q.bid[1:], q.bid[:-1])
    cheaper_ask = np.where(q.is_call[1:], q.ask[1:], q.ask[:-1])
    # A spread whose discount is not known is worth its whole width at most.
    worth = np.where(np.isnan(q.discount), 1.0, q.payoff_worth())
    width = np.diff(q.strike) * worth[1:]
    tolerance = q.tolerance[1:]
    bad = pair & (
        (cheaper_bid - dearer_ask > tolerance) | (dearer_bid - cheaper_ask - width > tolerance)
    )
    _raise(flags, Arbitrage.MONOTONE, q.row[:-1][bad], q.row[1:][bad])


def _flag_butterflies(flags: FlagArray, q: _Quotes) -> None:
    low, mid, high = q.strike[:-2], q.strike[1:-1], q.strike[2:]
    share = (high - mid) / (high - low)
    wings = share * q.ask[:-2] + (1.0 - share) * q.ask[2:]
    bad = q.same_run(2) & (q.bid[1:-1] - wings > q.tolerance[2:])
    _raise(flags, Arbitrage.CONVEX, q.row[:-2][bad], q.row[1:-1][bad], q.row[2:][bad])


def _flag_bounds(flags: FlagArray, q: _Quotes) -> None:
    worth = q.payoff_worth()
    exercise = np.where(q.is_call, q.forward - q.strike, q.strike - q.forward)
    most = np.where(q.is_call, q.forward, q.strike)
    bad = (worth * exercise - q.ask > q.tolerance) | (q.bid - worth * most > q.tolerance)
    _raise(flags, Arbitrage.BOUND, q.row[bad])


def _flag_parity(flags: FlagArray, q: _Quotes) -> None:
    # A stable sort by slice and strike puts each put next to the call of its strike.
    order = np.lexsort((q.strike, q.owner))
    first, second = order[:-1], order[1:]
    pair = (q.owner[first] == q.owner[second]) & (q.strike[first] == q.strike[second])
    pair &= q.is_call[second] & ~q.is_call[first]
    put, call = first[pair], second[pair]
    f, k, d = q.forward[put], q.strike[put], q.discount[put]
    american = q.is_american[put]
    # European: C - P = D (F - K).  American: D F - K <= C - P <= F - D K at positive rates; at
    # negative ones early exercise is worth nothing.
    equal = d * (f - k)
    most = np.where(american, np.maximum(f - d * k, equal), equal)
    least = np.where(american, np.minimum(d * f - k, equal), equal)
    bad = (q.bid[call] - q.ask[put] - most > q.tolerance[put]) | (
        least - (q.ask[call] - q.bid[put]) > q.tolerance[put]
    )
    _raise(flags, Arbitrage.PARITY, q.row[put[bad]], q.row[call[bad]])
