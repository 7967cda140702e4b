"""What the vendors were asked for and has landed: nothing of it is asked for again.

Two kinds of files lie in the lake's ``reach`` folder, each replaced whole::

    <source>-<market>.json  what → spans of it that have landed whole, gaps and all
    days-<dataset>.json     day → what the vendor said of it when it was last asked for
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from etl import records
from etl.errors import LakeError
from etl.lake import Lake, write_whole
from etl.spans import Span, united

__all__ = ["EVERYTHING", "Day", "days", "ends", "extend", "held", "record_days"]

#: The one thing that is asked of a source which does not tell its data apart.
EVERYTHING = "everything"


class Day(NamedTuple):
    """What a vendor said of one day of a dataset."""

    condition: str  # available, degraded, missing
    modified: date | None  # the date on which it last changed the day's data
    seen_at: datetime


def held(lake: Lake, source: str, market: str, what: str = EVERYTHING) -> list[Span]:
    """The spans of ``what`` that have landed whole, oldest first."""
    return _spans(_reach_file(lake, source, market)).get(what, [])


def extend(
    lake: Lake, source: str, market: str, span: Span, whats: Iterable[str] = (EVERYTHING,)
) -> None:
    """Record that all of a span has landed of each of ``whats``; not before it has."""
    path = _reach_file(lake, source, market)
    spans = _spans(path)
    for what in whats:
        spans[what] = united([*spans.get(what, []), span])
    texts = {
        what: [[start.isoformat(), end.isoformat()] for start, end in found]
        for what, found in spans.items()
    }
    write_whole(path, json.dumps(texts, indent=1, sort_keys=True) + "\n")


def ends(lake: Lake) -> list[tuple[str, str, datetime]]:
    """Source, market and the instant up to which all that is asked of it has landed whole."""
    found = []
    for path in sorted((lake.root / "reach").glob("*.json")):
        source, market = path.stem.rsplit("-", 1)
        if not source.startswith("days") and (spans := _spans(path)):
            found.append((source, market, min(each[-1][1] for each in spans.values())))
    return found


def days(lake: Lake) -> dict[str, dict[date, Day]]:
    """Dataset → day → what the vendor said of it."""
    return {
        path.name.removeprefix("days-").removesuffix(".json"): _days(path)
        for path in sorted((lake.root / "reach").glob("days-*.json"))
    }


def record_days(lake: Lake, dataset: str, said: Mapping[date, Day]) -> None:
    """Keep what a vendor says of the days that are asked for; what it said before gives way."""
    path = lake.root / "reach" / f"days-{dataset}.json"
    known = {**_days(path), **said}
    lines = ",\n".join(f' "{day}": {json.dumps(_texts(known[day]))}' for day in sorted(known))
    write_whole(path, f"{{\n{lines}\n}}\n")


def _reach_file(lake: Lake, source: str, market: str) -> Path:
    return lake.root / "reach" / f"{source}-{market}.json"


def _spans(path: Path) -> dict[str, list[Span]]:
    read = datetime.fromisoformat
    return {
        what: [(read(start), read(end)) for start, end in spans]
        for what, spans in _load(path, records.REACH).items()
    }


def _days(path: Path) -> dict[date, Day]:
    try:
        return {
            date.fromisoformat(day): Day(
                state,
                date.fromisoformat(modified) if modified else None,
                datetime.fromisoformat(seen),
            )
            for day, (state, modified, seen) in _load(path, records.DAYS).items()
        }
    except ValueError:  # a key is no day
        raise _damaged(path) from None


def _texts(day: Day) -> list[str | None]:
    modified = day.modified.isoformat() if day.modified else None
    return [day.condition, modified, day.seen_at.isoformat()]


def _load(path: Path, shape: records.Shape) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = records.read(path, shape)
    except records.Damaged:
        raise _damaged(path) from None
    return content


def _damaged(path: Path) -> LakeError:
    return LakeError(
        f"{path} is damaged: restore it from a backup, "
        "or delete it and what it recorded is asked for again"
    )
