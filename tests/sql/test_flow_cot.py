"""flow_cot_v1.sql: dealers' exposures by the newest COT report that was out at the cut-off."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

MICROSECOND = timedelta(microseconds=1)
TUESDAYS = [date(2025, 2, 25), date(2025, 3, 4), date(2025, 3, 11)]
RELEASES = [datetime(2025, 2, 28, 20, 30, tzinfo=UTC), datetime(2025, 3, 7, 20, 30, tzinfo=UTC),
            datetime(2025, 3, 14, 19, 30, tzinfo=UTC)]  # fmt: skip
#: The cut-off of the flows, unless a test says otherwise: a Monday after the second release.
CUT_OFF = datetime(2025, 3, 10, 18, tzinfo=UTC)


def flow(**values: Any) -> dict[str, Any]:
    row = {
        "session_date": date(2025, 3, 10),
        "price_source": "quote",
        "scope": "total",
        "weight": "open_interest",
        "convention": "calls_long_puts_short",
        "contracts": 700,
        "gex": 1000.0,
        "vanna_flow": -20.0,
        "charm_flow": 3.0,
        "zero_gamma": 84.0,
        "as_of": CUT_OFF,
        "available_at": CUT_OFF - timedelta(hours=1),
    }
    return {**row, **values}


def report(week: int, share: float | None, known: datetime | None = None) -> dict[str, Any]:
    return {
        "report": "disaggregated_futures",
        "report_date": TUESDAYS[week],
        "as_of": datetime.combine(TUESDAYS[week], datetime.min.time(), UTC) + timedelta(hours=22),
        "available_at": known or RELEASES[week],
        "dealer_options_share": share,
    }


def build(bench, flows: list[dict[str, Any]], reports: list[dict[str, Any]]) -> list[Any]:
    bench.given("flow_v1", *flows)
    bench.given("cot_v1", *reports)
    return bench.build("flow_cot_v1")


def test_exposures_are_the_share_of_those_with_calls_long_and_puts_short(bench) -> None:
    expiry = {"scope": "expiry", "series": "HE", "expiry": date(2025, 4, 14)}
    rows = build(
        bench,
        [
            flow(),
            flow(**expiry, gex=400.0, contracts=300),
            flow(convention="dealer_long", gex=9.0),
            flow(weight="volume", gex=9.0),
        ],
        [report(1, -0.25), {**report(1, 0.9), "report": "disaggregated_combined"}],
    )
    assert [row["scope"] for row in rows] == ["expiry", "total"]
    in_expiry, total = rows
    assert (in_expiry["gex"], in_expiry["series"], in_expiry["contracts"]) == (-100.0, "HE", 300)
    assert (total["gex"], total["vanna_flow"], total["charm_flow"]) == (-250.0, 5.0, -0.75)
    assert (total["weight"], total["convention"]) == ("open_interest", "cot")
    assert (total["report_date"], total["dealer_share"]) == (TUESDAYS[1], -0.25)
    assert total["share_reason"] is None


@pytest.mark.parametrize(
    ("cut_off", "share"),
    [
        (RELEASES[0] - MICROSECOND, None),
        (RELEASES[0], 0.1),
        (RELEASES[1] - MICROSECOND, 0.1),
        (RELEASES[1], 0.2),
        (RELEASES[2] - MICROSECOND, 0.2),
        (RELEASES[2], 0.3),
    ],
)
def test_the_newest_report_at_the_cut_off_counts(
    bench, cut_off: datetime, share: float | None
) -> None:
    known = cut_off - timedelta(days=20)
    reports = [report(week, 0.1 + week / 10) for week in range(3)]
    (row,) = build(bench, [flow(as_of=cut_off, available_at=known)], reports)
    assert row["dealer_share"] == (None if share is None else pytest.approx(share))
    released = [at for at in RELEASES if at <= cut_off]
    assert row["available_at"] == max([known, *released])
    assert row["share_reason"] == (None if released else "no report was out at the cut-off")


def test_the_flow_may_be_known_later_than_the_report(bench) -> None:
    (row,) = build(bench, [flow()], [report(1, 0.2)])
    assert row["available_at"] == CUT_OFF - timedelta(hours=1)
    assert row["as_of"] == CUT_OFF


def test_every_interleaving_of_two_reports_and_their_revisions(bench) -> None:
    """The newest report known at the cut-off, in its newest vintage, by a slow twin."""
    hours = [1, 2, 3, 4]
    start = datetime(2025, 3, 14, 20, tzinfo=UTC)
    for order in itertools.permutations(hours):
        vintages = [
            report(week, share, start + timedelta(hours=hour))
            for (week, share), hour in zip(
                ((1, 0.1), (1, 0.2), (2, 0.3), (2, 0.4)), order, strict=True
            )
        ]
        cut_offs = [start + timedelta(hours=hour) for hour in range(6)]
        flows = [flow(as_of=at, available_at=start) for at in cut_offs]
        for row in build(bench, flows, vintages):
            known = [v for v in vintages if v["available_at"] <= row["as_of"]]
            newest = max(known, key=lambda v: (v["report_date"], v["available_at"]), default=None)
            expected = newest["dealer_options_share"] if newest else None
            assert row["dealer_share"] == expected
            assert row["available_at"] == (newest["available_at"] if newest else start)


def test_two_reports_of_one_instant_give_the_newer_one(bench) -> None:
    both = [report(1, 0.2, RELEASES[1]), report(0, 0.1, RELEASES[1])]
    for reports in (both, both[::-1]):
        (row,) = build(bench, [flow()], reports)
        assert (row["report_date"], row["dealer_share"]) == (TUESDAYS[1], 0.2)


def test_a_report_more_than_one_release_behind_does_not_count(bench) -> None:
    for cut_off, share in ((RELEASES[2] - MICROSECOND, 0.1), (RELEASES[2], None)):
        (row,) = build(bench, [flow(as_of=cut_off)], [report(0, 0.1)])
        assert row["dealer_share"] == share
        assert row["report_date"] == TUESDAYS[0]
        reason = None if share else "the newest report is more than one release behind"
        assert row["share_reason"] == reason
        assert (row["gex"] is None) == (share is None)


def test_without_a_combined_report_there_is_no_share(bench) -> None:
    """Nor is an older one taken in its place."""
    (row,) = build(bench, [flow()], [report(0, 0.1), report(1, None)])
    assert (row["dealer_share"], row["gex"]) == (None, None)
    assert row["report_date"] == TUESDAYS[1]
    assert row["share_reason"].startswith("no combined report")
