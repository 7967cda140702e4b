"""density_v1.sql and moments_v1.sql: against the lognormal that a flat slice is."""

from __future__ import annotations

import math
from datetime import date, timedelta
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import pytest

NORMAL = NormalDist()
CURVE = ("a", "b", "rho", "m", "sigma")
#: All the error is in log w: a standard deviation of 2 %.
COVARIANCE = [4e-4] + [0.0] * 24
FORWARD, YEARS, VOL = 90.0, 0.2, 0.3
W = VOL**2 * YEARS


def flat(bench, **values: Any) -> dict[str, Any]:
    """A row of surface_v1 with one vol at every strike."""
    cut_off = bench.session()["cut_off"]
    row = {
        "session_date": date(2025, 3, 6),
        "price_source": "quote",
        "series": "HE",
        "expiry": date(2025, 5, 18),
        "expiration": cut_off + timedelta(days=73),
        "forward": FORWARD,
        "t_years": YEARS,
        "atm_iv": VOL,
        **dict(zip(CURVE, (W, 0.0, 0.0, 0.0, 0.1), strict=True)),
        "covariance": COVARIANCE,
        "data_quality": "full",
        "as_of": cut_off,
        "available_at": bench.at("18:55"),
        **values,
    }
    if row["data_quality"] != "full":
        row |= dict.fromkeys((*CURVE, "covariance"))
    return row


def test_density_is_the_lognormal(bench) -> None:
    bench.given("surface_v1", flat(bench))
    rows = bench.derive("density_v1")
    assert len(rows) == 101
    deviation = math.sqrt(W)
    for row in rows:
        d2 = (math.log(FORWARD / row["strike"]) - W / 2) / deviation
        density = NORMAL.pdf(d2) / (row["strike"] * deviation)
        assert row["density"] == pytest.approx(density, rel=1e-8, abs=1e-14)
        assert row["cdf"] == pytest.approx(NORMAL.cdf(-d2), abs=1e-10)
        assert row["available_at"] == bench.at("18:55")
    strikes = [row["strike"] for row in rows]
    assert strikes == sorted(set(strikes))


def test_the_strikes_cover_the_mass(bench) -> None:
    bench.given("surface_v1", flat(bench))
    rows = bench.derive("density_v1")
    assert rows[0]["cdf"] < 0.001
    assert rows[-1]["cdf"] > 0.999
    area = sum(
        (two["strike"] - one["strike"]) * (one["density"] + two["density"]) / 2
        for one, two in pairwise(rows)
    )
    assert area == pytest.approx(rows[-1]["cdf"] - rows[0]["cdf"], abs=2e-3)


def test_only_full_slices_have_a_density(bench) -> None:
    thin = flat(bench, data_quality="degraded", series="HEW")
    bench.given("surface_v1", flat(bench), thin)
    assert {row["series"] for row in bench.derive("density_v1")} == {"HE"}


def test_moments_are_the_lognormals(bench) -> None:
    bench.given("surface_v1", flat(bench))
    (row,) = bench.derive("moments_v1")
    growth = math.exp(W)
    expected = {
        "mass": 1.0,
        "mean": FORWARD,
        "variance": FORWARD**2 * (growth - 1),
        "skew": (growth + 2) * math.sqrt(growth - 1),
        "kurtosis": growth**4 + 2 * growth**3 + 3 * growth**2 - 3,
        "log_mean": -W / 2,
        "log_variance": W,
        "log_kurtosis": 3.0,
        "variance_swap": W,
    }
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-6), name
    assert row["log_skew"] == pytest.approx(0.0, abs=1e-6)
    for name in ("q01", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99"):
        z = NORMAL.inv_cdf(int(name[1:]) / 100)
        quantile = FORWARD * math.exp(z * math.sqrt(W) - W / 2)
        assert row[name] == pytest.approx(quantile, rel=1e-6), name
    for name, level in (("p_down_10", 0.9), ("p_up_10", 1.1)):
        below = NORMAL.cdf((math.log(level) + W / 2) / math.sqrt(W))
        assert row[name] == pytest.approx(below if level < 1 else 1 - below, rel=1e-6), name
    assert (row["status"], row["data_quality"]) == (0, "full")


def test_errors_are_those_of_the_lognormal(bench) -> None:
    """A flat slice errs in its level alone: each error is the derivative to ln w times 2 %."""
    bench.given("surface_v1", flat(bench, b=1e-9))
    (row,) = bench.derive("moments_v1")
    size, growth, deviation = 0.02, math.exp(W), math.sqrt(W)
    expected = {
        "variance": FORWARD**2 * growth * W,
        "skew": W * growth * (math.sqrt(growth - 1) + (growth + 2) / (2 * math.sqrt(growth - 1))),
        "log_mean": W / 2,
        "log_variance": W,
        "variance_swap": W,
    }
    for name, slope in expected.items():
        assert row[f"{name}_se"] == pytest.approx(size * slope, rel=1e-3), name
    assert row["log_skew_se"] == pytest.approx(0.0, abs=1e-6)
    assert row["log_kurtosis_se"] == pytest.approx(0.0, abs=1e-6)
    for name in ("q01", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99"):
        z = NORMAL.inv_cdf(int(name[1:]) / 100)
        slope = row[name] * abs(z * deviation / 2 - W / 2)
        assert row[f"{name}_se"] == pytest.approx(size * slope, rel=2e-3, abs=1e-5), name
    for name, level in (("p_down_10", 0.9), ("p_up_10", 1.1)):
        d = (math.log(level) + W / 2) / deviation
        slope = NORMAL.pdf(d) * abs(W / 2 - math.log(level)) / (2 * deviation)
        assert row[f"{name}_se"] == pytest.approx(size * slope, rel=1e-3), name


@pytest.mark.parametrize("quality", ["degraded", "missing"])
def test_a_slice_without_a_curve_has_a_row_and_no_moments(bench, quality: str) -> None:
    bench.given("surface_v1", flat(bench, data_quality=quality))
    (row,) = bench.derive("moments_v1")
    assert row["data_quality"] == quality
    assert row["forward"] == FORWARD
    for name in ("mass", "mean", "variance", "log_skew", "q50", "p_up_10", "status"):
        assert row[name] is None
    assert {value for name, value in row.items() if name.endswith("_se")} == {None}
