"""QuantLib from Python: one option or one slice a call."""

from __future__ import annotations

import numpy as np
import QuantLib as ql
from numpy.typing import NDArray

from benchmarks.math.compare import implied_vols, slices
from benchmarks.math.inputs import Chains, Options
from benchmarks.math.lines import Line
from benchmarks.math.ours import Vols
from benchmarks.math.sizes import Sizes

PACKAGES = ("QuantLib",)

_TODAY = ql.Date(2, 1, 2024)
_ACCURACY = 1e-14
_MAX_ITERATIONS = 100
#: QuantLib's own optimiser and tolerance; without a limit of its own a fit takes three times as
#: long and ends at the same place.
_STOP = ql.EndCriteria(1000, 100, 1e-8, 1e-8, 1e-8)


def solve(options: Options) -> NDArray[np.float64]:
    """The vol of every option; NaN where QuantLib gives up."""
    discounts = np.exp(-options.rate * options.t_years)
    roots = np.sqrt(options.t_years)
    out = np.full(options.size, np.nan)
    rows = zip(
        options.strike.tolist(),
        options.forward.tolist(),
        options.price.tolist(),
        discounts.tolist(),
        options.is_call.tolist(),
        strict=True,
    )
    for i, (strike, forward, price, discount, is_call) in enumerate(rows):
        try:
            out[i] = ql.blackFormulaImpliedStdDev(
                ql.Option.Call if is_call else ql.Option.Put,
                strike,
                forward,
                price,
                discount,
                0.0,
                ql.nullDouble(),
                _ACCURACY,
                _MAX_ITERATIONS,
            )
        except RuntimeError:
            continue
    return out / roots


def fit(chains: Chains, quotes: Vols) -> NDArray[np.float64]:
    """Parameters (5, n) of `SviInterpolatedSmileSection`, NaN where it gives up."""
    ql.Settings.instance().evaluationDate = _TODAY
    out = np.full((5, chains.size), np.nan)
    free = (False,) * 5
    for i in range(chains.size):
        part = slice(chains.offsets[i], chains.offsets[i + 1])
        k, vol = quotes.log_moneyness[part], quotes.mid[part]
        try:
            section = ql.SviInterpolatedSmileSection(
                _TODAY + round(chains.t_years[i] * 365),
                float(chains.forward[i]),
                chains.strike[part].tolist(),
                False,
                float(np.interp(0.0, k, vol)),
                vol.tolist(),
                *((ql.nullDouble(),) * 5),
                *free,
                True,
                _STOP,
                ql.LevenbergMarquardt(),
            )
            out[:, i] = section.a(), section.b(), section.rho(), section.m(), section.sigma()
        except RuntimeError:
            continue
    return out


def measure(sizes: Sizes) -> list[Line]:
    return [
        *implied_vols(
            "QuantLib",
            solve,
            sizes,
            row_by_row=True,
            note=f"blackFormulaImpliedStdDev a row, accuracy {_ACCURACY:g}",
        ),
        *slices(
            "QuantLib",
            fit,
            sizes,
            sizes.slow_slices,
            need=300.0,
            note="SviInterpolatedSmileSection a slice: vega-weighted, its guess, EndCriteria given",
        ),
    ]
