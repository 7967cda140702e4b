"""Databento's Historical API on loopback, as far as the client is used, misbehaving on demand."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import databento_dbn
import numpy as np
import pytest
import zstandard
from databento import Historical

from etl.sources.databento import Asker
from etl.sources.databento import ask as asking

KEY = "db-SeCrEt-0123456789abcdefghijkl"

Answer = tuple[int, bytes, Mapping[str, str]]
Form = dict[str, str]

_STRUCTS = {
    "definition": (databento_dbn.InstrumentDefMsg, 19),
    "ohlcv-1d": (databento_dbn.OHLCVMsg, 35),
    "ohlcv-1m": (databento_dbn.OHLCVMsg, 33),
    "statistics": (databento_dbn.StatMsg, 24),
    "bbo-1m": (databento_dbn.BBOMsg, 196),
    "bbo-1s": (databento_dbn.BBOMsg, 195),
    "mbp-1": (databento_dbn.MBP1Msg, 1),
}


def _ns(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()) * 10**9


def dbn_file(schema: str, count: int, form: Form, not_found: list[str]) -> bytes:
    """``count`` records of ``HEM4``, a minute apart from the request's start on."""
    struct, rtype = _STRUCTS[schema]
    records = np.zeros(count, np.dtype(struct._dtypes))
    records["rtype"], records["length"] = rtype, records.dtype.itemsize // 4
    records["instrument_id"] = 7
    start = _ns(form["start"])
    minutes = start + np.arange(count, dtype=np.uint64) * np.uint64(60 * 10**9)
    for name in ("ts_event", "ts_recv"):
        if name in records.dtype.names:
            records[name] = minutes
    day = date.fromisoformat(form["start"][:10])
    life = SimpleNamespace(start_date=day, end_date=day + timedelta(days=40), symbol="7")
    metadata = databento_dbn.Metadata(
        dataset=form["dataset"],
        start=start,
        stype_in=databento_dbn.SType.from_str(form["stype_in"]),
        stype_out=databento_dbn.SType.INSTRUMENT_ID,
        schema=databento_dbn.Schema.from_str(schema),
        symbols=form["symbols"].split(","),
        partial=[],
        not_found=not_found,
        mappings=[SimpleNamespace(raw_symbol="HEM4", intervals=[life])],
        version=3,
    )
    return zstandard.compress(metadata.encode() + records.tobytes())


class Vendor:
    """The server; ``faults`` come first, then what is right."""

    def __init__(self) -> None:
        self.records = {
            "definition": 3,
            "ohlcv-1d": 2,
            "ohlcv-1m": 50,
            "statistics": 7,
            "bbo-1m": 40,
            "mbp-1": 400,
        }
        self.cost = 0.25  # of each request
        self.size = 1_000_000
        self.range: dict[str, Any] = {
            "start": "2010-06-06T00:00:00.000000000Z",
            "end": "2024-05-10T12:00:00Z",
        }
        self.conditions: dict[str, str] = {}
        self.unknown: set[str] = set()  # symbols that resolve to nothing
        self.jobs: dict[str, dict[str, Any]] = {}
        self.faults: dict[str, list[Answer | str]] = {}
        self.asked: list[tuple[str, Form]] = []
        self.authorized: set[str] = set()
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                self.answer({k: v[0] for k, v in query.items()})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.answer({k: v[0] for k, v in parse_qs(body).items()})

            def answer(self, form: Form) -> None:
                path = urlsplit(self.path).path
                name = "file" if path.startswith("/file/") else path.rsplit(".", 1)[-1]
                form = {**form, "range": self.headers["Range"] or "", "path": path}
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
                with contextlib.suppress(BrokenPipeError):  # a client that did not wait
                    self.wfile.write(body[: len(body) // 2] if cut else body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def good(self, name: str, form: Form) -> Answer:
        if name == "file":
            return self._batch_file(form)
        if "symbols" in form and not (set(form["symbols"].split(",")) - self.unknown):
            detail = {"case": "symbology_invalid_request", "message": "none resolved", "docs": ""}
            return 422, json.dumps({"detail": detail}).encode(), {}
        if name == "get_range":
            return 200, self.file(form), {}
        value: Any = {
            "get_dataset_range": lambda: self.range,
            "get_dataset_condition": lambda: [
                {"date": day, "condition": condition, "last_modified_date": "2024-05-20"}
                for day, condition in sorted(self.conditions.items())
                if form["start_date"] <= day <= form["end_date"]
            ],
            "get_cost": lambda: self.cost,
            "get_billable_size": lambda: self.size,
            "get_record_count": lambda: self.records[form["schema"]],
            "list_jobs": lambda: [
                {"id": number, "state": job["state"]} for number, job in self.jobs.items()
            ],
            "submit_job": lambda: self._submitted(form),
            "get_job_details": lambda: self._advanced(form["job_id"]),
            "list_files": lambda: self._files(form["job_id"]),
        }[name]()
        return 200, json.dumps(value).encode(), {}

    def file(self, form: Form, count: int | None = None) -> bytes:
        number = self.records[form["schema"]] if count is None else count
        missing = sorted(set(form["symbols"].split(",")) & self.unknown)
        return dbn_file(form["schema"], number, form, missing)

    def _submitted(self, form: Form) -> dict[str, Any]:
        number = f"GLBX-{len(self.jobs)}"
        named = {key: form[key] for key in ("dataset", "schema", "symbols", "stype_in")}
        packed = {key: form[key] for key in ("encoding", "compression", "split_duration")}
        moments = {key: datetime.fromisoformat(form[key]) for key in ("start", "end")}
        span = {key: f"{moment:%FT%T}.000000000Z" for key, moment in moments.items()}
        job = {"id": number, "state": "queued", "cost_usd": None, **named, **packed, **span}
        self.jobs[number] = {**job, "limit": None, "split_symbols": False}
        return self.jobs[number]

    def _advanced(self, number: str) -> dict[str, Any]:
        """A job gets on each time somebody looks."""
        job = self.jobs[number]
        states = ["queued", "processing", "done"]
        answer = dict(job)
        if job["state"] in states:
            job["state"] = states[min(states.index(job["state"]) + 1, 2)]
        if job["state"] == "done":
            job["cost_usd"] = 0.75
        return answer

    def _files(self, number: str) -> list[dict[str, Any]]:
        body = self.file(self.jobs[number])
        manifest = b"{}"
        return [
            {
                "filename": name,
                "size": len(content),
                "hash": f"sha256:{hashlib.sha256(content).hexdigest()}",
                "urls": {"https": f"{self.url}/file/{number}/{name}"},
            }
            for name, content in (("metadata.json", manifest), ("glbx.dbn.zst", body))
        ]

    def _batch_file(self, form: Form) -> Answer:
        body = self.file(self.jobs[form["path"].split("/")[2]])
        if form["range"]:
            start = int(form["range"].removeprefix("bytes=").split("-")[0])
            return 206, body[start:], {}
        return 200, body, {}

    def client(self) -> Historical:
        client = Historical(KEY)
        for api in (client.metadata, client.timeseries, client.batch, client.symbology):
            api._base_url = api._base_url.replace(api._gateway, self.url)
            api._gateway = self.url
        return client

    def asker(self, said: list[str] | None = None) -> Asker:
        return Asker(self.client(), KEY, ([] if said is None else said).append)

    def count(self, name: str) -> int:
        return sum(asked == name for asked, _ in self.asked)

    def spans(self) -> list[tuple[str, str, str, str]]:
        """Schema, symbols, start and end to the minute of what was downloaded."""
        return [
            (form["schema"], form["symbols"], form["start"][:16], form["end"][:16])
            for name, form in self.asked
            if name == "get_range"
        ]


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    """The vendor, to whom nobody is polite enough to wait."""
    monkeypatch.setattr(asking, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(asking, "_LIMITS", dict.fromkeys(asking._LIMITS, (1000, 1.0)))
    emulator = Vendor()
    thread = threading.Thread(target=emulator.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield emulator
    emulator.server.shutdown()
    emulator.server.server_close()
