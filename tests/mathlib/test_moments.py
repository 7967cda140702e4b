"""Moments against closed forms, adaptive quadrature, Lee's formula and a bootstrap."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from mathlib import density, moments, svi
from mathlib.moments import MomentStatus

Slice = tuple[float, float, float, float, float]

SKEWED: Slice = (0.002, 0.05, -0.4, -0.02, 0.08)
POINTED: Slice = (0.004, 0.04, -0.2, 0.01, 0.0004)
WIDE: Slice = (0.02, 0.06, 0.1, 0.3, 1.5)
VOGT: Slice = (-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)
FORWARD = 85.0


def test_flat_slice_has_lognormal_moments() -> None:
    w = np.array([1e-6, 1e-3, 0.04, 0.5, 2.0])
    got = moments.from_svi(FORWARD, w, 0.0, 0.0, 0.0, 0.1)
    e = np.exp(w)
    expected = {
        "mass": np.ones(5),
        "mean": np.full(5, FORWARD),
        "variance": FORWARD**2 * np.expm1(w),
        "skew": (e + 2.0) * np.sqrt(np.expm1(w)),
        "kurtosis": e**4 + 2.0 * e**3 + 3.0 * e**2 - 3.0,
        "log_mean": -0.5 * w,
        "log_variance": w,
        "log_kurtosis": np.full(5, 3.0),
        "variance_swap": w,
        "q50": FORWARD * np.exp(-0.5 * w),
    }
    assert (got["status"] == MomentStatus.OK).all()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(got["log_skew"], 0.0, atol=1e-9)


@pytest.mark.parametrize("raw", [SKEWED, POINTED, WIDE])
def test_moments_equal_adaptive_quadrature(raw: Slice) -> None:
    m, sigma, s = raw[3], raw[4], float(np.sqrt(svi.total_variance(0.0, *raw)))
    spans = (1, 3, 6, 12, 25, 60, 200)
    cuts = sorted({m, *(m + x * sigma for x in (-20, -5, 5, 20)), *(s * x for x in spans),
                   *(-s * x for x in spans)})  # fmt: skip

    def expectation(of: Callable[[float], float]) -> float:
        def integrand(k: float) -> float:
            return of(k) * float(density.log_density(k, *raw))

        parts = itertools.pairwise(cuts)
        return sum(quad(integrand, *x, epsabs=1e-15, epsrel=1e-12, limit=200)[0] for x in parts)

    got = moments.from_svi(FORWARD, *raw)
    assert got["status"] == MomentStatus.OK
    first = expectation(lambda k: k)
    second, third, fourth = (expectation(lambda k, n=n: (k - first) ** n) for n in (2, 3, 4))  # type: ignore[misc]
    assert got["log_mean"] == pytest.approx(first, rel=1e-9)
    assert got["log_variance"] == pytest.approx(second, rel=1e-9)
    assert got["log_skew"] == pytest.approx(third / second**1.5, rel=1e-8, abs=1e-9)
    assert got["log_kurtosis"] == pytest.approx(fourth / second**2, rel=1e-8)
    second, third, fourth = (expectation(lambda k, n=n: np.expm1(k) ** n) for n in (2, 3, 4))  # type: ignore[misc]
    assert got["mean"] == pytest.approx(FORWARD, rel=1e-12)
    assert got["variance"] == pytest.approx(FORWARD**2 * second, rel=1e-9)
    assert got["skew"] == pytest.approx(third / second**1.5, rel=1e-7)
    assert got["kurtosis"] == pytest.approx(fourth / second**2, rel=1e-6)


def test_quantiles_and_tails_are_those_of_the_distribution() -> None:
    raw = np.array([SKEWED, POINTED, WIDE]).T
    got = moments.from_svi(FORWARD, *raw)
    for p in moments.QUANTILES:
        np.testing.assert_allclose(
            got[f"q{round(100 * p):02d}"], density.quantile(p, FORWARD, *raw), rtol=1e-12
        )
    np.testing.assert_allclose(got["p_down_10"], density.cdf(0.9 * FORWARD, FORWARD, *raw))
    np.testing.assert_allclose(got["p_up_10"], 1.0 - density.cdf(1.1 * FORWARD, FORWARD, *raw))


def test_log_contract_equals_its_strip_of_options() -> None:
    # Demeterfi et al. (1999): -2 E[ln(S/F)] = 2 * integral of out-of-the-money prices over K^2.
    from mathlib import black76

    k = np.linspace(-4.0, 4.0, 40_001)
    vol = np.sqrt(svi.total_variance(k, *SKEWED))
    price = black76.price(1.0, np.exp(k), 1.0, vol, 0.0, k > 0.0)
    strip = 2.0 * np.trapezoid(price * np.exp(-k), k)
    assert moments.from_svi(FORWARD, *SKEWED)["variance_swap"] == pytest.approx(strip, rel=1e-6)


@pytest.mark.parametrize(
    ("slope", "finite"),
    [(0.13, 4), (0.15, 3), (0.19, 3), (0.21, 2), (0.32, 2), (0.36, 1), (1.2, 1)],
)
def test_price_moments_end_where_lees_formula_says(slope: float, finite: int) -> None:
    # The right wing's slope is b(1 + rho); its bounds are 0.1436, 0.2020 and 0.3431.
    b, rho = 0.5 * (0.05 + slope), (slope - 0.05) / (slope + 0.05)
    got = moments.from_svi(FORWARD, 0.03, b, rho, 0.0, 0.2)
    names = ("mean", "variance", "skew", "kurtosis")
    assert [bool(np.isfinite(got[n])) for n in names] == [i < finite for i in range(4)]
    assert bool(got["status"] & MomentStatus.INFINITE) == (finite < 4)
    assert np.isfinite(got["log_kurtosis"])


def test_mass_and_mean_of_every_fitted_slice() -> None:
    rng = np.random.default_rng(1)
    n = 600
    sizes = rng.integers(3, 25, n)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    row = np.repeat(np.arange(n), sizes)
    t = np.exp(rng.uniform(np.log(2 / 365), np.log(2.0), n))
    atm = rng.uniform(0.1, 0.8, n)
    k = 1.5 * rng.normal(size=row.size) * (atm * np.sqrt(t))[row]
    vol = atm[row] * np.exp(0.15 * rng.normal(size=row.size))
    fit = svi.calibrate(offsets, k, vol, t)
    got = moments.from_fit(FORWARD, fit)
    assert (fit.status == 0).all()
    np.testing.assert_allclose(got["mass"], 1.0, atol=1e-9)
    np.testing.assert_allclose(got["mean"], FORWARD, rtol=1e-7)
    assert not (got["status"] & ~np.int8(MomentStatus.INFINITE)).any()


#: Nearly no variance at the least one, between wide wings: (forward, a, b, rho, m, sigma).
HOLLOW = (
    (89.75, -0.01558980640688203, 0.07576562642459181, -0.13801549744659045,
     -0.019848429060789638, 0.21456939370643538),
    (100.4, -0.015118743821545167, 0.07370114079034021, -0.16996960180665505,
     -0.0253629819869509, 0.21458393285962046),
    (114.2, -0.033661603680420114, 0.10420702638927712, -0.15991033422839146,
     -0.043207648725073815, 0.3368300310044832),
)  # fmt: skip


def test_mass_and_mean_of_hollow_slices() -> None:
    forward, *raw = np.array(HOLLOW).T
    got = moments.from_svi(forward, *raw)
    np.testing.assert_allclose(got["mass"], 1.0, rtol=1e-12)
    np.testing.assert_allclose(got["mean"], forward, rtol=1e-12)
    assert (got["status"] == MomentStatus.OK).all()
    for i, row in enumerate(HOLLOW):
        assert moments.from_svi(*row)["log_kurtosis"] == got["log_kurtosis"][i]
    bars = moments.standard_errors(forward, *raw, np.broadcast_to(1e-4 * np.eye(5), (3, 5, 5)))
    assert all(np.isfinite(x).all() for x in bars.values())


@st.composite
def extreme_slices(draw: st.DrawFn) -> Slice:
    """Slices with a least variance down to 1e-10 of the wings' and the vertex near to it."""

    def log_uniform(low: float, high: float) -> float:
        return float(10.0 ** draw(st.floats(low, high)))

    b, sigma = log_uniform(-3.0, 0.2), log_uniform(-3.0, 0.7)
    rho = draw(st.sampled_from((-1.0, 1.0))) * (1.0 - log_uniform(-4.0, 0.0))
    cosine = float(np.sqrt(1.0 - rho * rho))
    least = b * sigma * cosine * log_uniform(-10.0, 0.5)
    m = sigma * rho / cosine + draw(st.floats(-3.0, 3.0)) * float(np.sqrt(least))
    return least - b * sigma * cosine, b, rho, m, sigma


@settings(max_examples=500, deadline=None)
@given(extreme_slices())
def test_mass_and_mean_hold_or_the_status_says_so(raw: Slice) -> None:
    got = moments.from_svi(FORWARD, *raw)
    status = int(got["status"])
    if status & MomentStatus.BAD_INPUT:
        assert not svi.butterfly_free(*raw)
        return
    assert bool(status & MomentStatus.MASS_OFF) == (not abs(got["mass"] - 1.0) <= 1e-6)
    if not status & MomentStatus.MEAN_OFF:
        assert got["mean"] == pytest.approx(FORWARD, rel=1e-6)
    if svi.butterfly_free(*raw):
        assert got["mass"] == pytest.approx(1.0, abs=1e-9)
        assert not status & (MomentStatus.MASS_OFF | MomentStatus.NEGATIVE_DENSITY)
        if raw[1] * (1.0 + raw[2]) < 1.29:
            assert got["mean"] == pytest.approx(FORWARD, rel=1e-9)


def test_status_says_what_is_wrong() -> None:
    assert moments.from_svi(FORWARD, *VOGT)["status"] & MomentStatus.NEGATIVE_DENSITY
    at_bound = moments.from_svi(FORWARD, 0.04, 1.9, 0.0, 0.0, 0.2)
    assert at_bound["status"] & MomentStatus.MEAN_OFF
    bad = moments.from_svi(
        [FORWARD, -1.0, np.nan, FORWARD, FORWARD],
        [np.nan, 0.04, 0.04, -1.0, 0.0],
        [0.1, 0.1, 0.1, 0.1, 0.0],
        0.0,
        0.0,
        0.1,
    )
    assert bad["status"].tolist() == [MomentStatus.BAD_INPUT] * 5
    for name, values in bad.items():
        if name != "status":
            assert np.isnan(values).all(), name


def test_shapes_follow_the_arguments() -> None:
    one = moments.from_svi(FORWARD, *SKEWED)
    assert {x.shape for x in one.values()} == {()}
    empty = moments.from_svi(np.empty(0), *SKEWED)
    assert {x.shape for x in empty.values()} == {(0,)}
    many = moments.from_svi(np.full((2, 3), FORWARD), *SKEWED)
    for name, values in many.items():
        np.testing.assert_array_equal(values, np.full((2, 3), one[name]), err_msg=name)


def test_results_do_not_depend_on_the_batch() -> None:
    raw = np.repeat(np.array([SKEWED, POINTED, WIDE]).T, 60, axis=1)
    raw[0] *= np.linspace(1.0, 1.3, 180)
    covariance = np.broadcast_to(1e-3 * np.eye(5), (180, 5, 5))
    whole = moments.from_svi(FORWARD, *raw)
    errors = moments.standard_errors(np.full(180, FORWARD), *raw, covariance)
    for i in range(0, 180, 17):
        alone = moments.from_svi(FORWARD, *raw[:, i])
        for name, values in whole.items():
            assert values[i] == alone[name], name
        one = moments.standard_errors([FORWARD], *raw[:, i : i + 1], covariance[:1])
        for name, values in errors.items():
            assert values[i] == one[name][0], name


def test_error_bars_equal_a_bootstrap() -> None:
    rng = np.random.default_rng(2)
    t, noise, draws = 0.25, 0.01, 400
    k = np.linspace(-0.3, 0.25, 16)
    clean = np.sqrt(svi.total_variance(k, *SKEWED) / t)
    vol = clean * (1.0 + noise * rng.normal(size=(draws, k.size)))
    offsets = np.arange(draws + 1) * k.size
    fits = svi.calibrate(offsets, np.tile(k, draws), vol.ravel(), np.full(draws, t))
    raw = (fits.a, fits.b, fits.rho, fits.m, fits.sigma)
    spread = moments.from_svi(FORWARD, *raw)
    given = np.tile(noise * clean, draws)
    some = svi.calibrate(offsets, np.tile(k, draws), vol.ravel(), np.full(draws, t),
                         vol_error=given)  # fmt: skip
    bars = moments.from_fit(FORWARD, some)
    for name in ("log_variance", "variance_swap", "q05", "q50", "q95", "p_down_10", "p_up_10"):
        ratio = float(np.median(bars[f"{name}_se"]) / np.std(spread[name]))
        assert 0.6 < ratio < 1.6, (name, ratio)
    for name in ("log_skew", "log_kurtosis", "variance"):
        ratio = float(np.median(bars[f"{name}_se"]) / np.std(spread[name]))
        assert 0.4 < ratio < 2.5, (name, ratio)


def test_error_bars_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    n, noise = 400, 0.02
    raw = np.array([SKEWED]).T * np.exp(0.1 * rng.normal(size=(5, n)))
    t = np.full(n, 0.25)
    k = np.tile(np.linspace(-0.25, 0.25, 12), (n, 1))
    vol = np.sqrt(svi.total_variance(k, *raw[:, :, None]) / 0.25)
    vol *= 1.0 + noise * rng.normal(size=vol.shape)
    fit = svi.calibrate(np.arange(n + 1) * 12, k.ravel(), vol.ravel(), t)
    got, true = moments.from_fit(FORWARD, fit), moments.from_svi(FORWARD, *raw)
    for name in ("log_variance", "log_skew", "log_kurtosis", "q05", "q95", "p_down_10"):
        z = np.abs((got[name] - true[name]) / got[f"{name}_se"])
        assert 0.55 < (z < 1.0).mean() < 0.9, name
        assert (z < 3.0).mean() > 0.9, name


def test_a_slice_without_covariance_has_no_error() -> None:
    bars = moments.standard_errors([FORWARD], *(np.array([x]) for x in SKEWED),
                                   np.full((1, 5, 5), np.nan))  # fmt: skip
    assert all(np.isnan(x).all() for x in bars.values())
    assert "mass_se" not in bars
    with pytest.raises(ValueError, match=r"covariance: shape \(5, 5\), expected \(1, 5, 5\)"):
        moments.standard_errors([FORWARD], *(np.array([x]) for x in SKEWED), np.eye(5))


ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(*[ANY_FLOAT] * 6), min_size=1, max_size=4))
def test_no_float_raises(rows: list[tuple[float, ...]]) -> None:
    values = np.array(rows).T
    got = moments.from_svi(*values)
    bad = got["status"] == MomentStatus.BAD_INPUT
    assert np.isnan(got["log_mean"][bad]).all()
    moments.standard_errors(*values, np.full((len(rows), 5, 5), 1e-3))
