"""The growth of time and memory, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import polars as pl

from benchmarks.pipeline.report import STAGES

__all__ = ["draw"]

_MEASURES = {"cpu": "CPU seconds", "peak_mb": "peak memory, MB"}


def draw(result: dict[str, Any], folder: Path) -> None:
    """Write ``pipeline-growth.svg``, where growth was measured."""
    if "growth" not in result:
        return
    rows = [
        {"rows": one["rows"], "stage": stage, **one["stages"][stage]}
        for one in result["growth"]
        for stage in STAGES
    ]
    base = alt.Chart(pl.DataFrame(rows)).mark_line(point=True)
    panels = [
        base.encode(
            x=alt.X("rows:Q", title="raw rows", scale=alt.Scale(type="log")),
            y=alt.Y(f"{name}:Q", title=title, scale=alt.Scale(type="log")),
            color=alt.Color("stage:N", sort=list(STAGES)),
        ).properties(width=300, height=240)
        for name, title in _MEASURES.items()
    ]
    alt.hconcat(*panels).save(folder / "pipeline-growth.svg")
