"""Dealer-flow exposures in USD: gamma, vanna and charm of open positions, and where gamma is zero.

Greeks are Black-76 with the forward as the only thing that moves (strikes and volatilities stay:
sticky strike).  ``quantity`` is a number of contracts, open interest or volume; ``multiplier`` the
USD that one contract gains per quoted point.  Exposures are those of a holder of the contracts; a
dealer's are these times `signs`, by one of the conventions that research uses, none of which is
observed.  `dealer_share` gives the convention ``cot`` its size and its side from the Commitments
of Traders: dealers hold that share of each option's open interest, long of calls and short of
puts, so their exposures are ``dealer_share`` times those of ``calls_long_puts_short``.

Chains come in the ragged layout: chain ``i`` is rows ``offsets[i]`` up to ``offsets[i + 1]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mathlib import black76
from mathlib._arrays import (
    FloatArray,
    IndexArray,
    StatusArray,
    as_bool,
    as_float,
    checked_offsets,
    in_blocks,
)

__all__ = [
    "CONVENTIONS",
    "ZeroGamma",
    "dealer_share",
    "exposures",
    "exposures_of",
    "signs",
    "zero_gamma",
]

#: Sign of a dealer's position in calls and in puts.
CONVENTIONS: dict[str, tuple[float, float]] = {
    "dealer_short": (-1.0, -1.0),
    "dealer_long": (1.0, 1.0),
    "calls_long_puts_short": (1.0, -1.0),
}

DAYS_PER_YEAR = 365.0

#: The Greeks that exposures are made of.
_GREEKS = ("gamma", "vanna", "charm")

#: Range of the factor on all forwards in which `zero_gamma` looks.
SCALE_RANGE = (0.5, 2.0)

#: A crossing counts where gross gamma is at least this share of its peak in the range: farther out
#: both sides are the dust of the density's tail.
_VISIBLE = 1e-6


class ZeroGamma(IntEnum):
    """Why a zero-gamma level is there or is not."""

    SOLVED = 0
    NO_OPTIONS = 1  #: no row with a quantity, a volatility and time left
    ONE_SIGNED = 2  #: all quantities have the same sign: gamma cannot cancel
    NO_CROSSING = 3  #: net gamma keeps its sign within `SCALE_RANGE`


def exposures(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike,
    is_call: ArrayLike,
    quantity: ArrayLike,
    multiplier: ArrayLike,
) -> dict[str, FloatArray]:
    """Exposure of a holder of ``quantity`` contracts, per option.

    Parameters
    ----------
    forward, strike, t_years, vol, rate, is_call : array_like
        As in `mathlib.black76.greeks`.
    quantity : array_like
        Contracts.
    multiplier : array_like
        USD per quoted point and contract.

    Returns
    -------
    dict of str to ndarray
        ``gex``: USD of delta gained when the forward rises by 1 %,
        ``gamma * quantity * multiplier * F^2 * 0.01``;
        ``vanna``: USD of delta gained when volatility rises by one point,
        ``vanna * quantity * multiplier * F * 0.01``;
        ``charm``: USD of delta gained in one calendar day,
        ``charm * quantity * multiplier * F / 365``.
        NaN where an input is, and where the Greeks are not defined.

    Raises
    ------
    TypeError
        An argument does not hold real numbers (``is_call``: booleans).
    ValueError
        The shapes do not broadcast.
    """

    def kernel(*block: NDArray[Any]) -> tuple[FloatArray, ...]:
        *option, quantity, multiplier = block
        gamma, vanna, charm = black76.evaluate_block(_GREEKS, *option)
        return _usd(gamma, vanna, charm, option[0], quantity, multiplier)

    return _named(
        in_blocks(
            kernel,
            (np.float64,) * 3,
            *black76.option_arguments(forward, strike, t_years, vol, rate, is_call),
            as_float("quantity", quantity),
            as_float("multiplier", multiplier),
        )
    )


def exposures_of(
    greeks: Mapping[str, ArrayLike],
    forward: ArrayLike,
    quantity: ArrayLike,
    multiplier: ArrayLike,
) -> dict[str, FloatArray]:
    """`exposures` from Greeks that are there already.

    Parameters
    ----------
    greeks : mapping of str to array_like
        ``gamma``, ``vanna`` and ``charm``, as of `mathlib.black76.price_and_greeks`; further
        entries are not looked at.
    forward, quantity, multiplier : array_like
        As in `exposures`.

    Returns
    -------
    dict of str to ndarray
        As `exposures`, to the last digit.

    Raises
    ------
    KeyError
        A Greek is missing.
    TypeError
        An argument does not hold real numbers.
    ValueError
        The shapes do not broadcast.
    """
    return _named(
        in_blocks(
            _usd,
            (np.float64,) * 3,
            *(as_float(name, greeks[name]) for name in _GREEKS),
            as_float("forward", forward),
            as_float("quantity", quantity),
            as_float("multiplier", multiplier),
        )
    )


def _usd(
    gamma: FloatArray,
    vanna: FloatArray,
    charm: FloatArray,
    forward: FloatArray,
    quantity: FloatArray,
    multiplier: FloatArray,
) -> tuple[FloatArray, ...]:
    usd_per_delta = quantity * multiplier * forward
    usd_per_percent = usd_per_delta * 0.01
    return (
        gamma * forward * usd_per_percent,
        vanna * usd_per_percent,
        charm * usd_per_delta / DAYS_PER_YEAR,
    )


def _named(values: tuple[NDArray[Any], ...]) -> dict[str, FloatArray]:
    return dict(zip(("gex", "vanna", "charm"), values, strict=True))


def signs(convention: str, is_call: ArrayLike) -> FloatArray:
    """+1 where the dealer is taken to hold the option, -1 where to have sold it.

    Parameters
    ----------
    convention : str
        ``dealer_short`` (all sold), ``dealer_long`` (all held) or ``calls_long_puts_short``.
    is_call : array_like of bool
        True for a call.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        The convention is none of these.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention {convention!r} is none of {', '.join(CONVENTIONS)}")
    call, put = CONVENTIONS[convention]
    return np.asarray(put + (call - put) * as_bool("is_call", is_call))


def dealer_share(others_net: ArrayLike, open_interest: ArrayLike) -> FloatArray:
    """Share of the open interest of options that dealers hold in net, by the COT report.

    Let dealers hold a share ``s`` of every call's open interest and be short of the same share of
    every put's (both the other way if ``s < 0``).  Counted in futures by their deltas, calls that
    are held and puts that were sold are long, so dealers are long ``s * sum(OI * |delta|)``.  What
    they are long of in all is what everyone else is short of, and ``sum(OI * |delta|)`` is the
    open interest that the report counts; hence ``s = -others_net / open_interest``.

    The report tells one number a market: how it is split among strikes and expiries, and between
    calls held and puts sold, is the assumption and not the evidence.

    Parameters
    ----------
    others_net : array_like
        Long less short options of all who are not dealers, in futures by their deltas.
    open_interest : array_like
        Open interest of options, likewise: that of the combined report less futures only.

    Returns
    -------
    ndarray
        -1 to 1.  NaN where an input is, where there is no open interest, and where the net is
        larger than it, so that the report does not add up.

    Raises
    ------
    TypeError, ValueError
        An argument does not hold real numbers; the shapes do not broadcast.

    References
    ----------
    .. [1] CFTC, "Disaggregated Commitments of Traders: Explanatory Notes": options are counted on
       a futures-equivalent basis by the exchanges' deltas.
    """
    net, total = as_float("others_net", others_net), as_float("open_interest", open_interest)
    with np.errstate(all="ignore"):
        share = -net / total
        return np.asarray(np.where((total > 0.0) & (np.abs(share) <= 1.0), share, np.nan))


class _Chains:
    """The usable rows of all chains, and their net gamma at a factor per chain.

    Rows come by chain, and in each the long ones before the short ones: each chain has both.
    """

    def __init__(
        self, sizes: IndexArray, d1: FloatArray, stdev: FloatArray, weight: FloatArray
    ) -> None:
        self.sizes = sizes  # (chains, 2): long rows and short rows
        self.d1, self.stdev, self.weight = d1, stdev, weight
        self.starts = np.cumsum(sizes.ravel()) - sizes.ravel()
        self.chain = np.repeat(np.arange(len(sizes)), sizes.sum(axis=1))

    def long_and_short(self, log_scale: FloatArray) -> FloatArray:
        """Gamma times ``F^2/x`` of long and of short rows, each at least 0; shape (2, chains).

        The forwards of chain i are multiplied by ``exp(log_scale[i])``, or all by one factor.
        """
        gamma = (log_scale if log_scale.ndim == 0 else log_scale[self.chain]) / self.stdev
        gamma += self.d1  # in place: there are as many passes as passes over memory
        gamma *= gamma
        gamma *= -0.5
        np.exp(gamma, out=gamma)
        gamma *= self.weight
        return np.asarray(np.add.reduceat(gamma, self.starts).reshape(-1, 2).T)

    def net(self, log_scale: FloatArray) -> FloatArray:
        """Long less short gamma."""
        long, short = self.long_and_short(log_scale)
        return np.asarray(long - short)

    def of(self, chains: IndexArray) -> _Chains:
        """These chains only, in rising order."""
        chosen = np.zeros(len(self.sizes), np.bool_)
        chosen[chains] = True
        rows = chosen[self.chain]
        return _Chains(self.sizes[chains], self.d1[rows], self.stdev[rows], self.weight[rows])


def _search_grid() -> FloatArray:
    """Logarithms of the factors at which net gamma is looked at: 0.0016 apart near 1."""
    u = np.linspace(-1.0, 1.0, 129)
    return np.asarray(np.sinh(4.0 * u) / np.sinh(4.0) * np.log(SCALE_RANGE[1]))


def _refine(
    chains: _Chains, low: FloatArray, high: FloatArray, f_low: FloatArray, f_high: FloatArray
) -> FloatArray:
    """The root in a bracket a chain, by false position with halving (Illinois) to the last digits.

    ``low`` and ``high`` are the ends in any order.
    """
    done = np.zeros(low.shape, np.bool_)
    for _ in range(60):
        secant = low - f_low * (high - low) / np.where(f_high == f_low, 1.0, f_high - f_low)
        new = np.where(done, high, secant)
        f_new = chains.net(new)
        same = np.sign(f_new) == np.sign(f_high)
        # The end that stays where it is counts half from the second time on.
        low, f_low = np.where(same, low, high), np.where(same, 0.5 * f_low, f_high)
        done |= np.abs(new - high) <= 1e-15
        high, f_high = new, f_new
        if done.all():
            break
    return high


def zero_gamma(
    offsets: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike,
    is_call: ArrayLike,
    signed_quantity: ArrayLike,
) -> tuple[FloatArray, StatusArray]:
    """Factor on all forwards of a chain at which its net gamma exposure is zero.

    Parameters
    ----------
    offsets : array_like of int
        ``n + 1`` entries that cut the rows into chains; a chain may hold several expiries, each
        row with its own forward.
    forward, strike, t_years, vol, rate, is_call : array_like
        As in `mathlib.black76.greeks`, one entry a row (or one for all).
    signed_quantity : array_like
        Contracts times the dealer's sign (times the multiplier where it differs in a chain).

    Returns
    -------
    scale : ndarray of float64
        Per chain the factor nearest to 1 (in its logarithm) in [0.5, 2]; times the forward it is
        the zero-gamma level.  NaN where ``status`` is not ``ZeroGamma.SOLVED``.
    status : ndarray of int8
        A `ZeroGamma`.

    Raises
    ------
    TypeError, ValueError
        Wrong dtypes; shapes or ``offsets`` that do not fit.

    Notes
    -----
    Rows with a NaN, without time, volatility or quantity are left out.  Gamma is the same for
    calls and puts.  The re-priced profile is searched on a grid and the nearest change
    of sign refined; two crossings closer than the grid (0.16 % near the forward) cancel.
    """
    arguments = black76.option_arguments(forward, strike, t_years, vol, rate, is_call)
    quantity = as_float("signed_quantity", signed_quantity)
    size = int(np.asarray(offsets).reshape(-1)[-1]) if np.size(offsets) else 0
    bounds = checked_offsets(offsets, size)
    f, k, t, v, r, _, q = (np.broadcast_to(a, (size,)) for a in (*arguments, quantity))
    n_chains = bounds.size - 1
    chain = np.repeat(np.arange(n_chains), np.diff(bounds))

    with np.errstate(all="ignore"):
        stdev = v * np.sqrt(t)
        d1 = np.log(f / k) / stdev + 0.5 * stdev
        weight = q * np.exp(-r * t) * f / stdev
        good = (f > 0.0) & (k > 0.0) & (t > 0.0) & (v > 0.0) & (q != 0.0)
        good &= np.isfinite(d1) & np.isfinite(weight) & np.isfinite(stdev)
        return _zero_gamma(chain[good], n_chains, d1[good], stdev[good], weight[good])


def _zero_gamma(
    chain: IndexArray, n_chains: int, d1: FloatArray, stdev: FloatArray, weight: FloatArray
) -> tuple[FloatArray, StatusArray]:
    side = 2 * chain + (weight < 0.0)
    sizes = np.bincount(side, minlength=2 * n_chains).reshape(n_chains, 2)
    status = np.full(n_chains, ZeroGamma.NO_CROSSING, np.int8)
    status[(sizes == 0).any(axis=1)] = ZeroGamma.ONE_SIGNED
    status[(sizes == 0).all(axis=1)] = ZeroGamma.NO_OPTIONS
    scale = np.full(n_chains, np.nan)
    mixed = np.flatnonzero(status == ZeroGamma.NO_CROSSING)
    if not mixed.size:
        return scale, status

    order = np.argsort(side, kind="stable")
    order = order[status[chain[order]] == ZeroGamma.NO_CROSSING]
    part = _Chains(sizes[mixed], d1[order], stdev[order], np.abs(weight[order]))
    grid = _search_grid()
    long, short = np.stack([part.long_and_short(u) for u in grid], axis=1)
    net, gross = long - short, long + short
    visible = gross >= _VISIBLE * gross.max(axis=0)
    sign = np.sign(net)
    crossing = (sign[:-1] * sign[1:] <= 0.0) & visible[:-1] & visible[1:]
    middle = grid.size // 2
    best = np.full(mixed.size, np.inf)
    nearest = np.full(mixed.size, middle)
    # The nearest crossing above 1, then the nearest below unless it is farther: intervals are
    # counted from the middle.
    for intervals in (np.arange(middle, grid.size - 1), np.arange(middle - 1, -1, -1)):
        there = crossing[intervals]
        count = there.argmax(axis=0)
        found = np.flatnonzero(there.any(axis=0) & (count <= nearest))
        nearest[found] = count[found]
        at = intervals[count[found]]
        ends = grid[at], grid[at + 1], net[at, found], net[at + 1, found]
        root = _refine(part.of(found), *ends)
        nearer = np.abs(root) < np.abs(best[found])
        best[found[nearer]] = root[nearer]
    solved = np.isfinite(best)
    scale[mixed[solved]] = np.exp(best[solved])
    status[mixed[solved]] = ZeroGamma.SOLVED
    return scale, status
