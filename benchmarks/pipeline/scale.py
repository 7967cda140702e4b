"""All of CME's options over fifteen years, by arithmetic: the tables of docs/scale.md.

Rates are those of the last ``make bench``, which writes the tables between the two comments that
mark them; what nobody measured here is an assumption and stands as one in the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SOURCES", "tables", "with_tables", "write"]

_PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
_BEGIN, _END = "<!-- tables: make bench writes them -->\n", "<!-- end of tables -->\n"

#: What the tables follow from.
SOURCES = {"derive", "landing", "layout"}

_YEARS, _SESSIONS = 15, 252
_MARKETS = 300
_OPTIONS = 3_000  # listed a market, on average
_CHANGES = (50, 500, 5_000)  # of the best bid and offer of an option in a session
_RECORD = 80  # bytes of an mbp-1 record as it is billed
_CORE_HOUR, _GB_MONTH = 0.05, 0.023  # USD
_WORKERS = 64  # cores
_OPTIONS_MEASURED = 12 * 60 * 2  # of the generated markets, in a session

_ASSUMED = {
    "years": f"{_YEARS}, of {_SESSIONS} sessions",
    "markets (underlyings with options)": f"{_MARKETS}",
    "listed options a market, on average": f"{_OPTIONS:,}",
    "changes of an option's best quote in a session": ", ".join(f"{n:,}" for n in _CHANGES),
    "USD a core-hour, USD a GB-month of object storage": f"{_CORE_HOUR}, {_GB_MONTH}",
}


@dataclass(frozen=True)
class Rates:
    """What the last run measured, of one core where it is a time."""

    land_s: float  # a quote
    dbn_bytes: float  # a quote, compressed
    raw_bytes: float  # a quote in the lake
    derive_s: float  # an option in a session, quotes and settlements
    derived_bytes: float  # an option in a session
    build_s: float  # a market-year of a dense market
    read_share: float  # of a lake of twenty markets, by a month of one

    @staticmethod
    def of(result: dict[str, Any]) -> Rates:
        landing, derive = result["landing"], result["derive"]
        options = derive["sessions"] * _OPTIONS_MEASURED
        return Rates(
            land_s=landing["cpu"]["median"] / landing["records"],
            dbn_bytes=landing["bytes"] / landing["records"],
            raw_bytes=landing["raw_bytes"] / landing["records"],
            derive_s=derive["cpu"]["median"] / options,
            derived_bytes=derive["derived_bytes"] / options,
            build_s=derive["build"]["cpu"],
            read_share=result["layout"]["scan"]["read"] / result["layout"]["scan"]["of"],
        )


def tables(result: dict[str, Any]) -> str:
    """The assumptions, the rates and what follows from both, as Markdown."""
    rates = Rates.of(result)
    lines = ["| assumed | |", "| --- | ---: |"]
    lines += [f"| {name} | {value} |" for name, value in _ASSUMED.items()]
    lines += ["", "| measured, a core | |", "| --- | ---: |"]
    lines += [
        f"| land a million quotes | {1e6 * rates.land_s:.2f} s |",
        f"| a quote, as it comes and in the lake | {rates.dbn_bytes:.0f} and"
        f" {rates.raw_bytes:.0f} bytes |",
        f"| derive a thousand options of a session | {1e3 * rates.derive_s:.2f} s |",
        f"| an option of a session, derived | {rates.derived_bytes:.0f} bytes |",
        f"| build a market-year | {rates.build_s:.1f} s |",
    ]
    lines += ["", "| it follows | " + " | ".join(f"{n:,} changes" for n in _CHANGES) + " |"]
    lines += ["| --- |" + " ---: |" * len(_CHANGES)]
    columns = [_follows(rates, changes) for changes in _CHANGES]
    for name in columns[0]:
        lines.append(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")
    return "\n".join(lines) + "\n"


def _follows(rates: Rates, changes: int) -> dict[str, str]:
    option_sessions = _YEARS * _SESSIONS * _MARKETS * _OPTIONS
    quotes = option_sessions * changes
    months = _YEARS * 12 * _MARKETS
    land, derive = quotes * rates.land_s, option_sessions * rates.derive_s
    build = _YEARS * _MARKETS * rates.build_s
    raw = quotes * rates.raw_bytes
    derived = option_sessions * rates.derived_bytes
    day = (land + derive) / (_YEARS * _SESSIONS)
    return {
        "quotes": f"{quotes:.1e}",
        "bytes as billed": _size(quotes * _RECORD),
        "cost of the data at 1 USD a GB": _usd(quotes * _RECORD / 1e9),
        "bytes as they come": _size(quotes * rates.dbn_bytes),
        "bytes in `raw`": _size(raw),
        "bytes in `derived`": _size(derived),
        "tasks: market-months": f"{months:,}",
        "a task lands and derives": _time((land + derive) / months),
        "land, core-hours": f"{land / 3600:,.0f}",
        "derive, core-hours": f"{derive / 3600:,.0f}",
        "build, core-hours, were it one database": f"{build / 3600:,.0f}",
        f"land and derive on {_WORKERS} cores": _time((land + derive) / _WORKERS),
        "compute, USD": _usd((land + derive + build) / 3600 * _CORE_HOUR),
        "storage, USD a month": _usd((raw + derived) / 1e9 * _GB_MONTH),
        "each day after that, one core": _time(day),
    }


def _size(count: float) -> str:
    return f"{count / 1e12:,.1f} TB"


def _usd(amount: float) -> str:
    return f"{amount:,.0f}"


def _time(seconds: float) -> str:
    for unit, of in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * of:
            return f"{seconds / of:,.1f} {unit}"
    return f"{seconds:,.1f} s"


def with_tables(page: str, result: dict[str, Any]) -> str:
    """The page with its tables made anew."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{tables(result)}\n{_END}{after}"


def write(result: dict[str, Any]) -> None:
    """Make the tables of docs/scale.md anew, where all that they follow from was measured."""
    if result.keys() >= SOURCES:
        page = with_tables(_PAGE.read_text(encoding="utf-8"), result)
        _PAGE.write_text(page, encoding="utf-8")
