"""cot_v1.sql: nets, shares and percentiles of each vintage as it could be computed then."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

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
