"""The CFTC's Disaggregated Futures-Only report: its zips as rows, and their download.

The report is one of the Commitments of Traders.  A zip a year (``fut_disagg_txt_2024.zip``) is
written anew every week, and there is one for 2006 to 2016.  Each holds one comma-separated text.
Over the years its header, its date form and the padding of its fields changed; all are read here.
The CFTC's "Disaggregated Explanatory Notes" describe the columns.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path

import polars as pl
import requests
import tenacity

from etl.cot_releases import releases, report_as_of
from etl.errors import BadInput, VendorError
from etl.market import Market
from etl.outside import read_file
from etl.schemas import DATASETS
from etl.sources import Payload, conform, parse_date

__all__ = ["HISTORY_URL", "REPORT", "fetch", "read"]

REPORT = "disaggregated_futures"
HISTORY_URL = "https://cftc.gov/files/dea/history/"

_LAST_YEAR_OF_HISTORY = 2016
_MAX_TEXT_BYTES = 1 << 29  # eleven years of history are a third of this
_MAX_ZIP_BYTES = 1 << 27
_TIMEOUTS = (10.0, 60.0)  # seconds to connect, and between bytes
_ATTEMPTS = 4
_FIRST_WAIT = 1.0

#: The lake's column -> the report's, with its underscores and dashes made one ``_``.
_COLUMNS = {
    "open_interest": "open_interest_all",
    "prod_merc_long": "prod_merc_positions_long_all",
    "prod_merc_short": "prod_merc_positions_short_all",
    "swap_long": "swap_positions_long_all",
    "swap_short": "swap_positions_short_all",
    "swap_spread": "swap_positions_spread_all",
    "managed_money_long": "m_money_positions_long_all",
    "managed_money_short": "m_money_positions_short_all",
    "managed_money_spread": "m_money_positions_spread_all",
    "other_reportable_long": "other_rept_positions_long_all",
    "other_reportable_short": "other_rept_positions_short_all",
    "other_reportable_spread": "other_rept_positions_spread_all",
    "nonreportable_long": "nonrept_positions_long_all",
    "nonreportable_short": "nonrept_positions_short_all",
}
_NAME = "market_and_exchange_names"
_CODE = "cftc_contract_market_code"
_SCOPE = "futonly_or_combined"
#: Date columns, the preferred one first: years of two digits last.
_DATES = ("report_date_as_yyyy_mm_dd", "report_date_as_mm_dd_yyyy", "as_of_date_in_form_yymmdd")

#: What zipfile and csv raise on damage: RuntimeError on encryption, ValueError and IndexError on
#: offsets and names that cannot be.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, csv.Error),
    *(ValueError, IndexError, OSError, struct.error),
)
#: How an entry of a zip's directory begins, and how many of it, or of its look-alikes, are read.
_ENTRY, _MAX_ENTRIES = b"PK\x01\x02", 100
_LINE = 1 << 16  # characters; the longest of theirs have a twentieth

_CONTRACTS = re.compile(r"[+-]?[0-9]{1,12}")

_Row = dict[str, object]


def read(
    path_or_bytes: Path | bytes, markets: Mapping[str, Market], source: str = "cftc"
) -> Payload:
    """The reports of ``markets`` in one of the CFTC's zips.

    Parameters
    ----------
    path_or_bytes : Path or bytes
        A zip as published.
    markets : mapping of str to Market
        The markets to take, by code; one without a ``cot_code`` has no report.
    source : str
        The ``source`` of the rows.

    Returns
    -------
    Payload
        One frame of ``cot``.  ``available_at`` is the release of the first publication: a value
        that was revised later is known to this lake from when it saw the change.

    Raises
    ------
    BadInput
        At once when the bytes are not such a zip; while iterating when the text is damaged or
        another report (combined, legacy, financial).
    """
    if isinstance(path_or_bytes, bytes):
        data, where = path_or_bytes, "CFTC zip"
    else:
        data, where = read_file(path_or_bytes, _MAX_ZIP_BYTES), path_or_bytes.name
    archive, member = _member(data, where)
    payload = Payload(source, where, hashlib.sha256(data).hexdigest(), iter(()))
    payload.frames = _frames(archive, member, where, markets, payload)
    return payload


def _frames(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    where: str,
    markets: Mapping[str, Market],
    payload: Payload,
) -> Iterator[tuple[str, pl.DataFrame]]:
    by_code: dict[str, list[str]] = {}
    for code, market in markets.items():
        if market.cot_code:
            by_code.setdefault(market.cot_code, []).append(code)
    own = DATASETS["cot"]
    schema = pl.Schema(
        {
            "market": pl.String(),
            **{name: own[name] for name in own if name != "release_estimated"},
        }
    )
    rows: dict[tuple[object, object], _Row] = {}
    others = 0
    for fields in _lines(archive, member, where):
        cot_code = fields[_CODE].zfill(6)
        if cot_code not in by_code:
            others += 1
            continue
        row = _row(fields, cot_code, where)
        if rows.setdefault((cot_code, row["report_date"]), row) != row:
            raise BadInput(
                f"{where}: two different rows for {cot_code} of {row['report_date']}; "
                "download it again"
            )
    if others:
        payload.left_out["other market"] += others
    if not rows:
        payload.notes.append("holds no report of the markets asked for")
        return
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
        "cot",
        conform(
            "cot",
            frame.join(calendar, on="report_date", how="left", maintain_order="left").with_columns(
                pl.col("estimated").alias("release_estimated"),
                pl.lit(payload.source).alias("source"),
            ),
        ),
    )


# --- the zip -----------------------------------------------------------------------------------


def _member(data: bytes, where: str) -> tuple[zipfile.ZipFile, zipfile.ZipInfo]:
    """The archive and its one text, found safe to read."""
    if (entries := data.count(_ENTRY)) > _MAX_ENTRIES:  # before a list of millions is made of them
        raise BadInput(f"{where}: holds {entries:,} files; the CFTC's zips hold one text each")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        texts = [info for info in archive.infolist() if not info.is_dir()]
    except _DAMAGE:
        what = "is an HTML page" if data.lstrip()[:1] == b"<" else "is not a whole zip"
        raise BadInput(f"{where}: {what}; give fut_disagg_txt_*.zip of the CFTC's") from None
    if len(texts) != 1:
        raise BadInput(f"{where}: holds {len(texts)} files; the CFTC's zips hold one text each")
    if texts[0].file_size > _MAX_TEXT_BYTES:
        raise BadInput(
            f"{where}: {texts[0].filename} would unpack to {texts[0].file_size:,} bytes, more than "
            "any report of the CFTC's; download it again"
        )
    if texts[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInput(f"{where}: is packed as the CFTC packs nothing; download it again")
    return archive, texts[0]


def _lines(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str
) -> Iterator[dict[str, str]]:
    """The text's rows as column -> stripped field, the report proved to be the right one."""
    try:
        with archive.open(member) as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace", newline="")
            # No field of theirs goes on in a next line, and no line is long: what does or is
            # would have to be held whole.
            rows = (next(csv.reader((line,))) for line in iter(partial(text.readline, _LINE), ""))
            header = [_plain(name) for name in next(rows, [])]
            wanted = _wanted(header, where)
            for number, line in enumerate(rows, start=2):
                if not line:
                    continue
                if len(line) != len(header):
                    raise BadInput(
                        f"{where}: line {number} of {member.filename} has {len(line)} fields, "
                        f"its header {len(header)}; download it again"
                    )
                fields = {name: line[place].strip() for name, place in wanted.items()}
                if fields[_SCOPE].lower() != "futonly":
                    raise BadInput(
                        f"{where}: holds a {fields[_SCOPE]!r} report; give the futures-only one, "
                        "fut_disagg_txt_*.zip"
                    )
                yield fields
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f"{where}: {member.filename} cannot be read ({reason}); download it again"
        ) from None


def _plain(name: str) -> str:
    return re.sub(r"[_\- ]+", "_", name.strip().lower())


def _wanted(header: Sequence[str], where: str) -> dict[str, int]:
    """Column -> place of what is read from a row."""
    dates = [name for name in _DATES if name in header]
    needed = [_NAME, _CODE, _SCOPE, *_COLUMNS.values()]
    missing = [name for name in needed if name not in header]
    if missing or not dates:
        raise BadInput(
            f"{where}: is not the disaggregated report (no column {(missing or _DATES)[0]}); "
            "give fut_disagg_txt_*.zip of the CFTC's"
        )
    return {name: header.index(name) for name in [*needed, *dates]}


def _row(fields: Mapping[str, str], cot_code: str, where: str) -> _Row:
    row: _Row = {
        "report": REPORT,
        "report_date": _date(fields, where),
        "cot_code": cot_code,
        "name": fields[_NAME],
    }
    for ours, theirs in _COLUMNS.items():
        row[ours] = _number(fields[theirs], theirs, cot_code, where)
    return row


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
        raise BadInput(
            f"{where}: {column} holds {fields[column]!r}, not a date of a report; download it again"
        )
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


# --- download ----------------------------------------------------------------------------------


def fetch(years: Collection[int], directory: Path, *, url: str = HISTORY_URL) -> list[Path]:
    """Download the zips that hold ``years`` into ``directory``, each proved before it is named.

    ``cot_reports`` fetches the same addresses, but unpacks into the working directory, knows no
    time-out and takes an error page for a zip; so its addresses are used and not its code.

    Parameters
    ----------
    years : collection of int
        From 2006 on.  Those to 2016 come in one zip.  The newest year may not be published yet, as
        in early January: then the year before stands in for it.
    directory : Path
        Where the zips go, under the CFTC's names; older copies are replaced.
    url : str
        The folder they are published in.

    Returns
    -------
    list of Path
        The zips, oldest first.

    Raises
    ------
    VendorError
        The CFTC failed, refused, or answered with something else.
    BadInput
        A year before 2006 is asked for.
    """
    if early := [year for year in years if year < 2006]:
        raise BadInput(f"the disaggregated report begins in 2006; {min(early)} was asked for")
    names = {_zip_name(year): year for year in sorted(years)}
    if not names:
        return []
    newest = max(years)
    paths: dict[str, Path] = {}
    with requests.Session() as session:
        for name, year in names.items():
            data = _download(session, url + name)
            if data is None and year == newest and year > _LAST_YEAR_OF_HISTORY:
                name, year = _zip_name(newest - 1), newest - 1
                if name in paths:
                    continue
                data = _download(session, url + name)
            if data is None:
                raise VendorError(f"{url}{name}: is not there (404); check the year")
            _prove(data, name, year)
            paths[name] = _store(data, directory / name)
    return [paths[name] for name in sorted(paths, key=lambda name: ("hist" not in name, name))]


def _zip_name(year: int) -> str:
    span = "hist_2006_2016" if year <= _LAST_YEAR_OF_HISTORY else str(year)
    return f"fut_disagg_txt_{span}.zip"


class _PassingError(Exception):
    """An answer that may be better on the next attempt."""


def _download(session: requests.Session, url: str) -> bytes | None:
    """The bytes at ``url``, or None where there is no such file."""
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_exponential(_FIRST_WAIT, max=30) + tenacity.wait_random(0, _FIRST_WAIT),
        retry=tenacity.retry_if_exception_type((_PassingError, requests.RequestException)),
        reraise=True,
    )
    try:
        return attempts(_get, session, url)
    except _PassingError as error:
        raise VendorError(f"{url}: {error} on each of {_ATTEMPTS} attempts; try later") from None
    except requests.RequestException as error:
        raise VendorError(
            f"{url}: no answer ({type(error).__name__}) on each of {_ATTEMPTS} attempts; "
            "check the network or try later"
        ) from None


def _get(session: requests.Session, url: str) -> bytes | None:
    with session.get(url, timeout=_TIMEOUTS, stream=True) as answer:
        if answer.status_code == 404:
            return None
        if answer.status_code == 429 or answer.status_code >= 500:
            raise _PassingError(f"HTTP {answer.status_code}")
        if answer.status_code != 200:
            raise VendorError(f"{url}: HTTP {answer.status_code}; see whether the address changed")
        parts, size = [], 0
        for part in answer.iter_content(1 << 16):
            parts.append(part)
            size += len(part)
            if size > _MAX_ZIP_BYTES:
                raise VendorError(f"{url}: sends more than any zip of the CFTC's; try later")
        announced = answer.headers.get("Content-Length", "")
        if announced.isdigit() and size < int(announced):
            raise _PassingError(f"{size:,} of {announced} bytes")
        return b"".join(parts)


def _prove(data: bytes, name: str, year: int) -> None:
    """Refuse bytes that are not the report of ``year``: an error page, or another year's file."""
    try:
        archive, member = _member(data, name)
        newest = max(
            (_date(fields, name) for fields in _lines(archive, member, name)), default=None
        )
    except BadInput as error:
        raise VendorError(f"the CFTC's answer is not its report: {error}") from None
    expected = max(year, _LAST_YEAR_OF_HISTORY)
    if newest is None or newest.year != expected:
        raise VendorError(
            f"the CFTC's {name} ends on {newest or 'no report'}, not in {expected}; try later"
        )


def _store(data: bytes, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path
