"""The landing jobs: files of a call stand for themselves, and a run goes on where one ended."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl import jobs, reach
from etl.errors import BadInput, HydraError, LakeError
from etl.lake import Lake
from etl.landing import Landed
from etl.market import Market, markets
from etl.schemas import HIVE_SCHEMA, LINEAGE, raw_schema
from etl.sources import sample

NOW = datetime(2025, 3, 14, 12, tzinfo=UTC)
START, END = datetime(2025, 3, 12, tzinfo=UTC), datetime(2025, 3, 14, tzinfo=UTC)


class Killed(BaseException):
    """Stands for the end of the process: nothing of the project catches it."""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture(scope="module")
def known() -> dict[str, Market]:
    return markets()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, known: dict[str, Market]) -> Path:
    """The sample vendor's files of two sessions of HE."""
    folder = tmp_path_factory.mktemp("dbn")
    sample.fetch(known["HE"], START, END, folder)
    return folder


@pytest.fixture(scope="module")
def zips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The CFTC's zips of 2024 and 2025 as the sample vendor writes them."""
    return sample.fetch_cot(2024, 2025, END, tmp_path_factory.mktemp("cot"))


def named(folder: Path, text: str) -> Path:
    (path,) = folder.glob(f"*{text}*")
    return path


def run(
    lake: Lake, job: Callable[..., Iterator[Landed | HydraError]], *arguments: Any, now: Any = NOW
) -> list[Landed | HydraError]:
    with lake.writing(now):
        return list(job(lake, *arguments, now))


def landed(lake: Lake) -> dict[str, pl.DataFrame]:
    """Every row of every dataset, without what the landing added."""
    found = {}
    for dataset in sorted({path.parts[-5].split("=")[1] for path in lake.raw_files()}):
        frame = pl.read_parquet(
            lake.raw_files(dataset), glob=False, hive_partitioning=True, hive_schema=HIVE_SCHEMA
        ).select(list(raw_schema(dataset)))
        found[dataset] = frame.drop(*LINEAGE).sort(pl.all())
    return found


def same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> bool:
    return one.keys() == other.keys() and all(one[name].equals(other[name]) for name in one)


# --- DBN files ----------------------------------------------------------------------------------


def test_definitions_come_first_whatever_the_order(files: Path) -> None:
    paths = sorted(files.iterdir(), reverse=True)
    found = jobs.dbn_files(paths)
    assert sorted(found) == sorted(paths)
    assert ["definition" in path.name for path in found] == [True] * 2 + [False] * 6
    assert found[2:] == [path for path in paths if "definition" not in path.name]
    assert sorted(jobs.dbn_files([files])) == sorted(paths)


def test_a_folder_is_searched_to_its_bottom(files: Path, tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for name in ("x.dbn", "x.dbn.zst", "x.csv", "x.dbn.zst.part"):
        shutil.copy(named(files, "FUT_definition"), deep / name)
    assert sorted(jobs.dbn_files([tmp_path])) == [deep / "x.dbn", deep / "x.dbn.zst"]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_path_without_files_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=f"{tmp_path / name}: ") as refused:
        jobs.dbn_files([tmp_path / name])
    assert refused.value.exit_code == 3


def test_files_land_in_one_call(lake: Lake, known: dict[str, Market], files: Path) -> None:
    results = run(lake, jobs.land_dbn, known, [files])
    assert all(isinstance(result, Landed) for result in results)
    said = sum((result.rows for result in results), start=Counter())
    assert said == {name: frame.height for name, frame in landed(lake).items()}
    assert landed(lake).keys() == {
        *("futures_1d", "futures_1m", "futures_definition", "futures_quote", "futures_stat"),
        *("option_definition", "option_quote", "option_stat"),
    }
    assert lake.origin == "vendor"
    assert {source for f in landed(lake).values() for source in f["source"]} == {"databento"}


def test_files_landed_twice_add_nothing(lake: Lake, known: dict[str, Market], files: Path) -> None:
    run(lake, jobs.land_dbn, known, [files])
    before = lake.raw_files()
    again = run(lake, jobs.land_dbn, known, [files], now=NOW + timedelta(hours=1))
    assert lake.raw_files() == before
    assert all(result.rows.total() == 0 for result in again)


def test_the_order_of_the_files_does_not_matter(
    tmp_path: Path, known: dict[str, Market], files: Path
) -> None:
    paths = sorted(files.iterdir())
    for name, order in (("a", paths), ("b", paths[::-1])):
        run(Lake(tmp_path / name), jobs.land_dbn, known, order)
    assert same(landed(Lake(tmp_path / "a")), landed(Lake(tmp_path / "b")))


@pytest.mark.parametrize("name", ["a[b]", "o'clock", "a*b", "ü ?"])
def test_a_lake_may_lie_in_a_folder_of_any_name(
    tmp_path: Path, known: dict[str, Market], files: Path, zips: list[Path], name: str
) -> None:
    lake = Lake(tmp_path / name / "lake")
    for _ in range(2):
        paths = [named(files, "FUT_definition"), named(files, "FUT_ohlcv-1d")]
        last = run(lake, jobs.land_dbn, known, paths) + run(lake, jobs.land_cot, known, zips[:1])
    assert all(isinstance(result, Landed) and not result.rows.total() for result in last)
    assert landed(lake).keys() == {"cot", "futures_1d", "futures_definition"}


def damaged(folder: Path, files: Path) -> dict[str, Path]:
    """Files that are not what they claim."""
    quotes = named(files, "OPT_bbo-1m").read_bytes()
    made = {
        "cut.dbn.zst": quotes[: len(quotes) // 2],
        "text.dbn": b"date,price\n2025-03-12,85.0\n",
        "empty.dbn": b"",
        "page.dbn.zst": b"<html><body>503</body></html>",
    }
    for name, content in made.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in made}


def test_a_refused_file_costs_no_other(
    lake: Lake, tmp_path: Path, known: dict[str, Market], files: Path
) -> None:
    bad = damaged(tmp_path, files)
    good = [named(files, "OPT_definition"), named(files, "OPT_stat")]
    results = run(lake, jobs.land_dbn, known, [*bad.values(), *good])
    refused = [result for result in results if isinstance(result, HydraError)]
    assert len(refused) == len(bad)
    assert len(results) == len(bad) + len(good)
    for error in refused:
        assert isinstance(error, BadInput)
        assert "\n" not in str(error)
        assert sum(name in str(error) for name in bad) == 1
    assert landed(lake).keys() == {"option_definition", "option_stat"}


def test_a_refused_file_lands_whole_once_it_is_whole(
    lake: Lake, tmp_path: Path, known: dict[str, Market], files: Path
) -> None:
    """Nothing stays of the first attempt, under the same name."""
    definitions, quotes = named(files, "OPT_definition"), named(files, "OPT_bbo-1m")
    path = tmp_path / "quotes.dbn.zst"
    for size in (-100, None):
        path.write_bytes(quotes.read_bytes()[:size])
        last = run(lake, jobs.land_dbn, known, [definitions, path])[-1]
    other = Lake(tmp_path / "other")
    run(other, jobs.land_dbn, known, [definitions, quotes])
    assert isinstance(last, Landed)
    assert same(landed(lake), landed(other))


def test_known_instruments_are_those_that_were_defined(
    lake: Lake, known: dict[str, Market], files: Path
) -> None:
    nothing = jobs.known_instruments(lake)
    assert nothing.is_empty()
    run(lake, jobs.land_dbn, known, [files])
    found = jobs.known_instruments(lake)
    assert found.schema == nothing.schema
    options = landed(lake)["option_definition"]
    ids = found.filter(pl.col("kind") == "option")["instrument_id"]
    assert set(ids) == set(options["instrument_id"])
    assert set(found["market"]) == {"HE"}
    assert set(found["kind"]) == {"future", "option"}


# --- the CFTC's zips ----------------------------------------------------------------------------


def test_zips_land_and_a_refused_one_costs_no_other(
    lake: Lake, tmp_path: Path, known: dict[str, Market], zips: list[Path]
) -> None:
    page, text, other, cut = (tmp_path / name for name in ("p.zip", "t.zip", "o.zip", "c.zip"))
    page.write_text("<!DOCTYPE html><html>busy</html>")
    text.write_text("not a zip")
    cut.write_bytes(zips[0].read_bytes()[:-200])
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("f_year.txt", "Name,Date\nhogs,2025-03-04\n")
    results = run(lake, jobs.land_cot, known, [page, zips[0], text, other, cut, zips[1]])
    assert [isinstance(result, BadInput) for result in results] == [
        *(True, False, True, True, True, False)
    ]
    assert all("\n" not in str(x) for x in results if isinstance(x, BadInput))
    assert "is an HTML page" in str(results[0])
    assert set(landed(lake)["cot"]["report_date"].dt.year()) == {2024, 2025}
    again = run(lake, jobs.land_cot, known, zips)
    assert all(result.rows.total() == 0 for result in again)


# --- the sample vendor --------------------------------------------------------------------------


def land_sample(
    lake: Lake, known: dict[str, Market], days: int = 2, now: datetime = NOW, codes: str = "HE"
) -> list[str]:
    said: list[str] = []
    with lake.writing(now):
        jobs.land_sample(lake, [known[code] for code in codes.split()], days, now, said.append)
    return said


def sessions(lake: Lake) -> list[date]:
    return landed(lake)["option_quote"]["as_of"].dt.date().unique().sort().to_list()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, known: dict[str, Market]) -> Lake:
    """Two sessions of HE; for reading only."""
    lake = Lake(tmp_path_factory.mktemp("filled") / "lake")
    land_sample(lake, known)
    return lake


def test_a_first_run_lands_the_last_sessions_and_years_of_reports(
    filled: Lake, known: dict[str, Market]
) -> None:
    rows = landed(filled)
    assert sessions(filled) == [date(2025, 3, 12), date(2025, 3, 13)]
    assert filled.origin == "sample"
    assert {source for frame in rows.values() for source in frame["source"]} == {"sample"}
    years = rows["cot"]["report_date"].dt.year()
    assert years.unique().sort().to_list() == [2022, 2023, 2024, 2025]
    assert rows["futures_1d"]["available_at"].max() <= NOW
    assert all((frame["available_at"] <= NOW).all() for frame in rows.values())


def test_a_second_run_of_a_day_adds_nothing(
    filled: Lake, tmp_path: Path, known: dict[str, Market]
) -> None:
    lake = Lake(tmp_path / "lake")
    shutil.copytree(filled.root, lake.root)
    said = land_sample(lake, known, now=NOW + timedelta(hours=9))
    assert lake.raw_files() == [lake.root / p.relative_to(filled.root) for p in filled.raw_files()]
    assert not any(" rows of " in line for line in said)


def test_what_has_landed_is_not_made_again(
    filled: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: dict[str, Market]
) -> None:
    lake = Lake(tmp_path / "lake")
    shutil.copytree(filled.root, lake.root)
    made: list[tuple[datetime, datetime]] = []
    monkeypatch.setattr(sample, "fetch", lambda _, start, end, *__: made.append((start, end)) or [])
    day = timedelta(days=1)
    land_sample(lake, known)
    land_sample(lake, known, now=NOW + day)
    with pytest.raises(LakeError, match="before the last run"):
        land_sample(lake, known, now=NOW)  # the clock went back
    assert reach.held(lake, "sample", "HE") == [(START, END + day)]
    land_sample(lake, known, days=3, now=NOW + day)
    assert made == [(END, END + day)]
    land_sample(lake, known, days=5, now=NOW + day)
    assert made[1:] == [(START - 2 * day, START)]
    assert reach.held(lake, "sample", "HE") == [(START - 2 * day, END + day)]


@pytest.mark.parametrize("days", [2, 4])
def test_runs_of_two_days_land_what_one_run_lands(
    filled: Lake, tmp_path: Path, known: dict[str, Market], days: int
) -> None:
    """Two more days, or two more days and two earlier ones."""
    lake, at_once = Lake(tmp_path / "lake"), Lake(tmp_path / "at-once")
    shutil.copytree(filled.root, lake.root)
    later = NOW + timedelta(days=4)  # Tuesday: Friday and Monday are new
    land_sample(lake, known, days, later)
    land_sample(at_once, known, 4 if days == 2 else 6, later)
    if days == 4:
        land_sample(lake, known, 6, later)
    assert same(landed(lake), landed(at_once))


@pytest.mark.parametrize("number", [1, 3, 8, 9, 11])
def test_a_killed_run_is_completed_by_the_next(
    filled: Lake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: dict[str, Market],
    number: int,
) -> None:
    """Killed before its ``number``-th file of 8 of the market and 4 of the CFTC's."""
    lake = Lake(tmp_path / "lake")
    real, calls = jobs.land, iter(range(1, 100))

    def land(*arguments: Any) -> Landed:
        if next(calls) == number:
            raise Killed
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "land", land)
        with pytest.raises(Killed):
            land_sample(lake, known)
    land_sample(lake, known, now=NOW + timedelta(hours=1))
    assert same(landed(lake), landed(filled))


def test_a_market_that_comes_later_gets_its_history(
    filled: Lake, tmp_path: Path, known: dict[str, Market]
) -> None:
    lake = Lake(tmp_path / "lake")
    shutil.copytree(filled.root, lake.root)
    land_sample(lake, known, codes="HE ZO")
    reports = landed(lake)["cot"].group_by("market").len().sort("market")
    assert reports["market"].to_list() == ["HE", "ZO"]
    assert reports["len"].n_unique() == 1


def test_reports_of_a_year_without_runs_are_caught_up(
    filled: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: dict[str, Market]
) -> None:
    lake = Lake(tmp_path / "lake")
    shutil.copytree(filled.root, lake.root)
    monkeypatch.setattr(sample, "fetch", lambda *_: [])
    land_sample(lake, known, days=1, now=datetime(2026, 6, 1, 12, tzinfo=UTC))
    dates = landed(lake)["cot"]["report_date"].sort()
    assert dates.diff().max() <= timedelta(days=8)


def test_a_lake_of_vendor_data_takes_no_sample(
    lake: Lake, known: dict[str, Market], zips: list[Path]
) -> None:
    run(lake, jobs.land_cot, known, zips)
    with pytest.raises(LakeError, match="holds vendor data and takes no sample data"):
        land_sample(lake, known)


# --- the CFTC -----------------------------------------------------------------------------------


class Cftc:
    """The CFTC, answering with the sample vendor's files."""

    def __init__(self, zips: list[Path]) -> None:
        self.zips = zips
        self.years: dict[str, list[list[int]]] = {}

    def fetch(
        self, report: str, years: list[int], folder: Path, unpublished: int | None
    ) -> list[Path]:
        self.years.setdefault(report, []).append(list(years))
        return self.zips


@pytest.fixture
def commission(monkeypatch: pytest.MonkeyPatch, zips: list[Path]) -> Cftc:
    made = Cftc(zips)
    monkeypatch.setattr(jobs.cftc_download, "fetch", made.fetch)
    return made


def land_reports(
    lake: Lake, known: dict[str, Market], now: datetime = NOW, codes: str = "HE", **options: Any
) -> list[str]:
    said: list[str] = []
    with lake.writing(now):
        chosen = [known[code] for code in codes.split()]
        jobs.land_reports(lake, chosen, now, said.append, **options)
    return said


def test_reports_are_asked_for_that_are_missing_or_may_be_revised(
    lake: Lake, known: dict[str, Market], commission: Cftc
) -> None:
    land_reports(lake, known)
    land_reports(lake, known, NOW + timedelta(days=3))
    land_reports(lake, known, datetime(2026, 1, 9, tzinfo=UTC))
    land_reports(lake, known, datetime(2026, 3, 9, tzinfo=UTC))
    years = [[2022, 2023, 2024, 2025], [2025], [2025, 2026], [2025, 2026]]
    assert commission.years == {"disaggregated_futures": years, "disaggregated_combined": years}
    assert lake.origin == "vendor"
    land_reports(lake, known, datetime(2026, 3, 9, tzinfo=UTC), first_year=2019)
    land_reports(lake, known, datetime(2026, 3, 9, tzinfo=UTC), first_year=2019)
    assert commission.years["disaggregated_combined"][4:] == [[2019, 2020, 2021, 2026], [2026]]
    land_reports(lake, known, datetime(2026, 3, 9, tzinfo=UTC), first_year=1999)
    assert commission.years["disaggregated_combined"][-1] == [*range(2006, 2019), 2026]


def test_a_market_without_reports_is_passed_over(
    lake: Lake, known: dict[str, Market], commission: Cftc
) -> None:
    land_reports(lake, known, codes="SPX")
    assert commission.years == {}


def test_a_zip_that_is_refused_ends_the_run(
    lake: Lake, known: dict[str, Market], commission: Cftc, tmp_path: Path
) -> None:
    page = tmp_path / "page.zip"
    page.write_text("<html>")
    commission.zips = [page]
    with pytest.raises(BadInput, match=r"page\.zip: is an HTML page"):
        land_reports(lake, known)
    assert reach.held(lake, "cftc-disaggregated_futures", "HE") == []


def test_reports_are_of_the_kinds_that_markets_and_the_run_name(
    lake: Lake, known: dict[str, Market], commission: Cftc
) -> None:
    commission.zips = []
    land_reports(lake, known, codes="HE ES")
    assert set(commission.years) == {
        f"{kind}_{scope}"
        for kind in ("disaggregated", "financial")
        for scope in ("futures", "combined")
    }
    land_reports(lake, known, codes="HE ES", cot_kinds=["legacy"])
    legacy = [[2022, 2023, 2024, 2025]]  # all of the history, since it is new
    assert commission.years["legacy_futures"] == commission.years["legacy_combined"] == legacy
    assert commission.years["financial_futures"][1:] == [[2025]]
