"""py_vollib_vectorized: Jaeckel's "Let's be rational" compiled by numba."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from py_vollib_vectorized import vectorized_implied_volatility_black

from benchmarks.math.compare import implied_vols
from benchmarks.math.inputs import Options
from benchmarks.math.lines import Line
from benchmarks.math.sizes import Sizes

PACKAGES = ("py_vollib_vectorized", "py_vollib", "py_lets_be_rational", "numba")


def solve(options: Options) -> NDArray[np.float64]:
    """The vol of every option."""
    # It takes flags one by one, which is quicker from a list than from an array.
    flags = np.where(options.is_call, "c", "p").tolist()
    vol = vectorized_implied_volatility_black(
        options.price,
        options.forward,
        options.strike,
        options.rate,
        options.t_years,
        flags,
        on_error="ignore",
        return_as="numpy",
    )
    return np.asarray(vol, dtype=np.float64)


def measure(sizes: Sizes) -> list[Line]:
    note = "vectorized_implied_volatility_black, compiled before the first timed turn"
    return implied_vols("py_vollib_vectorized", solve, sizes, need=2.5, note=note)
