"""Rows of the long table, written by hand, and the instants that they are set against."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any


def cut_offs(bench: Any, count: int, start: date = date(2025, 3, 3)) -> list[datetime]:
    """The cut-offs of the first sessions from a Monday on."""
    rows = bench.rows("meta.sessions", f"session_date >= '{start}'")
    return [row["cut_off"] for row in rows[:count]]


def value(
    feature: str, as_of: datetime, available_at: datetime, value: Any, quality: str = "full"
) -> dict[str, Any]:
    """A row of long_v1."""
    return {
        "feature_name": feature,
        "as_of": as_of,
        "available_at": available_at,
        "value": value,
        "quality": quality,
    }
