"""Risk-neutral density, distribution and quantiles of the price at expiry, from an SVI slice.

All of it is closed form in the slice's total variance w(k), k = ln(K/F), and its derivatives.
With d = -k/sqrt(w) - sqrt(w)/2 (Black's d2 at strike K) and Durrleman's g [1], [2]:

    density of k:   p(k) = g(k) / sqrt(2 pi w) exp(-d^2 / 2)             [1] eq. 2.2
    distribution:   P(S <= K) = N(-d) + n(d) w'(k) / (2 sqrt(w))         d(put)/dK, undiscounted

so no number comes from a finite difference.  Strikes and forwards are in the contract's quote
unit, probabilities are undiscounted.

References
----------
.. [1] Gatheral, J. and Jacquier, A. (2014). Arbitrage-free SVI volatility surfaces.
   Quantitative Finance 14(1); arXiv:1204.0646.
.. [2] Durrleman, V. (2005). From implied to spot volatilities. PhD thesis, Princeton.
.. [3] Fukasawa, M. (2012). The normalizing transformation of the implied volatility smile.
   Mathematical Finance 22(4): -d is increasing in k for every slice free of arbitrage.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from mathlib.svi import durrleman_g, total_variance, total_variance_derivatives

__all__ = ["cdf", "grid", "log_density", "log_distribution", "pdf", "quantile"]

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]
# (k, index) -> (value, slope) of the functions numbered `index` at k.
_Function = Callable[[FloatArray, IndexArray], tuple[FloatArray, FloatArray]]

_SQRT_TWO_PI = float(np.sqrt(2.0 * np.pi))
_GRID_DEVIATIONS = 4.5  # mass outside: about 7e-6


def pdf(
    strike: ArrayLike,
    forward: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    rho: ArrayLike,
    m: ArrayLike,
    sigma: ArrayLike,
) -> FloatArray:
    """Density of the price at expiry at `strike`, per quote unit.

    Parameters
    ----------
    strike, forward : array_like
        In the contract's quote unit.
    a, b, rho, m, sigma : array_like
        Raw SVI parameters.  Everything broadcasts.

    Returns
    -------
    ndarray
        0 for strikes <= 0; NaN for a forward <= 0 or a slice without positive variance; negative
        where the slice has butterfly arbitrage.
    """
    strikes, forwards = np.asarray(strike, np.float64), np.asarray(forward, np.float64)
    with np.errstate(all="ignore"):
        positive = np.where(strikes > 0.0, strikes, np.nan)
        values = log_density(np.log(positive / forwards), a, b, rho, m, sigma) / positive
        sane = np.isfinite(log_density(0.0, a, b, rho, m, sigma)) & (forwards > 0.0)
    return _from_zero(strikes, sane, values)


def cdf(
    strike: ArrayLike,
    forward: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    rho: ArrayLike,
    m: ArrayLike,
    sigma: ArrayLike,
) -> FloatArray:
    """Probability that the price at expiry is at most `strike`; arguments as in `pdf`."""
    strikes, forwards = np.asarray(strike, np.float64), np.asarray(forward, np.float64)
    with np.errstate(all="ignore"):
        positive = np.where(strikes > 0.0, strikes, np.nan)
        values, _ = log_distribution(np.log(positive / forwards), a, b, rho, m, sigma)
        sane = np.isfinite(log_density(0.0, a, b, rho, m, sigma)) & (forwards > 0.0)
    return _from_zero(strikes, sane, values)


def quantile(
    p: ArrayLike,
    forward: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    rho: ArrayLike,
    m: ArrayLike,
    sigma: ArrayLike,
) -> FloatArray:
    """Price below which the price at expiry lies with probability `p`.

    Parameters
    ----------
    p : array_like
        Probability in (0, 1).
    forward, a, b, rho, m, sigma : array_like
        As in `pdf`; everything broadcasts.

    Returns
    -------
    ndarray
        NaN for p outside (0, 1) or a slice without positive variance.
    """
    values = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (p, forward, a, b, rho, m, sigma))
    )
    level, forwards, *raw = (x.ravel() for x in values)
    with np.errstate(all="ignore"):
        level = np.where((level > 0.0) & (level < 1.0), level, np.nan)
        deviation = np.sqrt(total_variance(0.0, *raw))
        function = _normal_score(scipy.special.ndtri(level), raw)
        low, high = _bracket(function, scipy.special.ndtri(level) * deviation, 0.25 * deviation)
        k = _increasing_root(function, low, high)
        out = np.where(forwards > 0.0, forwards, np.nan) * np.exp(k)
    return np.asarray(out.reshape(values[0].shape), dtype=np.float64)


def grid(
    forward: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    rho: ArrayLike,
    m: ArrayLike,
    sigma: ArrayLike,
    n: int = 101,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Strikes that hold essentially all the mass of each slice, with density and distribution.

    The strikes run from -4.5 to 4.5 standard deviations of the slice's own normal score (mass
    outside about 7e-6) and are denser about the slice's vertex, where the density may be pointed:
    equal steps of v in ln(K/F) = m + s sinh(v).  Their trapezoid sum is 1 within about 1e-3.

    Parameters
    ----------
    forward, a, b, rho, m, sigma : array_like, shape (slices,)
        As in `pdf`; they broadcast to one dimension.
    n : int
        Strikes a slice, at least 3.

    Returns
    -------
    strike, density, distribution : ndarray, shape (slices, n)
        NaN for a slice without positive variance.
    """
    if n < 3:
        raise ValueError(f"n: {n}, expected at least 3")
    values = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (forward, a, b, rho, m, sigma))
    )
    forwards, *raw = (np.atleast_1d(x) for x in values)
    if forwards.ndim != 1:
        raise ValueError(f"forward and parameters: shape {forwards.shape}, expected (slices,)")
    with np.errstate(all="ignore"):
        deviation = np.sqrt(total_variance(0.0, *raw))
        low, high = (
            score_root(np.full(forwards.size, z), deviation, raw)
            for z in (-_GRID_DEVIATIONS, _GRID_DEVIATIONS)
        )
        # A vertex far out in a tail needs no strikes of its own: s grows with its distance.
        away = np.maximum(np.abs(raw[3]) - 2.0 * deviation, 0.0)
        size = np.hypot(raw[4], 0.5 * away)
        start, end = (np.arcsinh((x - raw[3]) / size) for x in (low, high))
        share = np.arange(n) / (n - 1)
        v = start[:, None] + (end - start)[:, None] * share
        k = raw[3][:, None] + size[:, None] * np.sinh(v)
        strike = np.where(forwards > 0.0, forwards, np.nan)[:, None] * np.exp(k)
        columns = [x[:, None] for x in raw]
        density = log_density(k, *columns) / strike
        distribution, _ = log_distribution(k, *columns)
    return strike, density, np.where(np.isfinite(strike), distribution, np.nan)


# --- in log-moneyness ---------------------------------------------------------------------------


def log_density(
    k: ArrayLike, a: ArrayLike, b: ArrayLike, rho: ArrayLike, m: ArrayLike, sigma: ArrayLike
) -> FloatArray:
    """Density of ln(S/F) at k; everything broadcasts.  NaN where w(k) <= 0."""
    k_ = np.asarray(k, np.float64)
    with np.errstate(all="ignore"):
        w = total_variance(k_, a, b, rho, m, sigma)
        root = np.sqrt(np.where(w > 0.0, w, np.nan))
        d = -k_ / root - 0.5 * root
        g = durrleman_g(k_, a, b, rho, m, sigma)
        values = g / (_SQRT_TWO_PI * root) * np.exp(-0.5 * d * d)
        return np.asarray(values, dtype=np.float64)


def log_distribution(
    k: ArrayLike, a: ArrayLike, b: ArrayLike, rho: ArrayLike, m: ArrayLike, sigma: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Probabilities that ln(S/F) is at most k, and above k, each with its own digits."""
    k_ = np.asarray(k, np.float64)
    with np.errstate(all="ignore"):
        w, w1, _ = total_variance_derivatives(k_, a, b, rho, m, sigma)
        root = np.sqrt(np.where(w > 0.0, w, np.nan))
        d = -k_ / root - 0.5 * root
        skew = np.exp(-0.5 * d * d) / _SQRT_TWO_PI * w1 / (2.0 * root)
        return scipy.special.ndtr(-d) + skew, scipy.special.ndtr(d) - skew


def quantile_between(
    p: FloatArray, low: FloatArray, high: FloatArray, raw: list[FloatArray]
) -> FloatArray:
    """ln(S/F) at probability `p`, known to lie in [low, high]; flat arrays of one size."""
    with np.errstate(all="ignore"):
        return _increasing_root(_normal_score(scipy.special.ndtri(p), raw), low.copy(), high.copy())


def score_root(
    score: FloatArray, deviation: FloatArray, raw: list[FloatArray], sign: float = -1.0
) -> FloatArray:
    """Return k where k/sqrt(w) - sign sqrt(w)/2 = score: -d2 for sign -1, -d1 for sign +1 [3].

    Flat arrays of one size; `deviation` is sqrt(w(0)).
    """

    def variance(k: FloatArray, at: IndexArray) -> tuple[FloatArray, FloatArray]:
        w, w1, _ = total_variance_derivatives(k, *(x[at] for x in raw))
        return w, w1

    return variance_score_root(score, deviation, variance, sign)


def variance_score_root(
    score: FloatArray, deviation: FloatArray, variance: _Function, sign: float
) -> FloatArray:
    """`score_root` for any total variance: `variance` gives w and dw/dk of slices `index` at k."""

    def minus_d(k: FloatArray, at: IndexArray) -> tuple[FloatArray, FloatArray]:
        w, w1 = variance(k, at)
        root = np.sqrt(np.where(w > 0.0, w, np.nan))
        value = k / root - 0.5 * sign * root - score[at]
        return value, 1.0 / root - 0.5 * w1 / root * (k / w + 0.5 * sign)

    with np.errstate(all="ignore"):
        low, high = _bracket(minus_d, score * deviation, 0.25 * deviation)
        return _increasing_root(minus_d, low, high)


def _normal_score(score: FloatArray, raw: list[FloatArray]) -> _Function:
    """Normal score of the distribution less `score`: nearly linear in k, so Newton is quick."""

    def function(k: FloatArray, at: IndexArray) -> tuple[FloatArray, FloatArray]:
        slices = [x[at] for x in raw]
        below, above = log_distribution(k, *slices)
        x = np.where(below < 0.5, scipy.special.ndtri(below), -scipy.special.ndtri(above))
        slope = log_density(k, *slices) * _SQRT_TWO_PI * np.exp(0.5 * x * x)
        return x - score[at], slope

    return function


def _bracket(
    function: _Function, guess: FloatArray, width: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Points about `guess` between which increasing functions cross 0, NaN where not found."""
    low, high = guess - width, guess + width
    for edge, sign in ((low, -1.0), (high, 1.0)):
        at = np.flatnonzero(np.isfinite(edge))
        step = width.copy()
        for _ in range(60):
            at = at[sign * function(edge[at], at)[0] < 0.0]
            if at.size == 0:
                break
            step[at] *= 2.0
            edge[at] += sign * step[at]
        edge[at] = np.nan
    return low, high


def _increasing_root(function: _Function, low: FloatArray, high: FloatArray) -> FloatArray:
    """Roots of increasing functions by Newton kept inside [low, high], each on its own.

    NaN where an end or a value is NaN.
    """
    out = np.full(low.size, np.nan)
    tolerance = 1e-9 * (high - low)
    x = 0.5 * (low + high)
    at = np.flatnonzero(np.isfinite(x))
    for _ in range(100):
        if at.size == 0:
            break
        here = x[at]
        value, slope = function(here, at)
        low[at] = np.where(value < 0.0, here, low[at])
        high[at] = np.where(value >= 0.0, here, high[at])
        newton = here - value / slope
        middle = 0.5 * (low[at] + high[at])
        after = np.where((newton >= low[at]) & (newton <= high[at]), newton, middle)
        # The last step is taken: Newton's error after it is about the square of the step.
        x[at] = np.where(value == 0.0, here, after)
        out[at] = np.where(np.isnan(value), np.nan, x[at])
        at = at[(np.abs(after - here) > tolerance[at]) & (value != 0.0) & ~np.isnan(value)]
    return out


def _from_zero(strike: FloatArray, sane: NDArray[np.bool_], values: FloatArray) -> FloatArray:
    """0 for strikes <= 0, NaN for what is no slice or no forward."""
    return np.asarray(np.where(sane, np.where(strike <= 0.0, 0.0, values), np.nan))
