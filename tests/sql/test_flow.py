"""flow_by_strike_v1.sql and flow_v1.sql: exposures in USD, their signs and the zero of gamma."""

from __future__ import annotations

import math
from datetime import date, datetime
from statistics import NormalDist
from typing import Any

import pytest

PDF = NormalDist().pdf
FORWARD, YEARS, VOL, RATE = 90.0, 0.2, 0.3, 0.04
MULTIPLIER = 400.0  # hogs: 40,000 lb quoted in cents
SIGNS = {
    "dealer_short": {"C": -1, "P": -1},
    "dealer_long": {"C": 1, "P": 1},
    "calls_long_puts_short": {"C": 1, "P": -1},
}
CURVE = ("a", "b", "rho", "m", "sigma")


def key(bench, **values: Any) -> dict[str, Any]:
    cut_off = bench.session()["cut_off"]
    return {
        "session_date": date(2025, 3, 6),
        "price_source": "quote",
        "series": "HE",
        "expiry": date(2025, 5, 18),
        "as_of": cut_off,
        "available_at": cut_off,
        **values,
    }


def option(bench, strike: float, kind: str, open_interest: int, **values: Any) -> dict[str, Any]:
    """A row of chain_v1."""
    row = {
        "option_type": kind,
        "strike": strike,
        "open_interest": open_interest,
        "open_interest_as_of": bench.at("19:05", date(2025, 3, 5)),
        "volume_as_of": bench.at("19:05", date(2025, 3, 5)),
        "forward": FORWARD,
        "t_years": YEARS,
        "rate": RATE,
        **values,
    }
    return key(bench, **row)


def flat(bench, vol: float = VOL, years: float = YEARS, **values: Any) -> dict[str, Any]:
    """A row of surface_v1 with one vol at every strike."""
    curve = dict(zip(CURVE, (vol**2 * years, 0.0, 0.0, 0.0, 0.1), strict=True))
    row = {"forward": FORWARD, "t_years": years, "atm_iv": vol, "data_quality": "full"}
    return key(bench, **{**row, **curve, **values})


def flows(bench, options: list[dict], slices: list[dict]) -> list[dict[str, Any]]:
    bench.given("chain_v1", *options)
    bench.given("surface_v1", *slices)
    return bench.derive("flow_v1")


def pick(rows: list[dict[str, Any]], **where: Any) -> dict[str, Any]:
    (row,) = [row for row in rows if all(row[name] == value for name, value in where.items())]
    return row


def d1(strike: float, forward: float = FORWARD, years: float = YEARS, vol: float = VOL) -> float:
    return (math.log(forward / strike) + vol**2 * years / 2) / (vol * math.sqrt(years))


def gamma(strike: float, forward: float = FORWARD, years: float = YEARS, vol: float = VOL) -> float:
    """Black-76, discounted: the same for a call and a put."""
    density = PDF(d1(strike, forward, years, vol)) / (forward * vol * math.sqrt(years))
    return math.exp(-RATE * years) * density


def delta(bench, strike: float, kind: str, years: float = YEARS, vol: float = VOL) -> float:
    """By central difference of a plain price."""
    h = 1e-4
    up, down = (bench.black76(FORWARD + move, strike, years, vol, RATE, kind) for move in (h, -h))
    return (up - down) / (2 * h)


@pytest.mark.parametrize("convention", list(SIGNS))
@pytest.mark.parametrize("kind", ["C", "P"])
def test_one_option_by_hand(bench, convention: str, kind: str) -> None:
    """100 contracts: USD of delta that dealers gain when the forward, the vol or time moves."""
    rows = flows(bench, [option(bench, 95.0, kind, 100)], [flat(bench)])
    held = 100 * SIGNS[convention][kind] * MULTIPLIER
    for scope in ("total", "expiry"):
        row = pick(rows, scope=scope, convention=convention, weight="open_interest")
        # A rise of 1 % is 0.9 cents: delta changes by gamma x 0.9, each worth the forward.
        gex = held * gamma(95.0) * 0.9 * FORWARD
        assert row["gex"] == pytest.approx(gex, rel=1e-9)
        h = 1e-4
        by_vol = (delta(bench, 95.0, kind, vol=VOL + h) - delta(bench, 95.0, kind, vol=VOL - h)) / (
            2 * h
        )
        assert row["vanna_flow"] == pytest.approx(held * FORWARD * by_vol * 0.01, rel=1e-5)
        by_year = (
            delta(bench, 95.0, kind, years=YEARS - h) - delta(bench, 95.0, kind, years=YEARS + h)
        ) / (2 * h)
        assert row["charm_flow"] == pytest.approx(held * FORWARD * by_year / 365, rel=1e-4)
        assert row["contracts"] == 100


def test_signs_of_gamma_by_convention(bench) -> None:
    """More calls than puts: who is long calls and short puts is long gamma."""
    rows = flows(bench, [option(bench, 90.0, "C", 30), option(bench, 90.0, "P", 10)], [flat(bench)])
    gex = {
        row["convention"]: row["gex"]
        for row in rows
        if row["scope"] == "total" and row["weight"] == "open_interest"
    }
    one = gamma(90.0) * FORWARD**2 * 0.01 * MULTIPLIER
    assert gex == pytest.approx(
        {"dealer_short": -40 * one, "dealer_long": 40 * one, "calls_long_puts_short": 20 * one}
    )


def test_open_interest_and_volume_weigh_apart(bench) -> None:
    rows = flows(bench, [option(bench, 90.0, "C", 30, volume=6)], [flat(bench)])
    by_weight = {
        row["weight"]: (row["gex"], row["contracts"])
        for row in rows
        if row["scope"] == "total" and row["convention"] == "dealer_long"
    }
    assert by_weight["open_interest"][1] == 30
    assert by_weight["volume"][1] == 6
    assert by_weight["open_interest"][0] == pytest.approx(5 * by_weight["volume"][0])


def test_nothing_held_is_no_row(bench) -> None:
    rows = flows(bench, [option(bench, 90.0, "C", 0, volume=None)], [flat(bench)])
    assert rows == []


def test_total_is_the_sum_of_the_expiries(bench) -> None:
    later = {"expiry": date(2025, 7, 30), "t_years": 0.4}
    rows = flows(
        bench,
        [
            option(bench, 90.0, "C", 30),
            option(bench, 95.0, "P", 20),
            option(bench, 92.0, "C", 10, **later),
        ],
        [flat(bench), flat(bench, years=0.4, **later)],
    )
    for convention in SIGNS:
        parts = [row for row in rows if row["convention"] == convention]
        expiries = [row for row in parts if row["scope"] == "expiry"]
        total = pick(parts, scope="total")
        assert [row["contracts"] for row in expiries] == [50, 10]
        assert total["series"] is total["expiry"] is None
        for name in ("gex", "vanna_flow", "charm_flow", "contracts"):
            assert total[name] == pytest.approx(sum(row[name] for row in expiries))


def test_by_strike_nets_calls_against_puts(bench) -> None:
    flows(
        bench,
        [
            option(bench, 90.0, "C", 30),
            option(bench, 90.0, "P", 10),
            option(bench, 95.0, "C", 5),
        ],
        [flat(bench)],
    )
    rows = bench.rows("features.flow_by_strike_v1", "convention = 'calls_long_puts_short'")
    assert [(row["strike"], row["contracts"], row["net_contracts"]) for row in rows] == [
        (90.0, 40, 20),
        (95.0, 5, 5),
    ]
    for row in rows:
        expected = row["net_contracts"] * gamma(row["strike"]) * FORWARD**2 * 0.01 * MULTIPLIER
        assert row["gex"] == pytest.approx(expected)
        assert row["vol"] == pytest.approx(VOL)


def test_a_thin_slice_is_priced_at_its_vol_at_the_money(bench) -> None:
    thin = flat(bench, data_quality="degraded", **dict.fromkeys(CURVE))
    rows = flows(bench, [option(bench, 95.0, "C", 10)], [thin])
    row = pick(rows, scope="total", convention="dealer_long")
    assert row["gex"] == pytest.approx(10 * gamma(95.0) * FORWARD**2 * 0.01 * MULTIPLIER)


def test_a_slice_without_a_vol_counts_contracts_and_no_exposure(bench) -> None:
    gone = flat(bench, data_quality="missing", **dict.fromkeys((*CURVE, "atm_iv")))
    rows = flows(bench, [option(bench, 95.0, "C", 10)], [gone])
    row = pick(rows, scope="total", convention="calls_long_puts_short")
    assert row["contracts"] == 10
    assert row["gex"] is row["zero_gamma"] is None
    assert row["zero_gamma_reason"] == "no vol to price the options at"


def test_a_strike_below_zero_harms_nobody(bench) -> None:
    odd = option(bench, -7.0, "C", 5)
    rows = flows(bench, [odd, option(bench, 95.0, "C", 10)], [flat(bench)])
    row = pick(rows, scope="total", convention="dealer_long")
    assert row["contracts"] == 15
    assert row["gex"] == pytest.approx(10 * gamma(95.0) * FORWARD**2 * 0.01 * MULTIPLIER)


# The zero of gamma.


def bisected(holdings: list[tuple[float, float]], low: float, high: float) -> float:
    """The forward at which the net gamma of (strike, net contracts) is zero, slowly."""

    def net(forward: float) -> float:
        return sum(n * gamma(strike, forward) * forward**2 for strike, n in holdings)

    assert net(low) * net(high) < 0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if net(low) * net(middle) > 0 else (low, middle)
    return low


def test_zero_gamma_is_where_the_sign_turns(bench) -> None:
    """Short puts below, long calls above: gamma turns between them."""
    rows = flows(
        bench, [option(bench, 85.0, "P", 120), option(bench, 95.0, "C", 100)], [flat(bench)]
    )
    expected = bisected([(85.0, -120.0), (95.0, 100.0)], 80.0, 100.0)
    for scope in ("total", "expiry"):
        row = pick(rows, scope=scope, convention="calls_long_puts_short", weight="open_interest")
        assert row["zero_gamma"] == pytest.approx(expected, rel=1e-6)
        assert row["zero_gamma_reason"] is None


def test_zero_gamma_in_total_is_of_the_first_expiry(bench) -> None:
    """All forwards move by one factor; the level is given in the first expiry's forward."""
    later = {"expiry": date(2025, 7, 30), "forward": 99.0}
    rows = flows(
        bench,
        [
            option(bench, 85.0, "P", 120),
            option(bench, 95.0, "C", 100),
            option(bench, 93.5, "P", 120, **later),
            option(bench, 104.5, "C", 100, **later),
        ],
        [flat(bench), flat(bench, **later)],
    )
    where = {"convention": "calls_long_puts_short", "weight": "open_interest"}
    near = pick(rows, scope="expiry", expiry=date(2025, 5, 18), **where)["zero_gamma"]
    far = pick(rows, scope="expiry", expiry=date(2025, 7, 30), **where)["zero_gamma"]
    # Everything of the later one is 1.1 times the first one's: so is its level.
    assert far == pytest.approx(1.1 * near, rel=1e-6)
    assert pick(rows, scope="total", **where)["zero_gamma"] == pytest.approx(near, rel=1e-6)


def test_there_is_no_zero_when_all_is_held_on_one_side(bench) -> None:
    rows = flows(bench, [option(bench, 95.0, "C", 100)], [flat(bench)])
    for row in rows:
        assert row["zero_gamma"] is None
    reasons = {row["convention"]: row["zero_gamma_reason"] for row in rows}
    one_sided = "dealers are on one side of every option"
    assert reasons == {
        "dealer_short": one_sided,
        "dealer_long": one_sided,
        "calls_long_puts_short": "gamma exposure keeps its sign between half and twice the forward",
    }


def test_times_are_the_latest_of_what_is_summed(bench) -> None:
    times: list[datetime] = [bench.at("15:00"), bench.at("16:00"), bench.at("17:00")]
    closes = [bench.at("19:05", date(2025, 3, 4)), bench.at("19:05", date(2025, 3, 5))]
    rows = flows(
        bench,
        [
            option(bench, 90.0, "C", 1, available_at=times[0], open_interest_as_of=closes[0]),
            option(bench, 95.0, "C", 1, available_at=times[2], open_interest_as_of=closes[1]),
        ],
        [flat(bench, available_at=times[1])],
    )
    row = pick(rows, scope="total", convention="dealer_long")
    assert (row["available_at"], row["weight_as_of"]) == (times[2], closes[1])
    by_strike = bench.rows("features.flow_by_strike_v1", "convention = 'dealer_long'")
    assert [row["available_at"] for row in by_strike] == [times[1], times[2]]


def test_sources_and_cut_offs_do_not_mix(bench) -> None:
    later = bench.at("23:00")
    other = {"price_source": "settlement", "as_of": later, "available_at": later}
    rows = flows(
        bench,
        [option(bench, 90.0, "C", 10), option(bench, 90.0, "C", 40, **other)],
        [flat(bench), flat(bench, **other)],
    )
    totals = {
        (row["price_source"], row["as_of"]): row["contracts"]
        for row in rows
        if row["scope"] == "total" and row["convention"] == "dealer_long"
    }
    assert totals == {("quote", bench.session()["cut_off"]): 10, ("settlement", later): 40}
