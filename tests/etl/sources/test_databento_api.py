"""Downloads through the real client, from a server on loopback that misbehaves on demand."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from databento import Historical

from etl.errors import BadInput, CostLimit, VendorError
from etl.market import Market, markets
from etl.sources import databento_api, dbn

KEY = "db-SeCrEt-0123456789abcdefghijkl"
NS = 1_715_277_600_000_000_000  # 2024-05-09 18:00 UTC
START, END = date(2024, 5, 9), date(2024, 5, 11)

DbnBytes = Callable[..., bytes]
Answer = tuple[int, bytes, dict[str, str]]


class Vendor:
    """Databento's Historical API, as far as the client is used; ``faults`` come first."""

    def __init__(self, dbn_bytes: DbnBytes) -> None:
        self.records = {
            "definition": 3,
            "ohlcv-1d": 2,
            "ohlcv-1m": 50,
            "statistics": 7,
            "bbo-1m": 40,
            "mbp-1": 400,
        }
        self.cost = 0.25
        self.range: dict[str, Any] = {
            "start": "2010-06-06T00:00:00.000000000Z",
            "end": "2024-05-10T12:00:00Z",
        }
        self.faults: dict[str, list[Answer | str]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.authorized: set[str] = set()
        self._dbn_bytes = dbn_bytes
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer({k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.answer({k: v[0] for k, v in parse_qs(body).items()})

            def answer(self, form: dict[str, str]) -> None:
                name = urlsplit(self.path).path.rsplit(".", 1)[-1]
                vendor.asked.append((name, form))
                vendor.authorized.add(self.headers["Authorization"])
                queue = vendor.faults.get(name)
                fault = queue.pop(0) if queue else None
                if fault == "hang up":
                    self.close_connection = True
                    return
                status, body, headers = (
                    fault if isinstance(fault, tuple) else vendor.good(name, form)
                )
                cut = fault if isinstance(fault, str) else ""
                self.send_response(status)
                for header, value in headers.items():
                    self.send_header(header, value)
                if cut == "break":  # announces more than it sends
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def good(self, name: str, form: dict[str, str]) -> Answer:
        if name == "get_dataset_range":
            return 200, json.dumps(self.range).encode(), {}
        if name == "get_cost":
            return 200, json.dumps(self.cost).encode(), {}
        if name == "get_record_count":
            return 200, json.dumps(self.records[form["schema"]]).encode(), {}
        assert name == "get_range"
        return 200, self.file(form["schema"], self.records[form["schema"]]), {}

    def file(self, schema: str, count: int) -> bytes:
        rows = [{"instrument_id": 7, "ts_event": NS + n * 7919} for n in range(count)]
        return self._dbn_bytes(schema, rows, symbols={"HEM4": 7}, stype_in="parent")

    def client(self) -> Historical:
        client = Historical(KEY)
        gateway = f"http://127.0.0.1:{self.server.server_port}"
        for api in (client.metadata, client.timeseries, client.batch, client.symbology):
            api._base_url = api._base_url.replace(api._gateway, gateway)
            api._gateway = gateway
        return client

    def count(self, name: str) -> int:
        return sum(asked == name for asked, _ in self.asked)


@pytest.fixture
def vendor(dbn_bytes: DbnBytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    monkeypatch.setattr(databento_api, "_FIRST_WAIT", 0.001)
    emulator = Vendor(dbn_bytes)
    thread = threading.Thread(target=emulator.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield emulator
    emulator.server.shutdown()
    emulator.server.server_close()


@pytest.fixture(scope="module")
def hogs() -> Market:
    return markets()["HE"]


Fetch = Callable[..., list[Path]]


@pytest.fixture
def fetch(vendor: Vendor, hogs: Market, tmp_path: Path) -> Fetch:
    def run(**options: Any) -> list[Path]:
        return databento_api.fetch(
            hogs, START, END, tmp_path / "got", KEY, client=vendor.client(), **options
        ).files

    return run


def left_behind(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "got").rglob("*"))


def test_it_says_up_to_when_the_vendor_has_everything(
    vendor: Vendor, hogs: Market, tmp_path: Path
) -> None:
    """A schema that lags behind decides, or the next run would leave a gap in it."""
    at = vendor.client()
    fetched = databento_api.fetch(hogs, START, END, tmp_path, KEY, client=at)
    assert fetched.until == datetime(2024, 5, 10, 12, tzinfo=UTC)
    vendor.range["schema"] = {
        "statistics": {"start": "2010-06-06T00:00:00Z", "end": "2024-05-10T06:00:00Z"}
    }
    fetched = databento_api.fetch(hogs, START, END, tmp_path, KEY, client=at)
    assert fetched.until == datetime(2024, 5, 10, 6, tzinfo=UTC)
    late = datetime(2024, 5, 10, 13, tzinfo=UTC)
    assert databento_api.fetch(hogs, late, END, tmp_path, KEY, client=at) == ([], late)


def test_all_that_a_market_needs_is_fetched(
    vendor: Vendor, fetch: Fetch, hogs: Market, tmp_path: Path
) -> None:
    lines: list[str] = []
    paths = fetch(on_event=lines.append)
    assert [dbn.peek(path).schema for path in paths] == [
        "definition",
        "ohlcv-1d",
        "ohlcv-1m",
        "statistics",
        "bbo-1m",
    ]
    for path in paths:
        assert dbn.count(path) == vendor.records[dbn.peek(path).schema]
    assert left_behind(tmp_path) == sorted(path.name for path in paths)

    forms = {form["schema"]: form for name, form in vendor.asked if name == "get_range"}
    both = ",".join((*hogs.futures_parents, *hogs.option_parents))
    futures = ",".join(hogs.futures_parents)
    assert {schema: form["symbols"] for schema, form in forms.items()} == {
        "definition": both,
        "ohlcv-1d": futures,
        "ohlcv-1m": futures,
        "statistics": both,
        "bbo-1m": both,
    }
    for form in forms.values():
        assert (form["dataset"], form["stype_in"]) == ("GLBX.MDP3", "parent")
        assert form["start"].startswith("2024-05-09T00:00")
    # As far as the vendor has got.
    assert forms["bbo-1m"]["end"].startswith("2024-05-10T12:00")
    assert lines[0] == "HE: 5 requests, USD 1.25"
    assert vendor.authorized == {"Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}


def test_other_quotes_can_be_asked_for(fetch: Fetch, vendor: Vendor) -> None:
    assert dbn.count(fetch(quote_schema="mbp-1")[-1]) == vendor.records["mbp-1"]
    with pytest.raises(BadInput, match="bbo-1m, bbo-1s, mbp-1"):
        fetch(quote_schema="mbo")


def test_above_the_cost_limit_nothing_is_downloaded(
    vendor: Vendor, fetch: Fetch, tmp_path: Path
) -> None:
    with pytest.raises(CostLimit, match=r"USD 1\.25.*limit of USD 1\.00.*nothing was downloaded"):
        fetch(max_cost=1.0)
    assert vendor.count("get_range") == 0
    assert not (tmp_path / "got").exists()
    assert len(fetch(max_cost=1.25)) == 5  # the limit itself is allowed


def test_what_the_vendor_has_not_got_yet_is_nothing(vendor: Vendor, fetch: Fetch) -> None:
    vendor.range["end"] = "2024-05-09T00:00:00Z"
    lines: list[str] = []
    assert fetch(on_event=lines.append) == []
    assert "nothing yet" in lines[0]
    assert [name for name, _ in vendor.asked] == ["get_dataset_range"]


def test_a_schema_without_records_gives_no_file(vendor: Vendor, fetch: Fetch) -> None:
    vendor.records["statistics"] = 0
    assert [dbn.peek(path).schema for path in fetch()] == [
        "definition",
        "ohlcv-1d",
        "ohlcv-1m",
        "bbo-1m",
    ]


def test_a_file_that_is_there_is_replaced(fetch: Fetch) -> None:
    first = fetch()
    first[0].write_bytes(b"old")
    assert fetch() == first
    assert dbn.count(first[0]) == 3


def detail(text: str) -> bytes:
    return json.dumps({"detail": text}).encode()


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "check DATABENTO_API_KEY"),
        (402, "billing"),
        (403, "subscribed"),
        (422, "parents and the dates"),
    ],
)
@pytest.mark.parametrize("endpoint", ["get_dataset_range", "get_cost", "get_range"])
def test_a_refusal_stops_at_once(
    vendor: Vendor, fetch: Fetch, tmp_path: Path, endpoint: str, status: int, advice: str
) -> None:
    vendor.faults[endpoint] = [(status, detail(f"no good:\n the key {KEY}"), {})]
    with pytest.raises(VendorError, match=advice) as error:
        fetch()
    assert "\n" not in str(error.value)
    assert KEY not in str(error.value)
    assert vendor.count(endpoint) == 1
    assert not (tmp_path / "got").exists() or left_behind(tmp_path) == []


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
def test_what_may_pass_is_tried_again(vendor: Vendor, fetch: Fetch, fault: Answer | str) -> None:
    vendor.faults["get_range"] = [fault, fault]
    paths = fetch()
    assert len(paths) == 5
    assert vendor.count("get_range") == 7
    assert dbn.count(paths[0]) == 3


@pytest.mark.parametrize("fault", [(503, detail("busy"), {}), "hang up", "close", "break"])
def test_what_does_not_pass_is_said_in_one_line(
    vendor: Vendor, fetch: Fetch, tmp_path: Path, fault: Answer | str
) -> None:
    vendor.faults["get_range"] = [fault] * 5
    with pytest.raises(VendorError, match=r"definition of HE\.FUT.*on each of 5 attempts") as error:
        fetch()
    assert "\n" not in str(error.value)
    assert left_behind(tmp_path) == []


def test_a_body_cut_on_a_record_boundary_never_counts(
    vendor: Vendor, fetch: Fetch, tmp_path: Path
) -> None:
    vendor.faults["get_range"] = [(200, vendor.file("definition", 2), {})] * 5
    with pytest.raises(VendorError, match="got 2 of 3 records"):
        fetch()
    assert left_behind(tmp_path) == []


def test_another_schema_than_asked_never_counts(vendor: Vendor, fetch: Fetch) -> None:
    vendor.faults["get_range"] = [(200, vendor.file("ohlcv-1d", 3), {})] * 5
    with pytest.raises(VendorError, match="got ohlcv-1d instead"):
        fetch()


def test_the_vendor_sets_the_pace(
    vendor: Vendor, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    vendor.faults["get_cost"] = [(429, b"", {"Retry-After": "7"}), (503, b"", {})]
    fetch()
    assert waits[0] >= 7
    assert waits[1] < 1


@pytest.mark.parametrize("answer", [b'"cheap"', b"null", b"-1", b"NaN"])
def test_a_cost_that_is_no_number_is_refused(vendor: Vendor, fetch: Fetch, answer: bytes) -> None:
    vendor.faults["get_cost"] = [(200, answer, {})]
    with pytest.raises(VendorError, match="no number"):
        fetch()


def test_a_range_that_makes_no_sense_is_refused(vendor: Vendor, fetch: Fetch) -> None:
    vendor.faults["get_dataset_range"] = [(200, b'{"start": "soon"}', {})]
    with pytest.raises(VendorError, match=r"GLBX\.MDP3 makes no sense"):
        fetch()


def test_the_vendors_warnings_are_passed_on(vendor: Vendor, fetch: Fetch) -> None:
    note = "Warning: 2024-05-09 is degraded"
    body = vendor.file("definition", 3)
    vendor.faults["get_range"] = [(200, body, {"X-Warning": json.dumps([note])})]
    lines: list[str] = []
    fetch(on_event=lines.append)
    assert any("2024-05-09 is degraded" in line for line in lines)


def test_arguments_that_cannot_be_right(hogs: Market, vendor: Vendor, tmp_path: Path) -> None:
    with pytest.raises(VendorError, match="set DATABENTO_API_KEY"):
        databento_api.fetch(hogs, START, END, tmp_path, " ")
    spx = markets()["SPX"]
    with pytest.raises(BadInput, match="SPX is not at Databento"):
        databento_api.fetch(spx, START, END, tmp_path, KEY, client=vendor.client())
    naive = datetime(2024, 5, 9)  # noqa: DTZ001
    with pytest.raises(BadInput, match="no time zone"):
        databento_api.fetch(hogs, naive, END, tmp_path, KEY, client=vendor.client())
    assert vendor.asked == []


def spans(vendor: Vendor) -> dict[str, tuple[str, str]]:
    """Schema -> (start, end) as asked for, to the minute."""
    return {
        form["schema"]: (form["start"][:16], form["end"][:16])
        for name, form in vendor.asked
        if name == "get_range"
    }


def test_bars_are_asked_for_whole(vendor: Vendor, hogs: Market, tmp_path: Path) -> None:
    start = datetime(2024, 5, 9, 13, 0, 30, tzinfo=UTC)
    vendor.range["end"] = "2024-05-10T12:00:30Z"
    databento_api.fetch(hogs, start, END, tmp_path, KEY, client=vendor.client())
    as_asked = ("2024-05-09T13:00", "2024-05-10T12:00")
    assert spans(vendor) == {
        "definition": as_asked,
        # The bar under way at the start is found by its own start; the last one is not whole yet.
        "ohlcv-1d": ("2024-05-09T00:00", "2024-05-10T00:00"),
        "ohlcv-1m": ("2024-05-09T13:00", "2024-05-10T12:00"),
        "statistics": as_asked,
        "bbo-1m": as_asked,
    }
    forms = {form["schema"]: form for name, form in vendor.asked if name == "get_range"}
    assert ":30" in forms["statistics"]["start"]
    assert ":30" not in forms["ohlcv-1m"]["start"]


def test_no_daily_bar_is_asked_for_on_its_own_day(
    vendor: Vendor, hogs: Market, tmp_path: Path
) -> None:
    start = datetime(2024, 5, 10, 1, tzinfo=UTC)
    databento_api.fetch(hogs, start, END, tmp_path, KEY, client=vendor.client())
    assert set(spans(vendor)) == {"definition", "ohlcv-1m", "statistics", "bbo-1m"}


def test_each_schema_ends_where_the_vendor_has_got_to(vendor: Vendor, fetch: Fetch) -> None:
    vendor.range["schema"] = {
        "bbo-1m": {"start": "2024-05-09T06:00:00Z", "end": "2024-05-10T08:00:00Z"},
        "statistics": {"start": "2011-01-01", "end": "2024-05-09"},
    }
    fetch()
    assert spans(vendor)["bbo-1m"] == ("2024-05-09T06:00", "2024-05-10T08:00")
    assert spans(vendor)["definition"] == ("2024-05-09T00:00", "2024-05-10T12:00")
    assert "statistics" not in spans(vendor)
