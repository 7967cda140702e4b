"""The raw schemas: one place for every column that lands in the lake.

Each dataset has its own columns (`DATASETS`) and the columns that every raw row
carries (`TIME`, `LINEAGE`).  A source returns frames with the dataset's columns
plus ``market``, ``as_of``, ``available_at``, ``source``; the landing job adds the
lineage.  ``market``, ``year`` and ``month`` live in the partition path.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

UTC = pl.Datetime("us", "UTC")

#: What a source must give with every row, beside the dataset's own columns.
COMMON: Mapping[str, pl.DataType] = {
    "market": pl.String(),
    "as_of": UTC,  # the instant that the value describes
    "available_at": UTC,  # the first instant at which anyone could have known it
    "source": pl.String(),  # databento, sample, cftc, chain-cboe, chain-barchart, chain-generic
}

#: What the folders of a raw file say, for Polars.
HIVE_SCHEMA = {"dataset": pl.String, "market": pl.String, "year": pl.Int32, "month": pl.Int32}

#: What the landing job adds.
LINEAGE: Mapping[str, pl.DataType] = {
    "ingested_at": UTC,  # when this lake wrote the row
    "batch_id": pl.String(),
}

_BAR: Mapping[str, pl.DataType] = {
    "instrument_id": pl.Int64(),
    "contract": pl.String(),  # the vendor's raw symbol, "HEZ6"
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Int64(),
}

_QUOTE: Mapping[str, pl.DataType] = {
    "instrument_id": pl.Int64(),
    "contract": pl.String(),
    "bid": pl.Float64(),  # NULL: no bid
    "ask": pl.Float64(),
    "bid_size": pl.Int64(),
    "ask_size": pl.Int64(),
    "sequence": pl.Int64(),  # the vendor's, orders rows of one instant; NULL for a chain file
    "feed": pl.String(),  # "stream": a vendor's quotes; "snapshot": one chain file, its own cut-off
}

_STAT: Mapping[str, pl.DataType] = {
    "instrument_id": pl.Int64(),
    "contract": pl.String(),
    "sequence": pl.Int64(),  # the vendor's, orders rows of one instant; NULL for a chain file
    "ref_date": pl.Date(),  # the session that the statistic refers to; NULL for intraday ones
    "stat_type": pl.Int32(),  # the vendor's number: 3 settlement, 6 cleared volume, 9 open interest
    "price": pl.Float64(),
    "quantity": pl.Int64(),
    "is_final": pl.Boolean(),  # settlement: flag bit 0; NULL for other statistics
    "stat_flags": pl.Int32(),
    "is_deleted": pl.Boolean(),  # update_action 2 takes the earlier value back
}

_FUTURES_DEFINITION: Mapping[str, pl.DataType] = {
    "instrument_id": pl.Int64(),
    "contract": pl.String(),
    "series": pl.String(),  # the vendor's asset, "HE"
    "expiration": UTC,
    "activation": UTC,
    "tick": pl.Float64(),
    "unit_quantity": pl.Float64(),  # unit_of_measure_qty: 40,000 lb for HE
    "currency": pl.String(),
    "update_action": pl.String(),  # A added, M modified, D deleted
}

_OPTION_DEFINITION: Mapping[str, pl.DataType] = {
    **_FUTURES_DEFINITION,
    "option_type": pl.String(),  # "C" or "P"
    "strike": pl.Float64(),
    "underlying": pl.String(),  # the future's contract, "HEZ6"; NULL for an index or a chain file
    "underlying_id": pl.Int64(),
}


def _report(**has_spread: bool) -> Mapping[str, pl.DataType]:
    """A report of the CFTC's by trader class; spreads are not told of every class."""
    return {
        "report": pl.String(),  # "disaggregated_futures", "disaggregated_combined", …
        "report_date": pl.Date(),
        "cot_code": pl.String(),  # six characters, "054642"
        "name": pl.String(),
        "open_interest": pl.Int64(),
        **{
            f"{trader}_{side}": pl.Int64()
            for trader, spread in has_spread.items()
            for side in ("long", "short", *(["spread"] if spread else []))
        },
        "release_estimated": pl.Boolean(),  # the release date is not known and was taken late
    }


#: The Commitments of Traders, a dataset a set of trader classes, each in the CFTC's order.
COT_DATASETS: Mapping[str, Mapping[str, pl.DataType]] = {
    "cot": _report(
        prod_merc=False,
        swap=True,
        managed_money=True,
        other_reportable=True,
        nonreportable=False,
    ),
    "cot_legacy": _report(noncommercial=True, commercial=False, nonreportable=False),
    "cot_financial": _report(
        dealer=True,
        asset_manager=True,
        leveraged=True,
        other_reportable=True,
        nonreportable=False,
    ),
}

DATASETS: Mapping[str, Mapping[str, pl.DataType]] = {
    "futures_1d": _BAR,
    "futures_1m": _BAR,
    "futures_definition": _FUTURES_DEFINITION,
    "futures_quote": _QUOTE,
    "futures_stat": _STAT,
    "option_definition": _OPTION_DEFINITION,
    "option_quote": {**_QUOTE, "underlying_price": pl.Float64()},
    "option_stat": _STAT,
    **COT_DATASETS,
}


def source_schema(dataset: str) -> pl.Schema:
    """Columns and types of a frame that a source returns for ``dataset``."""
    return pl.Schema({**COMMON, **DATASETS[dataset]})


def raw_schema(dataset: str) -> pl.Schema:
    """Columns and types of a raw row of ``dataset``, ``market`` included."""
    return pl.Schema({**COMMON, **DATASETS[dataset], **LINEAGE})
