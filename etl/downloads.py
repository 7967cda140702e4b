"""Downloads that are paid for: what the lake lacks at Databento, its price, then file by file.

A plan is priced as a whole before anything is downloaded.  Then it is downloaded and landed step
by step, and each file that landed is recorded in the lake's reach, so that a run which is killed
pays nothing twice: what landed is not planned again, and a file that came whole and did not
land is taken from the downloads folder.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import ClassVar

import polars as pl

from etl import reach, spans
from etl.errors import BadInput, CostLimit
from etl.jobs import Report, known_instruments
from etl.lake import Lake
from etl.landing import Landed, land
from etl.market import Market
from etl.sources import databento, dbn
from etl.spans import Span

__all__ = ["Plan", "Step", "find_roots", "land_plan", "plan", "summary"]


@dataclass(frozen=True)
class Plan:
    """What is to be asked for, each with its price, and what cannot be."""

    priced: tuple[databento.Priced, ...]
    offers: Mapping[str, databento.Offer]  # by dataset
    notes: tuple[str, ...]  # what a person should know, a line each

    HEADER: ClassVar = ("market", "schema", "symbols", "from", "until", "USD")

    @property
    def usd(self) -> float:
        return sum(part.usd for part in self.priced)

    def rows(self) -> list[tuple[str | Decimal, ...]]:
        """A row under ``HEADER`` for each request, and their sum."""
        rows: list[tuple[str | Decimal, ...]] = [
            (
                part.request.market,
                part.request.schema,
                " ".join(part.request.symbols),
                f"{part.request.start:%Y-%m-%d %H:%M}",
                f"{part.request.end:%Y-%m-%d %H:%M}",
                Decimal(f"{part.usd:.4f}"),
            )
            for part in self.priced
        ]
        return [*rows, ("all", "", "", "", "", Decimal(f"{self.usd:.4f}"))]

    def check_cost(self, limit: float) -> None:
        """Stop a plan that costs more than ``limit`` USD.

        Raises
        ------
        CostLimit
            It does.
        """
        if round(self.usd, 6) > limit:  # a sum of prices is not exact
            raise CostLimit(
                f"the plan costs USD {self.usd:.2f}, above the limit of USD {limit:.2f}; nothing "
                "was downloaded; ask for less or raise the limit with --max-cost"
            )

    def steps(self, by_month: bool) -> list[list[databento.Request]]:
        """The requests that land together: each month of a market, or all of them."""
        cut = [request for part in self.priced for request in part.request.months()]
        cut.sort(key=_month)
        if not by_month:
            return [cut] if cut else []
        return [list(requests) for _, requests in groupby(cut, key=_month)]


@dataclass
class Step:
    """What the requests that landed together brought."""

    label: str  # "HE 2024-05"
    months: int  # of each market
    rows: int = 0
    bytes: int = 0
    usd: float = 0.0
    notes: list[str] = field(default_factory=list)

    def add(self, landed: Landed, fetched: databento.Fetched) -> None:
        """Count in what one file brought."""
        self.rows += sum(landed.rows.values())
        self.bytes += fetched.bytes
        self.usd += fetched.usd
        self.notes += landed.notes

    def line(self) -> str:
        """One line for a person."""
        text = f"{self.label}: {self.rows:,} rows, {self.bytes / 1e6:,.1f} MB, USD {self.usd:.2f}"
        return "; ".join([text, *dict.fromkeys(self.notes)])


def plan(
    lake: Lake,
    wanted: Mapping[str, Span],
    markets: Sequence[Market],
    ask: databento.Asker,
    quotes: str,
) -> Plan:
    """What the lake lacks of the markets' spans and Databento has, with its price.

    Parameters
    ----------
    wanted : market code -> span
    quotes : one of ``databento.QUOTES``

    Raises
    ------
    LakeError
        The lake holds sample data.
    VendorError
        Databento refused or failed.
    """
    lake.refuse_other("vendor")
    sold = [market for market in markets if market.databento_dataset]
    notes = [
        f"{market.code} is not at Databento; land a chain file of it instead"
        for market in markets
        if market not in sold
    ]
    offers: dict[str, databento.Offer] = {}
    priced: list[databento.Priced] = []
    for market in sold:
        dataset, span = str(market.databento_dataset), wanted[market.code]
        if dataset not in offers:
            starts, ends = zip(
                *(wanted[m.code] for m in sold if m.databento_dataset == dataset), strict=True
            )
            offers[dataset] = databento.offer(ask, dataset, (min(starts), max(ends)))
        missing = partial(_missing, lake, market, span)
        unresolved: dict[str, None] = {}
        for request in databento.requests(market, quotes, missing, offers[dataset]):
            part = databento.price(ask, request)
            unresolved |= dict.fromkeys(part.unresolved)
            if part.request.symbols:
                priced.append(part)
        if unresolved:
            names = ", ".join(unresolved)
            notes.append(f"{market.code}: {len(unresolved)} of its parents mean nothing: {names}")
    for offered in offers.values():
        notes += _warnings(offered, [part.request for part in priced])
    return Plan(tuple(priced), offers, tuple(notes))


def land_plan(
    lake: Lake,
    plan: Plan,
    markets: Mapping[str, Market],
    ask: databento.Asker,
    now: datetime,
    report: Report,
    *,
    by_month: bool,
    keep: Path | None = None,
) -> Iterator[Step]:
    """Download and land a plan; the caller holds the write lock.

    Of what lands together nothing lands before all of it has come whole.

    Parameters
    ----------
    markets : those that a definition may belong to, by code
    by_month : whether each month of a market is a step of its own, or everything is one
    keep : where the files stay after they have landed; they are deleted without it

    Raises
    ------
    VendorError
        Databento refused, failed, or sent less than it announced: steps before that stay, and
        so do the files that came whole, in the downloads folder.
    """
    folder = keep or lake.root / "downloads"
    # A run that was killed may have landed a file and not recorded so: it is not paid for again.
    paid = {r["payload_sha256"] for r in lake.each_batch() if r.get("cost_usd")}
    for requests in plan.steps(by_month):
        step = Step(_label(requests), len({_month(request) for request in requests}))
        files: list[tuple[databento.Request, databento.Fetched]] = []
        for request in requests:
            report(f"{request.market} {request.start:%Y-%m}: {request}")
            files.append((request, databento.fetch(ask, request, folder, report)))
        _record_days(lake, requests, plan.offers, now)
        files.sort(key=lambda file: file[0].schema != "definition")
        instruments: pl.DataFrame | None = None
        for request, fetched in files:
            if instruments is None and request.schema != "definition":
                instruments = known_instruments(lake)
            if fetched.path is not None:
                payload = dbn.read(fetched.path, markets, instruments)
                payload.cost_usd = None if payload.sha256 in paid else fetched.usd
                landed = land(lake, payload, now, "vendor")
                step.add(landed, fetched)
                report(landed.line())
            span = (request.start, request.end)
            reach.extend(lake, "databento", request.market, span, request.series())
            if fetched.path is not None and keep is None:
                fetched.path.unlink()
        yield step
    if keep is None:
        shutil.rmtree(folder, ignore_errors=True)


def summary(steps: Sequence[Step]) -> str:
    """One line on everything that was downloaded."""
    rows, size = sum(step.rows for step in steps), sum(step.bytes for step in steps)
    usd = sum(step.usd for step in steps)
    return f"downloaded {len(steps)} months: {rows:,} new rows, {size / 1e6:,.1f} MB, USD {usd:.2f}"


def find_roots(
    market: Market, midnight: datetime, ask: databento.Asker, limit: float
) -> tuple[list[databento.Root], float]:
    """Roots of options on a market's future that its parents miss, and what the look cost.

    Raises
    ------
    BadInput
        The market is not at Databento.
    CostLimit
        One day's definitions of everything cost more than ``limit`` USD.
    """
    if market.databento_dataset is None:
        raise BadInput(f"{market.code} is not at Databento")
    request = databento.day_of_definitions(market, midnight)
    Plan((databento.price(ask, request),), {}, ()).check_cost(limit)
    with tempfile.TemporaryDirectory(prefix="hydra-roots-") as folder:
        fetched = databento.fetch(ask, request, Path(folder), lambda line: None)
        if fetched.path is None:
            raise BadInput(f"Databento has no definitions of {midnight:%F}; ask for another day")
        return databento.missing_roots(fetched.path, market), fetched.usd


def _missing(lake: Lake, market: Market, span: Span, series: str) -> list[Span]:
    return spans.lacking(span, reach.held(lake, "databento", market.code, series))


def _warnings(offered: databento.Offer, requests: Sequence[databento.Request]) -> Iterator[str]:
    """What a person should know of the days of a dataset."""
    asked = {
        day: condition
        for request in requests
        if request.dataset == offered.dataset
        for day, condition in offered.days((request.start, request.end)).items()
    }
    for state, among, said in (
        ("degraded", asked, "landed and flagged"),
        ("pending", offered.conditions, "not asked for, the next run asks again"),
    ):
        days = sorted(day for day, condition in among.items() if condition.state == state)
        if days:
            shown = ", ".join(map(str, days[:5])) + (", …" if len(days) > 5 else "")
            yield f"{offered.dataset}: {len(days)} {state} ({shown}): {said}"


def _month(request: databento.Request) -> tuple[str, int, int]:
    return request.market, request.start.year, request.start.month


def _label(requests: Sequence[databento.Request]) -> str:
    """Markets and months, "HE, ZO 2024-04 to 2024-05"."""
    markets = dict.fromkeys(request.market for request in requests)
    first, last = (f"{pick(r.start for r in requests):%Y-%m}" for pick in (min, max))
    return f"{', '.join(markets)} {first if first == last else f'{first} to {last}'}"


def _record_days(
    lake: Lake,
    requests: Sequence[databento.Request],
    offers: Mapping[str, databento.Offer],
    now: datetime,
) -> None:
    """Keep what the vendor says of the requests' days, before anything of them lands."""
    for dataset, offered in offers.items():
        said = {
            day: reach.Day(*condition, now)
            for request in requests
            if request.dataset == dataset
            for day, condition in offered.days((request.start, request.end)).items()
        }
        if said:
            reach.record_days(lake, dataset, said)
