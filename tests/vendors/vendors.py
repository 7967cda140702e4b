"""Both vendors behind one proxy, with the faults that were asked for."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from etl.market import Market
from tests.vendors import cftc, historical
from tests.vendors.archive import Archive
from tests.vendors.faults import Fault
from tests.vendors.wire import Answer, Proxy, Request

__all__ = ["KEY", "Asked", "Vendors"]

#: The key that the loopback Databento takes; in the form of a real one, and of no account.
KEY = "db-LoOpBaCk0sAmPlE1nOaCcOuNt2x3y"


@dataclass(frozen=True)
class Asked:
    """One request and how it was answered; a refused connection has no name and status 0."""

    host: str
    name: str
    form: Mapping[str, str]
    status: int
    fault: str | None = None


class Vendors:
    """Databento and the CFTC, serving the sample vendor's data of a span.

    Parameters
    ----------
    markets : sequence of Market
        What Databento has.
    start, end : aware datetime
        The midnights in UTC between which Databento has it; the CFTC has what was released by
        ``end``, from 2006 on.
    faults : sequence of Fault
        Of those that concern a request, the first that still strikes does.
    conditions : mapping of date to str
        Days that Databento does not call ``available``.
    limited : bool
        Whether Databento's limits on requests a second hold.
    archive : Archive, optional
        Made before, of the same markets and span.
    """

    def __init__(
        self,
        markets: Sequence[Market],
        start: datetime,
        end: datetime,
        *,
        faults: Sequence[Fault] = (),
        conditions: Mapping[date, str] | None = None,
        limited: bool = True,
        archive: Archive | None = None,
    ) -> None:
        self.requests: list[Asked] = []
        self.downloaded_bytes = 0
        self.faults = list(faults)
        self._struck: dict[int, int] = {}
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="vendors-")
        self._certificate = Path(self._folder.name) / "ca.pem"
        held = archive or Archive(markets, start, end)
        self._databento = historical.Historical(held, KEY, conditions or {}, limited)
        self._cftc = cftc.Folder(end)
        self._proxy = Proxy(
            historical.HOSTS + cftc.HOSTS, self._certificate, self._admit, self._answer
        )

    def __enter__(self) -> Self:
        self._proxy.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._proxy.stop()
        self._folder.cleanup()

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment to meet these vendors and no others."""
        return {
            "DATABENTO_API_KEY": KEY,
            "REQUESTS_CA_BUNDLE": str(self._certificate),
            **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), self.url),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), ""),
        }

    @property
    def url(self) -> str:
        """The proxy's address."""
        return self._proxy.url

    def count(self, name: str) -> int:
        """How often an endpoint or file was asked for."""
        return sum(asked.name == name for asked in self.requests)

    def _admit(self, host: str) -> bool:
        for place, fault in enumerate(self.faults):
            if fault.change is None and fault.at == host and self._strikes(place, fault):
                self.requests.append(Asked(host, "", {}, 0, fault.name))
                return False
        return True

    def _answer(self, request: Request) -> Answer:
        answer, struck = self._good(request), None
        for place, fault in enumerate(self.faults):
            if fault.change and fault.hits(request) and self._strikes(place, fault):
                answer, struck = fault.change(request, answer, self._good), fault.name
                break
        with self._lock:
            if answer.status < 300 and ("get_range" in request.name or "download" in request.path):
                self.downloaded_bytes += len(answer.body)
            self.requests.append(
                Asked(request.host, request.name, request.form, answer.status, struck)
            )
        return answer

    def _good(self, request: Request) -> Answer:
        vendor = self._cftc if request.host in cftc.HOSTS else self._databento
        return vendor.answer(request)

    def _strikes(self, place: int, fault: Fault) -> bool:
        """Count a strike; false once the fault has struck as often as it should."""
        with self._lock:
            self._struck[place] = self._struck.get(place, 0) + 1
            return fault.times is None or self._struck[place] <= fault.times
