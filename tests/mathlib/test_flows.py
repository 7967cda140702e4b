"""Exposures in USD, dealer conventions, and the level where net gamma is zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from mathlib import black76, flows
from mathlib.flows import ZeroGamma

prop = settings(deadline=None, derandomize=True)

OPTION: dict[str, Any] = {
    "forward": 84.0,
    "strike": np.array([70.0, 80.0, 84.0, 90.0, 100.0]),
    "t_years": 0.2,
    "vol": np.array([0.38, 0.33, 0.31, 0.30, 0.32]),
    "rate": 0.04,
    "is_call": np.array([False, False, True, True, True]),
}


def test_exposures_are_what_a_small_move_does() -> None:
    quantity, multiplier = np.array([120.0, 300.0, 500.0, 250.0, 80.0]), 400.0
    ours = flows.exposures(**OPTION, quantity=quantity, multiplier=multiplier)

    def delta_usd(**moved: Any) -> np.ndarray:
        # The USD of futures that hedges the position; the forward of the unit is the one now.
        delta = black76.delta(**{**OPTION, **moved})
        return delta * quantity * multiplier * OPTION["forward"]

    one_percent = 0.01 * OPTION["forward"]
    h = 1e-4
    up, down = (delta_usd(forward=OPTION["forward"] + s * h) for s in (1, -1))
    np.testing.assert_allclose(ours["gex"], (up - down) / (2 * h) * one_percent, rtol=1e-6)
    up, down = (delta_usd(vol=OPTION["vol"] + s * h) for s in (1, -1))
    np.testing.assert_allclose(ours["vanna"], (up - down) / (2 * h) * 0.01, rtol=1e-6)
    up, down = (delta_usd(t_years=OPTION["t_years"] + s * h) for s in (1, -1))
    np.testing.assert_allclose(ours["charm"], -(up - down) / (2 * h) / 365, rtol=1e-5)


def test_gamma_exposure_is_the_formula_that_is_quoted() -> None:
    gamma = black76.gamma(**OPTION)
    ours = flows.exposures(**OPTION, quantity=100, multiplier=50_000)
    np.testing.assert_allclose(ours["gex"], gamma * 100 * 50_000 * 84.0**2 * 0.01, rtol=1e-14)


def test_exposures_of_a_holder_scale_and_pass_nan_on() -> None:
    one = flows.exposures(**OPTION, quantity=1.0, multiplier=400.0)
    assert np.all(one["gex"] > 0)
    many = flows.exposures(**OPTION, quantity=[0.0, 7.0, np.nan, -7.0, 1.0], multiplier=400.0)
    for name in ("gex", "vanna", "charm"):
        assert many[name][0] == 0.0
        assert many[name][1] == pytest.approx(7 * one[name][1])
        assert np.isnan(many[name][2])
        assert many[name][3] == pytest.approx(-7 * one[name][3])
    expired = flows.exposures(**{**OPTION, "t_years": 0.0}, quantity=1.0, multiplier=400.0)
    assert np.all(np.isnan(expired["gex"]))
    with pytest.raises(TypeError, match="quantity must hold real numbers"):
        flows.exposures(**OPTION, quantity="all", multiplier=1.0)


def test_exposures_of_greeks_that_are_there() -> None:
    greeks = black76.price_and_greeks(**OPTION)
    quantity = np.array([120.0, 0.0, 500.0, np.nan, 80.0])
    held = flows.exposures(**OPTION, quantity=quantity, multiplier=400.0)
    shared = flows.exposures_of(greeks, OPTION["forward"], quantity, 400.0)
    assert list(shared) == list(held) == ["gex", "vanna", "charm"]
    # A dealer's exposures come from the dealer's position.
    sign = flows.signs("calls_long_puts_short", OPTION["is_call"])
    dealers = flows.exposures_of(greeks, OPTION["forward"], sign * quantity, 400.0)
    for name, values in held.items():
        np.testing.assert_array_equal(shared[name], values)
        np.testing.assert_array_equal(dealers[name], sign * values)
    with pytest.raises(KeyError, match="charm"):
        flows.exposures_of({"gamma": 1.0, "vanna": 1.0}, 84.0, 1.0, 400.0)
    with pytest.raises(TypeError, match="vanna must hold real numbers"):
        flows.exposures_of({**greeks, "vanna": "much"}, 84.0, 1.0, 400.0)
    with pytest.raises(ValueError, match="shape"):
        flows.exposures_of(greeks, 84.0, [1.0, 2.0], 400.0)


def test_signs_of_each_convention() -> None:
    is_call = np.array([True, False])
    np.testing.assert_array_equal(flows.signs("dealer_short", is_call), [-1.0, -1.0])
    np.testing.assert_array_equal(flows.signs("dealer_long", is_call), [1.0, 1.0])
    np.testing.assert_array_equal(flows.signs("calls_long_puts_short", is_call), [1.0, -1.0])
    with pytest.raises(ValueError, match="dealer_short, dealer_long, calls_long_puts_short"):
        flows.signs("market_maker", is_call)


# ---------------------------------------------------------------------------------- zero gamma


def chains(n: int, seed: int) -> dict[str, Any]:
    """Chains of 0-40 options with put interest below the money and call interest above it."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 41, n)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    rows = int(offsets[-1])
    t = np.repeat(rng.uniform(0.02, 1.0, n), sizes)
    forward = np.repeat(rng.uniform(50.0, 150.0, n), sizes)
    vol = rng.uniform(0.2, 0.5, rows)
    z = rng.uniform(-2.0, 2.0, rows)
    is_call = z + 0.5 * rng.standard_normal(rows) > 0
    return {
        "offsets": offsets,
        "forward": forward,
        "strike": forward * np.exp(z * vol * np.sqrt(t)),
        "t_years": t,
        "vol": vol,
        "rate": np.full(rows, 0.04),
        "is_call": is_call,
        "signed_quantity": rng.integers(1, 1000, rows) * np.where(is_call, 1.0, -1.0),
    }


def slow_zero(chain: dict[str, Any], part: slice) -> float:
    """The obvious twin: a fine grid of re-priced net gammas and a root finder, one chain."""

    f, k, t, v, r = (chain[name][part] for name in ("forward", "strike", "t_years", "vol", "rate"))

    def net(log_scale: Any) -> Any:
        moved = f * np.exp(np.asarray(log_scale)[..., None])
        gamma = black76.gamma(moved, k, t, v, r)
        return np.sum(gamma * chain["signed_quantity"][part] * moved**2, axis=-1)

    grid = np.linspace(np.log(0.5), np.log(2.0), 4001)
    values = net(grid)
    at = np.flatnonzero(values[:-1] * values[1:] < 0)
    roots = [brentq(net, grid[i], grid[i + 1], xtol=1e-15) for i in at]
    return float(np.exp(min(roots, key=abs))) if roots else np.nan


def test_zero_gamma_is_the_nearest_root_of_the_repriced_profile() -> None:
    many = chains(24, 30)
    scale, status = flows.zero_gamma(**many)
    solved = 0
    for i in range(24):
        part = slice(many["offsets"][i], many["offsets"][i + 1])
        if status[i] == ZeroGamma.SOLVED:
            assert scale[i] == pytest.approx(slow_zero(many, part), rel=1e-12)
            solved += 1
        else:
            assert np.isnan(scale[i])
            if status[i] == ZeroGamma.NO_CROSSING:
                assert np.isnan(slow_zero(many, part))
    assert solved > 15


def test_zero_gamma_of_two_options_in_closed_form() -> None:
    # Equal vols and quantities: the densities meet where ln(F/K) + s^2/2 is opposite for both,
    # that is at the geometric mean of the strikes, less half the variance.
    scale, status = flows.zero_gamma(
        [0, 2], 100.0, [90.0, 110.0], 0.25, 0.3, 0.02, np.array([False, True]), [-5.0, 5.0]
    )
    assert status[0] == ZeroGamma.SOLVED
    want = np.sqrt(90.0 * 110.0) * np.exp(-0.5 * 0.3**2 * 0.25) / 100.0
    assert scale[0] == pytest.approx(want, rel=1e-13)


def test_zero_gamma_that_is_not_there_says_why() -> None:
    call = np.array([True, True, True, True, True, True, True, False])
    scale, status = flows.zero_gamma(
        [0, 0, 2, 4, 6, 8],
        100.0,
        [90.0, 110.0, 90.0, 110.0, 100.0, 100.0, 95.0, 105.0],
        0.5,
        [0.3, 0.3, 0.3, 0.3, 0.3, 0.3, np.nan, 0.3],
        0.0,
        call,
        [1.0, 2.0, 0.0, np.nan, 2.0, -1.0, 1.0, -1.0],
    )
    assert list(status) == [
        ZeroGamma.NO_OPTIONS,  # an empty chain
        ZeroGamma.ONE_SIGNED,
        ZeroGamma.NO_OPTIONS,  # nothing held, nothing known
        ZeroGamma.NO_CROSSING,  # one strike, more held than sold
        ZeroGamma.ONE_SIGNED,  # the row without a vol is left out
    ]
    assert np.all(np.isnan(scale))


def test_zero_gamma_of_a_chain_does_not_depend_on_the_others() -> None:
    many = chains(40, 31)
    scale, status = flows.zero_gamma(**many)
    offsets = many.pop("offsets")
    for i in (3, 17, 39):
        part = slice(offsets[i], offsets[i + 1])
        alone = {name: values[part] for name, values in many.items()}
        one_scale, one_status = flows.zero_gamma([0, part.stop - part.start], **alone)
        np.testing.assert_array_equal(one_scale, scale[i : i + 1])
        np.testing.assert_array_equal(one_status, status[i : i + 1])


def test_zero_gamma_of_nothing() -> None:
    no_calls = np.array([], bool)
    scale, status = flows.zero_gamma([0], [], [], [], [], 0.0, no_calls, [])
    assert scale.shape == status.shape == (0,)
    assert status.dtype == np.int8


@pytest.mark.parametrize("offsets", [[], [[0, 1]], [1, 2], [0, 2, 1, 2], [0, 1]])
def test_offsets_that_do_not_fit_raise(offsets: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"offsets|shape"):
        flows.zero_gamma(
            np.array(offsets, int), [1.0, 1.0], [1.0, 1.0], 1.0, 0.2, 0.0, True, [1.0, -1.0]
        )


def test_offsets_must_be_integers() -> None:
    with pytest.raises(TypeError, match="offsets must be integers"):
        flows.zero_gamma([0.0, 1.0], 1.0, [1.0], 1.0, 0.2, 0.0, True, 1.0)


any_float = st.floats(allow_nan=True, allow_infinity=True, width=64)
rows = st.lists(
    st.tuples(any_float, any_float, any_float, any_float, any_float, st.booleans(), any_float),
    max_size=12,
)


@given(rows, st.integers(0, 12))
@prop
def test_no_floats_raise(table: list[tuple[Any, ...]], cut: int) -> None:
    f, k, t, vol, r, _, q = (np.array([row[i] for row in table], float) for i in range(7))
    is_call = np.array([row[5] for row in table], bool)
    offsets = [0, min(cut, len(table)), len(table)]
    scale, status = flows.zero_gamma(offsets, f, k, t, vol, r, is_call, q)
    np.testing.assert_array_equal(status == ZeroGamma.SOLVED, np.isfinite(scale))
    assert np.all((scale[status == 0] >= 0.5) & (scale[status == 0] <= 2.0))
    flows.exposures(f, k, t, vol, r, is_call, q, 400.0)


def test_dealers_share_is_the_net_delta_that_they_must_hold() -> None:
    """Give dealers a share of every option, count deltas, and get the share back."""
    delta = np.abs(black76.delta(**OPTION))
    open_interest = np.array([120.0, 300.0, 500.0, 250.0, 80.0])
    sign = flows.signs("calls_long_puts_short", OPTION["is_call"])
    for share in (-1.0, -0.3, 0.0, 0.4, 1.0):
        held = share * sign * open_interest
        net = np.sum(held * black76.delta(**OPTION))
        found = flows.dealer_share(-net, np.sum(open_interest * delta))
        assert found == pytest.approx(share)
        exposures = flows.exposures(**OPTION, quantity=held, multiplier=400.0)
        others = flows.exposures(**OPTION, quantity=sign * open_interest, multiplier=400.0)
        np.testing.assert_allclose(exposures["gex"], found * others["gex"], atol=1e-9)


def test_dealers_share_that_cannot_be_is_nan() -> None:
    net = [10.0, 11.0, -10.0, 0.0, 5.0, np.nan, 5.0, 1.0]
    total = [10.0, 10.0, 10.0, 10.0, 0.0, 10.0, np.nan, -10.0]
    expected = [-1.0, np.nan, 1.0, 0.0, np.nan, np.nan, np.nan, np.nan]
    np.testing.assert_array_equal(flows.dealer_share(net, total), expected)
    with pytest.raises(TypeError, match="others_net must hold real numbers"):
        flows.dealer_share("short", 10.0)
    with pytest.raises(ValueError, match="broadcast"):
        flows.dealer_share([1.0, 2.0], [1.0, 2.0, 3.0])
