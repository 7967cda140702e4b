"""Inputs to begin with: small files as the vendors write them, made by the sample vendor."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import databento_dbn
import numpy as np
import polars as pl
import zstandard

from etl.market import market
from etl.sources import sample

#: What a mutation may put anywhere: numbers, times and texts that are no such, and sentinels.
TOKENS = (
    *(b"nan", b"inf", b"-inf", b"1e308", b"1e-320", b"-0", b"1e400", b"9" * 25, b"1_0", b"0x1f"),
    *(b"9999-12-31", b"0001-01-01", b"1677-09-21", b"2262-04-12", b"01/01/0001", b"Z", b"+23:59"),
    *(
        b"\0",
        b'"',
        b"\n",
        b"\r",
        b",",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\xe2\x80\xae",
        b"\xef\xbb\xbf",
    ),
    *(b"'; drop table x; --", b"../../x", b"/etc/passwd", b"{", b"}", b"[", b"]", b"=", b"PK\1\2"),
    *(b"\xff" * 7 + b"\x7f", b"\0" * 7 + b"\x80", b"\xff" * 8, b"\0" * 8),
    *(b"\xff\xff\xff\x7f", b"\xff" * 4, b"\0" * 4, b"\xff\xff"),
)

_START, _END = datetime(2025, 3, 5, tzinfo=UTC), datetime(2025, 3, 7, tzinfo=UTC)
_RECORDS = 6
_SYMBOLS = 6

_STAMP = "2025-03-06T13:00:00-06:00"
_CBOE = """\
Standard & Poors 500 Index,Last: 3990.5601,Change:  56.1801
"Date: December 12, 2022 at 8:30 PM EST",Bid: 3962.01,Ask: 4016.6299,Size: 1*1,Volume: 0
Expiration Date,Calls,Last Sale,Net,Bid,Ask,Volume,IV,Delta,Gamma,Open Interest,Strike,Puts,\
Last Sale,Net,Bid,Ask,Volume,IV,Delta,Gamma,Open Interest
Mon Jan 23 2023,SPXW230123C03900000,150,0.25,148,152,8,0,0,0,10,3900.00,\
SPXW230123P03900000,50,0,49,51,0,0,0,0,11
Fri Feb 17 2023,SPX230217C04000000,143.2,0.25,140,145,8,0,0,0,12,4000.00,\
SPX230217P04000000,150,0,149,152,0,0,0,0,13
"""
_BARCHART = """\
Strike,Open,High,Low,Last,Change,Bid,Ask,Volume,Open Int,Premium,Time,Type
62.00C,0,3.1,3.1,3.1,0,3.0,3.2,4,30,3100,09/08/2025,Call
62.50C,2.9,2.9,2.7,2.8,0,2.7,2.9,2,"1,033",2800,13:05 CT,Call
62.00P,0,2.4,2.4,2.4,-0.4,2.3,2.5,,26,2400,15:03 CT,Put
Downloaded from Barchart.com as of 09-08-2025 03:40pm CDT
"""
_CHAIN: Mapping[str, list[object]] = {
    "quote_time": [_STAMP] * 4,
    "expiry": ["2025-04-14", "2025-04-14", "2025-05-14T12:00:00-05:00", "2025-06-13"],
    "strike": [84.0, 86.5, 90.0, 88.0],
    "option_type": ["C", "put", "P", "call"],
    "bid": [2.1, 1.2, 0.0, None],
    "ask": [2.3, 1.4, 0.5, 3.0],
    "open_interest": [100, 2000, None, 7],
    "volume": [5, 0, 1, None],
    "underlying_price": [85.5, 85.5, 88.25, 88.25],
    "settlement": [2.2, 1.3, 0.4, None],
    "series": ["HE", "HE", "HE", None],
}


def dbn() -> Iterator[bytes]:
    """A few records of each schema and DBN version, plain; and one file as it comes, in zstd."""
    for raw in _sample_files("*.dbn.zst"):
        plain = zstandard.ZstdDecompressor().stream_reader(raw).read()
        head = 8 + int.from_bytes(plain[4:8], "little")
        metadata = databento_dbn.Metadata.decode(plain[:head])
        for version in (1, 2, 3):
            yield _shortened(metadata, plain[head:], version)
    yield zstandard.compress(_shortened(metadata, plain[head:], 3))


def cot_text() -> Iterator[bytes]:
    """The header and some rows of a report."""
    for raw in _sample_files("*.zip"):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            text = archive.read(archive.namelist()[0])
        lines = text.splitlines(keepends=True)
        ours = [line for line in lines if b"054642" in line]
        yield b"".join([lines[0], *lines[1:3], *ours[:2]])


def cot_zip() -> Iterator[bytes]:
    """Reports in their zips, deflated and stored."""
    for text in cot_text():
        for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
            yield zipped(text, method)


def zipped(text: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    """``text`` in a zip, as the CFTC names it."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        archive.writestr("f_year.txt", text)
    return held.getvalue()


def cboe() -> Iterator[bytes]:
    yield _CBOE.encode()


def barchart() -> Iterator[bytes]:
    yield _BARCHART.encode()


def generic_csv() -> Iterator[bytes]:
    yield pl.DataFrame(_CHAIN, strict=False).write_csv().encode()


def generic_parquet() -> Iterator[bytes]:
    """The generic format with texts, and with every column in a type of its own."""
    texts = pl.DataFrame(_CHAIN, strict=False)
    typed = texts.with_columns(
        pl.col("quote_time").str.to_datetime("%Y-%m-%dT%H:%M:%S%:z").cast(pl.Datetime("us", "UTC")),
        pl.col("expiry").str.slice(0, 10).str.to_date(),
    )
    for frame in (texts, typed):
        for compression in ("uncompressed", "zstd"):
            held = io.BytesIO()
            frame.write_parquet(held, compression=compression)  # type: ignore[arg-type]
            yield held.getvalue()


def market_files() -> Iterator[bytes]:
    """Market files as they are bundled."""
    folder = Path(market.__code__.co_filename).parent / "markets"
    for code in ("HE", "SPX"):
        yield (folder / f"{code}.toml").read_bytes()


@lru_cache(maxsize=1)
def _downloads() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="hydra-seeds-") as folder:
        paths = sample.fetch(market("HE"), _START, _END, Path(folder))
        paths += sample.fetch_cot(2025, 2025, _END, Path(folder))
        return {path.name: path.read_bytes() for path in paths}


def _sample_files(pattern: str) -> list[bytes]:
    return [raw for name, raw in sorted(_downloads().items()) if Path(name).match(pattern)]


def _shortened(metadata: databento_dbn.Metadata, records: bytes, version: int) -> bytes:
    """The first records of a file in another DBN version, with the first of its symbols."""
    structs = _STRUCTS[str(metadata.schema)]
    now: np.dtype[Any] = np.dtype(structs[3]._dtypes)
    then: np.dtype[Any] = np.dtype(structs[version]._dtypes)
    made = np.zeros(min(_RECORDS, len(records) // now.itemsize), then)
    for name in then.names or ():
        if name in (now.names or ()):
            made[name] = np.frombuffer(records, now, len(made))[name]
    made["length"] = then.itemsize // 4
    shown = list(metadata.mappings.items())[:_SYMBOLS]
    head = databento_dbn.Metadata(
        dataset=metadata.dataset,
        start=metadata.start,
        end=metadata.end,
        stype_in=metadata.stype_in,
        stype_out=metadata.stype_out,
        schema=metadata.schema,
        symbols=metadata.symbols,
        partial=["HE.BAD"],
        not_found=[],
        mappings=[
            SimpleNamespace(
                raw_symbol=symbol, intervals=[SimpleNamespace(**span) for span in intervals]
            )
            for symbol, intervals in shown
        ],
        version=version,
    )
    return head.encode() + made.tobytes()


def _same(struct: Any) -> Mapping[int, Any]:
    return {1: struct, 2: struct, 3: struct}


_STRUCTS: Mapping[str, Mapping[int, Any]] = {
    "definition": {
        1: databento_dbn.InstrumentDefMsgV1,
        2: databento_dbn.InstrumentDefMsgV2,
        3: databento_dbn.InstrumentDefMsg,
    },
    "statistics": {
        1: databento_dbn.StatMsgV1,
        2: databento_dbn.StatMsgV1,
        3: databento_dbn.StatMsg,
    },
    "ohlcv-1d": _same(databento_dbn.OHLCVMsg),
    "ohlcv-1m": _same(databento_dbn.OHLCVMsg),
    "bbo-1m": _same(databento_dbn.BBOMsg),
}
