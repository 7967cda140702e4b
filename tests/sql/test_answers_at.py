"""macros/answers_at.sql: what was known at an instant, one row a feature or one wide row."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.sql.long_rows import cut_offs, value

MICROSECOND = timedelta(microseconds=1)
FEATURE = "fut_front_close"


def known(bench, *rows: dict[str, Any]) -> None:
    """Put values in long_v1, prepare them, and make the macros."""
    bench.given("long_v1", *rows)
    bench.build("known_v1")
    bench.macros()


def at(t: datetime) -> str:
    return f"timestamptz '{t.isoformat()}'"


def ask(bench, t: datetime, feature: str = FEATURE) -> dict[str, Any]:
    (row,) = bench.rows(f"features_at('HE', {at(t)})", f"feature_name = '{feature}'")
    return row


def slow_answer(
    rows: Sequence[dict[str, Any]], ticks: Sequence[tuple[datetime, datetime]], t: datetime
) -> dict[str, Any]:
    """The answer at t by looking at every row: the rule in its own words."""
    candidates = [row for row in rows if row["available_at"] <= t and row["as_of"] <= t]
    if not candidates:
        return {"value": None, "quality": "missing", "as_of": None, "available_at": None}
    newest = max(row["as_of"] for row in candidates)
    answer = max(
        (row for row in candidates if row["as_of"] == newest), key=lambda row: row["available_at"]
    )
    stale = sum(1 for as_of, known_at in ticks if as_of > newest and known_at <= t) > 1
    return {
        "value": None if stale else answer["value"],
        "quality": "stale" if stale else answer["quality"],
        "as_of": newest,
        "available_at": answer["available_at"],
    }


def test_every_interleaving_of_three_reports_and_a_revision(bench) -> None:
    """Each order and coincidence of four publications, asked at, before and after each instant."""
    days = cut_offs(bench, 4)
    hours = [days[0] + timedelta(hours=h) for h in (-30, -1, 20, 30, 60)]
    ticks = [(day, day) for day in cut_offs(bench, 200, date(2024, 11, 1))]
    as_ofs = (days[0], days[1], days[1], days[2])
    orders = [order for order in itertools.product(hours, repeat=4) if order[1] != order[2]]
    bench.reference()
    names = [row["feature_name"] for row in bench.rows("meta.features", "clock = 'session'")]
    instants = sorted(
        {t + move for t in (*hours, *days) for move in (-MICROSECOND, 0 * MICROSECOND, MICROSECOND)}
    )
    step = len(names)
    for start in range(0, len(orders), step):
        by_feature = {
            name: [
                value(name, as_of, at, float(i))
                for i, (as_of, at) in enumerate(zip(as_ofs, order, strict=True))
            ]
            for name, order in zip(names, orders[start : start + step], strict=False)
        }
        bench.given("long_v1", *itertools.chain.from_iterable(by_feature.values()))
        bench.build("known_v1")
        if start == 0:
            bench.macros()
        for t in instants:
            rows = {row["feature_name"]: row for row in bench.rows(f"features_at('HE', {at(t)})")}
            expected = {name: slow_answer(of, ticks, t) for name, of in by_feature.items()}
            for name, answer in expected.items():
                assert {key: rows[name][key] for key in answer} == answer, (t, by_feature[name])
        (wide,) = bench.rows(f"daily_at({at(t)})")
        assert {name: wide[name] for name in expected} == {
            name: answer["value"] for name, answer in expected.items()
        }


def test_every_feature_answers_in_order(bench) -> None:
    (day,) = cut_offs(bench, 1)
    known(bench, value(FEATURE, day, day, 1.0))
    rows = bench.rows(f"features_at('HE', {at(day)})")
    names = [row["feature_name"] for row in bench.rows("meta.features")]
    assert [row["feature_name"] for row in rows] == names
    assert list(rows[0]) == [
        "feature_name", "value", "quality", "as_of", "available_at", "staleness_days", "age",
    ]  # fmt: skip
    assert {row["quality"] for row in rows[1:]} == {"missing"}


def test_the_bound_is_inclusive(bench) -> None:
    (day,) = cut_offs(bench, 1)
    known_at = day + timedelta(hours=2)
    known(bench, value(FEATURE, day, known_at, 1.0))
    assert ask(bench, known_at)["value"] == 1.0
    before = ask(bench, known_at - MICROSECOND)
    assert (before["value"], before["quality"], before["as_of"]) == (None, "missing", None)


def test_a_value_of_the_future_does_not_answer(bench) -> None:
    """Known ahead of the instant that it describes, as a row of an evening cut-off may be."""
    (day,) = cut_offs(bench, 1)
    known(bench, value(FEATURE, day, day - timedelta(hours=5), 1.0))
    assert ask(bench, day - MICROSECOND)["quality"] == "missing"
    assert ask(bench, day)["value"] == 1.0


def test_a_late_revision_of_an_old_report_does_not_displace_a_newer_one(bench) -> None:
    first, second, third = cut_offs(bench, 3)
    known(
        bench,
        value(FEATURE, first, first, 1.0),
        value(FEATURE, second, second, 2.0),
        value(FEATURE, first, second + timedelta(hours=1), 1.5),
    )
    assert ask(bench, second + timedelta(hours=2))["value"] == 2.0
    assert ask(bench, first)["value"] == 1.0
    assert ask(bench, third)["value"] == 2.0


def test_one_tick_behind_is_given_and_two_are_stale(bench) -> None:
    first, second, third = cut_offs(bench, 3)
    known(bench, value(FEATURE, first, first, 1.0, "degraded"))
    row = ask(bench, third - MICROSECOND)
    assert (row["value"], row["quality"]) == (1.0, "degraded")
    row = ask(bench, third)
    assert (row["value"], row["quality"]) == (None, "stale")
    # What is stale still says of when it was.
    assert (row["as_of"], row["available_at"]) == (first, first)
    assert ask(bench, second)["value"] == 1.0


def test_age_counts_the_ticks_of_the_clock(bench) -> None:
    first, second, third, fourth = cut_offs(bench, 4)
    known(bench, value(FEATURE, first, first, 1.0))
    for t, age in ((first, 0), (second - MICROSECOND, 0), (second, 1), (third, 2), (fourth, 3)):
        assert ask(bench, t)["age"] == age
    assert ask(bench, third, "fut_roll_yield")["age"] is None


def test_staleness_days_are_whole_days_of_the_calendar(bench) -> None:
    (day,) = cut_offs(bench, 1)
    known(bench, value(FEATURE, day, day, 1.0))
    for hours, days in ((0, 0), (23, 0), (24, 1), (71, 2), (24 * 40, 40)):
        assert ask(bench, day + timedelta(hours=hours))["staleness_days"] == days
    assert ask(bench, day, "fut_roll_yield")["staleness_days"] is None


@pytest.mark.parametrize(
    ("tuesday", "as_of", "thursday", "friday"),
    [
        ("2025-03-04", "2025-03-04 17:00:00-05", "2025-03-06 15:30:00-05", "2025-03-07 {}-05"),
        ("2025-07-08", "2025-07-08 17:00:00-04", "2025-07-10 15:30:00-04", "2025-07-11 {}-04"),
    ],
)
def test_a_cot_report_is_known_on_friday_at_half_past_three(
    bench, tuesday: str, as_of: str, thursday: str, friday: str
) -> None:
    """In Washington, in winter and in summer; as the release calendar gives the source its rows."""
    (release,) = bench.rows("meta.cot_releases", f"report_date = '{tuesday}'")
    known(
        bench,
        value("cot_managed_money_net", release["as_of"], release["available_at"], 7.0),
    )
    values = {}
    for t in (thursday, friday.format("15:29:59"), friday.format("15:30:00")):
        (row,) = bench.rows(f"features_at('HE', '{t}')", "feature_name = 'cot_managed_money_net'")
        values[t] = (row["value"], row["quality"])
    assert list(values.values()) == [(None, "missing"), (None, "missing"), (7.0, "full")]
    assert release["as_of"] == datetime.fromisoformat(as_of + ":00").astimezone(UTC)


def test_a_report_is_stale_at_the_second_release_after_it(bench) -> None:
    releases = bench.rows("meta.cot_releases", "report_date >= '2025-03-04'")[:3]
    first = releases[0]
    known(bench, value("cot_swap_net", first["as_of"], first["available_at"], 7.0))
    second_release = releases[2]["available_at"]
    assert ask(bench, second_release - MICROSECOND, "cot_swap_net")["value"] == 7.0
    assert ask(bench, second_release, "cot_swap_net")["quality"] == "stale"


def test_a_report_moved_by_a_holiday_is_known_on_monday(bench) -> None:
    """Christmas Day 2024 is a Wednesday: the report of the 24th came out on Monday the 30th."""
    (release,) = bench.rows("meta.cot_releases", "report_date = '2024-12-24'")
    known(bench, value("cot_swap_net", release["as_of"], release["available_at"], 7.0))
    friday = datetime(2024, 12, 27, 21, tzinfo=UTC)
    monday = datetime(2024, 12, 30, 20, 30, tzinfo=UTC)
    assert ask(bench, friday, "cot_swap_net")["quality"] == "missing"
    assert ask(bench, monday - MICROSECOND, "cot_swap_net")["quality"] == "missing"
    assert ask(bench, monday, "cot_swap_net")["value"] == 7.0


@pytest.mark.parametrize(
    "t",
    [
        "timestamp '2025-03-06 20:00:00'",
        "date '2025-03-06'",
        "'2025-03-06'",
        "'2025-03-06 20:00:00'",
        "'2025-03-06T20:00:00'",
        "'yesterday'",
        "'2025-03-06 20:00:00 +00'",
        "'2025-03-06 20:00+00'",
        "20250306",
        "null",
        "null::timestamptz",
        "null::varchar",
    ],
)
@pytest.mark.parametrize("call", ["features_at('HE', {})", "daily_at({})", "answers_at({})"])
def test_an_instant_without_a_zone_is_refused(bench, call: str, t: str) -> None:
    (day,) = cut_offs(bench, 1)
    known(bench, value(FEATURE, day, day, 1.0))
    with pytest.raises(duckdb.Error, match="t needs a time and a zone, such as"):
        bench.rows(call.format(t))


@pytest.mark.parametrize(
    "t",
    [
        "timestamptz '2025-03-06 20:00:00+00'",
        "'2025-03-06T20:00:00Z'",
        "'2025-03-06 20:00:00+00:00'",
        "'2025-03-06 14:00:00-06'",
        "'2025-03-07 01:30:00+0530'",
        "'2025-03-06 20:00:00.000+00'",
        "('2025-03-06 20:00' || ':00Z')",
    ],
)
def test_an_instant_in_any_zone_is_the_same(bench, t: str) -> None:
    day = datetime(2025, 3, 6, 20, tzinfo=UTC)
    known(bench, value(FEATURE, day, day, 1.0))
    (row,) = bench.rows(f"features_at('HE', {t})", f"feature_name = '{FEATURE}'")
    assert (row["value"], row["staleness_days"]) == (1.0, 0)


@pytest.mark.parametrize("zone", ["America/Chicago", "Asia/Tokyo"])
def test_the_answer_does_not_depend_on_the_sessions_zone(bench, zone: str) -> None:
    day = datetime(2025, 3, 6, 20, tzinfo=UTC)
    known(bench, value(FEATURE, day, day, 1.0))
    bench.connection.execute(f"set timezone = '{zone}'")
    (row,) = bench.sql(
        "select value, quality, staleness_days from"
        f" features_at('HE', '2025-03-06T20:00:00Z') where feature_name = '{FEATURE}'"
    )
    assert row == {"value": 1.0, "quality": "full", "staleness_days": 0}
    with pytest.raises(duckdb.Error, match="t needs a time and a zone"):
        bench.rows("features_at('HE', '2025-03-06T20:00:00')")


@pytest.mark.parametrize("code", ["'XX'", "'he'", "''", "null", "'HE'' or 1=1 --'"])
def test_an_unknown_market_is_an_error(bench, code: str) -> None:
    (day,) = cut_offs(bench, 1)
    known(bench, value(FEATURE, day, day, 1.0))
    with pytest.raises(duckdb.Error, match="unknown market"):
        bench.rows(f"features_at({code}, {at(day)})")


def test_an_unknown_market_is_an_error_even_without_any_value(bench) -> None:
    (day,) = cut_offs(bench, 1)
    known(bench)
    with pytest.raises(duckdb.Error, match="unknown market"):
        bench.rows(f"features_at('XX', {at(day)})")


def test_the_wide_row_says_what_it_was_asked_and_when_all_was_known(bench) -> None:
    (day,) = cut_offs(bench, 1)
    later = day + timedelta(hours=1)
    known(
        bench,
        value(FEATURE, day, day, 1.0),
        value("fut_second_close", day, later, 2.0),
        value("fut_roll_yield", day, later + timedelta(hours=1), None, "missing"),
    )
    t = day + timedelta(hours=5)
    (row,) = bench.rows(f"daily_at({at(t)})")
    assert (row["market"], row["known_at"], row["available_at"]) == ("HE", t, later)
    assert (row[FEATURE], row["fut_second_close"], row["fut_roll_yield"]) == (1.0, 2.0, None)
    names = [feature["feature_name"] for feature in bench.rows("meta.features")]
    assert list(row)[3:] == ["origin", *names]


def test_before_anything_was_known_a_market_has_an_empty_row(bench) -> None:
    (day,) = cut_offs(bench, 1)
    known(bench, value(FEATURE, day, day, 1.0))
    (row,) = bench.rows(f"daily_at({at(day - MICROSECOND)})")
    assert row["market"] == "HE"
    assert row["available_at"] is row[FEATURE] is None


@pytest.mark.parametrize(
    ("question", "refusal"),
    [
        ("features_at('HE', '2025-03-06 20:00:00')", "t needs a time and a zone"),
        ("features_at('HE', '2025-03-06 20:00+00')", "t needs a time and a zone"),
        ("daily_at(date '2025-03-06')", "t needs a time and a zone"),
        ("daily_at(timestamp '2025-03-06 20:00:00')", "t needs a time and a zone"),
        ("answers_at(null)", "t needs a time and a zone"),
        ("features_at('XX', '2025-03-06T20:00:00Z')", "unknown market XX"),
        ("features_at(null, '2025-03-06T20:00:00Z')", "unknown market NULL"),
    ],
)
def test_the_command_line_of_duckdb_1_refuses_the_same(
    sample_lake, question: str, refusal: str
) -> None:
    command = shutil.which("duckdb", path=str(Path(sys.executable).parent))
    assert command, "the development environment has duckdb-cli"
    done = subprocess.run(
        [command, "-readonly", str(sample_lake.lake.database), "-c", f"from {question}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert refusal in done.stderr
