"""Spans of time: half-open, in UTC, as (start, end)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

__all__ = ["Span", "lacking", "months", "united"]

Span = tuple[datetime, datetime]


def united(spans: Iterable[Span]) -> list[Span]:
    """The same instants as few spans as possible, oldest first; empty ones are dropped."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def lacking(wanted: Span, held: Iterable[Span]) -> list[Span]:
    """What of ``wanted`` is in none of ``held``, oldest first."""
    start, end = wanted
    found: list[Span] = []
    for first, last in united(held):
        if last <= start or first >= end:
            continue
        if start < first:
            found.append((start, first))
        start = last
    if start < end:
        found.append((start, end))
    return found


def months(span: Span) -> Iterator[Span]:
    """The span cut at the first instant of each month."""
    start, end = span
    while start < end:
        midnight = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = midnight.replace(
            year=midnight.year + midnight.month // 12, month=midnight.month % 12 + 1
        )
        yield start, min(following, end)
        start = following
