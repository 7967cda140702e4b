"""How far off a quote's vol may be: from its spread, or from a settlement's rounding."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mathlib import black76

FloatArray = NDArray[np.float64]

# A smile of five parameters is itself only so exact: no quote counts as better than this share of
# its vol.
_MODEL_ERROR = 0.003


def quote_error(
    bid: ArrayLike,
    ask: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
) -> FloatArray:
    """Standard deviation of a mid's vol: the fair price is anywhere in the spread.

    Parameters
    ----------
    bid, ask, forward, strike : array_like
        Quote unit; everything broadcasts.
    t_years, vol, rate : array_like
        Years, the mid's annualised vol, continuous rate.

    Returns
    -------
    ndarray
        (ask - bid) / sqrt(12) over vega; NaN for a crossed or one-sided quote.
    """
    low, high = np.asarray(bid, dtype=np.float64), np.asarray(ask, dtype=np.float64)
    with np.errstate(all="ignore"):
        spread = np.where((low > 0.0) & (high >= low), high - low, np.nan)
        return _in_vol(spread / np.sqrt(12.0), forward, strike, t_years, vol, rate)


def settlement_error(
    settlement: ArrayLike,
    tick: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
) -> FloatArray:
    """Standard deviation of a settlement's vol: the price is rounded to the tick.

    Arguments as in `quote_error`; `tick` in the quote unit.

    Returns
    -------
    ndarray
        tick / sqrt(12) over vega; infinite for a settlement of at most one tick, which is a floor
        (a cabinet price) and no price.
    """
    price, step = np.asarray(settlement, dtype=np.float64), np.asarray(tick, dtype=np.float64)
    with np.errstate(all="ignore"):
        # Prices are sums of ticks in binary: a hair above one tick is one tick.
        floor = price <= 1.000001 * step
        error = np.where(floor, np.inf, np.where(np.isfinite(price), step, np.nan) / np.sqrt(12.0))
        return _in_vol(error, forward, strike, t_years, vol, rate)


def error_weight(vol_error: ArrayLike, vol: ArrayLike) -> FloatArray:
    """Weight for `calibrate`: the inverse of the error's and the model's own variance.

    0 where the error is infinite, NaN where it is NaN; `calibrate` leaves both out.
    """
    error, level = np.asarray(vol_error, dtype=np.float64), np.asarray(vol, dtype=np.float64)
    with np.errstate(all="ignore"):
        return np.asarray(1.0 / (error**2 + (_MODEL_ERROR * level) ** 2), dtype=np.float64)


def _in_vol(
    error: FloatArray,
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike,
) -> FloatArray:
    vega = black76.vega(forward, strike, t_years, vol, rate)
    return np.asarray(error / np.where(vega > 0.0, vega, np.nan), dtype=np.float64)
