"""DBN files as the vendor writes them, made record by record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from types import SimpleNamespace
from typing import Any

import databento_dbn
import numpy as np
import pytest
import zstandard

UNDEF_PRICE = (1 << 63) - 1
UNDEF_TIME = (1 << 64) - 1

_V1, _V2 = databento_dbn.v1, databento_dbn.v2
_STRUCTS = {
    ("definition", 1): _V1.InstrumentDefMsg,
    ("definition", 2): _V2.InstrumentDefMsg,
    ("definition", 3): databento_dbn.InstrumentDefMsg,
    ("statistics", 1): _V1.StatMsg,
    ("statistics", 2): _V2.StatMsg,
    ("statistics", 3): databento_dbn.StatMsg,
}
_SAME = {
    "ohlcv-1d": databento_dbn.OHLCVMsg,
    "ohlcv-1m": databento_dbn.OHLCVMsg,
    "ohlcv-1h": databento_dbn.OHLCVMsg,
    "mbp-1": databento_dbn.MBP1Msg,
    "bbo-1m": databento_dbn.BBOMsg,
    "bbo-1s": databento_dbn.BBOMsg,
}
_RTYPES = {
    "definition": 19,
    "statistics": 24,
    "ohlcv-1d": 35,
    "ohlcv-1m": 33,
    "ohlcv-1h": 34,
    "mbp-1": 1,
    "bbo-1m": 196,
    "bbo-1s": 195,
}

DbnBytes = Callable[..., bytes]


def _dbn_bytes(
    schema: str,
    rows: Sequence[dict[str, Any]],
    *,
    symbols: Mapping[str, Any] | Mapping[int, str] | None = None,
    version: int = 3,
    dataset: str = "GLBX.MDP3",
    stype_in: str = "raw_symbol",
    stype_out: str = "instrument_id",
    days: tuple[date, date] = (date(2024, 5, 1), date(2024, 6, 1)),
    compress: bool = True,
    ts_out: bool = False,
    not_found: Sequence[str] = (),
) -> bytes:
    """A file of ``schema``; undefined where a row does not name a price, time or quantity.

    A symbol means an instrument on all ``days``, or is a list of (first day, day after, number).
    """
    struct = _STRUCTS.get((schema, version)) or _SAME[schema]
    fields = list(struct._dtypes) + ([("ts_out", "u8")] if ts_out else [])
    records = np.zeros(len(rows), np.dtype(fields))
    records["length"] = records.dtype.itemsize // 4
    records["rtype"] = _RTYPES[schema]
    records["publisher_id"] = 1
    for name, _ in fields:
        if name.startswith("ts_") and name != "ts_in_delta":
            records[name] = UNDEF_TIME
        if name in ("expiration", "activation"):
            records[name] = UNDEF_TIME
        if name in ("price", "bid_px_00", "ask_px_00", "strike_price", "min_price_increment"):
            records[name] = UNDEF_PRICE
        if name == "unit_of_measure_qty":
            records[name] = UNDEF_PRICE
        if name == "quantity":
            records[name] = np.iinfo(records.dtype[name]).max
    for place, row in enumerate(rows):
        for name, value in row.items():
            records[name][place] = value
    mappings = [
        SimpleNamespace(
            raw_symbol=str(given),
            intervals=[
                SimpleNamespace(start_date=first, end_date=after, symbol=str(number))
                for first, after, number in (means if isinstance(means, list) else [(*days, means)])
            ],
        )
        for given, means in (symbols or {}).items()
    ]
    metadata = databento_dbn.Metadata(
        dataset=dataset,
        start=0,
        stype_in=databento_dbn.SType.from_str(stype_in),
        stype_out=databento_dbn.SType.from_str(stype_out),
        schema=databento_dbn.Schema.from_str(schema),
        symbols=[str(given) for given in symbols or {}],
        partial=[],
        not_found=list(not_found),
        mappings=mappings,
        ts_out=ts_out,
        version=version,
    )
    raw = metadata.encode() + records.tobytes()
    return zstandard.compress(raw) if compress else raw


@pytest.fixture(scope="session")
def dbn_bytes() -> DbnBytes:
    """``dbn_bytes(schema, rows, …)``: the bytes of a DBN file."""
    return _dbn_bytes
