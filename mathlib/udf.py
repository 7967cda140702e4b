"""Bind mathlib to a DuckDB connection: Arrow batches in and out, one NumPy pass a batch.

Every function keeps three promises: a NULL argument gives a NULL result for its row alone,
no value, however odd, raises inside a batch, and every number in a result is finite or NULL.
Functions on slices and chains take LISTs, so that one call works on thousands of slices; a row
whose LISTs do not fit together gives NULL.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mathlib import american, black76, density, flows, moments, surface, svi

__all__ = ["FUNCTIONS", "register"]

Array = NDArray[Any]
_SVI = dict.fromkeys(("a", "b", "rho", "m", "sigma"), "DOUBLE")
_MONEY = ("atm_iv", "skew", "curvature", "atm_iv_se", "skew_se", "curvature_se")


class Function:
    """A SQL function: its arguments and result in SQL types, and the kernel on arrays."""

    def __init__(
        self, kernel: Callable[..., Any], arguments: Mapping[str, str], result: str
    ) -> None:
        self.kernel = kernel
        self.arguments = arguments
        self.result = result
        self.help = (kernel.__doc__ or "").strip().splitlines()[0]
        # DuckDB counts the parameters of what it is given.
        kind = inspect.Parameter.POSITIONAL_ONLY
        self.__signature__ = inspect.Signature([inspect.Parameter(x, kind) for x in arguments])

    def __call__(self, *columns: pa.ChunkedArray) -> pa.Array:
        arrays = [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns]
        missing = np.zeros(len(arrays[0]), dtype=bool)
        for array in arrays:
            if array.null_count:
                missing |= array.is_null().to_numpy(zero_copy_only=False)
        with np.errstate(all="ignore"):
            return self.kernel(*arrays, missing=missing)


def register(connection: Any) -> None:
    """Register every function of ``FUNCTIONS`` on a DuckDB connection.

    Register on the connection that owns the database and keep it: a function that was
    registered on a cursor is gone with it.  Registering twice on one connection raises.
    """
    for name, function in FUNCTIONS.items():
        connection.create_function(
            name,
            function,
            [connection.sqltype(sql_type) for sql_type in function.arguments.values()],
            connection.sqltype(function.result),
            type="arrow",
            null_handling="special",
        )


def _numbers(array: pa.Array) -> NDArray[np.float64]:
    values = pc.cast(array, pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)


def _booleans(array: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), dtype=bool)


def _lists(array: pa.ListArray) -> tuple[NDArray[np.int64], pa.Array]:
    """Offsets that begin at 0, and the flat values; a NULL list is an empty one."""
    array = array if array.null_count == 0 else pc.fill_null(array, [])
    offsets = np.asarray(array.offsets.to_numpy(), dtype=np.int64)
    return offsets - offsets[0], array.values.slice(offsets[0], offsets[-1] - offsets[0])


def _lengths(array: pa.ListArray) -> NDArray[np.int64]:
    """The length of each list, -1 for a NULL one."""
    return np.asarray(pc.fill_null(pc.list_value_length(array), -1), dtype=np.int64)


def _only(rows: NDArray[np.bool_], *arrays: pa.Array) -> list[pa.Array]:
    return [array.filter(pa.array(rows)) for array in arrays]


def _column(values: Array, missing: Array | None) -> pa.Array:
    """An Arrow column in which missing rows, NaN and infinities are NULL."""
    null = np.zeros(len(values), dtype=bool) if missing is None else missing
    if values.dtype.kind == "f":
        null = null | ~np.isfinite(values)
    return pa.array(values, mask=null)


def _struct(fields: Mapping[str, Array], missing: Array | None) -> pa.StructArray:
    columns = [_column(np.asarray(values), missing) for values in fields.values()]
    mask = None if missing is None else pa.array(missing)
    return pa.StructArray.from_arrays(columns, names=list(fields), mask=mask)


def _implied_vol(
    price: pa.Array,
    forward: pa.Array,
    strike: pa.Array,
    t_years: pa.Array,
    rate: pa.Array,
    is_call: pa.Array,
    is_american: pa.Array,
    *,
    missing: Array,
) -> pa.Array:
    """The volatility at which Black-76, with early exercise where is_american, gives the price."""
    p, f, k, t, r = map(_numbers, (price, forward, strike, t_years, rate))
    call, early = _booleans(is_call), _booleans(is_american)
    if not early.any():  # most batches are of one exercise: nothing to sort
        vol, status = black76.implied_vol(p, f, k, t, r, call)
    elif early.all():
        vol, status = american.european_equivalent_vol(p, f, k, t, r, call)
    else:
        vol, status = np.empty(len(p)), np.empty(len(p), dtype=np.int8)
        for rows, solve in (
            (~early, black76.implied_vol),
            (early, american.european_equivalent_vol),
        ):
            vol[rows], status[rows] = solve(p[rows], f[rows], k[rows], t[rows], r[rows], call[rows])
    return _struct({"vol": vol, "status": status}, missing)


def _greeks(
    forward: pa.Array,
    strike: pa.Array,
    t_years: pa.Array,
    vol: pa.Array,
    rate: pa.Array,
    is_call: pa.Array,
    *,
    missing: Array,
) -> pa.Array:
    """Black-76 delta, gamma, vega (per 1.00 vol), theta (per year), vanna, charm (per year)."""
    f, k, t, v, r = map(_numbers, (forward, strike, t_years, vol, rate))
    result = black76.price_and_greeks(f, k, t, v, r, _booleans(is_call))
    names = ("delta", "gamma", "vega", "theta", "vanna", "charm")
    return _struct({name: result[name] for name in names}, missing)


def _svi_surface(
    sizes: pa.Array,
    log_moneyness: pa.Array,
    vol: pa.Array,
    vol_error: pa.Array,
    t_years: pa.Array,
    underlying: pa.Array,
    *,
    missing: Array,
) -> pa.Array:
    """Arbitrage-free SVI slices of a surface; slices of one underlying do not cross."""
    whole = ~missing & _fits(sizes, (log_moneyness, vol, vol_error), (t_years, underlying))
    sizes, log_moneyness, vol, vol_error, t_years, underlying = _only(
        whole, sizes, log_moneyness, vol, vol_error, t_years, underlying
    )
    slice_offsets, flat_sizes = _lists(sizes)
    k, v, error = (_numbers(_lists(x)[1]) for x in (log_moneyness, vol, vol_error))
    offsets = np.concatenate([[0], np.cumsum(_numbers(flat_sizes).astype(np.int64))])
    row = np.repeat(np.arange(len(slice_offsets) - 1), np.diff(slice_offsets))
    local = _numbers(_lists(underlying)[1]).astype(np.int64)
    group = np.unique(np.stack([row, local], axis=1), axis=0, return_inverse=True)[1].ravel()
    t = _numbers(_lists(t_years)[1])
    fit = svi.calibrate(offsets, k, v, t, svi.error_weight(error, v), group=group, vol_error=error)
    fields = {name: getattr(fit, name) for name in (*_SVI, "rmse_vol")}
    fields["share_inside"] = _share_inside(fit, offsets, k, v, error, t)
    fields["calendar_free"] = _calendar_free(fit, group, t)
    columns = {name: _column(values, None) for name, values in fields.items()}
    columns["covariance"] = _matrices(fit.covariance, fit.status != 0)
    columns["status"] = pa.array(fit.status)
    slices = pa.StructArray.from_arrays(list(columns.values()), names=list(columns))
    counts = np.zeros(len(missing), dtype=np.int32)
    counts[whole] = np.diff(slice_offsets)
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), slices, mask=pa.array(~whole))


def _fits(
    sizes: pa.ListArray, by_quote: Sequence[pa.ListArray], by_slice: Sequence[pa.ListArray]
) -> NDArray[np.bool_]:
    """Rows in which every slice has a size and an underlying, and every list its length."""
    n_slices = _lengths(sizes)
    n_quotes: Array = np.zeros(len(n_slices))
    whole = np.ones(len(n_slices), dtype=bool)
    for lists, least in ((sizes, 0), (by_slice[-1], -np.inf)):
        offsets, flat = _lists(lists)
        row = np.repeat(np.arange(len(n_slices)), np.diff(offsets))
        values = _numbers(flat)
        whole[row[~(values >= least)]] = False  # NULL, too
        if lists is sizes:
            n_quotes = np.bincount(row, weights=values, minlength=len(n_slices))
    for lists in by_quote:
        whole &= _lengths(lists) == n_quotes
    for lists in by_slice:
        whole &= _lengths(lists) == n_slices
    return whole


def _share_inside(
    fit: svi.SviFit, offsets: Array, k: Array, vol: Array, error: Array, t: Array
) -> Array:
    """Share of each slice's quotes whose prices, give or take half a spread, hold the curve's.

    A fair price that may be anywhere in the spread has an error of spread / sqrt(12).
    """
    row = np.repeat(np.arange(len(t)), np.diff(offsets))
    raw = [getattr(fit, name)[row] for name in _SVI]
    option = (1.0, np.exp(k), t[row])
    model = black76.price(*option, np.sqrt(svi.total_variance(k, *raw) / t[row]))
    half = np.sqrt(3.0) * error * black76.vega(*option, vol)
    miss = np.abs(model - black76.price(*option, vol))
    quoted = np.isfinite(miss) & np.isfinite(half)
    # A mid on the edge of its spread is inside, however its last digit was rounded.
    inside = quoted & (miss <= half * (1.0 + 1e-9) + 1e-12)
    counts = np.bincount(row, weights=quoted, minlength=len(t))
    return np.asarray(np.bincount(row, weights=inside, minlength=len(t)) / counts)


def _matrices(values: Array, missing: Array) -> pa.ListArray:
    """5 x 5 matrices as LISTs, row by row; NULL for missing ones."""
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * 25)
    return pa.ListArray.from_arrays(offsets, _column(values.ravel(), None), mask=pa.array(missing))


def _covariances(array: pa.ListArray, missing: Array) -> tuple[Array, Array]:
    """LISTs as (n, 5, 5), and which rows are missing: NULL or not of 25 numbers."""
    missing = missing | (_lengths(array) != 25)
    matrices = np.full((len(missing), 5, 5), np.nan)
    (whole,) = _only(~missing, array)
    matrices[~missing] = _numbers(_lists(whole)[1]).reshape(-1, 5, 5)
    return matrices, missing


def _svi_at_the_money(t_years: pa.Array, *rest: pa.Array, missing: Array) -> pa.Array:
    """Vol at the forward, its slope and curvature in log-moneyness, with standard errors."""
    *params, covariance = rest
    a, b, rho, m, sigma = map(_numbers, params)
    matrices, missing = _covariances(covariance, missing)
    result = surface.at_the_money(a, b, rho, m, sigma, _numbers(t_years), matrices)
    return _struct({name: result[name] for name in _MONEY}, missing)


def _calendar_free(fit: svi.SviFit, group: Array, t: Array) -> Array:
    """Whether each fitted slice lies nowhere below the fitted one before it in its group."""
    fitted = np.flatnonzero(fit.status == 0)
    order = fitted[np.lexsort((t[fitted], group[fitted]))]
    same = group[order[1:]] == group[order[:-1]]
    near, far = order[:-1][same], order[1:][same]
    free = np.ones(len(t), dtype=bool)
    raw = np.stack([getattr(fit, name) for name in _SVI])
    free[far] = svi.calendar_free(tuple(raw[:, near]), tuple(raw[:, far]))
    return free


def _svi_total_variance(k: pa.Array, *params: pa.Array, missing: Array) -> pa.Array:
    """Total variance of an SVI slice at log-moneyness k."""
    return _column(svi.total_variance(_numbers(k), *map(_numbers, params)), missing)


def _svi_butterfly_free(*params: pa.Array, missing: Array) -> pa.Array:
    """Whether an SVI slice is free of butterfly arbitrage, wings included."""
    return _column(svi.butterfly_free(*map(_numbers, params)), missing)


def _svi_density(*params: pa.Array, missing: Array) -> pa.Array:
    """Risk-neutral density and CDF of an SVI slice on 101 strikes that cover its mass."""
    forward, a, b, rho, m, sigma = map(_numbers, params)
    strike, pdf, cdf = density.grid(forward, a, b, rho, m, sigma)
    points = strike.shape[1]
    offsets = pa.array(np.arange(0, strike.size + 1, points, dtype=np.int32))
    lists = [
        pa.ListArray.from_arrays(offsets, _column(values.ravel(), None))
        for values in (strike, pdf, cdf)
    ]
    return pa.StructArray.from_arrays(
        lists, names=["strike", "density", "cdf"], mask=pa.array(missing)
    )


_MOMENTS = (
    *("mass", "mean", "variance", "skew", "kurtosis"),
    *("log_mean", "log_variance", "log_skew", "log_kurtosis"),
    *("q01", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99"),
    *("p_down_10", "p_up_10", "variance_swap"),
)
_ERRORS = tuple(f"{name}_se" for name in _MOMENTS if name not in ("mass", "mean"))


def _svi_moments(*params: pa.Array, missing: Array) -> pa.Array:
    """Moments, quantiles and tail probabilities of an SVI slice's density."""
    result = moments.from_svi(*map(_numbers, params))
    return _struct({name: result[name] for name in (*_MOMENTS, "status")}, missing)


def _svi_moments_with_errors(*arguments: pa.Array, missing: Array) -> pa.Array:
    """What svi_moments gives, with the standard errors that a slice's covariance makes."""
    *params, covariance = arguments
    forward, a, b, rho, m, sigma = map(_numbers, params)
    matrices, missing = _covariances(covariance, missing)
    result = moments.with_errors(forward, a, b, rho, m, sigma, matrices)
    return _struct({name: result[name] for name in (*_MOMENTS, *_ERRORS, "status")}, missing)


def _svi_delta_strike(
    delta: pa.Array, forward: pa.Array, t_years: pa.Array, *rest: pa.Array, missing: Array
) -> pa.Array:
    """Log-moneyness and vol at an undiscounted forward delta of an SVI slice."""
    *params, is_call = rest
    d, f, t, a, b, rho, m, sigma = map(_numbers, (delta, forward, t_years, *params))
    k, vol = surface.delta_strike(d, f, t, a, b, rho, m, sigma, is_call=_booleans(is_call))
    return _struct({"log_moneyness": k, "vol": vol}, missing)


def _svi_constant_maturity(
    delta: pa.Array, is_call: pa.Array, *rest: pa.Array, missing: Array
) -> pa.Array:
    """Log-moneyness and vol at a delta and a constant maturity between two SVI slices."""
    k, vol = surface.constant_maturity_delta(
        _numbers(delta), _booleans(is_call), *map(_numbers, rest)
    )
    return _struct({"log_moneyness": k, "vol": vol}, missing)


def _zero_gamma(
    forward: pa.Array,
    strike: pa.Array,
    t_years: pa.Array,
    vol: pa.Array,
    rate: pa.Array,
    is_call: pa.Array,
    signed_quantity: pa.Array,
    *,
    missing: Array,
) -> pa.Array:
    """The factor on every forward at which a chain's net gamma is zero, nearest to 1."""
    columns = (forward, strike, t_years, vol, rate, is_call, signed_quantity)
    whole = ~missing
    for lists in columns:
        whole &= _lengths(lists) == _lengths(forward)
    chains = _only(whole, *columns)
    offsets = _lists(chains[0])[0]
    f, k, t, v, r, call, quantity = (_lists(lists)[1] for lists in chains)
    known = pc.if_else(pc.is_null(call), None, quantity)  # neither call nor put: left out
    scale = np.full(len(missing), np.nan)
    status = np.zeros(len(missing), dtype=np.int8)
    option = (_numbers(f), _numbers(k), _numbers(t), _numbers(v), _numbers(r), _booleans(call))
    scale[whole], status[whole] = flows.zero_gamma(offsets, *option, _numbers(known))
    return _struct({"scale": scale, "status": status}, ~whole)


def _arguments(names: Sequence[str], **others: str) -> dict[str, str]:
    return {**dict.fromkeys(names, "DOUBLE"), **others}


def _fields(names: Sequence[str], **others: str) -> str:
    types = {**dict.fromkeys(names, "DOUBLE"), **others}
    return f"STRUCT({', '.join(f'{name} {sql_type}' for name, sql_type in types.items())})"


_OPTION = ("forward", "strike", "t_years")
_LO = tuple(f"{name}_lo" for name in ("t", *_SVI))
_HI = tuple(f"{name}_hi" for name in ("t", *_SVI))

#: Every function by its SQL name.
FUNCTIONS: Mapping[str, Function] = {
    "implied_vol": Function(
        _implied_vol,
        _arguments(("price", *_OPTION, "rate"), is_call="BOOLEAN", is_american="BOOLEAN"),
        _fields(("vol",), status="TINYINT"),
    ),
    "greeks": Function(
        _greeks,
        _arguments((*_OPTION, "vol", "rate"), is_call="BOOLEAN"),
        _fields(("delta", "gamma", "vega", "theta", "vanna", "charm")),
    ),
    "svi_surface": Function(
        _svi_surface,
        {
            "sizes": "INTEGER[]",
            "log_moneyness": "DOUBLE[]",
            "vol": "DOUBLE[]",
            "vol_error": "DOUBLE[]",
            "t_years": "DOUBLE[]",
            "underlying": "INTEGER[]",
        },
        _fields(
            (*_SVI, "rmse_vol", "share_inside"),
            calendar_free="BOOLEAN",
            covariance="DOUBLE[]",
            status="TINYINT",
        )
        + "[]",
    ),
    "svi_at_the_money": Function(
        _svi_at_the_money,
        _arguments(("t_years", *_SVI), covariance="DOUBLE[]"),
        _fields(_MONEY),
    ),
    "svi_total_variance": Function(
        _svi_total_variance, _arguments(("log_moneyness", *_SVI)), "DOUBLE"
    ),
    "svi_butterfly_free": Function(_svi_butterfly_free, _arguments(tuple(_SVI)), "BOOLEAN"),
    "svi_density": Function(
        _svi_density,
        _arguments(("forward", *_SVI)),
        "STRUCT(strike DOUBLE[], density DOUBLE[], cdf DOUBLE[])",
    ),
    "svi_moments": Function(
        _svi_moments, _arguments(("forward", *_SVI)), _fields(_MOMENTS, status="TINYINT")
    ),
    "svi_moments_with_errors": Function(
        _svi_moments_with_errors,
        _arguments(("forward", *_SVI), covariance="DOUBLE[]"),
        _fields((*_MOMENTS, *_ERRORS), status="TINYINT"),
    ),
    "svi_delta_strike": Function(
        _svi_delta_strike,
        _arguments(("delta", "forward", "t_years", *_SVI), is_call="BOOLEAN"),
        _fields(("log_moneyness", "vol")),
    ),
    "svi_constant_maturity": Function(
        _svi_constant_maturity,
        {"delta": "DOUBLE", "is_call": "BOOLEAN", **_arguments(("t_years", *_LO, *_HI))},
        _fields(("log_moneyness", "vol")),
    ),
    "zero_gamma": Function(
        _zero_gamma,
        {
            **dict.fromkeys(("forward", "strike", "t_years", "vol", "rate"), "DOUBLE[]"),
            "is_call": "BOOLEAN[]",
            "signed_quantity": "DOUBLE[]",
        },
        _fields(("scale",), status="TINYINT"),
    ),
}
