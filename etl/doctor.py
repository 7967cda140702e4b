"""Whether the machine, the environment and the lake are fit for a run."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from etl import calendars, cot_releases, release, show
from etl.errors import HydraError
from etl.export import open_database
from etl.lake import Lake
from etl.market import Market

__all__ = ["COLUMNS", "Finding", "examine"]

#: What a finding says: the check, ok, warn or fail, what was found, and what to do.
Finding = tuple[str, str, str, str]
COLUMNS = ("check", "state", "found", "advice")

_GB = 10**9
_MEMORY_WANTED = 4 * _GB  # the engine takes 2 GB at most, Python and Polars the like
_DISK_WANTED, _DISK_NEEDED = 20 * _GB, 2 * _GB
_AHEAD = timedelta(days=30)
_KEY = re.compile(r"db-\w{29}")  # how Databento's keys look
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)>=(?P<least>[\d.]+)")
_CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def examine(lake: Lake, markets: Mapping[str, Market], key: str, now: datetime) -> list[Finding]:
    """Look at everything that a run needs; nothing is changed.

    Parameters
    ----------
    markets : those to look at the calendars of
    key : Databento's key, or nothing; it is never part of a finding
    now : aware datetime
    """
    today = now.date()
    checks: Sequence[tuple[str, Callable[[], tuple[str, str, str]]]] = (
        ("machine", _machine),
        ("disk", lambda: _disk(lake.root)),
        ("python", _python),
        ("packages", _packages),
        ("databento key", lambda: _databento_key(key)),
        ("lake", lambda: _lake(lake)),
        ("database", lambda: _database(lake)),
        ("lock", lambda: _lock(lake)),
        ("time zones", lambda: _zones(markets)),
        ("calendars", lambda: _calendars(markets, today)),
        ("COT releases", lambda: _cot(today)),
        ("SQL versions", lambda: _sql(today)),
        ("duckdb", _duckdb),
    )
    return [(name, *check()) for name, check in checks]


def _machine() -> tuple[str, str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{os.cpu_count()} cores, {show.size(memory)} of memory, {platform.system()}"
    if memory < _MEMORY_WANTED:
        return "warn", found, f"{show.size(_MEMORY_WANTED)} are better: derive fewer markets a run"
    return "ok", found, ""


def _disk(folder: Path) -> tuple[str, str, str]:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{show.size(free)} free at {there}"
    if free < _DISK_NEEDED:
        return "fail", found, "make room, or name a lake on another disk with --lake"
    if free < _DISK_WANTED:
        return "warn", found, "years of quotes of a market take several GB"
    return "ok", found, ""


def _python() -> tuple[str, str, str]:
    return "ok", f"{platform.python_version()} at {sys.executable}", ""


def _packages() -> tuple[str, str, str]:
    try:
        needed = requires("hydra-lake") or []
    except PackageNotFoundError:
        return "warn", "hydra-lake is not installed", "make env, or pip install ."
    pins = dict(_pins())
    count, missing, other = 0, [], []
    for match in map(_REQUIREMENT.fullmatch, needed):
        if match is None:  # of an extra
            continue
        count += 1
        name, least = match["name"], match["least"]
        try:
            held = version(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        if _numbers(held) < _numbers(least):
            missing.append(f"{name}>={least} (found {held})")
        elif held != pins.get(_normal(name), held):
            other.append(f"{name} {held}")
    if missing:
        return "fail", f"not there: {', '.join(missing)}", "make env, or pip install ."
    if other:
        found = f"not as pinned: {', '.join(other)}"
        return "warn", found, "pip install -c constraints.txt . gives what was tested"
    return "ok", f"hydra-lake {version('hydra-lake')} and {count} packages that it needs", ""


def _pins() -> Iterator[tuple[str, str]]:
    """The exact versions that a checkout was tested with."""
    if _CONSTRAINTS.exists():
        for line in _CONSTRAINTS.read_text(encoding="utf-8").splitlines():
            name, _, held = line.partition("==")
            yield _normal(name), held


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def _databento_key(key: str) -> tuple[str, str, str]:
    if not key:
        return "warn", "none: the sample vendor alone", "set DATABENTO_API_KEY for real data"
    if not _KEY.fullmatch(key):
        return "warn", "set, but does not look like one (db-…)", "copy it again from the portal"
    return "ok", "set", ""


def _lake(lake: Lake) -> tuple[str, str, str]:
    if not lake.root.is_dir():
        return "ok", f"none at {lake.root} yet", "hydra daily makes it"
    if not os.access(lake.root, os.R_OK | os.X_OK):
        return "fail", f"{lake.root} cannot be read", "make yourself a reader of the folder"
    try:
        found = f"{lake.root}: {lake.origin or 'no'} data of {', '.join(lake.markets()) or 'none'}"
    except HydraError as error:
        return "fail", str(error), "restore it from a backup"
    if not os.access(lake.root, os.W_OK):
        return "warn", f"{found}, for reading only", "run hydra daily as the lake's owner"
    return "ok", found, ""


def _database(lake: Lake) -> tuple[str, str, str]:
    if not lake.database.exists():
        return "ok", "none yet", "hydra daily makes it"
    try:
        connection = open_database(lake.database)
        connection.close()
    except HydraError as error:
        return "fail", str(error), "hydra build makes it anew"
    return "ok", f"{lake.database}, {show.size(lake.database.stat().st_size)}", ""


def _lock(lake: Lake) -> tuple[str, str, str]:
    try:
        with open(lake.root / ".lock") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = handle.read().strip() or "another process"
                return "warn", f"held by {holder}", "wait for it to end, or stop it"
    except OSError:
        return "ok", "none", ""
    return "ok", "free", ""


def _zones(markets: Mapping[str, Market]) -> tuple[str, str, str]:
    names = sorted({"America/New_York", *(market.timezone for market in markets.values())})
    try:
        for name in names:
            ZoneInfo(name)
    except ZoneInfoNotFoundError:
        return "fail", f"no time zone {name}", "pip install tzdata"
    return "ok", ", ".join(names), ""


def _calendars(markets: Mapping[str, Market], today: date) -> tuple[str, str, str]:
    for code, market in markets.items():
        try:
            ahead = calendars.sessions(market, today, today + _AHEAD)
        except HydraError as error:
            return "fail", str(error), f"mend the calendar of {code}"
        if ahead.is_empty():
            found = f"{code} has no session within {_AHEAD.days} days of {today}"
            return "fail", found, "install a newer version of pandas-market-calendars"
    return "ok", f"sessions ahead for {', '.join(markets)}", ""


def _cot(today: date) -> tuple[str, str, str]:
    found = f"known for reports to {cot_releases.COVERED_TO}"
    if today > cot_releases.COVERED_TO:
        return "warn", found, "later ones are estimated: update etl/cot_releases.toml"
    return "ok", found, cot_releases.runs_out(today) or ""


def _sql(today: date) -> tuple[str, str, str]:
    try:
        release.verify()
    except HydraError as error:
        return "fail", str(error), "take the change back, or add the next version"
    if late := release.outdated(today):
        return "warn", "; ".join(late), "read the newer version"
    return "ok", "released versions are as they were released", ""


def _duckdb() -> tuple[str, str, str]:
    beside = Path(sys.executable).parent / "duckdb"
    path = shutil.which("duckdb") or (str(beside) if beside.exists() else None)
    if path is None:
        advice = "hydra sql does without; pip install duckdb-cli gives one"
        return "warn", "no duckdb command line", advice
    try:
        call = [path, "--version"]
        done = subprocess.run(call, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "warn", f"{path} does not run", "pip install duckdb-cli gives one that does"
    held = done.stdout.split()[0] if done.stdout.split() else "unknown"
    if _numbers(held) < (1,):
        return "warn", f"{held} at {path}", "the database needs DuckDB 1.0 or newer"
    return "ok", f"{held} at {path}", ""
