"""The formulas in a plain Python loop, as scripts have them: price, seven Greeks, flows."""

from __future__ import annotations

import math
from functools import partial

import mpmath
import numpy as np
from numpy.typing import NDArray

from benchmarks.math import inputs, ours
from benchmarks.math.compare import EXACT, worst
from benchmarks.math.inputs import Book
from benchmarks.math.lines import Error, Line
from benchmarks.math.measure import take_turns
from benchmarks.math.sizes import Sizes

FloatArray = NDArray[np.float64]

PACKAGES = ()

_VALUES = ("price", *ours.GREEKS)
_SQRT_TWO_PI = math.sqrt(2.0 * math.pi)


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def loop(book: Book) -> tuple[FloatArray, FloatArray]:
    """Price and Greeks (8, n) of every option, and flows by strike (3, strikes)."""
    o = book.options
    values = []
    flows = [[0.0] * book.n_strikes for _ in ours.FLOWS]
    columns = (o.forward, o.strike, o.t_years, o.vol, o.is_call, book.quantity, book.strike_number)
    for f, k, t, v, is_call, quantity, number in zip(*(c.tolist() for c in columns), strict=True):
        root = math.sqrt(t)
        d1 = math.log(f / k) / (v * root) + 0.5 * v * root
        d2 = d1 - v * root
        discount, sign = math.exp(-o.rate * t), 1.0 if is_call else -1.0
        density = discount * math.exp(-0.5 * d1 * d1) / _SQRT_TWO_PI
        price = discount * sign * (f * _cdf(sign * d1) - k * _cdf(sign * d2))
        delta = sign * discount * _cdf(sign * d1)
        gamma = density / (f * v * root)
        vanna = -density * d2 / v
        charm = o.rate * delta + density * d2 / (2.0 * t)
        values.append(
            (
                price,
                delta,
                gamma,
                f * density * root,
                o.rate * price - f * density * v / (2.0 * root),
                -t * price,
                vanna,
                charm,
            )
        )
        usd = sign * quantity * book.multiplier * f
        flows[0][number] += gamma * f * usd * 0.01
        flows[1][number] += vanna * usd * 0.01
        flows[2][number] += charm * usd / 365.0
    return np.array(values).T, np.array(flows)


def measure(sizes: Sizes) -> list[Line]:
    book = inputs.book(sizes.options)
    part = book.first(sizes.slow_options)
    pace, answers = take_turns(
        partial(ours.book_by_strike, book),
        book.options.size,
        lambda turn: loop(part),
        part.options.size,
        sizes.runs,
    )
    mine = ours.book_by_strike(part)
    values, flows = answers[0]
    known = min(200, part.options.size)
    exact = _exact(part, known)
    gross = np.abs(flows).sum(axis=1, keepdims=True)
    difference = np.stack([mine[name] for name in ours.FLOWS]) - flows
    errors = (
        Error(
            "worst relative error of price and Greeks",
            worst(np.stack([mine[name][:known] for name in _VALUES]), exact),
            worst(values[:, :known], exact),
            EXACT,
        ),
        Error(
            "flows by strike, largest difference over the gross",
            float(np.max(np.abs(difference) / gross)),
            None,
            EXACT,
        ),
    )
    return [
        Line(
            "price, seven Greeks, flows by strike",
            "scalar Python loop",
            "options",
            pace,
            errors,
            need=10.0,
            need_rate=3e6,
            note="math.erfc and math.exp a row",
        )
    ]


#: Each value as a derivative in forward, time, vol and rate, and the sign that the Greek has.
_DERIVATIVES = {
    "price": ((0, 0, 0, 0), 1),
    "delta": ((1, 0, 0, 0), 1),
    "gamma": ((2, 0, 0, 0), 1),
    "vega": ((0, 0, 1, 0), 1),
    "theta": ((0, 1, 0, 0), -1),
    "rho": ((0, 0, 0, 1), 1),
    "vanna": ((1, 0, 1, 0), 1),
    "charm": ((1, 1, 0, 0), -1),
}


def _exact(book: Book, n: int) -> FloatArray:
    """Price and Greeks (8, n) of the first options: mpmath's derivatives at 30 digits."""
    o = book.options.first(n)
    out = np.empty((len(_VALUES), n))
    with mpmath.workdps(30):
        for i in range(n):
            price = partial(_exact_price, mpmath.mpf(o.strike[i]), 1 if o.is_call[i] else -1)
            at = tuple(mpmath.mpf(x) for x in (o.forward[i], o.t_years[i], o.vol[i], o.rate))
            for j, name in enumerate(_VALUES):
                order, sign = _DERIVATIVES[name]
                value = mpmath.diff(price, at, order) if any(order) else price(*at)
                out[j, i] = float(sign * value)
    return out


def _exact_price(
    strike: mpmath.mpf,
    sign: int,
    forward: mpmath.mpf,
    t_years: mpmath.mpf,
    vol: mpmath.mpf,
    rate: mpmath.mpf,
) -> mpmath.mpf:
    stdev = vol * mpmath.sqrt(t_years)
    d1 = mpmath.log(forward / strike) / stdev + stdev / 2
    legs = forward * mpmath.ncdf(sign * d1) - strike * mpmath.ncdf(sign * (d1 - stdev))
    return mpmath.exp(-rate * t_years) * sign * legs
