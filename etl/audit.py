"""Audit: the proof that no answer knows anything of what came after its instant.

Two independent looks at a built lake.  The replay rebuilds everything from the raw rows that
were known at an instant, in a fresh lake, and wants of it exactly what the whole lake answers
for that instant.  The scan of times needs no second lake: it looks for raw rows that cannot
have been known when they say they were, which a replay would believe, and for feature rows
known later than the cut-off that their file's header promises.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from etl import cot_releases, engine, sqlfiles
from etl.derive import current_at
from etl.errors import BadInput
from etl.export import open_database
from etl.lake import Lake
from etl.market import Market
from etl.replay import replay
from etl.schemas import DATASETS
from etl.schemas import UTC as UTC_TYPE

__all__ = ["Audit", "audit"]

#: Differing answers of one instant that are named one by one.
_NAMED = 20

#: How the header of a feature file begins its promise that all inputs are known by the cut-off.
_PROMISES = ("as_of is the cut-off", "as_of is the session's cut-off")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Audit:
    """What an audit looked at and found."""

    instants: tuple[datetime, ...]  # replayed, oldest first
    findings: tuple[str, ...]  # one line each; none is what one wants


def audit(
    lake: Lake,
    markets: Mapping[str, Market],
    samples: int,
    instants: Sequence[datetime] = (),
    progress: Report = lambda line: None,
) -> Audit:
    """Look for lookahead in a lake's database; the lake itself is only read.

    Parameters
    ----------
    samples : how many instants to draw, over the whole history, the same for the same database
    instants : aware datetimes to replay besides
    progress : called with a line for a person before each replay

    Raises
    ------
    BadInput
        The database is not what the lake and the code would give now, so that a difference
        would say nothing, or an instant lies after the last run.
    """
    files = {name: lake.raw_files(name) for name in DATASETS}
    until = _until(lake, markets)
    if late := [t for t in instants if t > until]:
        raise BadInput(
            f"{_iso(late[0])} is after the last run ({_iso(until)}): "
            "ask at an earlier instant, or run hydra derive and hydra build first"
        )
    connection = engine.connect()
    try:
        connection.execute(f"attach {engine.quoted(lake.database)} as lake (read_only)")
        engine.create_table(connection, "run", pl.DataFrame({"until": [until]}))
        engine.create_raw_views(connection, files, "landed")
        findings = [*_raw_times(connection), *_feature_times(connection)]
        chosen = sorted({*_drawn(connection, samples), *instants})
        for number, t in enumerate(chosen, 1):
            progress(f"replaying what was known at {_iso(t)}, {number} of {len(chosen)}")
            with tempfile.TemporaryDirectory(prefix="hydra-audit-") as folder:
                past = Lake(Path(folder) / "lake")
                replay(lake, past, markets, known_at=t)
                findings += _differences(connection, past, t)
    finally:
        connection.close()
    return Audit(tuple(chosen), tuple(findings))


def _until(lake: Lake, markets: Mapping[str, Market]) -> datetime:
    """The last instant of which the database should know everything."""
    connection = open_database(lake.database)
    try:
        (run,) = connection.sql("from meta.builds").pl().to_dicts()
        built = set(connection.sql("from meta.batches").pl()["batch_id"])
        built_from = dict(
            connection.sql("select view_name, sha256 from meta.sql_versions").fetchall()
        )
    finally:
        connection.close()
    landed = {record["batch_id"] for record in lake.each_batch()}
    known = [current_at(lake, markets[code]) for code in lake.markets() if code in markets]
    runs = [instant for instant in known if instant is not None]
    written = {file.name: file.sha256 for file in sqlfiles.features()}
    if built != landed or built_from != written or len(runs) < len(lake.markets()):
        raise BadInput(
            f"{lake.database} is older than the lake's files or than the code: "
            "run hydra derive and hydra build first"
        )
    until: datetime = min(run["built_at"], *runs)
    return until


def _drawn(connection: duckdb.DuckDBPyConnection, samples: int) -> Iterator[datetime]:
    """Instants at which values became known, or a moment before; each from its share of them."""
    rows = connection.sql(sqlfiles.text("audit/instants.sql")).fetchall()
    instants = [instant for (instant,) in rows]
    draw = random.Random(0)
    parts = min(samples, len(instants))
    for part in range(parts):
        first, last = (len(instants) * bound // parts for bound in (part, part + 1))
        yield instants[draw.randrange(first, last)] - timedelta(microseconds=draw.randrange(2))


def _raw_times(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    parts = []
    for name, columns in DATASETS.items():
        subject = "contract" if "contract" in columns else "report_date::varchar"
        what = f"'{name}' as dataset, market, {subject} as subject, as_of, available_at"
        parts.append(f"select {what} from landed.{name}")
    connection.execute(f"create view instants as {' union all '.join(parts)}")
    reports = "select distinct subject::date as day from instants where dataset like 'cot%'"
    releases = cot_releases.releases(connection.sql(f"{reports} order by day").pl()["day"])
    engine.create_table(connection, "releases", releases)
    for row in connection.sql(sqlfiles.text("audit/raw_times.sql")).pl().iter_rows(named=True):
        first = row["first"]
        yield (
            f"raw.{row['dataset']} {row['market']}: {row['reason']}: {row['rows']:,} rows, first "
            f"{first['subject'] or 'one'} as_of {_iso(first['as_of'])} "
            f"available_at {_iso(first['available_at'])}"
        )


def _feature_times(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """Rows with an input that was not known by their cut-off, where the header promises so."""
    for file in sqlfiles.features():
        if not file.fields["time"].startswith(_PROMISES):
            continue
        rows = f"from lake.features.{file.name} where available_at > as_of order by all"
        if found := connection.sql(rows).pl().to_dicts():
            yield (
                f"features.{file.name}: known after its cut-off: {len(found):,} rows, first "
                f"{_named(found[0], file.grain)} available_at {_iso(found[0]['available_at'])}"
            )


def _differences(connection: duckdb.DuckDBPyConnection, past: Lake, t: datetime) -> Iterator[str]:
    """What the whole lake and the replay do not agree on at ``t``."""
    engine.create_table(connection, "asked", pl.DataFrame({"t": [t]}))
    _answer(connection, "lake")
    if past.database.exists():
        connection.execute(f"attach {engine.quoted(past.database)} as replay (read_only)")
        _answer(connection, "replay")
    else:
        _attach_empty(connection)
    try:
        apart = list(_rows_apart(connection))
        yield from _answers_apart(connection, t, apart)
        for found in apart:
            first = _named(found.rows.row(0, named=True), found.file.grain)
            yield (
                f"replay at {_iso(t)}: features.{found.file.name}: {found.rows.height:,} rows "
                f"are only in the {found.side}, first {first}"
            )
    finally:
        connection.execute("detach replay")


def _attach_empty(connection: duckdb.DuckDBPyConnection) -> None:
    """Attach a replay of the time before anything was known."""
    connection.execute("attach ':memory:' as replay")
    connection.execute("create schema replay.features")
    for file in sqlfiles.features():
        empty = f"from lake.features.{file.name} limit 0"
        engine.create_as(connection, f"replay.features.{file.name}", empty)
    engine.create_as(connection, "replay_answers", "from lake_answers limit 0")


def _answer(connection: duckdb.DuckDBPyConnection, catalog: str) -> None:
    """Store what a database answers at the instant; its macros read its own tables."""
    connection.execute(f"use {catalog}")
    try:
        asked = "from answers_at((select t from memory.asked))"
        engine.create_as(connection, f"memory.{catalog}_answers", asked)
    finally:
        connection.execute("use memory")


@dataclass(frozen=True)
class _Apart:
    """Rows of a feature table, known at the instant, that only one side has."""

    file: sqlfiles.SqlFile
    side: str
    rows: pl.DataFrame


def _rows_apart(connection: duckdb.DuckDBPyConnection) -> Iterator[_Apart]:
    """Each table's rows known at the instant, compared in both directions, sources first."""
    known = "where greatest(as_of, available_at) <= (select t from asked)"
    for file in sqlfiles.features():
        if "known_at" in file.grain:  # another table in another form
            continue
        lake, replay = (f"from {side}.features.{file.name} {known}" for side in ("lake", "replay"))
        for side, one, other in (("lake", lake, replay), ("replay", replay, lake)):
            rows = connection.sql(f"({one}) except all ({other}) order by all").pl()
            if rows.height:
                yield _Apart(file, side, rows)


def _answers_apart(
    connection: duckdb.DuckDBPyConnection, t: datetime, apart: Sequence[_Apart]
) -> Iterator[str]:
    """A line for each answer that differs, with where it comes from as far as that is found."""
    found = connection.sql(sqlfiles.text("audit/answers.sql")).pl()
    for row in found.head(_NAMED).iter_rows(named=True):
        sides = (
            f"{side} answers {row[f'{side}_value']} {row[f'{side}_quality']} as_of "
            f"{_iso(row[f'{side}_as_of'])} available_at {_iso(row[f'{side}_available_at'])}"
            for side in ("lake", "replay")
        )
        cause = _cause(connection, row["market"], row["as_of"], t, apart)
        yield (
            f"replay at {_iso(t)}: {row['market']} {row['feature_name']} "
            f"as_of {_iso(row['as_of'])}: the {', the '.join(sides)}{cause}"
        )
    if (more := found.height - _NAMED) > 0:
        yield f"replay at {_iso(t)}: {more:,} more answers differ"


def _cause(
    connection: duckdb.DuckDBPyConnection,
    market: str,
    as_of: datetime,
    t: datetime,
    apart: Sequence[_Apart],
) -> str:
    """The first table in which rows of that instant differ, and a raw row that may have leaked."""
    of_answer = (pl.col("market") == market) & (pl.col("as_of") == as_of)
    for table in apart:
        if (rows := table.rows.filter(of_answer)).is_empty():
            continue
        row = rows.row(0, named=True)
        cause = f"; first differs features.{table.file.name} {_named(row, table.file.grain)}"
        suspect = {
            "market": market,
            "sources": table.file.sources,
            "asked_at": t,
            "row_as_of": as_of,
            "row_known_at": _known_at(connection, table.file, row),
            "contract": row.get("contract"),
        }
        types = {"row_known_at": UTC_TYPE, "contract": pl.String()}
        frame = pl.DataFrame([suspect], schema_overrides=types)
        engine.create_table(connection, "suspect", frame)
        late = connection.sql(sqlfiles.text("audit/late_row.sql")).fetchall()
        if late:
            dataset, subject, described, known_at = late[0]
            cause += (
                f"; known only later: raw.{dataset} {subject} as_of {_iso(described)} "
                f"available_at {_iso(known_at)}"
            )
        return cause
    return ""


def _known_at(
    connection: duckdb.DuckDBPyConnection, file: sqlfiles.SqlFile, row: Mapping[str, Any]
) -> datetime | None:
    """When the lake's row of the same key became known, if it has one."""
    key = pl.DataFrame([{name: row[name] for name in file.grain}])
    engine.create_table(connection, "key", key)
    names = ", ".join(file.grain)
    rows = f"select available_at from lake.features.{file.name} semi join key using ({names})"
    found = connection.sql(rows).fetchall()
    known_at: datetime | None = found[0][0] if found else None
    return known_at


def _named(row: Mapping[str, Any], grain: Sequence[str]) -> str:
    """A row's key, as a person would look for it."""
    return " ".join(f"{name}={_iso(row[name])}" for name in grain)


def _iso(value: Any) -> str:
    """An instant as ISO 8601 in UTC, anything else as it prints."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
