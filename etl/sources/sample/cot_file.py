"""The CFTC's yearly zips of the Disaggregated report: futures only, and combined with options.

Header, order, padding and suppressed values (``.``) are those of the published files; the numbers
are invented, and each side of a row adds up to its open interest.  The combined report counts each
class's futures and its options, these in futures by their deltas.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl.cot_releases import releases
from etl.sources.sample.chaos import withholds
from etl.sources.sample.noise import normal

__all__ = ["HEADER", "REPORTS", "cot_options", "fetch_cot", "withheld"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Report:
    """What a report's zip and text are called, and how its rows say what they count."""

    zip_name: str
    text_name: str
    scope: str


#: The reports that the sample has, by the lake's names.
REPORTS = {
    "disaggregated_futures": _Report("fut_disagg_txt", "f_year.txt", "FutOnly"),
    "disaggregated_combined": _Report("com_disagg_txt", "c_year.txt", "Combined"),
}

#: The first Tuesday of the report.
_FIRST = date(2006, 6, 13)
#: Federal holidays that move a Tuesday's report to the Monday before.
_MOVED = {(1, 1), (7, 4), (11, 11), (12, 25)}
_FEW_TRADERS = 4  # fewer than that are not disclosed
_FIELDS = (
    "Prod_Merc_Long",
    "Prod_Merc_Short",
    "Swap_Long",
    "Swap_Short",
    "Swap_Spread",
    "M_Money_Long",
    "M_Money_Short",
    "M_Money_Spread",
    "Other_Rept_Long",
    "Other_Rept_Short",
    "Other_Rept_Spread",
    "Tot_Rept_Long",
    "Tot_Rept_Short",
    "NonRept_Long",
    "NonRept_Short",
)
_REPORTED = _FIELDS[:13]  # those with a count of traders
_CROPS = ("All", "Old", "Other")


def _position(field: str) -> str:
    """Return a field's name among the positions, with the CFTC's two underscores."""
    trader, side = field.rsplit("_", 1)
    swap = "_" if field in ("Swap_Short", "Swap_Spread") else ""
    return f"{trader}{swap}_Positions_{side}"


def _header() -> Iterator[str]:
    yield from ("Market_and_Exchange_Names", "As_of_Date_In_Form_YYMMDD")
    yield from ("Report_Date_as_YYYY-MM-DD", "CFTC_Contract_Market_Code")
    yield from ("CFTC_Market_Code", "CFTC_Region_Code", "CFTC_Commodity_Code")
    for crop in _CROPS:
        yield f"Open_Interest_{crop}"
        yield from (f"{_position(field)}_{crop}" for field in _FIELDS)
    yield "Change_in_Open_Interest_All"
    yield from (f"Change_in_{field}_All" for field in _FIELDS)
    for crop in _CROPS:
        yield f"Pct_of_Open_Interest_{crop}"
        yield from (f"Pct_of_OI_{field}_{crop}" for field in _FIELDS)
    for crop in _CROPS:
        yield f"Traders_Tot_{crop}"
        yield from (f"Traders_{field}_{crop}" for field in _REPORTED)
    for crop in _CROPS:
        for net in ("Gross", "Net"):
            for largest in (4, 8):
                for side in ("Long", "Short"):
                    yield f"Conc_{net}_LE_{largest}_TDR_{side}_{crop}"
    yield from ("Contract_Units", "CFTC_Contract_Market_Code_Quotes", "CFTC_Market_Code_Quotes")
    yield from ("CFTC_Commodity_Code_Quotes", "CFTC_SubGroup_Code", "FutOnly_or_Combined")


HEADER = tuple(_header())


@dataclass(frozen=True, slots=True)
class _Reported:
    """A market of the report; the code with a letter makes the column text, as in real years."""

    code: str
    name: str
    exchange: str
    commodity: str
    units: str
    subgroup: str
    open_interest: float
    old_crop: float  # share of positions in the old crop year


_MARKETS = (
    _Reported(
        "002602", "CORN - CHICAGO BOARD OF TRADE", "CBT", "002", "5,000 BUSHELS", "A10", 1.5e6, 0.7
    ),
    _Reported(
        "004603", "OATS - CHICAGO BOARD OF TRADE", "CBT", "004", "5,000 BUSHELS", "A10", 4.5e3, 0.8
    ),
    _Reported(
        "0063DB",
        "CALIF CARBON CURRENT AUCTION - ICE FUTURES ENERGY DIV",
        "IFED",
        "006",
        "1,000 ALLOWANCES",
        "N10",
        4.0e4,
        1.0,
    ),
    _Reported(
        "054642",
        "LEAN HOGS - CHICAGO MERCANTILE EXCHANGE",
        "CME",
        "054",
        "40,000 POUNDS",
        "A20",
        3.0e5,
        0.97,
    ),
    _Reported(
        "057642",
        "LIVE CATTLE - CHICAGO MERCANTILE EXCHANGE",
        "CME",
        "057",
        "40,000 POUNDS",
        "A20",
        3.3e5,
        1.0,
    ),
    _Reported(
        "061641",
        "FEEDER CATTLE - CHICAGO MERCANTILE EXCHANGE",
        "CME",
        "061",
        "50,000 POUNDS",
        "A20",
        6.9e4,
        1.0,
    ),
)

#: Middle shares of open interest: spreads first, then what is left of each side.
_SPREADS = (("Swap", 0.03), ("M_Money", 0.13), ("Other_Rept", 0.09))
_SIDES = (
    ("Long", (("Prod_Merc", 0.12), ("Swap", 0.30), ("M_Money", 0.36), ("Other_Rept", 0.12))),
    ("Short", (("Prod_Merc", 0.52), ("Swap", 0.04), ("M_Money", 0.14), ("Other_Rept", 0.18))),
)
#: Options in futures by their deltas: their middle share of the futures' open interest, each
#: side's split among the classes, and how much of what a class holds on both sides is a spread.
_OPTIONS = 0.35
_OPTION_SIDES = (
    ("Long", (("Prod_Merc", 0.16), ("Swap", 0.34), ("M_Money", 0.24), ("Other_Rept", 0.18))),
    ("Short", (("Prod_Merc", 0.36), ("Swap", 0.22), ("M_Money", 0.16), ("Other_Rept", 0.16))),
)
_SPREAD_OPTIONS = 0.4


def fetch_cot(
    start_year: int,
    end_year: int,
    until: datetime,
    directory: Path,
    report: str = "disaggregated_futures",
    seed: int | None = None,
) -> list[Path]:
    """Write a report's yearly zips as they stood at ``until`` and return their paths.

    A year of which nothing was released yet has no file, as early in January.  With a ``seed``
    the newest report may be withheld.
    """
    if until.tzinfo is None:
        raise ValueError("until must carry a time zone")
    dates = _report_dates(end_year)
    released = releases(pl.Series(dates, dtype=pl.Date))["available_at"].to_list()
    late = None if seed is None else withheld(until, seed)
    paths = []
    for year in range(start_year, end_year + 1):
        rows = [
            (i, day, at)
            for i, (day, at) in enumerate(zip(dates, released, strict=True))
            if day.year == year and at <= until and day != late
        ]
        if not rows:
            continue
        path = directory / f"sample_{REPORTS[report].zip_name}_{year}.zip"
        _write(path, report, [i for i, _, _ in rows], dates, max(at for _, _, at in rows))
        paths.append(path)
    return paths


def withheld(until: datetime, seed: int) -> date | None:
    """The newest report that was released by ``until``, where the vendor lacks it."""
    dates = _report_dates(until.year)
    released = releases(pl.Series(dates, dtype=pl.Date))["available_at"]
    newest = max(day for day, at in zip(dates, released, strict=True) if at <= until)
    return newest if withholds(newest, seed) else None


def cot_options(cot_code: str, end_year: int) -> pl.DataFrame:
    """What each class of a market holds in options, in futures by their deltas.

    Parameters
    ----------
    cot_code : str
        The CFTC's code of the market, such as ``054642``.
    end_year : int
        The year of the last report.

    Returns
    -------
    DataFrame
        One row a report and class: ``report_date``, ``trader`` (the CFTC's short name, such as
        ``M_Money``), ``long`` and ``short``, contracts.
    """
    (market,) = (market for market in _MARKETS if market.code == cot_code)
    dates = _report_dates(end_year)
    held = _options(market, _futures(market, len(dates))["Open_Interest_All"])
    traders = dict.fromkeys(trader for trader, _ in held)
    return pl.concat(
        pl.DataFrame(
            {
                "report_date": dates,
                "trader": [trader] * len(dates),
                "long": held[trader, "Long"],
                "short": held[trader, "Short"],
            }
        )
        for trader in traders
    )


def _write(path: Path, report: str, weeks: list[int], dates: list[date], made: datetime) -> None:
    about = REPORTS[report]
    lines = [",".join(f'"{name}"' for name in HEADER)]
    for market in _MARKETS:
        numbers = _numbers(market, len(dates), report)
        for i in reversed(weeks):
            number = {k: int(v[i]) for k, v in numbers.items()}
            lines.append(_row(market, dates[i], number, about.scope))
    stamp = made.astimezone(UTC)
    member = zipfile.ZipInfo(about.text_name, date_time=stamp.timetuple()[:6])
    member.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "x") as archive:
        archive.writestr(member, "\n".join(lines) + "\n")


def _report_dates(end_year: int) -> list[date]:
    dates = []
    day = _FIRST
    while day <= date(end_year, 12, 31):
        moved = (day.month, day.day) in _MOVED
        dates.append(day - timedelta(days=1) if moved else day)
        day += timedelta(days=7)
    return dates


@lru_cache(maxsize=32)
def _numbers(market: _Reported, n: int, report: str) -> dict[str, Ints]:
    """Return every position of a market in a report, ``n`` weeks from the first report on."""
    found = _futures(market, n)
    if report == "disaggregated_combined":
        _add_options(found, _options(market, found["Open_Interest_All"]))
    _split_crops(market, found)
    for crop in _CROPS:
        spreads = sum(found[f"{trader}_Spread_{crop}"] for trader, _ in _SPREADS)
        for side, shares in _SIDES:
            reported = sum(found[f"{trader}_{side}_{crop}"] for trader, _ in shares)
            found[f"Tot_Rept_{side}_{crop}"] = np.asarray(reported + spreads)
    for name in ("Open_Interest", *_FIELDS):
        found[f"Change_{name}"] = np.diff(found[f"{name}_All"], prepend=0)
    return found


def _futures(market: _Reported, n: int) -> dict[str, Ints]:
    """Return the positions in futures of each class."""
    open_interest = np.rint(market.open_interest * np.exp(_drifting(market, "oi", n, 0.18)))
    found = {"Open_Interest_All": open_interest.astype(np.int64)}
    total = found["Open_Interest_All"]
    left = total.copy()
    for trader, share in _SPREADS:
        wave = np.exp(_drifting(market, f"{trader[:4]}spr", n, 0.2))
        found[f"{trader}_Spread_All"] = (total * share * wave).astype(np.int64)
        left = left - found[f"{trader}_Spread_All"]
    for side, shares in _SIDES:
        for trader, held in _shared(market, side, left, shares).items():
            found[f"{trader}_{side}_All"] = held
    return found


def _options(market: _Reported, futures: Ints) -> dict[tuple[str, str], Ints]:
    """Return the options of each class and side, in futures by their deltas."""
    wave = np.exp(_drifting(market, "options", len(futures), 0.25))
    total = (futures * _OPTIONS * wave).astype(np.int64)
    return {
        (trader, side): held
        for side, shares in _OPTION_SIDES
        for trader, held in _shared(market, f"o{side}", total, shares).items()
    }


def _add_options(found: dict[str, Ints], options: dict[tuple[str, str], Ints]) -> None:
    """Add the options to the positions in futures."""
    spreading = {trader for trader, _ in _SPREADS}
    for (trader, side), held in options.items():
        spread = np.zeros_like(held)
        if trader in spreading:
            other = options[trader, "Short" if side == "Long" else "Long"]
            spread = (np.minimum(held, other) * _SPREAD_OPTIONS).astype(np.int64)
        found[f"{trader}_{side}_All"] = found[f"{trader}_{side}_All"] + held - spread
        if trader in spreading and side == "Long":
            found[f"{trader}_Spread_All"] = found[f"{trader}_Spread_All"] + spread
    longs = sum(held for (_, side), held in options.items() if side == "Long")
    found["Open_Interest_All"] = found["Open_Interest_All"] + longs


def _shared(
    market: _Reported, name: str, total: Ints, shares: tuple[tuple[str, float], ...]
) -> dict[str, Ints]:
    """Split a side among the classes around their ``shares``; the small traders take the rest."""
    n = len(total)
    weights = [s * np.exp(_drifting(market, f"{t[:4]}{name}", n, 0.3)) for t, s in shares]
    weight_sum = np.sum(weights, axis=0) + 1.0 - sum(s for _, s in shares)
    held = {
        trader: (total * weight / weight_sum).astype(np.int64)
        for (trader, _), weight in zip(shares, weights, strict=True)
    }
    return {**held, "NonRept": np.asarray(total - sum(held.values()))}


def _split_crops(market: _Reported, found: dict[str, Ints]) -> None:
    """Split positions into old and other crop years; the small traders take the rounding."""
    names = [name.removesuffix("_All") for name in found]
    for name in names:
        found[f"{name}_Old"] = (found[f"{name}_All"] * market.old_crop).astype(np.int64)
    for side, shares in _SIDES:
        others = [f"{trader}_{side}_Old" for trader, _ in shares]
        others += [f"{trader}_Spread_Old" for trader, _ in _SPREADS]
        rest = found["Open_Interest_Old"] - sum(found[name] for name in others)
        found[f"NonRept_{side}_Old"] = rest
    for name in names:
        found[f"{name}_Other"] = found[f"{name}_All"] - found[f"{name}_Old"]


def _drifting(market: _Reported, name: str, n: int, spread: float) -> Floats:
    """Return a mean-reverting path of weeks with a stationary deviation of ``spread``."""
    shock = normal("cot", market.code, name, np.arange(n, dtype=np.int64))
    path = np.empty(n)
    value, keep = 0.0, 0.96
    for i, step in enumerate(shock):
        value = keep * value + np.sqrt(1.0 - keep * keep) * step
        path[i] = value
    return spread * np.clip(path, -2.5, 2.5)


def _row(market: _Reported, day: date, number: dict[str, int], scope: str) -> str:
    """Return one line of the file."""
    cells = [f'"{market.name}"', f"{day:%y%m%d}", day.isoformat(), market.code]
    cells += [f"{market.exchange:<4}", "00", f"{market.commodity:<4}"]
    for crop in _CROPS:
        cells += [f"{number[f'{name}_{crop}']:>8d}" for name in ("Open_Interest", *_FIELDS)]
    cells += [f"{number[f'Change_{name}']:>8d}" for name in ("Open_Interest", *_FIELDS)]
    for crop in _CROPS:
        total = number[f"Open_Interest_{crop}"]
        for name in ("Open_Interest", *_FIELDS):
            share = 100.0 * number[f"{name}_{crop}"] / total if total else 0.0
            cells.append(f"{share:>7.1f}")
    for crop in _CROPS:
        cells += _traders(number, crop)
    for crop in _CROPS:
        cells += _concentration(number, crop)
    cells += [f'"(CONTRACTS OF {market.units})"', f'"{market.code}"', f'"{market.exchange:<4}"']
    cells += [f'"{market.commodity:<4}"', f'"{market.subgroup}"', f'"{scope}"']
    return ",".join(cells)


def _traders(number: dict[str, int], crop: str) -> list[str]:
    """Return the counts of traders: more hold more, and a few are not disclosed."""
    counts = [round(0.45 * number[f"{name}_{crop}"] ** 0.45) for name in _REPORTED]
    total = round(0.45 * number[f"Open_Interest_{crop}"] ** 0.5)
    return [f"{total:>7d}"] + [
        "." if 0 < count < _FEW_TRADERS else f"{count:>7d}" for count in counts
    ]


def _concentration(number: dict[str, int], crop: str) -> list[str]:
    """Return the shares of the largest four and eight traders, gross and net."""
    total = number[f"Open_Interest_{crop}"]
    cells = []
    for net in (1.0, 0.97):
        for largest in (0.45, 0.7):
            for side in ("Long", "Short"):
                biggest = max(number[f"{t}_{side}_{crop}"] for t in ("Prod_Merc", "Swap"))
                share = 100.0 * net * largest * biggest / total if total else 0.0
                cells.append(f"{share:>8.1f}")
    return cells
