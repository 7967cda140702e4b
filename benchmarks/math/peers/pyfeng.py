"""PyFENG: NumPy, Newton steps from the bound of Choi, Huh and Su."""

from __future__ import annotations

import numpy as np
import pyfeng
from numpy.typing import NDArray

from benchmarks.math.compare import implied_vols
from benchmarks.math.inputs import Options
from benchmarks.math.lines import Line
from benchmarks.math.sizes import Sizes

PACKAGES = ("pyfeng", "mathpf")

#: Rows a call: about what suits it best, since its temporaries then stay in cache.
_ROWS = 8192


def solve(options: Options) -> NDArray[np.float64]:
    """The vol of every option."""
    model = pyfeng.Bsm(0.2, intr=options.rate, is_fwd=True)
    side = np.where(options.is_call, 1, -1)
    vol = np.empty(options.size)
    for start in range(0, options.size, _ROWS):
        part = slice(start, start + _ROWS)
        vol[part] = model.impvol(
            options.price[part],
            options.strike[part],
            options.forward[part],
            options.t_years[part],
            side[part],
        )
    return vol


def measure(sizes: Sizes) -> list[Line]:
    note = f"Bsm.impvol in blocks of {_ROWS} rows, which suits it better than one call"
    return implied_vols("PyFENG", solve, sizes, need=1.5, note=note)
