"""Which raw files can matter in a window of time, from what their footers say.

A file's span is kept once it has been read, so that a run opens the footers of new files alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from etl.lake import month_of
from etl.outside import EARLIEST, LATEST

__all__ = ["Span", "live", "read", "within"]


class Span(NamedTuple):
    """What a raw file's rows reach over."""

    first: datetime  # when the first of them became known
    last: datetime  # when the last did
    expiration: datetime  # the latest at which a definition in it expires, LATEST if there is none
    rows: int

    def to_json(self) -> list[str | int]:
        """The span as a record keeps it."""
        return [*(instant.isoformat() for instant in self[:3]), self.rows]

    @classmethod
    def of_json(cls, kept: Sequence[Any]) -> Span:
        """The span that ``to_json`` gave."""
        first, last, expiration = map(datetime.fromisoformat, kept[:3])
        return cls(first, last, expiration, kept[3])


def read(path: Path) -> Span:
    """The span of a raw file; all of time where the footer does not say.

    A file that cannot be read spans the month in whose folder it lies: what needs that month
    fails, and nothing else.
    """
    try:
        about = pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        month = datetime.combine(month_of(str(path)), time(0), UTC)
        return Span(month, month, LATEST, 0)
    first, last = _bounds(about, "available_at")
    return Span(first, last, _bounds(about, "expiration")[1], about.num_rows)


def within(spans: Mapping[str, Span], since: datetime, until: datetime) -> list[str]:
    """The files with rows that became known between two instants, both included."""
    return [name for name, span in spans.items() if span.first <= until and span.last >= since]


def live(spans: Mapping[str, Span], since: datetime, until: datetime) -> list[str]:
    """The files of definitions that count between two instants.

    A definition counts from when it is known until a newer one of its instrument, or until that
    expires.  Files are left out from the oldest on, as long as all in them expires before
    ``since``: then no older definition comes to light in place of one that is left out.
    """
    known = {name: span for name, span in spans.items() if span.first <= until}
    alive = [span.first for span in known.values() if span.expiration > since]
    oldest = min(alive, default=LATEST)
    return [name for name, span in known.items() if span.last >= oldest]


def _bounds(about: pq.FileMetaData, column: str) -> tuple[datetime, datetime]:
    """The least and the greatest value of a column, by its statistics."""
    names = about.schema.names
    if column not in names:
        return EARLIEST, LATEST
    position = names.index(column)
    groups = [about.row_group(i).column(position).statistics for i in range(about.num_row_groups)]
    if not all(group is not None and group.has_min_max for group in groups):
        return EARLIEST, LATEST
    try:
        least, greatest = [group.min for group in groups], [group.max for group in groups]
    except OverflowError:  # an instant that is none, in a file that somebody else made
        return EARLIEST, LATEST
    return min(least, default=EARLIEST), max(greatest, default=LATEST)
