"""Calibration of a ragged batch of SVI slices without static arbitrage.

The slices go through in blocks of equal padded width.  Each block is fitted freely; slices whose
best fit has butterfly arbitrage are fitted again under hinges, and last the expiries of one
underlying, from near to far, where they cross.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mathlib._svi_slice import (
    CALENDAR_MARGIN,
    G_MARGIN,
    BoolArray,
    FloatArray,
    IntArray,
    butterfly_free,
    calendar_gap_at,
    floats,
    min_g_at,
    shrink,
    total_variance,
)
from mathlib._svi_solver import (
    NOISE_FLOOR,
    NOISE_FREE_STRIKES,
    PRIOR_SD,
    Block,
    Floor,
    Hinge,
    assumed_noise,
    levenberg_marquardt,
    noise_of,
    root_and_jacobian,
    row_sum,
    start,
    to_raw,
    to_theta,
)

MIN_STRIKES = 3

_BLOCK = 32768  # quotes a block: more cost cache, fewer cost calls
# The quotes' own error is looked at again after each of the first rounds.
_FIRST_ROUNDS, _MAX_ITERATIONS = (4, 4, 8), 40
_HINGE_ROUNDS = 3
_LEAST_ERROR = 0.1  # of a quote's own error: however small the residuals, it is not less

# Hinge points, in at-the-money deviations.
_HINGE_X = np.concatenate([[0.0, 0.0], 0.5 * np.sinh(np.linspace(-3.6, 3.6, 25))])

# Where a slice and its repair are compared, in the same units.
_REPAIR_X = np.linspace(-3.0, 3.0, 32)


class SviStatus(IntEnum):
    """Why a slice has, or has not, parameters.  Only `OK` slices have numbers to use."""

    OK = 0
    TOO_FEW = 1  # fewer than three usable quotes
    BAD_INPUT = 2  # the expiry's time is not a positive number, or the fit left the floats
    ARBITRAGE = 3  # no slice free of arbitrage was found


@dataclass(frozen=True)
class SviFit:
    """Calibrated slices; each array has one entry a slice.

    Attributes
    ----------
    a, b, rho, m, sigma : ndarray, shape (n,)
        Raw SVI parameters, NaN where `status` is not 0.
    rmse_vol : ndarray, shape (n,)
        Root mean square of model vol less quoted vol over the quotes used, annualised decimal.
    status : ndarray of int8, shape (n,)
        `SviStatus`; 0 is a slice without butterfly (and within its group calendar) arbitrage.
    n : ndarray of int64, shape (n,)
        Quotes used.
    noise_vol : ndarray, shape (n,)
        Standard deviation of one quote of average weight that the fit found, annualised decimal.
    covariance : ndarray, shape (n, 5, 5)
        Covariance of the coordinates of `to_coordinates`.
    min_g : ndarray, shape (n,)
        Least Durrleman g over all k.
    repaired : ndarray of bool, shape (n,)
        The best fit had arbitrage: the parameters are those of the constrained fit.
    """

    a: FloatArray
    b: FloatArray
    rho: FloatArray
    m: FloatArray
    sigma: FloatArray
    rmse_vol: FloatArray
    status: NDArray[np.int8]
    n: IntArray
    noise_vol: FloatArray
    covariance: FloatArray
    min_g: FloatArray
    repaired: BoolArray


def calibrate(
    offsets: ArrayLike,
    log_moneyness: ArrayLike,
    vol: ArrayLike,
    t_years: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    group: ArrayLike | None = None,
    vol_error: ArrayLike | None = None,
) -> SviFit:
    """Fit every slice of a ragged batch.

    Minimises the weighted squared vol error plus a weak prior by Levenberg-Marquardt, started
    from a grid over (m, sigma) with a linear solve for the rest, in coordinates whose every
    value is admissible.  A slice whose best fit has butterfly arbitrage is fitted again with a
    hinge on Durrleman's g, then checked over all k and, where needed, moved towards an SSVI slice.

    Parameters
    ----------
    offsets : array_like of int, shape (n + 1,)
        Slice i holds the quotes ``offsets[i]:offsets[i + 1]``.
    log_moneyness, vol : array_like, shape (offsets[-1],)
        ln(K/F) and Black vol (annualised decimal).  NaN quotes are left out.
    t_years : array_like, shape (n,) or ()
        Time to expiry, years.
    weight : array_like, shape (offsets[-1],), optional
        Proportional to the inverse variance of a quote's vol; only ratios within a slice count.
        Zero and NaN leave a quote out.  Default: all equal.
    group : array_like of int, shape (n,), optional
        Slices with the same number are expiries of one underlying: their total variance is made
        non-decreasing in `t_years` at every k, from the near expiry to the far one.
    vol_error : array_like, shape (offsets[-1],), optional
        One standard deviation of each quote's vol, as from `quote_error`: it sets how far the
        prior may pull a slice of few quotes, and how `SviFit.covariance` follows from each
        quote; its overall size is what the residuals show, where there are enough.  Default:
        equal errors of that size.

    Returns
    -------
    SviFit

    Raises
    ------
    ValueError
        Shapes do not fit or `offsets` does not rise from 0.
    TypeError
        `offsets` or `group` is not of an integer type.
    """
    starts, k, v, t, weights, groups, errors = _checked(
        offsets, log_moneyness, vol, t_years, weight, group, vol_error
    )
    with np.errstate(all="ignore"):
        work = Quotes.collect(starts, k, v, t, weights, errors)
        state = _State.empty(t.size)
        for rows, width in work.blocks():
            _fit_block(work.padded(rows, width), rows, state)
        if groups is not None:
            _remove_calendar_arbitrage(work, state, groups, t)
        for rows, width in work.blocks():
            _finish_block(work.padded(rows, width), rows, state)
        return state.as_fit(work)


def repair(
    a: ArrayLike, b: ArrayLike, rho: ArrayLike, m: ArrayLike, sigma: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Nearest slices without butterfly arbitrage, as the optimal repair of [1] section 5.1.

    Nearest is meant in vol, in the mean square over three at-the-money standard deviations to
    both sides.  A slice already free of arbitrage comes back unchanged; one that is NaN or has no
    positive variance there gives NaN.

    References
    ----------
    .. [1] Gatheral, J. and Jacquier, A. (2014). Arbitrage-free SVI volatility surfaces.
       Quantitative Finance 14(1); arXiv:1204.0646.
    """
    raw = np.broadcast_arrays(*floats(a, b, rho, m, sigma))
    flat = np.stack([x.ravel() for x in raw])
    bad = ~butterfly_free(*flat)
    with np.errstate(all="ignore"):
        slices = flat[:, bad, None]
        scale = np.sqrt(total_variance(0.0, *slices))
        k = scale * _REPAIR_X
        vol = np.sqrt(total_variance(k, *slices))
    offsets = np.arange(vol.shape[0] + 1) * _REPAIR_X.size
    fit = calibrate(offsets, k.ravel(), vol.ravel(), np.ones(vol.shape[0]))
    flat[:, bad] = fit.a, fit.b, fit.rho, fit.m, fit.sigma
    out = [x.reshape(raw[0].shape) for x in flat]
    return out[0], out[1], out[2], out[3], out[4]


def share_inside(
    fit: SviFit,
    offsets: ArrayLike,
    log_moneyness: ArrayLike,
    bid_vol: ArrayLike,
    ask_vol: ArrayLike,
    t_years: ArrayLike,
) -> FloatArray:
    """Share of each slice's two-sided quotes whose bid-ask vols hold the fitted vol.

    Ragged layout as in `calibrate`; NaN where a slice has no fit or no two-sided quote.
    """
    starts, k, bid, t, ask, _, _ = _checked(
        offsets, log_moneyness, bid_vol, t_years, ask_vol, None, None
    )
    size = np.diff(starts)
    row = np.repeat(np.arange(t.size), size)
    with np.errstate(all="ignore"):
        w = total_variance(k, fit.a[row], fit.b[row], fit.rho[row], fit.m[row], fit.sigma[row])
        model = np.sqrt(w / t[row])
        quoted = np.isfinite(bid) & np.isfinite(ask) & np.isfinite(model)
        inside = quoted & (bid <= model) & (model <= ask)
        counts = np.bincount(row, weights=quoted, minlength=t.size)
        return np.asarray(np.bincount(row, weights=inside, minlength=t.size) / counts)


def _checked(
    offsets: ArrayLike,
    log_moneyness: ArrayLike,
    vol: ArrayLike,
    t_years: ArrayLike,
    weight: ArrayLike | None,
    group: ArrayLike | None,
    vol_error: ArrayLike | None,
) -> tuple[
    IntArray,
    FloatArray,
    FloatArray,
    FloatArray,
    FloatArray,
    IntArray | None,
    FloatArray | None,
]:
    """Arrays of the right types, or the error that names what does not fit."""
    starts = np.asarray(offsets)
    if starts.ndim != 1 or starts.size == 0:
        raise ValueError(f"offsets: shape {starts.shape}, expected (n + 1,)")
    if not np.issubdtype(starts.dtype, np.integer):
        raise TypeError(f"offsets: dtype {starts.dtype}, expected an integer type")
    starts = starts.astype(np.int64)
    k, v, t = floats(log_moneyness, vol, t_years)
    if starts[0] != 0 or (np.diff(starts) < 0).any():
        raise ValueError("offsets: must start at 0 and not fall")
    total = int(starts[-1])
    weights = np.ones(total) if weight is None else np.asarray(weight, dtype=np.float64)
    errors = None if vol_error is None else np.asarray(vol_error, dtype=np.float64)
    for name, array in (
        ("log_moneyness", k),
        ("vol", v),
        ("weight", weights),
        ("vol_error", errors),
    ):
        if array is not None and array.shape != (total,):
            raise ValueError(f"{name}: shape {array.shape}, expected ({total},) as offsets say")
    if t.ndim == 0:
        t = np.full(starts.size - 1, float(t))
    if t.shape != (starts.size - 1,):
        raise ValueError(f"t_years: shape {t.shape}, expected ({starts.size - 1},)")
    if group is None:
        return starts, k, v, t, weights, None, errors
    groups = np.asarray(group)
    if groups.shape != t.shape:
        raise ValueError(f"group: shape {groups.shape}, expected {t.shape}")
    if groups.size and not np.issubdtype(groups.dtype, np.integer):
        raise TypeError(f"group: dtype {groups.dtype}, expected an integer type")
    return starts, k, v, t, weights, groups.astype(np.int64), errors


@dataclass(frozen=True)
class Quotes:
    """The usable quotes of the batch, flat, and where each slice's begin."""

    start: IntArray
    n: IntArray
    k: FloatArray
    vol: FloatArray
    weight: FloatArray
    error: FloatArray
    atm_vol: FloatArray
    t: FloatArray
    usable: BoolArray  # slices worth fitting

    @staticmethod
    def collect(
        starts: IntArray,
        k: FloatArray,
        vol: FloatArray,
        t: FloatArray,
        weight: FloatArray,
        error: FloatArray | None,
    ) -> Quotes:
        """Leave out what is not a quote and estimate each slice's at-the-money vol."""
        row = np.repeat(np.arange(t.size), np.diff(starts))
        good_t = np.isfinite(t) & (t > 0.0)
        root_t = np.sqrt(np.where(good_t, t, 1.0))
        deviation = vol * root_t[row]
        keep = (
            (np.abs(k) < 100.0)
            & (deviation > 1e-6)
            & (deviation < 100.0)
            & np.isfinite(vol)
            & (weight > 0.0)
            & np.isfinite(weight)
        )
        n = np.bincount(row[keep], minlength=t.size).astype(np.int64)
        start = np.concatenate([[0], np.cumsum(n)[:-1]]).astype(np.int64)
        errors = np.full(int(n.sum()), np.nan) if error is None else error[keep]
        usable = good_t & (n >= MIN_STRIKES)
        quotes = Quotes(
            start, n, k[keep], vol[keep], weight[keep], errors, np.ones(t.size), t, usable
        )
        for rows, width in quotes.blocks():
            index, inside = quotes._index(rows, width)
            distance = np.where(inside, np.abs(quotes.k[index]), np.inf)
            vols = np.where(inside, quotes.vol[index], 0.0)
            # A kernel mean about the strike nearest to the money, a quarter deviation wide.
            reach = 0.25 * vols.sum(axis=1) / n[rows] * root_t[rows]
            z = (distance - distance.min(axis=1)[:, None]) / reach[:, None]
            near = np.exp(-0.5 * z * z)
            quotes.atm_vol[rows] = (near * vols).sum(axis=1) / near.sum(axis=1)
        return quotes

    def blocks(self) -> list[tuple[IntArray, int]]:
        """Rows of usable slices by padded width, cut so that a block's arrays stay in cache."""
        return self.blocks_of(np.flatnonzero(self.usable))

    def blocks_of(self, rows: IntArray) -> list[tuple[IntArray, int]]:
        widths = _padded_width(self.n[rows])
        out = []
        for width in np.unique(widths):
            same = rows[widths == width]
            step = max(1, _BLOCK // int(width))
            out += [(same[i : i + step], int(width)) for i in range(0, same.size, step)]
        return out

    def _index(self, rows: IntArray, width: int) -> tuple[IntArray, BoolArray]:
        column = np.arange(width)
        inside = column < self.n[rows][:, None]
        return self.start[rows][:, None] + np.where(inside, column, 0), inside

    def padded(self, rows: IntArray, width: int) -> Block:
        """Quotes of these slices in their own units."""
        index, inside = self._index(rows, width)
        atm = self.atm_vol[rows]
        scale = atm * np.sqrt(self.t[rows])
        n = self.n[rows].astype(np.float64)
        weight = np.where(inside, self.weight[index], 0.0)
        # Dividing by the greatest first keeps the sum of extreme weights in the floats.
        weight /= weight.max(axis=1)[:, None]
        weight *= (n / weight.sum(axis=1))[:, None]
        return Block(
            self.k[index] / scale[:, None],
            self.vol[index] / atm[:, None],
            weight,
            self.error[index] / atm[:, None],
            atm,
            scale,
            n,
        )


def _padded_width(n: IntArray) -> IntArray:
    """Width of a slice's row: of its own n alone, so that its sums are always the same ones.

    NumPy sums a contiguous row of a multiple of 8 in eight interleaved parts: the order of the
    additions depends on the width alone.
    """
    eighths = -(-n // 8)
    power = np.int64(1) << np.ceil(np.log2(eighths)).astype(np.int64)
    three_quarters = power // 4 * 3
    tight = (power >= 4) & (eighths <= three_quarters)
    return np.asarray(8 * np.where(tight, three_quarters, power), dtype=np.int64)


@dataclass
class _State:
    """What the fit knows of every slice so far."""

    raw: FloatArray  # (5, n): a, b, rho, m, sigma
    noise: FloatArray  # vol error of a quote of average weight over the at-the-money vol
    min_g: FloatArray
    rmse_vol: FloatArray
    covariance: FloatArray
    repaired: BoolArray
    failed: BoolArray

    @staticmethod
    def empty(n: int) -> _State:
        return _State(
            np.full((5, n), np.nan),
            np.full(n, np.nan),
            np.full(n, np.nan),
            np.full(n, np.nan),
            np.full((n, 5, 5), np.nan),
            np.zeros(n, dtype=np.bool_),
            np.zeros(n, dtype=np.bool_),
        )

    def as_fit(self, work: Quotes) -> SviFit:
        """Set status and NaN where there is no slice to use."""
        good_t = np.isfinite(work.t) & (work.t > 0.0)
        finite = np.isfinite(self.raw).all(axis=0) & np.isfinite(self.rmse_vol)
        status = np.full(work.t.size, SviStatus.OK, dtype=np.int8)
        status[~finite] = SviStatus.BAD_INPUT
        status[self.failed] = SviStatus.ARBITRAGE
        status[work.n < MIN_STRIKES] = SviStatus.TOO_FEW
        status[~good_t] = SviStatus.BAD_INPUT
        bad = status != SviStatus.OK
        for values in (self.raw.T, self.rmse_vol, self.covariance, self.min_g, self.noise):
            values[bad] = np.nan
        a, b, rho, m, sigma = (x.copy() for x in self.raw)
        return SviFit(
            a,
            b,
            rho,
            m,
            sigma,
            rmse_vol=self.rmse_vol,
            status=status,
            n=work.n,
            noise_vol=self.noise * work.atm_vol,
            covariance=self.covariance,
            min_g=self.min_g,
            repaired=self.repaired & ~bad,
        )


def _fit_block(block: Block, rows: IntArray, state: _State) -> None:
    """Free fit, then the constrained one where it has arbitrage."""
    assumed = assumed_noise(block)
    noise = assumed
    theta = start(block)
    for iterations in _FIRST_ROUNDS:
        theta = levenberg_marquardt(theta, block, noise, iterations)
        noise = noise_of(theta, block, assumed)
    theta = levenberg_marquardt(theta, block, noise, _MAX_ITERATIONS)
    raw = to_raw(theta, block.scale)
    least, _ = min_g_at(raw)
    bad = np.flatnonzero(np.isfinite(least) & ~(least >= G_MARGIN))
    if bad.size:
        raw[:, bad], least[bad], admissible = _constrained_fit(
            theta[:, bad], block.take(bad), noise[bad]
        )
        state.repaired[rows[bad]] = True
        state.failed[rows[bad]] = ~admissible
    state.raw[:, rows], state.noise[rows], state.min_g[rows] = raw, noise, least


def _constrained_fit(
    theta: FloatArray, block: Block, noise: FloatArray, near: FloatArray | None = None
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Fit with hinges that grow until no arbitrage is left, then move what still has some.

    `near` holds the raw parameters of the nearer expiry, (5, slices).  Returns raw parameters,
    least g and whether the slice is admissible.
    """
    theta, raw = theta.copy(), to_raw(theta, block.scale)
    least, where = min_g_at(raw)
    low = np.zeros(block.n.size) if near is None else calendar_gap_at(near, raw)[1]
    x = np.tile(_HINGE_X, (block.n.size, 1))
    x_floor = x.copy()
    bad = np.arange(block.n.size)
    admissible = np.ones(block.n.size, dtype=np.bool_)
    for i in range(_HINGE_ROUNDS):
        part = block.take(bad)
        # The worst points of the last two rounds join the fixed ones: a narrow dip cannot hide.
        x[bad, i % 2] = where[bad] / part.scale
        strength = 0.3 * 4.0**i * np.sqrt(part.n)
        hinge = Hinge(x[bad], strength)
        floor = None
        if near is not None:
            x_floor[bad, i % 2] = low[bad] / part.scale
            floor = Floor.above(near[:, bad], x_floor[bad], 3.0 * strength, part.scale)
        theta[:, bad] = levenberg_marquardt(
            theta[:, bad], part, noise[bad], _MAX_ITERATIONS, hinge, floor
        )
        raw[:, bad] = to_raw(theta[:, bad], part.scale)
        least[bad], where[bad] = min_g_at(raw[:, bad])
        fine: BoolArray = least[bad] >= G_MARGIN
        if near is not None:
            gap, low[bad] = calendar_gap_at(near[:, bad], raw[:, bad])
            fine &= gap >= CALENDAR_MARGIN
        bad = bad[~fine]
        if bad.size == 0:
            return raw, least, admissible
    raw[:, bad], least[bad], admissible[bad] = shrink(
        raw[:, bad], None if near is None else near[:, bad]
    )
    return raw, least, admissible


def _finish_block(block: Block, rows: IntArray, state: _State) -> None:
    """Root mean square error in vol and covariance of the coordinates."""
    theta = to_theta(state.raw[:, rows], block.scale)
    root, jacobian = root_and_jacobian(theta, block.x, block.scale)
    miss = np.where(block.weight > 0.0, root - block.vol, 0.0)
    state.rmse_vol[rows] = np.sqrt((miss * miss).sum(axis=1) / block.n) * block.atm_vol
    noise = state.noise[rows]
    data = _weighted_products(block.weight, jacobian)
    precision = data.copy()
    for i in range(5):
        precision[:, i, i] += (noise / PRIOR_SD[i]) ** 2
    inverse = _invert(precision)
    # Quotes' own errors, where given, spread through the estimator; else the residuals' error.
    given = np.isfinite(block.error)
    error2 = np.where(given, np.maximum(block.error, NOISE_FLOOR) ** 2, (noise * noise)[:, None])
    spread = _weighted_products(block.weight**2 * error2, jacobian)
    seen, total = row_sum(block.weight * miss * miss), row_sum(block.weight * error2)
    spread *= _error_scale(seen, total, block.n, data, spread, inverse)[:, None, None]
    for i in range(5):
        spread[:, i, i] += (noise / PRIOR_SD[i]) ** 2 * noise**2
    sandwich = _product(_product(inverse, spread), inverse)
    covariance = np.where(
        np.asarray(given.any(axis=1))[:, None, None],
        sandwich,
        inverse * (noise**2)[:, None, None],
    )
    covariance[:, 1, :] *= block.scale[:, None]
    covariance[:, :, 1] *= block.scale[:, None]
    state.covariance[rows] = covariance


def _error_scale(
    seen: FloatArray,
    total: FloatArray,
    n: FloatArray,
    data: FloatArray,
    spread: FloatArray,
    inverse: FloatArray,
) -> FloatArray:
    """Square of the factor on the quotes' own errors at which the residuals are as expected.

    A mid is mostly nearer to the fair price than its spread allows, and how much nearer only the
    scatter about the curve can say.  Slices of few quotes lean to 1.  No scatter at all comes of
    prices that were smoothed, and is no proof of exact ones.

    With weights W and the Jacobian J, `data` is J' W J and `spread` J' W E W J, E the squares of
    the errors: the residuals r = (1 - J inverse J' W) e have E[r' W r] = tr(W E)
    - 2 tr(inverse spread) + tr(inverse data inverse spread).  `seen` is r' W r, `total` tr(W E).
    """
    moved = _product(inverse, spread)
    expected = total - 2.0 * _trace(moved) + _trace(_product(_product(inverse, data), moved))
    belief = np.maximum(NOISE_FREE_STRIKES - n, 0.0) * total / n
    scale = (seen + belief) / (np.maximum(expected, 0.0) + belief)
    return np.asarray(np.maximum(scale, _LEAST_ERROR**2), dtype=np.float64)


def _weighted_products(weight: FloatArray, jacobian: list[FloatArray]) -> FloatArray:
    """J' W J of each slice, (n, 5, 5)."""
    rows = [[row_sum(weight * left * right) for right in jacobian] for left in jacobian]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _trace(matrix: FloatArray) -> FloatArray:
    total = matrix[:, 0, 0]
    for i in range(1, 5):
        total = total + matrix[:, i, i]
    return np.asarray(total, dtype=np.float64)


def _product(left: FloatArray, right: FloatArray) -> FloatArray:
    """Products of (n, 5, 5) matrices, summed in a fixed order."""
    out = left[:, :, 0, None] * right[:, None, 0, :]
    for i in range(1, 5):
        out += left[:, :, i, None] * right[:, None, i, :]
    return np.asarray(out, dtype=np.float64)


def _invert(matrix: FloatArray) -> FloatArray:
    """Inverses of (n, 5, 5) matrices; NaN where one is singular or not finite."""
    good = np.asarray(np.isfinite(matrix).all(axis=(1, 2)))
    identity = np.eye(5)
    safe = np.where(good[:, None, None], matrix, identity)
    # A unit diagonal keeps coordinates of different size apart.
    size = np.sqrt(np.einsum("nii->ni", safe))
    unit = safe / (size[:, :, None] * size[:, None, :]) + 1e-14 * identity
    inverse = np.linalg.inv(unit) / (size[:, :, None] * size[:, None, :])
    return np.where(good[:, None, None], inverse, np.nan)


def _remove_calendar_arbitrage(
    work: Quotes, state: _State, groups: IntArray, t: FloatArray
) -> None:
    """Fit again, from near to far, each slice that goes below its group's nearer one."""
    rows = np.flatnonzero(np.isfinite(state.raw).all(axis=0) & ~state.failed)
    rows = rows[np.lexsort((rows, t[rows], groups[rows]))]
    first = np.ones(rows.size, dtype=np.bool_)
    first[1:] = np.diff(groups[rows]) != 0
    position = np.arange(rows.size)
    rank = position - np.maximum.accumulate(np.where(first, position, 0))
    nearer = np.full(t.size, -1)
    nearer[rows[1:]] = rows[:-1]
    for r in range(1, int(rank.max(initial=0)) + 1):
        far = rows[rank == r]
        # A slice that failed binds nobody; the one before it does.
        skip = state.failed[nearer[far]]
        nearer[far[skip]] = nearer[nearer[far[skip]]]
        far = far[nearer[far] >= 0]
        gap, _ = calendar_gap_at(state.raw[:, nearer[far]], state.raw[:, far])
        for part, width in work.blocks_of(far[~(gap >= CALENDAR_MARGIN)]):
            block = work.padded(part, width)
            state.raw[:, part], state.min_g[part], admissible = _constrained_fit(
                to_theta(state.raw[:, part], block.scale),
                block,
                state.noise[part],
                state.raw[:, nearer[part]],
            )
            state.repaired[part] = True
            state.failed[part] = ~admissible
