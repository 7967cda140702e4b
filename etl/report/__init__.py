"""The report: one self-contained HTML page of what the lake knew at an instant."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

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
        There is no database yet, or it cannot be opened.
    LakeError
        The page cannot be written.
    """
    import etl
    from etl.report.charts import charts
    from etl.report.data import built, collect
    from etl.report.page import render

    known_by = now if at is None else at
    connection = etl.connect(lake.root)
    try:
        data, made = collect(connection, known_by), built(connection)
    finally:
        connection.close()
    drawn = charts(made["conventions"])
    write_whole(target, render(data, made, drawn, known_by, at is not None))
