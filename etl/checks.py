"""Checks: SELECTs of what is wrong, run on a built database, and the history of what they found.

The checks are the files under ``sql/quality``.  They read the database and the variable
``run_at``, the run's instant.  Each run leaves one file, ``checks/<instant>.parquet``, in the
lake, with a row a finding and a row for a check that found nothing; ``quality.checks`` and
``quality.runs`` show all of them.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from etl import engine, sqlfiles
from etl.errors import BadInput
from etl.export import open_database
from etl.increment import Increment
from etl.lake import Lake, replace_whole
from etl.schemas import UTC

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
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    increment: Increment | None = None,
    before: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Run every check on a database.

    Parameters
    ----------
    connection : with the database as its default
    now : aware datetime
        The run's instant, which age is counted to.
    increment : shows as much of the database as each check looks back on; by default it is whole
    before : the run on the last database, of which older findings stand

    Returns
    -------
    What to keep of the run, in the columns of ``RECORDED``.
    """
    connection.execute(f"set variable run_at = timestamptz '{now.isoformat()}'")
    found = {}
    for check in sorted(sqlfiles.checks(), key=_look_back):
        if increment is None:
            rows = _findings(connection, check)
        elif before is None or check.look_back is None:
            increment.show_all(None)
            rows = _findings(connection, check)
        else:
            increment.show_all(check.look_back)
            rows = _joined(before, _findings(connection, check), check, increment.looked_at)
        found[check.name] = _recorded(rows, check, now)
    return pl.concat([RECORDED.to_frame(), *(found[name] for name in sorted(found))])


def look(lake: Lake, now: datetime) -> pl.DataFrame:
    """Run every check on the lake's database as it is.

    Raises
    ------
    BadInput
        There is no database, or it was built by another version of the project.
    """
    connection = open_database(lake.database)
    try:
        return run(connection, now)
    except (duckdb.BinderException, duckdb.CatalogException) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"{lake.database}: was built by another version ({reason}): run hydra build"
        ) from None
    finally:
        connection.close()


def keep(lake: Lake, results: pl.DataFrame, now: datetime) -> None:
    """Add a run to the history; a run of the same instant is replaced.

    The caller holds the write lock.
    """
    replace_whole(_file(lake, now), results.write_parquet)


def kept(lake: Lake, now: datetime) -> pl.DataFrame:
    """The run of an instant."""
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


def _look_back(check: sqlfiles.Check) -> float:
    return float("inf") if check.look_back is None else check.look_back


def _findings(connection: duckdb.DuckDBPyConnection, check: sqlfiles.Check) -> pl.DataFrame:
    """What a check finds, sorted."""
    found: pl.DataFrame = connection.sql(f"from ({check.body}) order by all").pl()
    return found.select(
        pl.col(name).cast(RECORDED[name])
        if name in found.columns
        else pl.lit(None, RECORDED[name]).alias(name)
        for name in _FOUND
    )


def _joined(
    before: pl.DataFrame, found: pl.DataFrame, check: sqlfiles.Check, looked_at: pl.DataFrame
) -> pl.DataFrame:
    """What was found before of older sessions than are looked at, and what is now of these."""
    old = before.filter(pl.col("check_name") == check.name, pl.col("reason").is_not_null())
    is_new = pl.col("session_date") >= pl.col("looked_at_from")
    parts = [
        rows.select(_FOUND).join(looked_at, on="market").filter(condition).select(_FOUND)
        for rows, condition in ((old, ~is_new), (found, is_new))
    ]
    return pl.concat(parts).sort(_FOUND, nulls_last=True)


def _recorded(found: pl.DataFrame, check: sqlfiles.Check, now: datetime) -> pl.DataFrame:
    """The rows of a check to keep: one that says nothing where it found nothing."""
    if found.is_empty():
        found = pl.DataFrame({name: [None] for name in _FOUND})
    about = {"run_at": now, "check_name": check.name, "severity": check.severity}
    found = found.with_columns(pl.lit(value).alias(name) for name, value in about.items())
    return found.select(pl.col(name).cast(dtype) for name, dtype in RECORDED.items())
