"""American options on futures: early-exercise premium and the volatility behind a price.

CME livestock and grain options may be exercised on any day, which gives a future's holder the
intrinsic value now instead of at expiry.  The premium for that right is worth next to nothing out
of the money and up to one or two vol points in the money, and a Black-76 volatility of the quoted
price overstates the true one by it.

Without cost of carry the problem is symmetric, ``C(F, K) = P(K, F)``, and homogeneous, so that one
two-parameter family holds every case: with ``R = r T`` and ``v = vol^2 T`` the exercise boundary
of a put is ``B = K exp(-sqrt(v) Y)`` where ``Y`` depends on ``(R, v)`` and on the share of time
that is left.  The boundary is solved on first use from the integral equation of [1]_, and from it
the premium

    premium/K = int_0^R e^-(R-u) [N(-d2(u)) - F/K N(-d1(u))] du,

with ``d1`` and ``d2`` taken from the future to its boundary at ``u`` before expiry (times are
multiplied by the rate) [2]_, both on Chebyshev points of the whole domain.  The logarithm of the
premium is a smooth function of ``R``, ``v`` and the distance to the boundary, and interpolated
from then on: within 3e-8 of the strike for ``R`` up to 0.1 and ``sqrt(v)`` to 0.6 (out of the money
3e-10), within 2e-6 everywhere.

Arguments are those of `mathlib.black76.price`; ``rate * t_years`` may reach 2 and
``vol * sqrt(t_years)`` 10, beyond which results are NaN.  At rates of zero or less early exercise
is worth nothing.

References
----------
.. [1] L. Andersen, M. Lake, D. Offengenden, "High-performance American option pricing",
   J. Computational Finance 20 (2016): fixed-point system "B" of the integral equation, and
   Chebyshev collocation of the squared logarithm of the boundary in the square root of time.
.. [2] I. J. Kim, "The analytic valuation of American options", Rev. Financial Studies 3 (1990).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from mathlib import black76
from mathlib._arrays import (
    BoolArray,
    FloatArray,
    IndexArray,
    StatusArray,
    as_bool,
    as_float,
    in_blocks,
)
from mathlib.black76 import Status

__all__ = ["european_equivalent_vol", "premium", "price"]

#: Largest ``rate * t_years`` and ``vol * sqrt(t_years)`` that the boundary is solved for.
MAX_RATE_TIME = 2.0
MAX_STDEV = 10.0

#: Below this ``rate * t_years`` the boundary is that of this value, and the premium, which is less
#: than 1e-8 of the strike there, in proportion.
_MIN_RATE_TIME = 1e-8

#: Rows worked on at a time here, where a row holds 64 coefficients of the spline.
_ROWS = 2048

#: Nodes of the quadrature over time.
_QUADRATURE = 64

#: Chebyshev points at which the premium is solved, and knots of the spline through them, along the
#: two `_coordinates` and the share of `_span`.
_POINTS = (26, 24, 24)
_KNOTS = (201, 61, 81)


# ----------------------------------------------------------------------------- the boundary


def _unit_legendre(n: int) -> tuple[FloatArray, FloatArray]:
    """Share of time left and weights: Gauss-Legendre after ``u = sin^2(pi x/2)``.

    The substitution removes the square roots at both ends of the integral.
    """
    x, w = np.polynomial.legendre.leggauss(n)
    angle = 0.25 * np.pi * (x + 1.0)
    return np.sin(angle) ** 2, 0.25 * np.pi * w * np.sin(2.0 * angle)


def _lagrange(nodes: FloatArray, points: FloatArray) -> FloatArray:
    """Matrix that takes values at Chebyshev-Lobatto ``nodes`` to ``points`` (barycentric)."""
    weights = (-1.0) ** np.arange(nodes.size)
    weights[[0, -1]] *= 0.5
    gap = points[..., None] - nodes
    hit = gap == 0.0
    matrix = weights / np.where(hit, 1.0, gap)
    matrix /= matrix.sum(axis=-1, keepdims=True)
    return np.where(hit.any(axis=-1, keepdims=True), hit.astype(np.float64), matrix)


def _solve_boundary(rate_time: FloatArray, variance: FloatArray, shares: FloatArray) -> FloatArray:
    """``-ln(B/K)/sqrt(v)`` at the ``shares`` of time left, one row per ``(R, v)``.

    With equal rate and yield, value matching at the boundary, ``K - B = V(B)``, is ::

        B/K = [N(d2) + int e^u N(d2(u)) du] / [N(d1) + int e^u N(d1(u)) du],   0 < u < R,

    with ``d1`` and ``d2`` from the boundary now to the strike at expiry, and to the boundary at
    ``u`` before expiry [1]_.  It is solved as a fixed point on 13 Chebyshev nodes in the square
    root of time for ``ln(B/K)^2``, which is nearly smooth there.
    """
    n = 12
    nodes = 0.5 * (1.0 + np.cos(np.pi * np.arange(n + 1) / n))  # sqrt of time; 1 first, 0 last
    time = nodes[:-1] ** 2
    inner, weights = _unit_legendre(24)
    to_inner = _lagrange(nodes, nodes[:-1, None] * np.sqrt(inner))

    r = rate_time[:, None] * time
    sd = np.sqrt(variance[:, None] * time)
    sd_inner = sd[..., None] * np.sqrt(1.0 - inner)
    growth = r[..., None] * np.exp(r[..., None] * inner) * weights
    # Short-time asymptotics: (ln B/K)^2 ~ 2 v ln(1/(4 sqrt(pi) R)).
    y = 0.9 * np.sqrt(2.0 * np.log1p(1.0 / (4.0 * np.sqrt(np.pi) * r)))
    square = np.zeros((rate_time.size, n + 1))
    for _ in range(30):
        square[:, :-1] = y * y * time
        inner_y = np.sqrt(np.maximum(np.tensordot(square, to_inner, (1, 2)), 0.0))
        z = (inner_y - y[..., None] * nodes[:-1, None]) / (nodes[:-1, None] * np.sqrt(1.0 - inner))
        ends = scipy.special.ndtr(-y - 0.5 * sd), scipy.special.ndtr(-y + 0.5 * sd)
        numerator = ends[0] + np.sum(growth * scipy.special.ndtr(z - 0.5 * sd_inner), axis=-1)
        denominator = ends[1] + np.sum(growth * scipy.special.ndtr(z + 0.5 * sd_inner), axis=-1)
        y = np.log(denominator / numerator) / sd
    square[:, :-1] = y * y * time
    to_shares = _lagrange(nodes, np.sqrt(shares))
    return np.asarray(np.sqrt(np.maximum(np.einsum("qk,mk->mq", to_shares, square), 0.0)))


# ------------------------------------------------------------------------------ the premium


def _put_premiums(
    rate_time: FloatArray, stdev: FloatArray, share: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Premium over the strike at each ``share`` of `_span`, and the boundary now, by quadrature.

    One row per ``(R, sqrt(v))``.
    """
    left, weights = _unit_legendre(_QUADRATURE)
    boundary = _solve_boundary(rate_time, stdev**2, np.append(left, 1.0))
    now = boundary[:, -1]
    # Premium rows: (R, sqrt(v)); columns: the future; last axis: time.
    d = (share * _span(now, stdev)[:, None] - now[:, None])[..., None]
    rate_time, stdev = rate_time[:, None, None], stdev[:, None, None]
    root = np.sqrt(1.0 - left)
    z = (d + boundary[:, None, :-1]) / root
    half = 0.5 * stdev * root
    # N(-d2) - F/K N(-d1), a strip of the payoff below the boundary.
    strip = scipy.special.ndtr(half - z) - np.exp(stdev * d) * scipy.special.ndtr(-half - z)
    strip *= np.exp(-rate_time * (1.0 - left)) * weights
    return rate_time[..., 0] * strip.sum(axis=-1), now


def _span(boundary: FloatArray, stdev: FloatArray) -> FloatArray:
    """Standard deviations from the boundary to where a put has no value left, N(-8)."""
    return boundary + 0.5 * stdev + 8.0


class _Table(NamedTuple):
    """Coefficients of cubic splines over `_coordinates` and the share of `_span`."""

    log_premium: FloatArray  # ln(premium / (K R sqrt(v))), flat
    boundary: FloatArray  # -ln(B/K)/sqrt(v) now, flat


def _coordinates(rate_time: FloatArray, stdev: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``ln R`` and the root of ``sqrt(v)``, both from 0 to 1 on the domain."""
    log_range = np.log(MAX_RATE_TIME / _MIN_RATE_TIME)
    p = np.log(np.maximum(rate_time, _MIN_RATE_TIME) / _MIN_RATE_TIME) / log_range
    return p, np.sqrt(stdev / MAX_STDEV)


def _chebyshev_to_spline(n: int, size: int) -> tuple[FloatArray, FloatArray]:
    """Chebyshev points on [0, 1], and the matrix from values there to coefficients of a spline.

    The cubic spline has ``size`` knots a uniform step apart, where it equals the polynomial; the
    fourth differences of its coefficients are 0 at both ends (not a knot).
    """
    angle = np.pi * (np.arange(n) + 0.5) / n
    order = np.arange(n)
    to_polynomial = np.cos(order[:, None] * angle) * (2.0 / n)
    to_polynomial[0] *= 0.5
    knots = np.linspace(-1.0, 1.0, size)
    to_knots = np.cos(order * np.arccos(knots)[:, None]) @ to_polynomial
    at_knots = np.zeros((size + 2, size + 2))
    for offset, weight in enumerate((1.0, 4.0, 1.0)):
        at_knots[np.arange(size), np.arange(size) + offset] = weight / 6.0
    at_knots[-2, :5] = at_knots[-1, -5:] = (1.0, -4.0, 6.0, -4.0, 1.0)
    values = np.concatenate((to_knots, np.zeros((2, n))))
    coefficients = np.linalg.solve(at_knots, values)
    return 0.5 * (1.0 + np.cos(angle)), np.asarray(coefficients, np.float64)


@cache
def _table() -> _Table:
    """Solve boundary and premium for the whole domain, on first use."""
    (p, to_p), (q, to_q), (share, to_share) = map(_chebyshev_to_spline, _POINTS, _KNOTS)
    rate_time = np.repeat(_MIN_RATE_TIME * (MAX_RATE_TIME / _MIN_RATE_TIME) ** p, q.size)
    stdev = np.tile(MAX_STDEV * q**2, p.size)
    premiums, boundary = _put_premiums(rate_time, stdev, share)
    log_premium = np.log(premiums / (rate_time * stdev)[:, None]).reshape(_POINTS)
    return _Table(
        np.einsum("ai,bj,ck,ijk->abc", to_p, to_q, to_share, log_premium, optimize=True).ravel(),
        (to_p @ boundary.reshape(_POINTS[:2]) @ to_q.T).ravel(),
    )


def _spline_weights(x: FloatArray, size: int) -> tuple[IndexArray, FloatArray, FloatArray]:
    """First of the four coefficients that count at each ``x`` in [0, 1].

    And their weights in the value and in the derivative.
    """
    position = x * (size - 1)
    first = np.minimum(position.astype(np.intp), size - 2)
    u = position - first
    v = 1.0 - u
    uu, vv = u * u, v * v
    value = np.stack((vv * v, 4.0 - 3.0 * uu * (1.0 + v), 4.0 - 3.0 * vv * (1.0 + u), uu * u))
    slope = np.stack((-vv, u * (3.0 * u - 4.0), v * (4.0 - 3.0 * v), uu))
    return first, value / 6.0, slope * (0.5 * (size - 1))


def _put_premium_rows(
    x: FloatArray, stdev: FloatArray, rate_time: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Premium over the strike of puts with ``x = ln(F/K)``, and its derivative by ``stdev``.

    All rows are in the domain.
    """
    table = _table()
    p, q = _coordinates(rate_time, stdev)
    i, wi, _ = _spline_weights(p, _KNOTS[0])
    j, wj, dj = _spline_weights(q, _KNOTS[1])
    columns, depth = _KNOTS[1] + 2, _KNOTS[2] + 2
    first = i * columns + j
    four = np.arange(4)
    around = (four[:, None] * columns + four)[..., None]
    near = np.einsum("abn,an->bn", table.boundary.take(first + around, mode="wrap"), wi)
    q_by_stdev = 0.5 * q / stdev
    boundary = np.einsum("bn,bn->n", near, wj)
    boundary_by_stdev = np.einsum("bn,bn->n", near, dj) * q_by_stdev
    span = _span(boundary, stdev)
    share = (x / stdev + boundary) / span
    share_by_stdev = boundary_by_stdev - x / (stdev * stdev) - share * (boundary_by_stdev + 0.5)
    share_by_stdev /= span

    k, wk, dk = _spline_weights(np.clip(share, 0.0, 1.0), depth - 2)
    around = around[..., None] * depth + four[:, None]
    near = table.log_premium.take((first * depth + k) + around, mode="wrap")
    near = np.einsum("abcn,an->bcn", near, wi)
    held = rate_time * stdev * np.exp(np.einsum("bcn,bn,cn->n", near, wj, wk))
    held[(share <= 0.0) | (share >= 1.0)] = 0.0
    growth = 1.0 / stdev + np.einsum("bcn,bn,cn->n", near, dj, wk) * q_by_stdev
    growth += np.einsum("bcn,bn,cn->n", near, wj, dk) * share_by_stdev

    d2 = x / stdev - 0.5 * stdev
    european = scipy.special.ndtr(-d2) - np.exp(x) * scipy.special.ndtr(-d2 - stdev)
    # Held or not, the right is worth at least the step from the European price to exercise.
    step = -np.expm1(x) - np.exp(-rate_time) * european
    slope = np.where(step > 0.0, -_vega(x, stdev, rate_time), 0.0)
    return np.maximum(held, step), np.where(held > step, held * growth, slope)


def _vega(x: FloatArray, stdev: FloatArray, rate_time: FloatArray) -> FloatArray:
    """Derivative of the European price of puts over the strike by ``stdev``."""
    d2 = x / stdev - 0.5 * stdev
    return np.asarray(np.exp(-rate_time - 0.5 * d2 * d2) / np.sqrt(2.0 * np.pi))


def _put_premium(
    x: FloatArray, stdev: FloatArray, rate_time: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Premium over the strike of puts and its derivative by ``stdev``.

    0 at rates up to zero, NaN out of the domain.
    """
    value = np.where(rate_time <= 0.0, 0.0, np.nan)
    slope = value.copy()
    inside = (rate_time > 0.0) & (rate_time <= MAX_RATE_TIME) & (stdev > 0.0)
    rows = np.flatnonzero(inside & (stdev <= MAX_STDEV) & np.isfinite(x))
    for start in range(0, rows.size, _ROWS):
        part = rows[start : start + _ROWS]
        value[part], slope[part] = _put_premium_rows(x[part], stdev[part], rate_time[part])
    return value, slope


def _as_put(
    forward: FloatArray, strike: FloatArray, is_call: BoolArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Forward, strike and ``ln(F/K)`` of the put that a call is worth as much as."""
    f = np.where(is_call, strike, forward)
    k = np.where(is_call, forward, strike)
    x = np.where(np.abs(f - k) < 0.5 * k, np.log1p((f - k) / k), np.log(f) - np.log(k))
    return f, k, np.clip(x, -700.0, 700.0)


def _premium_block(
    forward: FloatArray,
    strike: FloatArray,
    t_years: FloatArray,
    vol: FloatArray,
    rate: FloatArray,
    is_call: BoolArray,
) -> tuple[FloatArray, FloatArray]:
    """European price and premium of flat arrays."""
    european = black76.price_block(forward, strike, t_years, vol, rate, is_call)
    f, k, x = _as_put(forward, strike, is_call)
    stdev = vol * np.sqrt(t_years)
    rate_time = rate * t_years
    value = k * _put_premium(x, stdev, rate_time)[0]
    # With nothing left to happen the right is the interest on the intrinsic value.
    certain = (stdev == 0.0) & (rate_time >= 0.0)
    value[certain] = (np.maximum(k - f, 0.0) * -np.expm1(-rate_time))[certain]
    return european, np.where(np.isnan(european), np.nan, value)


def premium(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike,
    is_call: ArrayLike,
) -> FloatArray:
    """Early-exercise premium: American price less European price, in the quote unit.

    Arguments are those of `mathlib.black76.price`.

    Returns
    -------
    ndarray
        At least 0; NaN where an input is NaN, infinite, of the wrong sign, or beyond the domain.
    """
    (result,) = in_blocks(
        lambda *block: (_premium_block(*block)[1],),
        (np.float64,),
        *black76.option_arguments(forward, strike, t_years, vol, rate, is_call),
    )
    return result


def price(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike,
    is_call: ArrayLike,
) -> FloatArray:
    """Price of an American option on a future, in the quote unit.

    Arguments are those of `mathlib.black76.price`.

    Returns
    -------
    ndarray
        At least the immediate exercise value and the European price; NaN as in `premium`.
    """

    def kernel(*block: NDArray[Any]) -> tuple[FloatArray, ...]:
        european, value = _premium_block(*block)
        f, k, is_call = block[0], block[1], block[5]
        exercise = np.where(is_call, f - k, k - f)
        return (np.where(np.isnan(value), np.nan, np.maximum(european + value, exercise)),)

    (result,) = in_blocks(
        kernel,
        (np.float64,),
        *black76.option_arguments(forward, strike, t_years, vol, rate, is_call),
    )
    return result


# -------------------------------------------------------------------- the vol behind a price


class _Puts(NamedTuple):
    """Rows under solution: puts over their strike."""

    price: FloatArray
    x: FloatArray  # ln(F/K)
    rate_time: FloatArray

    def at(self, rows: BoolArray) -> _Puts:
        return _Puts(self.price[rows], self.x[rows], self.rate_time[rows])


def _black_stdev(puts: _Puts, price: FloatArray) -> FloatArray:
    """Total stdev of European put prices; 0 at or below intrinsic, out of the domain above."""
    one = np.ones_like(price)
    stdev, status = black76.implied_vol_block(
        price, np.exp(puts.x), one, one, puts.rate_time, np.zeros(price.shape, np.bool_)
    )
    stdev[(status == Status.AT_INTRINSIC) | (status == Status.BELOW_INTRINSIC)] = 0.0
    stdev[status == Status.ABOVE_BOUND] = 4.0 * MAX_STDEV
    return stdev


def _solve_stdev(puts: _Puts, bound: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Newton's method in a bracket, each row on its own, from the root's upper ``bound`` on.

    It looks for the root of ``s`` less the European stdev of the price freed from the premium at
    ``s``, nearly a straight line.
    """
    root = bound.copy()
    solved = np.zeros(root.shape, np.bool_)
    rows = np.arange(root.size)
    s, low, high = bound, np.zeros_like(bound), bound
    for _ in range(60):
        premium, slope = _put_premium(puts.x, s, puts.rate_time)
        european = _black_stdev(puts, puts.price - premium)
        excess = s - european
        low, high = np.where(excess < 0.0, s, low), np.where(excess < 0.0, high, s)
        step = excess / (1.0 + slope / _vega(puts.x, european, puts.rate_time))
        newton = (s - step >= low) & (s - step <= high)
        # Newton squares the error: a step of 1e-6 ends as near to the root as 1e-12.
        found = newton & (np.maximum(np.abs(step), np.abs(excess)) <= 1e-6 * s)
        s = np.where(newton, s - step, 0.5 * (low + high))
        found |= high - low <= 1e-11 * high
        root[rows], solved[rows] = s, found & (low < MAX_STDEV)
        going = ~found & np.isfinite(excess)
        rows, puts, s, low, high = rows[going], puts.at(going), s[going], low[going], high[going]
        if not rows.size:
            break
    return root, solved


def _equivalent_vol_block(
    price: FloatArray,
    forward: FloatArray,
    strike: FloatArray,
    t_years: FloatArray,
    rate: FloatArray,
    is_call: BoolArray,
) -> tuple[FloatArray, StatusArray]:
    vol, status = black76.implied_vol_block(price, forward, strike, t_years, rate, is_call)
    # The stdev without early exercise is at least that with it.
    bound = np.fmin(vol * np.sqrt(t_years), MAX_STDEV)
    f, k, x = _as_put(forward, strike, is_call)
    early = (rate * t_years > 0.0) & (status != Status.BAD_INPUT) & (status != Status.EXPIRED)
    # Exercise is worth the undiscounted intrinsic value and at most the strike of the put.
    intrinsic = np.maximum(k - f, 0.0)
    time_value = price - intrinsic
    noise = np.where(intrinsic > 0.0, 4.0 * np.finfo(np.float64).eps * k, 0.0)
    status[early] = Status.SOLVED
    status[early & (price >= k)] = Status.ABOVE_BOUND
    status[early & (time_value <= noise)] = Status.AT_INTRINSIC
    status[early & (time_value < -noise)] = Status.BELOW_INTRINSIC
    status[early & (rate * t_years > MAX_RATE_TIME)] = Status.NOT_CONVERGED
    vol[early] = np.nan
    rows = np.flatnonzero(early & (status == Status.SOLVED))
    if rows.size:
        puts = _Puts(price[rows] / k[rows], x[rows], rate[rows] * t_years[rows])
        stdev, solved = _solve_stdev(puts, bound[rows])
        vol[rows] = np.where(solved, stdev / np.sqrt(t_years[rows]), np.nan)
        status[rows] = np.where(solved, Status.SOLVED, Status.NOT_CONVERGED)
    return vol, status


def european_equivalent_vol(
    price: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    rate: ArrayLike,
    is_call: ArrayLike,
) -> tuple[FloatArray, StatusArray]:
    """Volatility at which the American option is worth ``price``.

    With it Black-76 gives the European option of the same underlying, which is what surface,
    density and Greeks are made of.

    Parameters
    ----------
    price : array_like
        Option price in the quote unit, as traded.
    forward, strike, t_years, rate, is_call : array_like
        As in `mathlib.black76.price`.

    Returns
    -------
    vol : ndarray of float64
        Annualised decimal volatility; NaN where ``status`` is not ``Status.SOLVED``.
    status : ndarray of int8
        A `mathlib.black76.Status`.  A price equal to immediate exercise holds no volatility
        (``AT_INTRINSIC``), one below it is ``BELOW_INTRINSIC``; a price that no volatility of the
        domain gives is ``NOT_CONVERGED``.

    Raises
    ------
    TypeError
        An argument does not hold real numbers (``is_call``: booleans).
    ValueError
        The shapes do not broadcast.
    """
    vol, status = in_blocks(
        _equivalent_vol_block,
        (np.float64, np.int8),
        as_float("price", price),
        as_float("forward", forward),
        as_float("strike", strike),
        as_float("t_years", t_years),
        as_float("rate", rate),
        as_bool("is_call", is_call),
    )
    return vol, status
