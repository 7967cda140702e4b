"""Markets: what the exchange and the vendors fixed about each product, one TOML file a market.

Adding a market is adding a file: ``markets()`` reads the bundled folder and, on request, one of
the user's.  A file that does not say what it must is refused in one line that names file and key.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import date, time
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from etl.errors import BadInput
from etl.outside import read_file

__all__ = ["COT_KINDS", "Market", "chosen", "market", "markets", "rate_on", "time_of_day"]

#: Kinds of COT report: by trader class as the CFTC counts commodities, everything, financials.
COT_KINDS = ("disaggregated", "legacy", "financial")

_FOLDER = Path(__file__).parent / "markets"
_RATES = Path(__file__).parent / "risk_free.toml"
_MAX_BYTES = 1 << 20
_MOST = 10**9  # no count or size of a market is larger, nor smaller than its inverse
_THRESHOLDS = Path(__file__).parent / "quality.toml"


@dataclass(frozen=True, slots=True)
class Market:
    """One product, as its TOML file states it.

    Prices are in ``quote_unit``; ``multiplier`` turns one quoted point into USD a contract.
    Times are ``HH:MM`` in ``timezone``.  ``snapshot`` is when a session's quotes are taken,
    ``cut_off`` what may be known in it; both lie before the options' expiry instant.
    ``risk_free`` holds (first day, continuously compounded decimal rate), in order of date.
    ``quality`` holds the checks' thresholds by name; a file states those that are its own.
    ``sources`` says for each field where its value was taken from.
    """

    code: str
    name: str
    exchange: str
    currency: str
    timezone: str
    exercise: str  # "american" or "european"
    underlying: str  # "future" or "index"
    quote_unit: str
    multiplier: float
    tick: float
    option_tick: float
    calendar: str  # name in pandas_market_calendars
    session_open: str
    opens_day_before: bool
    snapshot: str
    session_close: str
    cut_off: str  # the snapshot, unless the file says otherwise
    roll_sessions: int = 0  # sessions before its expiry when the front future gives way to the next
    databento_dataset: str | None = None
    futures_parents: tuple[str, ...] = ()
    option_parents: tuple[str, ...] = ()
    futures_root: str = ""
    option_roots: tuple[str, ...] = ()
    european_roots: tuple[str, ...] = ()  # option roots that `exercise` does not hold for
    cot_code: str | None = None
    cot_reports: tuple[str, ...] = ("disaggregated",)  # kinds of COT report that are downloaded
    min_open_interest: int = 50
    max_spread: float = 0.20
    min_strikes: int = 8
    max_quote_age: int = 240  # minutes that a quote may be older than the chain's newest
    risk_free: tuple[tuple[date, float], ...] = field(default=(), repr=False)
    quality: Mapping[str, float] = field(default_factory=dict, hash=False, repr=False)
    sources: dict[str, str] = field(default_factory=dict, compare=False, repr=False)


def market(code: str, extra: Path | None = None) -> Market:
    """Return the market called ``code``; BadInput names the nearest one when there is none."""
    return chosen(markets(extra), code)


def chosen(known: Mapping[str, Market], code: str) -> Market:
    """Return the market called ``code`` of ``known``; BadInput names the nearest one."""
    if code in known:
        return known[code]
    near = difflib.get_close_matches(code.upper(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise BadInput(f"unknown market {code!r}: {hint}known: {', '.join(known)}")


def markets(extra: Path | None = None) -> dict[str, Market]:
    """Return the bundled markets by code, and those of the folder ``extra``, which win.

    Raises
    ------
    BadInput
        A file of either folder is not a market; the line names the file and the key.
    """
    found = dict(_bundled())
    if extra is not None:
        if not os.path.isdir(extra):
            raise BadInput(f"{extra}: not a folder of market files: give one that holds *.toml")
        found.update(_read_folder(extra))
    return found


def rate_on(dates: pl.Series, schedule: tuple[tuple[date, float], ...]) -> pl.Series:
    """Return the rate in force on each date: the newest step at or before it.

    Parameters
    ----------
    dates : Series of Date, shape (n,)
    schedule : (first day, rate), as in ``Market.risk_free``

    Returns
    -------
    Series of Float64 named ``rate``, shape (n,), continuously compounded decimals a year;
    NULL before the first step and for a NULL date.
    """
    asked = dates.cast(pl.Date).to_frame("day")
    steps = pl.DataFrame(list(schedule), schema={"day": pl.Date, "rate": pl.Float64}, orient="row")
    place = steps["day"].search_sorted(asked["day"], side="right").cast(pl.Int64) - 1
    found = steps["rate"].gather(pl.select(pl.when(place >= 0).then(place)).to_series())
    return asked.select(pl.when(pl.col("day").is_not_null()).then(found).alias("rate")).to_series()


def time_of_day(text: str) -> time:
    """Return ``"HH:MM"`` as a time of day; ValueError when it is not one."""
    if len(text) != len("HH:MM"):
        raise ValueError(f"{text!r} is not a time of day, HH:MM")
    return time.fromisoformat(text)


@lru_cache(maxsize=1)
def _bundled() -> Mapping[str, Market]:
    return MappingProxyType(_read_folder(_FOLDER))


def _read_folder(folder: Path) -> dict[str, Market]:
    found: dict[str, Market] = {}
    for path in sorted(folder.glob("*.toml")):
        read = _read_market(path)
        found[read.code] = read
    return found


def _load(path: Path) -> dict[str, Any]:
    data = read_file(path, _MAX_BYTES)
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # too long a number, too deep a nest; or UTF-8
        raise BadInput(f"{path}: not TOML ({' '.join(str(error).split())})") from None


def _read_market(path: Path) -> Market:
    table = _load(path)
    optional = {"cut_off", "quality", "sources"}
    required = {f.name for f in fields(Market) if f.default is MISSING} - optional
    for key in table:
        if key not in _CHECKS:
            near = difflib.get_close_matches(key, _CHECKS, n=1)
            hint = f": did you mean {near[0]!r}?" if near else f"; known: {', '.join(_CHECKS)}"
            raise BadInput(f"{path}: unknown key {key!r}{hint}")
    for key in sorted(required - table.keys()):
        raise BadInput(f"{path}: key {key!r} is missing")
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            values[key] = _CHECKS[key](value)
        except ValueError as error:
            raise BadInput(f"{path}: key {key!r} is {value!r}: {error}") from None
    values.setdefault("cut_off", values["snapshot"])
    if "risk_free" not in values:
        values["risk_free"], source = _shared_rates()
        values["sources"] = {"risk_free": source, **values.get("sources", {})}
    values["quality"] = {**_shared_thresholds(), **values.get("quality", {})}
    _check_whole(path, values)
    return Market(**values)


def _check_whole(path: Path, values: Mapping[str, Any]) -> None:
    """Refuse keys that contradict one another."""
    if path.stem != values["code"]:
        raise BadInput(f"{path}: key 'code' is {values['code']!r}: must be the file's name")
    opens = "00:00" if values["opens_day_before"] else values["session_open"]
    order = [opens, values["snapshot"], values["cut_off"], values["session_close"]]
    if order != sorted(order):
        raise BadInput(
            f"{path}: key 'snapshot': session_open, snapshot, cut_off, session_close"
            f" must follow one another, but are {', '.join(order)}"
        )
    for key in sorted(values.get("sources", {}).keys() - _CHECKS.keys()):
        raise BadInput(f"{path}: key 'sources.{key}' names no key of a market")
    unknown = set(values.get("european_roots", ())) - set(values.get("option_roots", ()))
    for root in sorted(unknown):
        raise BadInput(f"{path}: key 'european_roots': {root!r} is not among option_roots")
    if values.get("databento_dataset") and not values.get("futures_parents"):
        raise BadInput(f"{path}: key 'futures_parents' is missing: databento_dataset needs it")
    if values["underlying"] == "future" and not values.get("futures_root"):
        raise BadInput(f"{path}: key 'futures_root' is missing: the underlying is a future")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value


def _code(value: Any) -> str:
    # It becomes a folder's name.
    if not re.fullmatch("[A-Z0-9]{1,16}", _text(value)):
        raise ValueError("must be capital letters and digits, 16 at most")
    return str(value)


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return str(value)

    return check


def _zone(value: Any) -> str:
    key = _text(value)
    try:
        ZoneInfo(key)
        pl.Series(dtype=pl.Datetime("us", key))  # knows no zone of this computer's own
    except (KeyError, OSError, ValueError, pl.exceptions.PolarsError):
        raise ValueError("must be an IANA time zone, such as America/Chicago") from None
    return key


def _clock(value: Any) -> str:
    try:
        read = time_of_day(_text(value))
    except ValueError:
        raise ValueError("must be a time of day, HH:MM") from None
    return read.strftime("%H:%M")


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    if not 1 / _MOST <= value <= _MOST:
        raise ValueError("must be above zero and finite, a billion at most")
    return float(value)


def _share(value: Any) -> float:
    if _positive(value) > 2:
        raise ValueError("must be at most 2: it is a share of the mid, 0.20 = 20 %")
    return float(value)


def _count(low: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= _MOST:
            raise ValueError(f"must be a whole number, {low} or more and a billion at most")
        return value

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list of texts")
    return tuple(_text(item) for item in value)


def _parents(suffix: str) -> Callable[[Any], tuple[str, ...]]:
    def check(value: Any) -> tuple[str, ...]:
        parents = _texts(value)
        for parent in parents:
            if not parent.endswith(suffix):
                raise ValueError(f"{parent!r} must end in {suffix}")
        return parents

    return check


def _cot(value: Any) -> str:
    if len(_text(value)) != 6:
        raise ValueError('must have six characters, such as "054642"')
    return str(value)


def _cot_kinds(value: Any) -> tuple[str, ...]:
    kinds = _texts(value)
    for kind in kinds:
        if kind not in COT_KINDS:
            raise ValueError(f"{kind!r} is none of {', '.join(COT_KINDS)}")
    return kinds


def _said(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError("must be a table of texts")
    return dict(value)


def _steps(value: Any) -> tuple[tuple[date, float], ...]:
    """Read a schedule of overnight rates; return continuously compounded ones.

    A step states the day from which it holds and the range in per cent a year, simple,
    ACT/360, as the Federal Reserve quotes it.  The middle of the range, compounded daily,
    is 365 ln(1 + r/360) a year of 365 days.
    """
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of {from, low, high}")
    steps: list[tuple[date, float]] = []
    for item in value:
        if not isinstance(item, dict) or item.keys() != {"from", "low", "high"}:
            raise ValueError("each step must have exactly the keys from, low, high")
        day, low, high = item["from"], item["low"], item["high"]
        if type(day) is not date:
            raise ValueError(f"'from' is {day!r}, must be a date such as 2024-09-19")
        if steps and day <= steps[-1][0]:
            raise ValueError(f"the step of {day} does not come after the one before it")
        for bound in (low, high):
            if isinstance(bound, bool) or not isinstance(bound, int | float):
                raise ValueError(f"{bound!r} of {day} must be a number, per cent a year")
        if not -5 <= low <= high <= 50:
            raise ValueError(f"low and high of {day} must be in order, -5 to 50 per cent")
        steps.append((day, 365.0 * math.log1p((low + high) / 200.0 / 360.0)))
    return tuple(steps)


def _thresholds(value: Any) -> dict[str, float]:
    """Read a market's own thresholds; each is one that all markets have."""
    if not isinstance(value, dict):
        raise ValueError("must be a table of numbers")
    known = _shared_thresholds()
    for name, threshold in value.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"{name!r} is no threshold: {hint}")
        try:
            _positive(threshold)
        except ValueError as error:
            raise ValueError(f"{name!r} {error}") from None
    return {name: float(threshold) for name, threshold in value.items()}


@lru_cache(maxsize=1)
def _shared_thresholds() -> Mapping[str, float]:
    """The thresholds of a market that states none."""
    return MappingProxyType({name: float(value) for name, value in _load(_THRESHOLDS).items()})


@lru_cache(maxsize=1)
def _shared_rates() -> tuple[tuple[tuple[date, float], ...], str]:
    """The schedule that markets share, and where it was taken from."""
    table = _load(_RATES)
    try:
        return _steps(table.get("risk_free")), _text(table.get("source")).strip()
    except ValueError as error:
        raise BadInput(f"{_RATES}: {error}") from None


#: What each key of a market file must be.
_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "code": _code,
    "name": _text,
    "exchange": _text,
    "currency": _one_of("USD"),
    "timezone": _zone,
    "exercise": _one_of("american", "european"),
    "underlying": _one_of("future", "index"),
    "quote_unit": _text,
    "multiplier": _positive,
    "tick": _positive,
    "option_tick": _positive,
    "calendar": _text,
    "session_open": _clock,
    "opens_day_before": _flag,
    "snapshot": _clock,
    "cut_off": _clock,
    "session_close": _clock,
    "roll_sessions": _count(0),
    "databento_dataset": _text,
    "futures_parents": _parents(".FUT"),
    "option_parents": _parents(".OPT"),
    "futures_root": _text,
    "option_roots": _texts,
    "european_roots": _texts,
    "cot_code": _cot,
    "cot_reports": _cot_kinds,
    "min_open_interest": _count(0),
    "max_spread": _share,
    "min_strikes": _count(3),
    "max_quote_age": _count(1),
    "risk_free": _steps,
    "quality": _thresholds,
    "sources": _said,
}
