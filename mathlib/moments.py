"""Moments of the risk-neutral distribution of an SVI slice, with error bars.

The density is closed form (`mathlib.density`); its moments are trapezoid sums over
ln(K/F) = m + sigma sinh(v).  In v the integrand is analytic in a strip of fixed width, however
pointed the slice is at its vertex, so the sums converge exponentially [1].  The strip is narrow
where total variance all but vanishes between wide wings; mass and mean are known, so a sum that
misses one of them is taken again with twice the nodes.  The sums run over 8.5 standard deviations
of the slice's own normal score, and on the right for as far as the highest finite price moment
needs.

Price moments exist only where the right wing is flat enough: E[S^n] is finite if and only if the
slope b(1 + rho) is below 2 - 4 (sqrt(p^2 + p) - p), p = n - 1 [2]: 0.343, 0.202 and 0.144 for the
variance, the skew and the kurtosis.  Within some 7 % of these bounds they rest on prices that no
float holds and count as infinite; so does the mean beyond a slope of 1.3.  Moments of the log
return always exist.

References
----------
.. [1] Trefethen, L. N. and Weideman, J. A. C. (2014). The exponentially convergent trapezoidal
   rule. SIAM Review 56(3).
.. [2] Lee, R. (2004). The moment formula for implied volatility at extreme strikes.
   Mathematical Finance 14(3).
.. [3] Demeterfi, K., Derman, E., Kamal, M. and Zou, J. (1999). A guide to volatility and variance
   swaps. Journal of Derivatives 6(4): the log contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mathlib import density, svi

__all__ = [
    "QUANTILES",
    "MomentStatus",
    "from_fit",
    "from_svi",
    "standard_errors",
    "with_errors",
]

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

QUANTILES = (0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)

_NODES, _MOST_NODES = 129, 2049
_SETTLED = 1e-10  # mass and mean this near to what they must be show that the sums converged
_BLOCK = 128 * _NODES  # nodes a block: its temporaries stay in cache
_DEVIATIONS = 8.5
_NEGLIGIBLE = 28.0  # -log of the integrand of the highest moment at the end of the sum
_FARTHEST = 600.0  # order times ln(K/F) beyond which no sum goes: e^600 is still a float
_TOLERANCE = 1e-6


class MomentStatus(IntFlag):
    """What keeps a slice's moments from being what they should; 0 is nothing."""

    OK = 0
    BAD_INPUT = 1  # not a slice, or a forward that is not positive: everything is NaN
    NEGATIVE_DENSITY = 2  # butterfly arbitrage
    MASS_OFF = 4  # the density's integral is not 1 within 1e-6
    MEAN_OFF = 8  # the mean is not the forward within 1e-6 of it
    INFINITE = 16  # a price moment is infinite [2], or all but so; it is NaN here


def from_svi(
    forward: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    rho: ArrayLike,
    m: ArrayLike,
    sigma: ArrayLike,
) -> dict[str, NDArray[Any]]:
    """Moments, quantiles and tail probabilities of each slice.

    Parameters
    ----------
    forward : array_like
        Quote unit.
    a, b, rho, m, sigma : array_like
        Raw SVI parameters.  Everything broadcasts; the results have the broadcast shape.

    Returns
    -------
    dict of ndarray
        ``mass``: integral of the density before any normalising.  Of the price, in quote units:
        ``mean``, ``variance``, ``skew``, ``kurtosis`` (plain: 3 for a normal).  Of ln(S/F):
        ``log_mean``, ``log_variance``, ``log_skew``, ``log_kurtosis``.  Price quantiles ``q01``
        to ``q99``.  ``p_down_10``, ``p_up_10``: probability of a fall to 0.9 F or below, of a
        rise above 1.1 F.  ``variance_swap``: total variance of the log contract,
        -2 E[ln(S/F)] [3].  ``status``: int8, `MomentStatus` flags.
    """
    flat, shape = _flat(forward, a, b, rho, m, sigma)
    return _shaped(_moments(flat)[0], shape)


def standard_errors(
    forward: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    rho: ArrayLike,
    m: ArrayLike,
    sigma: ArrayLike,
    covariance: ArrayLike,
) -> dict[str, FloatArray]:
    """Standard errors of what `from_svi` gives, from the covariance of a fit.

    The slice is moved by one standard deviation to both sides along the five columns of the
    covariance's Cholesky factor; the half differences add in squares.  The steps are the size of
    the error itself, so that bends of a moment over that range count.

    Parameters
    ----------
    forward, a, b, rho, m, sigma : array_like, shape (n,)
        As in `from_svi`.
    covariance : array_like, shape (n, 5, 5)
        Of the coordinates of `svi.to_coordinates`, as in `SviFit.covariance`.

    Returns
    -------
    dict of ndarray, shape (n,)
        ``variance_se`` and so on; NaN where there is no covariance.
    """
    flat, shape = _flat(forward, a, b, rho, m, sigma)
    spread = np.asarray(covariance, dtype=np.float64)
    if spread.shape != (*shape, 5, 5):
        raise ValueError(f"covariance: shape {spread.shape}, expected {(*shape, 5, 5)}")
    return _shaped(_errors(flat, spread.reshape(-1, 5, 5), *_moments(flat)), shape)


def with_errors(
    forward: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    rho: ArrayLike,
    m: ArrayLike,
    sigma: ArrayLike,
    covariance: ArrayLike,
) -> dict[str, NDArray[Any]]:
    """What `from_svi` and `standard_errors` give, in one dict and less time than both."""
    flat, shape = _flat(forward, a, b, rho, m, sigma)
    spread = np.asarray(covariance, dtype=np.float64)
    if spread.shape != (*shape, 5, 5):
        raise ValueError(f"covariance: shape {spread.shape}, expected {(*shape, 5, 5)}")
    base, nodes = _moments(flat)
    return _shaped({**base, **_errors(flat, spread.reshape(-1, 5, 5), base, nodes)}, shape)


def from_fit(forward: ArrayLike, fit: svi.SviFit) -> dict[str, NDArray[Any]]:
    """Moments of fitted slices and their standard errors in one dict; `forward` of shape (n,)."""
    forwards = np.broadcast_to(np.asarray(forward, dtype=np.float64), fit.a.shape)
    return with_errors(forwards, fit.a, fit.b, fit.rho, fit.m, fit.sigma, fit.covariance)


def _quantile_name(p: float) -> str:
    return f"q{round(100 * p):02d}"


_NAMES = (
    *("mass", "mean", "variance", "skew", "kurtosis"),
    *("log_mean", "log_variance", "log_skew", "log_kurtosis"),
    *(_quantile_name(p) for p in QUANTILES),
    *("p_down_10", "p_up_10", "variance_swap"),
)


def _flat(*arguments: ArrayLike) -> tuple[FloatArray, tuple[int, ...]]:
    """Forward and parameters as one (6, n) array, and the shape they broadcast to."""
    values = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in arguments))
    return np.stack([x.ravel() for x in values]), values[0].shape


def _shaped(flat: dict[str, NDArray[Any]], shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    return {name: values.reshape(shape) for name, values in flat.items()}


@dataclass
class _Nodes:
    """Where the sums of n slices run: equal steps of v from start to end, k = m + sigma sinh(v)."""

    start: FloatArray
    end: FloatArray
    order: NDArray[np.int64]  # of the highest finite price moment, at most 4
    count: NDArray[np.int64]

    @staticmethod
    def of(flat: FloatArray) -> _Nodes:
        raw = list(flat[1:])
        deviation = np.sqrt(svi.total_variance(0.0, *raw))
        low, high = (
            density.score_root(np.full(deviation.size, z), deviation, raw)
            for z in (-_DEVIATIONS, _DEVIATIONS)
        )
        order = np.zeros(high.size, dtype=np.int64)
        for n in range(1, 5):
            settled = _exponent(np.full(high.size, _FARTHEST / n), raw) - _FARTHEST >= _NEGLIGIBLE
            order[settled] = n
        last = _FARTHEST / np.maximum(order, 1)
        high = np.fmin(high, last)
        for _ in range(20):
            short = (_exponent(high, raw) - order * high < _NEGLIGIBLE) & (high < last)
            if not short.any():
                break
            high = np.where(short, np.minimum(1.4 * high, last), high)
        start, end = (np.arcsinh((x - flat[4]) / flat[5]) for x in (low, high))
        return _Nodes(start, end, order, np.full(high.size, _NODES))

    def blocks(self, rows: IndexArray, count: int) -> list[IndexArray]:
        """`rows` cut into blocks of which the temporaries stay in cache at `count` nodes."""
        size = max(1, _BLOCK // count)
        return [rows[i : i + size] for i in range(0, max(rows.size, 1), size)]

    def points(
        self, flat: FloatArray, rows: IndexArray, count: int
    ) -> tuple[FloatArray, FloatArray]:
        """ln(K/F) and the trapezoid's weights; the ends' halves are negligible."""
        step = ((self.end[rows] - self.start[rows]) / (count - 1))[:, None]
        grow = np.exp(self.start[rows, None] + step * np.arange(count))
        size = (0.5 * flat[5, rows])[:, None]
        k = flat[4, rows, None] + size * (grow - 1.0 / grow)
        return k, step * size * (grow + 1.0 / grow)


def _moments(flat: FloatArray) -> tuple[dict[str, NDArray[Any]], _Nodes]:
    """All that `from_svi` gives, flat, and the nodes that it took."""
    with np.errstate(all="ignore"):
        nodes = _Nodes.of(flat)
        out: dict[str, FloatArray] = {}
        rows, count = np.arange(flat.shape[1]), _NODES
        while True:
            parts = [_from_nodes(flat, nodes, i, count) for i in nodes.blocks(rows, count)]
            for name in parts[0]:
                values = np.concatenate([part[name] for part in parts])
                if count == _NODES:
                    out[name] = values
                else:
                    out[name][rows] = values
            nodes.count[rows] = count
            miss = np.abs(out["mass"][rows] - 1.0)
            rows = rows[
                (miss > _SETTLED) | (np.abs(out["mean"][rows] / flat[0, rows] - 1.0) > _SETTLED)
            ]
            if rows.size == 0 or count == _MOST_NODES:
                break
            count = 2 * count - 1
        out |= _quantiles(flat, out.pop("bracket"))
        below, _ = density.log_distribution(np.log(0.9), *flat[1:])
        _, above = density.log_distribution(np.log(1.1), *flat[1:])
        out |= {"p_down_10": below, "p_up_10": above}
        status = _status(flat, nodes, out)
    bad = (status & MomentStatus.BAD_INPUT) > 0
    result = {name: np.where(bad, np.nan, out[name]) for name in _NAMES}
    return {**result, "status": status}, nodes


def _errors(
    flat: FloatArray, covariance: FloatArray, base: dict[str, NDArray[Any]], nodes: _Nodes
) -> dict[str, NDArray[Any]]:
    """Standard errors of `base`, flat."""
    levels = np.stack([base[_quantile_name(p)] for p in QUANTILES])
    with np.errstate(all="ignore"):
        factor = _cholesky(covariance)
        centre = svi.to_coordinates(*flat[1:])
        total = {name: np.zeros(flat.shape[1]) for name in _NAMES}
        for i in range(5):
            moved = [
                _moved(flat, centre + sign * factor[:, i, :].T, nodes, levels)
                for sign in (-1.0, 1.0)
            ]
            for name, value in total.items():
                if name in moved[0]:
                    value += (0.5 * (moved[1][name] - moved[0][name])) ** 2
        for j, p in enumerate(QUANTILES):
            # A probability's error over the density is the quantile's error.
            total[_quantile_name(p)] /= density.pdf(levels[j], *flat) ** 2
        return {
            f"{name}_se": np.where(np.isfinite(base[name]), np.sqrt(value), np.nan)
            for name, value in total.items()
            if name not in ("mass", "mean")
        }


def _exponent(k: FloatArray, raw: list[FloatArray]) -> FloatArray:
    """d2^2 / 2 at k: minus the logarithm of the density, but for slow terms."""
    w = svi.total_variance(k, *raw)
    return np.asarray(0.5 * (k / np.sqrt(w) + 0.5 * np.sqrt(w)) ** 2, dtype=np.float64)


def _sums(
    forward: FloatArray, k: FloatArray, mass: FloatArray, order: NDArray[np.int64]
) -> dict[str, FloatArray]:
    """Moments from probabilities at points: both (n, nodes)."""
    total = mass.sum(axis=1)
    share = mass / total[:, None]
    out = {"mass": total}
    for prefix, x in (("", np.expm1(k)), ("log_", k)):
        first = (share * x).sum(axis=1)
        x = x - first[:, None]
        term = share * x * x
        second = term.sum(axis=1)
        term = term * x
        third = term.sum(axis=1)
        fourth = (term * x).sum(axis=1)
        out[prefix + "mean"] = first
        out[prefix + "variance"] = second
        out[prefix + "skew"] = third / second**1.5
        out[prefix + "kurtosis"] = fourth / second**2
    for n, name in enumerate(("mean", "variance", "skew", "kurtosis"), start=1):
        out[name] = np.where(order >= n, out[name], np.nan)
    out["mean"] = forward * (1.0 + out["mean"])
    out["variance"] = forward * forward * out["variance"]
    out["variance_swap"] = -2.0 * out["log_mean"]
    return out


def _from_nodes(
    flat: FloatArray, nodes: _Nodes, rows: IndexArray, count: int
) -> dict[str, FloatArray]:
    """What the sums give, the least density, and brackets of the quantiles, for one block."""
    k, weight = nodes.points(flat, rows, count)
    columns = [x[rows, None] for x in flat[1:]]
    values = density.log_density(k, *columns)
    out = _sums(flat[0, rows], k, values * weight, nodes.order[rows])
    out["least"] = values.min(axis=1)
    below, _ = density.log_distribution(k, *columns)
    row = np.arange(k.shape[0])
    brackets = []
    for p in QUANTILES:
        after = np.clip((below < p).sum(axis=1), 1, count - 1)
        brackets.append(np.stack([k[row, after - 1], k[row, after]], axis=-1))
    out["bracket"] = np.stack(brackets, axis=1)
    return out


def _quantiles(flat: FloatArray, bracket: FloatArray) -> dict[str, FloatArray]:
    level = np.tile(QUANTILES, flat.shape[1])
    raw = np.repeat(flat[1:], len(QUANTILES), axis=1)
    low, high = (bracket[:, :, i].ravel() for i in range(2))
    k = density.quantile_between(level, low, high, list(raw)).reshape(-1, len(QUANTILES))
    return {_quantile_name(p): flat[0] * np.exp(k[:, j]) for j, p in enumerate(QUANTILES)}


def _status(flat: FloatArray, nodes: _Nodes, out: dict[str, FloatArray]) -> NDArray[np.int8]:
    forward = flat[0]
    mean = np.where(nodes.order >= 1, out["mean"], forward)
    flags = (
        (out["least"] < 0.0, MomentStatus.NEGATIVE_DENSITY),
        (~(np.abs(out["mass"] - 1.0) <= _TOLERANCE), MomentStatus.MASS_OFF),
        (
            ~(np.abs(mean - forward) <= _TOLERANCE * forward) | (nodes.order < 1),
            MomentStatus.MEAN_OFF,
        ),
        (nodes.order < 4, MomentStatus.INFINITE),
    )
    status = np.zeros(forward.size, dtype=np.int8)
    for on, flag in flags:
        status |= np.where(on, np.int8(flag), np.int8(0))
    bad = ~(np.isfinite(flat).all(axis=0) & (forward > 0.0) & np.isfinite(out["mass"]))
    return np.where(bad, np.int8(MomentStatus.BAD_INPUT), status)


def _cholesky(matrix: FloatArray) -> FloatArray:
    """Columns of the Cholesky factors of (n, 5, 5) matrices as (n, column, 5)."""
    low = np.zeros_like(matrix)
    for j in range(5):
        rest = matrix[:, j:, j] - (low[:, j:, :j] * low[:, j : j + 1, :j]).sum(axis=2)
        pivot = np.sqrt(np.maximum(rest[:, :1], 0.0))
        low[:, j:, j] = np.where(pivot > 0.0, rest / np.where(pivot > 0.0, pivot, 1.0), 0.0)
        low[:, j:, j] = np.where(np.isnan(rest[:, :1]), np.nan, low[:, j:, j])
    return np.swapaxes(low, 1, 2)


def _moved(
    flat: FloatArray, coordinates: FloatArray, nodes: _Nodes, levels: FloatArray
) -> dict[str, FloatArray]:
    """Moments, and probabilities of the quantiles' strikes, of slices that moved a little."""
    raw = svi.from_coordinates(coordinates)
    out: dict[str, FloatArray] = {}
    for most in np.unique(nodes.count):
        count = most // 2 + 1  # a standard error needs fewer digits
        for rows in nodes.blocks(np.flatnonzero(nodes.count == most), count):
            k, weight = nodes.points(flat, rows, count)
            values = density.log_density(k, *(x[rows, None] for x in raw))
            for name, found in _sums(flat[0, rows], k, values * weight, nodes.order[rows]).items():
                out.setdefault(name, np.empty(flat.shape[1]))[rows] = found
    for j, p in enumerate(QUANTILES):
        out[_quantile_name(p)] = density.cdf(levels[j], flat[0], *raw)
    out["p_down_10"] = density.cdf(0.9, 1.0, *raw)
    out["p_up_10"] = density.cdf(1.1, 1.0, *raw)
    return out
