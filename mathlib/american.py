"""American options on futures: early-exercise premium and the volatility behind a price.

CME livestock and grain options may be exercised on any day, which gives a future's holder the
intrinsic value now instead of at expiry.  The premium for that right is worth next to nothing out
of the money and up to one or two vol points in the money, and a Black-76 volatility of the quoted
price overstates the true one by it.

Without cost of carry the problem is symmetric, ``C(F, K) = P(K, F)``, and homogeneous, so that one
two-parameter family holds every case: with ``R = r T`` and ``v = vol^2 T`` the exercise boundary
of a put is ``B = K exp(-sqrt(v) Y)`` where ``Y`` depends on ``(R, v)`` and on the share of time
that is left.  The boundary is solved once on a Chebyshev grid of ``(ln R, sqrt(v))`` from the
integral equation of [1]_ and interpolated from then on; what a row costs is one quadrature of
the premium

    premium/K = int_0^R e^-(R-u) [N(-d2(u)) - F/K N(-d1(u))] du,

with ``d1`` and ``d2`` taken from the future to its boundary at ``u`` before expiry (times are
multiplied by the rate) [2]_.

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
from numpy.typing import ArrayLike, NDArray
from scipy import special

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

#: Below this ``rate * t_years`` the boundary is that of this value; the premium is below
#: 1e-8 of the strike there.
_MIN_RATE_TIME = 1e-8

#: Rows worked on at a time here, where a row holds one value per quadrature node.
_ROWS = 1024

_QUADRATURE = 32


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
        inner_y = np.sqrt(np.maximum(np.einsum("iqk,mk->miq", to_inner, square), 0.0))
        z = (inner_y - y[..., None] * nodes[:-1, None]) / (nodes[:-1, None] * np.sqrt(1.0 - inner))
        ends = special.ndtr(-y - 0.5 * sd), special.ndtr(-y + 0.5 * sd)
        numerator = ends[0] + np.sum(growth * special.ndtr(z - 0.5 * sd_inner), axis=-1)
        denominator = ends[1] + np.sum(growth * special.ndtr(z + 0.5 * sd_inner), axis=-1)
        y = np.log(denominator / numerator) / sd
    square[:, :-1] = y * y * time
    to_shares = _lagrange(nodes, np.sqrt(shares))
    return np.asarray(np.sqrt(np.maximum(np.einsum("qk,mk->mq", to_shares, square), 0.0)))


class _Boundary(NamedTuple):
    """The solved boundary on a uniform grid, and the quadrature that it is meant for."""

    table: FloatArray  # (points in ln R * points in sqrt v, quadrature nodes + 1)
    log_r: FloatArray  # grid
    stdev: FloatArray  # grid
    left: FloatArray  # share of time left at each quadrature node
    weights: FloatArray


def _chebyshev_to_grid(n: int, low: float, high: float, grid: FloatArray) -> tuple[FloatArray, ...]:
    """Chebyshev points of the first kind on ``[low, high]``, and the matrix to ``grid``."""
    angle = np.pi * (np.arange(n) + 0.5) / n
    order = np.arange(n)
    to_coefficients = np.cos(order[:, None] * angle) * (2.0 / n)
    to_coefficients[0] *= 0.5
    unit = np.clip((2.0 * grid - low - high) / (high - low), -1.0, 1.0)
    basis = np.cos(order * np.arccos(unit)[:, None])
    return 0.5 * (low + high) + 0.5 * (high - low) * np.cos(angle), basis @ to_coefficients


@cache
def _boundary() -> _Boundary:
    """Solve the boundary for the whole domain: 480 integral equations at once, on first use."""
    left, weights = _unit_legendre(_QUADRATURE)
    low, high = float(np.log(_MIN_RATE_TIME)), float(np.log(MAX_RATE_TIME))
    log_r = np.linspace(low, high, 81)
    stdev = np.linspace(0.0, MAX_STDEV, 81)
    r_points, to_log_r = _chebyshev_to_grid(24, low, high, log_r)
    s_points, to_stdev = _chebyshev_to_grid(20, 0.0, MAX_STDEV, stdev)
    solved = _solve_boundary(
        np.repeat(np.exp(r_points), s_points.size),
        np.tile(s_points**2, r_points.size),
        np.append(left, 1.0),
    ).reshape(r_points.size, s_points.size, -1)
    table = np.einsum("ai,bj,ijq->abq", to_log_r, to_stdev, solved, optimize=True)
    return _Boundary(
        np.ascontiguousarray(table.reshape(log_r.size * stdev.size, -1)),
        log_r,
        stdev,
        left,
        weights,
    )


def _cubic_weights(x: FloatArray, grid: FloatArray) -> tuple[IndexArray, FloatArray]:
    """First of the four grid points about each ``x`` and the four Lagrange weights."""
    step = grid[1] - grid[0]
    position = (x - grid[0]) / step
    first = np.clip(position.astype(np.intp) - 1, 0, grid.size - 4)
    u = position - first
    return first, np.stack(
        (
            -(u - 1.0) * (u - 2.0) * (u - 3.0) / 6.0,
            u * (u - 2.0) * (u - 3.0) / 2.0,
            -u * (u - 1.0) * (u - 3.0) / 2.0,
            u * (u - 1.0) * (u - 2.0) / 6.0,
        )
    )


def _interpolate(boundary: _Boundary, log_r: FloatArray, stdev: FloatArray) -> FloatArray:
    """``-ln(B/K)/sqrt(v)`` per row, at each quadrature node and (last) now."""
    i, wi = _cubic_weights(log_r, boundary.log_r)
    j, wj = _cubic_weights(stdev, boundary.stdev)
    columns = boundary.stdev.size
    corner = i * columns + j
    result = np.zeros((log_r.size, boundary.table.shape[1]))
    for a in range(4):
        for b in range(4):
            rows = boundary.table.take(corner + (a * columns + b), axis=0)
            rows *= (wi[a] * wj[b])[:, None]
            result += rows
    return result


# ------------------------------------------------------------------------------ the premium


def _put_premium_rows(
    x: FloatArray, stdev: FloatArray, rate_time: FloatArray, boundary: _Boundary
) -> FloatArray:
    """Premium over the strike of puts with ``x = ln(F/K)``; all rows in the domain."""
    y = _interpolate(boundary, np.log(np.maximum(rate_time, _MIN_RATE_TIME)), stdev)
    gone = 1.0 - boundary.left
    z = (x / stdev)[:, None] + y[:, :-1]
    z /= np.sqrt(gone)
    half = 0.5 * stdev[:, None] * np.sqrt(gone)
    # N(-d2) - F/K N(-d1), a strip of the payoff below the boundary.
    strip = special.ndtr(half - z)
    strip -= np.exp(x)[:, None] * special.ndtr(-half - z)
    strip *= np.exp(-rate_time[:, None] * gone)
    strip *= boundary.weights
    held = rate_time * strip.sum(axis=1)
    exercise = -np.expm1(x)
    european = black76.price_block(
        np.exp(x), np.ones_like(x), np.ones_like(x), stdev, rate_time, np.zeros(x.shape, np.bool_)
    )
    exercised = x <= -stdev * y[:, -1]
    # Held or not, the right is worth at least the step from the European price to exercise.
    return np.maximum(np.where(exercised, 0.0, held), np.maximum(exercise - european, 0.0))


def _put_premium(x: FloatArray, stdev: FloatArray, rate_time: FloatArray) -> FloatArray:
    """Premium over the strike of puts; 0 at rates up to zero, NaN out of the domain."""
    result = np.where(rate_time <= 0.0, 0.0, np.nan)
    inside = (rate_time > 0.0) & (rate_time <= MAX_RATE_TIME) & (stdev > 0.0)
    rows = np.flatnonzero(inside & (stdev <= MAX_STDEV))
    if rows.size:
        boundary = _boundary()
        for start in range(0, rows.size, _ROWS):
            part = rows[start : start + _ROWS]
            result[part] = _put_premium_rows(x[part], stdev[part], rate_time[part], boundary)
    return result


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
    value = k * _put_premium(x, stdev, rate_time)
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

    def at(self, rows: IndexArray) -> _Puts:
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


def _excess(puts: _Puts, stdev: FloatArray) -> FloatArray:
    """``s`` less the European stdev of the price freed from the premium at ``s``.

    It rises through 0 at the solution: where ``s`` is too high the premium taken off is too.
    """
    return stdev - _black_stdev(puts, puts.price - _put_premium(puts.x, stdev, puts.rate_time))


def _solve_stdev(puts: _Puts) -> tuple[FloatArray, BoolArray]:
    """Chandrupatla's bracketed inverse quadratic interpolation, each row on its own.

    The European stdev of the price bounds the solution from above.  Out of the money, where the
    premium rises with the volatility, taking off the premium at that bound gives a lower one.
    """
    high = np.minimum(_black_stdev(puts, puts.price), MAX_STDEV)
    f_high = _excess(puts, high)
    low = np.clip(high - f_high, 1e-3 * high, high)
    f_low = _excess(puts, low)
    # In the money that may be another upper bound.  There the boundary, which is never seven
    # standard deviations away, is a lower one: what is nearer to the strike is not exercised.
    above = np.flatnonzero(f_low > 0.0)
    high[above], f_high[above] = low[above], f_low[above]
    low[above] = np.minimum(np.maximum(-puts.x[above] / 7.0, 1e-6), high[above])
    f_low[above] = _excess(puts.at(above), low[above])

    root = np.where(np.abs(f_low) < np.abs(f_high), low, high)
    done = np.minimum(np.abs(f_low), np.abs(f_high)) <= 1e-13 * high
    solvable = done | ((f_low < 0.0) & (f_high > 0.0))
    rows = np.flatnonzero(solvable & ~done)
    # a: newest, b: the other end of the bracket, c: the one before.
    a, fa = high[rows], f_high[rows]
    b, fb = low[rows], f_low[rows]
    c, fc = b, fb
    # First the secant through both ends, the function being nearly straight.
    share = fa / (fa - fb)
    for _ in range(60):
        if not rows.size:
            break
        new = a + np.clip(share, 1e-9, 1.0 - 1e-9) * (b - a)
        f_new = _excess(puts.at(rows), new)
        same = np.sign(f_new) == np.sign(fa)
        c, fc = np.where(same, a, b), np.where(same, fa, fb)
        b, fb = np.where(same, b, a), np.where(same, fb, fa)
        a, fa = new, f_new
        better_a = np.abs(fa) < np.abs(fb)
        best, f_best = np.where(better_a, a, b), np.where(better_a, fa, fb)
        root[rows] = best
        width = np.abs(b - a)
        open_rows = (np.abs(f_best) > 1e-13 * best) & (width > 1e-11 * best)
        solvable[rows] &= np.isfinite(f_new)
        open_rows &= np.isfinite(f_new)
        # Chandrupatla's test: is the inverse quadratic through a, b, c monotone on the bracket?
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        smooth = (phi * phi < xi) & ((1.0 - phi) ** 2 < 1.0 - xi)
        quadratic = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (
            fc - fb
        )
        share = np.where(smooth & np.isfinite(quadratic), quadratic, 0.5)
        rows, share = rows[open_rows], share[open_rows]
        a, b, c = a[open_rows], b[open_rows], c[open_rows]
        fa, fb, fc = fa[open_rows], fb[open_rows], fc[open_rows]
    solvable[rows] = False
    return root, solvable


def _equivalent_vol_block(
    price: FloatArray,
    forward: FloatArray,
    strike: FloatArray,
    t_years: FloatArray,
    rate: FloatArray,
    is_call: BoolArray,
) -> tuple[FloatArray, StatusArray]:
    vol, status = black76.implied_vol_block(price, forward, strike, t_years, rate, is_call)
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
        stdev, solved = _solve_stdev(puts)
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
