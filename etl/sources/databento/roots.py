"""Option roots that a market's parents miss: weekly options name the market's future, not its root.

A parent such as ``HE.OPT`` stands for one root.  The definitions of all instruments of one day
say which other roots have the market's future as their underlying.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from etl.market import Market
from etl.sources import dbn
from etl.sources.databento.plan import Request

__all__ = ["Root", "day_of_definitions", "missing_roots"]


class Root(NamedTuple):
    """A root of options on the market's future that its parents do not cover."""

    parent: str  # as option_parents names it, "LN1.OPT"
    contracts: int


def day_of_definitions(market: Market, midnight: datetime) -> Request:
    """The request for the definitions of everything in the market's dataset on one day."""
    return Request(
        market.code,
        str(market.databento_dataset),
        "definition",
        ("ALL_SYMBOLS",),
        midnight,
        midnight + timedelta(days=1),
        stype_in="raw_symbol",
    )


def missing_roots(path: Path, market: Market) -> list[Root]:
    """Roots in a file of definitions that the market's ``option_parents`` lack.

    Raises
    ------
    BadInput
        The file is not DBN, or is damaged.
    """
    frames = [
        frame.select("series", "contract")
        for dataset, frame in dbn.read(path, {market.code: market}, None).frames
        if dataset == "option_definition"
    ]
    if not frames:
        return []
    counted = (
        pl.concat(frames)
        .drop_nulls("series")
        .group_by(pl.format("{}.OPT", "series").alias("parent"))
        .agg(pl.col("contract").n_unique())
        .filter(~pl.col("parent").is_in(market.option_parents))
        .sort("parent")
    )
    return [Root(parent, contracts) for parent, contracts in counted.iter_rows()]
