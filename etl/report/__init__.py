"""The report: one self-contained HTML page of what the lake knew at an instant."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from etl.errors import BadInput, LakeError, beneath
from etl.lake import Lake, write_whole

__all__ = ["report"]


def report(lake: Lake, target: Path, now: datetime, at: datetime | None = None) -> None:
    """Write the page, whole or not at all; the same database and instant give the same bytes.

    Parameters
    ----------
    target : the HTML file
    now : aware datetime
        The run's instant, as of which the page is drawn.
    at : aware datetime, optional
        Draw it as it could have been drawn then.

    Raises
    ------
    BadInput
        ``at`` is still to come, there is no database yet, or it cannot be opened.
    LakeError
        The database was built by other code, or the page cannot be written.
    """
    import duckdb

    import etl
    from etl.report.charts import charts
    from etl.report.data import built, collect
    from etl.report.page import render

    if at is not None and at > now:
        raise BadInput(f"{at:%FT%TZ} is still to come: ask for an instant up to {now:%FT%TZ}")
    known_by = now if at is None else at
    connection = etl.connect(lake.root)
    try:
        data, made = collect(connection, known_by), built(connection)
    except duckdb.Error as error:
        if lost := beneath(error):
            raise lost from None
        reason = str(error).splitlines()[0]
        raise LakeError(f"{lake.database}: {reason}: rebuild it with hydra build") from error
    finally:
        connection.close()
    drawn = charts(made["conventions"])
    write_whole(target, render(data, made, drawn, known_by, at is not None))
