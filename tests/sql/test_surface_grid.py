"""surface_grid_v1.sql: the same curves read off at strikes, moneynesses, deltas, maturities."""

from __future__ import annotations

import math
from datetime import date, timedelta
from statistics import NormalDist
from typing import Any

import pytest

NORMAL = NormalDist()
CURVE = ("a", "b", "rho", "m", "sigma")


def flat(bench, days: float, vol: float, **values: Any) -> dict[str, Any]:
    """A row of surface_v1: one vol at every strike, so that all else is arithmetic."""
    cut_off = bench.session()["cut_off"]
    years = days / 365
    expiration = cut_off + timedelta(days=days)
    row = {
        "session_date": date(2025, 3, 6),
        "price_source": "quote",
        "series": "HE",
        "expiry": expiration.date(),
        "expiration": expiration,
        "underlying": "HEJ5",
        "forward": 90.0,
        "t_years": years,
        "rate": 0.04,
        "atm_iv": vol,
        "a": vol**2 * years,
        "b": 0.0,
        "rho": 0.0,
        "m": 0.0,
        "sigma": 0.1,
        "data_quality": "full",
        "fit_status": 0,
        "as_of": cut_off,
        "available_at": cut_off,
        **values,
    }
    if row["data_quality"] != "full":
        row |= dict.fromkeys(CURVE)
    return row


def grid(bench, *slices: dict[str, Any], strikes: tuple[float, ...] = ()) -> list[dict[str, Any]]:
    bench.given("surface_v1", *slices)
    keys = ("session_date", "price_source", "series", "expiry", "as_of")
    bench.given(
        "chain_v1",
        *(
            {**{key: of[key] for key in keys}, "strike": strike, "option_type": kind}
            for of in slices
            for strike in strikes
            for kind in "CP"
        ),
    )
    return bench.derive("surface_grid_v1")


def points(rows: list[dict[str, Any]], name: str, tenor: int | None = None) -> dict[str, Any]:
    found = [row for row in rows if row["grid"] == name and row["tenor_days"] == tenor]
    by_name = {row["point"]: row for row in found}
    assert len(by_name) == len(found)
    return by_name


def test_listed_strikes_are_points_once_each(bench) -> None:
    found = points(grid(bench, flat(bench, 73, 0.3), strikes=(80.0, 90.0, 92.5)), "strike")
    assert sorted(found) == ["80.0", "90.0", "92.5"]
    for row in found.values():
        assert row["strike"] == pytest.approx(float(row["point"]))
        assert row["log_moneyness"] == pytest.approx(math.log(row["strike"] / 90))
        assert row["vol"] == pytest.approx(0.3)
        assert row["total_variance"] == pytest.approx(0.3**2 / 5)


def test_a_strike_at_or_below_zero_is_no_point(bench) -> None:
    found = points(grid(bench, flat(bench, 73, 0.3), strikes=(-7.0, 0.0, 90.0)), "strike")
    assert sorted(found) == ["90.0"]


def test_log_moneyness_from_minus_40_to_40_per_cent(bench) -> None:
    slope = {"b": 0.05, "rho": -0.4, "m": 0.02}
    (row,) = (of := flat(bench, 73, 0.3, **slope),)
    found = points(grid(bench, row), "log_moneyness")
    assert sorted(found) == sorted(f"{i * 0.05:.2f}".replace("-0.00", "0.00") for i in range(-8, 9))
    for name, point in found.items():
        k = float(name)
        w = of["a"] + 0.05 * (-0.4 * (k - 0.02) + math.sqrt((k - 0.02) ** 2 + 0.01))
        assert point["log_moneyness"] == pytest.approx(k)
        assert point["total_variance"] == pytest.approx(w)
        assert point["vol"] == pytest.approx(math.sqrt(w / 0.2))
        assert point["strike"] == pytest.approx(90 * math.exp(k))


def test_deltas_at_an_expiry(bench) -> None:
    found = points(grid(bench, flat(bench, 73, 0.3)), "delta")
    deviation = 0.3 * math.sqrt(0.2)
    # N(d1) is the undiscounted delta of a call, N(d1) - 1 that of a put.
    for name, d1 in (
        ("10P", NORMAL.inv_cdf(0.9)),
        ("25P", NORMAL.inv_cdf(0.75)),
        ("25C", NORMAL.inv_cdf(0.25)),
        ("10C", NORMAL.inv_cdf(0.1)),
    ):
        k = deviation**2 / 2 - d1 * deviation
        assert found[name]["log_moneyness"] == pytest.approx(k, abs=1e-8)
        assert found[name]["vol"] == pytest.approx(0.3, abs=1e-8)
    assert (found["ATM"]["log_moneyness"], found["ATM"]["strike"]) == (0.0, 90.0)
    assert found["ATM"]["vol"] == pytest.approx(0.3)
    assert len(found) == 5


def test_a_constant_maturity_is_linear_in_total_variance(bench) -> None:
    near, far = flat(bench, 45, 0.30), flat(bench, 75, 0.24)
    found = points(grid(bench, near, far), "constant_maturity", 60)
    w = (0.30**2 * 45 + 0.24**2 * 75) / 2 / 365  # 60 lies in the middle of 45 and 75
    assert sorted(found) == ["10C", "10P", "25C", "25P", "ATM"]
    for row in found.values():
        assert row["total_variance"] == pytest.approx(w)
        assert row["vol"] == pytest.approx(math.sqrt(w * 365 / 60))
        assert row["t_years"] == pytest.approx(60 / 365)
        assert row["series"] is row["expiry"] is row["strike"] is None
        assert not row["is_extrapolated"]
        assert row["data_quality"] == "full"


def test_before_the_first_expiry_the_vol_is_held(bench) -> None:
    rows = grid(bench, flat(bench, 45, 0.30), flat(bench, 75, 0.24))
    for row in points(rows, "constant_maturity", 30).values():
        assert row["vol"] == pytest.approx(0.30)
        assert row["is_extrapolated"]


def test_beyond_the_last_expiry_there_is_no_row(bench) -> None:
    rows = grid(bench, flat(bench, 45, 0.30), flat(bench, 75, 0.24))
    assert points(rows, "constant_maturity", 90) == {}
    assert points(rows, "constant_maturity", 180) == {}


def test_at_an_expiry_the_maturity_is_its_slice(bench) -> None:
    rows = grid(bench, flat(bench, 45, 0.30), flat(bench, 60, 0.27), flat(bench, 90, 0.24))
    for tenor, vol in ((60, 0.27), (90, 0.24)):
        atm = points(rows, "constant_maturity", tenor)["ATM"]
        assert atm["vol"] == pytest.approx(vol)
        assert not atm["is_extrapolated"]


def test_a_thin_neighbour_leaves_the_vol_at_the_money_and_marks_it(bench) -> None:
    thin = flat(bench, 75, 0.24, data_quality="degraded")
    rows = grid(bench, flat(bench, 45, 0.30), thin)
    found = points(rows, "constant_maturity", 60)
    assert list(found) == ["ATM"]
    assert found["ATM"]["data_quality"] == "degraded"
    w = (0.30**2 * 45 + 0.24**2 * 75) / 2 / 365
    assert found["ATM"]["total_variance"] == pytest.approx(w)
    # The maturity before uses the thick slice alone.
    assert points(rows, "constant_maturity", 30)["ATM"]["data_quality"] == "full"
    at_expiry = {
        (row["expiry"], row["point"]): row["data_quality"]
        for row in rows
        if row["grid"] == "delta" and row["point"] == "ATM"
    }
    assert set(at_expiry.values()) == {"full", "degraded"}


def test_a_slice_without_a_vol_is_passed_over(bench) -> None:
    gone = flat(bench, 60, 0.0, data_quality="missing", atm_iv=None)
    rows = grid(bench, flat(bench, 45, 0.30), gone, flat(bench, 75, 0.24))
    w = (0.30**2 * 45 + 0.24**2 * 75) / 2 / 365
    assert points(rows, "constant_maturity", 60)["ATM"]["total_variance"] == pytest.approx(w)


def test_a_point_is_known_when_both_its_slices_are(bench) -> None:
    times = [bench.at("18:01"), bench.at("18:02"), bench.at("18:03")]
    slices = [
        flat(bench, days, 0.3, available_at=at)
        for days, at in zip((45, 75, 120), times, strict=True)
    ]
    rows = grid(bench, *slices)
    known = {
        tenor: points(rows, "constant_maturity", tenor)["ATM"]["available_at"]
        for tenor in (30, 60, 90)
    }
    assert known == {30: times[0], 60: times[1], 90: times[2]}


def test_of_two_series_on_one_day_the_choice_does_not_depend_on_the_order(bench) -> None:
    one, other = flat(bench, 45, 0.30), flat(bench, 45, 0.35, series="HEW")
    far = flat(bench, 75, 0.24)
    vols = {
        points(grid(bench, *order), "constant_maturity", 60)["ATM"]["vol"]
        for order in ((one, other, far), (far, other, one), (other, far, one))
    }
    assert len(vols) == 1
