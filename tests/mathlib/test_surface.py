"""The money, delta strikes, risk reversals and constant maturities against slow, obvious twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from mathlib import black76, surface, svi

Slice = tuple[float, float, float, float, float]

NEAR: Slice = (0.001, 0.03, -0.3, 0.0, 0.05)
FAR: Slice = (0.006, 0.06, -0.35, 0.01, 0.12)
T_NEAR, T_FAR = 0.1, 0.35
FORWARD = 85.0
DELTAS = np.array([0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.99])


def vol_at(k: float, raw: Slice, t: float) -> float:
    return float(np.sqrt(svi.total_variance(k, *raw) / t))


def test_the_money_is_the_vol_curve_there() -> None:
    got = surface.at_the_money(*np.array([NEAR, FAR]).T, [T_NEAR, T_FAR])
    assert list(got) == ["atm_iv", "skew", "curvature"]
    h = 1e-4
    for i, (raw, t) in enumerate(((NEAR, T_NEAR), (FAR, T_FAR))):
        below, here, above = (vol_at(k, raw, t) for k in (-h, 0.0, h))
        assert got["atm_iv"][i] == pytest.approx(here, rel=1e-14)
        assert got["skew"][i] == pytest.approx((above - below) / (2 * h), rel=1e-5)
        assert got["curvature"][i] == pytest.approx((above - 2 * here + below) / h**2, rel=1e-4)
    # The published skew of an SSVI slice, Gatheral and Jacquier (2014) section 4:
    # rho sqrt(theta) phi / (2 sqrt(t)).
    theta, phi, rho = 0.05, 1.4, -0.4
    cosine = np.sqrt(1.0 - rho**2)
    ssvi = (0.5 * theta * cosine**2, 0.5 * theta * phi, rho, -rho / phi, cosine / phi)
    found = surface.at_the_money(*ssvi, 0.5)
    assert found["atm_iv"] == pytest.approx(np.sqrt(theta / 0.5), rel=1e-14)
    assert found["skew"] == pytest.approx(rho * np.sqrt(theta) * phi / (2 * np.sqrt(0.5)))


def spread_of(size: float, seed: int = 0) -> np.ndarray:
    """A covariance of the coordinates with correlations between them."""
    mix = np.random.default_rng(seed).normal(size=(5, 5))
    scale = size * np.array([1.0, 0.1, 1.0, 1.0, 1.0])
    return scale[:, None] * (mix @ mix.T / 5.0) * scale


@pytest.mark.parametrize(("raw", "t"), [(NEAR, T_NEAR), (FAR, T_FAR)])
def test_errors_at_the_money_equal_a_monte_carlo(raw: Slice, t: float) -> None:
    covariance = spread_of(0.01)
    got = surface.at_the_money(*raw, t, covariance)
    rng = np.random.default_rng(1)
    moved = rng.multivariate_normal(svi.to_coordinates(*raw), covariance, 40_000)
    drawn = surface.at_the_money(*svi.from_coordinates(moved.T), t)
    for name in ("atm_iv", "skew", "curvature"):
        assert got[f"{name}_se"] == pytest.approx(np.std(drawn[name]), rel=0.02), name


def test_errors_at_the_money_take_the_gradient_of_the_formula() -> None:
    centre, h = svi.to_coordinates(*FAR), 1e-6
    for i in range(5):
        # All the error in one coordinate: the standard error is the derivative to it.
        only = np.zeros((5, 5))
        only[i, i] = 1.0
        got = surface.at_the_money(*FAR, T_FAR, only)
        step = h * np.eye(5)[i]
        low, high = (
            surface.at_the_money(*svi.from_coordinates(centre + x), T_FAR) for x in (-step, step)
        )
        for name in ("atm_iv", "skew", "curvature"):
            slope = abs(high[name] - low[name]) / (2.0 * h)
            assert got[f"{name}_se"] == pytest.approx(slope, rel=1e-6, abs=1e-9), (name, i)


def test_the_money_without_a_slice_or_a_covariance() -> None:
    got = surface.at_the_money(
        [NEAR[0], -1.0, np.nan, NEAR[0]], *NEAR[1:], [T_NEAR, T_NEAR, T_NEAR, 0.0],
        np.broadcast_to(np.eye(5), (4, 5, 5)),
    )  # fmt: skip
    for name, values in got.items():
        assert np.isnan(values).tolist() == [False, True, True, True], name
    alone = surface.at_the_money(*NEAR, T_NEAR, np.full((5, 5), np.nan))
    assert np.isfinite(alone["skew"])
    assert np.isnan(alone["skew_se"])
    # A flat slice has no wings to err in.
    flat = surface.at_the_money(0.04, 0.0, 0.0, 0.0, 0.1, 1.0, 1e-4 * np.eye(5))
    assert flat["atm_iv_se"] == pytest.approx(0.5 * 0.01 * 0.2)
    assert (flat["skew"], flat["skew_se"]) == (0.0, 0.0)
    with pytest.raises(ValueError, match=r"covariance: shape \(5, 5\), expected \(2, 5, 5\)"):
        surface.at_the_money(*NEAR, [T_NEAR, T_FAR], np.eye(5))


@pytest.mark.parametrize("is_call", [True, False])
def test_strike_has_the_delta_that_was_asked(is_call: bool) -> None:
    k, vol = surface.delta_strike(DELTAS, FORWARD, T_FAR, *FAR, is_call=is_call)
    found = black76.delta(FORWARD, FORWARD * np.exp(k), T_FAR, vol, 0.0, is_call)
    np.testing.assert_allclose(np.abs(found), DELTAS, rtol=1e-11)
    np.testing.assert_allclose(vol, [vol_at(x, FAR, T_FAR) for x in k], rtol=1e-14)
    signed = surface.delta_strike(-DELTAS, FORWARD, T_FAR, *FAR, is_call=is_call)
    np.testing.assert_array_equal(signed[0], k)
    for delta, ours in zip(DELTAS, k, strict=True):

        def miss(x: float, delta: float = delta) -> float:
            at = black76.delta(FORWARD, FORWARD * np.exp(x), T_FAR, vol_at(x, FAR, T_FAR), 0.0,
                               is_call)  # fmt: skip
            return float(np.abs(at)) - delta

        assert ours == pytest.approx(brentq(miss, -3.0, 3.0, xtol=1e-13), abs=1e-9)


def test_discounted_delta() -> None:
    k, vol = surface.delta_strike(0.25, FORWARD, T_FAR, *FAR, 0.05, False)
    found = black76.delta(FORWARD, FORWARD * np.exp(k), T_FAR, vol, 0.05, False)
    assert found == pytest.approx(-0.25, rel=1e-11)


def test_risk_reversal_and_butterfly() -> None:
    rr, fly = surface.risk_reversal_butterfly([0.10, 0.25], T_FAR, *FAR)
    call, put = (
        surface.delta_strike([0.10, 0.25], FORWARD, T_FAR, *FAR, is_call=c)[1]
        for c in (True, False)
    )
    np.testing.assert_allclose(rr, call - put)
    np.testing.assert_allclose(fly, 0.5 * (call + put) - vol_at(0.0, FAR, T_FAR))
    assert (rr < 0.0).all()  # the slice leans to the puts
    flat = surface.risk_reversal_butterfly(0.25, 1.0, 0.04, 0.0, 0.0, 0.0, 0.1)
    np.testing.assert_allclose(flat, 0.0, atol=1e-15)


def test_constant_maturity_is_linear_in_total_variance() -> None:
    k = np.linspace(-0.3, 0.3, 13)
    t = np.array([T_NEAR, 0.2, 0.3, T_FAR])[:, None]
    vol = surface.constant_maturity_vol(k, t, T_NEAR, *NEAR, T_FAR, *FAR)
    share = (t - T_NEAR) / (T_FAR - T_NEAR)
    w = (1 - share) * svi.total_variance(k, *NEAR) + share * svi.total_variance(k, *FAR)
    np.testing.assert_allclose(vol, np.sqrt(w / t), rtol=1e-14)
    np.testing.assert_allclose(vol[0], [vol_at(x, NEAR, T_NEAR) for x in k], rtol=1e-14)
    np.testing.assert_allclose(vol[-1], [vol_at(x, FAR, T_FAR) for x in k], rtol=1e-14)
    # No calendar arbitrage appears between the expiries.
    assert (np.diff(vol**2 * t, axis=0) > 0.0).all()


def test_before_the_first_expiry_vol_is_flat_and_after_the_last_there_is_none() -> None:
    missing = (np.nan,) * 6
    early = surface.constant_maturity_vol(-0.1, [0.02, T_NEAR], T_NEAR, *NEAR, *missing)
    np.testing.assert_allclose(early, vol_at(-0.1, NEAR, T_NEAR), rtol=1e-14)
    outside = surface.constant_maturity_vol(
        0.0, [0.36, 0.0, -1.0, np.nan], T_NEAR, *NEAR, T_FAR, *FAR
    )
    assert np.isnan(outside).all()
    assert np.isnan(surface.constant_maturity_vol(0.0, 0.2, T_NEAR, *NEAR, *missing))


@pytest.mark.parametrize("t", [0.03, T_NEAR, 0.2, T_FAR])
@pytest.mark.parametrize("is_call", [True, False])
def test_constant_maturity_delta_has_its_delta_and_vol(t: float, is_call: bool) -> None:
    k, vol = surface.constant_maturity_delta(DELTAS, is_call, t, T_NEAR, *NEAR, T_FAR, *FAR)
    found = black76.delta(FORWARD, FORWARD * np.exp(k), t, vol, 0.0, is_call)
    np.testing.assert_allclose(np.abs(found), DELTAS, rtol=1e-11)
    np.testing.assert_allclose(
        vol, surface.constant_maturity_vol(k, t, T_NEAR, *NEAR, T_FAR, *FAR), rtol=1e-13
    )


def test_constant_maturity_delta_at_an_expiry_is_that_expirys() -> None:
    missing = (np.nan,) * 6
    ours = surface.constant_maturity_delta(DELTAS, True, T_NEAR, T_NEAR, *NEAR, *missing)
    plain = surface.delta_strike(DELTAS, FORWARD, T_NEAR, *NEAR)
    np.testing.assert_allclose(ours, plain, rtol=1e-11, atol=1e-14)
    late = surface.constant_maturity_delta(DELTAS, True, 1.0, T_NEAR, *NEAR, T_FAR, *FAR)
    assert np.isnan(late).all()


def test_impossible_deltas_are_nan() -> None:
    k, vol = surface.delta_strike([0.0, 1.0, 1.5, np.nan], FORWARD, T_FAR, *FAR)
    assert np.isnan(k).all()
    assert np.isnan(vol).all()
    for forward, t in ((-1.0, T_FAR), (FORWARD, 0.0), (FORWARD, np.nan)):
        assert np.isnan(surface.delta_strike(0.25, forward, t, *FAR)).all()
    assert np.isnan(surface.delta_strike(0.25, FORWARD, T_FAR, -1.0, 0.1, 0.0, 0.0, 0.1)).all()


ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(*[ANY_FLOAT] * 15), min_size=1, max_size=4), st.booleans())
def test_no_float_raises(rows: list[tuple[float, ...]], is_call: bool) -> None:
    values = np.array(rows).T
    surface.delta_strike(*values[:8], values[8], is_call)
    surface.risk_reversal_butterfly(*values[:7])
    surface.constant_maturity_vol(*values[:14])
    surface.constant_maturity_delta(values[0], is_call, *values[1:14])
    surface.at_the_money(*values[:6], np.broadcast_to(values[8:13, None, 0], (len(rows), 5, 5)))


def test_results_do_not_depend_on_the_batch() -> None:
    t = np.linspace(0.02, T_FAR, 40)
    whole = surface.constant_maturity_delta(0.25, False, t, T_NEAR, *NEAR, T_FAR, *FAR)
    for i, x in enumerate(t):
        alone = surface.constant_maturity_delta(0.25, False, x, T_NEAR, *NEAR, T_FAR, *FAR)
        assert (alone[0], alone[1]) == (whole[0][i], whole[1][i])
    covariance = np.broadcast_to(spread_of(0.02), (40, 5, 5))
    money = surface.at_the_money(*FAR, t, covariance)
    for i, x in enumerate(t):
        for name, value in surface.at_the_money(*FAR, x, covariance[i]).items():
            assert value == money[name][i], name
