"""Density, distribution and quantiles against closed forms, adaptive quadrature and Black-76."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from mathlib import black76, density, svi

Slice = tuple[float, float, float, float, float]

SKEWED: Slice = (0.002, 0.05, -0.4, -0.02, 0.08)  # an ordinary three-month smile
POINTED: Slice = (0.004, 0.04, -0.2, 0.01, 0.004)  # a vertex far narrower than the density
HEAVY: Slice = (0.01, 0.6, -0.3, 0.05, 0.5)  # wings near Lee's bound
OPTIMAL: Slice = (-0.0305199110, 0.1027167818, 0.1007176132, 0.2723441929, 0.4123981469)
VOGT: Slice = (-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)
FREE = (SKEWED, POINTED, HEAVY, OPTIMAL)
FORWARD = 85.0


def put(strike: mp.mpf, raw: Slice) -> mp.mpf:
    """Undiscounted Black put on the slice, in mpmath."""
    a, b, rho, m, sigma = (mp.mpf(x) for x in raw)
    k = mp.log(strike / FORWARD)
    w = a + b * (rho * (k - m) + mp.sqrt((k - m) ** 2 + sigma**2))
    d1 = -k / mp.sqrt(w) + mp.sqrt(w) / 2
    return strike * mp.ncdf(mp.sqrt(w) - d1) - FORWARD * mp.ncdf(-d1)


def test_flat_slice_is_lognormal() -> None:
    w, strike = 0.04, np.linspace(20.0, 250.0, 47)
    law = stats.lognorm(np.sqrt(w), scale=FORWARD * np.exp(-w / 2))
    flat = (w, 0.0, 0.0, 0.0, 0.1)
    np.testing.assert_allclose(density.pdf(strike, FORWARD, *flat), law.pdf(strike), rtol=1e-12)
    np.testing.assert_allclose(density.cdf(strike, FORWARD, *flat), law.cdf(strike), rtol=1e-11)
    p = np.array([1e-12, 0.01, 0.5, 0.99, 1 - 1e-12])
    np.testing.assert_allclose(density.quantile(p, FORWARD, *flat), law.ppf(p), rtol=1e-12)


@pytest.mark.parametrize("raw", FREE)
def test_density_and_distribution_are_derivatives_of_the_put(raw: Slice) -> None:
    with mp.workdps(40):
        for strike in (40.0, 70.0, 84.9, 85.2, 110.0, 200.0):
            first = mp.diff(lambda x: put(x, raw), strike)
            second = mp.diff(lambda x: put(x, raw), strike, 2)
            assert density.cdf(strike, FORWARD, *raw) == pytest.approx(float(first), rel=1e-10)
            assert density.pdf(strike, FORWARD, *raw) == pytest.approx(float(second), rel=1e-10)


@pytest.mark.parametrize("raw", FREE)
def test_mass_is_one_and_mean_is_the_forward(raw: Slice) -> None:
    def integral(power: int) -> float:
        def integrand(k: mp.mpf) -> mp.mpf:
            strike = FORWARD * np.exp(float(k))
            return float(density.pdf(strike, FORWARD, *raw)) * strike * mp.exp(power * k)

        m, sigma = raw[3], raw[4]
        cuts = [-200, -40, -8, -2, m - 3 * sigma, m, m + 3 * sigma, 2, 8, 40, 200]
        return float(mp.quad(integrand, sorted(set(cuts))))

    assert integral(0) == pytest.approx(1.0, abs=2e-7)
    assert integral(1) == pytest.approx(1.0, abs=2e-7)


@pytest.mark.parametrize("raw", FREE)
def test_quantile_inverts_the_distribution(raw: Slice) -> None:
    p = np.array([1e-9, 1e-3, 0.05, 0.25, 0.5, 0.75, 0.95, 0.999, 1 - 1e-9])
    strike = density.quantile(p, FORWARD, *raw)
    assert (np.diff(strike) > 0.0).all()
    np.testing.assert_allclose(density.cdf(strike, FORWARD, *raw), p, rtol=1e-9)


def test_digital_option_by_call_spread() -> None:
    strike, h = 92.0, 1e-4
    k = np.log(np.array([strike - h, strike + h]) / FORWARD)
    vol = np.sqrt(svi.total_variance(k, *SKEWED) / 0.25)
    low, high = black76.price(FORWARD, [strike - h, strike + h], 0.25, vol)
    above = (low - high) / (2.0 * h)
    assert 1.0 - density.cdf(strike, FORWARD, *SKEWED) == pytest.approx(above, abs=1e-7)


def test_grid_holds_the_mass_and_shows_the_shape() -> None:
    raw = np.array(FREE).T
    strike, pdf, cdf = density.grid(FORWARD, *raw)
    assert strike.shape == pdf.shape == cdf.shape == (4, 101)
    assert (np.diff(strike, axis=1) > 0.0).all()
    assert (pdf >= 0.0).all()
    assert (np.diff(cdf, axis=1) >= 0.0).all()
    assert (cdf[:, 0] < 1e-5).all()
    assert (cdf[:, -1] > 1.0 - 1e-5).all()
    np.testing.assert_allclose(np.trapezoid(pdf, strike, axis=1), 1.0, atol=6e-3)
    for i, slice_ in enumerate(FREE):
        fine = np.linspace(strike[i, 0], strike[i, -1], 200_001)
        exact = density.pdf(fine, FORWARD, *slice_)
        drawn = np.interp(fine, strike[i], pdf[i])
        assert np.trapezoid(np.abs(drawn - exact), fine) < 0.015
    fine_grid = density.grid(FORWARD, *raw, n=401)
    np.testing.assert_allclose(np.trapezoid(fine_grid[1], fine_grid[0], axis=1), 1.0, atol=5e-4)


def test_arbitrage_shows_as_negative_density() -> None:
    strike = FORWARD * np.exp(np.linspace(0.65, 1.25, 13))
    assert (density.pdf(strike, FORWARD, *VOGT) < 0.0).all()


def test_bad_input_is_nan_and_never_raises() -> None:
    assert density.pdf([0.0, -5.0], FORWARD, *SKEWED).tolist() == [0.0, 0.0]
    assert density.cdf([0.0, -5.0], FORWARD, *SKEWED).tolist() == [0.0, 0.0]
    assert np.isnan(density.pdf(80.0, [0.0, -1.0, np.nan], *SKEWED)).all()
    negative = (-1.0, 0.1, 0.0, 0.0, 0.1)
    assert np.isnan(density.pdf(80.0, FORWARD, *negative))
    assert np.isnan(density.cdf(80.0, FORWARD, *negative))
    assert np.isnan(density.quantile([0.5, 0.5, 0.0, 1.0, np.nan], [85, -1, 85, 85, 85],
                                     *SKEWED))[1:].all()  # fmt: skip
    assert np.isnan(density.quantile(0.5, FORWARD, *negative))
    for values in density.grid([np.nan, FORWARD], *np.array([SKEWED, negative]).T):
        assert np.isnan(values).all()
    assert density.grid([], [], [], [], [], [])[0].shape == (0, 101)
    with pytest.raises(ValueError, match="n: 2, expected at least 3"):
        density.grid(FORWARD, *SKEWED, n=2)
    with pytest.raises(ValueError, match=r"expected \(slices,\)"):
        density.grid([[FORWARD]], *SKEWED)


ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(*[ANY_FLOAT] * 7), min_size=1, max_size=4))
def test_no_float_raises(rows: list[tuple[float, ...]]) -> None:
    values = np.array(rows).T
    density.pdf(*values)
    density.cdf(*values)
    density.quantile(*values)
    density.grid(*values[1:], n=5)


def test_results_do_not_depend_on_the_batch() -> None:
    raw = np.repeat(np.array(FREE).T, 7, axis=1)
    raw[0] *= np.linspace(1.0, 1.3, 28)
    p = np.linspace(0.01, 0.99, 28)
    whole: NDArray[np.float64] = density.quantile(p, FORWARD, *raw)
    grids = density.grid(FORWARD, *raw)
    for i in range(28):
        assert whole[i] == density.quantile(p[i], FORWARD, *raw[:, i])
        for one, among in zip(density.grid(FORWARD, *raw[:, i]), grids, strict=True):
            np.testing.assert_array_equal(one[0], among[i])
