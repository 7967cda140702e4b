"""macros/cot_at.sql: the newest report by two clocks, the market's and this lake's."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pytest

MICROSECOND = timedelta(microseconds=1)
TUESDAYS = (date(2025, 3, 4), date(2025, 3, 11))
RELEASES = (datetime(2025, 3, 7, 20, 30, tzinfo=UTC), datetime(2025, 3, 14, 19, 30, tzinfo=UTC))
#: The first report was landed late, on the day of the second; then the CFTC revised it.
LANDED = datetime(2025, 3, 15, 12, tzinfo=UTC)
REVISED = datetime(2025, 3, 18, 12, tzinfo=UTC)
FOREVER = datetime(2026, 1, 1, tzinfo=UTC)


def land(bench, which: int, open_interest: int, available_at: datetime, ingested_at: datetime):
    tuesday = TUESDAYS[which]
    bench.land(
        "cot",
        report_date=tuesday,
        as_of=datetime(tuesday.year, tuesday.month, tuesday.day, 21, tzinfo=UTC),
        available_at=available_at,
        ingested_at=ingested_at,
        open_interest=open_interest,
    )


@pytest.fixture
def reports(bench) -> Any:
    """Two reports landed together after both releases, and a revision of the second."""
    land(bench, 0, 100, RELEASES[0], LANDED)
    land(bench, 1, 200, RELEASES[1], LANDED)
    land(bench, 1, 201, REVISED, REVISED)
    bench.prepare()
    bench.macros()
    return bench


def ask(bench, t: datetime, had_at: datetime, market: str = "'HE'") -> int | None:
    """Open interest of the report that answers."""
    rows = bench.rows(f"cot_at({market}, '{t.isoformat()}', '{had_at.isoformat()}')")
    assert len(rows) <= 1
    return rows[0]["open_interest"] if rows else None


@pytest.mark.parametrize(
    ("t", "had_at", "open_interest"),
    [
        # What the market could know.
        (RELEASES[0] - MICROSECOND, FOREVER, None),
        (RELEASES[0], FOREVER, 100),
        (RELEASES[1] - MICROSECOND, FOREVER, 100),
        (RELEASES[1], FOREVER, 200),
        (REVISED - MICROSECOND, FOREVER, 200),
        (REVISED, FOREVER, 201),
        # What this lake had: nothing before it was landed.
        (RELEASES[1], RELEASES[1], None),
        (LANDED - MICROSECOND, LANDED - MICROSECOND, None),
        (LANDED, LANDED, 200),
        (REVISED, REVISED, 201),
        # A question of now about the market of then, by what was landed before the revision.
        (FOREVER, REVISED - MICROSECOND, 200),
        (RELEASES[0], LANDED, 100),
    ],
)
def test_each_clock_bounds_the_answer(
    reports, t: datetime, had_at: datetime, open_interest: int | None
) -> None:
    assert ask(reports, t, had_at) == open_interest


def test_a_late_revision_of_an_old_report_does_not_displace_a_newer_one(bench) -> None:
    land(bench, 0, 100, RELEASES[0], RELEASES[0])
    land(bench, 1, 200, RELEASES[1], RELEASES[1])
    land(bench, 0, 101, REVISED, REVISED)
    bench.prepare()
    bench.macros()
    assert ask(bench, FOREVER, FOREVER) == 200
    assert ask(bench, RELEASES[0], FOREVER) == 100


def test_the_row_says_when_it_was_landed(reports) -> None:
    row = reports.row(f"cot_at('HE', '{RELEASES[1].isoformat()}', '{FOREVER.isoformat()}')")
    assert (row["report_date"], row["available_at"]) == (TUESDAYS[1], RELEASES[1])
    assert row["ingested_at"] == LANDED


@pytest.mark.parametrize(
    ("question", "refusal"),
    [
        ("cot_at('HE', '2025-03-07', '2025-03-07T20:30:00Z')", "t needs a time and a zone"),
        ("cot_at('HE', '2025-03-07T20:30:00Z', null)", "t needs a time and a zone"),
        ("cot_at('XX', '2025-03-07T20:30:00Z', '2025-03-07T20:30:00Z')", "unknown market XX"),
        ("cot_at(null, '2025-03-07T20:30:00Z', '2025-03-07T20:30:00Z')", "unknown market NULL"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(
    reports, question: str, refusal: str
) -> None:
    with pytest.raises(duckdb.Error, match=refusal):
        reports.rows(question)
    reports.connection.execute("delete from raw.cot").fetchall()
    with pytest.raises(duckdb.Error, match=refusal):
        reports.rows(question)


def test_on_a_lake_both_clocks_agree_with_the_features(sample_lake) -> None:
    """The report of the market's clock is the one whose numbers features_at gives."""
    t = "2025-03-13T20:00:00Z"
    with sample_lake.connect() as connection:
        ((open_interest, ingested_at),) = connection.sql(
            "select open_interest, ingested_at "
            f"from cot_at('HE', '{t}', '9999-01-01T00:00:00Z') "
            "where report = 'disaggregated_futures'"
        ).fetchall()
        ((value,),) = connection.sql(
            f"select value from features_at('HE', '{t}') where feature_name = 'cot_open_interest'"
        ).fetchall()
        before = ingested_at - MICROSECOND
        had = connection.sql(f"from cot_at('HE', '{t}', '{before.isoformat()}')").fetchall()
    assert value == open_interest
    assert had == []
