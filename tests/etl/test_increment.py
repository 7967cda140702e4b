"""A build on top of the last database: the same rows as one that makes everything, at each step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

from etl import engine, increment, jobs, sqlfiles
from etl.build import build
from etl.cli import main
from etl.derive import derive
from etl.export import open_database
from etl.increment import NEVER, Increment
from etl.lake import Lake
from etl.market import markets
from etl.shown import END, Shown
from etl.sources import sample

MARKETS = markets()
FIRST, DAY = datetime(2025, 3, 3, tzinfo=UTC), timedelta(days=1)
BUILT, LATER = FIRST + 4 * DAY, FIRST + 2 * DAY


def silent(line: str) -> None:
    """Progress that nobody reads."""


def rows(lake: Lake) -> dict[str, pl.DataFrame]:
    """Every table and view of a database, its rows in one order."""
    connection = open_database(lake.database)
    try:
        names = "select table_schema || '.' || table_name from information_schema.tables"
        found = {}
        for (name,) in connection.sql(f"{names} order by all").fetchall():
            frame: pl.DataFrame = connection.sql(f"from {name}").pl()
            found[name] = frame.sort(frame.columns, nulls_last=True)
        return found
    finally:
        connection.close()


class Steps:
    """A lake that is built step by step, and what each build took over."""

    def __init__(self, lake: Lake, since: list[dict[str, datetime]]) -> None:
        self.lake = lake
        self.markets = dict(MARKETS)
        self.now = BUILT
        self._since = since

    def step(self, work: Callable[[], object] = lambda: None, codes: str = "ZO") -> datetime:
        """Land, derive, build on what is there and then anew: both are one; since when the first
        computed the market."""
        self.now += timedelta(hours=1)
        with self.lake.writing(self.now):
            work()
            for code in self.lake.markets():
                derive(self.lake, MARKETS[code], self.now)
            build(self.lake, self.markets, self.now)
        since = self._since[-1][codes]
        built = rows(self.lake)
        forget(self.lake)
        with self.lake.writing(self.now):
            build(self.lake, self.markets, self.now)
        assert set(self._since[-1].values()) == {NEVER}
        anew = rows(self.lake)
        assert built.keys() == anew.keys()
        for name, frame in anew.items():
            assert_frame_equal(built[name], frame, check_exact=True)
        return since

    def land(self, files: list[Path]) -> list[object]:
        return list(jobs.land_dbn(self.lake, MARKETS, files, self.now, "sample"))


def on_top(lake: Lake, files: list[Path], now: datetime) -> None:
    """Land, derive and build on what is there."""
    with lake.writing(now):
        list(jobs.land_dbn(lake, MARKETS, files, now, "sample"))
        for code in lake.markets():
            derive(lake, MARKETS[code], now)
        build(lake, dict(MARKETS), now)


def forget(lake: Lake) -> None:
    """Let the next build not know what the database was built from."""
    record = json.loads(lake.database_record.read_text())
    del record["inputs"]
    lake.database_record.write_text(json.dumps(record))


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    since: list[dict[str, datetime]] = []

    class Watched(Increment):
        def fill(self) -> None:
            since.append(self.since)
            super().fill()

    monkeypatch.setattr("etl.build.Increment", Watched)
    return Steps(Lake(tmp_path / "lake"), since)


@pytest.fixture(scope="module")
def two_sessions(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of two sessions of ZO, built at ``BUILT``."""
    folder = tmp_path_factory.mktemp("two-sessions")
    lake = Lake(folder / "lake")
    on_top(lake, sessions(folder / "files", FIRST, FIRST + 2 * DAY), BUILT)
    return lake


@pytest.fixture
def begun(steps: Steps, two_sessions: Lake) -> Steps:
    """The steps after those two sessions."""
    shutil.copytree(two_sessions.root, steps.lake.root)
    steps.now = BUILT
    return steps


def sessions(folder: Path, first: datetime, last: datetime, code: str = "ZO") -> list[Path]:
    folder.mkdir()
    return sample.fetch(MARKETS[code], first, last, folder)


def test_a_day_after_the_other(begun: Steps, tmp_path: Path) -> None:
    for number in range(2):
        start = FIRST + (2 + number) * DAY
        files = sessions(tmp_path / str(number), start, start + DAY)
        assert start - DAY <= begun.step(lambda files=files: begun.land(files)) <= start + DAY


def test_nothing_new_takes_all_over(begun: Steps) -> None:
    assert begun.step() == BUILT


def test_what_comes_late_is_as_if_it_had_come_in_time(steps: Steps, tmp_path: Path) -> None:
    """The statistics, settlements among them, of a session that was built without them."""
    files = sessions(tmp_path / "a", FIRST, FIRST + 3 * DAY)
    late = [file for file in files if "stat" in file.name]
    assert late
    in_time = [file for file in files if file not in late]
    assert steps.step(lambda: steps.land(in_time)) == NEVER
    assert steps.step(lambda: steps.land(late)) < FIRST + 3 * DAY


def test_reports_and_a_revision(begun: Steps, tmp_path: Path) -> None:
    zips = sample.fetch_cot(2024, 2025, FIRST, tmp_path)
    reports = {"ZO": MARKETS["ZO"]}
    land = lambda: list(jobs.land_cot(begun.lake, reports, zips, begun.now, "sample"))  # noqa: E731
    assert begun.step(land) < FIRST - 300 * DAY
    (tmp_path / "b").mkdir()
    revised = sample.fetch_cot(2024, 2025, FIRST, tmp_path / "b", seed=3)
    land = lambda: list(jobs.land_cot(begun.lake, reports, revised, begun.now, "sample"))  # noqa: E731
    before = begun.now
    assert begun.step(land) == before


def test_a_new_market_is_made_beside_an_old_one(begun: Steps, tmp_path: Path) -> None:
    files = sessions(tmp_path / "b", FIRST, FIRST + 2 * DAY, "HE")
    assert begun.step(lambda: begun.land(files), "HE") == NEVER
    assert begun._since[-2]["ZO"] == BUILT


def test_days_before_the_first_are_a_new_beginning(begun: Steps, tmp_path: Path) -> None:
    """The clocks begin with the lake's first month: its ticks have other numbers."""
    files = sessions(tmp_path / "b", FIRST - 90 * DAY, FIRST - 88 * DAY)
    assert begun.step(lambda: begun.land(files)) == NEVER


@pytest.mark.parametrize("wrong", ["code", "database", "record", "raw", "no record", "threshold"])
def test_what_cannot_be_told_is_made_anew(
    begun: Steps, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    lake = begun.lake

    def harm() -> None:
        if wrong == "code":
            monkeypatch.setattr(increment, "code_hash", lambda: "another")
        if wrong == "database":
            lake.database.write_bytes(lake.database.read_bytes()[:-9])
        if wrong == "record":
            lake.database_record.write_text(lake.database_record.read_text()[:-9])
        if wrong == "threshold":
            quality = {**MARKETS["ZO"].quality, "drift_index": 0.01}
            begun.markets["ZO"] = replace(MARKETS["ZO"], quality=quality)
        if wrong == "no record":
            lake.database_record.unlink()
        if wrong == "raw":
            path = lake.raw_files("option_stat")[0]
            path.unlink()
            for record in lake.batches.glob("*.json"):
                batch = json.loads(record.read_text())
                name = str(path.relative_to(lake.root))
                batch["files"] = [file for file in batch["files"] if file["path"] != name]
                record.write_text(json.dumps(batch))

    assert begun.step(harm) == NEVER


def test_what_the_checks_found_of_older_sessions_stands(steps: Steps) -> None:
    """Faults all along a history that reaches further back than the checks look."""

    def land() -> None:
        jobs.land_sample(steps.lake, [MARKETS["ZO"]], 60, steps.now, silent, seed=5)

    steps.step(land)
    steps.now += DAY
    assert steps.step(land) > FIRST
    found = rows(steps.lake)["quality.checks"].filter(pl.col("is_newest"))
    looked_at_from = (steps.now - timedelta(days=53)).date()
    is_old = pl.col("session_date") < looked_at_from
    assert found.filter(is_old).height > 5
    assert found.filter(~is_old).height > 5


def test_the_rows_of_a_market_lie_together_in_time(two_sessions: Lake, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    shutil.copytree(two_sessions.root, lake.root)
    for number, (code, first) in enumerate([("HE", FIRST), ("HE", LATER), ("ZO", LATER)], 1):
        files = sessions(tmp_path / str(number), first, first + DAY, code)
        on_top(lake, files, BUILT + number * timedelta(hours=1))
    connection = engine.connect(str(lake.database), read_only=True)
    order = "select market, known_at from features.known_v1"
    found = connection.sql(order).fetchall()
    connection.close()
    assert found == sorted(found)
    assert {market for market, _ in found} == {"HE", "ZO"}


def in_parts(lake: Lake, now: datetime, monkeypatch: pytest.MonkeyPatch, cuts: list[datetime]):
    """What a build stores that goes through a market's history in parts."""
    monkeypatch.setattr(Shown, "_years", lambda *_: pairwise([NEVER, *cuts, END]))
    if lake.database.exists():
        forget(lake)
    with lake.writing(now):
        build(lake, dict(MARKETS), now)
    connection = engine.connect(str(lake.database), read_only=True)
    names = [f"features.{file.name}" for file in sqlfiles.stage("build")]
    found = {name: connection.sql(f"from {name}").pl() for name in (*names, "meta.held")}
    connection.close()
    return found


def test_a_history_is_built_in_parts_as_at_once(own_lake, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [FIRST + number * DAY for number in (1, 4, 9)]
    at_once, parts = (
        in_parts(own_lake.lake, own_lake.now, monkeypatch, cuts) for cuts in ([], days)
    )
    for name, frame in at_once.items():
        assert not frame.is_empty()
        assert_frame_equal(parts[name], frame, check_exact=True)  # in one order, too


def test_reports_that_were_held_up_are_looked_back_on_in_parts_as_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts that begin while the CFTC is shut, as it was for seven weeks of autumn 2025."""
    lake, now = Lake(tmp_path / "lake"), datetime(2026, 1, 20, tzinfo=UTC)
    with lake.writing(now):
        zips = sample.fetch_cot(2025, 2026, now, tmp_path)
        list(jobs.land_cot(lake, {"ZO": MARKETS["ZO"]}, zips, now, "sample"))
    shut, open_again = datetime(2025, 10, 2, tzinfo=UTC), datetime(2025, 11, 19, 20, tzinfo=UTC)
    cuts = [shut + 10 * DAY, open_again - DAY, datetime(2026, 1, 1, tzinfo=UTC)]
    at_once, parts = (in_parts(lake, now, monkeypatch, each) for each in ([], cuts))
    for name, frame in at_once.items():
        assert_frame_equal(parts[name], frame, check_exact=True)
    meanwhile = pl.col("as_of").is_between(shut, open_again)
    held_up = at_once["features.daily_v1"].filter(meanwhile)["cot_managed_money_net"]
    assert held_up.len() > 30
    assert held_up.null_count() == 0
    assert held_up.n_unique() == 1
    released = at_once["features.cot_v1"]["available_at"].unique().sort()
    assert released.filter(released.is_between(shut, open_again)).is_empty()


# --- nothing new --------------------------------------------------------------------------------


def daily(lake: Path, now: str) -> str:
    """What a daily run said."""
    words = ["--lake", str(lake), "--now", now, "daily", "--source", "sample", "--market", "ZO"]
    done = CliRunner().invoke(main, [*words, "--days", "2"])
    assert done.exit_code == 0, done.output
    return done.output


def made(lake: Path) -> dict[str, int]:
    """Which files a daily run left."""
    names = ["hydra.duckdb", "report.html", "exports/sample_daily_v1.csv"]
    return {name: (lake / name).stat().st_ino for name in names}


@pytest.fixture(scope="module")
def first_daily(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A lake that a daily run made, and what the run said."""
    lake = tmp_path_factory.mktemp("first-daily") / "lake"
    return lake, daily(lake, "2025-03-06T12:00:00Z")


def test_a_daily_run_with_nothing_new_leaves_all_as_it_is(
    first_daily: tuple[Path, str], tmp_path: Path
) -> None:
    (root, said), lake = first_daily, tmp_path / "lake"
    shutil.copytree(root, lake)
    before = made(lake)
    assert "nothing new" not in said
    again = daily(lake, "2025-03-06T13:00:00Z")
    assert made(lake) == before
    assert f"nothing new: {lake / 'hydra.duckdb'}" in again
    table = "severity"  # what the checks found, and after it what the lake holds
    if table in said:
        assert said[said.index(table) : said.index("report: ")] in again
    closed = daily(lake, "2025-03-06T21:00:00Z")  # a session has passed: all is a tick older
    assert "nothing new" not in closed
    assert made(lake)["hydra.duckdb"] != before["hydra.duckdb"]


@pytest.mark.parametrize("gone", ["report.html", "exports/sample_daily_v1.csv", "checks"])
def test_what_is_gone_is_made_again(
    first_daily: tuple[Path, str], tmp_path: Path, gone: str
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(first_daily[0], lake)
    place = lake / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert "nothing new" not in daily(lake, "2025-03-06T13:00:00Z")
    assert place.exists()
