"""The CFTC's download through the real ``cot_reports``, against its website on loopback."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from etl import jobs
from etl.errors import BadInput, VendorError
from etl.lake import Lake
from etl.market import market
from etl.sources import cftc, cftc_download, sample
from tests.vendors.wire import Answer, Proxy, Request

FUTURES, COMBINED = "disaggregated_futures", "disaggregated_combined"


class Website:
    """``cftc.gov`` on loopback: answers a file's name with its next prepared answer."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[str] = []
        self.certificates = folder / "ca.pem"
        self.proxy = Proxy(("cftc.gov",), self.certificates, lambda host: True, self._answer)

    def _answer(self, request: Request) -> Answer:
        assert request.path == f"/files/dea/history/{request.name}"
        self.asked.append(request.name)
        queue = self.answers.get(request.name) or [Answer(b"<html>no such file</html>", 404)]
        return queue.pop(0) if len(queue) > 1 else queue[0]


@pytest.fixture(scope="module")
def website(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    made = Website(tmp_path_factory.mktemp("site"))
    made.proxy.start()
    yield made
    made.proxy.stop()


@pytest.fixture
def site(
    website: Website, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Website]:
    """The website, reached by this process's children, and a working directory to leave alone."""
    website.answers, website.asked = {}, []
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", website.proxy.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(website.certificates))
    monkeypatch.setattr(cftc_download, "_FIRST_WAIT", 0.001)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    yield website
    assert not list(Path.cwd().glob("*.txt"))


def text(year: int, scope: str = "FutOnly") -> bytes:
    """A report of one row."""
    (disaggregated,) = (kind for kind in cftc._KINDS if kind.name == "disaggregated")
    names = ["Market_and_Exchange_Names", "Report_Date_as_YYYY-MM-DD", "CFTC_Contract_Market_Code"]
    header = [*names, *disaggregated.columns.values(), "FutOnly_or_Combined"]
    cells = ["LEAN HOGS", f"{year}-03-01", "054642", *["7"] * len(disaggregated.columns), scope]
    return f"{','.join(header)}\r\n{','.join(cells)}\r\n".encode()


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members:
            archive.writestr(name, body)
    return buffer.getvalue()


def year_zip(year: int) -> bytes:
    return zipped(("f_year.txt", text(year)))


def test_years_are_taken_as_published(site: Website, tmp_path: Path) -> None:
    site.answers = {
        "fut_disagg_txt_hist_2006_2016.zip": [Answer(zipped(("F_Disagg06_16.txt", text(2016))))],
        "fut_disagg_txt_2024.zip": [Answer(year_zip(2024))],
    }
    paths = cftc_download.fetch(FUTURES, [2024, 2009, 2012], tmp_path / "new")
    names = ["fut_disagg_txt_hist_2006_2016.txt", "fut_disagg_txt_2024.txt"]
    assert [path.name for path in paths] == names
    assert [path.read_bytes() for path in paths] == [text(2016), text(2024)]
    assert len(site.asked) == 2  # eleven years of history are one download
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)


def test_the_combined_report_has_files_of_its_own(site: Website, tmp_path: Path) -> None:
    body = text(2024, "Combined")
    site.answers = {"com_disagg_txt_2024.zip": [Answer(zipped(("c_year.txt", body)))]}
    (path,) = cftc_download.fetch(COMBINED, [2024], tmp_path)
    assert (path.name, path.read_bytes()) == ("com_disagg_txt_2024.txt", body)
    assert cftc.newest_report(path)[0] == COMBINED


def test_in_january_the_last_year_stands_in(site: Website, tmp_path: Path) -> None:
    site.answers = {"fut_disagg_txt_2025.zip": [Answer(year_zip(2025))]}
    for years in ([2026], [2025, 2026]):
        paths = cftc_download.fetch(FUTURES, years, tmp_path, unpublished=2026)
        assert [path.name for path in paths] == ["fut_disagg_txt_2025.txt"]


def test_any_other_missing_year_is_an_error(site: Website, tmp_path: Path) -> None:
    site.answers = {"fut_disagg_txt_2025.zip": [Answer(year_zip(2025))]}
    with pytest.raises(VendorError, match=r"no fut_disagg_txt_2023\.zip \(HTTP 404\)"):
        cftc_download.fetch(FUTURES, [2023, 2025], tmp_path, unpublished=2026)
    with pytest.raises(VendorError, match=r"no fut_disagg_txt_2026\.zip \(HTTP 404\)"):
        cftc_download.fetch(FUTURES, [2025, 2026], tmp_path)


def test_passing_failures_are_tried_again(site: Website, tmp_path: Path) -> None:
    good = year_zip(2024)
    site.answers["fut_disagg_txt_2024.zip"] = [
        Answer(b"", 503),
        Answer(b"", 429),
        Answer(good, length=len(good) + 9),
        Answer(good),
    ]
    (path,) = cftc_download.fetch(FUTURES, [2024], tmp_path)
    assert path.read_bytes() == text(2024)
    assert len(site.asked) == 4


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(b"no", 403), r"fut_disagg_txt_2024\.zip: HTTP 403"),
        (Answer(b"<html>maintenance</html>"), r"fut_disagg_txt_2024\.zip is an HTML page"),
        (Answer(year_zip(2024)[:-30]), "is not a whole zip"),
        (Answer(zipped(("renamed.txt", text(2024)))), "holds no f_year.txt"),
        (Answer(zipped(("f_year.txt", text(2024)), ("more.txt", b""))), "holds 2 files"),
        (Answer(zipped(("f_year.txt", b"Market,What\r\nx,y\r\n"))), "not its report"),
        (Answer(zipped(("f_year.txt", text(2024, "Combined")))), f"is the {COMBINED} report"),
        (Answer(year_zip(2023)), "ends on 2023-03-01, not in 2024"),
    ],
)
def test_an_answer_that_is_not_the_year_is_refused_and_the_old_file_stays(
    site: Website, tmp_path: Path, answer: Answer, says: str
) -> None:
    old = tmp_path / "fut_disagg_txt_2024.txt"
    old.write_bytes(b"old")
    site.answers["fut_disagg_txt_2024.zip"] = [answer]
    with pytest.raises(VendorError, match=says) as error:
        cftc_download.fetch(FUTURES, [2024], tmp_path)
    assert "\n" not in str(error.value)
    assert len(site.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == [old.name]
    assert old.read_bytes() == b"old"


def test_an_old_text_in_the_working_directory_is_not_taken(site: Website, tmp_path: Path) -> None:
    """What ``cot_reports`` itself would have returned."""
    Path("f_year.txt").write_bytes(text(2024))
    site.answers["fut_disagg_txt_2024.zip"] = [Answer(zipped(("renamed.txt", text(2024))))]
    try:
        with pytest.raises(VendorError, match=r"holds no f_year\.txt"):
            cftc_download.fetch(FUTURES, [2024], tmp_path)
    finally:
        Path("f_year.txt").unlink()


def test_what_goes_on_failing_ends_the_run(
    site: Website, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cftc_download, "_ATTEMPTS", 2)
    site.answers["fut_disagg_txt_2024.zip"] = [Answer(b"", 503)]
    with pytest.raises(VendorError, match="HTTP 503 on each of 2 attempts"):
        cftc_download.fetch(FUTURES, [2024], tmp_path)
    assert len(site.asked) == 2
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:9")
    with pytest.raises(VendorError, match=r"no answer \(ProxyError\) on each of 2") as error:
        cftc_download.fetch(FUTURES, [2024], tmp_path)
    assert "secret" not in str(error.value)
    monkeypatch.setattr(cftc_download, "_LIMIT", 0.01)
    with pytest.raises(VendorError, match="not there after 0 seconds on each of 2 attempts"):
        cftc_download.fetch(FUTURES, [2024], tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_package_s_process_gets_no_key_and_finds_the_certificates(
    site: Website, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", "db-secret")
    Path("ca").mkdir()
    Path("ca/own.pem").write_bytes(site.certificates.read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "ca/own.pem")
    environment = cftc_download._environment()
    assert "db-secret" not in "".join(environment.values())
    site.answers["fut_disagg_txt_2024.zip"] = [Answer(year_zip(2024))]
    assert cftc_download.fetch(FUTURES, [2024], tmp_path)


def test_years_are_from_2006_on(site: Website, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"from 2006 on; 2005"):
        cftc_download.fetch(FUTURES, [2005, 2024], tmp_path)
    assert cftc_download.fetch(FUTURES, [], tmp_path) == []


@pytest.mark.parametrize(
    ("report", "year", "name"),
    [
        ("legacy_futures", 2024, "deacot2024.zip"),
        ("legacy_combined", 2010, "deahistfo_1995_2016.zip"),
        ("financial_futures", 2010, "fin_fut_txt_2006_2016.zip"),
        ("financial_combined", 2024, "com_fin_txt_2024.zip"),
    ],
)
def test_other_reports_are_asked_for_by_their_own_names(
    site: Website, tmp_path: Path, report: str, year: int, name: str
) -> None:
    site.answers[name] = [Answer(b"", 403)]
    with pytest.raises(VendorError, match=rf"{name}: HTTP 403"):
        cftc_download.fetch(report, [year], tmp_path)
    assert site.asked == [name]


def test_a_run_lands_both_reports_and_a_later_one_what_was_revised(
    site: Website, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, on the sample vendor's files."""
    now = datetime(2025, 2, 20, 12, tzinfo=UTC)
    zips = {
        name.removeprefix("sample_"): path.read_bytes()
        for report in (FUTURES, COMBINED)
        for path in sample.fetch_cot(2025, 2025, now, tmp_path, report)
        for name in [path.name]
    }
    site.answers = {name: [Answer(body)] for name, body in zips.items()}
    monkeypatch.setattr(jobs, "_COT_YEARS", 1)
    lake = Lake(tmp_path / "lake")

    def run(at: datetime) -> list[str]:
        said: list[str] = []
        with lake.writing(at):
            jobs.land_reports(lake, [market("HE")], at, said.append)
        return said

    assert run(now) == [
        f"{name}_disagg_txt_2025.txt: 6 rows of cot, 30 left out (other market)"
        for name in ("fut", "com")
    ]
    (member,) = zipfile.ZipFile(io.BytesIO(zips["com_disagg_txt_2025.zip"])).namelist()
    body = zipfile.ZipFile(io.BytesIO(zips["com_disagg_txt_2025.zip"])).read(member)
    line = next(line for line in body.splitlines() if b"054642" in line and b"2025-02-04" in line)
    cells = line.split(b",")
    cells[7] = b"  123456"
    revised = zipped((member, body.replace(line, b",".join(cells))))
    site.answers["com_disagg_txt_2025.zip"] = [Answer(revised)]
    later = now + timedelta(days=1)
    assert run(later) == [
        "fut_disagg_txt_2025.txt: 6 already there, 30 left out (other market)",
        "com_disagg_txt_2025.txt: 1 rows of cot, 5 already there, 30 left out (other market)",
    ]
    site.answers["com_disagg_txt_2025.zip"] = [Answer(b"<html>")]
    files = lake.raw_files()
    with pytest.raises(VendorError, match="HTML page"):
        run(later + timedelta(days=1))
    assert lake.raw_files() == files
    rows = pl.concat(pl.read_parquet(path, hive_partitioning=False) for path in files)
    vintages = rows.filter(report=COMBINED, report_date=date(2025, 2, 4)).sort("available_at")
    assert vintages["available_at"].to_list()[1:] == [later]
    assert vintages["open_interest"].to_list()[1:] == [123456]
