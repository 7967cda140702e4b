"""scipy as most research code uses it: `brentq` a strike, `least_squares` a slice."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, least_squares

from benchmarks.math.compare import implied_vols, slices
from benchmarks.math.inputs import Chains, Options
from benchmarks.math.lines import Line
from benchmarks.math.ours import Vols
from benchmarks.math.sizes import Sizes

FloatArray = NDArray[np.float64]

PACKAGES = ("scipy",)


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def solve(options: Options) -> FloatArray:
    """The vol of every option; NaN where there is no change of sign."""

    def vol(price: float, forward: float, strike: float, t_years: float, is_call: bool) -> float:
        discount, root = math.exp(-options.rate * t_years), math.sqrt(t_years)
        log_ratio, sign = math.log(forward / strike), 1.0 if is_call else -1.0

        def miss(sigma: float) -> float:
            d1 = log_ratio / (sigma * root) + 0.5 * sigma * root
            d2 = d1 - sigma * root
            value = sign * (forward * _cdf(sign * d1) - strike * _cdf(sign * d2))
            return discount * value - price

        try:
            return float(brentq(miss, 1e-6, 5.0, xtol=1e-14))
        except ValueError:
            return math.nan

    columns = (options.price, options.forward, options.strike, options.t_years, options.is_call)
    return np.array([vol(*row) for row in zip(*(c.tolist() for c in columns), strict=True)])


def fit(chains: Chains, quotes: Vols) -> FloatArray:
    """Parameters (5, n) by weighted least squares of vol, from the usual first guess."""
    out = np.empty((5, chains.size))
    for i in range(chains.size):
        part = slice(chains.offsets[i], chains.offsets[i + 1])
        out[:, i] = _fit_one(
            quotes.log_moneyness[part],
            quotes.mid[part],
            float(chains.t_years[i]),
            quotes.weight[part],
        )
    return out


def _fit_one(k: FloatArray, vol: FloatArray, t_years: float, weight: FloatArray) -> FloatArray:
    root_weight = np.sqrt(weight / weight.mean())
    variance = vol * vol * t_years

    def parts(x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        a, b, rho, m, sigma = x
        y = k - m
        r = np.sqrt(y * y + sigma * sigma)
        return y, r, np.maximum(a + b * (rho * y + r), 1e-12)

    def miss(x: FloatArray) -> FloatArray:
        w = parts(x)[2]
        return np.asarray(root_weight * (np.sqrt(w / t_years) - vol))

    def slope(x: FloatArray) -> FloatArray:
        _, b, rho, _, sigma = x
        y, r, w = parts(x)
        by_variance = 0.5 * root_weight / np.sqrt(w * t_years)
        columns = (np.ones_like(y), rho * y + r, b * y, -b * (rho + y / r), b * sigma / r)
        return np.asarray(by_variance[:, None] * np.stack(columns, axis=1))

    bounds = ([0.0, 0.0, -0.999, -2.0, 1e-4], [variance.max(), 2.0, 0.999, 2.0, 3.0])
    guess = (0.5 * variance.min(), 0.1, -0.3, k[variance.argmin()], 0.1)
    found = least_squares(miss, guess, jac=slope, bounds=bounds, x_scale="jac")
    return np.asarray(found.x)


def measure(sizes: Sizes) -> list[Line]:
    return [
        *implied_vols(
            "scipy brentq",
            solve,
            sizes,
            row_by_row=True,
            note="brentq a row on a scalar Black-76",
        ),
        *slices(
            "scipy least_squares",
            fit,
            sizes,
            sizes.slow_slices,
            need=150.0,
            note="least_squares a slice with its Jacobian and the weights that mathlib gets",
        ),
    ]
