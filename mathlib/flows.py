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
    """The usable rows of all chains, and their net gamma at a factor per chain."""

    def __init__(
        self,
        chain: IndexArray,
        n_chains: int,
        d1: FloatArray,
        stdev: FloatArray,
        weight: FloatArray,
    ) -> None:
        self.chain, self.d1, self.stdev, self.weight = chain, d1, stdev, weight
        self.n_chains = n_chains

    def net(self, log_scale: FloatArray) -> FloatArray:
        """Net gamma times ``F^2/x`` with the forwards of chain i times ``exp(log_scale[i])``."""
        return self.sum(self.weight * self._density(log_scale))

    def net_and_gross(self, log_scale: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The same, with and without regard to sign."""
        gamma = self.weight * self._density(log_scale)
        return self.sum(gamma), self.sum(np.abs(gamma))

    def _density(self, log_scale: FloatArray) -> FloatArray:
        d1 = self.d1 + log_scale[self.chain] / self.stdev
        return np.exp(-0.5 * d1 * d1)

    def sum(self, values: FloatArray) -> FloatArray:
        """Sum over the rows of each chain, in their order."""
        total = np.bincount(self.chain, weights=values, minlength=self.n_chains)
        return total.astype(np.float64, copy=False)

    def of(self, chains: IndexArray) -> _Chains:
        """These chains only, numbered anew."""
        number = np.full(self.n_chains, -1, np.intp)
        number[chains] = np.arange(chains.size)
        rows = number[self.chain] >= 0
        return _Chains(
            number[self.chain[rows]],
            chains.size,
            self.d1[rows],
            self.stdev[rows],
            self.weight[rows],
        )


def _search_grid() -> FloatArray:
    """Logarithms of the factors at which net gamma is looked at: 0.0016 apart near 1."""
    u = np.linspace(-1.0, 1.0, 129)
    return np.asarray(np.sinh(4.0 * u) / np.sinh(4.0) * np.log(SCALE_RANGE[1]))


def _refine(chains: _Chains, low: FloatArray, high: FloatArray, f_low: FloatArray) -> FloatArray:
    """Bisect one bracket a chain down to the last digits."""
    for _ in range(46):
        middle = 0.5 * (low + high)
        same = np.sign(chains.net(middle)) == np.sign(f_low)
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return 0.5 * (low + high)


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
    calls and puts.  The re-priced profile is searched on a grid and each side's nearest change
    of sign bisected; two crossings closer than the grid (0.16 % near the forward) cancel.
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
        chains = _Chains(chain[good], n_chains, d1[good], stdev[good], weight[good])
        return _zero_gamma(chains)


def _zero_gamma(chains: _Chains) -> tuple[FloatArray, StatusArray]:
    ones = np.ones(chains.chain.size)
    rows = chains.sum(ones)
    long_rows = chains.sum((chains.weight > 0.0).astype(np.float64))
    status = np.full(chains.n_chains, ZeroGamma.NO_CROSSING, np.int8)
    status[(long_rows == 0.0) | (long_rows == rows)] = ZeroGamma.ONE_SIGNED
    status[rows == 0.0] = ZeroGamma.NO_OPTIONS
    scale = np.full(chains.n_chains, np.nan)
    mixed = np.flatnonzero(status == ZeroGamma.NO_CROSSING)
    if not mixed.size:
        return scale, status

    part = chains.of(mixed)
    grid = _search_grid()
    profile = [part.net_and_gross(np.full(mixed.size, u)) for u in grid]
    net = np.stack([net for net, _ in profile])
    gross = np.stack([gross for _, gross in profile])
    visible = gross >= _VISIBLE * gross.max(axis=0)
    sign = np.sign(net)
    crossing = (sign[:-1] * sign[1:] <= 0.0) & visible[:-1] & visible[1:]
    middle = grid.size // 2
    best = np.full(mixed.size, np.inf)
    # The nearest crossing above 1, then the nearest below: intervals are counted from the middle.
    for intervals in (np.arange(middle, grid.size - 1), np.arange(middle - 1, -1, -1)):
        side = crossing[intervals]
        found = np.flatnonzero(side.any(axis=0))
        first = intervals[side[:, found].argmax(axis=0)]
        root = _refine(part.of(found), grid[first], grid[first + 1], net[first, found])
        nearer = np.abs(root) < np.abs(best[found])
        best[found[nearer]] = root[nearer]
    solved = np.isfinite(best)
    scale[mixed[solved]] = np.exp(best[solved])
    status[mixed[solved]] = ZeroGamma.SOLVED
    return scale, status
