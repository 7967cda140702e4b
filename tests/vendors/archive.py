"""What Databento's archive holds: the sample vendor's records, cut and merged as a request asks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import databento_dbn
import numpy as np
import zstandard
from databento_dbn.metadata import MappingInterval
from numpy.typing import NDArray

from etl.market import Market
from etl.sources import sample
from etl.sources.sample.dbn_files import Interval

__all__ = ["DATASET", "SCHEMAS", "Archive", "Selection"]

DATASET = "GLBX.MDP3"

_Records = NDArray[np.void]

_RTypes = databento_dbn.RType
_STRUCTS: Mapping[str, tuple[Any, int]] = {
    "definition": (databento_dbn.InstrumentDefMsg, _RTypes.INSTRUMENT_DEF),
    "ohlcv-1d": (databento_dbn.OHLCVMsg, _RTypes.OHLCV_1D),
    "ohlcv-1m": (databento_dbn.OHLCVMsg, _RTypes.OHLCV_1M),
    "bbo-1m": (databento_dbn.BBOMsg, _RTypes.BBO_1M),
    "mbp-1": (databento_dbn.MBP1Msg, _RTypes.MBP_1),
    "statistics": (databento_dbn.StatMsg, _RTypes.STATISTICS),
}
#: The schemas that the archive has.
SCHEMAS = tuple(_STRUCTS)
_DAY = timedelta(days=1)
_BLOCK = 1 << 14


@dataclass(slots=True)
class _Mapping:
    raw_symbol: str
    intervals: Sequence[MappingInterval]


@dataclass(frozen=True)
class Selection:
    """The records that answer one request, in order of time, and what their header says."""

    schema: str
    stype_in: str
    symbols: tuple[str, ...]
    start: int  # ns since 1970, UTC
    end: int
    limit: int | None
    records: _Records
    mappings: Mapping[str, Sequence[Interval]]
    partial: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that are billed: the records, uncompressed."""
        return int(self.records.nbytes)

    @property
    def times(self) -> NDArray[np.uint64]:
        """What a range filters on: ``ts_recv``, or ``ts_event`` where a schema has none."""
        return np.asarray(self.records[_time(self.records)])

    def only(self, which: slice | NDArray[np.bool_]) -> Selection:
        """The same request with some of its records."""
        return replace(self, records=self.records[which])

    def encode(self, *, compression: str = "zstd", ended: bool = True) -> bytes:
        """A DBN file; one that is not ``ended`` stops after a whole record inside its frame."""
        metadata = databento_dbn.Metadata(
            dataset=DATASET,
            start=self.start,
            end=self.end,
            limit=self.limit,
            stype_in=databento_dbn.SType.from_str(self.stype_in),
            stype_out=databento_dbn.SType.from_str("instrument_id"),
            schema=databento_dbn.Schema.from_str(self.schema),
            symbols=list(self.symbols),
            partial=list(self.partial),
            not_found=list(self.not_found),
            mappings=[_Mapping(symbol, self.mappings[symbol]) for symbol in sorted(self.mappings)],
            version=3,
        )
        raw = metadata.encode() + self.records.tobytes()
        if compression == "none":
            return raw
        return _compressed(raw, ended)


class _Parent(NamedTuple):
    """All instruments of one parent symbol."""

    records: Mapping[str, _Records]
    mappings: Mapping[str, Sequence[Interval]]


class Archive:
    """The sample vendor's records of some markets between two midnights in UTC."""

    def __init__(self, markets: Sequence[Market], start: datetime, end: datetime) -> None:
        self.start, self.end = start, end
        self._parents: dict[str, _Parent] = {}
        for market in markets:
            with tempfile.TemporaryDirectory(prefix="vendors-") as folder:
                self._take(sample.fetch(market, start, end, Path(folder)))

    @property
    def parents(self) -> tuple[str, ...]:
        """The parent symbols, such as ``HE.FUT``."""
        return tuple(self._parents)

    def _take(self, paths: Sequence[Path]) -> None:
        records: dict[str, dict[str, _Records]] = {}
        mappings: dict[str, dict[str, Sequence[Interval]]] = {}
        for path in paths:
            metadata, made = _read(path)
            (parent,) = metadata.symbols
            schema = str(metadata.schema)
            records.setdefault(parent, {})[schema] = made
            mappings[parent] = {
                symbol: [
                    Interval(one["start_date"], one["end_date"], one["symbol"]) for one in listed
                ]
                for symbol, listed in metadata.mappings.items()
            }
        for parent, held in records.items():
            held["mbp-1"] = _updates(held["bbo-1m"])
            self._parents[parent] = _Parent(held, mappings[parent])

    def resolve(
        self, symbols: Sequence[str], stype_in: str, first: date, stop: date
    ) -> dict[str, dict[str, list[Interval]]]:
        """Symbol -> the raw symbols that it names in the dates, with their ids; empty if none."""
        return {
            symbol: {
                raw: inside
                for parent, held in self._parents.items()
                for raw, listed in held.mappings.items()
                if (inside := _named(symbol, stype_in, parent, raw, listed, first, stop))
            }
            for symbol in symbols
        }

    def select(
        self,
        schema: str,
        symbols: Sequence[str],
        stype_in: str,
        start: int,
        end: int,
        limit: int | None,
        without: Sequence[date] = (),
    ) -> Selection:
        """The records of ``start`` to ``end`` (ns, exclusive), but for those of some UTC days."""
        first, stop = _day(start), _day(end - 1) + _DAY
        found = self.resolve(symbols, stype_in, first, stop)
        mappings = {raw: listed for named in found.values() for raw, listed in named.items()}
        ids = np.array(
            sorted({int(one.symbol) for listed in mappings.values() for one in listed}), np.uint32
        )
        struct, _ = _STRUCTS[schema]
        layout = np.dtype(struct._dtypes)
        parts = [
            held.records[schema][_inside(held.records[schema], start, end, ids, without)]
            for held in self._parents.values()
            if schema in held.records
        ]
        records = np.concatenate([np.zeros(0, layout), *parts])
        order = np.argsort(records[_time(records)], kind="stable")
        return Selection(
            schema,
            stype_in,
            tuple(symbols),
            start,
            end,
            limit,
            records[order][:limit],
            mappings,
            not_found=tuple(symbol for symbol, named in found.items() if not named),
        )


def _compressed(raw: bytes, ended: bool) -> bytes:
    """One zstd frame of small blocks, as of a stream that is sent while it is made."""
    stream = zstandard.ZstdCompressor(level=1).compressobj()
    parts = []
    for start in range(0, len(raw), _BLOCK):
        parts.append(stream.compress(raw[start : start + _BLOCK]))
        parts.append(stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    return b"".join(parts) + (stream.flush() if ended else b"")


def _read(path: Path) -> tuple[databento_dbn.Metadata, _Records]:
    raw = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    metadata = databento_dbn.Metadata.decode(raw)
    struct, _ = _STRUCTS[str(metadata.schema)]
    head = 8 + int.from_bytes(raw[4:8], "little")
    return metadata, np.frombuffer(raw[head:], np.dtype(struct._dtypes))


def _updates(quotes: _Records) -> _Records:
    """The same quotes as updates of the book, each when it was received."""
    struct, rtype = _STRUCTS["mbp-1"]
    made = np.zeros(len(quotes), np.dtype(struct._dtypes))
    for name in set(made.dtype.names or ()) & set(quotes.dtype.names or ()):
        made[name] = quotes[name]
    made["length"] = made.dtype.itemsize // 4
    made["rtype"] = int(rtype)
    made["ts_event"] = quotes["ts_recv"]
    made["action"] = b"M" if made.dtype["action"].kind == "S" else ord("M")
    return made


def _named(
    symbol: str,
    stype_in: str,
    parent: str,
    raw: str,
    listed: Sequence[Interval],
    first: date,
    stop: date,
) -> list[Interval]:
    """The part of a listing that ``symbol`` names and that lies in the dates."""
    if stype_in == "parent" and symbol not in (parent, "ALL_SYMBOLS"):
        return []
    if stype_in == "raw_symbol" and symbol not in (raw, "ALL_SYMBOLS"):
        return []
    return [
        Interval(max(one.start_date, first), min(one.end_date, stop), one.symbol)
        for one in listed
        if one.start_date < stop
        and one.end_date > first
        and (stype_in != "instrument_id" or symbol == one.symbol)
    ]


def _inside(
    records: _Records, start: int, end: int, ids: NDArray[np.uint32], without: Sequence[date]
) -> NDArray[np.bool_]:
    at = records[_time(records)]
    inside = (at >= start) & (at < end) & np.isin(records["instrument_id"], ids)
    days = at.astype("datetime64[ns]").astype("datetime64[D]")
    return np.asarray(inside & ~np.isin(days, np.array(without, "datetime64[D]")))


def _time(records: _Records) -> str:
    return "ts_recv" if "ts_recv" in (records.dtype.names or ()) else "ts_event"


def _day(at: int) -> date:
    return datetime.fromtimestamp(at // 1_000_000_000, UTC).date()
