"""American options on futures against QuantLib's QdFp engine, a tree and published values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from mathlib import american, black76
from mathlib._arrays import BLOCK
from mathlib.black76 import Status

VOL_POINT = 0.01

prop = settings(deadline=None, derandomize=True)

# Barone-Adesi and Whaley's approximation, Haug (1998) p. 24 through QuantLib's americanoption.cpp:
# call?, strike, future, rate, time, vol, value.
BARONE_ADESI_WHALEY = """
C 100 90 .10 .10 .15 0.0206
C 100 100 .10 .10 .15 1.8771
C 100 110 .10 .10 .15 10.0089
C 100 90 .10 .10 .25 0.3159
C 100 100 .10 .10 .25 3.1280
C 100 110 .10 .10 .25 10.3919
C 100 90 .10 .10 .35 0.9495
C 100 100 .10 .10 .35 4.3777
C 100 110 .10 .10 .35 11.1679
C 100 90 .10 .50 .15 0.8208
C 100 100 .10 .50 .15 4.0842
C 100 110 .10 .50 .15 10.8087
C 100 90 .10 .50 .25 2.7437
C 100 100 .10 .50 .25 6.8015
C 100 110 .10 .50 .25 13.0170
C 100 90 .10 .50 .35 5.0063
C 100 100 .10 .50 .35 9.5106
C 100 110 .10 .50 .35 15.5689
P 100 90 .10 .10 .15 10.0000
P 100 100 .10 .10 .15 1.8770
P 100 110 .10 .10 .15 0.0410
P 100 90 .10 .10 .25 10.2533
P 100 100 .10 .10 .25 3.1277
P 100 110 .10 .10 .25 0.4562
P 100 90 .10 .10 .35 10.8787
P 100 100 .10 .10 .35 4.3777
P 100 110 .10 .10 .35 1.2402
P 100 90 .10 .50 .15 10.5595
P 100 100 .10 .50 .15 4.0842
P 100 110 .10 .50 .15 1.0822
P 100 90 .10 .50 .25 12.4419
P 100 100 .10 .50 .25 6.8014
P 100 110 .10 .50 .25 3.3226
P 100 90 .10 .50 .35 14.6945
P 100 100 .10 .50 .35 9.5104
P 100 110 .10 .50 .35 5.8823
P 100 100 .00 .50 .15 4.2294
"""


def quantlib_price(f: float, k: float, days: int, vol: float, r: float, is_call: bool) -> float:
    today = ql.Date(5, 1, 2026)
    ql.Settings.instance().evaluationDate = today
    count = ql.Actual365Fixed()
    curve = ql.YieldTermStructureHandle(ql.FlatForward(today, r, count))
    flat = ql.BlackConstantVol(today, ql.NullCalendar(), vol, count)
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(f)), curve, curve, ql.BlackVolTermStructureHandle(flat)
    )
    payoff = ql.PlainVanillaPayoff(ql.Option.Call if is_call else ql.Option.Put, k)
    option = ql.VanillaOption(payoff, ql.AmericanExercise(today, today + days))
    scheme = ql.QdFpAmericanEngine.highPrecisionScheme()
    option.setPricingEngine(ql.QdFpAmericanEngine(process, scheme))
    return float(option.NPV())


@pytest.fixture(scope="module")
def grid() -> dict[str, np.ndarray]:
    """Random options, r 0-10 %, T to two years, vol 10-100 %, and QuantLib's price of each."""
    rng = np.random.default_rng(20)
    n = 500
    days = rng.integers(3, 731, n)
    vol = rng.uniform(0.1, 1.0, n)
    rate = rng.uniform(0.0002, 0.10, n)
    z = rng.uniform(-3.0, 3.0, n)
    strike = 85.0 * np.exp(z * vol * np.sqrt(days / 365))
    is_call = rng.random(n) < 0.5
    quantlib = [
        quantlib_price(85.0, float(k), int(d), float(v), float(r), bool(c))
        for k, d, v, r, c in zip(strike, days, vol, rate, is_call, strict=True)
    ]
    return {
        "z": np.where(is_call, z, -z),
        "quantlib": np.array(quantlib),
        "forward": np.full(n, 85.0),
        "strike": strike,
        "t_years": days / 365,
        "vol": vol,
        "rate": rate,
        "is_call": is_call,
    }


OPTION = ("forward", "strike", "t_years", "vol", "rate", "is_call")


def arguments(grid: dict[str, np.ndarray], *leave_out: str) -> dict[str, Any]:
    return {name: grid[name] for name in OPTION if name not in leave_out}


def test_price_agrees_with_quantlib(grid: dict[str, np.ndarray]) -> None:
    error = np.abs(american.price(**arguments(grid)) - grid["quantlib"])
    larger = np.maximum(grid["forward"], grid["strike"])
    out = grid["z"] >= 0
    assert np.max(error[out] / larger[out]) < 2e-8
    # In the money the premium is a hundred times larger, and next to exercise its integrand sharp.
    assert np.max(error / larger) < 3e-7


def quadrature(
    rate_time: np.ndarray, stdev: np.ndarray, d: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slow twin of a put's premium over the strike: its integral, with the boundary solved anew.

    ``d`` has the futures of each row of ``(R, sqrt(v))``, in standard deviations from the boundary;
    they come back over the strike.
    """
    nodes, weights = np.polynomial.legendre.leggauss(400)
    angle = 0.25 * np.pi * (nodes + 1.0)
    left, weights = np.sin(angle) ** 2, 0.25 * np.pi * weights * np.sin(2.0 * angle)
    boundary = american._solve_boundary(rate_time, stdev**2, np.append(left, 1.0))
    result = np.empty(d.shape)
    for i, (r, s) in enumerate(zip(rate_time, stdev, strict=True)):
        x = s * (d[i, :, None] - boundary[i, -1])
        sd = s * np.sqrt(1.0 - left)
        d1 = (x + s * boundary[i, :-1]) / sd + 0.5 * sd
        strip = special.ndtr(sd - d1) - np.exp(x) * special.ndtr(-d1)
        result[i] = np.sum(r * np.exp(-r * (1.0 - left)) * strip * weights, axis=-1)
    return result, np.exp(stdev[:, None] * (d - boundary[:, -1:]))


@pytest.mark.parametrize(
    ("rate_time", "stdev", "in_the_money", "out_of_it"),
    [
        ((1e-5, 0.1), (0.02, 0.6), 3e-8, 3e-10),  # where markets are
        ((1e-8, 2.0), (0.001, 10.0), 2e-6, 5e-7),  # all that is solved for
    ],
)
def test_interpolated_premium_is_the_integral(
    rate_time: tuple[float, float],
    stdev: tuple[float, float],
    in_the_money: float,
    out_of_it: float,
) -> None:
    rng = np.random.default_rng(22)
    n = 200
    r = np.exp(rng.uniform(*np.log(rate_time), n))
    s = rng.uniform(*stdev, n)
    d = (8.0 + s[:, None]) * rng.uniform(0.0, 1.0, (n, 20)) ** 2
    d[:, 0] *= 1e-4
    exact, forward = quadrature(r, s, d)
    error = np.abs(american.premium(forward, 1.0, 1.0, s[:, None], r[:, None], False) - exact)
    assert np.max(error[forward < 1.0]) < in_the_money
    assert np.max(error[forward >= 1.0]) < out_of_it


def test_vol_behind_out_of_the_money_prices_agrees_with_quantlib(
    grid: dict[str, np.ndarray],
) -> None:
    vol, status = american.european_equivalent_vol(grid["quantlib"], **arguments(grid, "vol"))
    out = grid["z"] >= 0
    assert out.sum() > 200
    assert np.all(status[out] == Status.SOLVED)
    # The promise is 0.01 vol points.
    assert np.max(np.abs(vol - grid["vol"])[out]) < 1e-5 * VOL_POINT


def test_vol_behind_in_the_money_prices(grid: dict[str, np.ndarray]) -> None:
    vol, status = american.european_equivalent_vol(grid["quantlib"], **arguments(grid, "vol"))
    sign = np.where(grid["is_call"], 1.0, -1.0)
    over_exercise = grid["quantlib"] - sign * (grid["forward"] - grid["strike"])
    near = (grid["z"] < 0) & (grid["z"] > -1) & (over_exercise > 1e-3)
    assert near.sum() > 40
    assert np.all(status[near] == Status.SOLVED)
    assert np.max(np.abs(vol - grid["vol"])[near]) < 0.01 * VOL_POINT


def test_black76_alone_would_overstate_the_vol() -> None:
    # European vol of the American price less its vol, r = 5 %: the sizes that were measured with
    # QuantLib, in vol points, at the money and one standard deviation in and out of it.
    for t, at, out, into in (
        (0.10, (0.02, 0.03), (0.0, 0.005), (0.17, 0.28)),
        (0.25, (0.05, 0.09), (0.0, 0.015), (0.49, 0.80)),
        (0.50, (0.12, 0.20), (0.0, 0.034), (1.1, 1.8)),
    ):
        for vol in (0.25, 0.40):
            for z, (least, most) in ((0.0, at), (1.0, out), (-1.0, into)):
                strike = 100.0 * np.exp(z * vol * np.sqrt(t))
                price = american.price(100.0, strike, t, vol, 0.05, True)
                naive, _ = black76.implied_vol(price, 100.0, strike, t, 0.05, True)
                points = float(naive - vol) / VOL_POINT
                assert least - 0.006 <= points <= most + 0.06


def test_published_approximation() -> None:
    rows = [line.split() for line in BARONE_ADESI_WHALEY.strip().splitlines()]
    is_call = np.array([row[0] == "C" for row in rows])
    k, f, r, t, vol, value = np.array([[float(x) for x in row[1:]] for row in rows]).T
    exact = american.price(f, k, t, vol, r, is_call)
    # Their approximation lies 0.007 below to 0.037 above a tree of 1001 steps.
    assert np.min(value - exact) > -0.007
    assert np.max(value - exact) < 0.037


def leisen_reimer(f: float, k: float, t: float, vol: float, r: float, is_call: bool) -> float:
    """A slow, obvious twin: binomial tree of 1001 steps, exercised wherever it pays."""
    n = 1001

    def share(d: float) -> float:
        x = d / (n + 1 / 3 + 0.1 / (n + 1))
        return 0.5 + np.sign(d) * np.sqrt(0.25 - 0.25 * np.exp(-x * x * (n + 1 / 6)))

    d1 = np.log(f / k) / (vol * np.sqrt(t)) + 0.5 * vol * np.sqrt(t)
    p, p1 = share(d1 - vol * np.sqrt(t)), share(d1)
    up, down = p1 / p, (1 - p1) / (1 - p)
    sign = 1.0 if is_call else -1.0
    j = np.arange(n + 1)
    value = np.maximum(sign * (f * up**j * down ** (n - j) - k), 0.0)
    discount = np.exp(-r * t / n)
    for step in range(n - 1, -1, -1):
        j = np.arange(step + 1)
        held = discount * (p * value[1:] + (1 - p) * value[:-1])
        value = np.maximum(held, sign * (f * up**j * down ** (step - j) - k))
    return float(value[0])


@pytest.mark.parametrize("strike", [70.0, 90.0, 100.0, 110.0, 130.0])
@pytest.mark.parametrize("is_call", [True, False])
def test_price_agrees_with_a_tree(strike: float, is_call: bool) -> None:
    ours = american.price(100.0, strike, 0.75, 0.3, 0.08, is_call)
    # The tree can only exercise 1001 times, which costs it a tenth of a cent in the money.
    slow = leisen_reimer(100.0, strike, 0.75, 0.3, 0.08, is_call)
    assert ours == pytest.approx(slow, abs=1.5e-3)


def test_no_premium_without_a_rate() -> None:
    for rate in (0.0, -0.02):
        for is_call in (True, False):
            assert american.premium(100.0, 90.0, 1.0, 0.3, rate, is_call) == 0.0
            price = black76.price(100.0, 90.0, 1.0, 0.3, rate, is_call)
            assert american.price(100.0, 90.0, 1.0, 0.3, rate, is_call) == price
            vol, status = american.european_equivalent_vol(price, 100.0, 90.0, 1.0, rate, is_call)
            assert status == Status.SOLVED
            assert vol == pytest.approx(0.3, rel=1e-12)


def test_price_at_the_ends() -> None:
    assert american.price(100.0, 90.0, 0.0, 0.3, 0.05, True) == 10.0
    # Without volatility one exercises at once.
    assert american.price(100.0, 90.0, 1.0, 0.0, 0.05, True) == 10.0
    assert american.price(100.0, 110.0, 1.0, 0.0, 0.05, True) == 0.0
    # So deep in the money that waiting only costs interest.
    assert american.price(100.0, 20.0, 0.5, 0.3, 0.05, True) == 80.0


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"price": 10.0}, Status.AT_INTRINSIC),
        ({"price": 9.99}, Status.BELOW_INTRINSIC),
        ({"price": -1.0, "strike": 110.0}, Status.BELOW_INTRINSIC),
        ({"price": 0.0, "strike": 110.0}, Status.AT_INTRINSIC),
        ({"price": 100.0}, Status.ABOVE_BOUND),
        ({"price": np.nan}, Status.BAD_INPUT),
        ({"rate": np.nan}, Status.BAD_INPUT),
        ({"forward": -1.0}, Status.BAD_INPUT),
        ({"t_years": 0.0}, Status.EXPIRED),
        ({"t_years": 70.0}, Status.NOT_CONVERGED),
        ({"price": 99.9999999}, Status.NOT_CONVERGED),
    ],
)
def test_status_says_why_there_is_no_vol(change: dict[str, float], status: Status) -> None:
    good = {"price": 12.0, "forward": 100.0, "strike": 90.0, "t_years": 0.5, "rate": 0.04}
    columns = {name: np.array([value, change.get(name, value)]) for name, value in good.items()}
    vol, got = american.european_equivalent_vol(**columns, is_call=True)
    assert list(got) == [Status.SOLVED, status]
    assert np.isnan(vol[1])
    assert vol[0] == american.european_equivalent_vol(**good, is_call=True)[0]


def test_bad_values_are_nan_and_wrong_types_raise() -> None:
    assert np.isnan(american.price(np.nan, 100.0, 1.0, 0.3, 0.05, True))
    assert np.isnan(american.premium(100.0, 100.0, -1.0, 0.3, 0.05, True))
    # Beyond the solved domain.
    assert np.isnan(american.price(100.0, 100.0, 50.0, 0.3, 0.05, True))
    assert np.isnan(american.price(100.0, 100.0, 1.0, 11.0, 0.05, True))
    with pytest.raises(TypeError, match="is_call must be boolean"):
        american.price(100.0, 100.0, 1.0, 0.3, 0.05, "C")
    with pytest.raises(ValueError, match="shape"):
        american.premium([100.0, 101.0], [1.0, 2.0, 3.0], 1.0, 0.3, 0.05, True)


def test_a_row_does_not_depend_on_its_batch() -> None:
    rng = np.random.default_rng(21)
    n = 2 * BLOCK + 11
    strike = rng.uniform(60.0, 150.0, n)
    vol = rng.uniform(0.1, 0.9, n)
    call = rng.random(n) < 0.5
    price = american.price(100.0, strike, 0.4, vol, 0.05, call)
    whole = american.european_equivalent_vol(price, 100.0, strike, 0.4, 0.05, call)
    part = slice(9000, 9017)
    few = american.price(100.0, strike[part], 0.4, vol[part], 0.05, call[part])
    np.testing.assert_array_equal(few, price[part])
    for all_rows, rows in zip(
        whole,
        american.european_equivalent_vol(price[part], 100.0, strike[part], 0.4, 0.05, call[part]),
        strict=True,
    ):
        np.testing.assert_array_equal(rows, all_rows[part])


# -------------------------------------------------------------------------------- properties

any_float = st.floats(allow_nan=True, allow_infinity=True, width=64)
options = st.tuples(
    st.floats(0.1, 1e4),  # forward
    st.floats(0.3, 3.0),  # strike over it
    st.floats(1e-3, 3.0),  # time
    st.floats(0.05, 1.5),  # vol
    st.floats(-0.02, 0.2),  # rate
    st.booleans(),
)


@given(any_float, any_float, any_float, any_float, any_float, any_float, st.booleans())
@prop
def test_no_floats_raise(
    price: float, f: float, k: float, t: float, vol: float, r: float, is_call: bool
) -> None:
    value = american.price(f, k, t, vol, r, is_call)
    assert np.isnan(value) or value >= 0.0
    got, status = american.european_equivalent_vol(price, f, k, t, r, is_call)
    assert int(status) in set(Status)
    assert (status == Status.SOLVED) == bool(got > 0.0)


@given(options)
@prop
def test_bounds_and_symmetry(option: tuple[float, float, float, float, float, bool]) -> None:
    f, m, t, vol, r, is_call = option
    k = f * m
    price = american.price(f, k, t, vol, r, is_call)
    sign = 1.0 if is_call else -1.0
    assert american.premium(f, k, t, vol, r, is_call) >= 0.0
    assert price >= sign * (f - k)
    assert price >= black76.price(f, k, t, vol, r, is_call)
    if r >= 0.0:
        assert price <= (f if is_call else k) * (1 + 1e-15)
    mirrored = american.price(k, f, t, vol, r, not is_call)
    assert mirrored == pytest.approx(float(price), rel=1e-12, abs=1e-13 * f)


@given(options)
@prop
def test_worth_more_with_time_and_vol(
    option: tuple[float, float, float, float, float, bool],
) -> None:
    f, m, t, vol, r, is_call = option
    k = f * m
    price = american.price(f, k, t, vol, max(r, 0.0), is_call)
    slack = 2e-6 * f
    assert american.price(f, k, 1.05 * t, vol, max(r, 0.0), is_call) >= price - slack
    assert american.price(f, k, t, 1.05 * vol, max(r, 0.0), is_call) >= price - slack


@given(options)
@prop
def test_round_trip(option: tuple[float, float, float, float, float, bool]) -> None:
    f, m, t, vol, rate, is_call = option
    k, r = f * m, abs(rate)
    price = float(american.price(f, k, t, vol, r, is_call))
    over = price - max((f - k) if is_call else (k - f), 0.0)
    got, status = american.european_equivalent_vol(price, f, k, t, r, is_call)
    if over < 1e-6 * f:
        assert status in (Status.SOLVED, Status.AT_INTRINSIC)
        return
    assert status == Status.SOLVED
    assert american.price(f, k, t, got, r, is_call) == pytest.approx(price, rel=1e-9)
    assert got == pytest.approx(vol, rel=1e-6)
