"""daily_v1.sql: every feature as it was known at each session's cut-off."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from etl import cot_releases
from tests.sql.long_rows import cut_offs, value

MICROSECOND = timedelta(microseconds=1)
FEATURE = "fut_front_close"


def slow_answer(
    rows: Sequence[dict[str, Any]], ticks: Sequence[tuple[datetime, datetime]], t: datetime
) -> dict[str, Any] | None:
    """What one feature's answer at t is, by looking at every row: the rule in its own words.

    ``ticks`` are (as_of, known_at) of the feature's clock.
    """
    known = [row for row in rows if row["available_at"] <= t and row["as_of"] <= t]
    if not known:
        return None
    newest = max(row["as_of"] for row in known)
    answer = max(
        (row for row in known if row["as_of"] == newest), key=lambda row: row["available_at"]
    )
    age = sum(1 for as_of, known_at in ticks if as_of > newest and known_at <= t)
    return {**answer, "age": age}


def test_every_interleaving_of_three_reports_and_a_revision(bench) -> None:
    """Each of three values, and a revision of the second, becomes known at any of five cut-offs."""
    days = cut_offs(bench, 6)
    ticks = [(day, day) for day in cut_offs(bench, 200, date(2024, 11, 1))]
    as_ofs = (days[0], days[1], days[1], days[2])
    orders = [
        known
        for known in itertools.product(days[:5], repeat=4)
        if known[1] != known[2]  # one key is one row
    ]
    bench.reference()
    names = [row["feature_name"] for row in bench.rows("meta.features", "clock = 'session'")]
    assert len(orders) == 500
    for start in range(0, len(orders), len(names)):
        by_feature = {
            name: [
                value(name, as_of, at, float(i))
                for i, (as_of, at) in enumerate(zip(as_ofs, known, strict=True))
            ]
            for name, known in zip(names, orders[start : start + len(names)], strict=False)
        }
        bench.given("long_v1", *itertools.chain.from_iterable(by_feature.values()))
        rows = {row["as_of"]: row for row in bench.build("daily_v1")}
        for t in days:
            known_times = []
            for name, candidates in by_feature.items():
                answer = slow_answer(candidates, ticks, t)
                fresh = answer is not None and answer["age"] <= 1
                found = rows[t][name] if t in rows else None
                assert found == (answer["value"] if fresh else None), (t, candidates)
                if fresh:
                    known_times.append(answer["available_at"])
            if known_times:
                assert rows[t]["available_at"] == max(known_times)
            else:
                assert t not in rows


def test_columns_are_the_features_in_their_order(bench) -> None:
    (day,) = cut_offs(bench, 1)
    bench.given("long_v1", value(FEATURE, day, day, 1.0))
    row = bench.build("daily_v1")[0]
    names = [feature["feature_name"] for feature in bench.rows("meta.features")]
    assert list(row) == ["market", "session_date", "as_of", "available_at", "origin", *names]
    assert row["origin"] == "vendor"
    assert (row["session_date"], row["as_of"]) == (date(2025, 3, 3), day)


def test_the_bound_is_inclusive(bench) -> None:
    first, second = cut_offs(bench, 2)
    bench.given(
        "long_v1",
        value(FEATURE, first, first, 1.0),
        value(FEATURE, second, second, 2.0),
        value("fut_second_close", first, first, 1.0),
        value("fut_second_close", second, second + MICROSECOND, 2.0),
    )
    rows = bench.build("daily_v1")
    assert [(row[FEATURE], row["fut_second_close"]) for row in rows[:2]] == [(1.0, 1.0), (2.0, 1.0)]


def test_a_value_one_session_behind_is_given_and_two_behind_is_not(bench) -> None:
    days = cut_offs(bench, 4)
    bench.given("long_v1", value(FEATURE, days[0], days[0], 1.0))
    rows = bench.build("daily_v1")
    assert [(row["as_of"], row[FEATURE]) for row in rows] == [(days[0], 1.0), (days[1], 1.0)]


def test_age_counts_sessions_and_not_days(bench) -> None:
    """From Friday to Monday is one session."""
    friday, monday, tuesday = cut_offs(bench, 3, date(2025, 3, 7))
    assert (monday - friday) > timedelta(days=2)
    bench.given(
        "long_v1",
        value(FEATURE, friday, friday, 1.0),
        value("fut_second_close", tuesday, tuesday, 2.0),
    )
    rows = bench.build("daily_v1")
    assert [row[FEATURE] for row in rows[:3]] == [1.0, 1.0, None]


def test_a_missing_value_stands_for_its_session(bench) -> None:
    """The newest answer is that there is no value: an older one does not shine through."""
    first, second = cut_offs(bench, 2)
    bench.given(
        "long_v1",
        value(FEATURE, first, first, 1.0),
        value(FEATURE, second, second, None, "missing"),
    )
    assert [row[FEATURE] for row in bench.build("daily_v1")][:2] == [1.0, None]


def test_a_report_counts_from_its_release_until_the_next_but_one(bench) -> None:
    """COT of 4 March is released on Friday the 7th, after that day's cut-off."""
    tuesday = datetime(2025, 3, 4, 22, tzinfo=UTC)
    released = datetime(2025, 3, 7, 20, 30, tzinfo=UTC)
    days = cut_offs(bench, 20)
    bench.given(
        "long_v1",
        value("cot_managed_money_net", tuesday, released, 5.0),
        *(value(FEATURE, day, day, 1.0) for day in days),
    )
    rows = {row["session_date"]: row["cot_managed_money_net"] for row in bench.build("daily_v1")}
    assert rows[date(2025, 3, 7)] is None
    assert rows[date(2025, 3, 10)] == 5.0
    # The next report is released on the 14th, the one after it on the 21st, after the cut-offs.
    assert rows[date(2025, 3, 21)] == 5.0
    assert rows[date(2025, 3, 24)] is None


def test_a_report_alone_has_rows_until_it_is_stale(bench) -> None:
    """Also through a shutdown, in which no release makes it old."""
    tuesday = datetime(2025, 3, 4, 22, tzinfo=UTC)
    released = datetime(2025, 3, 7, 20, 30, tzinfo=UTC)
    report = value("cot_managed_money_net", tuesday, released, 5.0)
    bench.given("long_v1", report)
    days = [row["session_date"] for row in bench.build("daily_v1")]
    assert (days[0], days[-1]) == (date(2025, 3, 10), date(2025, 3, 21))
    bench.connection.execute(
        "update meta.clock set known_at = '2025-05-06T19:30:00Z'"
        " where clock = 'release' and as_of between '2025-03-10' and '2025-05-05'"
    )
    days = [row["session_date"] for row in bench.build("daily_v1")]
    assert (days[0], days[-1]) == (date(2025, 3, 10), date(2025, 5, 6))


def test_reports_released_at_one_instant_all_count(bench) -> None:
    """After an incident three reports came out at once: what was before them is stale."""
    tuesday = datetime(2025, 3, 4, 22, tzinfo=UTC)
    released = datetime(2025, 3, 7, 20, 30, tzinfo=UTC)
    at_once = datetime(2025, 3, 28, 19, 30, tzinfo=UTC)
    bench.reference()
    bench.connection.execute(
        f"update meta.clock set known_at = '{at_once}'"
        " where clock = 'release' and as_of between '2025-03-10' and '2025-03-26'"
    )
    days = cut_offs(bench, 30)
    bench.given(
        "long_v1",
        value("cot_managed_money_net", tuesday, released, 5.0),
        *(value(FEATURE, day, day, 1.0) for day in days),
    )
    rows = {row["session_date"]: row["cot_managed_money_net"] for row in bench.build("daily_v1")}
    assert rows[date(2025, 3, 28)] == 5.0  # its cut-off lies before the release
    assert rows[date(2025, 3, 31)] is None


def test_releases_come_in_the_order_of_their_reports(bench) -> None:
    """Age is the difference of two ticks' numbers, which is a count only if this holds."""
    reports = pl.Series(
        [date(2006, 6, 13) + timedelta(weeks=week) for week in range(1100)], dtype=pl.Date
    )
    assert cot_releases.releases(reports)["available_at"].is_sorted()


def test_a_session_that_has_not_closed_has_no_row(bench) -> None:
    days = cut_offs(bench, 3)
    bench.given("long_v1", value(FEATURE, days[0], days[0], 1.0))
    rows = bench.build("daily_v1", built_at=days[1] - MICROSECOND)
    assert [row["as_of"] for row in rows] == [days[0]]


def test_markets_do_not_mix(bench) -> None:
    (day,) = cut_offs(bench, 1)
    bench.given(
        "long_v1", value(FEATURE, day, day, 1.0), {**value(FEATURE, day, day, 2.0), "market": "XX"}
    )
    assert [(row["market"], row[FEATURE]) for row in bench.build("daily_v1")][:1] == [("HE", 1.0)]


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_rows_do_not_depend_on_the_order_of_the_source(bench, shuffled: bool) -> None:
    days = cut_offs(bench, 5)
    rows = [value(FEATURE, days[0], day, float(i)) for i, day in enumerate(days)]
    bench.given("long_v1", *(rows[::-1] if shuffled else rows))
    assert [row[FEATURE] for row in bench.build("daily_v1")] == [0.0, 1.0]


def test_each_row_is_what_the_macro_answers_at_its_cut_off(sample_lake) -> None:
    """Two ways of asking, over every feature of a whole lake."""
    with sample_lake.connect() as connection:
        rows = connection.sql("from features.daily_v1 order by session_date, market").pl()
        cut_offs = rows["as_of"].unique().sort()
        # The newest, at which every feature has a value, and some of the years of reports alone.
        chosen = pl.concat([cut_offs.tail(15), cut_offs.gather_every(80)]).unique()
        for cut_off in chosen.to_list():
            of = rows.filter(pl.col("as_of") == cut_off)
            asked = f"from daily_at(timestamptz '{cut_off.isoformat()}')"
            answers = connection.sql(asked).pl().rename({"known_at": "as_of"})
            both = answers.join(of.select("market", "session_date"), on="market")
            assert_frame_equal(
                both.select(of.columns).sort("market"), of.sort("market"), check_exact=True
            )


def test_a_file_taken_before_the_cut_off_is_not_behind_its_own_session(bench) -> None:
    """It ages by the sessions after its own: given at the next cut-off, gone at the one after."""
    first, second, third = cut_offs(bench, 3)
    taken = first - timedelta(hours=1)
    bench.given("long_v1", value(FEATURE, taken, taken, 1.0))
    rows = {row["as_of"]: row[FEATURE] for row in bench.build("daily_v1")}
    assert (rows[first], rows[second]) == (1.0, 1.0)
    assert third not in rows
