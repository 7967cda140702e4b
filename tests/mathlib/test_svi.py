"""SVI slices: published numbers, exact oracles, and no arbitrage whatever the quotes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import least_squares

from mathlib import black76, surface, svi

Array = NDArray[np.float64]
Slice = tuple[float, float, float, float, float]

# Gatheral & Jacquier (2014), in the order a, b, rho, m, sigma of this module.
VOGT: Slice = (-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)  # example 3.1
GUARANTEED: Slice = (0.0077408949, 0.0692420277, -0.3340365066, 0.0420337955, 0.1186080106)
OPTIMAL: Slice = (-0.0305199110, 0.1027167818, 0.1007176132, 0.2723441929, 0.4123981469)
VOGT_JW = (0.01742625, -0.1752111, 0.6997381, 1.316798, 0.0116249)  # example 5.1

CHAINS = Path(__file__).parents[2] / ".." / "shared" / "data" / "chains"


def params(fit: svi.SviFit) -> tuple[Array, Array, Array, Array, Array]:
    return fit.a, fit.b, fit.rho, fit.m, fit.sigma


def columns(fit: svi.SviFit) -> list[Array]:
    return [x[:, None] for x in params(fit)]


def random_slices(rng: np.random.Generator, n: int) -> tuple[Array, Array, Array]:
    """Return (5, n) raw parameters free of butterfly arbitrage, t, at-the-money total deviation."""
    t = np.exp(rng.uniform(np.log(0.03), np.log(1.0), n))
    scale = rng.uniform(0.15, 0.5, n) * np.sqrt(t)
    left, right = (rng.uniform(0.15, 0.8, n) * scale for _ in range(2))
    b, rho = 0.5 * (left + right), (right - left) / (right + left)
    m, sigma = rng.normal(0, 0.5, n) * scale, np.exp(rng.normal(0.1, 0.5, n)) * scale
    a = scale**2 - b * (np.hypot(m, sigma) - rho * m)
    free = svi.butterfly_free(a, b, rho, m, sigma)
    return np.stack([a, b, rho, m, sigma])[:, free], t[free], scale[free]


def noisy_chains(
    rng: np.random.Generator, raw: Array, t: Array, scale: Array, low: int, high: int, noise: float
) -> tuple[NDArray[np.int64], Array, Array]:
    n = rng.integers(low, high + 1, t.size)
    offsets = np.concatenate([[0], np.cumsum(n)])
    row = np.repeat(np.arange(t.size), n)
    k = rng.uniform(-1.8, 1.8, row.size) * scale[row]
    vol = np.sqrt(svi.total_variance(k, *raw[:, row]) / t[row])
    return offsets, k, vol * (1.0 + noise * rng.normal(size=k.size))


def dense_k(fit: svi.SviFit) -> Array:
    """Points of k that no check grid of the module shares, wings and vertex included."""
    far = np.sinh(np.linspace(-9.0, 9.0, 1501))
    near = np.linspace(-2.0, 2.0, 2001)
    shared = np.broadcast_to(np.concatenate([far, near]), (fit.a.size, 3502))
    own = fit.m[:, None] + fit.sigma[:, None] * np.sinh(np.linspace(-8.0, 8.0, 1501))
    return np.concatenate([shared, own], axis=1)


def assert_no_butterflies(fit: svi.SviFit) -> None:
    good = fit.status == 0
    k = dense_k(fit)[good]
    raw = [x[good] for x in columns(fit)]
    assert svi.durrleman_g(k, *raw).min(initial=1.0) >= 0.0
    assert (fit.b * (1.0 + np.abs(fit.rho)))[good].max(initial=0.0) <= 2.0
    assert (fit.a + fit.b * fit.sigma * np.sqrt(1.0 - fit.rho**2))[good].min(initial=1.0) >= 0.0
    assert svi.butterfly_free(*(x[good] for x in params(fit))).all()


# --- the formula and its checks -----------------------------------------------------------------


def test_vogt_slice_has_its_published_variance_and_g() -> None:
    k = np.array([-1.5, 0.0, 0.4])
    np.testing.assert_allclose(
        svi.total_variance(k, *VOGT), [0.1367819611, 0.01742625256, 0.01623656962], rtol=1e-9
    )
    np.testing.assert_allclose(
        svi.durrleman_g([-1.5, 0.0, 0.9], *VOGT),
        [0.2478306953, 1.038649731, -0.03268513071],
        rtol=1e-8,
    )
    assert svi.min_durrleman_g(*VOGT) == pytest.approx(-0.03286357, abs=5e-6)
    negative = np.linspace(-1.5, 1.5, 300_001)
    negative = negative[svi.durrleman_g(negative, *VOGT) < 0.0]
    assert negative[[0, -1]] == pytest.approx([0.64241, 1.25691], abs=2e-5)
    assert not svi.butterfly_free(*VOGT)


def test_published_repairs_are_free_of_butterflies() -> None:
    np.testing.assert_allclose(
        svi.total_variance([-1.5, 0.0, 0.4], *OPTIMAL),
        [0.1380576036, 0.01742633055, 0.01514407736],
        rtol=1e-5,  # the source's parameters are rounded
    )
    np.testing.assert_allclose(
        svi.durrleman_g([-1.5, 0.0, 0.9], *OPTIMAL),
        [0.2492476732, 1.041529529, 0.01074175286],
        rtol=1e-4,
    )
    k = np.linspace(-1.5, 1.5, 30_001)
    assert svi.durrleman_g(k, *OPTIMAL).min() == pytest.approx(0.0081183, abs=1e-6)
    assert svi.durrleman_g(k, *GUARANTEED).min() == pytest.approx(0.27783, abs=1e-5)
    assert svi.butterfly_free(*np.array([OPTIMAL, GUARANTEED]).T).all()


def test_jump_wings_of_the_published_slice_and_back() -> None:
    jw = svi.raw_to_jw(*VOGT, 1.0)
    np.testing.assert_allclose(jw, VOGT_JW, atol=5e-7)
    np.testing.assert_allclose(svi.jw_to_raw(*jw, 1.0), VOGT, atol=1e-12)


def test_guaranteed_and_optimal_repair_of_the_published_slice() -> None:
    v, psi, p, _, _ = (float(x) for x in svi.raw_to_jw(*VOGT, 1.0))
    c, v_min = svi.guaranteed_jw(v, psi, p)
    assert (float(c), float(v_min)) == pytest.approx((0.3493158, 0.01548182), abs=5e-8)
    for published, raw in (
        ((0.3493158, 0.01548182), GUARANTEED),
        ((0.8564763, 0.0116249), OPTIMAL),
    ):
        np.testing.assert_allclose(svi.jw_to_raw(v, psi, p, *published, 1.0), raw, atol=1e-6)


@given(
    b=st.floats(0.01, 0.9),
    rho=st.floats(-0.9, 0.9),
    m=st.floats(-0.5, 0.5),
    sigma=st.floats(0.05, 1.0),
    w_min=st.floats(0.01, 0.5),
    t=st.floats(0.02, 3.0),
)
def test_jump_wings_round_trip(
    b: float, rho: float, m: float, sigma: float, w_min: float, t: float
) -> None:
    raw = (w_min - b * sigma * np.sqrt(1.0 - rho**2), b, rho, m, sigma)
    jw = svi.raw_to_jw(*raw, t)
    back = svi.jw_to_raw(*jw, t)
    if abs(m - sigma * rho / np.sqrt(1 - rho**2)) < 1e-2:
        return  # the least variance is at the money: sigma is not determined by jump wings
    np.testing.assert_allclose(back, raw, rtol=1e-5, atol=1e-6)
    coordinates = svi.to_coordinates(*raw)
    np.testing.assert_allclose(svi.from_coordinates(coordinates), raw, rtol=1e-9, atol=1e-9)


def test_variance_equals_quantlibs() -> None:
    a, b, sigma, rho, m = -0.0666, 0.229, 0.337, 0.439, 0.193  # svivolatility.cpp
    forward, t = 123.45, 11.0 / 365.0
    section = ql.SviSmileSection(t, forward, [a, b, sigma, rho, m])
    k = np.linspace(-0.6, 0.6, 25)
    theirs = [section.variance(forward * np.exp(x)) for x in k]
    np.testing.assert_allclose(svi.total_variance(k, a, b, rho, m, sigma), theirs, rtol=1e-12)
    assert svi.total_variance(m, a, b, rho, m, sigma) == pytest.approx(a + b * sigma, rel=1e-14)


def test_derivatives_are_those_of_the_formula() -> None:
    k, h = np.linspace(-1.0, 1.0, 21), 1e-4
    _, first, second = svi.total_variance_derivatives(k, *VOGT)
    up, here, down = (svi.total_variance(k + s * h, *VOGT) for s in (1.0, 0.0, -1.0))
    np.testing.assert_allclose(first, (up - down) / (2 * h), atol=1e-8)
    np.testing.assert_allclose(second, (up - 2 * here + down) / h**2, atol=1e-6)


def exact_min_g_is_negative(raw: Slice) -> bool:
    """Sign of the least g by the roots of a polynomial, no grid.

    With k = m + sigma sinh(u), y = e^u, the function 4 w^2 g cosh(u)^3 is a Laurent polynomial in
    y of degree 5, so that g has a sign change exactly where y^5 times it has a positive root of
    odd order.
    """
    a, b, rho, m, sigma = raw
    poly = np.polynomial.Polynomial
    y = poly([0.0, 1.0])
    cosh, sinh = (y**2 + 1) / 2, (y**2 - 1) / 2  # times y
    w = a * y + b * sigma * (rho * sinh + cosh)  # times y
    k = m * y + sigma * sinh  # times y
    slope = rho * cosh + sinh  # w' = b slope / cosh
    first = cosh * (2 * w * cosh - b * k * slope) ** 2  # times y^5
    second = b**2 * cosh * slope**2 * (w * y + w**2 / 4)
    third = 2 * (b / sigma) * w**2 * y**3
    total = first - second + third
    roots = total.roots()
    real = np.sort(roots[(np.abs(roots.imag) < 1e-7 * np.abs(roots)) & (roots.real > 0)].real)
    edges = np.concatenate([[1e-12], np.sqrt(real[1:] * real[:-1]), [1e12]])
    scale = max(np.abs(total.coef))
    return bool((total(edges) / (scale * (1 + edges) ** 10) < -1e-14).any())


def test_butterfly_check_agrees_with_the_exact_polynomial() -> None:
    rng = np.random.default_rng(11)
    n = 400
    b = np.exp(rng.uniform(np.log(0.01), np.log(0.9), n))
    rho, m = rng.uniform(-0.95, 0.95, n), rng.normal(0.0, 0.3, n)
    sigma = np.exp(rng.uniform(np.log(0.02), np.log(1.0), n))
    least = np.exp(rng.uniform(np.log(0.002), np.log(0.3), n))
    raw = np.stack([least - b * sigma * np.sqrt(1 - rho**2), b, rho, m, sigma])
    inside = b * (1.0 + np.abs(rho)) < 1.99
    ours = svi.min_durrleman_g(*raw)
    clear = inside & (np.abs(ours) > 1e-7)
    exact = np.array([exact_min_g_is_negative(tuple(x)) for x in raw.T])
    assert 0.2 < exact[clear].mean() < 0.8
    np.testing.assert_array_equal(ours[clear] < 0.0, exact[clear])


def test_wings_beyond_lees_bound_are_arbitrage() -> None:
    # Slope 3: QuantLib's bound of 4 lets it through.
    assert not svi.butterfly_free(0.5, 2.0, 0.5, 0.0, 1.0)
    assert not svi.butterfly_free([np.nan, -1.0], 0.1, 0.0, 0.0, 0.1).any()
    assert svi.butterfly_free(0.04, 0.0, 0.0, 0.0, 0.1)


def test_calendar_check() -> None:
    near = (0.01, 0.05, -0.3, 0.0, 0.1)
    assert svi.calendar_free(near, (0.011, 0.05, -0.3, 0.0, 0.1))
    assert svi.calendar_free(near, near)
    assert not svi.calendar_free(near, (0.0099, 0.05, -0.3, 0.0, 0.1))
    # Above everywhere near the money, below only in a far wing.
    assert not svi.calendar_free(near, (0.02, 0.049, -0.3, 0.0, 0.1))
    assert not svi.calendar_free(near, (np.nan, 0.05, -0.3, 0.0, 0.1))


def test_repair_removes_butterflies_and_leaves_good_slices_alone() -> None:
    raw = np.array([VOGT, OPTIMAL, (0.04, 0.0, 0.0, 0.0, 0.1), (np.nan, 0.1, 0, 0, 0.1)]).T
    fixed = np.stack(svi.repair(*raw))
    np.testing.assert_array_equal(fixed[:, 1:3], raw[:, 1:3])
    assert svi.butterfly_free(*fixed)[:3].all()
    assert np.isnan(fixed[:, 3]).all()
    # As near to the slice as the published optimum, whose wing and least variance it shares.
    k = np.linspace(-0.5, 0.5, 101)
    ours, published = (
        np.abs(np.sqrt(svi.total_variance(k, *x)) - np.sqrt(svi.total_variance(k, *VOGT))).max()
        for x in (fixed[:, 0], OPTIMAL)
    )
    assert ours < published
    _, _, _, c, v_min = svi.raw_to_jw(*fixed[:, 0], 1.0)
    assert (float(c), float(v_min)) == pytest.approx((0.8564763, 0.0116249), rel=0.05)


# --- calibration --------------------------------------------------------------------------------


def test_exact_quotes_give_the_slice_back() -> None:
    raw, t, scale = random_slices(np.random.default_rng(1), 200)
    offsets, k, vol = noisy_chains(np.random.default_rng(2), raw, t, scale, 12, 30, 0.0)
    fit = svi.calibrate(offsets, k, vol, t)
    assert (fit.status == 0).all()
    assert np.quantile(fit.rmse_vol, 0.95) < 2e-5
    x = np.linspace(-1.5, 1.5, 31) * scale[:, None]
    found = np.sqrt(svi.total_variance(x, *columns(fit)) / t[:, None])
    true = np.sqrt(svi.total_variance(x, *raw[:, :, None]) / t[:, None])
    assert np.quantile(np.abs(found - true).max(axis=1), 0.9) < 1e-3


def twin(k: Array, vol: Array, t: float, weight: Array) -> Array:
    """Slow and obvious: scipy's least squares on raw parameters, several starts."""
    level = float(np.median(vol)) * np.sqrt(t)
    root = np.sqrt(weight / weight.mean())

    def miss(x: Array) -> Array:
        a, b, rho, m, sigma = x
        w = a + b * (rho * (k - m) + np.hypot(k - m, sigma))
        return root * (np.sqrt(np.maximum(w, 1e-12) / t) - vol)

    bounds = ([-1.0, 1e-6, -0.999, -2.0, 1e-4], [4.0, 1.0, 0.999, 2.0, 5.0])
    unit = [level**2, 0.3 * level, 0.5, level, level]
    fits = [
        least_squares(
            miss, [0.8 * level**2, 0.3 * level, 0.0, 0.0, s * level], bounds=bounds, x_scale=unit
        )
        for s in (0.5, 1.5)
    ]
    return np.asarray(min(fits, key=lambda f: f.cost).x)


def test_fit_is_as_good_as_the_slow_twin() -> None:
    rng = np.random.default_rng(3)
    raw, t, scale = random_slices(rng, 60)
    offsets, k, vol = noisy_chains(rng, raw, t, scale, 9, 20, 0.03)
    fit = svi.calibrate(offsets, k, vol, t)
    x = np.linspace(-1.5, 1.5, 31)
    ours, theirs, in_sample = [], [], []
    for i in range(t.size):
        part = slice(offsets[i], offsets[i + 1])
        slow = twin(k[part], vol[part], t[i], np.ones(part.stop - part.start))
        true = np.sqrt(svi.total_variance(x * scale[i], *raw[:, i]) / t[i])
        for out, p in ((ours, [q[i] for q in params(fit)]), (theirs, slow)):
            w = np.maximum(svi.total_variance(x * scale[i], *p), 0.0)
            out.append(np.mean((np.sqrt(w / t[i]) - true) ** 2))
        slow_vol = np.sqrt(np.maximum(svi.total_variance(k[part], *slow), 0.0) / t[i])
        in_sample.append(fit.rmse_vol[i] / np.sqrt(np.mean((slow_vol - vol[part]) ** 2)))
    # In sample the prior costs little, out of sample it pays.
    assert np.median(in_sample) < 1.1
    assert np.mean(ours) < np.mean(theirs)


def test_few_strikes_beat_a_flat_smile() -> None:
    rng = np.random.default_rng(4)
    raw, t, scale = random_slices(rng, 400)
    offsets, k, vol = noisy_chains(rng, raw, t, scale, 3, 5, 0.02)
    fit = svi.calibrate(offsets, k, vol, t)
    assert (fit.status == 0).all()
    assert_no_butterflies(fit)
    x = np.linspace(-1.5, 1.5, 31) * scale[:, None]
    true = np.sqrt(svi.total_variance(x, *raw[:, :, None]) / t[:, None])
    ours = np.sqrt(svi.total_variance(x, *columns(fit)) / t[:, None])
    flat = (scale / np.sqrt(t))[:, None]
    assert np.mean((ours - true) ** 2) < 0.5 * np.mean((flat - true) ** 2)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    noise=st.floats(0.0, 1.5),
    reach=st.floats(0.05, 6.0),
    strikes=st.integers(3, 60),
)
def test_no_fitted_slice_has_butterflies(
    seed: int, noise: float, reach: float, strikes: int
) -> None:
    rng = np.random.default_rng(seed)
    n = 12
    t = np.exp(rng.uniform(np.log(1 / 365), np.log(3.0), n))
    atm = np.exp(rng.uniform(np.log(0.05), np.log(1.5), n))
    sizes = rng.integers(3, strikes + 1, n)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    row = np.repeat(np.arange(n), sizes)
    x = reach * rng.normal(size=row.size)
    vol = atm[row] * np.exp(noise * rng.normal(size=row.size)) * (1 + 0.1 * np.minimum(x * x, 9))
    group = np.arange(n) // 4
    k = x * (atm * np.sqrt(t))[row]
    for fit in (
        svi.calibrate(offsets, k, vol, t),
        svi.calibrate(offsets, k, vol, t, group=group),
    ):
        assert (fit.status == 0).mean() > 0.7
        assert_no_butterflies(fit)
    order = np.lexsort((t, group))
    order = order[fit.status[order] == 0]
    w = svi.total_variance(dense_k(fit)[0], *(x[order] for x in columns(fit)))
    same = np.diff(group[order]) == 0
    assert (np.diff(w, axis=0)[same] >= 0.0).all()


ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=150, deadline=None)
@given(
    quotes=st.lists(st.tuples(ANY_FLOAT, ANY_FLOAT, ANY_FLOAT), max_size=30),
    t=st.lists(ANY_FLOAT, min_size=3, max_size=3),
    cuts=st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
def test_no_float_raises(
    quotes: list[tuple[float, float, float]], t: list[float], cuts: tuple[int, int]
) -> None:
    k, vol, weight = np.array(quotes, dtype=np.float64).reshape(-1, 3).T
    inner = sorted(min(c, k.size) for c in cuts)
    fit = svi.calibrate([0, *inner, k.size], k, vol, t, weight, group=[0, 0, 0], vol_error=weight)
    bad = fit.status != 0
    assert np.isnan(np.stack(params(fit))[:, bad]).all()
    assert np.isfinite(np.stack(params(fit))[:, ~bad]).all()
    assert_no_butterflies(fit)
    svi.durrleman_g(k, *np.broadcast_arrays(vol, weight, k, vol, weight))
    svi.repair(k, vol, weight, k, vol)


def test_bad_slices_have_a_status_and_no_numbers() -> None:
    good = np.linspace(-0.2, 0.2, 5)
    k = np.concatenate([good, good[:2], good, good, good, good])
    vol = np.full(k.size, 0.3)
    vol[7:10] = np.nan
    weight = np.ones(k.size)
    weight[22:25] = 0.0
    offsets = np.array([0, 5, 7, 12, 17, 22, 27])
    t = np.array([0.25, 0.25, 0.25, -1.0, np.nan, 0.25])
    fit = svi.calibrate(offsets, k, vol, t, weight)
    few, bad = svi.SviStatus.TOO_FEW, svi.SviStatus.BAD_INPUT
    assert fit.status.tolist() == [0, few, few, bad, bad, few]
    assert fit.n.tolist() == [5, 2, 2, 5, 5, 2]
    assert fit.rmse_vol[0] < 0.005
    for values in (*params(fit), fit.rmse_vol, fit.min_g, fit.noise_vol):
        assert np.isnan(values[1:]).all()
    assert np.isnan(fit.covariance[1:]).all()


def test_an_empty_batch_is_an_empty_fit() -> None:
    fit = svi.calibrate([0], [], [], [], group=[])
    assert fit.a.shape == (0,)
    assert fit.covariance.shape == (0, 5, 5)
    assert svi.calibrate([0, 0], [], [], [0.5]).status.tolist() == [svi.SviStatus.TOO_FEW]
    assert svi.calibrate([0, 0, 0], [], [], 0.5).n.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"offsets": [0.0, 3.0]}, TypeError, "offsets: dtype float64"),
        ({"offsets": [1, 3]}, ValueError, "offsets: must start at 0"),
        ({"offsets": [0, 2]}, ValueError, r"log_moneyness: shape \(3,\), expected \(2,\)"),
        ({"vol": [0.2, 0.2]}, ValueError, r"vol: shape \(2,\)"),
        ({"t_years": [0.1, 0.2]}, ValueError, r"t_years: shape \(2,\), expected \(1,\)"),
        ({"weight": [1.0]}, ValueError, r"weight: shape \(1,\)"),
        ({"group": [0, 1]}, ValueError, r"group: shape \(2,\)"),
        ({"group": [0.5]}, TypeError, "group: dtype float64"),
    ],
)
def test_wrong_shapes_and_types_raise(
    change: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments: dict[str, object] = {
        "offsets": [0, 3],
        "log_moneyness": [-0.1, 0.0, 0.1],
        "vol": [0.2, 0.2, 0.2],
        "t_years": [0.1],
    }
    with pytest.raises(error, match=message):
        svi.calibrate(**{**arguments, **change})  # type: ignore[arg-type]


def test_a_slice_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(5)
    raw, t, scale = random_slices(rng, 150)
    offsets, k, vol = noisy_chains(rng, raw, t, scale, 3, 40, 0.15)
    weight = rng.uniform(0.1, 3.0, k.size)
    whole = svi.calibrate(offsets, k, vol, t, weight)
    assert whole.repaired.any()
    for i in range(0, t.size, 3):
        part = slice(offsets[i], offsets[i + 1])
        alone = svi.calibrate([0, part.stop - part.start], k[part], vol[part], t[i : i + 1],
                              weight[part])  # fmt: skip
        for name in ("a", "b", "rho", "m", "sigma", "rmse_vol", "covariance", "min_g"):
            one, among = getattr(alone, name)[0], getattr(whole, name)[i]
            np.testing.assert_array_equal(one, among, err_msg=f"{name} of slice {i}")


def test_quotes_that_are_left_out_change_nothing() -> None:
    rng = np.random.default_rng(6)
    raw, t, scale = random_slices(rng, 20)
    offsets, k, vol = noisy_chains(rng, raw, t, scale, 5, 9, 0.05)
    plain = svi.calibrate(offsets, k, vol, t)
    # One quote without vol in front of each slice's own, and one of weight 0.
    at = np.repeat(offsets[:-1], 2)
    k2, vol2 = np.insert(k, at, 0.01), np.insert(vol, at, np.tile([np.nan, 9.0], t.size))
    weight = np.insert(np.full(k.size, 7.0), at, np.tile([7.0, 0.0], t.size))
    padded = svi.calibrate(offsets + 2 * np.arange(offsets.size), k2, vol2, t, weight)
    for one, other in zip(params(plain), params(padded), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(plain.n, padded.n)


def surfaces(rng: np.random.Generator, count: int, expiries: int) -> tuple[Array, Array]:
    """SSVI surfaces (Gatheral & Jacquier, section 4) without calendar arbitrage: raw, t."""
    t = np.sort(np.exp(rng.uniform(np.log(0.05), np.log(1.2), (count, expiries))), axis=1)
    theta = np.maximum.accumulate(rng.uniform(0.2, 0.4, (count, 1)) ** 2 * t, axis=1)
    rho = np.broadcast_to(rng.uniform(-0.6, 0.4, (count, 1)), t.shape)
    phi = rng.uniform(0.5, 1.0, (count, 1)) / np.sqrt(theta * (1.0 + theta))
    cosine = np.sqrt(1.0 - rho**2)
    raw = (0.5 * theta * cosine**2, 0.5 * theta * phi, rho, -rho / phi, cosine / phi)
    return np.stack([x.ravel() for x in raw]), t.ravel()


def test_expiries_of_a_group_do_not_cross() -> None:
    rng = np.random.default_rng(7)
    raw, t = surfaces(rng, 80, 5)
    scale = np.sqrt(svi.total_variance(0.0, *raw))
    group = np.repeat(np.arange(80), 5)
    offsets, k, vol = noisy_chains(rng, raw, t, scale, 6, 15, 0.04)
    shuffle = rng.permutation(t.size)  # the batch's order is not the expiries'
    order = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in shuffle])
    sizes = np.concatenate([[0], np.cumsum(np.diff(offsets)[shuffle])])
    free = svi.calibrate(sizes, k[order], vol[order], t[shuffle])
    bound = svi.calibrate(sizes, k[order], vol[order], t[shuffle], group=group[shuffle])
    assert (bound.status == 0).all()
    assert_no_butterflies(bound)
    x = np.concatenate([np.linspace(-1.5, 1.5, 601), [-50.0, -5.0, 5.0, 50.0]])
    back = np.argsort(shuffle)
    below = []
    for fit in (free, bound):
        w = svi.total_variance(x, *columns(fit))[back].reshape(80, 5, -1)
        below.append((np.diff(w, axis=1) < 0.0).any(axis=2).mean())
    assert below[0] > 0.1  # without the rule they do cross
    assert below[1] == 0.0
    # The rule does not cost accuracy.
    points = np.linspace(-1.5, 1.5, 31) * scale[:, None]
    true = np.sqrt(svi.total_variance(points, *raw[:, :, None]) / t[:, None])
    errors = [
        np.mean((np.sqrt(svi.total_variance(points, *(x[back] for x in columns(fit)))
                         / t[:, None]) - true) ** 2)
        for fit in (free, bound)
    ]  # fmt: skip
    assert errors[1] < 1.1 * errors[0]


def test_a_group_does_not_depend_on_other_groups() -> None:
    rng = np.random.default_rng(8)
    raw, t = surfaces(rng, 12, 4)
    scale = np.sqrt(svi.total_variance(0.0, *raw))
    offsets, k, vol = noisy_chains(rng, raw, t, scale, 4, 12, 0.06)
    group = np.repeat(np.arange(12), 4)
    whole = svi.calibrate(offsets, k, vol, t, group=group)
    for g in range(0, 12, 3):
        part = slice(offsets[4 * g], offsets[4 * g + 4])
        own = slice(4 * g, 4 * g + 4)
        alone = svi.calibrate(
            offsets[4 * g : 4 * g + 5] - part.start, k[part], vol[part], t[own], group=[7] * 4
        )
        for one, among in zip(params(alone), params(whole), strict=True):
            np.testing.assert_array_equal(one, among[own])


def test_only_ratios_of_weights_count() -> None:
    rng = np.random.default_rng(9)
    raw, t, scale = random_slices(rng, 30)
    offsets, k, vol = noisy_chains(rng, raw, t, scale, 6, 12, 0.05)
    weight = rng.uniform(0.1, 5.0, k.size)
    plain = svi.calibrate(offsets, k, vol, t, weight)
    for factor in (1e-250, 2.0**40, 1e250):
        scaled = svi.calibrate(offsets, k, vol, t, factor * weight)
        np.testing.assert_allclose(np.stack(params(scaled)), np.stack(params(plain)), rtol=1e-4)
    heavy = weight.copy()
    heavy[offsets[:-1]] = 1e6
    pinned = svi.calibrate(offsets, k, vol, t, heavy)
    first = svi.total_variance(k[offsets[:-1]], *params(pinned))
    np.testing.assert_allclose(np.sqrt(first / t), vol[offsets[:-1]], rtol=5e-3)


def test_error_bars_of_the_coordinates_hold_the_truth() -> None:
    rng = np.random.default_rng(10)
    raw, t, scale = random_slices(rng, 500)
    offsets, k, vol = noisy_chains(rng, raw, t, scale, 20, 30, 0.02)
    for error in (None, 0.02 * vol):
        fit = svi.calibrate(offsets, k, vol, t, vol_error=error)
        # The at-the-money vol is what the quotes fix best: its error by the chain rule.
        centre = svi.to_coordinates(*params(fit))
        slope = np.empty_like(centre)
        for i in range(5):
            step = np.zeros_like(centre)
            step[i] = 1e-5
            up, down = (
                svi.total_variance(0.0, *svi.from_coordinates(centre + s * step))
                for s in (1.0, -1.0)
            )
            slope[i] = (np.sqrt(up) - np.sqrt(down)) / 2e-5
        variance = np.einsum("in,nij,jn->n", slope, fit.covariance, slope)
        z = (np.sqrt(svi.total_variance(0.0, *params(fit))) - scale) / np.sqrt(variance)
        assert 0.8 < np.sqrt(np.mean(z**2)) < 1.3


def test_the_residuals_say_how_large_errors_are_of_which_the_quotes_say_the_ratios() -> None:
    rng = np.random.default_rng(13)
    raw, t, scale = random_slices(rng, 300)
    offsets, k, vol = noisy_chains(rng, raw, t, scale, 12, 30, 0.0)
    error = 0.02 * vol * np.exp(rng.normal(size=k.size))
    noisy = vol + error * rng.normal(size=k.size)

    def fit(factor: float) -> svi.SviFit:
        given = factor * error
        weight = 1.0 / error**2
        return svi.calibrate(offsets, k, noisy, t, weight, vol_error=given)

    def atm_z(found: svi.SviFit) -> Array:
        money = surface.at_the_money(*params(found), t, found.covariance)
        return (money["atm_iv"] - scale / np.sqrt(t)) / money["atm_iv_se"]

    for factor in (1.0, 3.0):  # spreads three times as wide as what mids are off by
        assert 0.6 < np.sqrt(np.mean(atm_z(fit(factor)) ** 2)) < 1.3, factor
    # Smoothed prices have no residuals: a tenth of the given error stays.
    smooth = svi.calibrate(offsets, k, vol, t, vol_error=error)
    whole = svi.calibrate(offsets, k, noisy, t, vol_error=error)
    size, full = (np.sqrt(x.covariance[:, 0, 0]) for x in (smooth, whole))
    assert 0.05 < np.median(size / full) < 0.3


def test_quotes_without_a_spread_have_the_error_of_their_residuals() -> None:
    rng = np.random.default_rng(14)
    raw, t, scale = random_slices(rng, 40)
    offsets, k, vol = noisy_chains(rng, raw, t, scale, 15, 30, 0.01)
    locked = svi.calibrate(offsets, k, vol, t, vol_error=np.zeros(k.size))
    equal = svi.calibrate(offsets, k, vol, t, vol_error=0.01 * np.ones(k.size))
    sizes = [
        surface.at_the_money(*params(fit), t, fit.covariance)["atm_iv_se"]
        for fit in (locked, equal)
    ]
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=0.25)


def test_few_quotes_take_the_errors_that_come_with_them() -> None:
    k, vol = np.array([-0.1, 0.0, 0.12, 0.2]), np.array([0.32, 0.30, 0.30, 0.31])
    errors = [
        surface.at_the_money(*params(fit), 0.25, fit.covariance)["atm_iv_se"].item()
        for fit in (
            svi.calibrate([0, 4], k, vol, [0.25], vol_error=np.full(4, error))
            for error in (0.004, 0.016)
        )
    ]
    assert 0.5 < errors[0] / 0.004 < 1.1
    assert 2.0 < errors[1] / errors[0] < 4.5


def test_share_of_quotes_that_hold_the_fit() -> None:
    fit = svi.calibrate([0, 5, 6], np.linspace(-0.2, 0.3, 6), np.full(6, 0.3), [0.5, 0.5])
    k = np.array([-0.1, 0.0, 0.1, 0.2, 0.0])
    bid = np.array([0.25, 0.31, np.nan, 0.2, 0.1])
    ask = np.array([0.35, 0.35, 0.40, 0.4, 0.9])
    share = svi.share_inside(fit, [0, 4, 5], k, bid, ask, [0.5, 0.5])
    assert share[0] == pytest.approx(2.0 / 3.0)
    assert np.isnan(share[1])


def test_errors_of_quotes_and_settlements() -> None:
    vega = float(black76.vega(80.0, 85.0, 0.25, 0.3))
    error = svi.quote_error([1.0, 0.0, 1.2], 1.1, 80.0, 85.0, 0.25, 0.3)
    assert error[0] == pytest.approx(0.1 / np.sqrt(12.0) / vega, rel=1e-12)
    assert np.isnan(error[1:]).all()
    rounded = svi.settlement_error([1.0, 0.025, np.nan], 0.025, 80.0, 85.0, 0.25, 0.3)
    assert rounded[0] == pytest.approx(0.025 / np.sqrt(12.0) / vega, rel=1e-12)
    assert np.isinf(rounded[1])
    weight = svi.error_weight([0.01, np.inf, np.nan], 0.3)
    assert 0.9 / 0.01**2 < weight[0] < 1.0 / 0.01**2
    assert weight[1] == 0.0
    assert np.isnan(weight[2])


def test_settlements_rounded_to_a_coarse_tick_give_the_smile() -> None:
    rng = np.random.default_rng(12)
    raw, t, scale = random_slices(rng, 60)
    x = np.linspace(-2.2, 2.2, 25)
    k = (x * scale[:, None]).ravel()
    row = np.repeat(np.arange(t.size), x.size)
    vol = np.sqrt(svi.total_variance(k, *raw[:, row]) / t[row])
    tick, forward, call = 0.025, 80.0, k > 0.0
    strike = forward * np.exp(k)
    price = np.maximum(black76.price(forward, strike, t[row], vol, 0.0, call), tick)
    settled = np.round(price / tick) * tick
    found, status = black76.implied_vol(settled, forward, strike, t[row], 0.0, call)
    error = svi.settlement_error(settled, tick, forward, strike, t[row], found)
    weight = np.where(status == 0, svi.error_weight(error, found), 0.0)
    offsets = np.arange(t.size + 1) * x.size
    fit = svi.calibrate(offsets, k, found, t, weight, vol_error=error)
    assert (fit.n < x.size).any()  # cabinet prices were left out
    near = np.linspace(-1.5, 1.5, 31) * scale[:, None]
    miss = np.sqrt(svi.total_variance(near, *columns(fit)) / t[:, None]) - np.sqrt(
        svi.total_variance(near, *raw[:, :, None]) / t[:, None]
    )
    assert np.sqrt(np.mean(miss**2)) < 0.005


def test_a_real_chain_of_vols_has_no_arbitrage_left() -> None:
    path = CHAINS / "barchart_wti_dec2025_2025-09-08.csv"
    if not path.exists():
        pytest.skip("shared/data/chains is absent")
    forward, t = 61.69, 70.0 / 365.0
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    rows = [r for r in rows if len(r) >= 13 and r[0][:-1].replace(".", "").isdigit()]
    strike = np.array([float(r[0][:-1]) for r in rows])
    call = np.array([r[0].endswith("C") for r in rows])
    bid, ask = (np.array([float(r[i] or "nan") for r in rows]) for i in (6, 7))
    mid = 0.5 * (bid + ask)
    wanted = (call == (strike > forward)) & (bid > 0.0) & ((ask - bid) < 0.3 * mid)
    strike, call, bid, ask, mid = (x[wanted] for x in (strike, call, bid, ask, mid))
    vol, status = black76.implied_vol(mid, forward, strike, t, 0.04, call)
    error = svi.quote_error(bid, ask, forward, strike, t, vol, 0.04)
    weight = np.where(status == 0, svi.error_weight(error, vol), 0.0)
    fit = svi.calibrate([0, strike.size], np.log(strike / forward), vol, [t], weight)
    assert fit.status[0] == 0
    assert_no_butterflies(fit)
    assert fit.n[0] > 30
    assert fit.rmse_vol[0] < 0.01
