"""cot_v1.sql: nets, shares and percentiles of each vintage as it could be computed then."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from mathlib import flows

CLASSES = ("prod_merc", "swap", "managed_money", "other_reportable", "nonreportable")
TUESDAY = date(2025, 3, 4)
FRIDAY = datetime(2025, 3, 7, 20, 30, tzinfo=UTC)


def report(bench, day: date = TUESDAY, **values: Any) -> None:
    """Land a report: every class 100 long and 40 short unless said otherwise."""
    tuesday = datetime.combine(day, datetime.min.time(), UTC)
    row: dict[str, Any] = {
        "report_date": day,
        "as_of": tuesday + timedelta(hours=22),
        "available_at": tuesday + timedelta(days=3, hours=20, minutes=30),
        "open_interest": 1000,
        **{f"{name}_long": 100 for name in CLASSES},
        **{f"{name}_short": 40 for name in CLASSES},
    }
    bench.land("cot", **{**row, **values})


def test_net_and_share_of_each_class(bench) -> None:
    longs = dict(zip(CLASSES, (10, 20, 300, 40, 50), strict=True))
    report(bench, **{f"{name}_long": value for name, value in longs.items()}, open_interest=800)
    (row,) = bench.build("cot_v1")
    for name, value in longs.items():
        assert row[f"{name}_net"] == value - 40
        assert row[f"{name}_share"] == pytest.approx((value - 40) / 800)
    assert row["open_interest"] == 800
    assert row["available_at"] == FRIDAY
    assert (row["reports_3y"], row["release_estimated"]) == (1, False)


def test_an_empty_market_has_no_share(bench) -> None:
    report(bench, open_interest=0)
    (row,) = bench.build("cot_v1")
    assert row["managed_money_share"] is None


def test_a_revision_is_a_vintage_and_the_first_stays(bench) -> None:
    report(bench)
    report(bench, managed_money_long=150, available_at=FRIDAY + timedelta(days=5))
    first, second = bench.build("cot_v1")
    assert (first["managed_money_net"], first["available_at"]) == (60, FRIDAY)
    assert (second["managed_money_net"], second["report_date"]) == (110, TUESDAY)
    assert first["as_of"] == second["as_of"]
    assert (first["reports_3y"], second["reports_3y"]) == (1, 1)


@pytest.mark.parametrize(("count", "known"), [(25, False), (26, True)])
def test_a_percentile_needs_half_a_year_of_reports(bench, count: int, known: bool) -> None:
    for week in range(count):
        report(bench, TUESDAY - timedelta(weeks=week))
    newest = bench.build("cot_v1")[-1]
    assert newest["report_date"] == TUESDAY
    assert newest["reports_3y"] == count
    assert newest["swap_percentile_3y"] == (1.0 if known else None)


def test_percentiles_equal_a_slow_twin_with_revisions(bench) -> None:
    """For each vintage: of each report of three years the newest vintage known by then."""
    rng = np.random.default_rng(11)
    start = date(2021, 6, 1)
    rows: list[tuple[date, datetime, list[int]]] = []
    for week in range(190):
        day = start + timedelta(weeks=week)
        released = datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=3, hours=20)
        for revision in range(1 + (week % 7 == 3) + (week % 21 == 3)):
            known = released + timedelta(days=int(revision * rng.integers(2, 60)), hours=revision)
            rows.append((day, known, rng.integers(0, 60, len(CLASSES)).tolist()))
    for index in rng.permutation(len(rows)):
        day, known, nets = rows[index]
        longs = {f"{name}_long": 40 + net for name, net in zip(CLASSES, nets, strict=True)}
        report(bench, day, available_at=known, **longs)

    def three_years_before(day: date) -> date:
        return day.replace(year=day.year - 3)

    found = bench.build("cot_v1")
    assert len(found) == len(rows)
    by_key = {(row["report_date"], row["available_at"]): row for row in found}
    for day, known, nets in rows:
        newest: dict[date, tuple[datetime, list[int]]] = {}
        for other, when, values in rows:
            if three_years_before(day) < other <= day and when <= known:
                newest[other] = max(newest.get(other, (when, values)), (when, values))
        row = by_key[(day, known)]
        assert row["reports_3y"] == len(newest)
        for position, name in enumerate(CLASSES):
            past = [values[position] for _, values in newest.values()]
            share = sum(value <= nets[position] for value in past) / len(past)
            expected = pytest.approx(share) if len(past) >= 26 else None
            assert row[f"{name}_percentile_3y"] == expected


def test_a_report_three_years_ago_is_out(bench) -> None:
    report(bench, date(2025, 3, 4))
    report(bench, date(2022, 3, 4))
    report(bench, date(2022, 3, 8))
    assert bench.build("cot_v1")[-1]["reports_3y"] == 2


def test_kinds_of_report_do_not_mix(bench) -> None:
    report(bench)
    report(bench, TUESDAY - timedelta(weeks=1), report="disaggregated_combined")
    assert [row["reports_3y"] for row in bench.build("cot_v1")] == [1, 1]


def test_what_landed_last_stands_for_one_instant(bench) -> None:
    report(bench, ingested_at=FRIDAY, managed_money_long=100)
    report(bench, ingested_at=FRIDAY + timedelta(days=1), managed_money_long=200)
    (row,) = bench.build("cot_v1")
    assert row["managed_money_net"] == 160


def test_an_estimated_release_says_so(bench) -> None:
    report(bench, release_estimated=True)
    (row,) = bench.build("cot_v1")
    assert row["release_estimated"]


# --- options ------------------------------------------------------------------------------------

SPREADING = ("swap", "managed_money", "other_reportable")
#: What each class holds in options: long, short, and how much of it the report calls a spread.
OPTIONS = {
    "prod_merc": (20, 90, 0),
    "swap": (70, 15, 10),
    "managed_money": (30, 25, 25),
    "other_reportable": (14, 8, 3),
    "nonreportable": (6, 2, 0),
}
TOTAL = 140


def futures_and_combined(bench, day: date = TUESDAY, **combined: Any) -> None:
    """Both reports of a week; the combined one has ``OPTIONS`` besides."""
    spreads = {f"{name}_spread": 5 for name in SPREADING}
    report(bench, day, **spreads)
    row: dict[str, Any] = {"report": "disaggregated_combined", "open_interest": 1000 + TOTAL}
    for name, (long, short, spread) in OPTIONS.items():
        row[f"{name}_long"] = 100 + long - spread
        row[f"{name}_short"] = 40 + short - spread
        row[f"{name}_spread"] = 5 + spread if name in SPREADING else None
    report(bench, day, **{**row, **combined})


def test_options_are_what_combined_has_more_than_futures_only(bench) -> None:
    futures_and_combined(bench)
    rows = bench.build("cot_v1")
    assert [row["report"] for row in rows] == ["disaggregated_combined", "disaggregated_futures"]
    for row in rows:
        assert row["options_open_interest"] == TOTAL
        for name, (long, short, _) in OPTIONS.items():
            assert row[f"{name}_options_long"] == long
            assert row[f"{name}_options_short"] == short
            assert row[f"{name}_options_net"] == long - short
        assert row["dealer_options_share"] == pytest.approx(55 / TOTAL)
    combined, futures = rows
    assert combined["swap_net"] - futures["swap_net"] == 55


def test_dealers_share_is_the_one_of_the_mathematics(bench) -> None:
    futures_and_combined(bench)
    row = bench.build("cot_v1")[0]
    others = [row[f"{name}_options_net"] for name in CLASSES if name != "swap"]
    share = flows.dealer_share(np.array([others]).sum(axis=1), row["options_open_interest"])
    assert row["dealer_options_share"] == pytest.approx(float(share[0]))


@pytest.mark.parametrize(
    "combined",
    [
        {"open_interest": 1000},  # no options
        {"open_interest": 900},
        {"open_interest": 1000 + 30},  # less than dealers hold: it does not add up
        {"prod_merc_long": None},
    ],
)
def test_a_share_that_cannot_be_is_null(bench, combined: dict[str, Any]) -> None:
    futures_and_combined(bench, **combined)
    assert {row["dealer_options_share"] for row in bench.build("cot_v1")} == {None}


@pytest.mark.parametrize("missing", ["disaggregated_futures", "disaggregated_combined"])
def test_without_one_of_the_reports_there_are_no_options(bench, missing: str) -> None:
    (there,) = {"disaggregated_futures", "disaggregated_combined"} - {missing}
    report(bench, report=there)
    report(bench, TUESDAY - timedelta(weeks=1), report=missing)  # another week's does not count
    for row in bench.build("cot_v1"):
        assert row["options_open_interest"] is None
        assert row["swap_options_net"] is None
        assert row["dealer_options_share"] is None


@pytest.mark.parametrize("first", ["futures", "combined"])
def test_options_are_known_with_the_later_of_the_two_vintages(bench, first: str) -> None:
    """Each order of: both released, one revised, the other revised."""
    futures_and_combined(bench)
    revisions = ["futures", "combined"] if first == "futures" else ["combined", "futures"]
    changed = {"futures": {"prod_merc_long": 107}, "combined": {"prod_merc_long": 131}}
    held = {"futures": 100, "combined": 120}
    expected = [(FRIDAY, 20)]
    for days, name in enumerate(revisions, start=1):
        known = FRIDAY + timedelta(days=days)
        report(bench, report=f"disaggregated_{name}", available_at=known, **changed[name])
        held[name] = changed[name]["prod_merc_long"]
        expected.append((known, held["combined"] - held["futures"]))
    for kind in ("futures", "combined"):
        rows = [row for row in bench.build("cot_v1") if row["report"] == f"disaggregated_{kind}"]
        assert [(row["available_at"], row["prod_merc_options_long"]) for row in rows] == expected
        assert {row["reports_3y"] for row in rows} == {1}


def test_a_combined_report_that_comes_later_changes_nothing_before(bench) -> None:
    report(bench)
    known = FRIDAY + timedelta(days=30)
    report(bench, report="disaggregated_combined", available_at=known, prod_merc_long=103)
    futures = [r for r in bench.build("cot_v1") if r["report"] == "disaggregated_futures"]
    assert [(row["available_at"], row["prod_merc_options_long"]) for row in futures] == [
        (FRIDAY, None),
        (known, 3),
    ]
    assert [row["prod_merc_net"] for row in futures] == [60, 60]
