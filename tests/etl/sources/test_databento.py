"""Databento through its real client: what is asked, what it costs, and whole files or none."""

from __future__ import annotations

import base64
import errno
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.errors import BadInput, LakeError, VendorError
from etl.market import Market, markets
from etl.sources import databento, dbn
from etl.sources.databento import Fetched, Request, download
from etl.sources.databento import ask as asking
from etl.spans import Span

START, END = datetime(2024, 5, 9, tzinfo=UTC), datetime(2024, 5, 11, tzinfo=UTC)
KEY = "db-SeCrEt-0123456789abcdefghijkl"
REQUEST = Request("HE", "GLBX.MDP3", "ohlcv-1m", ("HE.FUT",), START, END)


@pytest.fixture(scope="module")
def hogs() -> Market:
    return markets()["HE"]


def planned(
    vendor: Any, market: Market, span: Span = (START, END), **options: Any
) -> list[Request]:
    """What is asked for of a span by a lake that has nothing."""
    missing = options.pop("missing", lambda series: [span])
    offered = databento.offer(vendor.asker(), "GLBX.MDP3", span)
    return databento.requests(market, options.pop("quotes", "bbo-1m"), missing, offered)


def asked(requests: list[Request]) -> dict[str, tuple[tuple[str, ...], str, str]]:
    """Schema -> symbols, start and end to the minute."""
    return {
        request.schema: (request.symbols, f"{request.start:%d %H:%M}", f"{request.end:%d %H:%M}")
        for request in requests
    }


# --- what is asked for --------------------------------------------------------------------------


def test_all_that_a_market_needs_is_asked_for(vendor: Any, hogs: Market) -> None:
    requests = planned(vendor, hogs)
    both, futures = ("HE.FUT", "HE.OPT"), ("HE.FUT",)
    whole = ("09 00:00", "10 12:00")  # as far as the vendor has got
    assert asked(requests) == {
        "definition": (both, *whole),
        "ohlcv-1d": (futures, "09 00:00", "10 00:00"),
        "ohlcv-1m": (futures, *whole),
        "statistics": (both, *whole),
        "bbo-1m": (both, *whole),
    }
    assert requests[0].schema == "definition"
    assert {request.dataset for request in requests} == {"GLBX.MDP3"}
    assert vendor.authorized == {"Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}


def test_other_quotes_can_be_asked_for(vendor: Any, hogs: Market) -> None:
    assert "mbp-1" in asked(planned(vendor, hogs, quotes="mbp-1"))
    with pytest.raises(BadInput, match="bbo-1m, bbo-1s, mbp-1"):
        planned(vendor, hogs, quotes="mbo")


def test_a_configured_root_is_asked_for_too(vendor: Any, hogs: Market) -> None:
    weekly = replace(hogs, option_parents=("HE.OPT", "LN1.OPT"))
    requests = asked(planned(vendor, weekly))
    assert requests["bbo-1m"][0] == ("HE.FUT", "HE.OPT", "LN1.OPT")
    assert requests["ohlcv-1m"][0] == ("HE.FUT",)


def test_what_is_held_is_not_asked_for_again(vendor: Any, hogs: Market) -> None:
    """A root that was configured later is asked for alone; others go on where they ended."""
    weekly = replace(hogs, option_parents=("HE.OPT", "LN1.OPT"))
    noon = datetime(2024, 5, 9, 12, tzinfo=UTC)

    def missing(series: str) -> list[Span]:
        return [(START, END)] if "LN1.OPT" in series else [(noon, END)]

    requests = planned(vendor, weekly, missing=missing)
    statistics = [r for r in requests if r.schema == "statistics"]
    assert [(r.symbols, r.start) for r in statistics] == [
        (("LN1.OPT",), START),
        (("HE.FUT", "HE.OPT"), noon),
    ]
    assert planned(vendor, hogs, missing=lambda series: []) == []


def test_bars_are_asked_for_whole(vendor: Any, hogs: Market) -> None:
    vendor.range["end"] = "2024-05-10T12:00:30Z"
    start = datetime(2024, 5, 9, 13, 0, 30, tzinfo=UTC)
    requests = asked(planned(vendor, hogs, (start, END)))
    # The bar under way at the start is found by its own start; the last one is not whole yet.
    assert requests["ohlcv-1d"][1:] == ("09 00:00", "10 00:00")
    assert requests["ohlcv-1m"][1:] == ("09 13:00", "10 12:00")
    late = datetime(2024, 5, 10, 1, tzinfo=UTC)
    assert "ohlcv-1d" not in asked(planned(vendor, hogs, (late, END)))


def test_each_schema_ends_where_the_vendor_has_got_to(vendor: Any, hogs: Market) -> None:
    vendor.range["schema"] = {
        "bbo-1m": {"start": "2024-05-09T06:00:00Z", "end": "2024-05-10T08:00:00Z"},
        "statistics": {"start": "2011-01-01", "end": "2024-05-09"},
    }
    requests = asked(planned(vendor, hogs))
    assert requests["bbo-1m"][1:] == ("09 06:00", "10 08:00")
    assert requests["definition"][1:] == ("09 00:00", "10 12:00")
    assert "statistics" not in requests


def test_what_the_vendor_has_not_got_yet_is_nothing(vendor: Any, hogs: Market) -> None:
    vendor.range["end"] = "2024-05-09T00:00:00Z"
    assert planned(vendor, hogs) == []
    assert [name for name, _ in vendor.asked] == ["get_dataset_range"]


def test_a_pending_day_is_left_out_and_the_days_around_it_are_not(
    vendor: Any, hogs: Market
) -> None:
    vendor.range["end"] = "2024-05-12T00:00:00Z"
    vendor.conditions = {"2024-05-09": "degraded", "2024-05-10": "pending", "2024-05-11": "missing"}
    span = (START, START + timedelta(days=3))
    bars = [r for r in planned(vendor, hogs, span) if r.schema == "ohlcv-1d"]
    assert [(f"{r.start:%d}", f"{r.end:%d}") for r in bars] == [("09", "10"), ("11", "12")]
    offered = databento.offer(vendor.asker(), "GLBX.MDP3", span)
    about = offered.days((bars[0].start, bars[0].end))
    assert about == {date(2024, 5, 9): ("degraded", date(2024, 5, 20))}
    (form,) = [form for name, form in vendor.asked if name == "get_dataset_condition"][-1:]
    assert (form["start_date"], form["end_date"]) == ("2024-05-09", "2024-05-11")


@pytest.mark.parametrize(
    ("endpoint", "answer"),
    [
        ("get_dataset_range", b'{"start": "soon"}'),
        ("get_dataset_range", b"[]"),
        ("get_dataset_condition", b'{"a": 1}'),
        ("get_dataset_condition", b'[{"date": "soon", "condition": "fine"}]'),
        ("get_dataset_condition", b"[3]"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(
    vendor: Any, hogs: Market, endpoint: str, answer: bytes
) -> None:
    vendor.faults[endpoint] = [(200, answer, {})]
    with pytest.raises(VendorError, match=r"GLBX\.MDP3 makes no sense"):
        planned(vendor, hogs)


def test_requests_are_cut_by_month() -> None:
    request = replace(REQUEST, start=datetime(2023, 11, 30, tzinfo=UTC), end=START)
    months = list(request.months())
    assert months[0].start == request.start
    assert months[-1].end == request.end
    assert [m.start for m in months[1:]] == [m.end for m in months[:-1]]
    assert [(m.start.year, m.start.month) for m in months] == [
        *((2023, month) for month in (11, 12)),
        *((2024, month) for month in range(1, 6)),
    ]
    assert len({m.file_name() for m in months}) == len(months)
    other = replace(REQUEST, symbols=("HE.OPT",))
    assert other.file_name() != REQUEST.file_name()


# --- prices -------------------------------------------------------------------------------------


def test_a_symbol_that_resolves_to_nothing_is_said_and_left_out(vendor: Any) -> None:
    vendor.unknown = {"LN1.OPT", "LN9.OPT"}
    request = replace(REQUEST, schema="statistics", symbols=("HE.FUT", "LN1.OPT"))
    # Beside a symbol that resolves the vendor takes it.
    assert databento.price(vendor.asker(), request) == (request, 0.25, ())
    none = replace(request, symbols=("LN1.OPT", "LN9.OPT"))
    assert databento.price(vendor.asker(), none) == (
        replace(none, symbols=()),
        0.0,
        ("LN1.OPT", "LN9.OPT"),
    )


def test_a_symbol_that_spoils_a_request_is_left_out(vendor: Any) -> None:
    detail = {"detail": {"case": "symbology_invalid_symbol", "message": "LN1.OPT?", "docs": ""}}
    request = replace(REQUEST, schema="statistics", symbols=("HE.FUT", "LN1.OPT"))
    vendor.unknown = {"LN1.OPT"}
    vendor.faults["get_cost"] = [(422, json.dumps(detail).encode(), {})]
    priced = databento.price(vendor.asker(), request)
    assert priced == (replace(request, symbols=("HE.FUT",)), 0.25, ("LN1.OPT",))


@pytest.mark.parametrize("answer", [b'"cheap"', b"null", b"-1", b"NaN"])
def test_a_cost_that_is_no_number_is_refused(vendor: Any, answer: bytes) -> None:
    vendor.faults["get_cost"] = [(200, answer, {})]
    with pytest.raises(VendorError, match="no number"):
        databento.price(vendor.asker(), REQUEST)


# --- downloads ----------------------------------------------------------------------------------


Fetch = Callable[..., Fetched]


@pytest.fixture
def fetch(vendor: Any, tmp_path: Path) -> Fetch:
    def run(request: Request = REQUEST, said: list[str] | None = None) -> Fetched:
        tell = ([] if said is None else said).append
        return databento.fetch(vendor.asker(said), request, tmp_path / "got", tell)

    return run


def left_behind(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "got").rglob("*"))


def test_a_whole_file_gets_its_name(vendor: Any, fetch: Fetch, tmp_path: Path) -> None:
    fetched = fetch()
    assert fetched.path == tmp_path / "got" / REQUEST.file_name()
    assert fetched[1:] == (50, fetched.path.stat().st_size, 0.25)
    assert dbn.count(fetched.path) == 50
    assert left_behind(tmp_path) == [REQUEST.file_name()]
    (form,) = (form for name, form in vendor.asked if name == "get_range")
    assert form["stype_in"] == "parent"
    assert form["compression"] == "zstd"
    assert (form["start"][:16], form["end"][:16]) == ("2024-05-09T00:00", "2024-05-11T00:00")


def test_a_request_without_records_gives_no_file(vendor: Any, fetch: Fetch) -> None:
    vendor.records["ohlcv-1m"] = 0
    assert fetch() == (None, 0, 0, 0.0)
    vendor.unknown = {"HE.FUT"}
    assert fetch() == (None, 0, 0, 0.0)
    assert vendor.count("get_range") == 0


def test_a_whole_file_that_is_there_is_not_paid_for_again(
    vendor: Any, fetch: Fetch, tmp_path: Path
) -> None:
    first = fetch()
    assert fetch() == first
    assert vendor.count("get_range") == 1
    assert first.path is not None
    first.path.write_bytes(first.path.read_bytes()[:-40])  # whole it is no longer
    assert fetch() == first
    assert vendor.count("get_range") == 2
    first.path.with_name(first.path.name + ".part").write_bytes(b"left by a run that was killed")
    first.path.unlink()
    assert fetch() == first
    assert left_behind(tmp_path) == [REQUEST.file_name()]


def detail(text: str) -> bytes:
    return json.dumps({"detail": text}).encode()


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "DATABENTO_API_KEY or the keyring"),
        (402, "billing"),
        (403, "subscribed"),
        (422, "parents and the dates"),
    ],
)
@pytest.mark.parametrize("endpoint", ["get_record_count", "get_cost", "get_range"])
def test_a_refusal_stops_at_once(
    vendor: Any, fetch: Fetch, tmp_path: Path, endpoint: str, status: int, advice: str
) -> None:
    basic = base64.b64encode(f"{KEY}:".encode()).decode()
    vendor.faults[endpoint] = [(status, detail(f"no good:\n the key {KEY}, {basic}"), {})]
    with pytest.raises(VendorError, match=advice) as error:
        fetch()
    assert "\n" not in str(error.value)
    assert KEY not in str(error.value)
    assert basic not in str(error.value)
    assert vendor.count(endpoint) == 1
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    "fault",
    [
        (429, b"slow down", {"Retry-After": "0"}),
        (500, b"", {}),
        (503, detail("busy"), {}),
        (408, b"", {}),
        (200, b"", {}),
        (200, b'{"status": "fine"}', {}),
        "hang up",
        "close",
        "break",
    ],
)
def test_what_may_pass_is_tried_again(vendor: Any, fetch: Fetch, fault: Any) -> None:
    vendor.faults["get_range"] = [fault, fault]
    assert fetch().records == 50
    assert vendor.count("get_range") == 3


@pytest.mark.parametrize("fault", [(503, detail("busy"), {}), "hang up", "close", "break"])
def test_what_does_not_pass_is_said_in_one_line(
    vendor: Any, fetch: Fetch, tmp_path: Path, fault: Any
) -> None:
    vendor.faults["get_range"] = [fault] * 5
    with pytest.raises(VendorError, match=r"ohlcv-1m of HE\.FUT.*on each of 5 attempts") as error:
        fetch()
    assert "\n" not in str(error.value)
    assert left_behind(tmp_path) == []


def form(schema: str = "ohlcv-1m") -> dict[str, str]:
    span = {"start": "2024-05-09T00:00:00", "end": "2024-05-11T00:00:00"}
    return {
        "dataset": "GLBX.MDP3",
        "schema": schema,
        "symbols": "HE.FUT",
        "stype_in": "parent",
        **span,
    }


def test_a_body_cut_on_a_record_boundary_never_counts(
    vendor: Any, fetch: Fetch, tmp_path: Path
) -> None:
    vendor.faults["get_range"] = [(200, vendor.file(form(), 49), {})] * 5
    with pytest.raises(VendorError, match="got 49 of 50 records"):
        fetch()
    assert left_behind(tmp_path) == []


def test_another_schema_than_asked_never_counts(vendor: Any, fetch: Fetch) -> None:
    vendor.faults["get_range"] = [(200, vendor.file(form("ohlcv-1d"), 50), {})] * 5
    with pytest.raises(VendorError, match="got ohlcv-1d instead"):
        fetch()


@pytest.mark.parametrize(
    ("retry_after", "date_sent", "least"),
    [
        ("7", None, 7),
        ("Thu, 09 May 2024 10:00:09 GMT", "Thu, 09 May 2024 10:00:00 GMT", 9),
        ("Thu, 09 May 2024 09:00:00 GMT", "Thu, 09 May 2024 10:00:00 GMT", 0),
        ("soon", None, 0),
        ("86400", None, 300),
    ],
)
def test_the_vendor_sets_the_pace(
    vendor: Any,
    fetch: Fetch,
    monkeypatch: pytest.MonkeyPatch,
    retry_after: str,
    date_sent: str | None,
    least: float,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    monkeypatch.setattr(asking, "parsedate_to_datetime", _dated(date_sent))
    vendor.faults["get_cost"] = [(429, b"", {"Retry-After": retry_after}), (503, b"", {})]
    fetch()
    assert least <= waits[0] < least + 1
    assert waits[1] < 1


def _dated(date_sent: str | None) -> Callable[[str], datetime]:
    """Reads dates as they are, but for the moment at which the server answered."""
    real, calls = asking.parsedate_to_datetime, iter([date_sent])
    return lambda text: real(next(calls, None) or text)


def test_calls_keep_to_the_vendors_limit(vendor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_LIMITS", {"metadata": (2, 60.0)})
    waits: list[float] = []
    monkeypatch.setattr(asking.time, "sleep", waits.append)
    ask = vendor.asker()
    for _ in range(3):
        databento.price(ask, REQUEST)
    assert len(waits) == 1
    assert 59 < waits[0] <= 60


def test_the_vendors_warnings_are_passed_on_once(vendor: Any, fetch: Fetch) -> None:
    note = json.dumps(["Warning: reduced quality: 2024-05-09 (degraded)"])
    vendor.faults["get_cost"] = [(200, b"0.25", {"X-Warning": note})]
    vendor.faults["get_range"] = [(200, vendor.file(form()), {"X-Warning": note})]
    said: list[str] = []
    assert fetch(said=said).records == 50
    (line,) = said
    assert "reduced quality: 2024-05-09 (degraded)" in line


def test_a_warning_of_lost_data_is_an_error(vendor: Any, fetch: Fetch, tmp_path: Path) -> None:
    note = json.dumps(["Warning: the response was truncated"])
    vendor.faults["get_range"] = [(200, vendor.file(form()), {"X-Warning": note})] * 5
    with pytest.raises(VendorError, match="the response was truncated, on each of 5 attempts"):
        fetch()
    assert left_behind(tmp_path) == []


def test_a_full_disk_is_not_paid_for_five_times(
    vendor: Any, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, _: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("databento.common.http.open", lambda *_: Full(), raising=False)
    with pytest.raises(LakeError, match="No space left on device"):
        fetch()
    assert vendor.count("get_range") == 1


# --- batch jobs ---------------------------------------------------------------------------------


@pytest.fixture
def large(vendor: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The vendor, of whom more than 5 GB is asked."""
    monkeypatch.setattr(download, "_POLL_SECONDS", 0.001)
    vendor.size = 5_000_000_001
    return vendor


def test_a_large_request_goes_through_a_batch_job(large: Any, fetch: Fetch, tmp_path: Path) -> None:
    said: list[str] = []
    fetched = fetch(said=said)
    assert fetched.path == tmp_path / "got" / REQUEST.file_name()
    assert (fetched.records, fetched.usd) == (50, 0.75)
    assert dbn.count(fetched.path) == 50
    assert left_behind(tmp_path) == [REQUEST.file_name()]
    assert large.count("submit_job") == 1
    assert large.count("get_range") == 0
    assert any("batch job GLBX-0 is queued" in line for line in said)


def test_a_job_that_was_submitted_is_found_again(large: Any, fetch: Fetch, tmp_path: Path) -> None:
    """Whatever the run that submitted it came to."""
    fetch()
    (tmp_path / "got" / REQUEST.file_name()).unlink()
    assert fetch().usd == 0.75
    assert large.count("submit_job") == 1
    fetch(replace(REQUEST, end=END - timedelta(days=1)))
    fetch(replace(REQUEST, symbols=("HE.FUT", "HE.OPT")))
    assert large.count("submit_job") == 3


def test_a_job_whose_submission_went_unheard_is_not_submitted_again(
    large: Any, fetch: Fetch
) -> None:
    good = large.good

    def unheard(name: str, form: dict[str, str]) -> Any:
        answer = good(name, form)
        return (504, b"", {}) if name == "submit_job" else answer

    large.good = unheard
    assert fetch().records == 50
    assert large.count("submit_job") == 1


def test_a_part_of_a_job_is_gone_on_with(large: Any, fetch: Fetch, tmp_path: Path) -> None:
    large.faults["file"] = ["close"]
    assert fetch().records == 50
    ranges = [form["range"] for name, form in large.asked if name == "file"]
    assert ranges[0] == ""
    assert ranges[1].startswith("bytes=")


def test_a_job_of_other_bytes_than_its_hash_never_counts(
    large: Any, fetch: Fetch, tmp_path: Path
) -> None:
    body = large.file(form())
    wrong = bytes([*body[:-1], body[-1] ^ 1])
    large.faults["file"] = [(200, wrong, {})] * 5
    with pytest.raises(VendorError, match="on each of 5 attempts"):
        fetch()
    assert left_behind(tmp_path) == []
    assert fetch().records == 50
    assert large.count("submit_job") == 1


def test_a_silent_connection_is_given_up_on(
    large: Any, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_TIMEOUTS", (0.2, 0.2))
    good = large.good
    silent = threading.Event()

    def waits(name: str, form: dict[str, str]) -> Any:
        if name == "file" and not silent.is_set():
            silent.set()
            time.sleep(1)
        return good(name, form)

    large.good = waits
    assert fetch().records == 50
    assert large.count("file") == 2


@pytest.mark.parametrize(
    ("endpoint", "answer"),
    [
        ("list_jobs", b'{"jobs": 3}'),
        ("list_jobs", b"[3]"),
        ("submit_job", b"{}"),
        ("get_job_details", b"null"),
        ("list_files", b'[{"name": "x"}]'),
    ],
)
def test_a_job_that_makes_no_sense_is_one_line(
    large: Any, fetch: Fetch, endpoint: str, answer: bytes
) -> None:
    large.faults[endpoint] = [(200, answer, {})]
    with pytest.raises(VendorError, match="batch job") as error:
        fetch()
    assert "\n" not in str(error.value)


def test_an_expired_job_is_said(large: Any, fetch: Fetch) -> None:
    good = large.good

    def expired(name: str, form: dict[str, str]) -> Any:
        if name == "get_job_details":
            large.jobs["GLBX-0"]["state"] = "expired"
        return good(name, form)

    large.good = expired
    with pytest.raises(VendorError, match="GLBX-0: expired; run again"):
        fetch()


# --- roots that the parents miss ----------------------------------------------------------------


def test_roots_are_found_by_the_future_that_their_options_name(
    dbn_bytes: Callable[..., bytes], hogs: Market, tmp_path: Path
) -> None:
    def option(contract: str, asset: str, underlying: str, **values: Any) -> dict[str, Any]:
        return {
            "raw_symbol": contract,
            "asset": asset,
            "underlying": underlying,
            "instrument_class": b"C",
            "user_defined_instrument": b"N",
            "strike_price": 90 * 10**9,
            "ts_recv": 1_715_277_600_000_000_000,
            **values,
        }

    rows = [
        option("HEM4 C90", "HE", "HEM4"),
        option("LN1K4 C90", "LN1", "HEM4"),
        option("LN1K4 C91", "LN1", "HEM4"),
        option("LN1K4 C91", "LN1", "HEM4"),  # again, an update
        option("LEM4 C90", "LE", "LEM4"),
        option("UD:1V", "LN2", "HEM4", user_defined_instrument=b"Y"),
    ]
    path = tmp_path / "definitions.dbn.zst"
    path.write_bytes(dbn_bytes("definition", rows))
    assert databento.missing_roots(path, hogs) == [("LN1.OPT", 2)]
    weekly = replace(hogs, option_parents=("HE.OPT", "LN1.OPT"))
    assert databento.missing_roots(path, weekly) == []
