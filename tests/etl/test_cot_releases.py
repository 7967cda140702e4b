from __future__ import annotations

import io
import zipfile
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from etl.cot_releases import COVERED_TO, release_day, releases, report_as_of, runs_out

NEW_YORK = ZoneInfo("America/New_York")
DATA = Path(__file__).parents[2] / "../shared/data/cot"


def tuesdays(first: date, last: date) -> pl.Series:
    start = first + timedelta(days=(1 - first.weekday()) % 7)
    return pl.date_range(start, last, "7d", eager=True).alias("report_date")


def released(day: date) -> date:
    return release_day(day)[0]


def test_the_schedule_that_the_cftc_published_for_2024() -> None:
    # cftc.gov, release schedule: the Fridays of 2024 but for four Mondays marked as delayed.
    moved = {
        date(2024, 6, 21): date(2024, 6, 24),
        date(2024, 7, 5): date(2024, 7, 8),
        date(2024, 11, 29): date(2024, 12, 2),
        date(2024, 12, 27): date(2024, 12, 30),
    }
    fridays = pl.date_range(date(2024, 1, 5), date(2024, 12, 27), "7d", eager=True)
    found = releases(tuesdays(date(2024, 1, 2), date(2024, 12, 24)))
    local = found["available_at"].dt.convert_time_zone("America/New_York")
    assert local.dt.date().to_list() == [moved.get(day, day) for day in fridays]
    assert set(local.dt.time().cast(pl.String)) == {"15:30:00"}
    assert not found["estimated"].any()


def test_frame_keeps_order_repeats_and_nulls() -> None:
    dates = pl.Series("x", [date(2024, 5, 14), None, date(2024, 5, 7), date(2024, 5, 14)])
    found = releases(dates)
    assert found.schema == pl.Schema(
        {
            "report_date": pl.Date(),
            "available_at": pl.Datetime("us", "UTC"),
            "estimated": pl.Boolean(),
        }
    )
    assert found["report_date"].to_list() == dates.to_list()
    assert found["available_at"].is_null().to_list() == [False, True, False, False]
    assert releases(dates.clear()).schema == found.schema


def test_half_past_three_in_washington_in_summer_and_winter() -> None:
    found = releases(pl.Series([date(2024, 3, 5), date(2024, 3, 12), date(2024, 11, 5)]))
    assert found["available_at"].dt.strftime("%m-%d %H:%M").to_list() == [
        "03-08 20:30",
        "03-15 19:30",
        "11-08 20:30",
    ]


def test_a_second_before_the_release_knows_nothing_of_it() -> None:
    at = releases(pl.Series([date(2024, 5, 7)]))["available_at"][0]
    assert at > datetime(2024, 5, 9, 23, 59, tzinfo=NEW_YORK)
    assert at > datetime(2024, 5, 10, 15, 29, 59, tzinfo=NEW_YORK)
    assert at <= datetime(2024, 5, 10, 15, 30, tzinfo=NEW_YORK)


@pytest.mark.parametrize(
    ("report", "release"),
    [
        (date(2024, 1, 16), date(2024, 1, 19)),  # holiday on Monday: stays
        (date(2024, 10, 15), date(2024, 10, 18)),
        (date(2023, 7, 3), date(2023, 7, 7)),  # holiday on Tuesday, report of Monday: stays
        (date(2020, 11, 10), date(2020, 11, 16)),  # Veterans Day on Wednesday
        (date(2021, 11, 9), date(2021, 11, 15)),  # on Thursday
        (date(2022, 11, 8), date(2022, 11, 14)),  # on Friday
        (date(2015, 6, 30), date(2015, 7, 6)),  # 4 July on Saturday, kept on Friday [announced]
        (date(2021, 12, 28), date(2022, 1, 3)),  # the New Year of the year after
        (date(2022, 6, 14), date(2022, 6, 17)),  # Juneteenth of 2022 on the Monday after
        (date(2023, 11, 21), date(2023, 11, 27)),
        (date(2020, 6, 16), date(2020, 6, 19)),  # before Juneteenth was a holiday
        (date(2012, 12, 31), date(2013, 1, 4)),
    ],
)
def test_federal_holidays(report: date, release: date) -> None:
    assert release_day(report) == (release, False)


def test_a_report_of_another_day_than_tuesday_belongs_to_its_week() -> None:
    assert released(date(2024, 5, 6)) == released(date(2024, 5, 8)) == date(2024, 5, 10)
    for day in range(9, 13):  # Thursday to Sunday: the Friday after
        assert released(date(2024, 5, day)) == date(2024, 5, 17)


@pytest.mark.parametrize(
    ("report", "release"),
    [
        (date(2018, 12, 24), date(2019, 2, 1)),
        (date(2018, 12, 31), date(2019, 2, 5)),
        (date(2019, 1, 22), date(2019, 2, 15)),
        (date(2019, 2, 26), date(2019, 3, 5)),
        (date(2019, 3, 5), date(2019, 3, 8)),
        (date(2019, 3, 12), date(2019, 3, 15)),
        (date(2025, 9, 23), date(2025, 9, 26)),
        (date(2025, 9, 30), date(2025, 11, 19)),
        (date(2025, 10, 28), date(2025, 12, 5)),
        (date(2025, 11, 10), date(2025, 12, 12)),
        (date(2025, 12, 23), date(2026, 1, 9)),
        (date(2026, 1, 20), date(2026, 1, 23)),
        (date(2026, 1, 27), date(2026, 1, 30)),
        (date(2013, 10, 1), date(2013, 10, 25)),
        (date(2013, 11, 5), date(2013, 11, 8)),
        (date(2023, 1, 31), date(2023, 2, 24)),
        (date(2023, 3, 21), date(2023, 3, 24)),
    ],
)
def test_lapses_and_incidents(report: date, release: date) -> None:
    assert released(report) == release


def test_a_lapse_holds_for_a_report_dated_a_day_off() -> None:
    assert released(date(2025, 11, 11)) == date(2025, 12, 12)


@pytest.mark.parametrize(
    ("report", "known_by"),
    [
        (date(2023, 2, 7), date(2023, 3, 10)),
        (date(2023, 2, 21), date(2023, 3, 10)),
        (date(2023, 3, 14), date(2023, 3, 24)),
        (date(2013, 10, 15), date(2013, 11, 1)),
        (date(2013, 10, 29), date(2013, 11, 8)),
        (date(2021, 6, 15), date(2021, 6, 21)),
        (date(2025, 1, 7), date(2025, 1, 13)),
    ],
)
def test_where_the_day_is_not_known_it_is_taken_late_and_said(report: date, known_by: date) -> None:
    assert release_day(report) == (known_by, True)


def test_no_report_comes_before_an_older_one_or_before_it_was_due() -> None:
    found = releases(tuesdays(date(2006, 6, 13), date(2030, 1, 1)))
    assert found["available_at"].is_sorted()
    assert (found["available_at"] > report_as_of(found["report_date"])).all()
    lag = (found["available_at"].dt.date() - found["report_date"]).dt.total_days()
    assert (lag >= 3).all()
    held_up = pl.col("report_date").dt.year().is_in([2013, 2018, 2019, 2023, 2025, 2026])
    assert (lag.filter(~found.select(held_up).to_series()) <= 14).all()


def test_no_release_on_a_weekend() -> None:
    found = releases(tuesdays(date(2006, 6, 13), date(2030, 1, 1)))
    assert (found["available_at"].dt.convert_time_zone("America/New_York").dt.weekday() <= 5).all()


def test_beyond_the_table_the_rule_gives_an_estimate() -> None:
    assert COVERED_TO.isoformat() == "2027-12-31"
    assert release_day(date(2027, 12, 28)) == (date(2028, 1, 3), False)
    assert release_day(date(2028, 1, 4)) == (date(2028, 1, 7), True)


def test_half_a_year_before_its_end_the_table_says_so() -> None:
    assert runs_out(date(2027, 7, 3)) is None
    for today in (date(2027, 7, 4), date(2028, 3, 1)):
        line = runs_out(today)
        assert line is not None
        assert line.startswith("the COT release calendar covers reports to 2027-12-31: later ones")


def test_as_of_is_the_close_of_business_in_washington() -> None:
    found = report_as_of(pl.Series([date(2024, 7, 2), None, date(2024, 12, 3)]))
    assert found.name == "as_of"
    assert found.dtype == pl.Datetime("us", "UTC")
    assert found.dt.strftime("%m-%d %H:%M").to_list() == ["07-02 21:00", None, "12-03 22:00"]


@pytest.mark.parametrize("year", [2012, 2024, 2025])
def test_every_report_in_a_real_file_has_a_release(year: int) -> None:
    path = DATA / f"fut_disagg_txt_{year}.zip"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the project")
    with zipfile.ZipFile(path) as archive:
        text = archive.read(archive.namelist()[0])
    column = "As_of_Date_In_Form_YYMMDD"
    codes = pl.read_csv(io.BytesIO(text), columns=[column], infer_schema_length=0)[column]
    dates = codes.str.strip_chars().unique().str.to_date("%y%m%d").sort()
    assert set(dates.dt.weekday()) <= {1, 2}, "Mondays before a holiday and Tuesdays"
    found = releases(dates)
    assert found["available_at"].is_sorted()
    assert (found["available_at"] > report_as_of(dates)).all()
    assert found["estimated"].sum() == {2012: 1, 2024: 0, 2025: 10}[year]
