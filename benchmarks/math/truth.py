"""What the right answer is, computed apart from mathlib.

Implied vols come from mpmath at 50 digits.  Smiles have known truths of two kinds, so that no
fitter is right by assumption: raw SVI slices, and mixtures of two lognormal distributions, whose
prices, density and moments are sums of Black's.
"""

from __future__ import annotations

from dataclasses import dataclass

import mpmath
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_SQRT_TWO_PI = float(np.sqrt(2.0 * np.pi))


# --- implied vol --------------------------------------------------------------------------------


def exact_implied_vol(
    price: FloatArray,
    forward: FloatArray,
    strike: FloatArray,
    t_years: FloatArray,
    rate: float,
    is_call: BoolArray,
    near: FloatArray,
) -> FloatArray:
    """Black-76 vols of exactly these floats, by Newton's method at 50 digits from `near`."""
    with mpmath.workdps(50):
        rows = zip(price, forward, strike, t_years, is_call, near, strict=True)
        return np.array([_exact_vol(rate, *map(float, row)) for row in rows])


def _exact_vol(
    rate: float,
    price: float,
    forward: float,
    strike: float,
    t_years: float,
    is_call: float,
    near: float,
) -> float:
    p, f, k, t = (mpmath.mpf(x) for x in (price, forward, strike, t_years))
    sign = 1 if is_call else -1
    target, root, log_ratio = p * mpmath.exp(rate * t), mpmath.sqrt(t), mpmath.log(f / k)
    vol = mpmath.mpf(near)
    for _ in range(40):
        d1 = log_ratio / (vol * root) + vol * root / 2
        miss = (
            sign * (f * mpmath.ncdf(sign * d1) - k * mpmath.ncdf(sign * (d1 - vol * root))) - target
        )
        step = miss / (f * mpmath.npdf(d1) * root)
        vol -= step
        if abs(step) < mpmath.mpf(10) ** -30 * vol:
            return float(vol)
    raise ArithmeticError(f"no vol found for a price of {price} at strike {strike}")


# --- smiles -------------------------------------------------------------------------------------


def undiscounted_price(
    forward: FloatArray, strike: FloatArray, stdev: FloatArray, is_call: BoolArray
) -> FloatArray:
    """Black's formula as the books write it; everything broadcasts."""
    d1 = np.log(forward / strike) / stdev + 0.5 * stdev
    sign = np.where(is_call, 1.0, -1.0)
    return np.asarray(sign * (forward * ndtr(sign * d1) - strike * ndtr(sign * (d1 - stdev))))


def svi_variance(k: FloatArray, raw: FloatArray) -> FloatArray:
    """Total variance of slices ``raw``, shape (5, ...): a, b, rho, m, sigma."""
    a, b, rho, m, sigma = raw
    return np.asarray(a + b * (rho * (k - m) + np.hypot(k - m, sigma)))


def svi_g(k: FloatArray, raw: FloatArray) -> FloatArray:
    """Durrleman's function of slices: Gatheral and Jacquier (2014), eq. 2.1."""
    _, b, rho, m, sigma = raw
    w, root = svi_variance(k, raw), np.hypot(k - m, sigma)
    slope, bend = b * (rho + (k - m) / root), b * sigma**2 / root**3
    return np.asarray(
        (1.0 - 0.5 * k * slope / w) ** 2 - 0.25 * slope**2 * (1.0 / w + 0.25) + 0.5 * bend
    )


def has_butterfly(raw: FloatArray) -> BoolArray:
    """Whether slices (5, n) have a negative density somewhere, or variance: on a dense grid.

    g below -1e-10 counts, so that a slice on the edge is not judged by rounding.
    """
    _, _, _, m, sigma = raw
    reach = np.sinh(np.linspace(-9.0, 9.0, 1201))
    scale = np.sqrt(np.maximum(svi_variance(np.zeros_like(m), raw), 1e-12))
    grids = (m[:, None] + sigma[:, None] * reach, scale[:, None] * np.linspace(-8.0, 8.0, 1601))
    columns = raw[:, :, None]
    with np.errstate(all="ignore"):
        bad = np.zeros(m.size, dtype=np.bool_)
        for k in grids:
            bad |= ~(svi_g(k, columns) >= -1e-10).all(axis=1)
            bad |= ~(svi_variance(k, columns) >= 0.0).all(axis=1)
    return bad


def breaks_lee(raw: FloatArray) -> BoolArray:
    """Whether a wing is steeper than Lee's bound of 2 in total variance."""
    return np.asarray(raw[1] * (1.0 + np.abs(raw[2])) > 2.0)


@dataclass(frozen=True)
class Smiles:
    """Known distributions of S/F, all of mean 1; arrays have one entry a smile.

    Attributes
    ----------
    t_years : ndarray, shape (n,)
    is_svi : ndarray of bool, shape (n,)
        True: the slice ``raw``; False: the mixture.
    raw : ndarray, shape (5, n)
        SVI parameters.
    share, level, stdev : ndarray, shape (2, n)
        Weight, mean and total standard deviation of the two lognormals.
    deviation : ndarray, shape (n,)
        Size of the smile in log-moneyness: about its at-the-money total deviation.
    """

    t_years: FloatArray
    is_svi: BoolArray
    raw: FloatArray
    share: FloatArray
    level: FloatArray
    stdev: FloatArray
    deviation: FloatArray

    @staticmethod
    def draw(n: int, seed: int) -> Smiles:
        """Random smiles of an agricultural kind: 18 days to a year, 15 to 50 % vol, skewed."""
        rng = np.random.default_rng(seed)
        days = np.round(np.exp(rng.uniform(np.log(18.0), np.log(365.0), n)))
        t = np.asarray(days / 365.0, dtype=np.float64)
        scale = rng.uniform(0.15, 0.5, n) * np.sqrt(t)
        raw = _slices(rng, scale)
        heavy = rng.uniform(0.15, 0.5, n)
        shift = rng.uniform(-0.8, 0.8, n) * scale
        # The two means keep the mixture's at 1.
        level = np.stack([np.exp(shift), np.zeros(n)])
        level[1] = (1.0 - heavy * level[0]) / (1.0 - heavy)
        stdev = np.stack([scale * rng.uniform(1.1, 1.5, n), scale * rng.uniform(0.7, 1.0, n)])
        is_svi = np.arange(n) % 2 == 0
        return Smiles(t, is_svi, raw, np.stack([heavy, 1.0 - heavy]), level, stdev, scale)

    def take(self, rows: NDArray[np.intp] | slice) -> Smiles:
        return Smiles(
            self.t_years[rows],
            self.is_svi[rows],
            self.raw[:, rows],
            self.share[:, rows],
            self.level[:, rows],
            self.stdev[:, rows],
            self.deviation[rows],
        )

    def out_of_the_money(self, k: FloatArray) -> FloatArray:
        """Undiscounted prices over the forward, calls where k >= 0: k (n, points)."""
        strike, is_call = np.exp(k), k >= 0.0
        ones = np.ones_like(k)
        svi = undiscounted_price(
            ones, strike, np.sqrt(svi_variance(k, self.raw[:, :, None])), is_call
        )
        mixed = sum(
            self.share[i][:, None]
            * undiscounted_price(
                self.level[i][:, None] * ones, strike, self.stdev[i][:, None] * ones, is_call
            )
            for i in range(2)
        )
        return np.where(self.is_svi[:, None], svi, mixed)

    def density(self, k: FloatArray) -> FloatArray:
        """Density of ln(S/F) at k (n, points)."""
        raw = self.raw[:, :, None]
        w = svi_variance(k, raw)
        svi = svi_g(k, raw) * _normal(-k / np.sqrt(w) - 0.5 * np.sqrt(w)) / np.sqrt(w)
        mixed = np.zeros_like(k)
        for share, level, stdev in zip(self.share, self.level, self.stdev, strict=True):
            s = stdev[:, None]
            centre = np.log(level)[:, None] - 0.5 * s * s
            mixed += share[:, None] * _normal((k - centre) / s) / s
        return np.where(self.is_svi[:, None], svi, mixed)

    def grid(self, points: int = 2001) -> tuple[FloatArray, FloatArray]:
        """Points of k that hold all but 1e-9 of the mass and their weights, both (n, points)."""
        v = np.linspace(-5.5, 5.5, points)
        size = 0.5 * self.deviation[:, None]
        return size * np.sinh(v), size * np.cosh(v) * (v[1] - v[0])

    def moments(self) -> dict[str, FloatArray]:
        """Standard deviation, skew and kurtosis of S/F, by sums over `grid`."""
        k, weight = self.grid(4001)
        mass = self.density(k) * weight
        centred = np.expm1(k)
        second, third, fourth = ((mass * centred**i).sum(axis=1) for i in (2, 3, 4))
        return {
            "stdev": np.sqrt(second),
            "skew": third / second**1.5,
            "kurtosis": fourth / second**2,
        }


def _normal(x: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-0.5 * x * x) / _SQRT_TWO_PI)


def _slices(rng: np.random.Generator, scale: FloatArray) -> FloatArray:
    """Slices (5, n) of at-the-money deviation ``scale``, drawn until none has a butterfly.

    The right wing is flat enough for a fourth moment: Lee (2004).
    """
    raw = np.full((5, scale.size), np.nan)
    open_rows = np.arange(scale.size)
    while open_rows.size:
        size, n = scale[open_rows], open_rows.size
        left = rng.uniform(0.15, 0.8, n) * size
        right = np.minimum(rng.uniform(0.15, 0.8, n) * size, 0.09)
        b, rho = 0.5 * (left + right), (right - left) / (right + left)
        m, sigma = rng.normal(0.0, 0.4, n) * size, np.exp(rng.normal(0.1, 0.4, n)) * size
        a = size**2 - b * (np.hypot(m, sigma) - rho * m)
        drawn = np.stack([a, b, rho, m, sigma])
        free = ~has_butterfly(drawn) & (a + b * sigma * np.sqrt(1.0 - rho**2) > 0.0)
        raw[:, open_rows[free]] = drawn[:, free]
        open_rows = open_rows[~free]
    return raw
