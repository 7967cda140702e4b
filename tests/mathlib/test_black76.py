"""Black-76 against mpmath, QuantLib and published values, and its promises over any floats."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from mathlib import black76
from mathlib._arrays import BLOCK
from mathlib.black76 import Status

FloatArray = np.ndarray

# Haug (1998), the rows with cost of carry 0 of QuantLib's europeanoption.cpp:
# call?, strike, future, rate, time, vol, value to four decimals.
HAUG = """
C 19 19 .10 .75 .28 1.7011
P 19 19 .10 .75 .28 1.7011
C 100 90 .10 .10 .15 0.0205
C 100 100 .10 .10 .15 1.8734
C 100 110 .10 .10 .15 9.9413
C 100 90 .10 .10 .25 0.3150
C 100 100 .10 .10 .25 3.1217
C 100 110 .10 .10 .25 10.3556
C 100 90 .10 .10 .35 0.9474
C 100 100 .10 .10 .35 4.3693
C 100 110 .10 .10 .35 11.1381
C 100 90 .10 .50 .15 0.8069
C 100 100 .10 .50 .15 4.0232
C 100 110 .10 .50 .15 10.5769
C 100 90 .10 .50 .25 2.7026
C 100 100 .10 .50 .25 6.6997
C 100 110 .10 .50 .25 12.7857
C 100 90 .10 .50 .35 4.9329
C 100 100 .10 .50 .35 9.3679
C 100 110 .10 .50 .35 15.3086
P 100 90 .10 .10 .15 9.9210
P 100 100 .10 .10 .15 1.8734
P 100 110 .10 .10 .15 0.0408
P 100 90 .10 .10 .25 10.2155
P 100 100 .10 .10 .25 3.1217
P 100 110 .10 .10 .25 0.4551
P 100 90 .10 .10 .35 10.8479
P 100 100 .10 .10 .35 4.3693
P 100 110 .10 .10 .35 1.2376
P 100 90 .10 .50 .15 10.3192
P 100 100 .10 .50 .15 4.0232
P 100 110 .10 .50 .15 1.0646
P 100 90 .10 .50 .25 12.2149
P 100 100 .10 .50 .25 6.6997
P 100 110 .10 .50 .25 3.2734
P 100 90 .10 .50 .35 14.4452
P 100 100 .10 .50 .35 9.3679
P 100 110 .10 .50 .35 5.7963
"""

# The rest of the table: options on an asset that carries a yield; on its forward they are
# Black-76.  call?, strike, spot, yield, rate, time, vol, value.
HAUG_SPOT = """
C 65 60 .00 .08 .25 .30 2.1334
P 95 100 .05 .10 .50 .20 2.4648
C 1.60 1.56 .08 .06 .50 .12 0.0291
P 70 75 .05 .10 .50 .35 4.0870
C 40 42 .08 .04 .75 .35 5.0975
"""


def table(text: str) -> tuple[FloatArray, list[FloatArray]]:
    rows = [line.split() for line in text.strip().splitlines()]
    is_call = np.array([row[0] == "C" for row in rows])
    return is_call, list(np.array([[float(x) for x in row[1:]] for row in rows]).T)


class Exact:
    """One European option in 60 digits, straight from the textbook."""

    def __init__(self, f: float, k: float, t: float, vol: float, r: float, is_call: bool) -> None:
        self.arguments = [mp.mpf(float(x)) for x in (f, k, t, vol, r)]
        self.sign = 1 if is_call else -1

    def value(self, *moved: mp.mpf) -> mp.mpf:
        f, k, t, vol, r = moved or self.arguments
        s = vol * mp.sqrt(t)
        d1 = mp.log(f / k) / s + s / 2
        upper = mp.erfc(-self.sign * d1 / mp.sqrt(2)) / 2
        lower = mp.erfc(-self.sign * (d1 - s) / mp.sqrt(2)) / 2
        return self.sign * mp.exp(-r * t) * (f * upper - k * lower)

    def derivative(self, **orders: int) -> mp.mpf:
        """Partial derivative by central differences in 60 digits (error near 1e-20)."""
        names = ("f", "k", "t", "vol", "r")
        stencils = {
            1: ((1, mp.mpf(1) / 2), (-1, -mp.mpf(1) / 2)),
            2: ((1, mp.mpf(1)), (0, -mp.mpf(2)), (-1, mp.mpf(1))),
            3: (
                (2, mp.mpf(1) / 2),
                (1, -mp.mpf(1)),
                (-1, mp.mpf(1)),
                (-2, -mp.mpf(1) / 2),
            ),
        }
        total = [(list(self.arguments), mp.mpf(1))]
        for name, order in orders.items():
            i = names.index(name)
            step = abs(self.arguments[i]) * mp.mpf("1e-12")
            total = [
                ([*a[:i], a[i] + m * step, *a[i + 1 :]], w * c / step**order)
                for a, w in total
                for m, c in stencils[order]
            ]
        return mp.fsum(w * self.value(*a) for a, w in total)


GREEKS = {
    "delta": (1, {"f": 1}),
    "gamma": (1, {"f": 2}),
    "vega": (1, {"vol": 1}),
    "theta": (-1, {"t": 1}),
    "rho": (1, {"r": 1}),
    "vanna": (1, {"f": 1, "vol": 1}),
    "charm": (-1, {"f": 1, "t": 1}),
    "vomma": (1, {"vol": 2}),
    "speed": (1, {"f": 3}),
    "color": (-1, {"f": 2, "t": 1}),
}


def draw(n: int, seed: int, z: float, s: tuple[float, float]) -> dict[str, FloatArray]:
    """Random options: ``z`` standard deviations either side, total stdev log-uniform in ``s``."""
    rng = np.random.default_rng(seed)
    stdev = np.exp(rng.uniform(*np.log(s), n))
    t = np.exp(rng.uniform(np.log(1e-3), np.log(10.0), n))
    forward = np.exp(rng.uniform(np.log(0.1), np.log(1e4), n))
    return {
        "forward": forward,
        "strike": forward * np.exp(np.clip(rng.uniform(-z, z, n) * stdev, -100, 100)),
        "t_years": t,
        "vol": stdev / np.sqrt(t),
        "rate": rng.uniform(-0.05, 0.15, n),
        "is_call": rng.random(n) < 0.5,
    }


def exact_prices(option: dict[str, FloatArray]) -> list[mp.mpf]:
    with mp.workdps(60):
        return [Exact(*row).value() for row in zip(*option.values(), strict=True)]


# ------------------------------------------------------------------------------------ price


def test_published_prices() -> None:
    is_call, (k, f, r, t, vol, value) = table(HAUG)
    # The table is rounded to four decimals, its own source recomputes to 5.5e-5.
    np.testing.assert_allclose(black76.price(f, k, t, vol, r, is_call), value, atol=5.6e-5)


def test_published_prices_on_the_forward_of_a_spot() -> None:
    is_call, (k, spot, q, r, t, vol, value) = table(HAUG_SPOT)
    forward = spot * np.exp((r - q) * t)
    np.testing.assert_allclose(black76.price(forward, k, t, vol, r, is_call), value, atol=5.6e-5)


def test_price_has_twelve_digits_down_to_1e_200_of_the_forward() -> None:
    option = draw(1500, 1, 30.0, (1e-3, 10.0))
    ours = black76.price(**option)
    for got, want in zip(ours, exact_prices(option), strict=True):
        assert abs(got - want) <= 1e-12 * want + mp.mpf(1e-290)


def test_price_agrees_with_quantlib() -> None:
    option = draw(200, 2, 3.0, (0.01, 1.0))
    for got, (f, k, t, vol, r, call) in zip(
        black76.price(**option), zip(*option.values(), strict=True), strict=True
    ):
        kind = ql.Option.Call if call else ql.Option.Put
        want = ql.blackFormula(kind, k, f, vol * np.sqrt(t), np.exp(-r * t))
        assert got == pytest.approx(want, rel=1e-9, abs=1e-12 * f)


def test_price_at_the_ends() -> None:
    # No time and no volatility leave the intrinsic value.
    assert black76.price(100.0, 90.0, 0.0, 0.3, 0.05) == 10.0
    assert black76.price(100.0, 90.0, 1.0, 0.0, 0.05) == pytest.approx(10.0 * np.exp(-0.05))
    assert black76.price(100.0, 100.0, 0.0, 0.0) == 0.0
    assert black76.price(100.0, 90.0, 1.0, 1e3, 0.05) == pytest.approx(100.0 * np.exp(-0.05))
    assert black76.price(100.0, 90.0, 1.0, 1e3, 0.05, False) == pytest.approx(90 * np.exp(-0.05))


@pytest.mark.parametrize(
    "bad",
    [
        {"forward": np.nan},
        {"forward": 0.0},
        {"forward": -1.0},
        {"forward": np.inf},
        {"strike": 0.0},
        {"strike": np.nan},
        {"t_years": -0.1},
        {"t_years": np.nan},
        {"vol": -0.2},
        {"vol": np.inf},
        {"rate": np.nan},
        {"rate": np.inf},
    ],
)
def test_a_bad_value_is_nan_and_harms_no_other_row(bad: dict[str, float]) -> None:
    good = {"forward": 100.0, "strike": 95.0, "t_years": 0.5, "vol": 0.3, "rate": 0.04}
    mixed = {name: np.array([value, bad.get(name, value)]) for name, value in good.items()}
    price = black76.price(**mixed)
    assert price[0] == black76.price(**good)
    assert np.isnan(price[1])
    for values in black76.greeks(**mixed).values():
        assert np.isfinite(values[0])
        assert np.isnan(values[1])


def test_broadcasting_shapes_and_blocks() -> None:
    strikes = np.linspace(50.0, 150.0, 2 * BLOCK + 7)
    whole = black76.price(100.0, strikes, 0.5, 0.3, 0.02, strikes > 100.0)
    assert whole.shape == strikes.shape
    single = [float(black76.price(100.0, k, 0.5, 0.3, 0.02, k > 100.0)) for k in strikes[::1000]]
    np.testing.assert_array_equal(whole[::1000], single)
    grid = black76.price(100.0, strikes[:3, None], [0.1, 0.2], 0.3)
    assert grid.shape == (3, 2)
    assert black76.price(100, 100, 1, 1).shape == ()
    assert black76.price([], [], [], []).shape == (0,)


def test_wrong_dtypes_and_shapes_raise() -> None:
    with pytest.raises(TypeError, match="forward must hold real numbers"):
        black76.price("100", 100.0, 1.0, 0.2)
    with pytest.raises(TypeError, match="vol must hold real numbers"):
        black76.price(100.0, 100.0, 1.0, None)
    with pytest.raises(TypeError, match="is_call must be boolean"):
        black76.price(100.0, 100.0, 1.0, 0.2, 0.0, 1)
    with pytest.raises(TypeError, match="price must hold real numbers"):
        black76.implied_vol(1j, 100.0, 100.0, 1.0)
    with pytest.raises(ValueError, match="shape"):
        black76.price([1.0, 2.0], [1.0, 2.0, 3.0], 1.0, 0.2)


# ------------------------------------------------------------------------------------- Greeks


@pytest.fixture(scope="module")
def exact_greeks() -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    option = draw(60, 3, 5.0, (0.01, 2.0))
    with mp.workdps(80):
        exact = [Exact(*row) for row in zip(*option.values(), strict=True)]
        values = {
            name: np.array([float(sign * e.derivative(**orders)) for e in exact])
            for name, (sign, orders) in GREEKS.items()
        }
    return option, values


@pytest.mark.parametrize("name", GREEKS)
def test_greek_against_60_digits(
    name: str, exact_greeks: tuple[dict[str, FloatArray], dict[str, FloatArray]]
) -> None:
    option, values = exact_greeks
    f, k, t, vol, r, _ = option.values()
    ours = getattr(black76, name)(**option)
    # Where a Greek is the difference of two terms, 1e-12 holds against the larger of them.
    s = vol * np.sqrt(t)
    d1 = np.log(f / k) / s + s / 2
    d2 = d1 - s
    gamma, vega = np.abs(values["gamma"]), np.abs(values["vega"])
    scale = {
        "theta": np.abs(r * black76.price(**option)) + vega * vol / (2 * t),
        "vanna": vega / f / s * (1 + np.abs(d1) + s),
        "charm": np.abs(r * values["delta"]) + vega / (f * vol * t) / 2 * (1 + np.abs(d1) + s),
        "vomma": vega / vol * (1 + np.abs(d1)) * (1 + np.abs(d2)),
        "speed": gamma / f * (1 + np.abs(d1) / s),
        "color": gamma * (np.abs(r) + (1 + np.abs(d1 * d2)) / (2 * t)),
    }.get(name, np.abs(values[name]))
    assert np.max(np.abs(ours - values[name]) / scale) <= 1e-12
    np.testing.assert_array_equal(black76.greeks(**option)[name], ours)


@pytest.mark.parametrize("name", ["vanna", "vomma", "speed", "charm", "color"])
def test_differences_keep_twelve_digits_away_from_their_zeros(
    name: str, exact_greeks: tuple[dict[str, FloatArray], dict[str, FloatArray]]
) -> None:
    option, values = exact_greeks
    f, k, t, vol, r, _ = option.values()
    s = vol * np.sqrt(t)
    d1 = np.log(f / k) / s + s / 2
    clear = (np.abs(d1) > 0.5) & (np.abs(d1 - s) > 0.5) & (np.abs(d1 / s + 1) > 0.5)
    if name in {"charm", "color"}:
        clear &= np.abs(r) * t < 0.05
        clear &= np.abs(1 - d1 * (d1 - s)) > 0.2
    assert clear.sum() > 10
    ours = getattr(black76, name)(**option)
    np.testing.assert_allclose(ours[clear], values[name][clear], rtol=1e-12)


def test_greeks_keep_twelve_digits_thirty_standard_deviations_out() -> None:
    option = draw(100, 9, 30.0, (1e-3, 5.0))
    option["is_call"] = option["strike"] > option["forward"]
    ours = black76.greeks(**option)
    with mp.workdps(120):
        for i, row in enumerate(zip(*option.values(), strict=True)):
            exact = Exact(*row)
            for name in ("delta", "gamma", "vega"):
                want = exact.derivative(**GREEKS[name][1])
                assert abs(ours[name][i] - want) <= 1e-12 * abs(want) + mp.mpf(1e-290)


@pytest.mark.parametrize("is_call", [True, False])
def test_delta_and_price_do_not_cancel_at_large_total_stdev(is_call: bool) -> None:
    # Here d1 > 0 > d2: the tail of one leg is tiny and the complement of the other.
    option = draw(300, 12, 1.0, (1.0, 10.0))
    option["is_call"] = np.full(300, is_call)
    ours = black76.price_and_greeks(**option)
    with mp.workdps(60):
        for i, row in enumerate(zip(*option.values(), strict=True)):
            exact = Exact(*row)
            assert abs(ours["price"][i] / exact.value() - 1) <= 1e-13
            assert abs(ours["delta"][i] / exact.derivative(f=1) - 1) <= 1e-13


def test_price_and_greeks_are_those_of_each_name_to_the_last_digit() -> None:
    option = draw(BLOCK + 5, 10, 8.0, (1e-3, 5.0))
    for name, bad in (("t_years", 0.0), ("vol", 0.0), ("forward", np.nan), ("rate", np.inf)):
        option[name][:: 7 + len(name)] = bad
    ours = black76.price_and_greeks(**option)
    assert list(ours) == ["price", "delta", "gamma", "vega", "theta", "rho", "vanna", "charm"]
    for name, values in ours.items():
        np.testing.assert_array_equal(values, getattr(black76, name)(**option), err_msg=name)
    assert black76.price_and_greeks(100, [90, 110], 1, [[0.1], [0.2]])["charm"].shape == (2, 2)


def test_at_expiry_there_is_a_price_and_no_greek() -> None:
    for change in ({"t_years": 0.0}, {"vol": 0.0}):
        option = {"forward": 100.0, "strike": [90.0, 110.0], "t_years": 1.0, "vol": 0.3, **change}
        ours = black76.price_and_greeks(**option)
        np.testing.assert_array_equal(ours.pop("price"), [10.0, 0.0])
        assert all(np.isnan(values).all() for values in ours.values())


def test_published_greeks_of_futures_options() -> None:
    # Haug through QuantLib's testGreekValues.
    call, put = (
        black76.greeks(105.0, 100.0, 0.5, 0.36, 0.10, is_call) for is_call in (True, False)
    )
    assert call["delta"] == pytest.approx(0.5946, abs=5e-5)
    assert put["delta"] == pytest.approx(-0.3566, abs=5e-5)
    value = black76.price(105.0, 100.0, 0.5, 0.36, 0.10, False)
    assert put["delta"] * 105.0 / value == pytest.approx(-4.8775, abs=5e-5)


def test_published_greeks_of_spot_options() -> None:
    # Gamma and vega of an option on a spot without yield, by the chain rule on its forward.
    carry = np.exp(0.10 * 0.75)
    greeks = black76.greeks(55.0 * carry, 60.0, 0.75, 0.30, 0.10)
    assert greeks["gamma"] * carry**2 == pytest.approx(0.0278, abs=5e-5)
    assert greeks["vega"] == pytest.approx(18.9358, abs=5e-5)


def test_greeks_agree_with_quantlib() -> None:
    option = draw(100, 4, 2.5, (0.05, 0.8))
    ours = black76.greeks(**option)
    for i, (f, k, t, vol, r, call) in enumerate(zip(*option.values(), strict=True)):
        payoff = ql.PlainVanillaPayoff(ql.Option.Call if call else ql.Option.Put, float(k))
        black = ql.BlackCalculator(payoff, float(f), float(vol * np.sqrt(t)), float(np.exp(-r * t)))
        assert ours["delta"][i] == pytest.approx(black.deltaForward(), rel=1e-9)
        assert ours["gamma"][i] == pytest.approx(black.gammaForward(), rel=1e-9)
        assert ours["vega"][i] == pytest.approx(black.vega(float(t)), rel=1e-9)


def test_signs_say_what_passes_as_the_clock_runs() -> None:
    greeks = black76.greeks(100.0, 110.0, 0.25, 0.3, 0.0, True)
    assert greeks["theta"] < 0
    assert greeks["charm"] < 0  # an out-of-the-money call loses delta
    assert greeks["vanna"] > 0  # and gains some with volatility
    at_the_money = black76.greeks(100.0, 100.0, 0.25, 0.3, 0.0, True)
    assert at_the_money["color"] > 0  # gamma at the money grows towards expiry


# --------------------------------------------------------------------------------- implied vol


def implied_vol_case(z: float, s: tuple[float, float], seed: int) -> tuple[FloatArray, ...]:
    """Exact out-of-the-money prices rounded to float64, and what half a last digit is in vol."""
    option = draw(2000, seed, z, s)
    option["is_call"] = option["strike"] > option["forward"]
    price = np.array([float(p) for p in exact_prices(option)])
    with np.errstate(all="ignore"):
        floor = price * np.finfo(float).eps / (2 * black76.vega(**option) * option["vol"])
    keep = price > 1e-200 * option["forward"]
    vol = option.pop("vol")
    got, status = black76.implied_vol(price, **option)
    return np.abs(got / vol - 1)[keep], floor[keep], status[keep]


def test_implied_vol_to_1e_12_from_1e_200_of_the_forward_to_the_upper_bound() -> None:
    error, floor, status = implied_vol_case(30.0, (1e-3, 10.0), 5)
    assert error.size > 1500
    assert np.all(status == Status.SOLVED)
    assert np.all(error <= np.maximum(1e-12, 4 * floor))
    assert np.max(error[floor < 1e-14]) < 2e-13


def test_implied_vol_of_a_chain() -> None:
    error, _, status = implied_vol_case(2.5, (0.02, 1.0), 6)
    assert np.all(status == Status.SOLVED)
    assert np.max(error) < 1e-13


@pytest.mark.parametrize("moneyness", [1.0, 1.0 + 1e-9, 0.999, 1.3, 0.2, 1e-4, 1e30, 1e-150])
def test_implied_vol_round_trip_over_total_stdev(moneyness: float) -> None:
    s = np.geomspace(1e-3, 10.0, 400)
    strike = 80.0 * moneyness
    call = strike > 80.0
    price = black76.price(80.0, strike, 1.0, s, 0.03, call)
    usable = (price > 1e-290) & (price < 0.999999 * np.exp(-0.03) * min(80.0, strike))
    got, status = black76.implied_vol(price, 80.0, strike, 1.0, 0.03, call)
    assert np.all(status[usable] == Status.SOLVED)
    with np.errstate(all="ignore"):
        floor = price / (black76.vega(80.0, strike, 1.0, s, 0.03) * s) * 1e-16
    error = np.abs(got / s - 1)
    assert np.all(error[usable] <= np.maximum(2e-12, 20 * floor[usable]))


def test_implied_vol_agrees_with_a_root_finder() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        k, vol, t = rng.uniform(70, 140), rng.uniform(0.1, 0.9), rng.uniform(0.05, 2)
        price = float(black76.price(100.0, k, t, vol, 0.05, False))
        slow = brentq(
            lambda v, k=k, t=t, p=price: (
                ql.blackFormula(ql.Option.Put, k, 100.0, v * np.sqrt(t), np.exp(-0.05 * t)) - p
            ),
            1e-4,
            5.0,
            xtol=1e-14,
        )
        fast, status = black76.implied_vol(price, 100.0, k, t, 0.05, False)
        assert status == Status.SOLVED
        assert fast == pytest.approx(slow, rel=1e-9)


def test_in_the_money_prices() -> None:
    strike = np.linspace(60.0, 160.0, 101)
    vol = 0.25 + 0.1 * ((strike - 100) / 100) ** 2
    call, put = (black76.price(100.0, strike, 0.75, vol, 0.04, c) for c in (True, False))
    for price, is_call in ((call, True), (put, False)):
        got, status = black76.implied_vol(price, 100.0, strike, 0.75, 0.04, is_call)
        assert np.all(status == Status.SOLVED)
        np.testing.assert_allclose(got, vol, rtol=1e-11)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"price": np.nan}, Status.BAD_INPUT),
        ({"price": np.inf}, Status.BAD_INPUT),
        ({"forward": np.nan}, Status.BAD_INPUT),
        ({"forward": 0.0}, Status.BAD_INPUT),
        ({"strike": -90.0}, Status.BAD_INPUT),
        ({"t_years": np.nan}, Status.BAD_INPUT),
        ({"rate": np.inf}, Status.BAD_INPUT),
        ({"rate": 1e6}, Status.BAD_INPUT),
        ({"t_years": 0.0}, Status.EXPIRED),
        ({"t_years": -1.0}, Status.EXPIRED),
        ({"price": -1.0}, Status.BELOW_INTRINSIC),
        ({"price": 9.0}, Status.BELOW_INTRINSIC),
        ({"price": 10.0 * np.exp(-0.02)}, Status.AT_INTRINSIC),
        ({"price": 0.0, "strike": 110.0}, Status.AT_INTRINSIC),
        ({"price": 100.0 * np.exp(-0.02)}, Status.ABOVE_BOUND),
        ({"price": 1e9}, Status.ABOVE_BOUND),
        ({"price": 95.0, "is_call": False}, Status.ABOVE_BOUND),
    ],
)
def test_status_says_why_there_is_no_vol(change: dict[str, float], status: Status) -> None:
    row = {"price": 12.0, "forward": 100.0, "strike": 90.0, "t_years": 0.5, "rate": 0.04}
    good = {**row, "is_call": True}
    bad = {**good, **change}
    columns = {name: np.array([good[name], bad[name], good[name]]) for name in good}
    vol, got = black76.implied_vol(**columns)
    assert list(got) == [Status.SOLVED, status, Status.SOLVED]
    assert np.isnan(vol[1])
    assert vol[0] == vol[2] == black76.implied_vol(**good)[0]


def test_a_row_does_not_depend_on_its_batch() -> None:
    option = draw(3000, 8, 8.0, (0.01, 3.0))
    price = black76.price(**option)
    option.pop("vol")
    whole, _ = black76.implied_vol(price, **option)
    reverse = {name: values[::-1] for name, values in option.items()}
    np.testing.assert_array_equal(black76.implied_vol(price[::-1], **reverse)[0], whole[::-1])
    part = {name: values[1234:1241] for name, values in option.items()}
    np.testing.assert_array_equal(
        black76.implied_vol(price[1234:1241], **part)[0], whole[1234:1241]
    )


# -------------------------------------------------------------------------------- properties

prop = settings(deadline=None, derandomize=True)

any_float = st.floats(allow_nan=True, allow_infinity=True, width=64)
forwards = st.floats(0.01, 1e5)
moneyness = st.floats(0.2, 5.0)
times = st.floats(1e-3, 5.0)
vols = st.floats(0.01, 2.0)
rates = st.floats(-0.05, 0.2)


@given(any_float, any_float, any_float, any_float, any_float, any_float, st.booleans())
@prop
def test_no_floats_raise(
    price: float, f: float, k: float, t: float, vol: float, r: float, is_call: bool
) -> None:
    value = black76.price(f, k, t, vol, r, is_call)
    assert np.isnan(value) or value >= 0.0
    got, status = black76.implied_vol(price, f, k, t, r, is_call)
    assert int(status) in set(Status)
    assert (status == Status.SOLVED) == bool(got > 0.0)
    assert set(black76.greeks(f, k, t, vol, r, is_call)) == set(GREEKS)


@given(forwards, moneyness, times, vols, rates)
@prop
def test_put_call_parity(f: float, m: float, t: float, vol: float, r: float) -> None:
    k = f * m
    call, put = (black76.price(f, k, t, vol, r, c) for c in (True, False))
    assert call - put == pytest.approx(np.exp(-r * t) * (f - k), abs=1e-14 * (f + k))
    greeks = [black76.greeks(f, k, t, vol, r, c) for c in (True, False)]
    assert greeks[0]["delta"] - greeks[1]["delta"] == pytest.approx(np.exp(-r * t))
    for name in ("gamma", "vega", "vanna", "vomma", "speed", "color"):
        assert greeks[0][name] == greeks[1][name]


@given(forwards, moneyness, times, vols, rates, st.booleans(), st.floats(1e-3, 1e3))
@prop
def test_homogeneity(
    f: float, m: float, t: float, vol: float, r: float, is_call: bool, scale: float
) -> None:
    k = f * m
    one = black76.price(f, k, t, vol, r, is_call)
    many = black76.price(scale * f, scale * k, t, vol, r, is_call)
    assert many == pytest.approx(scale * one, rel=1e-9, abs=1e-290)


@given(forwards, moneyness, times, vols, rates, st.booleans())
@prop
def test_monotone_in_vol_strike_and_forward(
    f: float, m: float, t: float, vol: float, r: float, is_call: bool
) -> None:
    k = f * m
    up = 1.0 + 1e-6
    value = black76.price(f, k, t, vol, r, is_call)
    slack = 1e-14 * (f + k)
    assert black76.price(f, k, t, vol * up, r, is_call) >= value - slack
    sign = 1.0 if is_call else -1.0
    assert sign * (black76.price(f * up, k, t, vol, r, is_call) - value) >= -slack
    assert sign * (value - black76.price(f, k * up, t, vol, r, is_call)) >= -slack


@given(forwards, moneyness, times, vols, rates)
@settings(prop, max_examples=300)
def test_round_trip(f: float, m: float, t: float, vol: float, r: float) -> None:
    k = f * m
    call = k > f
    price = black76.price(f, k, t, vol, r, call)
    got, status = black76.implied_vol(price, f, k, t, r, call)
    if price < 1e-290:
        return
    assert status == Status.SOLVED
    # Halfway between: the price must come back, the vol where vega lets it.
    assert black76.price(f, k, t, got, r, call) == pytest.approx(float(price), rel=1e-11)
    assert got == pytest.approx(vol, rel=1e-10)
