"""The CFTC's Commitments of Traders: its yearly files as rows.

Three sets of trader classes are read, each counted in futures only and in futures and options
combined: the Disaggregated report, the Legacy one and Traders in Financial Futures.  A zip a year
(``fut_disagg_txt_2024.zip``) is written anew every week, and there is one for the years to 2016.
Each holds one comma-separated text.  Over the years its header, its date form and the padding of
its fields changed; all are read here.  The CFTC's "Explanatory Notes" describe the columns.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl

from etl.cot_releases import releases, report_as_of
from etl.errors import BadInput
from etl.market import Market
from etl.outside import open_file, read_file
from etl.schemas import DATASETS
from etl.sources import Payload, conform, file_sha256, parse_date, text_layout

__all__ = ["FIRST_YEAR", "newest_report", "read"]

#: Reports of the years before were fewer, came out later, and are not read.
FIRST_YEAR = 2006

_MAX_TEXT_BYTES = 1 << 29  # eleven years of history are a third of this
_MAX_ZIP_BYTES = 1 << 27
#: How an entry of a zip's directory begins, and how many of it, or of its look-alikes, are read.
_ENTRY, _MAX_ENTRIES = b"PK\x01\x02", 100
_LINE = 1 << 16  # characters; the longest of theirs have a twentieth
_CONTRACTS = re.compile(r"[+-]?[0-9]{1,12}")


@dataclass(frozen=True)
class _Kind:
    """A set of trader classes: the dataset it lands in and the columns it is read from."""

    name: str
    dataset: str
    columns: Mapping[str, str]  # the lake's column -> the report's, as `_plain` writes it

    @property
    def needed(self) -> list[str]:
        return [_NAME, _CODE, *self.columns.values()]


def _kind(name: str, dataset: str, spread: str, **prefixes: str) -> _Kind:
    """A kind whose classes' columns begin with ``prefixes`` and call a spread ``spread``."""
    sides = {"long": "long", "short": "short", "spread": spread}
    columns = {"open_interest": "open_interest_all"}
    for trader, prefix in prefixes.items():
        for side, word in sides.items():
            if f"{trader}_{side}" in DATASETS[dataset]:
                columns[f"{trader}_{side}"] = f"{prefix}_positions_{word}_all"
    return _Kind(name, dataset, columns)


_NAME = "market_and_exchange_names"
_CODE = "cftc_contract_market_code"
_SCOPE = "futonly_or_combined"
#: Date columns, the preferred one first: years of two digits last.
_DATES = (
    "report_date_as_yyyy_mm_dd",
    "report_date_as_mm_dd_yyyy",
    "as_of_date_in_form_yyyy_mm_dd",
    "as_of_date_in_form_yymmdd",
)
_KINDS = (
    _kind(
        "disaggregated",
        "cot",
        "spread",
        prod_merc="prod_merc",
        swap="swap",
        managed_money="m_money",
        other_reportable="other_rept",
        nonreportable="nonrept",
    ),
    _kind(
        "legacy",
        "cot_legacy",
        "spreading",
        noncommercial="noncommercial",
        commercial="commercial",
        nonreportable="nonreportable",
    ),
    _kind(
        "financial",
        "cot_financial",
        "spread",
        dealer="dealer",
        asset_manager="asset_mgr",
        leveraged="lev_money",
        other_reportable="other_rept",
        nonreportable="nonrept",
    ),
)
_SCOPES = {"futonly": "futures", "combined": "combined"}
#: The Legacy report does not say what it counts, but for the name of its text, or of its zip.
_LEGACY_NAMES = re.compile(
    r"(?P<futonly>annual\.txt|fut86_16|deacot)|(?P<combined>annualof|com95_16|deahistfo)", re.I
)

#: What zipfile and csv raise on damage: RuntimeError on encryption, ValueError and IndexError on
#: offsets and names that cannot be.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, csv.Error),
    *(ValueError, IndexError, OSError, struct.error),
)

_Row = dict[str, object]


def read(
    path_or_bytes: Path | bytes, markets: Mapping[str, Market], source: str = "cftc"
) -> Payload:
    """The reports of ``markets`` in one of the CFTC's zips, or in the text that is in it.

    Parameters
    ----------
    path_or_bytes : Path or bytes
        A zip as published, or its text.
    markets : mapping of str to Market
        The markets to take, by code; one without a ``cot_code`` has no report.
    source : str
        The ``source`` of the rows.

    Returns
    -------
    Payload
        One frame of ``cot``, ``cot_legacy`` or ``cot_financial``; its ``report`` names the kind
        and what is counted, ``disaggregated_futures`` or ``disaggregated_combined``.
        ``available_at`` is the release of the first publication: a value that was revised later
        is known to this lake from when it saw the change.

    Raises
    ------
    BadInput
        At once when the bytes are no such file; while iterating when the text is damaged or of
        another report.
    """
    text = _text(path_or_bytes)
    if isinstance(path_or_bytes, bytes):
        sha256 = hashlib.sha256(path_or_bytes).hexdigest()
    else:
        sha256 = file_sha256(path_or_bytes)
    payload = Payload(source, text.where, sha256, iter(()))
    payload.frames = _frames(text, markets, payload)
    return payload


def newest_report(path: Path) -> tuple[str, date]:
    """The report that a file holds, ``disaggregated_futures``, and its newest date.

    Raises
    ------
    BadInput
        The file is no report, is damaged, or has no row.
    """
    text = _text(path)
    dated = ((report, _date(fields, text.where)) for _, report, fields in _lines(text, {}))
    newest = max(dated, default=None)
    if newest is None:
        raise BadInput(f"{text.where}: holds no report; download it again")
    return newest


def _frames(
    text: _Text, markets: Mapping[str, Market], payload: Payload
) -> Iterator[tuple[str, pl.DataFrame]]:
    by_code: dict[str, list[str]] = {}
    for code, market in markets.items():
        if market.cot_code:
            by_code.setdefault(market.cot_code, []).append(code)
    rows: dict[tuple[str, date], _Row] = {}
    dataset = ""
    for kind, report, fields in _lines(text, payload.layout):
        dataset, payload.kind = kind.dataset, report
        cot_code = fields[_CODE].zfill(6)
        if cot_code not in by_code:
            payload.left_out["other market"] += 1
            continue
        day = _date(fields, text.where)
        if day.year < FIRST_YEAR:
            payload.left_out[f"before {FIRST_YEAR}"] += 1
            continue
        row: _Row = {
            "report": report,
            "report_date": day,
            "cot_code": cot_code,
            "name": fields[_NAME],
            **{
                ours: _number(fields[theirs], theirs, cot_code, text.where)
                for ours, theirs in kind.columns.items()
            },
        }
        if rows.setdefault((cot_code, day), row) != row:
            raise BadInput(
                f"{text.where}: two different rows for {cot_code} of {day}; download it again"
            )
    if not rows:
        payload.notes.append("holds no report of the markets asked for")
        return
    schema = {"market": pl.String(), **DATASETS[dataset]}
    del schema["release_estimated"]
    frame = pl.DataFrame(
        [
            {"market": code, **row}
            for row in rows.values()
            for code in by_code[str(row["cot_code"])]
        ],
        schema=schema,
    ).sort("market", "report_date")
    dates = frame["report_date"].unique().sort()
    calendar = releases(dates)
    calendar = calendar.with_columns(report_as_of(calendar["report_date"]).alias("as_of"))
    yield (
        dataset,
        conform(
            dataset,
            frame.join(calendar, on="report_date", how="left", maintain_order="left").with_columns(
                pl.col("estimated").alias("release_estimated"),
                pl.lit(payload.source).alias("source"),
            ),
        ),
    )


# --- the text, in its zip or out of it ---------------------------------------------------------


@dataclass(frozen=True)
class _Text:
    """A report's text that can be opened, and what to call it."""

    where: str  # the file, for a person
    name: str  # the text's own name
    open: Callable[[], BinaryIO]


def _text(path_or_bytes: Path | bytes) -> _Text:
    """The one text of a file, found safe to read."""
    where = "CFTC file" if isinstance(path_or_bytes, bytes) else path_or_bytes.name

    def opened() -> BinaryIO:
        if isinstance(path_or_bytes, bytes):
            return io.BytesIO(path_or_bytes)
        return open_file(path_or_bytes)

    with opened() as file:
        start = file.read(64).lstrip()
        size = file.seek(0, io.SEEK_END)
    if start.removeprefix(codecs.BOM_UTF8).strip(b'"').lower().startswith(b"market"):
        text, unpacked = _Text(where, where, opened), size
    else:
        text, unpacked = _member(path_or_bytes, where, is_html=start.startswith(b"<"))
    if unpacked > _MAX_TEXT_BYTES:
        raise BadInput(
            f"{where}: {text.name} is {unpacked:,} bytes, more than any report of the CFTC's; "
            "download it again"
        )
    return text


def _member(path_or_bytes: Path | bytes, where: str, is_html: bool) -> tuple[_Text, int]:
    """The one text of a zip, and its size."""
    data = path_or_bytes
    if not isinstance(data, bytes):
        data = read_file(data, _MAX_ZIP_BYTES)
    if (entries := data.count(_ENTRY)) > _MAX_ENTRIES:  # before a list of millions is made of them
        raise BadInput(f"{where}: holds {entries:,} files; the CFTC's zips hold one text each")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        texts = [info for info in archive.infolist() if not info.is_dir()]
    except _DAMAGE:
        what = "is an HTML page" if is_html else "is not a whole zip"
        raise BadInput(
            f"{where}: {what}; give a zip of the CFTC's, such as fut_disagg_txt_2024.zip"
        ) from None
    if len(texts) != 1:
        raise BadInput(f"{where}: holds {len(texts)} files; the CFTC's zips hold one text each")
    (info,) = texts
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInput(f"{where}: is packed as the CFTC packs nothing; download it again")
    return _Text(where, info.filename, lambda: _unpacked(archive, info)), info.file_size


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    return cast(BinaryIO, archive.open(info))


def _lines(text: _Text, layout: dict[str, str]) -> Iterator[tuple[_Kind, str, dict[str, str]]]:
    """Each row's kind and report, the same in all of them, and column -> stripped field.

    ``layout`` takes the types of the columns.
    """
    where = text.where
    report = ""
    try:
        with text.open() as binary:
            decoded = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace", newline="")
            # No field of theirs goes on in a next line, and no line is long: what does or is
            # would have to be held whole.
            lines = iter(partial(decoded.readline, _LINE), "")
            rows = (next(csv.reader((line,))) for line in lines)
            header = [_plain(name) for name in next(rows, [])]
            kind, wanted = _wanted(header, where)
            for number, line in enumerate(rows, start=2):
                if not line:
                    continue
                if len(line) != len(header):
                    raise BadInput(
                        f"{where}: line {number} of {text.name} has {len(line)} fields, its "
                        f"header {len(header)}; download it again"
                    )
                if not layout:
                    layout |= text_layout(header, line)
                fields = {name: line[place].strip() for name, place in wanted.items()}
                found = f"{kind.name}_{_scope(fields, text)}"
                if found != (report := report or found):
                    raise BadInput(
                        f"{where}: line {number} of {text.name} is of the {found} report, those "
                        f"before it of {report}; download it again"
                    )
                yield kind, report, fields
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f"{where}: {text.name} cannot be read ({reason}); download it again"
        ) from None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9%]+", "_", name.lower()).strip("_")


def _wanted(header: Sequence[str], where: str) -> tuple[_Kind, dict[str, int]]:
    """The kind that has a header, and column -> place of what is read from a row."""
    lacks = [[name for name in kind.needed if name not in header] for kind in _KINDS]
    missing, kind = min(zip(lacks, _KINDS, strict=True), key=lambda pair: len(pair[0]))
    dates = [name for name in _DATES if name in header]
    if missing or not dates:
        raise BadInput(
            f"{where}: is not a report that is read here (no column "
            f"{(missing or _DATES)[0]}); give a Disaggregated, Legacy or Financial one"
        )
    names = [*kind.needed, *dates, *(name for name in (_SCOPE,) if name in header)]
    return kind, {name: header.index(name) for name in names}


def _scope(fields: Mapping[str, str], text: _Text) -> str:
    """What a row counts: ``futures`` or ``combined``."""
    if _SCOPE in fields:
        stated = fields[_SCOPE].lower()
    else:
        named = _LEGACY_NAMES.search(text.name) or _LEGACY_NAMES.search(text.where)
        stated = (named and named.lastgroup) or ""
    if stated not in _SCOPES:
        raise BadInput(
            f"{text.where}: does not say whether it counts options too; keep the CFTC's names, "
            "such as deacot2024.zip and deahistfo2024.zip"
        )
    return _SCOPES[stated]


def _date(fields: Mapping[str, str], where: str) -> date:
    column = next(name for name in _DATES if name in fields)
    text = fields[column]
    if column == _DATES[-1]:
        text = text.zfill(6)  # an integer: 060613 comes as 60613
        day = parse_date(text, "%y%m%d")
    else:
        # A column's name and its content disagree in some years, so both forms are tried.
        text = text.split(" ")[0].split("T")[0]
        day = parse_date(text, "%Y-%m-%d", "%m/%d/%Y", "%m-%d-%Y", "%m_%d_%Y")
    if day is None:
        raise BadInput(f"{where}: {column} holds {fields[column]!r}, not a date; download it again")
    return day


def _number(text: str, column: str, cot_code: str, where: str) -> int | None:
    if text in ("", "."):
        return None
    if not _CONTRACTS.fullmatch(plain := text.replace(",", "")):
        raise BadInput(
            f"{where}: {column} of {cot_code} holds {text!r}, not a whole number of contracts; "
            "download it again"
        )
    return int(plain)
