"""Derive: the market-sessions whose inputs or code changed, many in one pass of SQL.

What is derived is a pure function of the raw rows, the SQL, mathlib and the market's file.
It is stored by table, market and month; a record beside it says from which raw files, which
code and up to which instant, so that the next run knows what it has to do again.  All that a
run changes of a market changes at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl

import mathlib
from etl import engine, sqlfiles
from etl.lake import Lake, month_of
from etl.market import Market
from etl.schemas import COT_DATASETS, DATASETS
from etl.stored import Months
from mathlib import udf

#: Sessions of one pass: enough to fill mathlib's batches, few enough to bound memory.
CHUNK = 64

#: What may count in a session became known from so long before it to so long after it: the
#: SQL carries statistics for ten days and gathers settlements for 45.
_BEFORE, _AFTER = timedelta(days=15), timedelta(days=46)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Files = Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Derived:
    """What the run of one market did."""

    market: str
    sessions: int  # market-sessions computed
    rows: int  # rows that they gave, all tables together


def derive(
    lake: Lake, market: Market, now: datetime, progress: Callable[[str], None] = lambda line: None
) -> Derived:
    """Bring the derived tables of one market up to date; the caller holds the write lock.

    Parameters
    ----------
    now : aware datetime
        The run's instant: nothing with a cut-off after it is derived.
    progress : called with a line for a person before each pass of a long run
    """
    files = {name: lake.raw_files(name, market.code) for name in DATASETS}
    names = {str(path.relative_to(lake.root)) for paths in files.values() for path in paths}
    code = _code_hash(market)
    months = Months(lake, market.code)
    state = months.state
    done = set(state.get("files", ()))
    if state.get("code") != code or not done <= names or not months.is_whole():
        months.forget()
        state, done = {}, set()
    fresh = {
        name: [path for path in paths if str(path.relative_to(lake.root)) not in done]
        for name, paths in files.items()
    }
    last_known_at = datetime.fromisoformat(state["known_at"]) if state else _EPOCH
    lake.fetch(path for paths in files.values() for path in paths)
    rows = 0
    connection = engine.connect(spill=lake.spill)
    try:
        udf.register(connection)
        first = lake.first_day(market.code) or now.date()
        _prepare(connection, market, files, fresh, first, last_known_at, now)
        affected = connection.sql(sqlfiles.text("derive/affected_sessions.sql")).fetchall()
        sessions = [day for (day,) in affected]
        for start in range(0, len(sessions), CHUNK):
            chunk = sessions[start : start + CHUNK]
            if len(sessions) > CHUNK:
                share = f"{start:,} of {len(sessions):,} done"
                progress(f"{market.code}: deriving sessions {chunk[0]} to {chunk[-1]}, {share}")
            _run(connection, files, chunk)
            for file in sqlfiles.stage("derive"):
                rows += _store(connection, months, file, chunk)
    finally:
        connection.close()
    months.commit({"code": code, "known_at": now.isoformat(), "files": sorted(names)}, now)
    return Derived(market.code, len(sessions), rows)


def current_at(lake: Lake, market: Market) -> datetime | None:
    """The instant of the market's last run; ``None`` where raw files or code are newer."""
    state = lake.state(market.code)
    landed = [path for name in DATASETS for path in lake.raw_files(name, market.code)]
    names = sorted(str(path.relative_to(lake.root)) for path in landed)
    if state.get("code") != _code_hash(market) or state.get("files") != names:
        return None
    return datetime.fromisoformat(state["known_at"])


def _code_hash(market: Market) -> str:
    """One hash of all that the derived rows follow from, beside the raw ones."""
    here = Path(__file__).parent
    # The raw views decide which values are any, and so shape what follows from them.
    views = [here / name for name in ("engine.py", "outside.py", "schemas.py")]
    sources = sorted([*Path(mathlib.__file__).parent.glob("*.py"), *here.glob("calendar*"), *views])
    digest = hashlib.sha256(sqlfiles.code_hash(sources).encode())
    about = {**asdict(market), "quality": None}  # the checks' thresholds shape no derived row
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _prepare(
    connection: duckdb.DuckDBPyConnection,
    market: Market,
    files: Files,
    fresh: Files,
    first: date,
    last_known_at: datetime,
    now: datetime,
) -> None:
    """Reference tables, the run's instants and the views that find the affected sessions."""
    for schema in ("derive", "features"):
        connection.execute(f"create schema {schema}")
    run = pl.DataFrame({"last_known_at": [last_known_at], "known_at": [now]})
    engine.create_table(connection, "derive.run", run)
    priced = [
        paths
        for name, paths in files.items()
        if not name.endswith("definition") and name not in COT_DATASETS
    ]
    months = sorted({month_of(path) for paths in priced for path in paths})
    month_table = pl.DataFrame({"first_day": months}, schema={"first_day": pl.Date})
    engine.create_table(connection, "derive.months", month_table)
    engine.create_raw_views(connection, fresh, "fresh")
    recent = f"available_at > timestamptz '{last_known_at - timedelta(minutes=15)}'"
    engine.create_raw_views(connection, files, where=dict.fromkeys(DATASETS, recent))
    engine.create_reference(
        connection, [market], first - timedelta(days=31), now.date() + timedelta(days=400)
    )


def _run(connection: duckdb.DuckDBPyConnection, files: Files, sessions: Sequence[date]) -> None:
    """Compute every derived table of the sessions, in the connection's memory."""
    days = pl.DataFrame({"session_date": sessions})
    engine.create_table(connection, "derive.days", days)
    chosen = "select * from meta.sessions semi join derive.days using (session_date)"
    engine.create_as(connection, "derive.sessions", chosen)
    since = datetime.combine(sessions[0], datetime.min.time(), UTC) - _BEFORE
    until = datetime.combine(sessions[-1], datetime.min.time(), UTC) + _AFTER
    known = f"available_at <= timestamptz '{until}'"
    window = f"{known} and available_at >= timestamptz '{since}'"
    conditions = {name: known if name.endswith("definition") else window for name in DATASETS}
    engine.create_raw_views(connection, files, where=conditions)
    engine.create_as(connection, "derive.spine", sqlfiles.text("derive/spine.sql"))
    for file in sqlfiles.stage("derive"):
        engine.create_feature(connection, file)


def _store(
    connection: duckdb.DuckDBPyConnection,
    months: Months,
    file: sqlfiles.SqlFile,
    sessions: Sequence[date],
) -> int:
    """Stage the sessions' new rows in place of their old ones, month by month."""
    rows = connection.sql(f"from features.{file.name}").pl()
    found = dict(_by_month(rows))
    for year, month in sorted({(day.year, day.month) for day in sessions}):
        parts = [found.get((year, month), rows.clear())]
        old = months.read(file.name, year, month)
        if old is not None and old.schema == rows.schema:  # else of older SQL: all is derived anew
            parts.insert(0, old.filter(~pl.col("session_date").is_in(sessions)))
        merged = pl.concat(parts).sort(file.grain, nulls_last=True)
        if merged.height or old is not None:
            months.write(file.name, year, month, merged)
    return int(rows.height)


def _by_month(rows: pl.DataFrame) -> Iterator[tuple[tuple[int, int], pl.DataFrame]]:
    day = pl.col("session_date")
    keyed = rows.with_columns(day.dt.year().alias("_year"), day.dt.month().alias("_month"))
    parts = keyed.partition_by("_year", "_month", as_dict=True, include_key=False)
    for (year, month), part in parts.items():
        yield (int(year), int(month)), part
