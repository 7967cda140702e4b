"""surface_v1.sql: which options a slice is made of, and when it is thick enough for a curve."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from typing import Any

import pytest

FORWARD = 90.0
YEARS = 0.25
EXPIRY = date(2025, 6, 5)
CURVE = ("a", "b", "rho", "m", "sigma", "rmse_vol", "share_inside", "covariance", "butterfly_free")
EIGHT = (78.0, 82.0, 86.0, 90.0, 94.0, 98.0, 102.0, 106.0)


def smile(strike: float, years: float = YEARS) -> float:
    """Vol of an arbitrage-free SVI slice, Gatheral and Jacquier (2014) eq. 3.1."""
    k = math.log(strike / FORWARD)
    w = 0.04 * years + 0.08 * years * (-0.3 * k + math.sqrt(k**2 + 0.2**2))
    return math.sqrt(w / years)


def option(bench, strike: float, kind: str, iv: float | None, **values: Any) -> dict[str, Any]:
    """A row of chain_v1: liquid, quoted two wide around its vol unless told otherwise."""
    cut_off = bench.session()["cut_off"]
    row: dict[str, Any] = {
        "session_date": date(2025, 3, 6),
        "price_source": "quote",
        "series": "HE",
        "expiry": EXPIRY,
        "expiration": cut_off + timedelta(days=365 * YEARS),
        "underlying": "HEM5",
        "option_type": kind,
        "strike": strike,
        "bid": 1.0,
        "ask": 1.1,
        "mid": 1.05,
        "open_interest": 100,
        "forward": FORWARD,
        "forward_source": "future_quote",
        "t_years": YEARS,
        "rate": 0.04,
        "iv": iv,
        "vega": 15.0,
        "is_liquid": True,
        "as_of": cut_off,
        "available_at": cut_off,
    }
    return {**row, **values}


def otm(strike: float) -> str:
    return "C" if strike >= FORWARD else "P"


def one_a_strike(bench, strikes, **values: Any) -> list[dict[str, Any]]:
    """The out-of-the-money option of each strike on the smile."""
    return [option(bench, strike, otm(strike), smile(strike), **values) for strike in strikes]


def surface(bench, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    bench.given("chain_v1", *rows)
    return bench.derive("surface_v1")


def test_eight_liquid_strikes_give_a_curve(bench) -> None:
    (row,) = surface(bench, *one_a_strike(bench, EIGHT))
    assert row["data_quality"] == "full"
    assert (row["n_strikes"], row["n_liquid"], row["fit_status"]) == (8, 8, 0)
    assert row["butterfly_free"]
    assert row["calendar_free"]
    assert row["atm_iv"] == pytest.approx(smile(FORWARD), abs=1e-4)
    assert row["rmse_vol"] < 2e-4
    assert row["share_inside"] == 1.0
    for strike in EIGHT:
        k = math.log(strike / FORWARD)
        root = math.sqrt((k - row["m"]) ** 2 + row["sigma"] ** 2)
        w = row["a"] + row["b"] * (row["rho"] * (k - row["m"]) + root)
        assert math.sqrt(w / YEARS) == pytest.approx(smile(strike), abs=5e-4)


def test_seven_give_the_vol_at_the_money_and_nothing_else(bench) -> None:
    (row,) = surface(bench, *one_a_strike(bench, EIGHT[:7]))
    assert row["data_quality"] == "degraded"
    assert (row["n_strikes"], row["n_liquid"]) == (7, 7)
    assert row["atm_iv"] == pytest.approx(smile(FORWARD), abs=2e-3)
    assert {name: row[name] for name in (*CURVE, "calendar_free")} == dict.fromkeys(
        (*CURVE, "calendar_free")
    )


def skew_of_the_smile() -> float:
    h = 1e-5
    return (smile(FORWARD * math.exp(h)) - smile(FORWARD * math.exp(-h))) / (2 * h)


def test_every_fitted_slice_has_a_skew_estimate_with_its_error(bench) -> None:
    """Of a thin one it is mostly what smiles are like, and the error is the larger."""
    found = [surface(bench, *one_a_strike(bench, EIGHT[i:j]))[0] for i, j in ((0, 8), (2, 6))]
    assert [row["data_quality"] for row in found] == ["full", "degraded"]
    full, thin = found
    assert full["skew_estimate"] == pytest.approx(skew_of_the_smile(), abs=0.01)
    for row in found:
        assert abs(row["skew_estimate"] - skew_of_the_smile()) < 3 * row["skew_estimate_se"]
        assert 0 < row["atm_iv_se"] < 0.02
    assert thin["skew_estimate_se"] > full["skew_estimate_se"]
    assert len(full["covariance"]) == 25


def test_the_error_of_a_thin_slice_follows_its_spreads(bench) -> None:
    narrow, wide = (
        surface(bench, *one_a_strike(bench, EIGHT[2:6], ask=1.0 + width))[0] for width in (0.1, 0.4)
    )
    assert wide["atm_iv_se"] > 2 * narrow["atm_iv_se"]
    # (ask - bid) / sqrt(12) / vega is a quote's own error.
    assert 0.3 < narrow["atm_iv_se"] / (0.1 / math.sqrt(12) / 15.0) < 1.1


def test_a_wide_quote_counts_for_less(bench) -> None:
    """The error of a quote is its spread over vega, of a settlement a tick over vega."""
    rows = one_a_strike(bench, EIGHT)
    off = {**rows[5], "iv": rows[5]["iv"] + 0.05}
    miss = []
    for ask in (1.1, 6.0):
        rows[5] = {**off, "ask": ask}
        (row,) = surface(bench, *rows)
        miss.append(abs(row["atm_iv"] - smile(FORWARD)))
    assert miss[1] < 0.2 * miss[0]
    for changes in ({"vega": None}, {"vega": 0.0}):
        rows[5] = {**off, **changes}
        (row,) = surface(bench, *rows)
        assert row["atm_iv"] == pytest.approx(smile(FORWARD), abs=2e-4)  # left out
        assert row["data_quality"] == "full"


def test_share_inside_counts_quotes_that_hold_the_curve(bench) -> None:
    rows = one_a_strike(bench, EIGHT)
    rows[0]["iv"] += 0.02
    rows[7]["iv"] += 0.02
    (row,) = surface(bench, *rows)
    assert 0 < row["share_inside"] < 1
    wide = [{**row, "ask": 3.0} for row in rows]
    (row,) = surface(bench, *wide)
    assert row["share_inside"] == 1


def test_a_slice_that_cannot_be_fitted_has_a_vol_without_an_error(bench) -> None:
    (row,) = surface(bench, *one_a_strike(bench, EIGHT[3:5]))
    assert (row["fit_status"], row["data_quality"]) == (1, "degraded")
    assert row["atm_iv"] is not None
    for name in ("atm_iv_se", "skew_estimate", "skew_estimate_se"):
        assert row[name] is None


def test_strikes_are_counted_and_not_options(bench) -> None:
    both = [option(bench, strike, kind, smile(strike)) for strike in EIGHT[:4] for kind in "CP"]
    (row,) = surface(bench, *both)
    assert (row["n_strikes"], row["n_liquid"]) == (4, 4)
    assert row["data_quality"] == "degraded"


def test_an_illiquid_strike_does_not_count(bench) -> None:
    rows = one_a_strike(bench, EIGHT)
    rows[0]["is_liquid"] = False
    (row,) = surface(bench, *rows)
    assert (row["n_strikes"], row["n_liquid"], row["data_quality"]) == (8, 7, "degraded")


def test_a_liquid_strike_without_a_vol_does_not_make_a_slice_thick(bench) -> None:
    rows = one_a_strike(bench, EIGHT)
    rows[0]["iv"] = None
    (row,) = surface(bench, *rows)
    assert (row["n_strikes"], row["n_liquid"], row["data_quality"]) == (7, 8, "degraded")


def test_the_market_sets_how_many_strikes_are_enough(make_bench) -> None:
    bench = make_bench("HE", min_strikes=5)
    (row,) = surface(bench, *one_a_strike(bench, EIGHT[1:6]))
    assert row["data_quality"] == "full"


def test_the_out_of_the_money_option_speaks_for_its_strike(bench) -> None:
    wrong = [option(bench, x, "P" if otm(x) == "C" else "C", 0.9) for x in EIGHT]
    (row,) = surface(bench, *one_a_strike(bench, EIGHT), *wrong)
    assert row["atm_iv"] == pytest.approx(smile(FORWARD), abs=1e-4)
    assert row["rmse_vol"] < 2e-4


def test_an_illiquid_option_stays_out_of_a_thick_slice(bench) -> None:
    """Its strike is represented by the other, liquid, option, or not at all."""
    rows = one_a_strike(bench, EIGHT)
    rows[0].update(option_type="C")  # the liquid one is in the money
    rows.append(option(bench, EIGHT[0], "P", 0.9, is_liquid=False))
    rows.append(option(bench, 110.0, "C", 0.9, is_liquid=False))
    (row,) = surface(bench, *rows)
    assert (row["n_strikes"], row["n_liquid"]) == (9, 8)
    assert row["rmse_vol"] < 2e-4


def test_one_option_is_enough_for_a_vol_at_the_money(bench) -> None:
    (row,) = surface(bench, option(bench, 94.0, "C", 0.31, is_liquid=False))
    assert (row["data_quality"], row["n_liquid"]) == ("degraded", 0)
    assert row["atm_iv"] == pytest.approx(0.31, abs=1e-9)


def test_without_any_vol_a_slice_is_missing(bench) -> None:
    rows = [option(bench, strike, "C", None) for strike in EIGHT]
    (row,) = surface(bench, *rows)
    assert row["data_quality"] == "missing"
    assert row["atm_iv"] is None
    assert row["n_strikes"] == 0


def test_cabinet_prices_are_left_out_of_a_settlement_slice(bench) -> None:
    """An option that is settled at a tick is worth a tick or less: its vol says nothing."""
    tick = bench.market.option_tick
    rows = one_a_strike(bench, EIGHT, price_source="settlement", settlement=2.0)
    for strike, kind in ((60.0, "P"), (64.0, "P"), (130.0, "C")):
        rows.append(option(bench, strike, kind, 0.9, price_source="settlement", settlement=tick))
    (row,) = surface(bench, *rows)
    assert row["n_strikes"] == 8
    assert row["rmse_vol"] < 1e-3
    rows[0]["settlement"] = tick
    (row,) = surface(bench, *rows)
    assert (row["n_strikes"], row["data_quality"]) == (7, "degraded")


def test_a_settlement_slice_counts_every_strike_that_was_settled(bench) -> None:
    """The exchange settles all of them: open interest is not asked for."""
    (row,) = surface(
        bench,
        *one_a_strike(
            bench, EIGHT, price_source="settlement", settlement=2.0, is_liquid=False, bid=None
        ),
    )
    assert (row["n_strikes"], row["n_liquid"], row["data_quality"]) == (8, 0, "full")


def test_each_source_cut_off_series_and_expiry_is_a_slice(bench) -> None:
    later = bench.at("20:15")
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"price_source": "settlement", "settlement": 2.0, "as_of": later, "available_at": later},
        {"series": "HEW"},
        {"expiry": date(2025, 8, 14), "expiration": bench.at("17:00", date(2025, 8, 14))},
    )
    rows = [row for change in changes for row in one_a_strike(bench, EIGHT, **change)]
    found = {(row["price_source"], row["series"], row["expiry"]) for row in surface(bench, *rows)}
    assert found == {
        ("quote", "HE", EXPIRY),
        ("settlement", "HE", EXPIRY),
        ("quote", "HEW", EXPIRY),
        ("quote", "HE", date(2025, 8, 14)),
    }


def test_slices_of_one_underlying_do_not_cross_and_others_may(bench) -> None:
    """A later expiry at a much lower vol is a calendar arbitrage, of one underlying only."""
    year = bench.session()["cut_off"] + timedelta(days=365 * YEARS * 1.2)
    later = {"expiry": date(2025, 6, 26), "expiration": year, "t_years": YEARS * 1.2}
    for underlying in ("HEM5", "HEN5"):
        near = one_a_strike(bench, EIGHT)
        far = [
            {**row, **later, "underlying": underlying, "iv": row["iv"] * 0.6}
            for row in one_a_strike(bench, EIGHT)
        ]
        slices = surface(bench, *near, *far)
        w = [row["atm_iv"] ** 2 * row["t_years"] for row in slices]
        assert all(row["calendar_free"] for row in slices)
        assert (w[1] >= w[0] - 1e-12) is (underlying == "HEM5")


def test_a_thin_slice_does_not_bend_a_thick_one(bench) -> None:
    thick = one_a_strike(bench, EIGHT)
    year = bench.session()["cut_off"] + timedelta(days=30)
    thin = [
        {**row, "expiry": date(2025, 4, 5), "expiration": year, "t_years": 30 / 365, "iv": 1.5}
        for row in one_a_strike(bench, EIGHT[2:5])
    ]
    (alone,) = surface(bench, *thick)
    (_, beside) = surface(bench, *thick, *thin)
    assert beside == alone


def test_available_at_is_the_latest_of_the_slices_options(bench) -> None:
    rows = one_a_strike(bench, EIGHT, available_at=bench.at("15:00"))
    latest: datetime = bench.at("18:12")
    rows[3]["available_at"] = latest
    (row,) = surface(bench, *rows)
    assert row["available_at"] == latest


def test_a_strike_at_or_below_zero_harms_nobody(bench) -> None:
    odd = [option(bench, strike, "P", None) for strike in (0.0, -7.0)]
    (row,) = surface(bench, *one_a_strike(bench, EIGHT), *odd)
    assert (row["n_strikes"], row["data_quality"]) == (8, "full")
