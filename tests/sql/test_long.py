"""long_v1.sql: which value of which table each feature is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pytest

DAY = date(2025, 3, 6)
TABLES = (
    *("futures_v1", "surface_v1", "surface_grid_v1", "moments_v1", "flow_v1", "flow_cot_v1"),
    "cot_v1",
)

_CURVE = ("return_1d", "roll_yield", "term_slope", "volume", "open_interest")
_VOLS = [f"rv_{kind}_{days}d" for kind in ("cc", "range") for days in (5, 21, 63)]
_MOMENTS = (
    *("log_variance", "log_skew", "log_kurtosis", "skew", "kurtosis", "variance_swap"),
    *("log_variance_se", "log_skew_se", "log_kurtosis_se", "p_down_10", "p_up_10"),
)
_COT = [
    *("options_open_interest", "dealer_options_share"),
    *(
        f"{trader}_{measure}"
        for trader in ("prod_merc", "swap", "managed_money", "other_reportable", "nonreportable")
        for measure in ("net", "share", "percentile_3y", "options_net")
    ),
]
CONVENTIONS = ("dealer_short", "dealer_long", "calls_long_puts_short")


def times(bench, **values: Any) -> dict[str, Any]:
    cut_off = bench.session()["cut_off"]
    return {"session_date": DAY, "as_of": cut_off, "available_at": cut_off, **values}


def numbered(names, start: int) -> dict[str, float]:
    """A number of its own for each column."""
    return {name: float(start + i) for i, name in enumerate(names)}


def slices(bench, source: str = "quote", quality: str = "full", **values: Any) -> dict[str, Any]:
    row = {"price_source": source, "series": "HE", "expiry": date(2025, 4, 14)}
    return times(bench, **{**row, "t_years": 39 / 365, "data_quality": quality, **values})


def point(bench, tenor: int, name: str, vol: float, **values: Any) -> dict[str, Any]:
    row = {"grid": "constant_maturity", "tenor_days": tenor, "point": name, "vol": vol}
    return times(bench, **{"price_source": "quote", "data_quality": "full", **row, **values})


def build(bench, tables: Mapping[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The rows by feature; every source table exists, most of them empty."""
    for table in TABLES:
        bench.given(table, *tables.get(table, ()))
    rows = bench.build("long_v1")
    assert len({(row["feature_name"], row["as_of"], row["available_at"]) for row in rows}) == len(
        rows
    )
    return {row["feature_name"]: row for row in rows}


def everything(bench) -> tuple[dict[str, list[dict[str, Any]]], dict[str, float]]:
    """Rows of every source table, and the value that each feature must then have."""
    curve = numbered(("close", *_CURVE, *_VOLS), 100)
    expected = {f"fut_front_{name}": value for name, value in curve.items()}
    for name in ("roll_yield", "term_slope"):
        expected[f"fut_{name}"] = expected.pop(f"fut_front_{name}")
    expected["fut_second_close"] = 77.0
    futures = [
        times(bench, contract="HEJ5", contract_rank=1, **curve),
        times(bench, contract="HEK5", contract_rank=2, close=77.0, return_1d=-5.0),
        times(bench, contract="HEH5", contract_rank=None, close=-1.0),
    ]
    points, moments, surfaces = [], [], []
    for source, prefix, base in (("quote", "opt_", 0.2), ("settlement", "opt_settlement_", 0.5)):
        surfaces.append(slices(bench, source))
        values = numbered(_MOMENTS, 200 if source == "quote" else 300)
        moments.append(slices(bench, source, **values))
        later = {"t_years": 0.5, "expiry": date(2025, 9, 4)}
        moments.append(slices(bench, source, **{**dict.fromkeys(values, -9.0), **later}))
        expected |= {f"{prefix}front_{name}": value for name, value in values.items()}
        expected[f"{prefix}front_days"] = 39.0
        for tenor in (30, 60, 90, 180):
            atm = base + tenor / 1000
            for name, vol in (("ATM", atm), ("25P", atm + 0.03), ("25C", atm + 0.01)):
                points.append(point(bench, tenor, name, vol, price_source=source))
            expected[f"{prefix}atm_iv_{tenor}d"] = atm
            expected[f"{prefix}rr_25d_{tenor}d"] = -0.02
            expected[f"{prefix}bf_25d_{tenor}d"] = 0.02
    flows = []
    for number, (weight, short) in enumerate((("open_interest", "oi"), ("volume", "volume"))):
        for place, convention in enumerate(CONVENTIONS):
            key = {"weight": weight, "convention": convention, "price_source": "quote"}
            base = 1000.0 * (1 + number) + 100 * place
            row = {"gex": base, "vanna_flow": base + 1, "charm_flow": base + 2}
            flows.append(times(bench, scope="total", **key, **row, zero_gamma=base + 3))
            flows.append(times(bench, scope="expiry", **key, gex=-1.0))
            settled = {**key, "price_source": "settlement"}
            flows.append(times(bench, scope="total", **settled, gex=-2.0))
            for name, value in zip(("gex", "vanna", "charm"), row.values(), strict=True):
                expected[f"flow_{name}_{convention}_{short}"] = value
            if convention == "calls_long_puts_short":
                expected[f"flow_zero_gamma_{convention}_{short}"] = base + 3
    evidence = {"gex": 50.0, "vanna_flow": 51.0, "charm_flow": 52.0}
    of_cot = {"weight": "open_interest", "convention": "cot", "dealer_share": 0.1, **evidence}
    cot_flows = [
        times(bench, scope="total", price_source="quote", **of_cot),
        times(bench, scope="expiry", price_source="quote", **{**of_cot, "gex": -1.0}),
        times(bench, scope="total", price_source="settlement", **{**of_cot, "gex": -2.0}),
    ]
    for name, value in evidence.items():
        expected[f"flow_{name.removesuffix('_flow')}_cot_oi"] = value
    reports = numbered(("open_interest", *_COT), 5000)
    expected |= {f"cot_{name}": value for name, value in reports.items()}
    cot = times(bench, report="disaggregated_futures", report_date=date(2025, 3, 4), **reports)
    del cot["session_date"]
    rows = (futures, surfaces, points, moments, flows, cot_flows, [cot])
    tables = dict(zip(TABLES, rows, strict=True))
    return tables, expected


def test_every_feature_has_its_value_and_no_other_name_is_there(bench) -> None:
    tables, expected = everything(bench)
    found = build(bench, tables)
    listed = [row["feature_name"] for row in bench.rows("meta.features")]
    assert len(listed) == len(set(listed))
    assert set(found) == set(listed) == set(expected)
    values = {name: row["value"] for name, row in found.items()}
    assert values == pytest.approx(expected)
    assert {row["quality"] for row in found.values()} == {"full"}


def test_every_feature_says_what_it_is(bench) -> None:
    bench.reference()
    for number, row in enumerate(bench.rows("meta.features"), start=1):
        assert row["feature_number"] == number
        assert row["feature_name"].startswith(row["feature_group"] + "_")
        assert row["unit"]
        assert row["description"]
        assert row["max_age"] == 1
        assert row["clock"] == ("release" if row["feature_group"] == "cot" else "session")


def test_a_value_that_is_not_finite_is_missing(bench) -> None:
    front = times(
        bench, contract="HEJ5", contract_rank=1, close=90.0, return_1d=math.nan,
        roll_yield=math.inf,
    )  # fmt: skip
    found = build(bench, {"futures_v1": [front]})
    for name in ("fut_front_return_1d", "fut_roll_yield", "fut_front_volume", "fut_second_close"):
        assert (found[name]["value"], found[name]["quality"]) == (None, "missing")
    front = found["fut_front_close"]
    assert (front["value"], front["quality"]) == (90.0, "full")


def test_the_front_slice_expires_at_least_a_week_later(bench) -> None:
    rows = [
        slices(bench, t_years=days / 365, log_variance=days / 1000, series=f"S{days}")
        for days in (6.9, 7.0, 30.0)
    ]
    found = build(bench, {"surface_v1": [slices(bench)], "moments_v1": rows})
    assert found["opt_front_days"]["value"] == pytest.approx(7.0)
    assert found["opt_front_log_variance"]["value"] == pytest.approx(0.007)


def test_without_a_slice_a_week_out_the_front_is_missing(bench) -> None:
    near = {"t_years": 5 / 365}
    tables = {
        "surface_v1": [slices(bench, **near)],
        "moments_v1": [slices(bench, **near, log_variance=0.1)],
    }
    found = build(bench, tables)
    assert found["opt_front_log_variance"]["value"] is None
    assert found["opt_front_log_variance"]["quality"] == "missing"


def test_of_two_series_on_one_day_the_choice_does_not_depend_on_the_order(
    bench, make_bench
) -> None:
    rows = [slices(bench, series=series, skew=skew) for series, skew in (("HE", 1.0), ("HEW", 2.0))]
    chosen = set()
    for order in (rows, rows[::-1]):
        tables = {"surface_v1": [slices(bench)], "moments_v1": order}
        found = build(make_bench("HE"), tables)
        chosen.add(found["opt_front_skew"]["value"])
    assert chosen == {1.0}


def test_a_maturity_is_as_good_as_the_slices_that_it_lies_between(bench) -> None:
    points = [
        point(bench, 30, "ATM", 0.3),
        point(bench, 30, "25P", 0.33),
        point(bench, 30, "25C", 0.31),
        point(bench, 60, "ATM", 0.29, data_quality="degraded"),
    ]
    surfaces = [slices(bench), slices(bench, quality="degraded", series="HEW")]
    found = build(bench, {"surface_v1": surfaces, "surface_grid_v1": points})
    assert {
        name: (found[name]["value"], found[name]["quality"])
        for name in ("opt_atm_iv_30d", "opt_atm_iv_60d", "opt_rr_25d_60d", "opt_atm_iv_90d")
    } == {
        "opt_atm_iv_30d": (0.3, "full"),
        "opt_atm_iv_60d": (0.29, "degraded"),
        "opt_rr_25d_60d": (None, "degraded"),
        "opt_atm_iv_90d": (None, "degraded"),
    }
    assert found["opt_rr_25d_30d"]["value"] == pytest.approx(-0.02)


def test_a_thin_surface_marks_its_flows(bench) -> None:
    flow = times(
        bench,
        price_source="quote",
        scope="total",
        weight="volume",
        convention="dealer_long",
        gex=1.0,
    )
    found = build(bench, {"surface_v1": [slices(bench, quality="degraded")], "flow_v1": [flow]})
    row = found["flow_gex_dealer_long_volume"]
    assert (row["value"], row["quality"]) == (1.0, "degraded")


@pytest.mark.parametrize("quality", ["full", "degraded"])
def test_a_flow_by_cot_without_a_report_is_missing(bench, quality: str) -> None:
    key = {"price_source": "quote", "scope": "total", "weight": "open_interest"}
    flow = times(bench, **key, convention="cot", dealer_share=None)
    surfaces = [slices(bench, quality=quality)]
    found = build(bench, {"surface_v1": surfaces, "flow_cot_v1": [flow]})
    row = found["flow_gex_cot_oi"]
    assert (row["value"], row["quality"]) == (None, "missing")


def test_the_second_month_is_of_the_same_cut_off(bench) -> None:
    midnight = bench.at("00:00", date(2025, 3, 7))
    late = times(bench, contract="HEK5", contract_rank=2, close=77.0, as_of=midnight)
    front = times(bench, contract="HEJ5", contract_rank=1, close=90.0)
    found = build(bench, {"futures_v1": [front, late]})
    assert found["fut_second_close"]["value"] is None


def test_times_are_those_of_the_row_and_every_vintage_stays(bench) -> None:
    first = bench.at("20:30", date(2025, 3, 7))
    rows = [
        {
            "report": "disaggregated_futures", "report_date": date(2025, 3, 4),
            "as_of": bench.at("22:00", date(2025, 3, 4)), "open_interest": 10 * (1 + days),
            "available_at": first + timedelta(days=days),
        }
        for days in (0, 5)
    ]  # fmt: skip
    for table in TABLES:
        bench.given(table, *(rows if table == "cot_v1" else ()))
    found = [row for row in bench.build("long_v1") if row["feature_name"] == "cot_open_interest"]
    assert [(row["as_of"], row["available_at"], row["value"]) for row in found] == [
        (row["as_of"], row["available_at"], row["open_interest"]) for row in rows
    ]


def test_of_two_rows_of_one_key_the_better_stands(bench) -> None:
    """A stream's surface and a file's at one instant."""
    flows = [
        times(
            bench, price_source="quote", scope="total", weight="volume",
            convention="dealer_long", gex=gex,
        )
        for gex in (None, 7.0)
    ]  # fmt: skip
    found = build(bench, {"surface_v1": [slices(bench)], "flow_v1": flows})
    row = found["flow_gex_dealer_long_volume"]
    assert (row["value"], row["quality"]) == (7.0, "full")


def test_a_late_correction_of_an_old_session_does_not_displace_a_newer_one(bench) -> None:
    """Thursday's settlements are corrected on Monday, after Friday's: what answers is Friday's."""
    thursday, friday = date(2025, 3, 6), date(2025, 3, 7)
    publications = [
        (thursday, bench.at("23:00", thursday), 0.30),
        (thursday, bench.at("14:00", friday), 0.31),
        (friday, bench.at("23:00", friday), 0.40),
        (thursday, bench.at("15:00", date(2025, 3, 10)), 0.32),
        # In the window of a newer session, both are published at once.
        (friday, bench.at("23:00", date(2025, 3, 10)), 0.41),
        (date(2025, 3, 10), bench.at("23:00", date(2025, 3, 10)), 0.50),
    ]
    points, surfaces, moments = [], [], []
    for day, window, vol in publications:
        when = {"session_date": day, "as_of": window, "available_at": window}
        surfaces.append(slices(bench, "settlement", **when))
        moments.append(slices(bench, "settlement", skew=10 * vol, **when))
        points.append(point(bench, 30, "ATM", vol, price_source="settlement", **when))
    tables = {"surface_v1": surfaces, "surface_grid_v1": points, "moments_v1": moments}
    for table in TABLES:
        bench.given(table, *tables.get(table, ()))
    rows = bench.build("long_v1")
    for name, scale in (("atm_iv_30d", 1), ("front_skew", 10)):
        of = [row for row in rows if row["feature_name"] == f"opt_settlement_{name}"]
        values = [row["value"] for row in of]
        assert values == pytest.approx([scale * vol for vol in (0.30, 0.31, 0.40, 0.50)])
