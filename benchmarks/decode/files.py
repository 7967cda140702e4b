"""Seeded DBN files as large as wished, of instruments that the project's markets have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import databento_dbn as dbn
import numpy as np

from etl.market import markets
from etl.sources.sample.dbn_files import UNDEF_PRICE, DbnFile, Interval, Records, records

__all__ = ["bars", "definitions", "quotes"]

_SEED = 2024
_FIRST, _DAYS = date(2024, 5, 13), 14
_SECOND = 10**9
_START = (_FIRST - date(1970, 1, 1)).days * 86_400 * _SECOND
_END = _START + _DAYS * 86_400 * _SECOND
_FIRST_ID = 100_000
_TICK = 25_000_000  # 0.025 in the vendor's fixed point
_SHARE_ONE_SIDED = 0.05

_MONTHS = "FGHJKMNQUVXZ"
_QUOTED_FUTURES = [f"HE{month}{year}" for year in (4, 5) for month in "GJKMN"]
#: What quotes are of: ten futures and the options on them, 1,500 in all.
_QUOTED = [
    *_QUOTED_FUTURES,
    *(
        f"{future} {kind}{strike}"
        for strike in range(40, 115)
        for future in _QUOTED_FUTURES
        for kind in "CP"
    ),
][:1500]
#: What bars are of: futures of every market.
_TRADED = [
    f"{market.futures_root}{month}{year}"
    for market in markets().values()
    if market.futures_root
    for year in (4, 5, 6)
    for month in _MONTHS
]


def quotes(path: Path, n: int) -> None:
    """``n`` best bids and offers (mbp-1), spread at random over the instruments and five days.

    One side in twenty is absent.
    """
    dice = np.random.default_rng(_SEED)
    made = records("mbp-1", n)
    place = dice.integers(0, len(_QUOTED), n)
    received = np.sort(dice.integers(_START, _START + 5 * 86_400 * _SECOND, n))
    made["instrument_id"] = _FIRST_ID + place
    made["ts_recv"] = received
    made["ts_event"] = received - dice.integers(10_000, 500_000, n)
    made["action"], made["side"] = b"A", b"B"
    made["sequence"] = np.arange(n)
    mid = dice.integers(400, 4_000, len(_QUOTED))[place] + dice.integers(-20, 21, n)
    half = dice.integers(1, 9, n)
    for side, prices in (("bid", mid - half), ("ask", mid + half)):
        absent = dice.random(n) < _SHARE_ONE_SIDED
        made[f"{side}_px_00"] = np.where(absent, UNDEF_PRICE, prices * _TICK)
        made[f"{side}_sz_00"] = np.where(absent, 0, dice.integers(1, 200, n))
        made[f"{side}_ct_00"] = np.where(absent, 0, dice.integers(1, 20, n))
    made["price"], made["size"] = made["bid_px_00"], made["bid_sz_00"]
    _write(path, "mbp-1", _QUOTED, made)


def bars(path: Path, n: int) -> None:
    """``n`` bars of a minute (ohlcv-1m): one of each future a minute."""
    dice = np.random.default_rng(_SEED)
    made = records("ohlcv-1m", n)
    minute, place = np.divmod(np.arange(n), len(_TRADED))
    made["instrument_id"] = _FIRST_ID + place
    made["ts_event"] = _START + minute * 60 * _SECOND
    opened = dice.integers(400, 4_000, len(_TRADED))[place] + dice.integers(-20, 21, n)
    closed = opened + dice.integers(-4, 5, n)
    made["open"], made["close"] = opened * _TICK, closed * _TICK
    made["high"] = (np.maximum(opened, closed) + dice.integers(0, 3, n)) * _TICK
    made["low"] = (np.minimum(opened, closed) - dice.integers(0, 3, n)) * _TICK
    made["volume"] = dice.integers(0, 500, n)
    _write(path, "ohlcv-1m", _TRADED, made)


def definitions(path: Path, schema: str) -> None:
    """The definitions of the instruments in a file of ``schema``, known before its first record."""
    names = _QUOTED if schema == "mbp-1" else _TRADED
    made = records("definition", len(names))
    made["instrument_id"] = _FIRST_ID + np.arange(len(names))
    made["ts_event"] = made["ts_recv"] = made["activation"] = _START
    made["expiration"] = dbn.UNDEF_TIMESTAMP
    made["user_defined_instrument"] = b"N"
    made["raw_symbol"] = names
    made["underlying"] = [name.split()[0] if " " in name else "" for name in names]
    made["instrument_class"] = [name.split()[1][0] if " " in name else "F" for name in names]
    made["strike_price"] = [
        int(name.split()[1][1:]) * _SECOND if " " in name else UNDEF_PRICE for name in names
    ]
    _write(path, "definition", names, made)


def _write(path: Path, schema: str, names: Sequence[str], made: Records) -> None:
    until = _FIRST + timedelta(days=_DAYS)
    mappings = {
        name: [Interval(_FIRST, until, str(_FIRST_ID + place))] for place, name in enumerate(names)
    }
    with DbnFile(path, schema, "HE.FUT", _START, _END, mappings) as file:
        file.write(made)
