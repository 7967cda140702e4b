"""futures_v1.sql: the curve's ranks, returns, realised vols, roll yield and slope."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

#: The months' expirations of these tests, each on its day at 17:00 UTC.
EXPIRES = {
    "HEH5": date(2025, 3, 14),
    "HEJ5": date(2025, 4, 14),
    "HEK5": date(2025, 5, 14),
    "HEM5": date(2025, 6, 13),
}
DAY = date(2025, 3, 6)


def bar(bench, contract: str, close: float, day: date = DAY, **values: Any) -> dict[str, Any]:
    """A row of session_bar_v1 at the session's cut-off."""
    cut_off = bench.session(day)["cut_off"]
    row = {
        "session_date": day,
        "contract": contract,
        "expiration": bench.at("17:00", EXPIRES[contract]),
        "contract_month": EXPIRES[contract].replace(day=1),
        "close": close,
        "close_source": "bar_1m",
        "as_of": cut_off,
        "available_at": cut_off,
    }
    return {**row, **values}


def path(bench, sessions: int, skip: frozenset[int] = frozenset()) -> list[dict[str, Any]]:
    """A wandering future over sessions up to mid-March 2025, some of them without a bar."""
    days = [
        row["session_date"]
        for row in bench.rows("meta.sessions", "session_date <= '2025-03-14'")[-sessions:]
    ]
    rng = np.random.default_rng(7)
    closes = 90 * np.exp(np.cumsum(rng.normal(0, 0.01, sessions)))
    up, down = np.exp(rng.uniform(0, 0.02, (2, sessions)))
    return [
        bar(bench, "HEM5", close, day, high=close * up[i], low=close / down[i])
        for i, (day, close) in enumerate(zip(days, closes.tolist(), strict=True))
        if i not in skip
    ]


@pytest.mark.parametrize(
    ("day", "ranked"),
    [
        # Five sessions before Friday 14 March is Friday 7 March.
        (date(2025, 3, 6), ["HEH5", "HEJ5", "HEK5", "HEM5"]),
        (date(2025, 3, 7), ["HEJ5", "HEK5", "HEM5"]),
        (date(2025, 3, 14), ["HEJ5", "HEK5", "HEM5"]),
    ],
)
def test_the_front_expires_more_than_five_sessions_later(
    bench, day: date, ranked: list[str]
) -> None:
    bench.given("session_bar_v1", *(bar(bench, contract, 90.0, day) for contract in EXPIRES))
    ranks = {row["contract"]: row["contract_rank"] for row in bench.build("futures_v1")}
    expected = {contract: rank for rank, contract in enumerate(ranked, start=1)}
    assert ranks == {contract: expected.get(contract) for contract in EXPIRES}


def test_without_a_definition_the_end_of_the_month_stands_for_the_expiration(bench) -> None:
    rows = [bar(bench, contract, 90.0, expiration=None) for contract in EXPIRES]
    bench.given("session_bar_v1", *rows)
    rows = bench.build("futures_v1")
    assert [row["contract_rank"] for row in rows] == [1, 2, 3, 4]
    assert {row["t_years"] for row in rows} == {None}
    assert {row["roll_yield"] for row in rows} == {None}


def test_a_day_bar_known_later_does_not_become_the_front(bench) -> None:
    """A far month that trades after the cut-off is known at midnight: it is still a far one."""
    midnight = bench.at("00:00", date(2025, 3, 7))
    late = {"as_of": midnight, "available_at": midnight, "close_source": "bar_1d"}
    bench.given(
        "session_bar_v1",
        bar(bench, "HEJ5", 90.0),
        bar(bench, "HEK5", 89.0, **late),
        bar(bench, "HEM5", 88.0),
    )
    rows = {row["contract"]: row for row in bench.build("futures_v1")}
    ranks = {contract: row["contract_rank"] for contract, row in rows.items()}
    assert ranks == {"HEJ5": 1, "HEM5": 2, "HEK5": 2}
    # At the cut-off the next month that is known is June; at midnight May is between.
    years = (EXPIRES["HEM5"] - EXPIRES["HEJ5"]).days / 365
    assert rows["HEJ5"]["roll_yield"] == pytest.approx(np.log(90 / 88) / years)
    years = (EXPIRES["HEM5"] - EXPIRES["HEK5"]).days / 365
    assert rows["HEK5"]["roll_yield"] == pytest.approx(np.log(89 / 88) / years)
    assert rows["HEJ5"]["available_at"] == bench.session()["cut_off"]
    assert rows["HEK5"]["available_at"] == midnight


def test_roll_yield_is_positive_in_backwardation(bench) -> None:
    bench.given(
        "session_bar_v1", bar(bench, "HEJ5", 92.0), bar(bench, "HEK5", 90.0),
        bar(bench, "HEM5", 95.0),
    )  # fmt: skip
    yields = {row["contract"]: row["roll_yield"] for row in bench.build("futures_v1")}
    assert yields["HEJ5"] == pytest.approx(np.log(92 / 90) * 365 / 30)
    assert yields["HEK5"] == pytest.approx(np.log(90 / 95) * 365 / 30)
    assert yields["HEJ5"] > 0 > yields["HEK5"]
    assert yields["HEM5"] is None


def test_slope_of_the_curve_is_a_least_squares_line(bench) -> None:
    closes = dict(zip(EXPIRES, (92.0, 90.0, 91.0, 95.0), strict=True))
    bench.given("session_bar_v1", *(bar(bench, name, close) for name, close in closes.items()))
    cut_off = bench.session()["cut_off"]
    years = [(bench.at("17:00", day) - cut_off) / timedelta(days=365) for day in EXPIRES.values()]
    slope = np.polyfit(years, np.log(list(closes.values())), 1)[0]
    for row in bench.build("futures_v1"):
        assert row["term_slope"] == pytest.approx(slope)


def test_returns_and_realised_vols_equal_numpy(bench) -> None:
    given = path(bench, 66)
    bench.given("session_bar_v1", *given)
    rows = bench.build("futures_v1")
    closes, highs, lows = (np.array([row[x] for row in given]) for x in ("close", "high", "low"))
    returns = np.diff(np.log(closes))
    ranges = np.log(highs / lows) ** 2 / (4 * np.log(2))
    assert rows[0]["return_1d"] is None
    assert [row["return_1d"] for row in rows[1:]] == pytest.approx(returns.tolist())
    for window in (5, 21, 63):
        for i, row in enumerate(rows):
            full = i >= window  # as many returns need one close more
            cc = np.sqrt(252 * np.mean(returns[i - window : i] ** 2)) if full else None
            assert row[f"rv_cc_{window}d"] == (pytest.approx(cc) if full else None)
            full = i >= window - 1
            rv = np.sqrt(252 * np.mean(ranges[i - window + 1 : i + 1])) if full else None
            assert row[f"rv_range_{window}d"] == (pytest.approx(rv) if full else None)


def test_a_missing_session_leaves_a_gap_and_no_return_over_it(bench) -> None:
    bench.given("session_bar_v1", *path(bench, 13, skip=frozenset({6})))
    rows = bench.build("futures_v1")
    assert [row["return_1d"] is None for row in rows].count(True) == 2
    assert rows[6]["return_1d"] is None
    has_vol = [row["rv_cc_5d"] is not None for row in rows]
    # Returns 1 to 5, then from session 8 on: the first window of five ends at session 12.
    assert has_vol == [False] * 5 + [True] + [False] * 5 + [True]
    has_range = [row["rv_range_5d"] is not None for row in rows]
    assert has_range == [False] * 4 + [True] * 2 + [False] * 4 + [True] * 2


def test_returns_are_of_one_contract(bench) -> None:
    bench.given(
        "session_bar_v1",
        bar(bench, "HEJ5", 80.0, date(2025, 3, 5)),
        bar(bench, "HEK5", 90.0, date(2025, 3, 5)),
        bar(bench, "HEJ5", 81.0),
        bar(bench, "HEK5", 90.9),
    )
    rows = bench.build("futures_v1")
    found = {row["contract"]: row["return_1d"] for row in rows if row["session_date"] == DAY}
    assert found == pytest.approx({"HEJ5": np.log(81 / 80), "HEK5": np.log(90.9 / 90)})


def test_prices_at_or_below_zero_have_no_logarithm_and_harm_nobody(bench) -> None:
    """Oil settled at -37.63 on 2020-04-20."""
    days = [date(2025, 3, 4), date(2025, 3, 5), date(2025, 3, 6)]
    closes = [18.0, -37.63, 10.0]
    bench.given(
        "session_bar_v1",
        *(
            bar(bench, "HEJ5", close, day, high=close + 1, low=close - 1)
            for day, close in zip(days, closes, strict=True)
        ),
        *(bar(bench, "HEK5", 20.0, day) for day in days),
    )
    rows = [row for row in bench.build("futures_v1") if row["contract"] == "HEJ5"]
    assert [row["close"] for row in rows] == closes
    assert [row["return_1d"] for row in rows] == [None, None, None]
    assert [row["roll_yield"] is None for row in rows] == [False, True, False]
    assert [row["term_slope"] is None for row in rows] == [False, True, False]


def test_a_row_is_known_when_its_window_and_curve_are(bench) -> None:
    early = bench.at("15:00")
    later: datetime = bench.at("18:00")
    bench.given(
        "session_bar_v1",
        bar(bench, "HEJ5", 90.0, available_at=early),
        bar(bench, "HEK5", 90.0, available_at=later),
    )
    assert {row["available_at"] for row in bench.build("futures_v1")} == {later}


def test_later_sessions_do_not_change_the_last_digit_of_earlier_ones(bench) -> None:
    """A sum takes its terms in the order of the sessions, whatever other rows there are."""
    days = [day["session_date"] for day in bench.rows("meta.sessions")[:90]]
    rng = np.random.default_rng(1)
    closes = np.exp(np.cumsum(rng.normal(0, 0.02, (90, 20)), axis=0))
    expiration = bench.at("17:00", date(2026, 6, 12))
    rows = [
        bar(bench, "HEM5", close, day, high=close * 1.02, low=close / 1.01)
        | {"contract": f"HEM{number}", "expiration": expiration}
        for day, curve in zip(days, closes.tolist(), strict=True)
        for number, close in enumerate(curve)
    ]
    names = "session_date, contract, columns('rv_.*')"
    known = (
        f"select {names} from features.futures_v1 where session_date <= '{days[60]}' order by 1, 2"
    )
    bench.given("session_bar_v1", *rows)
    bench.build("futures_v1")
    with_later = bench.sql(known)
    bench.given("session_bar_v1", *rows[: 61 * 20])
    bench.build("futures_v1")
    assert bench.sql(known) == with_later
