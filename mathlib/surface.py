"""Points of a vol surface: the money, strikes by delta, risk reversal, constant maturities.

Delta here is the undiscounted forward delta, N(d1) for a call and N(d1) - 1 for a put, given by
its size: 0.25 is the 25-delta call or put.  Between expiries, total variance is linear in time at
equal forward moneyness, which keeps calendar spreads free of arbitrage ([1] section 5.2).  Before
the first expiry w is proportional to time at equal moneyness, that is vol is flat; after the last
there is no value.

References
----------
.. [1] Gatheral, J. and Jacquier, A. (2014). Arbitrage-free SVI volatility surfaces.
   Quantitative Finance 14(1); arXiv:1204.0646.
.. [2] Clark, I. (2011). Foreign Exchange Option Pricing, ch. 3: delta quotes, risk reversal and
   butterfly.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from mathlib.density import score_root, variance_score_root
from mathlib.svi import total_variance, total_variance_derivatives

__all__ = [
    "at_the_money",
    "constant_maturity_delta",
    "constant_maturity_vol",
    "delta_strike",
    "risk_reversal_butterfly",
]

FloatArray = NDArray[np.float64]


def at_the_money(
    a: ArrayLike,
    b: ArrayLike,
    rho: ArrayLike,
    m: ArrayLike,
    sigma: ArrayLike,
    t_years: ArrayLike,
    covariance: ArrayLike | None = None,
) -> dict[str, FloatArray]:
    """Vol at the forward, its slope and its curvature in log-moneyness, with standard errors.

    The errors are those of the delta method: gradient' covariance gradient, the gradient in
    closed form.

    Parameters
    ----------
    a, b, rho, m, sigma : array_like
        Raw SVI parameters.
    t_years : array_like
        Years to expiry.  Everything broadcasts.
    covariance : array_like, shape (..., 5, 5), optional
        Of the coordinates of `svi.to_coordinates`, as in `SviFit.covariance`.

    Returns
    -------
    dict of ndarray
        ``atm_iv`` (annualised), ``skew`` and ``curvature``: first and second derivative of vol to
        ln(K/F) at K = F; with a covariance ``atm_iv_se``, ``skew_se``, ``curvature_se`` too.  NaN
        where there is no vol, an error also where there is no covariance.

    Raises
    ------
    ValueError
        The covariance's shape is not that of the slices with (5, 5) behind it.
    """
    values = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (a, b, rho, m, sigma, t_years))
    )
    *raw, t = values
    with np.errstate(all="ignore"):
        w, w1, w2 = total_variance_derivatives(0.0, *raw)
        # With root^2 = w: root' = w1 / (2 root) and root'' = w2 / (2 root) - w1^2 / (4 root^3).
        root = np.sqrt(np.where((w > 0.0) & (t > 0.0), w, np.nan))
        root_t = np.sqrt(t)
        slope = 0.5 * w1 / root
        bend = 0.5 * w2 / root - slope * slope / root
        out = {"atm_iv": root, "skew": slope, "curvature": bend}
        out = {name: np.asarray(value / root_t) for name, value in out.items()}
        if covariance is None:
            return out
        spread = np.asarray(covariance, dtype=np.float64)
        if spread.shape != (*t.shape, 5, 5):
            raise ValueError(f"covariance: shape {spread.shape}, expected {(*t.shape, 5, 5)}")
        by_w, by_w1, by_w2 = _money_gradients(*raw)
        by_root = 0.5 * by_w / root
        by_slope = 0.5 * by_w1 / root - slope / root * by_root
        by_bend = 0.5 * by_w2 / root - (2.0 * slope * by_slope + bend * by_root) / root
        for name, gradient in zip(list(out), (by_root, by_slope, by_bend), strict=True):
            form = gradient[:, None] * gradient[None, :] * np.moveaxis(spread, (-2, -1), (0, 1))
            out[f"{name}_se"] = np.asarray(np.sqrt(np.maximum(_total(form), 0.0)) / root_t)
    return out


def _money_gradients(
    a: FloatArray, b: FloatArray, rho: FloatArray, m: FloatArray, sigma: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gradients, (5, ...), of w, w' and w'' at k = 0 to the coordinates of `svi.to_coordinates`.

    In them w = w_min + (R - L)/2 y + (L + R)/2 r - sigma sqrt(L R), y = k - m, r^2 = y^2 + sigma^2,
    and dL / d logit = L (1 - L/2).
    """
    left, right = b * (1.0 - rho), b * (1.0 + rho)
    r = np.hypot(m, sigma)
    slant = -m / r
    shape = (sigma / r) ** 2 / r
    middle = np.sqrt(left * right)
    least = a + sigma * middle
    half_left, half_right = 0.5 - 0.25 * left, 0.5 - 0.25 * right
    zero = np.zeros_like(r)
    by_w = (
        least,
        -(b * rho + b * slant),
        sigma * (b * sigma / r - middle),
        half_left * (left * (r + m) - sigma * middle),
        half_right * (right * (r - m) - sigma * middle),
    )
    by_w1 = (
        zero,
        -b * shape,
        b * m * shape,
        half_left * left * (slant - 1.0),
        half_right * right * (slant + 1.0),
    )
    by_w2 = (
        zero,
        3.0 * b * shape * slant / r,
        b * shape * (2.0 - 3.0 * (sigma / r) ** 2),
        half_left * left * shape,
        half_right * right * shape,
    )
    return np.stack(by_w), np.stack(by_w1), np.stack(by_w2)


def _total(form: FloatArray) -> FloatArray:
    """Sum of the 5 x 5 terms, in a fixed order, whatever stands behind them."""
    total = np.zeros(form.shape[2:])
    for i in range(5):
        for j in range(5):
            total = total + form[i, j]
    return np.asarray(total, dtype=np.float64)


def delta_strike(
    delta: ArrayLike,
    forward: ArrayLike,
    t_years: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    rho: ArrayLike,
    m: ArrayLike,
    sigma: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> tuple[FloatArray, FloatArray]:
    """Log-moneyness and vol of the option with a given delta.

    Parameters
    ----------
    delta : array_like
        Size of the delta, in (0, 1): of a put too; a sign is ignored.
    forward : array_like
        Quote unit; only checked to be positive, since the answer is in moneyness.
    t_years : array_like
        Years to expiry.
    a, b, rho, m, sigma : array_like
        Raw SVI parameters.
    rate : array_like
        Continuous rate; the delta asked for is exp(-rate t) N(d1).  0: undiscounted.
    is_call : array_like of bool
        Everything broadcasts.

    Returns
    -------
    k, vol : ndarray
        ln(K/F) and annualised vol; NaN where there is none.
    """
    values = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (delta, forward, t_years, a, b, rho, m, sigma, rate)),
        np.asarray(is_call, np.bool_),
    )
    size, forwards, t, *raw, rates, call = (x.ravel() for x in values)
    with np.errstate(all="ignore"):
        score = _score(np.abs(size) * np.exp(rates * t), call)
        score = np.where((forwards > 0.0) & (t > 0.0), score, np.nan)
        k = score_root(score, np.sqrt(total_variance(0.0, *raw)), raw, sign=1.0)
        vol = np.sqrt(total_variance(k, *raw) / t)
    shape = values[0].shape
    return k.reshape(shape), vol.reshape(shape)


def risk_reversal_butterfly(
    delta: ArrayLike,
    t_years: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    rho: ArrayLike,
    m: ArrayLike,
    sigma: ArrayLike,
) -> tuple[FloatArray, FloatArray]:
    """Risk reversal and butterfly of a slice in vol, [2] section 3.5.

    The risk reversal is call vol less put vol at `delta`; the butterfly is their mean less the vol
    at the forward.  Arguments as in `delta_strike`.
    """
    _, call = delta_strike(delta, 1.0, t_years, a, b, rho, m, sigma, is_call=True)
    _, put = delta_strike(delta, 1.0, t_years, a, b, rho, m, sigma, is_call=False)
    with np.errstate(all="ignore"):
        middle = np.sqrt(total_variance(0.0, a, b, rho, m, sigma) / np.asarray(t_years))
        return call - put, 0.5 * (call + put) - middle


def constant_maturity_vol(
    k: ArrayLike,
    t_target: ArrayLike,
    t_lo: ArrayLike,
    a_lo: ArrayLike,
    b_lo: ArrayLike,
    rho_lo: ArrayLike,
    m_lo: ArrayLike,
    sigma_lo: ArrayLike,
    t_hi: ArrayLike,
    a_hi: ArrayLike,
    b_hi: ArrayLike,
    rho_hi: ArrayLike,
    m_hi: ArrayLike,
    sigma_hi: ArrayLike,
) -> FloatArray:
    """Vol at log-moneyness `k` and maturity `t_target` between two expiries.

    Parameters
    ----------
    k : array_like
        ln(K/F), each expiry with its own forward.
    t_target, t_lo, t_hi : array_like
        Years.  At or before `t_lo` only that expiry counts (vol flat at equal moneyness) and the
        other may be NaN; after `t_hi` the answer is NaN.
    a_lo, ..., sigma_hi : array_like
        Raw SVI parameters of the two expiries.  Everything broadcasts.

    Returns
    -------
    ndarray
        Annualised vol.
    """
    k_, t, near, far = (np.asarray(x, np.float64) for x in (k, t_target, t_lo, t_hi))
    with np.errstate(all="ignore"):
        share_lo, share_hi = _shares(t, near, far)
        w = share_lo * total_variance(k_, a_lo, b_lo, rho_lo, m_lo, sigma_lo)
        w = w + _part(share_hi, total_variance(k_, a_hi, b_hi, rho_hi, m_hi, sigma_hi))
        return np.asarray(np.sqrt(np.where(w > 0.0, w, np.nan) / t), dtype=np.float64)


def constant_maturity_delta(
    delta: ArrayLike,
    is_call: ArrayLike,
    t_target: ArrayLike,
    t_lo: ArrayLike,
    a_lo: ArrayLike,
    b_lo: ArrayLike,
    rho_lo: ArrayLike,
    m_lo: ArrayLike,
    sigma_lo: ArrayLike,
    t_hi: ArrayLike,
    a_hi: ArrayLike,
    b_hi: ArrayLike,
    rho_hi: ArrayLike,
    m_hi: ArrayLike,
    sigma_hi: ArrayLike,
) -> tuple[FloatArray, FloatArray]:
    """Log-moneyness and vol of the option with a given delta at a maturity between two expiries.

    `delta` and `is_call` as in `delta_strike` (undiscounted), the rest as in
    `constant_maturity_vol`.
    """
    values = np.broadcast_arrays(
        *(
            np.asarray(x, np.float64)
            for x in (
                *(delta, t_target, t_lo, a_lo, b_lo, rho_lo, m_lo, sigma_lo),
                *(t_hi, a_hi, b_hi, rho_hi, m_hi, sigma_hi),
            )
        ),
        np.asarray(is_call, np.bool_),
    )
    size, t, near, *rest = (x.ravel() for x in values)
    raw_lo, far, raw_hi, call = rest[:5], rest[5], rest[6:11], rest[11]
    with np.errstate(all="ignore"):
        share_lo, share_hi = _shares(t, near, far)
        score = _score(np.abs(size), call)
        w0 = share_lo * total_variance(0.0, *raw_lo)
        w0 += _part(share_hi, total_variance(0.0, *raw_hi))
        deviation = np.sqrt(w0)

        def variance(k: FloatArray, at: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
            lo = total_variance_derivatives(k, *(x[at] for x in raw_lo))
            hi = total_variance_derivatives(k, *(x[at] for x in raw_hi))
            w = share_lo[at] * lo[0] + _part(share_hi[at], hi[0])
            return w, share_lo[at] * lo[1] + _part(share_hi[at], hi[1])

        k = variance_score_root(score, deviation, variance, sign=1.0)
        vol = np.sqrt(variance(k, np.arange(k.size))[0] / t)
    shape = values[0].shape
    return k.reshape(shape), vol.reshape(shape)


def _score(size: FloatArray, call: NDArray[np.bool_]) -> FloatArray:
    """Return -d1 of a call with N(d1) = size, or a put with N(-d1) = size."""
    inside = np.where((size > 0.0) & (size < 1.0), size, np.nan)
    return np.asarray(
        np.where(call, -scipy.special.ndtri(inside), scipy.special.ndtri(inside)), dtype=np.float64
    )


def _shares(t: FloatArray, near: FloatArray, far: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weights of the two expiries' total variances; NaN outside what is given."""
    before = t <= near
    share = np.where(before, 0.0, (t - near) / (far - near))
    share = np.where((t > 0.0) & (near > 0.0) & (before | (t <= far)), share, np.nan)
    return np.where(before, t / near, 1.0 - share), share


def _part(share: FloatArray, w: FloatArray) -> FloatArray:
    """share times w, 0 where the share is 0 even if there is no w."""
    return np.where(share == 0.0, 0.0, share * w)
