"""mathlib in SQL: the numbers of a direct call, NULL for NULL, and no row that costs a batch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mathlib import american, black76, density, flows, moments, surface, svi, udf

#: An admissible slice of 0.3 years, and its parameters as SQL.
SLICE = (0.012, 0.08, -0.3, 0.02, 0.2)
PARAMS = ", ".join(map(str, SLICE))
#: A covariance of its coordinates.
COVARIANCE = 1e-3 * (np.eye(5) + 0.2)

#: A call of every function that gives a value, by name.
CALLS = {
    "implied_vol": ["4.0", "100.0", "100.0", "0.25", "0.04", "true", "false"],
    "greeks": ["100.0", "105.0", "0.25", "0.3", "0.04", "true"],
    "svi_surface": [
        "[5]",
        "[-0.2, -0.1, 0.0, 0.1, 0.2]",
        "[0.33, 0.31, 0.30, 0.305, 0.32]",
        "[0.01, 0.01, 0.01, 0.01, 0.01]",
        "[0.3]",
        "[1]",
    ],
    "svi_total_variance": ["0.1", *map(str, SLICE)],
    "svi_butterfly_free": [*map(str, SLICE)],
    "svi_density": ["100.0", *map(str, SLICE)],
    "svi_moments": ["100.0", *map(str, SLICE)],
    "svi_at_the_money": ["0.3", *map(str, SLICE), str(COVARIANCE.ravel().tolist())],
    "svi_moments_with_errors": ["100.0", *map(str, SLICE), str(COVARIANCE.ravel().tolist())],
    "svi_delta_strike": ["0.25", "100.0", "0.3", *map(str, SLICE), "true"],
    "svi_constant_maturity": [
        *("0.25", "true", "0.3"),
        *("0.2", *map(str, SLICE)),
        *("0.4", "0.016", "0.09", "-0.3", "0.02", "0.2"),
    ],
    "zero_gamma": [
        "[100.0, 100.0]",
        "[95.0, 107.0]",
        "[0.25, 0.25]",
        "[0.3, 0.3]",
        "[0.04, 0.04]",
        "[false, true]",
        "[-10.0, 12.0]",
    ],
}
#: Every argument of every function, by place.
ARGUMENTS = [(name, place) for name, call in CALLS.items() for place in range(len(call))]

ODD = [math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 5e-324, 1e-310, 1e308, -1e308, 1e-12]


@pytest.fixture(scope="module")
def sql() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with every function."""
    connection = duckdb.connect()
    connection.execute("set threads = 1")
    udf.register(connection)
    yield connection
    connection.close()


def value(sql: duckdb.DuckDBPyConnection, expression: str) -> Any:
    return sql.execute(f"select {expression}").fetchall()[0][0]


def column(sql: duckdb.DuckDBPyConnection, expression: str, rows: pl.DataFrame) -> pl.Series:
    """The expression over the rows, in their order."""
    sql.register("given", rows.with_row_index("place").to_arrow())
    try:
        return sql.sql(f"select {expression} as x from given order by place").pl()["x"]
    finally:
        sql.unregister("given")


def options(n: int, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    forward = rng.uniform(50, 150, n)
    strike = forward * np.exp(rng.normal(0, 0.2, n))
    t, vol, rate = rng.uniform(0.02, 1.5, n), rng.uniform(0.1, 0.8, n), rng.uniform(0, 0.06, n)
    call = rng.random(n) < 0.5
    return pl.DataFrame(
        {
            "price": black76.price(forward, strike, t, vol, rate, call),
            "forward": forward,
            "strike": strike,
            "t": t,
            "vol": vol,
            "rate": rate,
            "is_call": call,
            "is_american": rng.random(n) < 0.5,
        }
    )


def slices(n: int, seed: int = 2) -> pl.DataFrame:
    """Slices free of butterfly arbitrage."""
    rng = np.random.default_rng(seed)
    level, width = rng.uniform(0.01, 0.1, 4 * n), rng.uniform(0.1, 0.4, 4 * n)
    made = {
        "a": level * 0.5,
        "b": level,
        "rho": rng.uniform(-0.6, 0.4, 4 * n),
        "m": rng.normal(0, 0.05, 4 * n),
        "sigma": width,
    }
    free = np.flatnonzero(svi.butterfly_free(**made))[:n]
    assert free.size == n
    return pl.DataFrame(
        {
            **{name: values[free] for name, values in made.items()},
            "forward": rng.uniform(50, 150, n),
        }
    )


def numpy(frame: pl.DataFrame, *names: str) -> list[np.ndarray]:
    return [frame[name].to_numpy() for name in names]


def test_every_function_has_a_call_here() -> None:
    assert CALLS.keys() == udf.FUNCTIONS.keys()
    for name, call in CALLS.items():
        assert len(call) == len(udf.FUNCTIONS[name].arguments)


def test_every_function_says_what_it_gives() -> None:
    for function in udf.FUNCTIONS.values():
        assert function.help.endswith(".")


@pytest.mark.parametrize("name", CALLS)
def test_the_call_gives_a_value(sql: duckdb.DuckDBPyConnection, name: str) -> None:
    given = value(sql, f"{name}({', '.join(CALLS[name])})")
    assert given is not None
    if isinstance(given, dict):
        assert None not in given.values()
        assert given.get("status", 0) == 0


# --- NULL ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "place"), ARGUMENTS)
def test_null_in_gives_null_out_for_that_row_alone(
    sql: duckdb.DuckDBPyConnection, name: str, place: int
) -> None:
    whole = ", ".join(CALLS[name])
    null = f"null::{list(udf.FUNCTIONS[name].arguments.values())[place]}"
    gap = ", ".join([*CALLS[name][:place], null, *CALLS[name][place + 1 :]])
    text = f"select {name}({whole}) union all select {name}({gap}) union all select {name}({whole})"
    first, middle, last = (row[0] for row in sql.sql(text).fetchall())
    assert middle is None
    assert first == last == value(sql, f"{name}({whole})")
    # The same within one batch.
    arguments = ", ".join(
        f"case when i = 1 and {j} = {place} then null else {text} end"
        for j, text in enumerate(CALLS[name])
    )
    rows = sql.sql(f"select {name}({arguments}) from range(3) as r(i) order by i").fetchall()
    assert [row[0] for row in rows] == [first, None, first]


@pytest.mark.parametrize("name", CALLS)
def test_a_batch_of_nothing_but_nulls(sql: duckdb.DuckDBPyConnection, name: str) -> None:
    nulls = ", ".join(f"null::{kind}" for kind in udf.FUNCTIONS[name].arguments.values())
    rows = sql.sql(f"select {name}({nulls}) from range(3000)").fetchall()
    assert rows == [(None,)] * 3000


@pytest.mark.parametrize("name", CALLS)
def test_no_rows_give_no_rows(sql: duckdb.DuckDBPyConnection, name: str) -> None:
    text = f"select {name}({', '.join(CALLS[name])}) as x from range(5) as r(i) where i > 9"
    assert sql.sql(text).fetchall() == []
    function = udf.FUNCTIONS[name]
    schema = sql.sql(f"select {', '.join(CALLS[name])}").arrow()
    table = schema.read_all() if isinstance(schema, pa.RecordBatchReader) else schema
    empty = function(*(table.column(i).slice(0, 0) for i in range(table.num_columns)))
    assert len(empty) == 0


# --- the numbers of a direct call, over more rows than a batch ----------------------------------


@pytest.mark.parametrize("n", [1, 2048, 5000])
def test_implied_vol(sql: duckdb.DuckDBPyConnection, n: int) -> None:
    rows = options(n)
    got = column(sql, "implied_vol(price, forward, strike, t, rate, is_call, is_american)", rows)
    arguments = numpy(rows, "price", "forward", "strike", "t", "rate", "is_call")
    vol, status = black76.implied_vol(*arguments)
    early = rows["is_american"].to_numpy()
    vol[early], status[early] = american.european_equivalent_vol(*(x[early] for x in arguments))
    np.testing.assert_array_equal(got.struct.field("vol").to_numpy(), vol)
    np.testing.assert_array_equal(got.struct.field("status").to_numpy(), status)
    out = rows["is_call"].to_numpy() == (rows["strike"] > rows["forward"]).to_numpy()
    exact = ~early & out & (status == 0)
    np.testing.assert_allclose(vol[exact], rows["vol"].to_numpy()[exact], rtol=1e-9)


def test_implied_vol_says_why_there_is_none(sql: duckdb.DuckDBPyConnection) -> None:
    got = value(sql, "implied_vol(1.0, 100.0, 90.0, 0.25, 0.0, true, false)")
    assert got["vol"] is None
    assert got["status"] == black76.implied_vol(1.0, 100.0, 90.0, 0.25)[1] != 0


def test_greeks(sql: duckdb.DuckDBPyConnection) -> None:
    rows = options(5000)
    got = column(sql, "greeks(forward, strike, t, vol, rate, is_call)", rows).struct.unnest()
    want = black76.greeks(*numpy(rows, "forward", "strike", "t", "vol", "rate", "is_call"))
    assert got.columns == ["delta", "gamma", "vega", "theta", "vanna", "charm"]
    for name in got.columns:
        np.testing.assert_array_equal(got[name].to_numpy(), want[name])


def test_total_variance_and_butterflies(sql: duckdb.DuckDBPyConnection) -> None:
    rows = slices(3000)
    rows = rows.with_columns(k=pl.Series(np.linspace(-1, 1, rows.height)))
    params = numpy(rows, "a", "b", "rho", "m", "sigma")
    got = column(sql, "svi_total_variance(k, a, b, rho, m, sigma)", rows)
    np.testing.assert_array_equal(got, svi.total_variance(rows["k"].to_numpy(), *params))
    steep = rows.with_columns(b=pl.col("b") * 40)
    got = column(sql, "svi_butterfly_free(a, b, rho, m, sigma)", pl.concat([rows, steep]))
    params = numpy(pl.concat([rows, steep]), "a", "b", "rho", "m", "sigma")
    np.testing.assert_array_equal(got, svi.butterfly_free(*params))
    assert got[: rows.height].all()
    assert not got.all()


def test_density(sql: duckdb.DuckDBPyConnection) -> None:
    rows = slices(2100)
    got = column(sql, "svi_density(forward, a, b, rho, m, sigma)", rows).struct.unnest()
    strike, pdf, cdf = density.grid(*numpy(rows, "forward", "a", "b", "rho", "m", "sigma"))
    for name, want in (("strike", strike), ("density", pdf), ("cdf", cdf)):
        flat = got[name].explode(empty_as_null=True).to_numpy()
        np.testing.assert_array_equal(flat.reshape(want.shape), want)


def test_moments(sql: duckdb.DuckDBPyConnection) -> None:
    rows = slices(2100)
    got = column(sql, "svi_moments(forward, a, b, rho, m, sigma)", rows).struct.unnest()
    want = moments.from_svi(*numpy(rows, "forward", "a", "b", "rho", "m", "sigma"))
    for name in got.columns:
        np.testing.assert_array_equal(got[name].to_numpy(), want[name])


def covariances(n: int, seed: int = 5) -> np.ndarray:
    mix = 0.03 * np.random.default_rng(seed).normal(size=(n, 5, 5))
    return mix @ np.swapaxes(mix, 1, 2)


def test_moments_with_errors(sql: duckdb.DuckDBPyConnection) -> None:
    n = 2100
    spread = covariances(n)
    rows = slices(n).with_columns(covariance=pl.Series(spread.reshape(n, 25).tolist()))
    text = "svi_moments_with_errors(forward, a, b, rho, m, sigma, covariance)"
    got = column(sql, text, rows).struct.unnest()
    want = moments.with_errors(*numpy(rows, "forward", "a", "b", "rho", "m", "sigma"), spread)
    assert set(got.columns) == set(want)
    for name in got.columns:
        np.testing.assert_array_equal(got[name].to_numpy(), want[name], err_msg=name)


def test_at_the_money(sql: duckdb.DuckDBPyConnection) -> None:
    n = 2100
    spread = covariances(n)
    rows = slices(n).with_columns(
        t=pl.Series(np.linspace(0.05, 1.0, n)),
        covariance=pl.Series(spread.reshape(n, 25).tolist()),
    )
    got = column(sql, "svi_at_the_money(t, a, b, rho, m, sigma, covariance)", rows)
    want = surface.at_the_money(*numpy(rows, "a", "b", "rho", "m", "sigma", "t"), spread)
    assert got.struct.fields == list(want)
    for name in want:
        np.testing.assert_array_equal(got.struct.field(name).to_numpy(), want[name], err_msg=name)


def test_a_covariance_is_25_numbers(sql: duckdb.DuckDBPyConnection) -> None:
    for wrong in ("[1.0]", "[]::double[]", str([1.0] * 26)):
        assert value(sql, f"svi_at_the_money(0.3, {PARAMS}, {wrong})") is None
        assert value(sql, f"svi_moments_with_errors(100.0, {PARAMS}, {wrong})") is None
    # A gap in it costs the errors alone.
    gap = str([1e-3] * 24)[:-1] + ", null]"
    money = value(sql, f"svi_at_the_money(0.3, {PARAMS}, {gap})")
    assert money["atm_iv"] == value(sql, f"sqrt(svi_total_variance(0.0, {PARAMS}) / 0.3)")
    assert money["atm_iv_se"] is None


def test_delta_strike(sql: duckdb.DuckDBPyConnection) -> None:
    n = 2500
    rows = slices(n).with_columns(
        delta=pl.Series(np.linspace(0.05, 0.5, n)),
        t=pl.Series(np.linspace(0.05, 1.0, n)),
        is_call=pl.Series(np.arange(n) % 2 == 0),
    )
    text = "svi_delta_strike(delta, forward, t, a, b, rho, m, sigma, is_call)"
    got = column(sql, text, rows).struct.unnest()
    *given, is_call = numpy(rows, "delta", "forward", "t", "a", "b", "rho", "m", "sigma", "is_call")
    k, vol = surface.delta_strike(*given, is_call=is_call)
    np.testing.assert_array_equal(got["log_moneyness"], k)
    np.testing.assert_array_equal(got["vol"], vol)


def test_constant_maturity(sql: duckdb.DuckDBPyConnection) -> None:
    n = 2500
    near, far = slices(n).drop("forward"), slices(n, seed=3).drop("forward")
    far = far.with_columns(a=far["a"] + near["a"] + 0.2)  # above the near slice
    rows = pl.concat(
        [near.rename(lambda x: f"{x}_lo"), far.rename(lambda x: f"{x}_hi")], how="horizontal"
    ).with_columns(delta=0.25, is_call=pl.Series(np.arange(n) % 2 == 0), t=0.3, t_lo=0.2, t_hi=0.4)
    names = [*("delta", "is_call", "t", "t_lo", "a_lo", "b_lo", "rho_lo", "m_lo", "sigma_lo")]
    names += ["t_hi", "a_hi", "b_hi", "rho_hi", "m_hi", "sigma_hi"]
    got = column(sql, f"svi_constant_maturity({', '.join(names)})", rows).struct.unnest()
    k, vol = surface.constant_maturity_delta(*numpy(rows, *names))
    np.testing.assert_array_equal(got["log_moneyness"], k)
    np.testing.assert_array_equal(got["vol"], vol)
    assert np.isfinite(vol).all()


# --- surfaces and chains: LIST arguments --------------------------------------------------------

LISTS = ("sizes", "k", "vol", "error", "t", "underlying")
SURFACE = f"svi_surface({', '.join(LISTS)})"
SURFACE_TYPES = {
    "sizes": pl.List(pl.Int32),
    **dict.fromkeys(("k", "vol", "error", "t"), pl.List(pl.Float64)),
    "underlying": pl.List(pl.Int32),
}


def surfaces(n: int, seed: int = 4) -> list[dict[str, Any]]:
    """Surfaces of 0 to 3 expiries and 0 to 9 quotes each."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        count = int(rng.integers(0, 4))
        sizes = rng.integers(0, 10, count)
        t = np.sort(rng.uniform(0.05, 1.0, count))
        k = [np.sort(rng.normal(0, 0.25 * math.sqrt(x), m)) for x, m in zip(t, sizes, strict=True)]
        flat = np.concatenate([*k, []])
        made.append(
            {
                "sizes": sizes.tolist(),
                "k": flat.tolist(),
                "vol": (
                    0.3 - 0.1 * flat + 0.4 * flat**2 + rng.normal(0, 0.003, flat.size)
                ).tolist(),
                "error": rng.uniform(0.001, 0.02, flat.size).tolist(),
                "t": t.tolist(),
                "underlying": rng.integers(0, 2, count).tolist(),
            }
        )
    return made


def fitted(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The plain twin: one surface, one call."""
    if not row["sizes"]:
        return []
    offsets = np.concatenate([[0], np.cumsum(row["sizes"])])
    k, vol, t, error = (np.array(row[name], dtype=float) for name in ("k", "vol", "t", "error"))
    weight = svi.error_weight(error, vol)
    group = np.array(row["underlying"])
    fit = svi.calibrate(offsets, k, vol, t, weight, group=group, vol_error=error)
    names = ("a", "b", "rho", "m", "sigma", "rmse_vol", "status")
    return [
        {
            **{name: None if np.isnan(x := getattr(fit, name)[i].item()) else x for name in names},
            "covariance": None if fit.status[i] else fit.covariance[i].ravel().tolist(),
        }
        for i in range(len(row["sizes"]))
    ]


def without_flags(found: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    if found is None:
        return None
    flags = ("calendar_free", "share_inside")
    return [{name: x for name, x in one.items() if name not in flags} for one in found]


def test_a_surface_is_what_a_call_of_its_own_gives(sql: duckdb.DuckDBPyConnection) -> None:
    rows = surfaces(60)
    got = column(sql, SURFACE, pl.DataFrame(rows, schema=SURFACE_TYPES)).to_list()
    assert [without_flags(found) for found in got] == [fitted(row) for row in rows]
    assert {one["status"] for found in got for one in found} >= {0, 1}


def test_a_quote_without_an_error_is_left_out(sql: duckdb.DuckDBPyConnection) -> None:
    k = np.linspace(-0.3, 0.3, 9)
    row = {"sizes": [9], "k": k.tolist(), "vol": (0.3 + k**2).tolist(), "error": [0.01] * 9,
           "t": [0.3], "underlying": [0]}  # fmt: skip
    less = {**row, **{name: row[name][:8] for name in ("k", "vol", "error")}, "sizes": [8]}
    wild = {**row, "vol": [*row["vol"][:8], 2.0]}
    out = [{**wild, "error": [0.01] * 8 + [bad]} for bad in (math.nan, math.inf, None)]
    first, *rest = column(sql, SURFACE, pl.DataFrame([less, *out], schema=SURFACE_TYPES)).to_list()
    assert rest == [first] * 3


def test_share_inside_is_of_prices_within_half_a_spread(sql: duckdb.DuckDBPyConnection) -> None:
    """The slow twin: each bid and ask, and whether the curve's price lies between."""
    rng = np.random.default_rng(6)
    forward, t, n = 80.0, 0.3, 13
    k = np.linspace(-0.4, 0.4, n)
    strike, call = forward * np.exp(k), k > 0.0
    vol = np.sqrt(svi.total_variance(k, *SLICE) / t) * (1 + 0.02 * rng.normal(size=n))
    mid = black76.price(forward, strike, t, vol, 0.03, call)
    half = mid * rng.uniform(0.01, 0.15, n)
    error = svi.quote_error(mid - half, mid + half, forward, strike, t, vol, 0.03)
    row = {"sizes": [n], "k": k.tolist(), "vol": vol.tolist(), "error": error.tolist(),
           "t": [t], "underlying": [0]}  # fmt: skip
    ((found,),) = column(sql, SURFACE, pl.DataFrame([row], schema=SURFACE_TYPES)).to_list()
    curve = np.sqrt(svi.total_variance(k, *(found[x] for x in udf._SVI)) / t)
    price = black76.price(forward, strike, t, curve, 0.03, call)
    inside = (mid - half <= price) & (price <= mid + half)
    assert 0 < inside.sum() < n
    assert found["share_inside"] == pytest.approx(inside.mean())


def test_slices_of_one_underlying_do_not_cross(sql: duckdb.DuckDBPyConnection) -> None:
    k = np.linspace(-0.3, 0.3, 9)
    row = {
        "sizes": [9, 9, 9],
        "k": np.tile(k, 3).tolist(),
        "vol": np.concatenate([0.4 + k**2, 0.1 + k**2, 0.1 + k**2]).tolist(),
        "error": [0.01] * 27,
        "t": [0.2, 0.25, 0.25],
        "underlying": [0, 0, 1],
    }
    (found,) = column(sql, SURFACE, pl.DataFrame([row], schema=SURFACE_TYPES)).to_list()
    total = [svi.total_variance(0.0, *(one[x] for x in udf._SVI)) for one in found]
    assert all(one["calendar_free"] for one in found)
    assert total[1] >= total[0]
    assert total[2] < total[0]


def test_a_slice_that_lies_below_a_nearer_one_of_its_group_is_named() -> None:
    fit = SimpleNamespace(
        a=np.array([0.02, 0.01, 0.01, 0.001, 0.03]),
        **{
            name: np.full(5, x)
            for name, x in zip(("b", "rho", "m", "sigma"), SLICE[1:], strict=True)
        },
        status=np.array([0, 0, 0, 1, 0], dtype=np.int8),
    )
    group = np.array([0, 0, 1, 0, 0])
    t = np.array([0.1, 0.2, 0.3, 0.15, 0.4])
    free = udf._calendar_free(fit, group, t)
    assert free.tolist() == [True, False, True, True, True]


def test_more_surfaces_than_a_batch(sql: duckdb.DuckDBPyConnection) -> None:
    rows = [row for row in surfaces(40) if len(row["sizes"]) == 1][:7]
    many = pl.DataFrame(rows * 600, schema=SURFACE_TYPES)
    assert many.height > 2048
    got = column(sql, SURFACE, many).to_list()
    assert got[: len(rows)] * 600 == got


BROKEN = {
    "a NULL list among others": {"k": None},
    "a NULL list of slices": {"sizes": None},
    "more sizes than quotes": {"sizes": [6]},
    "fewer sizes than quotes": {"sizes": [2]},
    "a negative size": {"sizes": [-5]},
    "a NULL size": {"sizes": [None]},
    "sizes that cancel": {"sizes": [7, -2], "t": [0.3, 0.4], "underlying": [1, 1]},
    "a short list of vols": {"vol": [0.3]},
    "no errors": {"error": []},
    "no time": {"t": []},
    "two times": {"t": [0.3, 0.4]},
    "no underlying": {"underlying": []},
    "a NULL underlying": {"underlying": [None]},
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_surface_that_does_not_fit_together_is_null_and_its_neighbours_stand(
    sql: duckdb.DuckDBPyConnection, broken: dict[str, Any]
) -> None:
    good = {
        "sizes": [5],
        "k": [-0.2, -0.1, 0.0, 0.1, 0.2],
        "vol": [0.33, 0.31, 0.30, 0.305, 0.32],
        "error": [0.01] * 5,
        "t": [0.3],
        "underlying": [1],
    }
    rows = [good, good | broken, good]
    got = column(sql, SURFACE, pl.DataFrame(rows, schema=SURFACE_TYPES)).to_list()
    assert got[1] is None
    assert without_flags(got[0]) == without_flags(got[2]) == fitted(good)


def test_null_quotes_are_left_out(sql: duckdb.DuckDBPyConnection) -> None:
    row = {
        "sizes": [6],
        "k": [-0.2, -0.1, 0.0, 0.1, 0.2, 0.3],
        "vol": [0.33, 0.31, 0.30, None, 0.32, 0.34],
        "error": [0.01, 0.01, 0.01, 0.01, 0.01, None],
        "t": [0.3],
        "underlying": [1],
    }
    fewer = row | {"sizes": [4], "error": [0.01] * 4}
    fewer |= {name: [row[name][i] for i in (0, 1, 2, 4)] for name in ("k", "vol")}
    got = column(sql, SURFACE, pl.DataFrame([row, fewer], schema=SURFACE_TYPES)).to_list()
    assert got[0][0]["status"] == 0
    for name in udf._SVI:
        assert got[0][0][name] == pytest.approx(got[1][0][name], abs=1e-9)


def test_a_null_time_has_no_slice(sql: duckdb.DuckDBPyConnection) -> None:
    given = [*CALLS["svi_surface"][:4], "[null::double]", "[1]"]
    (found,) = value(sql, f"svi_surface({', '.join(given)})")
    assert found["a"] is None
    assert found["status"] == svi.SviStatus.BAD_INPUT


CHAIN = ("forward", "strike", "t", "vol", "rate", "is_call", "quantity")
CHAIN_TYPES = {name: pl.List(pl.Boolean if name == "is_call" else pl.Float64) for name in CHAIN}
ZERO_GAMMA = f"zero_gamma({', '.join(CHAIN)})"


def chains(n: int, seed: int = 5) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    made = []
    for size in rng.integers(0, 12, n):
        call = rng.random(size) < 0.5
        made.append(
            {
                "forward": np.full(size, 100.0).tolist(),
                "strike": rng.uniform(70, 130, size).tolist(),
                "t": rng.uniform(0.05, 1, size).tolist(),
                "vol": rng.uniform(0.2, 0.5, size).tolist(),
                "rate": [0.04] * int(size),
                "is_call": call.tolist(),
                "quantity": (np.where(call, 1, -1) * rng.integers(0, 900, size) * 1.0).tolist(),
            }
        )
    return made


def test_zero_gamma(sql: duckdb.DuckDBPyConnection) -> None:
    rows = chains(2500)
    got = column(sql, ZERO_GAMMA, pl.DataFrame(rows, schema=CHAIN_TYPES)).struct.unnest()
    flat = {
        name: np.array(
            [x for row in rows for x in row[name]], dtype=bool if name == "is_call" else float
        )
        for name in CHAIN
    }
    offsets = np.concatenate([[0], np.cumsum([len(row["strike"]) for row in rows])])
    scale, status = flows.zero_gamma(offsets, *flat.values())
    np.testing.assert_array_equal(got["scale"].to_numpy(), scale)
    np.testing.assert_array_equal(got["status"].to_numpy(), status)
    assert got["scale"].null_count() == np.isnan(scale).sum()
    assert set(status.tolist()) >= {flows.ZeroGamma.SOLVED, flows.ZeroGamma.NO_OPTIONS}


def test_a_part_of_a_batch_gives_that_parts_rows() -> None:
    """Arrow hands a slice of an array on with an offset."""
    for name, rows, types in (
        ("zero_gamma", chains(12), CHAIN_TYPES),
        ("svi_surface", surfaces(12), SURFACE_TYPES),
    ):
        columns = pl.DataFrame(rows, schema=types).to_arrow().columns
        columns = [c.cast(pa.list_(c.type.value_type)) for c in columns]
        whole = udf.FUNCTIONS[name](*columns).to_pylist()
        for start, length in ((3, 5), (11, 1), (0, 2)):
            part = udf.FUNCTIONS[name](*(c.slice(start, length) for c in columns))
            assert part.to_pylist() == whole[start : start + length]


@pytest.mark.parametrize("name", CHAIN)
def test_a_chain_whose_lists_differ_in_length_is_null(
    sql: duckdb.DuckDBPyConnection, name: str
) -> None:
    good = next(row for row in chains(9) if len(row["strike"]) > 4)
    rows = [good, good | {name: good[name][1:]}, good | {name: []}, good]
    got = column(sql, ZERO_GAMMA, pl.DataFrame(rows, schema=CHAIN_TYPES)).to_list()
    assert got[1] is got[2] is None
    assert got[0] == got[3] is not None


def test_an_option_that_is_neither_call_nor_put_is_left_out(
    sql: duckdb.DuckDBPyConnection,
) -> None:
    chain = next(row for row in chains(20) if len(row["strike"]) > 6)
    unknown = chain | {"is_call": [None, *chain["is_call"][1:]]}
    shorter = {name: values[1:] for name, values in chain.items()}
    got = column(sql, ZERO_GAMMA, pl.DataFrame([unknown, shorter], schema=CHAIN_TYPES)).to_list()
    assert got[0] == got[1]


# --- whatever the numbers -----------------------------------------------------------------------

_NUMBER = st.one_of(st.sampled_from(ODD), st.none(), st.floats())
_MATRIX = st.one_of(
    st.none(), st.lists(_NUMBER, max_size=3), st.lists(_NUMBER, min_size=25, max_size=25)
)
_SCALARS = [name for name in CALLS if name not in {"svi_surface", "zero_gamma"}]


@pytest.mark.parametrize("name", _SCALARS)
@settings(max_examples=12, derandomize=True, deadline=None)
@given(data=st.data())
def test_odd_numbers_cost_their_row_at_most(
    sql: duckdb.DuckDBPyConnection, name: str, data: st.DataObject
) -> None:
    kinds = list(udf.FUNCTIONS[name].arguments.values())
    draw = {"DOUBLE": _NUMBER, "BOOLEAN": st.one_of(st.none(), st.booleans()), "DOUBLE[]": _MATRIX}
    drawn = data.draw(st.lists(st.tuples(*(draw[kind] for kind in kinds)), min_size=1, max_size=6))
    good = tuple(json.loads(x) for x in CALLS[name])
    column_types = {
        "DOUBLE": pl.Float64,
        "BOOLEAN": pl.Boolean,
        "DOUBLE[]": pl.List(pl.Float64),
    }
    types = {f"x{i}": column_types[kind] for i, kind in enumerate(kinds)}
    rows = pl.DataFrame([good, *drawn, good], schema=types, orient="row")
    got = column(sql, f"{name}({', '.join(types)})", rows).to_list()
    assert len(got) == len(drawn) + 2
    assert got[0] == got[-1] == value(sql, f"{name}({', '.join(CALLS[name])})")
    for row, found in zip(drawn, got[1:-1], strict=True):
        assert (found is None) or None not in row


@settings(max_examples=25, derandomize=True, deadline=None)
@given(data=st.data())
def test_odd_lists_cost_their_row_at_most(
    sql: duckdb.DuckDBPyConnection, data: st.DataObject
) -> None:
    numbers = st.one_of(st.none(), st.lists(_NUMBER, max_size=5))
    counts = st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-2, 5)), max_size=3))
    flags = st.one_of(st.none(), st.lists(st.one_of(st.none(), st.booleans()), max_size=5))
    for expression, types in ((SURFACE, SURFACE_TYPES), (ZERO_GAMMA, CHAIN_TYPES)):
        draw = {pl.List(pl.Int32): counts, pl.List(pl.Boolean): flags}
        drawn = data.draw(
            st.lists(
                st.fixed_dictionaries(
                    {name: draw.get(kind, numbers) for name, kind in types.items()}
                ),
                max_size=4,
            )
        )
        good = chains(9)[5] if types is CHAIN_TYPES else surfaces(9)[2]
        got = column(sql, expression, pl.DataFrame([good, *drawn, good], schema=types)).to_list()
        assert len(got) == len(drawn) + 2
        assert got[0] == got[-1] is not None


def test_constants_and_columns_mix(sql: duckdb.DuckDBPyConnection) -> None:
    call = "implied_vol(4.0, 100.0, 90.0 + i % 10, 0.25, 0.0, true, false)"
    got = [row[0] for row in sql.sql(f"select {call} from range(4096) as r(i)").fetchall()]
    vol, status = black76.implied_vol(4.0, 100.0, 90.0 + np.arange(4096) % 10, 0.25)
    assert [x["status"] for x in got] == status.tolist()
    assert [math.nan if x["vol"] is None else x["vol"] for x in got] == pytest.approx(
        vol.tolist(), nan_ok=True, abs=0
    )


def test_registering_twice_on_one_connection_raises() -> None:
    connection = duckdb.connect()
    udf.register(connection)
    with pytest.raises(duckdb.Error, match="already"):
        udf.register(connection)
    connection.close()


def test_a_read_only_connection_takes_the_functions(tmp_path: Any) -> None:
    path = str(tmp_path / "x.duckdb")
    duckdb.connect(path).close()
    connection = duckdb.connect(path, read_only=True)
    udf.register(connection)
    assert value(connection, f"svi_butterfly_free({PARAMS})")
    connection.close()
