"""What comes out of the database equals what the sample vendor put in."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from etl.sources import sample
from mathlib import density, moments, surface

SVI = ("a", "b", "rho", "m", "sigma")


@pytest.fixture(scope="module")
def surfaces(sample_lake) -> pl.DataFrame:
    """Every slice of the newest vintage of each price source, with the truth beside it."""
    with sample_lake.connect() as connection:
        slices = connection.sql("from features.surface_v1").pl()
    newest = slices.sort("as_of").unique(
        ["market", "session_date", "price_source", "series", "expiry"], keep="last"
    )
    truths = []
    for code, day in newest.select("market", "session_date").unique().sort(pl.all()).rows():
        world = sample.truth(sample_lake.markets[code], day)
        for source, frame in (
            ("quote", world.expiries),
            ("settlement", world.settlement_expiries),
        ):
            truths.append(
                frame.select("expiry", "forward", "t_years", "atm_iv", *SVI).with_columns(
                    market=pl.lit(code),
                    session_date=pl.lit(day),
                    price_source=pl.lit(source),
                )
            )
    keys = ["market", "session_date", "price_source", "expiry"]
    return newest.join(pl.concat(truths), on=keys, how="left", suffix="_true")


def test_every_slice_that_the_world_has_is_there(surfaces: pl.DataFrame) -> None:
    assert surfaces["forward_true"].null_count() == 0
    counts = surfaces.group_by("market", "price_source").len().sort(pl.all())
    assert [(m, p) for m, p, _ in counts.rows()] == [
        (m, p) for m in ("HE", "ZO") for p in ("quote", "settlement")
    ]


def test_forward_is_within_a_tick(sample_lake, surfaces: pl.DataFrame) -> None:
    for code in ("HE", "ZO"):
        of = surfaces.filter(pl.col("market") == code)
        error = (of["forward"] - of["forward_true"]).abs().max()
        assert error <= sample_lake.markets[code].tick * 1.000001


def test_time_to_expiry_is_the_worlds(surfaces: pl.DataFrame) -> None:
    np.testing.assert_allclose(surfaces["t_years"], surfaces["t_years_true"], rtol=1e-9)


def test_atm_vol_of_full_slices_is_within_half_a_vol_point(surfaces: pl.DataFrame) -> None:
    full = surfaces.filter(pl.col("data_quality") == "full")
    assert full.filter(pl.col("price_source") == "quote").height > 20
    assert (full["atm_iv"] - full["atm_iv_true"]).abs().max() <= 0.005


def test_full_slices_are_free_of_arbitrage(surfaces: pl.DataFrame) -> None:
    full = surfaces.filter(pl.col("data_quality") == "full")
    assert full["butterfly_free"].all()
    assert full["calendar_free"].all()
    assert full.select(pl.col(*SVI, "rmse_vol").null_count()).sum_horizontal().item() == 0


def test_density_is_within_a_tenth_of_the_truth(sample_lake, surfaces: pl.DataFrame) -> None:
    with sample_lake.connect() as connection:
        points = connection.sql("from features.density_v1 order by strike").pl()
    keys = ["market", "session_date", "price_source", "as_of", "series", "expiry"]
    full = surfaces.filter(pl.col("data_quality") == "full")
    by_slice = points.partition_by(keys, as_dict=True)
    for row in full.iter_rows(named=True):
        of = by_slice[tuple(row[key] for key in keys)]
        strike = of["strike"].to_numpy()
        true = density.pdf(strike, row["forward_true"], *(row[f"{name}_true"] for name in SVI))
        distance = np.trapezoid(np.abs(of["density"].to_numpy() - true), strike)
        assert distance < 0.1, row


def test_moments_are_near_the_truth(sample_lake, surfaces: pl.DataFrame) -> None:
    with sample_lake.connect() as connection:
        found = connection.sql(
            "from features.moments_v1 where data_quality = 'full' and price_source = 'quote'"
        ).pl()
    assert found.height > 20
    assert (found["mass"] - 1).abs().max() < 1e-6
    assert (found["mean"] / found["forward"] - 1).abs().max() < 1e-6
    for row in found.iter_rows(named=True):
        true = sample.truth(sample_lake.markets[row["market"]], row["session_date"]).moments(
            row["expiry"]
        )
        assert row["log_variance"] == pytest.approx(true["log_variance"], rel=0.1)
        assert row["q05"] == pytest.approx(true["q05"], rel=0.02)
        assert row["q95"] == pytest.approx(true["q95"], rel=0.02)
        assert row["p_down_10"] == pytest.approx(true["p_down_10"], abs=0.02)


def test_the_truth_lies_within_three_standard_errors(sample_lake, surfaces: pl.DataFrame) -> None:
    with sample_lake.connect() as connection:
        found = connection.sql("from features.moments_v1").pl()
    keys = ["market", "session_date", "price_source", "as_of", "series", "expiry"]
    every = surfaces.join(found.drop("forward", "t_years", "data_quality", "available_at"), on=keys)
    true = [every[f"{name}_true"].to_numpy() for name in SVI]
    money = surface.at_the_money(*true, every["t_years_true"].to_numpy())
    truths = {
        "atm_iv": money["atm_iv"],
        "skew_estimate": money["skew"],
        **moments.from_svi(every["forward_true"].to_numpy(), *true),
    }

    def share_within(errors: float, name: str, rows: pl.Series) -> float:
        z = (every[name].to_numpy() - truths[name]) / every[f"{name}_se"].to_numpy()
        z = z[rows.to_numpy()]
        return float(np.mean(np.abs(z[~np.isnan(z)]) <= errors))

    full = every["data_quality"] == "full"
    quotes, final = every["price_source"] == "quote", every["price_source"] == "settlement"
    for rows in (full & quotes, full & final):
        for name in ("atm_iv", "skew_estimate", "log_variance", "log_skew", "log_kurtosis", "q05"):
            assert share_within(3.0, name, rows) >= 0.95, name
            assert share_within(0.25, name, rows) < 0.6, name  # nor are they much too wide
    thin = (every["data_quality"] == "degraded") & quotes
    for name in ("atm_iv", "skew_estimate"):
        assert share_within(3.0, name, thin) >= 0.95, name
    # A vol at the money without an error is that of the nearest quote, where no curve was fitted.
    assert every.filter(pl.col("fit_status") == 0)["skew_estimate_se"].null_count() == 0


def test_quotes_and_open_interest_are_exact(sample_lake) -> None:
    with sample_lake.connect() as connection:
        chain = connection.sql("select * from features.chain_v1 where price_source = 'quote'").pl()
    for (code, day), of in chain.partition_by("market", "session_date", as_dict=True).items():
        world = sample.truth(sample_lake.markets[code], day)
        both = of.join(world.options, on="contract", how="left", suffix="_true")
        assert both["strike_true"].null_count() == 0
        assert both["strike"].equals(both["strike_true"])
        for column in ("bid", "ask"):
            assert_same_prices(both[column], both[f"{column}_true"])
        assert both["open_interest"].equals(both["open_interest_known"])
        assert both["volume"].equals(both["volume_known"])


def assert_same_prices(ours: pl.Series, true: pl.Series) -> None:
    """The same decimals, NULL where the other is; the sample makes its own from ticks."""
    assert ours.is_null().equals(true.is_null())
    np.testing.assert_allclose(ours.drop_nulls(), true.drop_nulls(), rtol=0, atol=1e-9)


def test_every_listed_option_with_a_quote_or_open_interest_is_there(sample_lake) -> None:
    with sample_lake.connect() as connection:
        chain = connection.sql(
            "select market, session_date, contract from features.chain_v1"
            " where price_source = 'quote'"
        ).pl()
    for code, day in chain.select("market", "session_date").unique().rows():
        world = sample.truth(sample_lake.markets[code], day)
        alive = world.options.join(world.expiries.select("expiry"), on="expiry", how="semi")
        traded = alive.filter(
            pl.col("bid").is_not_null()
            | pl.col("ask").is_not_null()
            | (pl.col("open_interest_known") > 0)
        )
        here = chain.filter((pl.col("market") == code) & (pl.col("session_date") == day))
        assert traded.join(here, on="contract", how="anti").is_empty()


def test_settlements_are_exact_in_both_vintages(sample_lake) -> None:
    with sample_lake.connect() as connection:
        chain = connection.sql(
            "from features.chain_v1 where price_source = 'settlement' order by as_of"
        ).pl()
    statuses = {"preliminary": "settlement_preliminary", "final": "settlement_true"}
    assert set(chain["settlement_status"]) == set(statuses)
    for (code, day), of in chain.partition_by("market", "session_date", as_dict=True).items():
        world = sample.truth(sample_lake.markets[code], day)
        both = of.join(world.options, on="contract", how="left", suffix="_true")
        for status, column in statuses.items():
            rows = both.filter(pl.col("settlement_status") == status)
            assert_same_prices(rows["settlement"], rows[column])


def test_oats_are_degraded_and_give_only_the_vol_at_the_money(surfaces: pl.DataFrame) -> None:
    oats = surfaces.filter((pl.col("market") == "ZO") & (pl.col("price_source") == "quote"))
    assert set(oats["data_quality"]) == {"degraded"}
    assert oats.filter(pl.col("t_years") > 0.05)["atm_iv"].null_count() == 0
    for column in (*SVI, "rmse_vol", "butterfly_free", "calendar_free"):
        assert oats[column].null_count() == oats.height
    assert oats["n_liquid"].max() < 8


def test_hogs_have_thick_and_thin_expiries(surfaces: pl.DataFrame) -> None:
    hogs = surfaces.filter((pl.col("market") == "HE") & (pl.col("price_source") == "quote"))
    assert set(hogs["data_quality"]) == {"full", "degraded"}
    assert (hogs.filter(pl.col("data_quality") == "full")["n_liquid"] >= 8).all()
    assert (hogs.filter(pl.col("data_quality") == "degraded")["n_liquid"] < 8).all()


def test_expiries_follow_the_contracts_rules(surfaces: pl.DataFrame) -> None:
    """Hogs' options expire with their future, oats' in the month before their future's."""
    months = {letter: number for number, letter in enumerate("FGHJKMNQUVXZ", start=1)}
    for market, expiry, underlying in surfaces.select("market", "expiry", "underlying").rows():
        month = months[underlying[len(market)]]
        assert isinstance(expiry, date)
        if market == "HE":
            assert expiry.month == month
        else:
            assert expiry.month != month


def test_flows_equal_a_slow_sum_over_the_options(sample_lake) -> None:
    """GEX = gamma x contracts x multiplier x F^2 x 1 %, option by option, in plain Python."""
    from mathlib import black76

    with sample_lake.connect() as connection:
        day = connection.sql("select max(session_date) from features.chain_v1").fetchall()[0][0]
        at = f"market = 'HE' and session_date = '{day}' and price_source = 'quote'"
        chain = connection.sql(f"from features.chain_v1 where {at}").pl()
        slices = connection.sql(f"from features.surface_v1 where {at}").pl()
        flows = connection.sql(
            f"from features.flow_v1 where {at} and scope = 'total' and weight = 'open_interest'"
        ).pl()
    by_expiry = {row["expiry"]: row for row in slices.iter_rows(named=True)}
    total = dict.fromkeys(("dealer_short", "dealer_long", "calls_long_puts_short"), 0.0)
    for option in chain.filter(pl.col("open_interest") > 0).iter_rows(named=True):
        of = by_expiry[option["expiry"]]
        k = np.log(option["strike"] / option["forward"])
        vol = of["atm_iv"]
        if of["a"] is not None:
            root = np.sqrt((k - of["m"]) ** 2 + of["sigma"] ** 2)
            w = of["a"] + of["b"] * (of["rho"] * (k - of["m"]) + root)
            vol = np.sqrt(w / option["t_years"])
        gamma = black76.gamma(
            option["forward"], option["strike"], option["t_years"], vol, option["rate"]
        )
        usd = float(gamma) * option["open_interest"] * 400 * option["forward"] ** 2 * 0.01
        total["dealer_long"] += usd
        total["dealer_short"] -= usd
        total["calls_long_puts_short"] += usd if option["option_type"] == "C" else -usd
    found = dict(flows.select("convention", "gex").rows())
    for convention, gex in total.items():
        assert found[convention] == pytest.approx(gex, rel=1e-9)


def test_options_of_each_class_are_the_worlds(sample_lake) -> None:
    names = {
        "Prod_Merc": "prod_merc",
        "Swap": "swap",
        "M_Money": "managed_money",
        "Other_Rept": "other_reportable",
        "NonRept": "nonreportable",
    }
    with sample_lake.connect() as connection:
        reports = connection.sql("from features.cot_v1").pl()
    for code in ("HE", "ZO"):
        truth = sample.cot_options(sample_lake.markets[code].cot_code, 2025)
        total = truth.group_by("report_date").agg(pl.sum("long"))
        of = reports.filter(market=code)
        assert of.height == 2 * 166  # each report of four years, futures only and combined
        of = of.join(total, on="report_date")
        assert of["options_open_interest"].equals(of["long"], check_names=False)
        for trader, ours in names.items():
            held = of.drop("long").join(truth.filter(trader=trader), on="report_date")
            for side in ("long", "short"):
                assert (held[f"{ours}_options_{side}"] == held[side]).all()
        share = of["swap_options_net"] / of["options_open_interest"]
        assert (of["dealer_options_share"] - share).abs().max() < 1e-12
        assert 0.01 < of["dealer_options_share"].abs().max() < 1


def test_flows_by_cot_are_those_of_dealers_who_hold_their_share(sample_lake) -> None:
    """Each total again, from the strikes: dealers' contracts, then their exposures."""
    with sample_lake.connect() as connection:
        flows = connection.sql("from features.flow_cot_v1 where scope = 'total'").pl()
        strikes = connection.sql(
            "from features.flow_by_strike_v1 "
            "where convention = 'calls_long_puts_short' and weight = 'open_interest'"
        ).pl()
        reports = connection.sql("from features.cot_v1 where report = 'disaggregated_futures'").pl()
        latest = connection.sql(
            "select market, value, quality from answers_at('2025-03-14T12:00:00Z') "
            "where feature_name = 'flow_gex_cot_oi' order by market"
        ).fetchall()
    assert flows.height > 40
    key = ["market", "session_date", "price_source", "as_of"]
    by_key = dict(strikes.group_by(key))
    for row in flows.iter_rows(named=True):
        known = reports.filter(
            (pl.col("market") == row["market"]) & (pl.col("available_at") <= row["as_of"])
        ).sort("report_date")
        newest = known.row(-1, named=True)
        assert row["report_date"] == newest["report_date"]
        assert row["available_at"] <= row["as_of"]
        held = by_key[tuple(row[name] for name in key)]
        for measure in ("gex", "vanna_flow", "charm_flow"):
            expected = (held[measure] * newest["dealer_options_share"]).sum()
            assert row[measure] == pytest.approx(expected, rel=1e-9)
    quoted = flows.filter(price_source="quote").sort("market", "as_of")
    newest_gex = quoted.group_by("market", maintain_order=True).last()["gex"].to_list()
    assert [value for _, value, _ in latest] == newest_gex
    assert {quality for *_, quality in latest} <= {"full", "degraded"}


def test_sample_data_says_so(sample_lake) -> None:
    with sample_lake.connect() as connection:
        assert connection.sql("select origin from meta.builds").fetchall() == [("sample",)]
        sources = connection.sql("select distinct source from raw.option_quote").fetchall()
        assert sources == [("sample",)]
