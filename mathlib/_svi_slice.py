"""Raw SVI slices: the formula, its coordinates, SVI-JW, and what makes a slice arbitrage-free.

References
----------
.. [1] Gatheral, J. and Jacquier, A. (2014). Arbitrage-free SVI volatility surfaces.
   Quantitative Finance 14(1); arXiv:1204.0646.
.. [2] Lee, R. (2004). The moment formula for implied volatility at extreme strikes.
   Mathematical Finance 14(3).
.. [3] Durrleman, V. (2005). From implied to spot volatilities. PhD thesis, Princeton.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SLOPE_LIMIT = 2.0  # Lee's bound on a wing's slope [2]
# Fits end at 1.98 of it: there g tends to 1/4 - slope^2/16 > 0 far out.
LOGIT_HIGH = float(np.log(99.0))

# A fitted slice has g of at least this on the check grid (about half of it where the expiry before
# leaves no more room), and lies above the nearer expiry's by at least this share.
G_MARGIN, CALENDAR_MARGIN = 1e-3, 2e-5


def floats(*values: ArrayLike) -> tuple[FloatArray, ...]:
    return tuple(np.asarray(v, dtype=np.float64) for v in values)


# --- the formula ------------------------------------------------------------------------------


def total_variance(
    k: ArrayLike, a: ArrayLike, b: ArrayLike, rho: ArrayLike, m: ArrayLike, sigma: ArrayLike
) -> FloatArray:
    """Total implied variance w(k), [1] eq. 3.1.

    Parameters
    ----------
    k : array_like
        Log-moneyness ln(K/F).
    a, b, rho, m, sigma : array_like
        Raw SVI parameters; everything broadcasts.

    Returns
    -------
    ndarray
        Total variance (vol^2 times years).
    """
    k_, a_, b_, rho_, m_, sigma_ = floats(k, a, b, rho, m, sigma)
    y = k_ - m_
    return np.asarray(a_ + b_ * (rho_ * y + np.sqrt(y * y + sigma_ * sigma_)), dtype=np.float64)


def total_variance_derivatives(
    k: ArrayLike, a: ArrayLike, b: ArrayLike, rho: ArrayLike, m: ArrayLike, sigma: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return w, dw/dk and d2w/dk2; arguments as in `total_variance`."""
    k_, a_, b_, rho_, m_, sigma_ = floats(k, a, b, rho, m, sigma)
    return _derivatives(k_, a_, b_, rho_, m_, sigma_)


def durrleman_g(
    k: ArrayLike, a: ArrayLike, b: ArrayLike, rho: ArrayLike, m: ArrayLike, sigma: ArrayLike
) -> FloatArray:
    """Durrleman's g(k), [1] eq. 2.1 and [3]: the slice's density is >= 0 where g >= 0.

    g = (1 - k w'/(2w))^2 - w'^2/4 (1/w + 1/4) + w''/2.  Arguments as in `total_variance`.
    """
    k_, a_, b_, rho_, m_, sigma_ = floats(k, a, b, rho, m, sigma)
    with np.errstate(all="ignore"):
        return _g(k_, *_derivatives(k_, a_, b_, rho_, m_, sigma_))


def min_durrleman_g(
    a: ArrayLike, b: ArrayLike, rho: ArrayLike, m: ArrayLike, sigma: ArrayLike
) -> FloatArray:
    """Least g over all k of each slice, wings included.

    g is sampled on two grids that follow the slice's own scales (sinh-spaced about m in units of
    sigma, and about the least variance in units of its curvature), each reaching a thousand times
    the slice's size; between samples a parabola estimates the minimum.
    """
    raw = np.broadcast_arrays(*floats(a, b, rho, m, sigma))
    with np.errstate(all="ignore"):
        least, _ = min_g_at(np.stack([x.ravel() for x in raw]))
    return least.reshape(raw[0].shape)


def butterfly_free(
    a: ArrayLike, b: ArrayLike, rho: ArrayLike, m: ArrayLike, sigma: ArrayLike
) -> BoolArray:
    """Whether each slice is free of butterfly arbitrage: g >= 0, w >= 0, slopes within Lee's 2.

    Parameters broadcast; NaN gives False.  [1] lemma 2.2, [2].
    """
    a_, b_, rho_, m_, sigma_ = np.broadcast_arrays(*floats(a, b, rho, m, sigma))
    with np.errstate(all="ignore"):
        least = a_ + b_ * sigma_ * np.sqrt(1.0 - rho_ * rho_)
        sane = (b_ >= 0.0) & (np.abs(rho_) <= 1.0) & (sigma_ > 0.0) & (least >= 0.0)
        sane &= b_ * (1.0 + np.abs(rho_)) <= SLOPE_LIMIT
        return np.asarray(sane & (min_durrleman_g(a_, b_, rho_, m_, sigma_) >= 0.0))


def calendar_free(
    near: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike, ArrayLike],
    far: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike, ArrayLike],
) -> BoolArray:
    """Whether the far expiry's total variance is nowhere below the near one's, [1] lemma 2.1.

    Parameters
    ----------
    near, far : tuple of five array_like
        Raw parameters (a, b, rho, m, sigma) of both expiries of one underlying.

    Returns
    -------
    ndarray of bool
        True within a relative tolerance of 1e-9; NaN gives False.
    """
    both = np.broadcast_arrays(*floats(*near, *far))
    flat = [x.ravel() for x in both]
    with np.errstate(all="ignore"):
        gap, _ = calendar_gap_at(np.stack(flat[:5]), np.stack(flat[5:]))
    return np.asarray(gap >= -1e-9).reshape(both[0].shape)


# --- coordinates ------------------------------------------------------------------------------


def to_coordinates(
    a: ArrayLike, b: ArrayLike, rho: ArrayLike, m: ArrayLike, sigma: ArrayLike
) -> FloatArray:
    """Coordinates without bounds: (log w_min, m, log sigma, logit slope_left, logit slope_right).

    The slopes are b(1 - rho) and b(1 + rho), each as a share of Lee's bound of 2, so that every
    point of R^5 is a slice with w > 0 and admissible wings.

    Returns
    -------
    ndarray, shape (5, ...)
        -inf where w_min or a slope is 0, NaN where they are negative.
    """
    a_, b_, rho_, m_, sigma_ = np.broadcast_arrays(*floats(a, b, rho, m, sigma))
    with np.errstate(all="ignore"):
        left, right = b_ * (1.0 - rho_), b_ * (1.0 + rho_)
        least = a_ + sigma_ * np.sqrt(left * right)
        return np.stack(
            [
                np.log(least),
                m_,
                np.log(sigma_),
                np.log(left / (SLOPE_LIMIT - left)),
                np.log(right / (SLOPE_LIMIT - right)),
            ]
        )


def from_coordinates(
    coordinates: ArrayLike,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Raw (a, b, rho, m, sigma) of `to_coordinates`' output, shape (5, ...)."""
    c = np.asarray(coordinates, dtype=np.float64)
    if c.ndim == 0 or c.shape[0] != 5:
        raise ValueError(f"coordinates: shape {c.shape}, expected (5, ...)")
    with np.errstate(all="ignore"):
        left, right = (SLOPE_LIMIT / (1.0 + np.exp(-x)) for x in (c[3], c[4]))
        sigma = np.exp(c[2])
        a = np.exp(c[0]) - sigma * np.sqrt(left * right)
        return a, 0.5 * (left + right), (right - left) / (right + left), c[1].copy(), sigma


def raw_to_jw(
    a: ArrayLike, b: ArrayLike, rho: ArrayLike, m: ArrayLike, sigma: ArrayLike, t_years: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """SVI jump-wings parameters (v, psi, p, c, v_min) of raw slices, [1] eq. 3.5.

    v is the at-the-money variance (vol^2), psi the at-the-money skew, p and c the slopes of the
    put and call wings, v_min the least variance.
    """
    a_, b_, rho_, m_, sigma_, t = floats(a, b, rho, m, sigma, t_years)
    with np.errstate(all="ignore"):
        r = np.sqrt(m_ * m_ + sigma_ * sigma_)
        w = a_ + b_ * (r - rho_ * m_)
        root = np.sqrt(w)
        return (
            w / t,
            b_ / (2.0 * root) * (rho_ - m_ / r),
            b_ * (1.0 - rho_) / root,
            b_ * (1.0 + rho_) / root,
            (a_ + b_ * sigma_ * np.sqrt(1.0 - rho_ * rho_)) / t,
        )


def jw_to_raw(
    v: ArrayLike, psi: ArrayLike, p: ArrayLike, c: ArrayLike, v_min: ArrayLike, t_years: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Raw (a, b, rho, m, sigma) of jump-wings parameters, [1] lemma 3.2.

    NaN where no raw slice has them (the published map needs |beta| <= 1).
    """
    v_, psi_, p_, c_, v_min_, t = np.broadcast_arrays(*floats(v, psi, p, c, v_min, t_years))
    with np.errstate(all="ignore"):
        root = np.sqrt(v_ * t)
        b = 0.5 * root * (c_ + p_)
        rho = 1.0 - p_ * root / b
        beta = rho - 2.0 * psi_ * root / b
        beta = np.where(np.abs(beta) <= 1.0, beta, np.nan)
        cosine = np.sqrt(1.0 - rho * rho)
        # With beta = m / sqrt(m^2 + sigma^2), lemma 3.2's alpha = sigma/m written so that
        # m = 0 needs no case of its own: r = sqrt(m^2 + sigma^2).
        sine = np.sqrt(1.0 - beta * beta)
        scale = 1.0 - rho * beta - sine * cosine
        at_minimum = scale <= 1e-14  # the least variance is at the money: lemma 3.2 needs v = v_min
        r = np.where(at_minimum, np.nan, (v_ - v_min_) * t / (b * scale))
        m, sigma = beta * r, sine * r
        return v_min_ * t - b * sigma * cosine, b, rho, m, sigma


def guaranteed_jw(v: ArrayLike, psi: ArrayLike, p: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return (c, v_min) that make a slice an SSVI one, [1] section 5.1: c = p + 2 psi.

    The slice with (v, psi, p) kept is free of butterfly arbitrage when besides
    sqrt(v t) max(p, c) < 2 and (p + c) max(p, c) <= 2, [1] theorem 4.2.
    """
    v_, psi_, p_ = floats(v, psi, p)
    with np.errstate(all="ignore"):
        c = p_ + 2.0 * psi_
        return c, v_ * 4.0 * p_ * c / (p_ + c) ** 2


# --- arbitrage ----------------------------------------------------------------------------------

# Check grid: unit-spaced coordinates of [-1, 1], stretched by asinh of the reach.
# A slice that comes near to a bound there is looked at again on the fine one.
_COARSE_U, _FINE_U = np.linspace(-1.0, 1.0, 97), np.linspace(-1.0, 1.0, 385)
_CHECK_REACH = 1e3
_G_NEAR, _GAP_NEAR = 0.05, 0.01


def _derivatives(
    k: FloatArray, a: FloatArray, b: FloatArray, rho: FloatArray, m: FloatArray, sigma: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    y = k - m
    r = np.sqrt(y * y + sigma * sigma)
    return a + b * (rho * y + r), b * (rho + y / r), b * sigma * sigma / (r * r * r)


def _g(k: FloatArray, w: FloatArray, w1: FloatArray, w2: FloatArray) -> FloatArray:
    q = 1.0 - 0.5 * k * w1 / w
    return np.asarray(q * q - 0.25 * w1 * w1 * (1.0 / w + 0.25) + 0.5 * w2, dtype=np.float64)


def _check_grid(raw: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two grids of k, each (slices, points), that follow the own scales of slices (5, slices)."""
    a, b, rho, m, sigma = raw
    cosine = np.sqrt(np.maximum(1.0 - rho * rho, 1e-12))
    least = a + b * sigma * cosine
    bottom = m - sigma * rho / cosine
    # About its least value w = least + curvature (k - bottom)^2 / 2.
    dip = np.sqrt(2.0 * least * sigma / (b * cosine**3))
    dip = np.clip(np.where(np.isfinite(dip), dip, sigma), 1e-3 * sigma, 1e3 * sigma)
    reach = _CHECK_REACH * np.maximum(np.maximum(1.0, np.abs(bottom)), sigma)
    grids = [
        centre[:, None] + size[:, None] * np.sinh(np.arcsinh(reach / size)[:, None] * u)
        for centre, size in ((m, sigma), (bottom, dip))
    ]
    return grids[0], grids[1]


def _dip(values: FloatArray, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least value of each row, between samples by a parabola, and about where."""
    before, here, after = values[:, :-2], values[:, 1:-1], values[:, 2:]
    bend = before - 2.0 * here + after
    tilt = after - before
    low = (here <= before) & (here <= after) & (bend > 0.0)
    estimate = np.where(low, here - tilt * tilt / (8.0 * np.where(low, bend, 1.0)), here)
    estimate = np.where(np.isnan(estimate), np.inf, estimate)
    index = estimate.argmin(axis=1)
    row = np.arange(values.shape[0])
    ends = np.fmin(values[:, 0], values[:, -1])
    return np.fmin(estimate[row, index], ends), at[row, index + 1]


def _lowest(
    parts: Iterable[tuple[FloatArray, FloatArray]], n: int
) -> tuple[FloatArray, FloatArray]:
    """Least over several (values, k) samplings of n rows, and about where."""
    least, where = np.full(n, np.inf), np.zeros(n)
    for values, k in parts:
        value, at = _dip(values, k)
        where = np.where(value < least, at, where)
        least = np.fmin(least, value)
    return least, where


def min_g_at(raw: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least g of slices (5, slices) and where; NaN for a slice that is not finite."""

    def sampled(part: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        columns = part[:, :, None]
        grids = _check_grid(part, u)
        return _lowest(((_g(k, *_derivatives(k, *columns)), k) for k in grids), part.shape[1])

    least, where = sampled(raw, _COARSE_U)
    close = np.flatnonzero(np.abs(least) < _G_NEAR)
    if close.size:
        least[close], where[close] = sampled(raw[:, close], _FINE_U)
    finite = np.isfinite(raw).all(axis=0) & np.isfinite(least)
    return np.where(finite, least, np.nan), where


def calendar_gap_at(near: FloatArray, far: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least of (w_far - w_near) / w_near over all k and where; NaN where not finite.

    Both (5, slices); the wings are compared by their slopes.
    """

    def sampled(
        below: FloatArray, above: FloatArray, u: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        grids = (*_check_grid(below, u), *_check_grid(above, u))
        variances = (
            (k, *(total_variance(k, *x[:, :, None]) for x in (below, above))) for k in grids
        )
        return _lowest((((high - low) / low, k) for k, low, high in variances), below.shape[1])

    least, where = sampled(near, far, _COARSE_U)
    close = np.flatnonzero(np.abs(least) < _GAP_NEAR)
    if close.size:
        least[close], where[close] = sampled(near[:, close], far[:, close], _FINE_U)
    for sign in (-1.0, 1.0):
        slope = near[1] * (1.0 + sign * near[2])
        excess = (far[1] * (1.0 + sign * far[2]) - slope) / slope
        least = np.fmin(least, np.where(slope > 0.0, excess, np.inf))
    return np.where(np.isfinite(near + far).all(axis=0), least, np.nan), where


def _ssvi_target(raw: FloatArray) -> FloatArray:
    """Return the slices of [1] section 5.1, flattened to meet [1] theorem 4.2 strictly."""
    a, b, rho, m, sigma = raw
    theta = total_variance(0.0, a, b, rho, m, sigma)
    _, psi, p, c, _ = raw_to_jw(a, b, rho, m, sigma, 1.0)
    # The wing that the skew leans to keeps its slope, the other follows.
    put, call = np.where(psi <= 0.0, p, c - 2.0 * psi), np.where(psi <= 0.0, p + 2.0 * psi, c)
    most = np.maximum(put, call)
    put, call = np.maximum(put, 0.02 * most), np.maximum(call, 0.02 * most)
    tilt = (call - put) / (call + put)
    slope = 0.5 * np.sqrt(theta) * (put + call)
    steep = 1.0 + np.abs(tilt)
    slope = np.minimum(slope, 0.95 * np.minimum(SLOPE_LIMIT / steep, np.sqrt(theta / steep)))
    phi = 2.0 * slope / theta
    cosine = np.sqrt(1.0 - tilt * tilt)
    return np.stack([0.5 * theta * cosine**2, slope, tilt, -tilt / phi, cosine / phi])


def shrink(
    raw: FloatArray, near: FloatArray | None = None
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Move slices, (5, slices), the least way to an admissible one.

    The way leads to `_ssvi_target`, or where there is a nearer expiry to just above that one.
    Returns the slices, their least g and whether they are admissible.
    """
    if near is None:
        target = to_coordinates(*_ssvi_target(raw))
    else:
        lift = 1.0 + 2.0 * CALENDAR_MARGIN
        target = to_coordinates(near[0] * lift, near[1] * lift, *near[2:])
    begin = to_coordinates(*raw)
    # Points outside the coordinates' domain (w < 0, slopes beyond Lee's) start at its edge.
    begin[0] = np.where(np.isfinite(begin[0]), begin[0], target[0] - 10.0)
    for i in (3, 4):
        slope = raw[1] * (1.0 - raw[2] if i == 3 else 1.0 + raw[2])
        edge = np.where(slope > 1.0, LOGIT_HIGH, target[i] - 10.0)
        begin[i] = np.minimum(np.where(np.isfinite(begin[i]), begin[i], edge), LOGIT_HIGH)

    # The lift above the nearer slice may cost a little of the margin that it had.
    bound = G_MARGIN if near is None else np.minimum(0.5 * G_MARGIN, 0.9 * min_g_at(near)[0])

    def at(share: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray]:
        moved = np.stack(from_coordinates(begin + share * (target - begin)))
        least, _ = min_g_at(moved)
        fine = least >= bound
        if near is not None:
            fine &= calendar_gap_at(near, moved)[0] >= CALENDAR_MARGIN
        return moved, least, np.asarray(fine & (least > 0.0))

    low, high = np.zeros(begin.shape[1]), np.ones(begin.shape[1])
    for _ in range(12):
        share = 0.5 * (low + high)
        fine = at(share)[2]
        low, high = np.where(fine, low, share), np.where(fine, share, high)
    return at(high)
