"""`hydra audit`: silent on an honest lake, and each kind of leak is seen when it is planted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from etl import jobs, sqlfiles
from etl.build import build
from etl.cli import main
from etl.derive import derive
from etl.export import open_database
from etl.lake import Lake
from etl.landing import land
from etl.market import markets
from etl.schemas import source_schema
from etl.sources import Payload, sample

MARKETS = markets()
NOW = datetime(2025, 3, 14, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

Plant = Callable[[str, str, str], None]


def run(lake: Lake, now: datetime = NOW) -> None:
    """Derive and build."""
    with lake.writing(now):
        for code in lake.markets():
            derive(lake, MARKETS[code], now)
        build(lake, dict(MARKETS), now)


def hydra_audit(lake: Lake, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--lake", str(lake.root), "-q", "audit", *arguments])


def found(lake: Lake, *arguments: str) -> list[str]:
    """The lines of an audit that finds something."""
    result = hydra_audit(lake, *arguments)
    assert result.exit_code == 2, result.output
    return result.stdout.splitlines()


def restamp(lake: Lake, dataset: str, **columns: pl.Expr) -> None:
    """Change columns of every landed row of a dataset."""
    for path in lake.raw_files(dataset):
        rows = pl.read_parquet(path, hive_partitioning=False)
        rows.with_columns(**columns).write_parquet(path)


def answers(lake: Lake, t: datetime) -> pl.DataFrame:
    connection = open_database(lake.database)
    try:
        asked = f"from answers_at(timestamptz '{t.isoformat()}') order by market, feature_number"
        rows: pl.DataFrame = connection.sql(asked).pl()
        return rows
    finally:
        connection.close()


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """Change a SQL file, in a copy of all of them that the code then reads."""
    folder = tmp_path / "sql"
    shutil.copytree(sqlfiles.root(), folder)

    def change(file: str, honest: str, leaking: str) -> None:
        text = (folder / file).read_text()
        assert honest in text
        (folder / file).write_text(text.replace(honest, leaking))
        monkeypatch.setattr(sqlfiles, "root", lambda: folder)
        sqlfiles.features.cache_clear()

    yield change
    monkeypatch.undo()
    sqlfiles.features.cache_clear()


@pytest.fixture
def reports(tmp_path: Path) -> Lake:
    """A lake of the sample's reports on oats, one of them revised ten weeks later."""
    lake = Lake(tmp_path / "reports")
    with lake.writing(NOW):
        zips = sample.fetch_cot(2024, 2025, NOW, tmp_path)
        for landed in jobs.land_cot(lake, {"ZO": MARKETS["ZO"]}, zips, NOW, "sample"):
            assert not isinstance(landed, Exception)
        later = NOW + timedelta(days=30)
        land(lake, Payload("sample", "a revision", "0" * 64, _revision(lake)), later, "sample")
    return lake


def _revision(lake: Lake) -> Iterator[tuple[str, pl.DataFrame]]:
    """The report of 2025-01-07 with another long position."""
    rows = pl.concat(
        pl.read_parquet(path, hive_partitioning=False).with_columns(market=pl.lit("ZO"))
        for path in lake.raw_files("cot", "ZO")
    )
    old = rows.filter(pl.col("report_date") == pl.date(2025, 1, 7)).sort("available_at").tail(1)
    long = pl.col("managed_money_long") + 100_000
    yield "cot", old.with_columns(managed_money_long=long).select(list(source_schema("cot")))


def test_an_honest_lake_gives_nothing_to_find(sample_lake) -> None:
    result = hydra_audit(sample_lake.lake, "--samples", "1", "--at", "2025-03-11T18:14:59Z")
    assert (result.exit_code, result.stdout) == (0, "audit: nothing found; 2 instants replayed\n")


def test_a_moment_before_anything_was_known_is_replayed_as_nothing(reports: Lake) -> None:
    run(reports, NOW + timedelta(days=31))
    result = hydra_audit(reports, "--samples", "0", "--at", "2020-01-01T00:00:00Z")
    assert result.exit_code == 0, result.output


def test_a_revision_changes_nothing_of_the_past(reports: Lake) -> None:
    run(reports, NOW + timedelta(days=31))
    result = hydra_audit(reports, "--samples", "1", "--at", "2025-03-07T20:30:00Z")
    assert result.exit_code == 0, result.output


def test_a_view_that_joins_on_as_of_alone_is_caught(reports: Lake, plant: Plant) -> None:
    plant(
        "features/cot_v1.sql",
        "and h.available_at <= r.available_at",
        "and h.as_of <= r.as_of",
    )
    run(reports, NOW + timedelta(days=31))
    lines = found(reports, "--samples", "0", "--at", "2025-03-07T20:30:00Z")
    (line,) = [x for x in lines if "ZO cot_managed_money_percentile_3y as_of 2025-03-04" in x]
    assert line.startswith("replay at 2025-03-07T20:30:00Z: ")
    assert "; first differs features.cot_v1 market=ZO report=disaggregated_futures" in line
    # The row that came later is named with when it came.
    assert "; known only later: raw.cot 2025-01-07 as_of 2025-01-07T22:00:00Z" in line
    assert line.endswith("available_at 2025-04-13T12:00:00Z")
    lake_side, replay_side = line.split("the lake answers ")[1].split(", the replay answers ")
    assert lake_side.split()[0] != replay_side.split()[0]


def test_a_feature_available_on_tuesday_is_caught(reports: Lake, plant: Plant) -> None:
    plant("features/cot_v1.sql", "r.as_of, r.available_at\n", "r.as_of, r.as_of as available_at\n")
    run(reports, NOW + timedelta(days=31))
    lines = found(reports, "--samples", "0", "--at", "2025-03-05T12:00:00Z")
    (line,) = [x for x in lines if "ZO cot_swap_net as_of 2025-03-04T22:00:00Z" in x]
    assert "features.cot_v1" in line
    assert "known only later: raw.cot 2025-03-04" in line


def test_a_derived_table_that_reads_past_the_cut_off_is_caught(
    tmp_path: Path, plant: Plant
) -> None:
    """The session's own volume is published in the evening, and open interest next morning."""
    plant(
        "features/session_bar_v1.sql",
        "on t.available_at <= s.cut_off\n",
        "on t.as_of <= s.close_at\n",
    )
    lake, now = Lake(tmp_path / "lake"), datetime(2025, 3, 7, 12, tzinfo=UTC)
    with lake.writing(now):
        jobs.land_sample(lake, [MARKETS["ZO"]], 3, now, lambda line: None)
    run(lake, now)
    lines = found(lake, "--samples", "0", "--at", "2025-03-05T19:15:00Z")
    assert [x for x in lines if x.startswith("features.session_bar_v1: known after its cut-off: ")]
    (line,) = [x for x in lines if "replay" in x and "ZO fut_front_close as_of" in x]
    assert "first differs features.session_bar_v1 market=ZO session_date=2025-03-0" in line
    assert "known only later: raw.futures_stat ZO" in line


def test_a_flow_by_a_report_that_was_not_out_is_caught(tmp_path: Path, plant: Plant) -> None:
    """The report of the Tuesday is released on the Friday after the session."""
    plant(
        "features/flow_cot_v1.sql",
        "on f.market = r.market and f.as_of >= r.available_at\n",
        "on f.market = r.market and f.as_of >= r.as_of\n",
    )
    lake, now = Lake(tmp_path / "lake"), datetime(2025, 3, 8, 12, tzinfo=UTC)
    with lake.writing(now):
        jobs.land_sample(lake, [MARKETS["ZO"]], 3, now, lambda line: None)
    run(lake, now)
    lines = found(lake, "--samples", "0", "--at", "2025-03-06T19:15:00Z")
    assert [x for x in lines if x.startswith("features.flow_cot_v1: known after its cut-off: ")]
    (line,) = [x for x in lines if "replay" in x and "ZO flow_gex_cot_oi as_of" in x]
    assert "features.flow_cot_v1" in line


@pytest.mark.parametrize(
    ("dataset", "length", "reason"),
    [
        ("futures_1m", MINUTE, "the minute ends when a session opens"),
        ("futures_1d", timedelta(days=1), "no session is in the UTC day that ends then"),
    ],
)
def test_a_bar_stamped_at_its_start_is_caught(
    own_lake, dataset: str, length: timedelta, reason: str
) -> None:
    lake = own_lake.lake
    restamp(
        lake,
        dataset,
        as_of=pl.col("as_of") - length,
        available_at=pl.col("available_at") - length,
    )
    lines = found(lake, "--samples", "0")
    # The sample's oats are not traded in the minute in which their evening session opens.
    assert f"raw.{dataset} HE" in {line.split(":")[0] for line in lines}
    assert all(f"{reason}: the bar is stamped at its start" in line for line in lines)


def test_a_bar_that_is_not_over_is_caught(own_lake) -> None:
    lake = own_lake.lake
    restamp(lake, "futures_1m", available_at=pl.col("available_at") - timedelta(seconds=1))
    lines = found(lake, "--samples", "0")
    assert [line for line in lines if "as_of and available_at of a bar are its end" in line]
    assert [line for line in lines if "as_of is after available_at" in line]


def test_a_report_available_on_tuesday_is_caught(reports: Lake) -> None:
    run(reports, NOW + timedelta(days=31))
    restamp(reports, "cot", available_at=pl.col("as_of"))
    (line,) = found(reports, "--samples", "0")
    rows = sum(pl.read_parquet(path).height for path in reports.raw_files("cot"))
    assert line.startswith(f"raw.cot ZO: known before its release: {rows} rows, first the report")
    assert line.endswith(
        "of 2024-01-02, released 2024-01-05T20:30:00Z "
        "as_of 2024-01-02T22:00:00Z available_at 2024-01-02T22:00:00Z"
    )


def test_an_instant_of_the_future_is_refused(sample_lake) -> None:
    result = hydra_audit(sample_lake.lake, "--at", "2025-03-14T12:00:01Z")
    assert result.exit_code == 3
    assert "2025-03-14T12:00:01Z is after the last run (2025-03-14T12:00:00Z)" in result.stderr


def test_a_database_behind_its_lake_is_refused(reports: Lake, plant: Plant) -> None:
    """A difference would only say that something landed, or that the code is another."""
    now = NOW + timedelta(days=31)
    run(reports, now)
    with reports.writing(now):
        ((name, rows),) = _revision(reports)
        revised = [(name, rows.with_columns(swap_long=pl.lit(0, pl.Int64)))]
        land(reports, Payload("sample", "another", "1" * 64, iter(revised)), now, "sample")
    result = hydra_audit(reports)
    assert result.exit_code == 3
    assert "is older than the lake's files or than the code: run hydra derive" in result.stderr
    run(reports, now)
    plant("features/cot_v1.sql", "-- status: draft\n", "-- status: draft\n--\n")
    assert hydra_audit(reports).exit_code == 3


def test_what_becomes_known_later_changes_no_answer_of_before(tmp_path: Path) -> None:
    """Days and a revision are added; the answers of before are the same, byte for byte."""
    lake = Lake(tmp_path / "lake")
    early, late = (datetime(2025, 3, day, 12, tzinfo=UTC) for day in (5, 8))
    midnight = datetime(2025, 3, 5, tzinfo=UTC)  # the sample vendor's files end there
    instants = [midnight - timedelta(hours=hours) for hours in (0, 5, 30)]
    before: list[str] = []
    for now in (early, late):
        with lake.writing(now):
            jobs.land_sample(lake, [MARKETS["ZO"]], 3, now, lambda line: None)
            if now == late:
                revision = Payload("sample", "a revision", "0" * 64, _revision(lake))
                assert land(lake, revision, now, "sample").rows["cot"] == 1
        run(lake, now)
        texts = [answers(lake, t).write_csv() for t in instants]
        before = before or texts
    assert before[0].count("full") > 20
    assert texts == before


@pytest.fixture(scope="module")
def real_reports(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The CFTC's own files of 2024 and 2025 on lean hogs, built."""
    lake = Lake(tmp_path_factory.mktemp("real") / "lake")
    now = datetime(2026, 2, 1, tzinfo=UTC)
    zips = [shared_data / f"cot/fut_disagg_txt_{year}.zip" for year in (2024, 2025)]
    with lake.writing(now):
        list(jobs.land_cot(lake, {"HE": MARKETS["HE"]}, zips, now))
    run(lake, now)
    return lake


@pytest.mark.parametrize(
    ("report", "thursday", "release"),
    [
        ("2025-07-15", "2025-07-17T15:30:00-04:00", "2025-07-18T15:30:00-04:00"),  # summer
        ("2025-02-04", "2025-02-06T15:30:00-05:00", "2025-02-07T15:30:00-05:00"),  # winter
        # Christmas Day is a Wednesday.
        ("2024-12-24", "2024-12-27T15:30:00-05:00", "2024-12-30T15:30:00-05:00"),
        # The first report of the shutdown came out seven weeks late.
        ("2025-09-30", "2025-10-03T15:30:00-04:00", "2025-11-19T15:30:00-05:00"),
        ("2025-10-07", "2025-10-10T15:30:00-04:00", "2025-11-21T15:30:00-05:00"),
    ],
)
def test_a_real_report_is_known_at_its_release_and_not_a_microsecond_before(
    real_reports: Lake, report: str, thursday: str, release: str
) -> None:
    connection = open_database(real_reports.database)
    asked = (
        "select distinct as_of::date::varchar from features_at('HE', {}) where value is not null"
    )
    try:
        released = datetime.fromisoformat(release).astimezone(UTC)
        newest = []
        for t in (
            datetime.fromisoformat(thursday),
            released - timedelta(seconds=1),
            released - timedelta(microseconds=1),
            released,
        ):
            rows = connection.execute(asked.format(f"'{t.isoformat()}'"))
            newest.append([day for (day,) in rows.fetchall()])
    finally:
        connection.close()
    assert newest[-1] == [report]
    assert all(days and days[0] < report for days in newest[:-1])
