"""SABR slices: Hagan's lognormal vol, batch calibration, and where the formula has arbitrage.

The alternative to `mathlib.svi`.  With k = ln(K/F), alpha the initial vol of the forward, beta
fixed for a market, rho the correlation, nu the vol of vol and A = alpha F^(beta - 1),

    vol(k) = A e^(-c k/2) / (1 + c^2 k^2/24 + c^4 k^4/1920)  z / x(z)          [1] eq. 2.17
             (1 + t (c^2 A^2 e^(-ck)/24 + rho beta nu A e^(-ck/2)/4 + (2 - 3 rho^2) nu^2/24)),
    c = 1 - beta,  z = -nu/A k e^(ck/2),  x(z) = ln((sqrt(1 - 2 rho z + z^2) + z - rho)/(1 - rho)),

so that beyond A the forward has no part in it.  The formula is an expansion about the money: far
enough out its total variance outgrows the bound of [2] (for beta = 1 like (k/ln k)^2 on both sides,
for beta < 1 exponentially at low strikes), so that no slice with a smile is a density everywhere.
`min_durrleman_g` says whether it is one within reach.

References
----------
.. [1] Hagan, P., Kumar, D., Lesniewski, A. and Woodward, D. (2002). Managing smile risk.
   Wilmott magazine, September.
.. [2] Lee, R. (2004). The moment formula for implied volatility at extreme strikes.
   Mathematical Finance 14(3).
.. [3] Gatheral, J. and Jacquier, A. (2014). Arbitrage-free SVI volatility surfaces.
   Quantitative Finance 14(1); arXiv:1204.0646.
.. [4] Nocedal, J. and Wright, S. (2006). Numerical Optimization, 2nd ed., ch. 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mathlib._arrays import as_float, checked_offsets, in_blocks
from mathlib._svi_fit import MIN_STRIKES, Quotes
from mathlib._svi_solver import NOISE_GUESS, Block, assumed_noise, row_sum

__all__ = [
    "MIN_STRIKES",
    "SabrFit",
    "SabrStatus",
    "calibrate",
    "durrleman_g",
    "min_durrleman_g",
    "total_variance_derivatives",
    "vol",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# The prior on log(A / at-the-money vol), atanh(rho) and log(nu sqrt(t)): centre and one standard
# deviation.  It holds the skews and curvatures that the prior of mathlib.svi holds, and in each
# coordinate it weighs as much as one quote with the slice's own error.
_PRIOR_CENTRE = np.array([0.0, 0.0, np.log(0.55)])[:, None]
_PRIOR_SD = (1.0, 0.5, 0.5)

# Where the search may go.
_BOX_LOW = np.array([-3.0, -3.8, np.log(1e-3)])[:, None]
_BOX_HIGH = np.array([3.0, 3.8, np.log(6.0)])[:, None]

# The quotes' own error is looked at again after each of the first rounds.
_FIRST_ROUNDS, _MAX_ITERATIONS = (4, 4, 8), 60
_NOISE_FLOOR, _NOISE_FREE_STRIKES = 1e-4, 8
_STEP_TOLERANCE, _COST_TOLERANCE = 1e-7, 1e-9

_VOL_FLOOR = 1e-6  # where the expansion has no positive vol, in at-the-money vols

# x(z)/z is the sum of P_n(rho) z^n / (n + 1), P_n Legendre's polynomials, whose generating
# function is x'(z); below this |z| its derivatives are summed.
_SERIES_Z, _SERIES_TERMS = 0.02, 10

_CHECK_POINTS = 401


class SabrStatus(IntEnum):
    """Why a slice has, or has not, parameters.  Only `OK` slices have numbers to use."""

    OK = 0
    TOO_FEW = 1  # fewer than three usable quotes
    BAD_INPUT = 2  # time or forward not positive, beta outside [0, 1], or no vol at a quote


@dataclass(frozen=True)
class SabrFit:
    """Calibrated slices; each array has one entry a slice.

    Attributes
    ----------
    alpha, rho, nu : ndarray, shape (n,)
        SABR parameters, NaN where `status` is not 0; alpha in quote unit^(1 - beta) a root year,
        nu annualised decimal.
    rmse_vol : ndarray, shape (n,)
        Root mean square of model vol less quoted vol over the quotes used, annualised decimal.
    status : ndarray of int8, shape (n,)
        `SabrStatus`.
    n : ndarray of int64, shape (n,)
        Quotes used.
    """

    alpha: FloatArray
    rho: FloatArray
    nu: FloatArray
    rmse_vol: FloatArray
    status: NDArray[np.int8]
    n: IntArray


def vol(
    log_moneyness: ArrayLike,
    forward: ArrayLike,
    t_years: ArrayLike,
    alpha: ArrayLike,
    beta: ArrayLike,
    rho: ArrayLike,
    nu: ArrayLike,
) -> FloatArray:
    """Black vol of Hagan's lognormal formula, [1] eq. 2.17, exact in the limit at the money.

    Parameters
    ----------
    log_moneyness : array_like
        ln(K/F).
    forward, t_years : array_like
        Quote unit, positive; years, not negative.
    alpha, beta, rho, nu : array_like
        alpha > 0 in quote unit^(1 - beta) a root year, beta in [0, 1], rho in (-1, 1), nu >= 0.
        Everything broadcasts.

    Returns
    -------
    ndarray
        Annualised decimal; NaN for arguments outside these bounds and where the expansion has no
        positive vol.
    """
    k, f, t, a, b, r, n = _arguments(log_moneyness, forward, t_years, alpha, beta, rho, nu)

    def kernel(
        k: FloatArray, f: FloatArray, t: FloatArray, a: FloatArray, b: FloatArray,
        r: FloatArray, n: FloatArray,
    ) -> tuple[FloatArray]:  # fmt: skip
        level = _level(f, t, a, b, r, n)
        decay, backbone = _backbone((1.0 - b) * k)
        ratio, _ = _x_over_z(-n / level * k / decay, r)
        parts = _time_terms(1.0 - b, b, r, n * np.sqrt(t), level * decay * np.sqrt(t))
        value = level * backbone / ratio * (1.0 + parts[0] + parts[1] + parts[2])
        return (np.where(value > 0.0, value, np.nan),)

    return in_blocks(kernel, (np.float64,), k, f, t, a, b, r, n)[0]


def total_variance_derivatives(
    log_moneyness: ArrayLike,
    forward: ArrayLike,
    t_years: ArrayLike,
    alpha: ArrayLike,
    beta: ArrayLike,
    rho: ArrayLike,
    nu: ArrayLike,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return w = vol^2 t, dw/dk and d2w/dk2 in closed form; arguments as in `vol`."""
    arguments = _arguments(log_moneyness, forward, t_years, alpha, beta, rho, nu)
    first, second, third = in_blocks(_derivatives, (np.float64,) * 3, *arguments)
    return first, second, third


def durrleman_g(
    log_moneyness: ArrayLike,
    forward: ArrayLike,
    t_years: ArrayLike,
    alpha: ArrayLike,
    beta: ArrayLike,
    rho: ArrayLike,
    nu: ArrayLike,
) -> FloatArray:
    """Durrleman's g(k), [3] eq. 2.1: the slice's density is negative where g is.

    g = (1 - k w'/(2w))^2 - w'^2/4 (1/w + 1/4) + w''/2.  Arguments as in `vol`.
    """
    arguments = _arguments(log_moneyness, forward, t_years, alpha, beta, rho, nu)

    def kernel(k: FloatArray, *rest: FloatArray) -> tuple[FloatArray]:
        return (_g(k, *_derivatives(k, *rest)),)

    return in_blocks(kernel, (np.float64,), *arguments)[0]


def min_durrleman_g(
    forward: ArrayLike,
    t_years: ArrayLike,
    alpha: ArrayLike,
    beta: ArrayLike,
    rho: ArrayLike,
    nu: ArrayLike,
    reach: ArrayLike,
) -> FloatArray:
    """Least g of each slice within `reach` at-the-money standard deviations of the forward.

    Parameters
    ----------
    forward, t_years, alpha, beta, rho, nu : array_like
        As in `vol`.
    reach : array_like
        Half-width of the grid of 401 points, in sqrt(w(0)).  Everything broadcasts.

    Returns
    -------
    ndarray
        Negative: butterfly arbitrage within reach.  NaN where the slice has no vol on the grid.
    """
    values = np.broadcast_arrays(
        *_arguments(0.0, forward, t_years, alpha, beta, rho, nu), as_float("reach", reach)
    )
    _, *slices, wide = (x.reshape(-1, 1) for x in values)
    with np.errstate(all="ignore"):
        deviation = vol(0.0, *slices) * np.sqrt(slices[1])
        k = wide * deviation * np.linspace(-1.0, 1.0, _CHECK_POINTS)
        least = durrleman_g(k, *slices).min(axis=1)
    return np.asarray(least.reshape(values[0].shape), dtype=np.float64)


def calibrate(
    offsets: ArrayLike,
    log_moneyness: ArrayLike,
    vol: ArrayLike,
    forward: ArrayLike,
    t_years: ArrayLike,
    beta: ArrayLike,
    weight: ArrayLike | None = None,
) -> SabrFit:
    """Fit alpha, rho and nu of every slice of a ragged batch at a given beta.

    Minimises the weighted squared vol error plus a weak prior by Levenberg-Marquardt [4], in
    coordinates whose every value is admissible, started from the level, skew and curvature of the
    quotes.  A slice's numbers never depend on its neighbours in the batch.

    Parameters
    ----------
    offsets : array_like of int, shape (n + 1,)
        Slice i holds the quotes ``offsets[i]:offsets[i + 1]``.
    log_moneyness, vol : array_like, shape (offsets[-1],)
        ln(K/F) and Black vol (annualised decimal).  NaN quotes are left out.
    forward, t_years, beta : array_like, shape (n,) or ()
        Quote unit; years; exponent of the backbone, 0 (normal) to 1 (lognormal).
    weight : array_like, shape (offsets[-1],), optional
        Proportional to the inverse variance of a quote's vol; only ratios within a slice count.
        Zero and NaN leave a quote out.  Default: all equal.

    Returns
    -------
    SabrFit

    Raises
    ------
    ValueError
        Shapes do not fit or `offsets` does not rise from 0.
    TypeError
        `offsets` is not of an integer type or an argument does not hold real numbers.
    """
    k, v = as_float("log_moneyness", log_moneyness), as_float("vol", vol)
    starts = checked_offsets(offsets, k.size).astype(np.int64)
    weights = np.ones(k.size) if weight is None else as_float("weight", weight)
    for name, array in (("log_moneyness", k), ("vol", v), ("weight", weights)):
        if array.shape != (k.size,):
            raise ValueError(f"{name}: shape {array.shape}, expected ({k.size},) as offsets say")
    slices = starts.size - 1
    f, t, b = (
        _by_slice(name, values, slices)
        for name, values in (("forward", forward), ("t_years", t_years), ("beta", beta))
    )
    with np.errstate(all="ignore"):
        sane = np.isfinite(f) & (f > 0.0) & (b >= 0.0) & (b <= 1.0)
        work = Quotes.collect(starts, k, v, np.where(sane, t, np.nan), weights, None)
        raw, rmse = np.full((3, slices), np.nan), np.full(slices, np.nan)
        for rows, width in work.blocks():
            block = work.padded(rows, width)
            theta, rmse[rows] = _fit_block(_Points.of(block, b[rows]))
            level, rho, deviation = np.exp(theta[0]), np.tanh(theta[1]), np.exp(theta[2])
            raw[0, rows] = level * block.atm_vol * f[rows] ** (1.0 - b[rows])
            raw[1:, rows] = rho, deviation / np.sqrt(t[rows])
    status = np.full(slices, SabrStatus.OK, dtype=np.int8)
    status[~(np.isfinite(raw).all(axis=0) & np.isfinite(rmse))] = SabrStatus.BAD_INPUT
    status[work.n < MIN_STRIKES] = SabrStatus.TOO_FEW
    status[~(sane & np.isfinite(t) & (t > 0.0))] = SabrStatus.BAD_INPUT
    raw[:, status != SabrStatus.OK] = rmse[status != SabrStatus.OK] = np.nan
    alpha, rho, nu = (x.copy() for x in raw)
    return SabrFit(alpha, rho, nu, rmse, status, work.n)


# --- the formula --------------------------------------------------------------------------------


def _arguments(*values: ArrayLike) -> tuple[FloatArray, ...]:
    names = ("log_moneyness", "forward", "t_years", "alpha", "beta", "rho", "nu")
    return tuple(as_float(name, x) for name, x in zip(names, values, strict=True))


def _level(
    f: FloatArray, t: FloatArray, a: FloatArray, b: FloatArray, r: FloatArray, n: FloatArray
) -> FloatArray:
    """Return A = alpha F^(beta - 1), NaN where an argument is out of bounds."""
    sane = (f > 0.0) & (t >= 0.0) & (a > 0.0) & (b >= 0.0) & (b <= 1.0)
    sane &= (np.abs(r) < 1.0) & (n >= 0.0)
    return np.where(sane, a * f ** (b - 1.0), np.nan)


def _backbone(y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return e^(-y/2) and e^(-y/2) / (1 + y^2/24 + y^4/1920), y = (1 - beta) k."""
    decay = np.exp(-0.5 * y)
    y2 = y * y
    return decay, decay / (1.0 + y2 * (1.0 / 24.0 + y2 / 1920.0))


def _time_terms(
    c: FloatArray, b: FloatArray, r: FloatArray, n: FloatArray, level: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Last three terms of [1] eq. 2.17 from nu sqrt(t) and A e^(-ck/2) sqrt(t)."""
    bend = (2.0 - 3.0 * r * r) / 24.0 * n * n
    return (c * level) ** 2 / 24.0, 0.25 * b * r * n * level, bend


def _x_over_z(z: FloatArray, rho: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return x(z)/z and x'(z) = 1/sqrt(1 - 2 rho z + z^2), without loss of digits anywhere.

    x is odd under (z, rho) -> (-z, -rho), so that both follow from |z|.
    """
    u, r = np.abs(z), np.copysign(1.0, z) * rho
    s, t = _roots(u, r)
    argument = u * ((1.0 - r) + t) / ((s + 1.0) * (1.0 - r))
    # 1 - 2 r u + u^2 itself is past the floats for u beyond 1e154.
    ratio = np.log1p(argument) / u
    return np.where(u > 0.0, ratio, 1.0 + 0.0 * u * r), 1.0 / s


def _roots(u: FloatArray, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return s = sqrt(1 - 2 r u + u^2) and s + u - r, each to its last digits, for u >= 0."""
    cosine2, away = (1.0 - r) * (1.0 + r), u - r
    s = np.hypot(away, np.sqrt(cosine2))
    return s, np.where(away >= 0.0, s + away, cosine2 / (s - away))


def _derivatives(
    k: FloatArray, f: FloatArray, t: FloatArray, a: FloatArray, b: FloatArray,
    r: FloatArray, n: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:  # fmt: skip
    """Return w, w', w'' in k through those of ln(vol)."""
    level, c = _level(f, t, a, b, r, n), 1.0 - b
    y = c * k
    decay, backbone = _backbone(y)
    poly, poly1, poly2 = (
        1.0 + y * y / 24.0 + y**4 / 1920.0,
        c * (y / 12.0 + y**3 / 480.0),
        c * c * (1.0 / 12.0 + y * y / 160.0),
    )
    slope = -n / level / decay
    z, z1, z2 = slope * k, slope * (1.0 + 0.5 * y), slope * c * (1.0 + 0.25 * y)
    q, q_z, q_zz = _x_over_z_derivatives(z, r)
    q1, q2 = q_z * z1, q_zz * z1 * z1 + q_z * z2
    square, cross, bend = _time_terms(c, b, r, n * np.sqrt(t), level * decay * np.sqrt(t))
    h = 1.0 + square + cross + bend
    h1, h2 = -c * (square + 0.5 * cross), c * c * (square + 0.25 * cross)
    log1 = -0.5 * c - poly1 / poly - q1 / q + h1 / h
    log2 = (poly1 / poly) ** 2 - poly2 / poly + (q1 / q) ** 2 - q2 / q + h2 / h - (h1 / h) ** 2
    value = level * backbone / q * h
    w = np.where(value > 0.0, value * value * t, np.nan)
    return w, 2.0 * w * log1, w * (4.0 * log1 * log1 + 2.0 * log2)


def _x_over_z_derivatives(
    z: FloatArray, rho: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return x(z)/z and its first two derivatives in z."""
    q, x1 = _x_over_z(z, rho)
    x2 = (rho - z) * x1**3
    first, second = np.zeros_like(q), np.zeros_like(q)
    before, here, power = np.ones_like(q), rho, np.ones_like(q)  # P_(n-1), P_n, z^(n-1)
    for n in range(1, _SERIES_TERMS + 1):
        first = first + n / (n + 1.0) * here * power
        next_one = ((2 * n + 1) * rho * here - n * before) / (n + 1)
        second = second + n * (n + 1.0) / (n + 2.0) * next_one * power
        before, here, power = here, next_one, power * z
    near = np.abs(z) < _SERIES_Z
    first = np.where(near, first, (x1 - q) / z)
    return q, first, np.where(near, second, (x2 - 2.0 * first) / z)


def _g(k: FloatArray, w: FloatArray, w1: FloatArray, w2: FloatArray) -> FloatArray:
    q = 1.0 - 0.5 * k * w1 / w
    return np.asarray(q * q - 0.25 * w1 * w1 * (1.0 / w + 0.25) + 0.5 * w2, dtype=np.float64)


# --- calibration --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Points:
    """Quotes of slices in their own units, and what of the formula does not move in the fit.

    Coordinates `theta`, (3, slices): log(A / at-the-money vol), atanh(rho), log(nu sqrt(t)).
    """

    block: Block
    beta: FloatArray  # (slices, 1)
    decay: FloatArray  # e^(-(1 - beta) k / 2), (slices, width)
    backbone: FloatArray

    @staticmethod
    def of(block: Block, beta: FloatArray) -> _Points:
        return _Points(
            block, beta[:, None], *_backbone(((1.0 - beta) * block.scale)[:, None] * block.x)
        )

    def take(self, keep: IntArray) -> _Points:
        arrays = (self.beta, self.decay, self.backbone)
        return _Points(self.block.take(keep), *(x[keep] for x in arrays))


def _by_slice(name: str, values: ArrayLike, slices: int) -> FloatArray:
    array = as_float(name, values)
    if array.ndim == 0:
        array = np.full(slices, float(array))
    if array.shape != (slices,):
        raise ValueError(f"{name}: shape {array.shape}, expected ({slices},)")
    return array


def _fit_block(points: _Points) -> tuple[FloatArray, FloatArray]:
    """Coordinates of the slices, (3, slices), and their root mean square error in vol."""
    block = points.block
    assumed = assumed_noise(block)
    noise = assumed
    theta = _start(block)
    for iterations in _FIRST_ROUNDS:
        theta = _levenberg_marquardt(theta, points, noise, iterations)
        noise = _noise_of(theta, points, assumed)
    theta = _levenberg_marquardt(theta, points, noise, _MAX_ITERATIONS)
    value = _model(theta, points)[0]
    miss = np.where(value > _VOL_FLOOR, value, np.nan) - block.vol
    miss = np.where(block.weight > 0.0, miss, 0.0)
    return theta, np.sqrt(row_sum(miss * miss) / block.n) * block.atm_vol


def _model(theta: FloatArray, points: _Points) -> tuple[FloatArray, list[FloatArray]]:
    """Vol over at-the-money vol at the quotes, (slices, width), and its derivatives to `theta`."""
    a, n = np.exp(theta[0])[:, None], np.exp(theta[2])[:, None]
    rho = np.tanh(theta[1])[:, None]
    scale = points.block.scale[:, None]
    here = a * points.decay
    z = -n * points.block.x / here
    q, x1 = _x_over_z(z, rho)
    q_log = x1 / q - 1.0  # derivative of log q in log z: z q' = x' - q
    square, cross, bend = _time_terms(1.0 - points.beta, points.beta, rho, n, scale * here)
    h = 1.0 + square + cross + bend
    h_rho = 0.25 * points.beta * n * scale * here - 0.25 * rho * n * n
    value = a * points.backbone / q * h
    jacobian = [
        value * (1.0 + q_log + (2.0 * square + cross) / h),
        value * (1.0 - rho * rho) * (h_rho / h - _x_over_z_by_rho(z, rho) / q),
        value * ((cross + 2.0 * bend) / h - q_log),
    ]
    inside = value > _VOL_FLOOR
    return (
        np.where(inside, value, _VOL_FLOOR),
        [np.where(inside, column, 0.0) for column in jacobian],
    )


def _x_over_z_by_rho(z: FloatArray, rho: FloatArray) -> FloatArray:
    """Derivative of x(z)/z in rho, its cancelling terms taken together."""
    sign, u = np.copysign(1.0, z), np.abs(z)
    r = sign * rho
    s, t = _roots(u, r)
    part = (u - 2.0 * r) * (s + 1.0 - r) / (s + 1.0) + s
    return np.asarray(sign * u * part / ((s + 1.0) * (1.0 - r) * s * t), dtype=np.float64)


def _start(block: Block) -> FloatArray:
    """Coordinates of the level, skew and curvature of a parabola through each slice's quotes.

    Near the money vol = A (1 + s1 x + s2 x^2) with s1 = -rho z/(2x), s2 = (2 - 3 rho^2)/12 (z/x)^2.
    """
    weight = block.weight * np.exp(-0.25 * block.x * block.x)
    powers = [np.ones_like(block.x), block.x, block.x * block.x]
    matrix = [[row_sum(weight * powers[i] * powers[j]) for j in range(i + 1)] for i in range(3)]
    right = [row_sum(weight * power * block.vol) for power in powers]
    # As weak as the prior: a vol of 1, no skew, an ordinary curvature.
    for i, (centre, sd) in enumerate(((1.0, 0.5), (0.0, 0.12), (0.05, 0.1))):
        matrix[i][i] = matrix[i][i] + (NOISE_GUESS / sd) ** 2
        right[i] = right[i] + (NOISE_GUESS / sd) ** 2 * centre
    level, skew, bend = _solve(matrix, right)
    level = np.clip(level, 0.2, 5.0)
    skew, bend = skew / level, bend / level
    deviation = np.sqrt(np.clip(6.0 * (bend + skew * skew), 0.01, 6.0))
    rho = np.clip(2.0 * skew / deviation, -0.9, 0.9)
    return np.stack([np.log(level), np.arctanh(rho), np.log(deviation)])


def _noise_of(theta: FloatArray, points: _Points, assumed: FloatArray) -> FloatArray:
    """Relative vol error of a quote of average weight, from residuals where there are enough."""
    block = points.block
    miss = _model(theta, points)[0] - block.vol
    squares = row_sum(block.weight * miss * miss)
    belief = np.maximum(_NOISE_FREE_STRIKES - block.n, 0.0)
    found = (squares + belief * assumed * assumed) / (np.maximum(block.n - 3.0, 0.0) + belief)
    return np.asarray(np.clip(np.sqrt(found), _NOISE_FLOOR, 1.0), dtype=np.float64)


def _normal_equations(
    theta: FloatArray, points: _Points, prior: FloatArray
) -> tuple[FloatArray, list[list[FloatArray]], list[FloatArray]]:
    """Cost, lower triangle of J'J, and J'r, each entry of shape (slices,)."""
    block = points.block
    value, jacobian = _model(theta, points)
    miss = value - block.vol
    weighted = block.weight * miss
    off = theta - _PRIOR_CENTRE
    cost = row_sum(weighted * miss)
    gradient, matrix = [], []
    for i in range(3):
        cost = cost + prior[i] * off[i] * off[i]
        gradient.append(row_sum(weighted * jacobian[i]) + prior[i] * off[i])
        row = block.weight * jacobian[i]
        matrix.append([row_sum(row * jacobian[j]) for j in range(i + 1)])
        matrix[i][i] = matrix[i][i] + prior[i]
    return cost, matrix, gradient


def _levenberg_marquardt(
    theta: FloatArray, points: _Points, noise: FloatArray, iterations: int
) -> FloatArray:
    """Minimise from `theta`, (3, slices); each slice stops when its own step is small [4]."""
    theta = np.clip(theta, _BOX_LOW, _BOX_HIGH)
    result = theta.copy()
    active = np.arange(noise.size)
    prior = np.stack([(noise / sd) ** 2 for sd in _PRIOR_SD])
    damping = np.full(noise.size, 1e-3)
    cost, matrix, gradient = _normal_equations(theta, points, prior)
    for _ in range(iterations):
        damped = [
            [x * (1.0 + damping) if i == j else x for j, x in enumerate(row)]
            for i, row in enumerate(matrix)
        ]
        trial = np.clip(theta - np.stack(_solve(damped, gradient)), _BOX_LOW, _BOX_HIGH)
        new_cost, new_matrix, new_gradient = _normal_equations(trial, points, prior)
        better = new_cost < cost
        small = np.abs(trial - theta).max(axis=0) < _STEP_TOLERANCE
        small |= better & (cost - new_cost <= _COST_TOLERANCE * cost)
        done = small | (damping > 1e10) | ~np.isfinite(cost)
        damping = np.where(better, np.maximum(0.15 * damping, 1e-9), 6.0 * damping)
        theta = np.where(better, trial, theta)
        cost = np.where(better, new_cost, cost)
        for i in range(3):
            gradient[i] = np.where(better, new_gradient[i], gradient[i])
            for j in range(i + 1):
                matrix[i][j] = np.where(better, new_matrix[i][j], matrix[i][j])
        if done.any():
            result[:, active[done]] = theta[:, done]
            keep = np.flatnonzero(~done)
            active = active[keep]
            if active.size == 0:
                return result
            theta, prior, points = theta[:, keep], prior[:, keep], points.take(keep)
            cost, damping = cost[keep], damping[keep]
            gradient = [x[keep] for x in gradient]
            matrix = [[x[keep] for x in row] for row in matrix]
    result[:, active] = theta
    return result


def _solve(matrix: list[list[FloatArray]], right: list[FloatArray]) -> list[FloatArray]:
    """Solve symmetric 3 x 3 systems, given by their lower triangles, by Cholesky."""
    (m00,), (m10, m11), (m20, m21, m22) = matrix
    l00 = np.sqrt(np.maximum(m00, 1e-300))
    l10, l20 = m10 / l00, m20 / l00
    l11 = np.sqrt(np.maximum(m11 - l10 * l10, 1e-300))
    l21 = (m21 - l20 * l10) / l11
    l22 = np.sqrt(np.maximum(m22 - l20 * l20 - l21 * l21, 1e-300))
    y0 = right[0] / l00
    y1 = (right[1] - l10 * y0) / l11
    y2 = (right[2] - l20 * y0 - l21 * y1) / l22
    x2 = y2 / l22
    x1 = (y1 - l21 * x2) / l11
    return [(y0 - l10 * x1 - l20 * x2) / l00, x1, x2]
