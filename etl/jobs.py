"""The landing jobs: from files on disk, from the vendors, from the sample vendor.

Each takes the run's instant; none reads the clock.  The caller holds the lake's write lock.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import polars as pl

from etl import calendars
from etl.errors import BadInput, HydraError
from etl.lake import HIVE_SCHEMA, Lake
from etl.landing import Landed, land
from etl.market import Market
from etl.sources import cftc, databento_api, dbn, sample

#: Years of COT history that a first run lands: what a three-year percentile needs.
_COT_YEARS = 4

Report = Callable[[str], None]


def dbn_files(paths: Iterable[Path]) -> list[Path]:
    """The DBN files among ``paths`` and in the folders among them, definitions first.

    Quotes are told apart by the definitions of their instruments, so those land first.

    Raises
    ------
    BadInput
        A path does not exist, or a folder holds no DBN file.
    """
    found: list[Path] = []
    for path in paths:
        if os.path.isdir(path):
            inside = sorted(p for p in path.rglob("*") if p.name.endswith((".dbn", ".dbn.zst")))
            if not inside:
                raise BadInput(f"{path}: holds no .dbn or .dbn.zst file")
            found += inside
        elif os.path.exists(path):
            found.append(path)
        else:
            raise BadInput(f"{path}: no such file or folder")
    return sorted(found, key=lambda path: not _holds_definitions(path))


def _holds_definitions(path: Path) -> bool:
    try:
        return dbn.peek(path).schema == "definition"
    except BadInput:  # said when its turn comes
        return False


def land_dbn(
    lake: Lake,
    markets: Mapping[str, Market],
    paths: Iterable[Path],
    now: datetime,
    origin: str = "vendor",
) -> Iterator[Landed | HydraError]:
    """Land DBN files; a refused one is yielded as its error and the others still land."""
    source = "sample" if origin == "sample" else "databento"
    instruments: pl.DataFrame | None = None
    for path in dbn_files(paths):
        try:
            is_definition = dbn.peek(path).schema == "definition"
            if instruments is None and not is_definition:
                instruments = known_instruments(lake)
            payload = dbn.read(path, markets, instruments, source)
            yield land(lake, payload, now, origin)
        except BadInput as error:
            yield error


def known_instruments(lake: Lake) -> pl.DataFrame:
    """The instruments that the lake has definitions of, each with the life that they state."""
    columns = ["market", "kind", "instrument_id", "contract", "activation", "expiration"]
    frames = []
    for kind, dataset in (("future", "futures_definition"), ("option", "option_definition")):
        if paths := lake.raw_files(dataset):
            scan = pl.scan_parquet(
                paths, glob=False, hive_partitioning=True, hive_schema=HIVE_SCHEMA
            )
            frames.append(scan.with_columns(pl.lit(kind).alias("kind")).select(columns).unique())
    if not frames:
        schema: dict[str, pl.DataType | type[pl.DataType]] = {
            **dict.fromkeys(("market", "kind"), pl.String),
            "instrument_id": pl.Int64,
            "contract": pl.String,
            **dict.fromkeys(("activation", "expiration"), pl.Datetime("us", "UTC")),
        }
        return pl.DataFrame(schema=schema)
    return pl.concat(frames).sort(columns).collect()


def land_cot(
    lake: Lake,
    markets: Mapping[str, Market],
    paths: Iterable[Path],
    now: datetime,
    origin: str = "vendor",
) -> Iterator[Landed | HydraError]:
    """Land the CFTC's yearly zips; a refused one is yielded and the others still land."""
    source = "sample" if origin == "sample" else "cftc"
    for path in paths:
        try:
            yield land(lake, cftc.read(path, markets, source), now, origin)
        except BadInput as error:
            yield error


def land_sample(
    lake: Lake, markets: Sequence[Market], days: int, now: datetime, report: Report
) -> None:
    """Land the sample vendor's last ``days`` sessions, up to the last midnight in UTC.

    What the lake has already is not made again.
    """
    end = datetime.combine(now.astimezone(UTC).date(), time(0), UTC)
    by_code = {market.code: market for market in markets}
    with tempfile.TemporaryDirectory(prefix="hydra-sample-") as folder:
        for market in markets:
            for start, until in _missing(lake, "sample", market, days, end):
                report(f"{market.code}: sample vendor, {start:%Y-%m-%d} to {until:%Y-%m-%d}")
                files = sample.fetch(market, start, until, Path(folder))
                _tell(land_dbn(lake, by_code, files, now, "sample"), report)
                _extend(lake, "sample", market, start, until)
        reported = [market for market in markets if market.cot_code]
        first = _first_report_year(lake, reported, end)
        zips = sample.fetch_cot(first, end.year, end, Path(folder))
        _tell(land_cot(lake, by_code, zips, now, "sample"), report)
        for market in reported:
            _extend(lake, "cftc", market, datetime(first, 1, 1, tzinfo=UTC), end)


def land_vendors(
    lake: Lake,
    markets: Sequence[Market],
    days: int,
    now: datetime,
    key: str,
    max_cost: float,
    report: Report,
) -> None:
    """Land what Databento and the CFTC have that the lake has not.

    Raises
    ------
    CostLimit
        A market's download would cost more than ``max_cost`` USD; nothing of it was asked for.
    VendorError
        A vendor refused or failed.
    """
    by_code = {market.code: market for market in markets}
    with tempfile.TemporaryDirectory(prefix="hydra-vendor-") as folder:
        for market in markets:
            if market.databento_dataset is None:
                continue
            for start, until in _missing(lake, "databento", market, days, now):
                fetched = databento_api.fetch(
                    market, start, until, Path(folder), key, max_cost=max_cost, on_event=report
                )
                _tell(land_dbn(lake, by_code, fetched.files, now), report)
                if start < fetched.until:
                    _extend(lake, "databento", market, start, fetched.until)
        if reported := [market for market in markets if market.cot_code]:
            first = _first_report_year(lake, reported, now)
            zips = cftc.fetch(range(first, now.year + 1), Path(folder))
            _tell(land_cot(lake, by_code, zips, now), report)
            for market in reported:
                _extend(lake, "cftc", market, datetime(first, 1, 1, tzinfo=UTC), now)


def _missing(
    lake: Lake, source: str, market: Market, days: int, end: datetime
) -> list[tuple[datetime, datetime]]:
    """The spans up to ``end`` that a history of ``days`` sessions needs and the lake lacks."""
    start = _history_start(market, days, end)
    held = lake.reach(source, market.code)
    if held is None:
        return [(start, end)]
    return [span for span in ((start, held[0]), (held[1], end)) if span[0] < span[1]]


def _extend(lake: Lake, source: str, market: Market, start: datetime, until: datetime) -> None:
    """Record that a span has landed whole: what a killed run left begun is asked for again."""
    held = lake.reach(source, market.code) or (start, until)
    lake.set_reach(source, market.code, min(start, held[0]), max(until, held[1]))


def _history_start(market: Market, days: int, end: datetime) -> datetime:
    """The start of the UTC day on which the ``days``-th last session before ``end`` opened."""
    first = end.date() - timedelta(days=2 * days + 14)
    table = calendars.sessions(market, first, end.date()).filter(pl.col("close_at") <= end)
    opened: datetime = table.tail(days)["open_at"].min()  # type: ignore[assignment]
    return datetime.combine(opened.date(), time(0), UTC)


def _first_report_year(lake: Lake, markets: Sequence[Market], end: datetime) -> int:
    """The year to begin with: all of the history at first, then what is new or still revised."""
    held = [lake.reach("cftc", market.code) for market in markets]
    spans = [span for span in held if span]
    if len(spans) < len(held) or not held:
        return end.year - _COT_YEARS + 1
    return (min(end, *(until for _, until in spans)) - timedelta(days=28)).year


def _tell(results: Iterable[Landed | HydraError], report: Report) -> None:
    """Report what landed; what came from a vendor and is refused ends the run."""
    for result in results:
        if isinstance(result, HydraError):
            raise result
        report(result.line())
