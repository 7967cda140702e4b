"""DBN files written through databento_dbn: its metadata encoder and its record layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import databento_dbn as dbn
import numpy as np
import zstandard
from databento_dbn.metadata import MappingInterval
from numpy.typing import NDArray

__all__ = [
    "DATASET",
    "UNDEF_PRICE",
    "UNDEF_QUANTITY",
    "UNDEF_TIME",
    "DbnFile",
    "Interval",
    "records",
]

Records = NDArray[np.void]

DATASET = "GLBX.MDP3"
UNDEF_PRICE = dbn.UNDEF_PRICE
UNDEF_QUANTITY = dbn.UNDEF_STAT_QUANTITY
UNDEF_TIME = dbn.UNDEF_TIMESTAMP

_PUBLISHER = 1  # GLBX.MDP3.GLBX
_LAYOUTS: Mapping[str, tuple[Any, int]] = {
    "definition": (dbn.InstrumentDefMsg, dbn.RType.INSTRUMENT_DEF),
    "ohlcv-1d": (dbn.OHLCVMsg, dbn.RType.OHLCV_1D),
    "ohlcv-1m": (dbn.OHLCVMsg, dbn.RType.OHLCV_1M),
    "mbp-1": (dbn.MBP1Msg, dbn.RType.MBP_1),
    "bbo-1m": (dbn.BBOMsg, dbn.RType.BBO_1M),
    "statistics": (dbn.StatMsg, dbn.RType.STATISTICS),
}


@dataclass(slots=True)
class Interval:
    """The dates in which a symbol names one instrument id; the last one is exclusive."""

    start_date: date
    end_date: date
    symbol: str


@dataclass(slots=True)
class _Mapping:
    raw_symbol: str
    intervals: Sequence[MappingInterval]


def records(schema: str, n: int) -> Records:
    """Return ``n`` records of a schema, headers set and every other field zero."""
    message, rtype = _LAYOUTS[schema]
    layout: np.dtype[np.void] = np.dtype(message._dtypes)
    made: Records = np.zeros(n, dtype=layout)
    made["length"] = layout.itemsize // 4
    made["rtype"] = int(rtype)
    made["publisher_id"] = _PUBLISHER
    return made


class DbnFile:
    """A zstd-compressed DBN file that is being written, as a parent-symbol request returns it.

    Parameters
    ----------
    start, end : ns since 1970, UTC; ``end`` is exclusive
    mappings : raw symbol -> the instruments it names over the range
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        parent: str,
        start: int,
        end: int,
        mappings: Mapping[str, Sequence[Interval]],
    ) -> None:
        self.path = path
        metadata = dbn.Metadata(
            dataset=DATASET,
            start=start,
            end=end,
            stype_in=dbn.SType.from_str("parent"),
            stype_out=dbn.SType.from_str("instrument_id"),
            schema=dbn.Schema.from_str(schema),
            symbols=[parent],
            partial=[],
            not_found=[],
            mappings=[_Mapping(symbol, mappings[symbol]) for symbol in sorted(mappings)],
            version=3,
        )
        self._head = metadata.encode()
        self._file: Any = None
        self._stream: Any = None

    def __enter__(self) -> Self:
        self._file = self.path.open("xb")
        self._stream = zstandard.ZstdCompressor(level=3).stream_writer(self._file)
        self._stream.write(self._head)
        return self

    def write(self, made: Records) -> None:
        """Append records, already in order of time."""
        self._stream.write(np.ascontiguousarray(made).view(np.uint8).data)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()  # ends the frame and closes the file
        if error is not None:
            self.path.unlink()
