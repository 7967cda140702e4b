"""Databento's binary files (DBN versions 1 to 3) as rows in the raw schemas.

Bytes are decoded in chunks straight into NumPy structured arrays, so that memory is bounded
by the chunk and not by the file.  The zstd frame is followed here, because the vendor's own
reader takes a frame that breaks off for the end of the file.

Times (``ts_*`` are nanoseconds; ``as_of`` is rounded down to microseconds, ``available_at`` up):

=============  ======================================  =====================
schema         as_of                                   available_at
=============  ======================================  =====================
ohlcv-1d, -1m  ``ts_event`` (the start) + bar length   the same instant
mbp-1          ``ts_event``                            ``ts_recv``
bbo-1m, -1s    ``ts_recv``, the end of the interval    ``ts_recv``
definition     ``ts_event``                            ``ts_recv``
statistics     session close of ``ts_ref``'s date      ``ts_recv``
=============  ======================================  =====================

A bbo record's ``ts_event`` is the time of the last *trade* (Databento, "BBO on interval"): in a
thin option days before the quote, so it does not say which instant the quote describes.  No
``as_of`` is later than its ``available_at``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import databento_dbn
import numpy as np
import polars as pl
import zstandard
from numpy.typing import NDArray

from etl.calendars import session_close_at
from etl.errors import BadInput
from etl.market import Market
from etl.outside import EARLIEST, LATEST, open_file
from etl.schemas import UTC
from etl.sources import Payload, conform, file_sha256

__all__ = ["SCHEMAS", "Header", "count", "peek", "read"]

#: Records of a chunk take about this much memory before they become rows.
_CHUNK_BYTES = 10_000_000
#: Four bytes of zstd may stand for 128 kB: what is inflated at once stays under 16 MB.
_READ_BYTES = 512
_MAX_METADATA_BYTES = 1 << 28
#: No vendor's file is so much smaller than what it unpacks to; past the first 64 MB it counts.
_MAX_RATIO = 1000
_UNPROVEN_BYTES = 1 << 26
_HEADER_BYTES = 16
_MAX_RECORD_BYTES = 4 * 255  # a record's first byte is its length in words of four
_MAX_OTHER_RECORDS = 100_000  # each is looked at by itself

_UNDEF_PRICE = databento_dbn.UNDEF_PRICE
_EARLIEST_NS, _LATEST_NS = (
    np.uint64(int(instant.timestamp()) * 10**9) for instant in (EARLIEST, LATEST)
)
_UNDEF_FLAGS = 255

_MONTHS = "FGHJKMNQUVXZ"
_NUMBER = re.compile("[0-9]{1,10}")
_FUTURE = rf"^([^-: ]+)[{_MONTHS}]\d{{1,2}}$"
_OPTION = rf"^([^-: ]+)[{_MONTHS}]\d{{1,2}} [CP]-?\d+$"
#: Statistics about an instrument go on arriving for some days after it has expired.
_AFTER_EXPIRY_DAYS = 7

_InstrumentClass = databento_dbn.InstrumentClass
_SPREADS = [
    str(spread)
    for spread in (
        _InstrumentClass.FUTURE_SPREAD,
        _InstrumentClass.OPTION_SPREAD,
        _InstrumentClass.MIXED_SPREAD,
    )
]
_SETTLEMENT = int(databento_dbn.StatType.SETTLEMENT_PRICE)
_DELETED = int(databento_dbn.StatUpdateAction.DELETE)

_Records = NDArray[np.void]
_Frames = Iterator[tuple[str, pl.DataFrame]]


class Header(NamedTuple):
    """What a DBN file says about itself."""

    schema: str
    dataset: str
    version: int


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the records of one schema look in each DBN version."""

    rtype: int
    structs: Mapping[int, Any]
    bar_ns: int = 0


def _same(struct: Any) -> Mapping[int, Any]:
    return {1: struct, 2: struct, 3: struct}


_RType = databento_dbn.RType
_AS_IS: Any = databento_dbn.VersionUpgradePolicy.AS_IS  # declared as a number, but an object

_KINDS: Mapping[str, _Kind] = {
    "definition": _Kind(
        int(_RType.INSTRUMENT_DEF),
        {
            1: databento_dbn.InstrumentDefMsgV1,
            2: databento_dbn.InstrumentDefMsgV2,
            3: databento_dbn.InstrumentDefMsg,
        },
    ),
    "ohlcv-1d": _Kind(int(_RType.OHLCV_1D), _same(databento_dbn.OHLCVMsg), 86_400 * 10**9),
    "ohlcv-1m": _Kind(int(_RType.OHLCV_1M), _same(databento_dbn.OHLCVMsg), 60 * 10**9),
    "mbp-1": _Kind(int(_RType.MBP_1), _same(databento_dbn.MBP1Msg)),
    "bbo-1m": _Kind(int(_RType.BBO_1M), _same(databento_dbn.BBOMsg)),
    "bbo-1s": _Kind(int(_RType.BBO_1S), _same(databento_dbn.BBOMsg)),
    "statistics": _Kind(
        int(_RType.STATISTICS),
        {1: databento_dbn.StatMsgV1, 2: databento_dbn.StatMsgV1, 3: databento_dbn.StatMsg},
    ),
}

#: The schemas that are read.
SCHEMAS = tuple(_KINDS)


def peek(path: Path) -> Header:
    """What the file holds, from its metadata alone.

    Raises
    ------
    BadInput
        When it is not a DBN file or its schema or version is not supported.
    """
    with open_file(path) as file:
        metadata = _Bytes(path, file).metadata()
    return Header(_schema(path, metadata), metadata.dataset, metadata.version)


def count(path: Path) -> int:
    """Number of records of the file's schema, read to the file's end.

    Raises
    ------
    BadInput
        As ``read`` and its frames: not DBN, another schema, cut off or damaged.
    """
    with open_file(path) as file:
        stream = _Bytes(path, file)
        metadata = stream.metadata()
        kind = _KINDS[_schema(path, metadata)]
        layout = _layout(kind, metadata)
        return sum(
            len(chunk) for chunk in _records(path, stream, layout, kind.rtype, left_out=Counter())
        )


def read(
    path: Path,
    markets: Mapping[str, Market],
    instruments: pl.DataFrame | None,
    source: str = "databento",
) -> Payload:
    """The rows of one DBN file that belong to ``markets``.

    Parameters
    ----------
    path : Path
        A ``.dbn`` or ``.dbn.zst`` file of one of ``SCHEMAS``.
    markets : mapping of str to Market
        The markets to take, by code.
    instruments : polars.DataFrame or None
        Definitions the lake has already: ``market``, ``kind`` (``future`` or ``option``),
        ``instrument_id``, ``contract``, ``activation``, ``expiration``.  They say what a quote,
        bar or statistic is about; where they do not, the file's own symbols do, for outright
        futures and options alone.  Definitions need neither.
    source : str
        The ``source`` of the rows.

    Returns
    -------
    Payload
        Futures and options; bars of options, spreads, combinations, user-defined instruments,
        other markets and records of other types are left out and counted.

    Raises
    ------
    BadInput
        At once when the file is not DBN or its schema is not supported; while iterating when it
        is cut off or damaged.
    """
    digest = file_sha256(path)
    header = peek(path)
    payload = Payload(source, path.name, digest, iter(()), kind=header.schema)
    payload.frames = _frames(path, header, markets, instruments, payload)
    return payload


def _frames(
    path: Path,
    header: Header,
    markets: Mapping[str, Market],
    instruments: pl.DataFrame | None,
    payload: Payload,
) -> _Frames:
    kind = _KINDS[header.schema]
    traded = {
        code: market
        for code, market in markets.items()
        if market.databento_dataset == header.dataset
    }
    with open_file(path) as file:
        stream = _Bytes(path, file)
        metadata = stream.metadata()
        decode = _decoder(header.schema, traded, metadata, instruments, payload)
        empty = True
        layout = _layout(kind, metadata)
        payload.layout = {name: layout[name].str for name in layout.names or ()}
        for records in _records(path, stream, layout, kind.rtype, payload.left_out):
            empty = False
            for dataset, frame in decode(records):
                if not frame.is_empty():
                    yield dataset, conform(dataset, frame)
    if empty:
        payload.notes.append("holds no records")
    if metadata.partial or metadata.not_found:
        unresolved = [*metadata.not_found, *metadata.partial]
        shown = ", ".join(unresolved[:5]) + (", …" if len(unresolved) > 5 else "")
        payload.notes.append(f"the vendor did not resolve, or not on all days: {shown}")


def _decoder(
    schema: str,
    markets: Mapping[str, Market],
    metadata: databento_dbn.Metadata,
    instruments: pl.DataFrame | None,
    payload: Payload,
) -> Callable[[_Records], _Frames]:
    if schema == "definition":
        return partial(_definitions, markets=markets, payload=payload)
    identify = _Identify(markets, metadata, instruments)
    if schema == "statistics":
        return partial(_statistics, identify=identify, markets=markets, payload=payload)
    if schema.startswith("ohlcv"):
        dataset = "futures_" + schema.removeprefix("ohlcv-")
        length = _KINDS[schema].bar_ns
        return partial(_bars, dataset=dataset, length=length, identify=identify, payload=payload)
    return partial(_quotes, interval=schema.startswith("bbo"), identify=identify, payload=payload)


# --- bytes -------------------------------------------------------------------------------------


class _Bytes:
    """The decompressed bytes of a DBN file, which must end where its zstd frame ends."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._packed = self._inflated = 0
        self._ahead = bytearray()
        magic = file.read(4)
        file.seek(0)
        self._zstd = magic == zstandard.FRAME_HEADER
        if not self._zstd and magic[:3] != b"DBN":
            what = "is empty" if not magic else "is not a DBN file"
            raise BadInput(f"{path}: {what}; give a .dbn or .dbn.zst file from Databento")
        self._frame = zstandard.ZstdDecompressor().decompressobj()

    def read(self, size: int) -> bytearray:
        """``size`` bytes, or fewer at the end of the data."""
        taken, self._ahead = self._ahead, bytearray()
        while len(taken) < size and (more := self._file.read(_READ_BYTES)):
            taken += self._inflate(more) if self._zstd else more
        if len(taken) < size and self._zstd and not self._frame.eof:
            raise BadInput(
                f"{self._path}: breaks off in the middle of its zstd frame; download it again"
            )
        self._ahead = taken[size:]
        del taken[size:]
        return taken

    def put_back(self, data: bytearray) -> None:
        """Bytes that were read and come again."""
        self._ahead = data + self._ahead

    def _inflate(self, data: bytes) -> bytes:
        parts = []
        self._packed += len(data)
        try:
            while data:
                if self._frame.eof:  # a zstd file may be several frames, one after the other
                    self._frame = zstandard.ZstdDecompressor().decompressobj()
                parts.append(self._frame.decompress(data))
                data = self._frame.unused_data if self._frame.eof else b""
        except zstandard.ZstdError:
            raise BadInput(f"{self._path}: its zstd data is damaged; download it again") from None
        inflated = b"".join(parts)
        self._inflated += len(inflated)
        if self._inflated > max(_UNPROVEN_BYTES, _MAX_RATIO * self._packed):
            raise BadInput(
                f"{self._path}: unpacks to more than {_MAX_RATIO} times its size, as no vendor's "
                "file does; download it again"
            )
        return inflated

    def metadata(self) -> databento_dbn.Metadata:
        """The file's metadata, read from its start; records follow."""
        start = self.read(8)
        length = int.from_bytes(start[4:8], "little")
        if start[:3] != b"DBN" or len(start) < 8 or length > _MAX_METADATA_BYTES:
            raise BadInput(
                f"{self._path}: is not a DBN file; give a .dbn or .dbn.zst file from Databento"
            )
        version = start[3]
        if version not in (1, 2, 3):
            raise BadInput(f"{self._path}: is DBN version {version}; versions 1, 2 and 3 are read")
        body = self.read(length)
        if len(body) < length:
            raise BadInput(
                f"{self._path}: breaks off in the middle of its metadata; download it again"
            )
        try:
            return databento_dbn.Metadata.decode(bytes(start + body), upgrade_policy=_AS_IS)
        except databento_dbn.DBNError:
            raise BadInput(f"{self._path}: its metadata is damaged; download it again") from None


def _schema(path: Path, metadata: databento_dbn.Metadata) -> str:
    schema = "mixed records" if metadata.schema is None else str(metadata.schema)
    if schema not in _KINDS:
        raise BadInput(f"{path}: holds {schema}; the schemas that are read: {', '.join(SCHEMAS)}")
    return schema


def _layout(kind: _Kind, metadata: databento_dbn.Metadata) -> np.dtype[Any]:
    sent_at = [("ts_out", "u8")] if metadata.ts_out else []
    layout: np.dtype[Any] = np.dtype(kind.structs[metadata.version]._dtypes + sent_at)
    return layout


def _records(
    path: Path, stream: _Bytes, dtype: np.dtype[Any], rtype: int, left_out: Counter[str]
) -> Iterator[_Records]:
    """The records of the file's own type, in chunks; others are counted and passed over."""
    while chunk := stream.read(max(_CHUNK_BYTES, _MAX_RECORD_BYTES)):
        runs, end = _runs(path, chunk, dtype, rtype, left_out)
        if end == 0:
            raise BadInput(f"{path}: breaks off in the middle of a record; download it again")
        stream.put_back(chunk[end:])
        records = runs[0] if len(runs) == 1 else np.concatenate(runs)
        if len(records):
            yield records


def _runs(
    path: Path, chunk: bytearray, dtype: np.dtype[Any], rtype: int, left_out: Counter[str]
) -> tuple[list[_Records], int]:
    """The runs of records of one type in ``chunk``, and where its last whole record ends.

    A record says how long it is, so one of a type that is not known here can be passed over too.
    """
    runs: list[_Records] = []
    at = 0
    while True:
        whole = (len(chunk) - at) // dtype.itemsize
        records = np.frombuffer(memoryview(chunk)[at:], dtype, whole)
        run = _own_run(records, rtype)
        runs.append(records[:run])
        at += run * dtype.itemsize
        if len(chunk) - at < _HEADER_BYTES:
            return runs, at
        length, other = 4 * chunk[at], chunk[at + 1]
        if length < _HEADER_BYTES or (other == rtype and length != dtype.itemsize):
            raise BadInput(
                f"{path}: a record of type {other} says that it is {length} bytes long; "
                "download it again"
            )
        if len(chunk) - at < length:
            return runs, at
        left_out[f"record of type {other}"] += 1
        if left_out[f"record of type {other}"] > _MAX_OTHER_RECORDS:
            raise BadInput(f"{path}: holds records of type {other} for the most; give another file")
        at += length


def _own_run(records: _Records, rtype: int) -> int:
    """How many records from the first on are of the type, looked for in steps that double."""
    run, step = 0, 1
    while run < len(records):
        some = records[run : run + step]
        own = (some["rtype"] == rtype) & (some["length"] == records.itemsize // 4)
        if not own.all():
            return run + int(own.argmin())
        run, step = run + len(some), 2 * step
    return run


# --- values ------------------------------------------------------------------------------------


def _price(records: _Records, column: str) -> pl.Series:
    """Fixed-point prices as floats; undefined ones as NULL."""
    fixed = records[column]
    # Dividing is correctly rounded; multiplying by the inexact 1e-9 is not.
    prices = pl.Series(column, fixed / 1e9)
    return prices.set(pl.Series(fixed == _UNDEF_PRICE), None)


def _quantity(records: _Records, column: str) -> pl.Series:
    """Whole numbers; the largest of their type, which stands for undefined, as NULL.

    So do unsigned ones that are larger than any signed one.
    """
    values = records[column]
    undefined = values >= min(np.iinfo(values.dtype).max, np.iinfo(np.int64).max)
    return pl.Series(column, values.astype(np.int64)).set(pl.Series(undefined), None)


def _instant(records: _Records, column: str, *, up: bool = False, plus_ns: int = 0) -> pl.Series:
    """Nanoseconds as UTC microseconds, rounded down or ``up``; NULL where they are no time."""
    ns = records[column]
    undefined = (ns < _EARLIEST_NS) | (ns >= _LATEST_NS)  # the undefined one is the latest of all
    moved = np.where(undefined, 0, ns) + np.uint64(plus_ns + (999 if up else 0))
    micros = (moved // np.uint64(1000)).astype(np.int64)
    return pl.Series(column, micros).cast(UTC).set(pl.Series(undefined), None)


def _text(records: _Records, column: str) -> pl.Series:
    """Zero-padded text; empty as NULL."""
    text = pl.Series(column, np.char.decode(records[column], "utf-8", "replace"), pl.String)
    return text.set(text == "", None)


def _never_after(as_of: str, available_at: str = "available_at") -> pl.Expr:
    """``as_of``, or ``available_at`` where ``as_of`` is undefined or later than that."""
    return pl.min_horizontal(as_of, available_at)


# --- what a record is about --------------------------------------------------------------------


def _roots(markets: Mapping[str, Market]) -> tuple[dict[str, str], dict[str, str]]:
    """Root of a symbol -> market code, for futures and for options."""
    futures = {m.futures_root: code for code, m in markets.items() if m.futures_root}
    options = {root: code for code, m in markets.items() for root in m.option_roots}
    return futures, options


def _market_of(root: pl.Expr, roots: Mapping[str, str]) -> pl.Expr:
    if not roots:
        return pl.lit(None, pl.String)
    return root.replace_strict(dict(roots), default=None, return_dtype=pl.String)


class _Identify:
    """Says which market, kind and contract a vendor's instrument number stands for on a day."""

    def __init__(
        self,
        markets: Mapping[str, Market],
        metadata: databento_dbn.Metadata,
        instruments: pl.DataFrame | None,
    ) -> None:
        self._named = _named_in_file(metadata, markets)
        self._defined = _defined_in_lake(markets, instruments)

    def __call__(self, records: _Records, clock: str) -> pl.DataFrame:
        """``market``, ``kind``, ``contract``, ``reason`` (why not) of each record, in order.

        ``clock`` names the timestamp whose UTC day the vendor's symbols go by.
        """
        days = (records[clock] // np.uint64(86_400 * 10**9)).astype(np.int64)
        ids = records["instrument_id"].astype(np.int64)
        rows = pl.DataFrame({"instrument_id": ids, "day": days})
        keys = rows.unique().sort("day")
        for known in (self._named, self._defined):
            keys = keys.join_asof(
                known,
                left_on="day",
                right_on=known.columns[1],
                by="instrument_id",
                check_sortedness=False,
            )
        named = pl.col("day") < pl.col("named_until")
        symbol = pl.when(named).then(pl.col("symbol"))
        # A number can be given to another instrument: when the file names one, that decides.
        defined = (pl.col("day") <= pl.col("defined_until")) & (
            symbol.is_null() | (symbol == pl.col("defined_contract"))
        )
        keys = keys.select(
            "instrument_id",
            "day",
            *(
                pl.when(defined)
                .then(pl.col(f"defined_{name}"))
                .when(named)
                .then(pl.col(f"named_{name}"))
                .alias(name)
                for name in ("market", "kind")
            ),
            pl.when(defined).then(pl.col("defined_contract")).otherwise(symbol).alias("contract"),
            pl.when(defined)
            .then(None)
            .when(named)
            .then(pl.col("named_reason"))
            .otherwise(pl.lit("unknown instrument"))
            .alias("reason"),
        )
        return rows.join(keys, on=["instrument_id", "day"], how="left", maintain_order="left").drop(
            "day"
        )


def _named_in_file(metadata: databento_dbn.Metadata, markets: Mapping[str, Market]) -> pl.DataFrame:
    """The file's own symbols: one row an instrument number and interval of days."""
    schema = pl.Schema(
        {
            "instrument_id": pl.Int64(),
            "named_from": pl.Int64(),
            "named_until": pl.Int64(),
            "symbol": pl.String(),
        }
    )
    rows: list[tuple[int, int, int, str]] = []
    # Continuous and other smart symbols do not say which contract a number is.
    raw_to_id = str(metadata.stype_in) in ("raw_symbol", "parent")
    id_to_raw = str(metadata.stype_out) == "raw_symbol"
    for given, intervals in metadata.mappings.items():
        for interval in intervals:
            start = interval["start_date"].toordinal() - _EPOCH
            until = interval["end_date"].toordinal() - _EPOCH
            number, raw = (given, interval["symbol"]) if id_to_raw else (interval["symbol"], given)
            if (raw_to_id or id_to_raw) and _NUMBER.fullmatch(number):
                rows.append((int(number), start, until, raw))
    futures, options = _roots(markets)
    symbol = pl.col("symbol")
    return (
        pl.DataFrame(rows, schema=schema, orient="row")
        .with_columns(
            _market_of(symbol.str.extract(_FUTURE), futures).alias("future"),
            _market_of(symbol.str.extract(_OPTION), options).alias("option"),
        )
        .with_columns(
            pl.coalesce("future", "option").alias("named_market"),
            pl.when(pl.col("future").is_not_null())
            .then(pl.lit("future"))
            .when(pl.col("option").is_not_null())
            .then(pl.lit("option"))
            .alias("named_kind"),
        )
        .with_columns(
            pl.when(pl.col("named_market").is_not_null())
            .then(None)
            .when(symbol.str.starts_with("UD:"))
            .then(pl.lit("user-defined"))
            .when(symbol.str.contains(_FUTURE) | symbol.str.contains(_OPTION))
            .then(pl.lit("other market"))
            .otherwise(pl.lit("spread"))
            .alias("named_reason"),
        )
        .drop("future", "option")
        .sort("named_from")
    )


_EPOCH = 719_163  # date(1970, 1, 1).toordinal()


def _defined_in_lake(
    markets: Mapping[str, Market], instruments: pl.DataFrame | None
) -> pl.DataFrame:
    """The lake's definitions: one row a number and contract, with the days it can be met."""
    if instruments is None:
        instruments = pl.DataFrame(
            schema={
                "market": pl.String,
                "kind": pl.String,
                "instrument_id": pl.Int64,
                "contract": pl.String,
                "activation": UTC,
                "expiration": UTC,
            }
        )
    first, last = pl.col("activation"), pl.col("expiration")
    return (
        instruments.filter(pl.col("market").is_in(list(markets)))
        .group_by("instrument_id", "contract", "market", "kind")
        .agg(
            # An undefined end is open.
            pl.when(first.is_not_null().all()).then(first.min().dt.date()).alias("from"),
            pl.when(last.is_not_null().all()).then(last.max().dt.date()).alias("until"),
        )
        .select(
            pl.col("instrument_id").cast(pl.Int64),
            pl.col("from").to_physical().cast(pl.Int64).fill_null(0).alias("defined_from"),
            (pl.col("until").to_physical().cast(pl.Int64) + _AFTER_EXPIRY_DAYS)
            .fill_null(1 << 40)
            .alias("defined_until"),
            pl.col("market").alias("defined_market"),
            pl.col("kind").alias("defined_kind"),
            pl.col("contract").alias("defined_contract"),
        )
        .sort("defined_from", "defined_until", "defined_contract")
    )


def _keep(frame: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """The rows without a ``reason``; the others are counted by it."""
    for reason, rows in frame["reason"].drop_nulls().value_counts().iter_rows():
        left_out[reason] += rows
    return frame.filter(pl.col("reason").is_null())


def _untimed(frame: pl.DataFrame, column: str = "available_at") -> pl.DataFrame:
    """Rows whose ``column`` is undefined get the reason, for they could be placed nowhere."""
    return frame.with_columns(
        pl.when(pl.col(column).is_null())
        .then(pl.lit("no time"))
        .otherwise("reason")
        .alias("reason")
    )


# --- decoders, a chunk of records in, frames out -----------------------------------------------


def _definitions(records: _Records, *, markets: Mapping[str, Market], payload: Payload) -> _Frames:
    futures, options = _roots(markets)
    frame = pl.DataFrame(
        {
            "instrument_id": records["instrument_id"].astype(np.int64),
            "contract": _text(records, "raw_symbol"),
            "series": _text(records, "asset"),
            "expiration": _instant(records, "expiration"),
            "activation": _instant(records, "activation"),
            "tick": _price(records, "min_price_increment"),
            "unit_quantity": _price(records, "unit_of_measure_qty"),
            "currency": _text(records, "currency"),
            "update_action": _text(records, "security_update_action"),
            "class": _text(records, "instrument_class"),
            "user_defined": _text(records, "user_defined_instrument"),
            "strike": _price(records, "strike_price"),
            "underlying": _text(records, "underlying"),
            "underlying_id": records["underlying_id"].astype(np.int64),
            "as_of": _instant(records, "ts_event"),
            "available_at": _instant(records, "ts_recv", up=True),
        }
    )
    contract, underlying = pl.col("contract"), pl.col("underlying")
    is_future, is_option = pl.col("class") == "F", pl.col("class").is_in(["C", "P"])
    frame = frame.with_columns(
        pl.when(is_future)
        .then(_market_of(contract.str.extract(_FUTURE), futures))
        .when(is_option & underlying.is_not_null())
        .then(_market_of(underlying.str.extract(_FUTURE), futures))
        .when(is_option)
        .then(_market_of(contract.str.extract(_OPTION), options))
        .alias("market"),
        _never_after("as_of"),
        pl.col("class").alias("option_type"),
        pl.col("underlying_id").replace(0, None),
        pl.lit(payload.source).alias("source"),
    ).with_columns(
        pl.when(pl.col("user_defined").ne_missing("N"))
        .then(pl.lit("user-defined"))
        .when(pl.col("class").is_in(_SPREADS))
        .then(pl.lit("spread"))
        .when(~(is_future | is_option).fill_null(False))
        .then(pl.lit("neither future nor option"))
        .when(pl.col("market").is_null())
        .then(pl.lit("other market"))
        .when(is_option & pl.col("strike").is_null())
        .then(pl.lit("no strike"))
        .alias("reason")
    )
    frame = _keep(_untimed(frame), payload.left_out)
    yield "futures_definition", frame.filter(is_future)
    yield "option_definition", frame.filter(is_option)


def _bars(
    records: _Records, *, dataset: str, length: int, identify: _Identify, payload: Payload
) -> _Frames:
    end = _instant(records, "ts_event", up=True, plus_ns=length)
    frame = identify(records, "ts_event").with_columns(
        *(_price(records, column) for column in ("open", "high", "low", "close")),
        _quantity(records, "volume"),
        end.alias("as_of"),
        end.alias("available_at"),
        pl.lit(payload.source).alias("source"),
    )
    frame = _untimed(frame).with_columns(
        pl.when(pl.col("kind") == "option")
        .then(pl.lit("bar of an option"))
        .otherwise("reason")
        .alias("reason")
    )
    yield dataset, _keep(frame, payload.left_out)


def _quotes(records: _Records, *, interval: bool, identify: _Identify, payload: Payload) -> _Frames:
    available_at = _instant(records, "ts_recv", up=True)
    as_of = _instant(records, "ts_recv" if interval else "ts_event")
    frame = identify(records, "ts_recv").with_columns(
        _price(records, "bid_px_00").alias("bid"),
        _price(records, "ask_px_00").alias("ask"),
        _quantity(records, "bid_sz_00").alias("bid_size"),
        _quantity(records, "ask_sz_00").alias("ask_size"),
        pl.Series("sequence", records["sequence"].astype(np.int64)),
        as_of.alias("as_of"),
        available_at.alias("available_at"),
        pl.lit("stream").alias("feed"),
        pl.lit(None, pl.Float64).alias("underlying_price"),
        pl.lit(payload.source).alias("source"),
    )
    frame = _keep(_untimed(frame), payload.left_out).with_columns(
        _never_after("as_of"),
        pl.when(pl.col("bid").is_not_null()).then("bid_size").alias("bid_size"),
        pl.when(pl.col("ask").is_not_null()).then("ask_size").alias("ask_size"),
    )
    yield "futures_quote", frame.filter(pl.col("kind") == "future")
    yield "option_quote", frame.filter(pl.col("kind") == "option")


def _statistics(
    records: _Records,
    *,
    identify: _Identify,
    markets: Mapping[str, Market],
    payload: Payload,
) -> _Frames:
    flags = records["stat_flags"].astype(np.int32)
    settlement = records["stat_type"] == _SETTLEMENT
    frame = identify(records, "ts_recv").with_columns(
        _instant(records, "ts_ref").dt.date().alias("ref_date"),
        pl.Series("sequence", records["sequence"].astype(np.int64)),
        pl.Series("stat_type", records["stat_type"].astype(np.int32)),
        _price(records, "price"),
        _quantity(records, "quantity"),
        pl.Series("is_final", (flags & 1) == 1).set(
            pl.Series(~settlement | (flags == _UNDEF_FLAGS)), None
        ),
        pl.Series("stat_flags", flags),
        pl.Series("is_deleted", records["update_action"] == _DELETED),
        _instant(records, "ts_event").alias("as_of"),
        _instant(records, "ts_recv", up=True).alias("available_at"),
        pl.lit(payload.source).alias("source"),
    )
    frame = _keep(_untimed(frame), payload.left_out)
    closes = _session_closes(frame, markets)
    frame = frame.join(closes, on=["market", "ref_date"], how="left").with_columns(
        pl.min_horizontal(pl.coalesce("close_at", "as_of"), "available_at").alias("as_of")
    )
    yield "futures_stat", frame.filter(pl.col("kind") == "future")
    yield "option_stat", frame.filter(pl.col("kind") == "option")


def _session_closes(frame: pl.DataFrame, markets: Mapping[str, Market]) -> pl.DataFrame:
    """``close_at`` of each market and reference date in ``frame``."""
    schema = pl.Schema({"market": pl.String(), "ref_date": pl.Date(), "close_at": UTC})
    parts = [pl.DataFrame(schema=schema)]
    dates = frame.select("market", "ref_date").unique().drop_nulls().sort("market", "ref_date")
    for part in dates.partition_by("market"):
        closes = session_close_at(markets[part["market"][0]], part["ref_date"])
        parts.append(part.with_columns(closes.alias("close_at").cast(UTC)))
    return pl.concat(parts)
