"""Raw SVI slices: batch calibration without static arbitrage, checks, repair, SVI-JW.

A slice is one expiry's total implied variance as a function of log-moneyness
k = ln(K/F),

    w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)),          [1] eq. 3.1

and its Black vol is sqrt(w / t).  Every function works on whole arrays; `calibrate` takes
thousands of slices in a ragged layout.  A slice's numbers never depend on its neighbours in the
batch: each slice stops on its own criterion, and every sum runs over a width that follows from
its own number of quotes.

References
----------
.. [1] Gatheral, J. and Jacquier, A. (2014). Arbitrage-free SVI volatility surfaces.
   Quantitative Finance 14(1); arXiv:1204.0646.
"""

from __future__ import annotations

from mathlib._svi_errors import error_weight, quote_error, settlement_error
from mathlib._svi_fit import MIN_STRIKES, SviFit, SviStatus, calibrate, repair, share_inside
from mathlib._svi_slice import (
    butterfly_free,
    calendar_free,
    durrleman_g,
    from_coordinates,
    guaranteed_jw,
    jw_to_raw,
    min_durrleman_g,
    raw_to_jw,
    to_coordinates,
    total_variance,
    total_variance_derivatives,
)

__all__ = [
    "MIN_STRIKES",
    "SviFit",
    "SviStatus",
    "butterfly_free",
    "calendar_free",
    "calibrate",
    "durrleman_g",
    "error_weight",
    "from_coordinates",
    "guaranteed_jw",
    "jw_to_raw",
    "min_durrleman_g",
    "quote_error",
    "raw_to_jw",
    "repair",
    "settlement_error",
    "share_inside",
    "to_coordinates",
    "total_variance",
    "total_variance_derivatives",
]
