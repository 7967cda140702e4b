"""Checks: SELECTs of what is wrong, run on a built database, and the history of what they found.

The checks are the files under ``sql/quality``.  They read the database and the variable
``run_at``, the run's instant.  Each run leaves one file, ``checks/<instant>.parquet``, in the
lake, with a row a finding and a row for a check that found nothing; ``quality.checks`` and
``quality.runs`` show all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars as pl

from etl import engine, sqlfiles
from etl.errors import BadInput
from etl.export import open_database
from etl.lake import Lake, replace_whole
from etl.schemas import UTC
from etl.shown import NEVER, Shown
from etl.spans import Span

__all__ = ["RECORDED", "findings", "is_kept", "keep", "kept", "look", "run", "summary"]

#: The columns of a run's file; the last four are NULL where a check found nothing.
RECORDED = pl.Schema(
    {
        "run_at": UTC,
        "check_name": pl.String(),
        "severity": pl.String(),  # error or warning
        "market": pl.String(),
        "session_date": pl.Date(),
        "subject": pl.String(),  # the rest of the key: contract, slice, source, …
        "reason": pl.String(),
    }
)

_FOUND = ("market", "session_date", "subject", "reason")


def run(
    opened: engine.Opened,
    reports: Path,
    now: datetime,
    looked_at: Mapping[str, datetime],
    before: pl.DataFrame | None,
) -> pl.DataFrame:
    """Run every check on a database.

    A check holds a year of a market at once, unless it looks back on all: then it asks for what
    the database stores of a market, and for the CFTC's reports.  Each has a connection of its own,
    since DuckDB keeps some memory of every window that it ran.

    Parameters
    ----------
    opened : gives a connection with the database attached as ``hydra``
    reports : as ``Shown`` has it
    now : aware datetime
        The run's instant, which age is counted to.
    looked_at : market → the midnight with which its sessions begin that are looked at; ``NEVER``
        is all of them
    before : the run on the last database, of which older findings stand; ``None`` is no run

    Returns
    -------
    What to keep of the run, in the columns of ``RECORDED``.
    """
    looked_at = dict.fromkeys(looked_at, NEVER) if before is None else looked_at
    checks = sqlfiles.checks()
    found = {check.name: [_older(before, check, looked_at)] for check in checks}
    whole = [check for check in checks if check.look_back is None]
    bounded = [(check.look_back, check) for check in checks if check.look_back is not None]
    with opened() as connection:
        shown = Shown(connection, reports)
        parts, years = (list(shown.parts(looked_at, by_year=each)) for each in (False, True))
    for part in parts:
        with _shown(opened, reports, now, part) as (connection, shown):
            shown.show_stored()
            engine.create_macros(connection)
            is_of = pl.col("market").is_in(part.keys())  # what is short in meta is of all
            for check in whole:
                found[check.name].append(_findings(connection, check).filter(is_of))
    for part in years:
        with _shown(opened, reports, now, part) as (connection, shown):
            for days, check in sorted(bounded, key=itemgetter(0)):
                shown.show_all(days)
                found_here = _within(_findings(connection, check), part)
                if not found_here.is_empty():  # empty ones of all years take memory, too
                    found[check.name].append(found_here)
    recorded = [_recorded(pl.concat(found[check.name]), check, now) for check in checks]
    return pl.concat([RECORDED.to_frame(), *recorded])


@contextmanager
def _shown(
    opened: engine.Opened, reports: Path, now: datetime, part: Mapping[str, Span]
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Shown]]:
    """A connection that knows the run's instant, and what it is shown of a part."""
    with opened() as connection:
        connection.execute(f"set variable run_at = timestamptz '{now.isoformat()}'")
        shown = Shown(connection, reports)
        shown.limit(part)
        yield connection, shown


def look(lake: Lake, now: datetime) -> pl.DataFrame:
    """Run every check on the lake's database as it is.

    Raises
    ------
    BadInput
        There is no database, or it was built by another version of the project.
    """
    lake.fetch([lake.database])
    open_database(lake.database).close()
    whole = dict.fromkeys(lake.markets(), NEVER)
    try:
        with TemporaryDirectory(prefix="hydra-check-") as folder:
            return run(lambda: _attached(lake), Path(folder) / "reports.duckdb", now, whole, None)
    except (duckdb.BinderException, duckdb.CatalogException) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"{lake.database}: was built by another version ({reason}): run hydra build"
        ) from None


@contextmanager
def _attached(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = engine.connect()
    try:
        connection.execute(f"attach {engine.quoted(lake.database)} as hydra (read_only)")
        yield connection
    finally:
        connection.close()


def keep(lake: Lake, results: pl.DataFrame, now: datetime) -> None:
    """Add a run to the history; a run of the same instant is replaced.

    The caller holds the write lock.
    """
    replace_whole(_file(lake, now), results.write_parquet)


def kept(lake: Lake, now: datetime) -> pl.DataFrame:
    """The run of an instant."""
    lake.fetch([_file(lake, now)])
    return pl.read_parquet(_file(lake, now), glob=False)


def is_kept(lake: Lake, now: datetime | None) -> bool:
    """Whether there is a run of an instant."""
    return now is not None and _file(lake, now).exists()


def findings(results: pl.DataFrame) -> pl.DataFrame:
    """The rows of a run that say what is wrong."""
    return results.filter(pl.col("reason").is_not_null())


def summary(found: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Severity, check, market, number of findings and the newest, a check and market."""
    connection = engine.connect()
    try:
        connection.register("found", found.to_arrow())
        return connection.sql(sqlfiles.text("report/findings.sql")).fetchall()
    finally:
        connection.close()


def _file(lake: Lake, now: datetime) -> Path:
    return lake.checks / f"{now:%Y%m%dT%H%M%S%fZ}.parquet"


def _findings(connection: duckdb.DuckDBPyConnection, check: sqlfiles.Check) -> pl.DataFrame:
    """What a check finds."""
    found: pl.DataFrame = connection.sql(check.body).pl()
    return found.select(
        pl.col(name).cast(RECORDED[name])
        if name in found.columns
        else pl.lit(None, RECORDED[name]).alias(name)
        for name in _FOUND
    )


def _older(
    before: pl.DataFrame | None, check: sqlfiles.Check, looked_at: Mapping[str, datetime]
) -> pl.DataFrame:
    """What was found before of sessions that the check does not look at."""
    if before is None or check.look_back is None:
        return RECORDED.to_frame().select(_FOUND)
    old = before.filter(pl.col("check_name") == check.name, pl.col("reason").is_not_null())
    part = {market: (NEVER, start) for market, start in looked_at.items()}
    return _within(old.select(_FOUND), part)


def _within(found: pl.DataFrame, part: Mapping[str, Span]) -> pl.DataFrame:
    """The findings of the sessions of a part."""
    rows = [(market, start.date(), end.date()) for market, (start, end) in part.items()]
    limits = pl.DataFrame(
        rows, {"market": pl.String(), "start": pl.Date(), "end": pl.Date()}, orient="row"
    )
    is_of = pl.col("session_date").is_between("start", "end", closed="left")
    return found.join(limits, on="market").filter(is_of).select(_FOUND)


def _recorded(found: pl.DataFrame, check: sqlfiles.Check, now: datetime) -> pl.DataFrame:
    """The rows of a check to keep, sorted: one that says nothing where it found nothing."""
    if found.is_empty():
        found = pl.DataFrame({name: [None] for name in _FOUND})
    about = {"run_at": now, "check_name": check.name, "severity": check.severity}
    found = found.sort(_FOUND, nulls_last=True).with_columns(
        pl.lit(value).alias(name) for name, value in about.items()
    )
    return found.select(pl.col(name).cast(dtype) for name, dtype in RECORDED.items())
