"""The loopback vendors answer the real clients with exactly what the sample vendor has."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import cot_reports
import databento
import numpy as np
import pytest
import requests
from databento.common.error import (
    BentoClientError,
    BentoError,
    BentoHttpError,
    BentoServerError,
    BentoWarning,
)

from etl.market import markets
from etl.sources import sample
from tests.vendors import KEY, Vendors, faults
from tests.vendors.archive import SCHEMAS, Archive
from tests.vendors.historical import Historical
from tests.vendors.wire import Request

HOGS, OATS = markets()["HE"], markets()["ZO"]
START, END = datetime(2025, 3, 3, tzinfo=UTC), datetime(2025, 3, 14, tzinfo=UTC)
SINCE, UNTIL = datetime(2025, 3, 11, 15, tzinfo=UTC), datetime(2025, 3, 13, 2, tzinfo=UTC)
ASK: dict[str, Any] = {
    "dataset": "GLBX.MDP3",
    "schema": "bbo-1m",
    "symbols": ["HE.FUT", "HE.OPT"],
    "stype_in": "parent",
    "start": SINCE,
    "end": UNTIL,
}
YEAR_ZIP = "https://cftc.gov/files/dea/history/fut_disagg_txt_2025.zip"


@pytest.fixture(scope="module")
def archive() -> Archive:
    return Archive([HOGS, OATS], START, END)


Serve = Callable[..., Vendors]


@pytest.fixture
def serve(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Vendors that this process reaches under the real names."""
    started: list[Vendors] = []

    def start(*struck: faults.Fault, conditions: Mapping[date, str] | None = None) -> Vendors:
        vendors = Vendors(
            [HOGS, OATS],
            START,
            END,
            faults=struck,
            conditions=conditions,
            limited=False,
            archive=archive,
        )
        started.append(vendors.__enter__())
        for name, value in vendors.env.items():
            monkeypatch.setenv(name, value)
        return vendors

    yield start
    for vendors in started:
        vendors.__exit__(None, None, None)


@pytest.fixture
def client(serve: Serve) -> databento.Historical:
    serve()
    return databento.Historical()


def records(data: Any) -> Counter[bytes]:
    """The records of one or more DBN files, in any order."""
    stores = data if isinstance(data, list) else [data]
    return Counter(record.tobytes() for store in stores for record in store.to_ndarray())


# --- Databento ----------------------------------------------------------------------------------


@pytest.mark.parametrize("market", [HOGS, OATS], ids=lambda market: market.code)
def test_every_record_is_the_sample_vendors(
    client: databento.Historical, tmp_path: Path, market: Any
) -> None:
    """The sample vendor is asked for the span itself, the archive was made for a longer one."""
    made: dict[str, list[Any]] = {}
    for path in sample.fetch(market, SINCE, UNTIL, tmp_path):
        store = databento.DBNStore.from_file(path)
        made.setdefault(str(store.schema), []).append(store)
    parents = [*market.futures_parents, *market.option_parents]
    for schema in ("definition", "statistics", "bbo-1m"):
        given = client.timeseries.get_range(**{**ASK, "schema": schema, "symbols": parents})
        assert records(given) == records(made[schema])
        assert sum(records(given).values()) > 100
    bars = client.timeseries.get_range(**{**ASK, "schema": "ohlcv-1m", "symbols": parents})
    assert records(bars) == records(made["ohlcv-1m"])


def test_days_bars_are_found_by_their_start(client: databento.Historical) -> None:
    day = timedelta(days=1)
    ask = {**ASK, "schema": "ohlcv-1d", "symbols": "ZO.FUT", "start": END - day, "end": END}
    at = client.timeseries.get_range(**ask).to_ndarray()["ts_event"]
    assert set(at.astype("datetime64[ns]").astype("datetime64[D]")) == {np.datetime64("2025-03-13")}


def test_a_file_is_sorted_and_names_its_instruments(client: databento.Historical) -> None:
    store = client.timeseries.get_range(**ASK)
    assert (store.metadata.version, store.metadata.symbols) == (3, ["HE.FUT", "HE.OPT"])
    frame = store.to_df(pretty_ts=False)
    assert frame.index.is_monotonic_increasing
    assert frame["symbol"].notna().all()
    assert set(frame["symbol"].str.contains(" ")) == {True, False}  # options and futures
    times = store.to_ndarray()["ts_recv"]
    assert times.min() >= SINCE.timestamp() * 1e9
    assert times.max() < UNTIL.timestamp() * 1e9


def test_the_metadata_is_about_the_file(client: databento.Historical) -> None:
    store = client.timeseries.get_range(**ASK)
    count = client.metadata.get_record_count(**ASK)
    size = client.metadata.get_billable_size(**ASK)
    prices = client.metadata.list_unit_prices("GLBX.MDP3")[0]["unit_prices"]
    assert count == len(store.to_ndarray()) > 0
    assert size == store.to_ndarray().nbytes
    assert client.metadata.get_cost(**ASK) == pytest.approx(size * prices["bbo-1m"] / 1e9)
    assert len(client.timeseries.get_range(**ASK, limit=7).to_ndarray()) == 7
    assert client.metadata.list_datasets() == ["GLBX.MDP3"]
    assert client.metadata.list_schemas("GLBX.MDP3") == list(SCHEMAS)
    assert client.metadata.list_publishers()[0]["dataset"] == "GLBX.MDP3"
    assert {"name": "close", "type": "int64"} in client.metadata.list_fields("ohlcv-1d", "dbn")
    span = client.metadata.get_dataset_range("GLBX.MDP3")
    assert (span["start"][:10], span["end"][:10]) == ("2025-03-03", "2025-03-14")


def test_updates_of_the_book_are_the_quotes(client: databento.Historical) -> None:
    quotes = client.timeseries.get_range(**ASK).to_ndarray()
    updates = client.timeseries.get_range(**{**ASK, "schema": "mbp-1"}).to_ndarray()
    for name in ("instrument_id", "ts_recv", "bid_px_00", "ask_px_00", "bid_sz_00"):
        assert (quotes[name] == updates[name]).all()


def test_symbols_resolve_to_what_the_file_says(client: databento.Historical) -> None:
    day, after = date(2025, 3, 12), date(2025, 3, 13)
    found = client.symbology.resolve(
        "GLBX.MDP3", ["HE.FUT", "XX.FUT"], "parent", "raw_symbol", day, after
    )
    assert found["not_found"] == ["XX.FUT"]
    raw = sorted(one["s"] for one in found["result"]["HE.FUT"])
    ids = client.symbology.resolve("GLBX.MDP3", raw, "raw_symbol", "instrument_id", day, after)
    store = client.timeseries.get_range(
        **{**ASK, "symbols": raw, "stype_in": "raw_symbol", "start": day, "end": after}
    )
    assert set(store.mappings) == set(raw)
    for symbol, (interval,) in store.mappings.items():
        assert ids["result"][symbol] == [
            {"d0": f"{day}", "d1": f"{after}", "s": interval["symbol"]}
        ]


def test_all_symbols_are_all_there_is(client: databento.Historical) -> None:
    ask = {**ASK, "schema": "definition"}
    parents = {**ask, "symbols": ["HE.FUT", "HE.OPT", "ZO.FUT", "OZO.OPT"]}
    every = {**ask, "symbols": "ALL_SYMBOLS", "stype_in": "raw_symbol"}
    get = client.timeseries.get_range
    assert records(get(**every)) == records(get(**parents))


@pytest.mark.parametrize(
    ("change", "status", "case"),
    [
        ({"symbols": "XX.FUT"}, 422, "symbology_invalid_request"),
        ({"schema": "mbo"}, 422, "data_invalid_schema"),
        ({"dataset": "XNAS.ITCH"}, 422, "data_invalid_dataset"),
        ({"end": END + timedelta(days=1)}, 422, "data_end_after_available_end"),
        ({"start": START - timedelta(days=1)}, 422, "data_start_before_available_start"),
        ({"end": SINCE}, 422, "data_time_range_start_on_or_after_end"),
    ],
)
def test_what_cannot_be_served_is_refused(
    client: databento.Historical, change: dict[str, Any], status: int, case: str
) -> None:
    for call in (client.timeseries.get_range, client.metadata.get_cost):
        with pytest.raises(BentoClientError, match=case) as refused:
            call(**{**ASK, **change})
        assert refused.value.http_status == status


def test_a_symbol_that_nobody_knows_is_reported(client: databento.Historical) -> None:
    store = client.timeseries.get_range(**{**ASK, "symbols": ["HE.FUT", "XX.OPT"]})
    assert store.metadata.not_found == ["XX.OPT"]


def test_another_key_is_refused(serve: Serve) -> None:
    vendors = serve()
    with pytest.raises(BentoClientError, match="auth_authentication_failed"):
        databento.Historical(KEY[::-1]).metadata.list_datasets()
    assert vendors.requests[-1].status == 401


def test_no_other_host_is_reached(serve: Serve) -> None:
    serve()
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("https://example.com", timeout=5)


def test_requests_are_logged_and_bytes_counted(serve: Serve, tmp_path: Path) -> None:
    vendors = serve()
    databento.Historical().timeseries.get_range(**ASK, path=tmp_path / "file")
    (asked,) = vendors.requests
    assert (asked.name, asked.form["symbols"]) == ("timeseries.get_range", "HE.FUT,HE.OPT")
    assert vendors.count("timeseries.get_range") == 1
    assert vendors.downloaded_bytes == (tmp_path / "file").stat().st_size


def test_days_have_conditions(serve: Serve) -> None:
    degraded, pending = date(2025, 3, 11), date(2025, 3, 12)
    serve(conditions={degraded: "degraded", pending: "pending"})
    client = databento.Historical()
    listed = client.metadata.get_dataset_condition("GLBX.MDP3", date(2025, 3, 7), pending)
    assert [day["condition"] for day in listed] == [
        *("available", "missing", "available", "available", "degraded", "pending")
    ]
    with pytest.warns(BentoWarning, match=r"2025-03-11 \(degraded\)"):
        store = client.timeseries.get_range(**ASK)
    days = store.to_ndarray()["ts_recv"].astype("datetime64[ns]").astype("datetime64[D]")
    assert set(days) == {np.datetime64(degraded)}


def test_requests_beyond_the_limits_are_turned_away(archive: Archive) -> None:
    vendor = Historical(archive, KEY, {}, limited=True)
    bearer = {"Authorization": requests.auth._basic_auth_str(KEY, "")}
    request = Request("hist.databento.com", "/v0/metadata.list_datasets", {}, bearer)
    answers = [vendor.answer(request) for _ in range(21)]
    assert [answer.status for answer in answers] == [200] * 20 + [429]
    assert answers[-1].headers["Retry-After"] == "1"


# --- Databento's batch jobs ---------------------------------------------------------------------


@pytest.fixture
def job(client: databento.Historical) -> str:
    """A job that is done."""
    submitted = client.batch.submit_job(**ASK)
    assert submitted["state"] == "received"
    assert submitted["cost_usd"] == client.metadata.get_cost(**ASK)
    states = [client.batch.get_job_details(submitted["id"])["state"] for _ in range(3)]
    assert states == ["queued", "processing", "done"]
    return str(submitted["id"])


def test_a_job_is_downloaded_in_files_of_a_day(
    client: databento.Historical, job: str, tmp_path: Path
) -> None:
    assert [one["id"] for one in client.batch.list_jobs("done")] == [job]
    paths = client.batch.download(job, tmp_path)
    names = [path.name for path in paths if path.suffix == ".zst"]
    days = ("20250311", "20250312", "20250313")
    assert set(names) <= {f"glbx-mdp3-{day}.bbo-1m.dbn.zst" for day in days}
    stores = [databento.DBNStore.from_file(path) for path in paths if path.suffix == ".zst"]
    assert records(stores) == records(client.timeseries.get_range(**ASK))


def test_a_download_is_resumed(client: databento.Historical, job: str, tmp_path: Path) -> None:
    listed = client.batch.list_files(job)[0]
    name, size = listed["filename"], listed["size"]
    whole = client.batch.download(job, tmp_path / "whole", name)[0].read_bytes()
    assert (len(whole), f"sha256:{hashlib.sha256(whole).hexdigest()}") == (size, listed["hash"])
    begun = tmp_path / "begun" / job / name
    begun.parent.mkdir(parents=True)
    begun.write_bytes(whole[: size // 3])
    assert client.batch.download(job, tmp_path / "begun", name)[0].read_bytes() == whole


def test_a_job_that_is_not_there(client: databento.Historical, tmp_path: Path) -> None:
    with pytest.raises(BentoClientError, match="resource_not_found"):
        client.batch.get_job_details("GLBX-20250101-NOTHING")
    begun = client.batch.submit_job(**ASK)["id"]
    assert client.batch.list_files(begun) == []


# --- the CFTC -----------------------------------------------------------------------------------


def test_the_reports_are_the_sample_vendors(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through ``cot_reports``, which unpacks into the working directory."""
    serve()
    monkeypatch.chdir(tmp_path)
    year = cot_reports.cot_year(2025, "disaggregated_fut", verbose=False)
    first = cot_reports.cot_hist("disaggregated_fut", verbose=False)
    made = tmp_path / "made"
    made.mkdir()
    texts = {}
    for path in [
        *sample.fetch_cot(2006, 2017, END, made),
        *sample.fetch_cot(2025, 2025, END, made),
    ]:
        with zipfile.ZipFile(path) as archive:
            texts[path.stem.rsplit("_", 1)[1]] = archive.read("f_year.txt")
    assert (tmp_path / "f_year.txt").read_bytes() == texts["2025"]
    early = sum(len(texts[f"{y}"].splitlines()) - 1 for y in range(2006, 2017))
    assert (len(year), len(first)) == (len(texts["2025"].splitlines()) - 1, early)
    newest = "Report_Date_as_YYYY-MM-DD"
    assert (year[newest].max(), first[newest].max()) == ("2025-03-04", "2016-12-27")


def test_a_year_without_a_report_has_no_file(serve: Serve) -> None:
    serve()
    for name in ("fut_disagg_txt_2026.zip", "fut_disagg_txt_1999.zip", "nothing.zip"):
        url = YEAR_ZIP.replace("fut_disagg_txt_2025.zip", name)
        assert requests.get(url, timeout=5).status_code == 404


# --- faults, as the clients see them ------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (faults.status(402), BentoClientError, "account_payment_required"),
        (faults.status(503), BentoServerError, "service_unavailable"),
        (faults.too_many_requests(3), BentoClientError, "rate_limit_exceeded"),
        (faults.refused("hist.databento.com"), requests.exceptions.ProxyError, "refused|502"),
        (faults.reset(), BentoError, "Error streaming"),
        (faults.broken(), BentoError, "Error streaming"),
        (faults.empty(), ValueError, "empty file"),
        (faults.json_answer(), BentoError, "Could not determine"),
    ],
    ids=lambda value: value.name if isinstance(value, faults.Fault) else "",
)
def test_faults_that_the_client_raises(
    serve: Serve, tmp_path: Path, fault: faults.Fault, error: type[Exception], says: str
) -> None:
    serve(fault)
    with pytest.raises(error, match=says) as raised:
        databento.Historical().timeseries.get_range(**ASK, path=tmp_path / "file")
    if isinstance(raised.value, BentoHttpError) and raised.value.http_status == 429:
        assert raised.value.headers["Retry-After"] == "3"


def test_a_slow_answer_outlasts_the_clients_patience(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(faults.slow(5.0))
    monkeypatch.setattr(databento.common.http.BentoHttpAPI, "TIMEOUT", 0.2)
    with pytest.raises(requests.exceptions.ReadTimeout):
        databento.Historical().timeseries.get_range(**ASK)


@pytest.mark.parametrize("fault", [faults.cut_on_a_record(), faults.fewer_records()])
def test_a_cut_on_a_record_passes_the_client_in_silence(
    serve: Serve, tmp_path: Path, fault: faults.Fault
) -> None:
    serve(fault)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BentoWarning)
        store = databento.Historical().timeseries.get_range(**ASK, path=tmp_path / "file")
        got = len(store.to_ndarray())
    announced = databento.Historical().metadata.get_record_count(**ASK)
    assert got == announced // 2
    assert not [one for one in caught if issubclass(one.category, BentoWarning)]


def test_symbols_that_do_not_resolve_are_in_the_file(serve: Serve) -> None:
    vendors = serve(faults.partial(), faults.not_found("HE.OPT"))
    get = databento.Historical().timeseries.get_range
    assert get(**ASK).metadata.partial == ["HE.OPT"]
    vendors.faults.pop(0)
    store = get(**ASK)
    count = databento.Historical().metadata.get_record_count(**ASK)
    assert (store.metadata.not_found, len(store.to_ndarray())) == (["HE.OPT"], count)
    assert vendors.requests[0].status == vendors.requests[1].status == 206
    assert records(store) == records(get(**{**ASK, "symbols": "HE.FUT"}))


@pytest.mark.parametrize(("times", "statuses"), [(1, [500, 200, 200]), (2, [500, 500, 200])])
def test_a_fault_strikes_as_often_and_where_it_should(
    serve: Serve, times: int, statuses: list[int]
) -> None:
    vendors = serve(faults.status(500, schema="bbo-1m", times=times))
    get = databento.Historical().timeseries.get_range
    assert len(get(**{**ASK, "schema": "definition"}).to_ndarray()) > 0
    for _ in statuses:
        try:
            get(**ASK)
        except BentoServerError:
            continue
    assert [asked.status for asked in vendors.requests] == [200, *statuses]


def test_faults_of_the_cftc(serve: Serve) -> None:
    serve()
    good = requests.get(YEAR_ZIP, timeout=5).content
    with zipfile.ZipFile(BytesIO(good)) as archive:
        text = archive.read("f_year.txt")
    for fault, status, check in (
        (faults.no_such_file(), 404, lambda body: b"Page Not Found" in body),
        (faults.unavailable(), 503, lambda body: b"<html>" in body),
        (faults.html_page(), 200, lambda body: body.startswith(b"<!DOCTYPE html>")),
        (faults.cut_zip(), 200, lambda body: body == good[: len(good) // 2]),
        (faults.renamed_member(), 200, lambda body: _only(body, "annual_report.csv") == text),
        (faults.stale_year(2024), 200, lambda body: b"2024-12-31" in _only(body, "f_year.txt")),
    ):
        serve(fault)
        answer = requests.get(YEAR_ZIP, timeout=5)
        assert answer.status_code == status, fault.name
        assert check(answer.content), fault.name


def _only(packed: bytes, member: str) -> bytes:
    with zipfile.ZipFile(BytesIO(packed)) as archive:
        assert archive.namelist() == [member]
        return archive.read(member)
