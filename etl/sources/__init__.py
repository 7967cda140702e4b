"""Vendors: each module knows one of them and returns frames in the raw schemas."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from etl.errors import printable
from etl.outside import EARLIEST, LATEST, open_file
from etl.schemas import source_schema

__all__ = ["Payload", "conform", "file_sha256", "parse_date", "text_layout"]

_NUMBER = re.compile(r"[+-]?\d*\.?\d+")


@dataclass
class Payload:
    """What one vendor file or answer holds, in the raw schemas.

    Attributes
    ----------
    source : str
        The ``source`` of every row: ``databento``, ``sample``, ``cftc``, ``chain-cboe``, …
    description : str
        The file or request for a person; never a secret.
    sha256 : str
        Hex digest of the bytes as they came, the payload's identity.
    frames : Iterator of (str, polars.DataFrame)
        Dataset name and rows exactly in ``schemas.source_schema(dataset)``, in chunks of bounded
        size.  Iterating raises ``BadInput`` when the rest turns out damaged, so what came before
        counts only once the iterator has ended.
    left_out : Counter of str
        Reason -> rows not taken; complete once the iterator has ended.
    notes : list of str
        What a person should know about the payload, without its description again; complete once
        the iterator has ended.
    kind : str
        What sort of file it is, in the vendor's words: ``bbo-1m``, ``cboe``, …
    layout : dict of str
        Column -> type as the vendor sent them, read or not; complete once the iterator has ended.
    cost_usd : float or None
        What the vendor asks for it; None where nobody is paid.
    """

    source: str
    description: str
    sha256: str
    frames: Iterator[tuple[str, pl.DataFrame]]
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    kind: str = ""
    layout: dict[str, str] = field(default_factory=dict)
    cost_usd: float | None = None

    def __post_init__(self) -> None:
        self.description = printable(self.description)  # it is kept, in UTF-8


def conform(dataset: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The dataset's columns of ``frame``, in the schema's order and types."""
    return frame.select(pl.col(name).cast(dtype) for name, dtype in source_schema(dataset).items())


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes; ``BadInput`` when it is none that can be read."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_layout(names: Sequence[str], line: Sequence[str]) -> dict[str, str]:
    """Column -> type of a text file: ``number`` or ``text`` as in its first line.

    A column that is blank there, or a lone point, has no type; a repeated name gets its place.
    """
    layout: dict[str, str] = {}
    for place, (name, value) in enumerate(zip(names, line, strict=False)):
        bare = value.strip().rstrip("% ").replace(",", "")
        kind = "number" if _NUMBER.fullmatch(bare) else "text"
        kind = "" if bare in {"", "."} else kind
        layout[f"{name} {place}" if name in layout else name] = kind
    return layout


def parse_date(text: str, *forms: str) -> date | None:
    """The date that ``text`` is in the first of ``forms`` (``strptime``) that fits.

    None where there is no such, or it lies too far off to be meant.
    """
    for form in forms:
        try:
            read = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return read.date() if EARLIEST <= read < LATEST else None
    return None
