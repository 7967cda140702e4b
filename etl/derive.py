"""Derive: the market-sessions whose inputs or code changed, as tasks that run anywhere.

What is derived is a pure function of the raw rows, the SQL, mathlib and the market's file.
It is stored by table, market and month; a record beside it says from which raw files, which
code and up to which instant, so that the next run knows what it has to do again.  A run plans
the affected sessions as tasks of whole months (``etl.derive_task``), an engine runs them
(``etl.engines``), and all that changes of a market changes at once when its last task is done.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

import mathlib
from etl import engine, sqlfiles, windows
from etl.derive_task import Made, Task, compute, window
from etl.engines import Engine, InProcess
from etl.errors import TaskFailed
from etl.lake import Lake, month_of
from etl.market import Market
from etl.outside import LATEST
from etl.schemas import COT_DATASETS, DATASETS
from etl.stored import Months
from etl.windows import Span

#: Sessions of one task and raw rows of options in its months: enough to fill mathlib's batches,
#: few enough to bound memory; a month of more is a task of its own.
MOST_SESSIONS, MOST_ROWS = 42, 225_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: How long before a run's instant a file may have landed that tells of a settlement since.
_SETTLING = timedelta(minutes=15)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Derived:
    """What the run of one market did."""

    market: str
    sessions: int  # market-sessions computed
    rows: int  # rows that they gave, all tables together


@dataclass
class _Plan:
    """What a run is to do for a market, and what has come of it."""

    months: Months
    state: dict[str, Any]  # the record that goes with what is committed
    tasks: list[Task]
    made: list[Made] = field(default_factory=list)
    failed: list[Task] = field(default_factory=list)


def derive(
    lake: Lake,
    market: Market,
    now: datetime,
    progress: Progress = lambda line: None,
    on: Engine | None = None,
) -> Derived:
    """Bring the derived tables of one market up to date, as `derive_markets` does."""
    (done,) = derive_markets(lake, [market], now, progress, on)
    return done


def derive_markets(
    lake: Lake,
    markets: Sequence[Market],
    now: datetime,
    progress: Progress = lambda line: None,
    on: Engine | None = None,
) -> Iterator[Derived]:
    """Bring the derived tables of markets up to date; the caller holds the write lock.

    Each market is yielded when its tables are in place.

    Parameters
    ----------
    now : aware datetime
        The run's instant: nothing with a cut-off after it is derived.
    progress : called with a line for a person about each task of a long run
    on : what the tasks run on, by default this process

    Raises
    ------
    TaskFailed
        Some tasks failed.  What the others gave is in place, and the next run does those again.
    """
    plans: dict[str, _Plan] = {}  # of the markets that tasks are under way of
    without: list[Derived] = []  # markets that nothing is to be done for
    coming = _tasks(lake, markets, now, plans, without)
    begun = list(_up_to(MOST_SESSIONS, coming))
    sessions = sum(len(task.sessions) for task in begun)
    done, failures = 0, []
    tasks = chain(begun, coming)
    place = {market.code: number for number, market in enumerate(markets, 1)}
    for ended in (on or InProcess()).run(compute, tasks, light=sessions <= MOST_SESSIONS):
        code = ended.task.market.code
        plan = plans[code]
        done += len(ended.task.sessions)
        if ended.result is None:
            plan.failed.append(ended.task)
            failures.append(ended)
            progress(f"{ended.task}: failed: {_reason(ended.error)}")
        else:
            plan.made.append(ended.result)
            lake.adopt(ended.result.sent)
            if len(begun) > 1:
                at = f"market {place[code]} of {len(place)}"
                progress(f"{ended.task}: derived, {done:,} sessions done, {at}")
        if len(plan.made) + len(plan.failed) == len(plan.tasks):
            yield _commit(code, plans.pop(code), now)
    yield from without
    if failures:
        first = failures[0]
        more = f" and {len(failures) - 1:,} tasks more" if len(failures) > 1 else ""
        raise TaskFailed(f"{first.task}{more}", _reason(first.error)) from first.error


def _tasks(
    lake: Lake,
    markets: Sequence[Market],
    now: datetime,
    plans: dict[str, _Plan],
    without: list[Derived],
) -> Iterator[Task]:
    """The tasks of one market after the other, each planned when its turn comes.

    Memory holds the files of as many markets as are under way.
    """
    for market in markets:
        plan = _plan(lake, market, now)
        if plan.tasks:
            plans[market.code] = plan
            yield from plan.tasks
        else:
            without.append(_commit(market.code, plan, now))


def _up_to(most: int, tasks: Iterator[Task]) -> Iterator[Task]:
    """The first tasks, until they are of more sessions than ``most``."""
    sessions = 0
    for task in tasks:
        yield task
        sessions += len(task.sessions)
        if sessions > most:
            return


def current_at(lake: Lake, market: Market) -> datetime | None:
    """The instant of the market's last run; ``None`` where raw files or code are newer."""
    state = lake.state(market.code)
    names = sorted(path for name in DATASETS for path in lake.raw_names(name, market.code))
    if state.get("code") != _code_hash(market) or state.get("files") != names:
        return None
    if state.get("failed"):
        return None
    return datetime.fromisoformat(state["known_at"])


def _reason(error: Exception | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__


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


def _plan(lake: Lake, market: Market, now: datetime) -> _Plan:
    """The sessions that are to be derived, as tasks, and what is known once they are."""
    files = {dataset: lake.raw_names(dataset, market.code) for dataset in DATASETS}
    names = {name for paths in files.values() for name in paths}
    code = _code_hash(market)
    months = Months(lake, market.code)
    done = set(months.state.get("files", ()))
    if months.state.get("code") != code or not done <= names or not months.is_whole():
        months.forget()
        done = set()
    kept = months.state.get("spans") or {}
    priced = {name: files[name] for name in DATASETS if name not in COT_DATASETS}
    lake.fetch(lake.root / name for paths in priced.values() for name in paths if name not in kept)
    spans = {
        dataset: {
            name: Span.of_json(kept[name]) if name in kept else windows.read(lake.root / name)
            for name in paths
        }
        for dataset, paths in priced.items()  # nothing is derived of reports
    }
    sessions = {date.fromisoformat(day) for day in months.state.get("failed") or ()}
    sessions |= _affected(lake, market, spans, done, months.state.get("known_at"), now)
    parts = _parts(sorted(sessions), _rows(spans))
    tasks = [_task(lake, market, tuple(part), spans, months, now) for part in parts]
    state = {
        "code": code,
        "known_at": now.isoformat(),
        "files": sorted(names),
        "spans": {n: span.to_json() for found in spans.values() for n, span in found.items()},
    }
    return _Plan(months, state, tasks)


def _affected(
    lake: Lake,
    market: Market,
    spans: Mapping[str, Mapping[str, Span]],
    done: set[str],
    known_at: str | None,
    now: datetime,
) -> set[date]:
    """The sessions whose rows may change since the last run, at ``known_at``."""
    last_known_at = datetime.fromisoformat(known_at) if known_at else _EPOCH
    connection = engine.connect(spill=lake.spill)
    try:
        connection.execute("create schema derive")
        run = pl.DataFrame({"last_known_at": [last_known_at], "known_at": [now]})
        engine.create_table(connection, "derive.run", run)
        priced = [paths for name, paths in spans.items() if not name.endswith("definition")]
        months = sorted({month_of(name) for paths in priced for name in paths})
        table = pl.DataFrame({"first_day": months}, schema={"first_day": pl.Date})
        engine.create_table(connection, "derive.months", table)
        first = lake.first_day(market.code) or now.date()
        engine.create_reference(
            connection, [market], first - timedelta(days=31), now.date() + timedelta(days=400)
        )
        every = sqlfiles.text("derive/all_sessions.sql")
        if not done:
            return _days(connection, every)
        since = last_known_at - _SETTLING
        recent = {
            name: [lake.root / path for path in windows.within(paths, since, LATEST)]
            for name, paths in spans.items()
        }
        fresh = {
            name: [lake.root / path for path in paths if path not in done]
            for name, paths in spans.items()
        }
        lake.fetch(path for found in (recent, fresh) for paths in found.values() for path in paths)
        engine.create_raw_views(connection, fresh, "fresh")
        landed = f"available_at > timestamptz '{since}'"
        engine.create_raw_views(connection, recent, where=dict.fromkeys(DATASETS, landed))
        try:
            return _days(connection, sqlfiles.text("derive/affected_sessions.sql"))
        except duckdb.Error:  # a file that cannot be read: the tasks that need it say so
            return _days(connection, every)
    finally:
        connection.close()


def _days(connection: duckdb.DuckDBPyConnection, select: str) -> set[date]:
    return {day for (day,) in connection.sql(select).fetchall()}


def _rows(spans: Mapping[str, Mapping[str, Span]]) -> Counter[date]:
    """How many raw rows of options lie in the folders of each month, by its first day."""
    rows: Counter[date] = Counter()
    for dataset in ("option_quote", "option_stat"):
        for name, span in spans[dataset].items():
            rows[month_of(name)] += span.rows
    return rows


def _parts(sessions: Sequence[date], rows: Mapping[date, int]) -> Iterator[list[date]]:
    """Runs of whole months that follow on each other, as long as a task may be."""
    part: list[date] = []
    held, last = 0, date.min
    for month, days in groupby(sessions, key=lambda day: day.replace(day=1)):
        found = list(days)
        follows = last < month <= last + timedelta(days=31)
        fits = len(part) + len(found) <= MOST_SESSIONS and held + rows[month] <= MOST_ROWS
        if part and not (follows and fits):
            yield part
            part, held = [], 0
        part += found
        held += rows[month]
        last = month
    if part:
        yield part


def _task(
    lake: Lake,
    market: Market,
    sessions: tuple[date, ...],
    spans: Mapping[str, Mapping[str, Span]],
    months: Months,
    now: datetime,
) -> Task:
    since, until = window(sessions)
    raw = {
        name: windows.live(paths, since, until)
        if name == "option_definition"
        else windows.within(paths, _EPOCH if name.endswith("definition") else since, until)
        for name, paths in spans.items()
    }
    return Task(
        lake,
        market,
        sessions,
        now,
        {name: tuple(paths) for name, paths in raw.items()},
        months.files({(day.year, day.month) for day in sessions}),
        months.staging,
    )


def _commit(code: str, plan: _Plan, now: datetime) -> Derived:
    """Put what a market's tasks made in place."""
    for made in plan.made:
        for staged in made.files:
            plan.months.put(staged)
    failed = sorted(day for task in plan.failed for day in task.sessions)
    plan.months.commit({**plan.state, "failed": [day.isoformat() for day in failed]}, now)
    sessions = sum(len(task.sessions) for task in plan.tasks)
    return Derived(code, sessions - len(failed), sum(made.rows for made in plan.made))
