"""The landing jobs: from files on disk, from the vendors, from the sample vendor.

Each takes the run's instant; none reads the clock.  The caller holds the lake's write lock.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import polars as pl

from etl import calendars, reach, spans
from etl.errors import BadInput, HydraError
from etl.lake import Lake
from etl.landing import Landed, land
from etl.market import COT_KINDS, Market
from etl.schemas import HIVE_SCHEMA
from etl.sources import cftc, cftc_download, dbn, sample
from etl.spans import Span

#: Years of COT history that a first run lands: what a three-year percentile needs.
_COT_YEARS = 4

#: Reports of the last four weeks are looked at again in each run.
_REVISED = timedelta(days=28)

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
            lake.fetch(paths)
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
    """Land the CFTC's yearly files; a refused one is yielded and the others still land."""
    source = "sample" if origin == "sample" else "cftc"
    for path in paths:
        try:
            yield land(lake, cftc.read(path, markets, source), now, origin)
        except BadInput as error:
            yield error


def land_sample(
    lake: Lake,
    markets: Sequence[Market],
    days: int,
    now: datetime,
    report: Report,
    seed: int | None = None,
) -> None:
    """Land the sample vendor's last ``days`` sessions, up to the last midnight in UTC.

    What the lake has already is not made again.  With a ``seed`` the vendor plants faults.
    """
    end = datetime.combine(now.astimezone(UTC).date(), time(0), UTC)
    by_code = {market.code: market for market in markets}
    with tempfile.TemporaryDirectory(prefix="hydra-sample-") as folder:
        for market in markets:
            wanted = recent(market, days, end)
            for start, until in spans.lacking(wanted, reach.held(lake, "sample", market.code)):
                report(f"{market.code}: sample vendor, {start:%Y-%m-%d} to {until:%Y-%m-%d}")
                files = sample.fetch(market, start, until, Path(folder), seed)
                for fault in sample.planted(market, start, until, seed) if seed is not None else ():
                    report(f"{fault.market}: planted on {fault.session_date}: {fault.kind}")
                _tell(land_dbn(lake, by_code, files, now, "sample"), report)
                reach.extend(lake, "sample", market.code, (start, until))
        for name, reported in _reports(markets):
            source = f"cftc-{name}"
            years = _report_years(lake, source, reported, end.year - _COT_YEARS + 1, end)
            zips = sample.fetch_cot(years[0], years[-1], end, Path(folder), name, seed)
            _tell(land_cot(lake, by_code, zips, now, "sample"), report)
            _extend_reports(lake, source, reported, years, end)


def land_reports(
    lake: Lake,
    markets: Sequence[Market],
    now: datetime,
    report: Report,
    first_year: int | None = None,
    cot_kinds: Collection[str] = (),
) -> None:
    """Land what the CFTC has from ``first_year`` on and the lake has not.

    The years that a three-year percentile needs, unless ``first_year`` says otherwise; none
    before 2006.  Reports are of the kinds that the markets' files name and of ``cot_kinds``.

    Raises
    ------
    VendorError
        The CFTC refused or failed.
    """
    first = max(first_year or now.year - _COT_YEARS + 1, cftc.FIRST_YEAR)
    by_code = {market.code: market for market in markets}
    with tempfile.TemporaryDirectory(prefix="hydra-cftc-") as folder:
        fetched = []
        for name, reported in _reports(markets, cot_kinds):
            source = f"cftc-{name}"
            years = _report_years(lake, source, reported, first, now)
            unpublished = now.year if now.month == 1 else None
            texts = cftc_download.fetch(name, years, Path(folder), unpublished)
            fetched.append((source, reported, years, texts))
        for source, reported, years, texts in fetched:  # no report lands before all have come
            _tell(land_cot(lake, by_code, texts, now), report)
            _extend_reports(lake, source, reported, years, now)


def _reports(
    markets: Sequence[Market], also: Collection[str] = ()
) -> Iterator[tuple[str, list[Market]]]:
    """Each COT report that is wanted, with its markets: of their own kinds and ``also`` those."""
    for kind in COT_KINDS:
        wanted = [m for m in markets if m.cot_code and (kind in m.cot_reports or kind in also)]
        if wanted:
            for name in cftc_download.reports(kind):
                yield name, wanted


def _report_years(
    lake: Lake, source: str, markets: Sequence[Market], first: int, end: datetime
) -> list[int]:
    """Years of which a market lacks reports, and those of the last four weeks: still revised."""
    begin = datetime(first, 1, 1, tzinfo=UTC)
    looked_at = [(end - _REVISED, end)]
    for market in markets:
        for start, until in spans.lacking((begin, end), reach.held(lake, source, market.code)):
            looked_at.append((max(begin, start - _REVISED), until))
    years = {
        year
        for start, until in looked_at
        for year in range(start.year, (until - timedelta(microseconds=1)).year + 1)
    }
    return sorted(years)


def _extend_reports(
    lake: Lake, source: str, markets: Sequence[Market], years: Sequence[int], end: datetime
) -> None:
    for market in markets:
        for year in years:
            whole = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
            reach.extend(lake, source, market.code, (whole[0], min(whole[1], end)))


def recent(market: Market, days: int, end: datetime) -> Span:
    """From the start of the UTC day on which the ``days``-th last session opened to ``end``."""
    first = end.date() - timedelta(days=2 * days + 14)
    table = calendars.sessions(market, first, end.date()).filter(pl.col("close_at") <= end)
    opened: datetime = table.tail(days)["open_at"].min()  # type: ignore[assignment]
    return datetime.combine(opened.date(), time(0), UTC), end


def _tell(results: Iterable[Landed | HydraError], report: Report) -> None:
    """Report what landed; what came from a vendor and is refused ends the run."""
    for result in results:
        if isinstance(result, HydraError):
            raise result
        report(result.line())
