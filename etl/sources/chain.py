"""End-of-day option chain files from other sources, as snapshots in the raw schemas.

Three formats are read:

``cboe``
    The exchange's delayed quote export: calls and puts side by side, all expiries in one file,
    its own time stamp and index level above the header.
``barchart``
    A table of one expiry: ``Strike, …, Bid, Ask, Volume, Open Int, …, Time, Type``.  It does not
    say which expiry, and of the time only ``HH:MM CT`` a row.
``generic``
    CSV or Parquet with ``quote_time, expiry, strike, option_type, bid, ask, open_interest,
    volume`` and, as one has them, ``underlying_price, settlement, series``.

Every row of a snapshot is known from the snapshot's stamp on and no earlier.  In these files a
zero price means that there is no quote: 0/0 becomes NULL/NULL, while a zero bid under a positive
ask is kept, for such an option is offered and nobody pays for it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC as PY_UTC
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from etl.calendars import session_close_at
from etl.errors import BadInput
from etl.market import Market
from etl.outside import EARLIEST, LATEST, open_file, read_file
from etl.schemas import UTC
from etl.sources import Payload, conform, file_sha256, parse_date, text_layout

__all__ = ["FORMATS", "read"]

FORMATS = ("cboe", "barchart", "generic")

_NEW_YORK = ZoneInfo("America/New_York")
_CHICAGO = ZoneInfo("America/Chicago")
_MINUTE = timedelta(minutes=1)

#: When an option series stops, where that is not its market's session close (Cboe, "SPX & SPXW
#: contract specifications"): SPX settles on the opening prices, SPXW on the closing ones.
_EXPIRES_AT = {"SPX": time(9, 30), "SPXW": time(16, 0)}

_OPEN_INTEREST, _VOLUME, _SETTLEMENT = 9, 6, 3
_BATCH_ROWS = 250_000
_TOO_LARGE = 1e15  # neither a price nor a count; NaN and infinity are no less so
_MAX_TEXT_BYTES = 1 << 24  # an index's chain of all expiries is a twelfth of this
#: A row group is decoded whole, however few bytes stand for it.
_MAX_GROUP_ROWS, _MAX_ROWS = 1 << 21, 1 << 26
_MAX_HEADER_BYTES, _MAX_TEXT, _MAX_SERIES = 1 << 16, 128, 32
#: How gzip, zstd and zlib begin; Polars would unpack them, without end.
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
#: What Polars raises on damage; its panics are no exceptions in Python's sense.
_DAMAGE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)

#: Columns of a batch once a format has been understood.
_BATCH = pl.Schema(
    {
        "quote_time": UTC,
        "expiry": pl.Date(),
        "expiration": UTC,  # NULL: by the series' or the market's rule
        "series": pl.String(),
        "strike": pl.Float64(),
        "option_type": pl.String(),
        "bid": pl.Float64(),
        "ask": pl.Float64(),
        "open_interest": pl.Float64(),
        "volume": pl.Float64(),
        "settlement": pl.Float64(),
        "underlying_price": pl.Float64(),
        "reason": pl.String(),  # why the row is left out
    }
)
_NUMBERS = ("bid", "ask", "open_interest", "volume", "settlement", "underlying_price")


def read(
    path: Path,
    format: str,
    market: Market,
    *,
    quote_time: datetime | None = None,
    expiry: date | None = None,
    expiration: datetime | None = None,
    underlying_price: float | None = None,
) -> Payload:
    """The snapshots of one chain file.

    Parameters
    ----------
    path : Path
        The file.
    format : {"cboe", "barchart", "generic"}
        How it is laid out.
    market : Market
        What it holds options on.
    quote_time : aware datetime, optional
        When the snapshot was taken, for the formats that do not say so well enough; it may not lie
        before a time that the file itself shows.
    expiry : date, optional
        The one expiry of a ``barchart`` file, which needs it.
    expiration : aware datetime, optional
        The instant on ``expiry`` at which the options stop; by default the series' rule or the
        market's session close.
    underlying_price : float, optional
        Price of the underlying at the snapshot, in the market's quote unit, where the file has
        none.

    Returns
    -------
    Payload
        ``option_definition``, ``option_quote`` (``feed`` ``snapshot``) and ``option_stat`` (open
        interest, volume, settlement), with source ``chain-<format>``.

    Raises
    ------
    BadInput
        The file is not of the format, or an option that it needs is missing or contradicts it.
    """
    if format not in FORMATS:
        raise BadInput(f"unknown chain format {format!r}; the formats are: {', '.join(FORMATS)}")
    for name, value in (("quote-time", quote_time), ("expiration", expiration)):
        if value is not None and value.tzinfo is None:
            raise BadInput(f"--{name} {value} has no time zone; write it as 2024-05-09T15:00-05:00")
        if value is not None and not EARLIEST <= value < LATEST:
            raise BadInput(f"--{name} {value} is not in 1980 to 2099; give when it was")
    if underlying_price is not None and not 0 < underlying_price < math.inf:
        raise BadInput(f"--underlying-price {underlying_price} is not a price; give one above zero")
    if format != "barchart" and (expiry is not None or expiration is not None):
        raise BadInput(
            f"a {format} file says its own expiries; leave --expiry and --expiration out"
        )
    payload = Payload(f"chain-{format}", path.name, file_sha256(path), iter(()), kind=format)
    if format == "cboe":
        batches = iter([_cboe(path, market, quote_time, underlying_price, payload)])
    elif format == "barchart":
        if expiry is None:
            raise BadInput(f"{path.name}: a barchart file does not say its expiry; give --expiry")
        batches = iter(
            [_barchart(path, market, quote_time, expiry, expiration, underlying_price, payload)]
        )
    else:
        if quote_time is not None:
            raise BadInput("a generic file says its own quote_time; leave --quote-time out")
        batches = _generic(path, market, underlying_price, payload)
    payload.frames = _frames(batches, market, payload)
    return payload


def _frames(
    batches: Iterator[pl.DataFrame], market: Market, payload: Payload
) -> Iterator[tuple[str, pl.DataFrame]]:
    taken = False
    for batch in batches:
        rows = _identified(_checked(batch, payload.left_out), market, payload.source)
        if rows.is_empty():
            continue
        taken = True
        yield "option_definition", conform("option_definition", _definitions(rows, market))
        yield "option_quote", conform("option_quote", _quotes(rows))
        yield "option_stat", conform("option_stat", _statistics(rows, market))
    if not taken:
        payload.notes.append("holds no option that could be taken")


# --- what every format shares ------------------------------------------------------------------


def _checked(batch: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """The rows that can be taken; the others counted by reason."""
    batch = batch.cast(_BATCH)
    prices = ("bid", "ask", "settlement", "underlying_price")
    key = ["quote_time", "series", "expiry", "strike", "option_type"]
    reason = (
        pl.when(pl.col("reason").is_not_null())
        .then("reason")
        .when(~_possible("quote_time"))
        .then(pl.lit("no quote time"))
        .when(~_possible("expiry"))
        .then(pl.lit("no expiry"))
        .when(~(pl.col("series").str.len_chars() <= _MAX_SERIES).fill_null(False))
        .then(pl.lit("no series"))
        .when(~pl.col("strike").is_between(1 / _TOO_LARGE, _TOO_LARGE).fill_null(False))
        .then(pl.lit("no strike above zero"))
        .when(pl.col("option_type").is_null())
        .then(pl.lit("neither call nor put"))
        .when(pl.any_horizontal(~(pl.col(*_NUMBERS).abs() < _TOO_LARGE).fill_null(True)))
        .then(pl.lit("unreadable number"))
        .when(pl.any_horizontal((pl.col(*prices) < 0).fill_null(False)))
        .then(pl.lit("negative price"))
        .when(pl.any_horizontal((pl.col("open_interest", "volume") < 0).fill_null(False)))
        .then(pl.lit("negative open interest or volume"))
    )
    batch = batch.with_columns(reason.alias("reason"))
    good = pl.col("reason").is_null()
    again = good & ~pl.struct(*key, "reason").is_first_distinct()
    batch = batch.with_columns(
        pl.when(again).then(pl.lit("listed twice")).otherwise("reason").alias("reason")
    )
    for why, rows in batch["reason"].drop_nulls().value_counts().iter_rows():
        left_out[why] += rows
    return batch.filter(good).with_columns(
        # No quote, not a price of zero.
        pl.when((pl.col("bid") > 0) | (pl.col("ask") > 0)).then("bid").alias("bid"),
        pl.when(pl.col("ask") > 0).then("ask").alias("ask"),
        pl.when(pl.col("underlying_price") > 0).then("underlying_price").alias("underlying_price"),
    )


def _possible(column: str) -> pl.Expr:
    """Whether there is a date or instant, and one that can be meant."""
    first, end = (EARLIEST, LATEST) if _BATCH[column] == UTC else (EARLIEST.date(), LATEST.date())
    return pl.col(column).is_between(first, end, closed="left").fill_null(False)


def _identified(rows: pl.DataFrame, market: Market, source: str) -> pl.DataFrame:
    """The rows with the columns that all datasets share, and their expiration instant."""
    key = ["series", "expiry", "strike", "option_type"]
    contracts = rows.select(key).unique(maintain_order=True)
    names = [
        f"{series} {expiry} {kind}{strike:.12g}"
        for series, expiry, strike, kind in contracts.iter_rows()
    ]
    contracts = contracts.with_columns(
        pl.Series("contract", names, pl.String),
        pl.Series("instrument_id", [_number(market.code, name) for name in names], pl.Int64),
        _expirations(contracts, market).alias("by_rule"),
    )
    return rows.join(contracts, on=key, how="left", maintain_order="left").with_columns(
        pl.coalesce("expiration", "by_rule").alias("expiration"),
        pl.col("quote_time").alias("as_of"),
        pl.col("quote_time").alias("available_at"),
        pl.lit(market.code).alias("market"),
        pl.lit(source).alias("source"),
    )


def _number(market: str, contract: str) -> int:
    """An instrument number of 63 bits that no vendor's 32-bit number can be."""
    digest = hashlib.blake2b(f"{market} {contract}".encode(), digest_size=8).digest()
    return (1 << 32) + 1 + int.from_bytes(digest, "big") % ((1 << 63) - (1 << 32) - 1)


def _expirations(contracts: pl.DataFrame, market: Market) -> pl.Series:
    """The instant at which each contract stops, by its series' rule or its market's close."""
    pairs = contracts.select("series", "expiry").unique(maintain_order=True)
    closes = session_close_at(market, pairs["expiry"])
    instants = [
        datetime.combine(expiry, _EXPIRES_AT[series], _NEW_YORK).astimezone(PY_UTC)
        if series in _EXPIRES_AT
        else close
        for (series, expiry), close in zip(pairs.iter_rows(), closes, strict=True)
    ]
    pairs = pairs.with_columns(pl.Series("at", instants, UTC))
    return contracts.join(pairs, on=["series", "expiry"], how="left", maintain_order="left")["at"]


def _definitions(rows: pl.DataFrame, market: Market) -> pl.DataFrame:
    return rows.with_columns(
        pl.lit(None, UTC).alias("activation"),
        pl.lit(market.option_tick).alias("tick"),
        pl.lit(None, pl.Float64).alias("unit_quantity"),
        pl.lit(market.currency).alias("currency"),
        pl.lit("A").alias("update_action"),
        pl.lit(None, pl.String).alias("underlying"),
        pl.lit(None, pl.Int64).alias("underlying_id"),
    )


def _quotes(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        pl.lit(None, pl.Int64).alias("bid_size"),
        pl.lit(None, pl.Int64).alias("ask_size"),
        pl.lit(None, pl.Int64).alias("sequence"),
        pl.lit("snapshot").alias("feed"),
    )


def _statistics(rows: pl.DataFrame, market: Market) -> pl.DataFrame:
    """Open interest, volume and settlement, as far as the file gives them.

    Volume and settlement are of the stamp's day.  Which session's open interest a chain shows, its
    file does not say.
    """
    day = pl.col("quote_time").dt.convert_time_zone(market.timezone).dt.date()
    parts = []
    for stat_type, column, ref_date in (
        (_OPEN_INTEREST, "open_interest", pl.lit(None, pl.Date)),
        (_VOLUME, "volume", day),
        (_SETTLEMENT, "settlement", day),
    ):
        price = stat_type == _SETTLEMENT
        parts.append(
            rows.filter(pl.col(column).is_not_null()).with_columns(
                pl.lit(None, pl.Int64).alias("sequence"),
                ref_date.alias("ref_date"),
                pl.lit(stat_type, pl.Int32).alias("stat_type"),
                (pl.col(column) if price else pl.lit(None, pl.Float64)).alias("price"),
                (pl.lit(None, pl.Int64) if price else pl.col(column).round().cast(pl.Int64)).alias(
                    "quantity"
                ),
                pl.lit(None, pl.Boolean).alias("is_final"),
                pl.lit(None, pl.Int32).alias("stat_flags"),
                pl.lit(False).alias("is_deleted"),
            )
        )
    return pl.concat(parts)


# --- text --------------------------------------------------------------------------------------


def _value(text: pl.Expr) -> pl.Expr:
    """A number out of text: thousands separators dropped, blanks NULL, anything else NaN."""
    stripped = text.str.strip_chars()
    blank = stripped.str.to_lowercase().is_in(["", "-", "--", "n/a", "na", "nan", "null"])
    number = stripped.str.replace_all(",", "").cast(pl.Float64, strict=False)
    return pl.when(blank | stripped.is_null()).then(None).otherwise(number.fill_null(math.nan))


def _text_lines(path: Path) -> list[list[str]]:
    """The file's comma-separated lines."""
    text = read_file(path, _MAX_TEXT_BYTES).decode("utf-8-sig", "replace")
    try:
        with io.StringIO(text, newline="") as file:
            return [[field.strip() for field in line] for line in csv.reader(file)]
    except csv.Error:
        raise BadInput(f"{path.name}: is not comma-separated text; check the file") from None


def _header(
    path: Path, lines: Sequence[Sequence[str]], needed: Sequence[str], format: str
) -> tuple[int, list[str]]:
    """Place and lower-case names of the format's header, which may have lines above it."""
    for place, line in enumerate(lines[:50]):
        names = [name.lower() for name in line]
        if all(name in names for name in needed):
            return place, names
    raise BadInput(
        f"{path.name}: has not the header of the {format} format "
        f"({', '.join(needed)}); check the file or --format"
    )


def _not_before(
    path: Path, quote_time: datetime | None, seen: datetime, precision: timedelta = timedelta()
) -> datetime:
    """The snapshot's stamp: the one given, unless the file shows a later time.

    What the file shows is exact to ``precision``, and without a given stamp its end is taken.
    """
    if not EARLIEST <= seen < LATEST:
        raise BadInput(f"{path.name}: shows a time of the year {seen.year}; check the file")
    if quote_time is None:
        return seen + precision
    if quote_time < seen:
        raise BadInput(
            f"{path.name}: shows times up to {seen.isoformat()}, later than --quote-time "
            f"{quote_time.isoformat()}; give the time at which the file was taken"
        )
    return quote_time


# --- cboe --------------------------------------------------------------------------------------

_CBOE_SIDE = ("bid", "ask", "volume", "open interest")
_CBOE_DATE = re.compile(r"Date:\s*(\w+) (\d{1,2}), (\d{4}) at (\d{1,2}:\d{2} [AP]M) (E[SD]?T)")
_EASTERN: Mapping[str, tzinfo] = {
    "ET": _NEW_YORK,
    "EST": timezone(timedelta(hours=-5)),
    "EDT": timezone(timedelta(hours=-4)),
}
_OPTION_SYMBOL = re.compile(r"^([A-Z]+)(\d{6})([CP])(\d{8})$")


def _cboe(
    path: Path,
    market: Market,
    quote_time: datetime | None,
    underlying_price: float | None,
    payload: Payload,
) -> pl.DataFrame:
    lines = _text_lines(path)
    place, names = _header(path, lines, ("expiration date", "calls", "strike", "puts"), "cboe")
    payload.layout = text_layout(names, lines[place + 1] if len(lines) > place + 1 else [])
    above = [field for line in lines[:place] for field in line]
    stamp = _cboe_stamp(path, above, quote_time)
    if underlying_price is None:
        last = [_plain_number(field[5:]) for field in above if field.startswith("Last:")]
        underlying_price = next((value for value in last if value), None)
    strike, expiry_at = names.index("strike"), names.index("expiration date")
    sides = _cboe_sides(path, names)
    found: dict[str, list[str | None]] = {
        name: [] for name in ("series", "day", "strike", "option_type", *_CBOE_SIDE, "reason")
    }
    roots: set[str] = set()
    for number, line in enumerate(lines[place + 1 :], start=place + 2):
        if not any(line):
            continue
        if len(line) != len(names):
            raise BadInput(
                f"{path.name}: line {number} has {len(line)} fields, the header {len(names)}; "
                "download it again"
            )
        for option_type, symbol_at, columns in sides:
            symbol = _OPTION_SYMBOL.match(line[symbol_at])
            day = parse_date(line[expiry_at], "%a %b %d %Y")
            reason = None
            if symbol is None:
                reason = "no option symbol"
            elif symbol[3] != option_type or (day and symbol[2] != day.strftime("%y%m%d")):
                reason = "symbol and row disagree"
            else:
                roots.add(symbol[1])
                if symbol[1] not in market.option_roots:
                    reason = "other market"
            found["series"].append(symbol[1] if symbol else None)
            found["day"].append(day.isoformat() if day else None)
            found["strike"].append(line[strike])
            found["option_type"].append(option_type)
            found["reason"].append(reason)
            for name, column in columns.items():
                found[name].append(line[column])
    if roots and roots.isdisjoint(market.option_roots):
        raise BadInput(
            f"{path.name}: holds options on {', '.join(sorted(roots))}, none of {market.code}; "
            "give the market it is of"
        )
    payload.notes.append(f"snapshot of {stamp.astimezone(PY_UTC).isoformat()}")
    return pl.DataFrame(found, schema=dict.fromkeys(found, pl.String)).select(
        pl.lit(stamp.astimezone(PY_UTC)).alias("quote_time"),
        pl.col("day").str.to_date().alias("expiry"),
        pl.lit(None, UTC).alias("expiration"),
        "series",
        _value(pl.col("strike")).alias("strike"),
        "option_type",
        _value(pl.col("bid")).alias("bid"),
        _value(pl.col("ask")).alias("ask"),
        _value(pl.col("open interest")).alias("open_interest"),
        _value(pl.col("volume")).alias("volume"),
        pl.lit(None, pl.Float64).alias("settlement"),
        pl.lit(underlying_price, pl.Float64).alias("underlying_price"),
        "reason",
    )


def _cboe_sides(path: Path, names: list[str]) -> list[tuple[str, int, dict[str, int]]]:
    """For calls and for puts: option type, place of the symbol, places of the columns."""
    calls, strike, puts = names.index("calls"), names.index("strike"), names.index("puts")
    try:
        return [
            ("C", calls, {name: names.index(name, calls, strike) for name in _CBOE_SIDE}),
            ("P", puts, {name: names.index(name, puts) for name in _CBOE_SIDE}),
        ]
    except ValueError as error:
        raise BadInput(
            f"{path.name}: has not the columns of the cboe format on both sides ({error}); "
            "check the file or --format"
        ) from None


def _cboe_stamp(path: Path, above: Sequence[str], quote_time: datetime | None) -> datetime:
    """The file's own stamp, its zone taken at its word: EST, if wrong, is late and never early."""
    for field in above:
        if match := _CBOE_DATE.search(field):
            month, day, year, clock, zone = match.groups()
            try:
                stamp = datetime.strptime(
                    f"{month[:3]} {day} {year} {clock}", "%b %d %Y %I:%M %p"
                ).replace(tzinfo=_EASTERN[zone])
            except ValueError:
                continue
            return _not_before(path, quote_time, stamp)
    if quote_time is None:
        raise BadInput(f"{path.name}: has no 'Date: … at …' line; give --quote-time")
    return quote_time


def _plain_number(text: str) -> float | None:
    try:
        return float(text.strip().replace(",", ""))
    except ValueError:
        return None


# --- barchart ----------------------------------------------------------------------------------

_BARCHART = ("strike", "bid", "ask", "volume", "open int", "time")
_STRIKE = r"^([\d,]*\.?\d+)\s*([CP])$"
_CLOCK = re.compile(r"^([01]?\d|2[0-3]):([0-5]\d) CT$")
_DOWNLOADED = re.compile(r"as of (\d{2}-\d{2}-\d{4} \d{2}:\d{2}[ap]m) C[SD]?T")


def _barchart(
    path: Path,
    market: Market,
    quote_time: datetime | None,
    expiry: date,
    expiration: datetime | None,
    underlying_price: float | None,
    payload: Payload,
) -> pl.DataFrame:
    lines = _text_lines(path)
    place, names = _header(path, lines, _BARCHART, "barchart")
    table = [line for line in lines[place + 1 :] if len(line) == len(names)]
    payload.layout = text_layout(names, table[0] if table else [])
    footers = [line for line in lines[place + 1 :] if len(line) != len(names) and any(line)]
    if odd := sum(not _DOWNLOADED.search(" ".join(line)) for line in footers):
        payload.left_out["not a row of the table"] += odd
    stamp = _barchart_stamp(
        path, market, [line[names.index("time")] for line in table], footers, quote_time
    )
    if stamp.astimezone(_CHICAGO).date() > expiry:
        raise BadInput(
            f"{path.name}: was taken on {stamp:%Y-%m-%d}, after --expiry {expiry}; "
            "give the expiry of these options, or --quote-time"
        )
    if expiration and expiration.astimezone(ZoneInfo(market.timezone)).date() != expiry:
        raise BadInput(f"--expiration {expiration.isoformat()} is not on --expiry {expiry}")
    payload.notes.append(
        f"snapshot of {stamp.astimezone(PY_UTC).isoformat()}, all rows taken to expire on "
        f"{expiry} as --expiry says"
    )
    text = pl.DataFrame(
        {
            name: pl.Series(name, [line[names.index(name)] for line in table], pl.String)
            for name in (*_BARCHART, "type")
            if name in names
        }
    )
    kind = pl.col("strike").str.to_uppercase().str.extract(_STRIKE, 2)
    named = pl.col("type").str.slice(0, 1).str.to_uppercase() if "type" in names else kind
    return text.select(
        pl.lit(stamp.astimezone(PY_UTC)).alias("quote_time"),
        pl.lit(expiry).alias("expiry"),
        pl.lit(expiration and expiration.astimezone(PY_UTC), UTC).alias("expiration"),
        pl.lit(_series(market)).alias("series"),
        _value(pl.col("strike").str.to_uppercase().str.extract(_STRIKE, 1)).alias("strike"),
        kind.alias("option_type"),
        _value(pl.col("bid")).alias("bid"),
        _value(pl.col("ask")).alias("ask"),
        _value(pl.col("open int")).alias("open_interest"),
        _value(pl.col("volume")).alias("volume"),
        pl.lit(None, pl.Float64).alias("settlement"),
        pl.lit(underlying_price, pl.Float64).alias("underlying_price"),
        pl.when(kind != named).then(pl.lit("strike and type disagree")).alias("reason"),
    )


def _barchart_stamp(
    path: Path,
    market: Market,
    times: Sequence[str],
    footers: Sequence[Sequence[str]],
    quote_time: datetime | None,
) -> datetime:
    """A stamp no earlier than any row's time.

    Rows show Central time of the current session, or the date of an older trade.  The session's day
    is the newest of those dates and the date in the file's name.  A session that opens on the
    evening before has evening times of that evening.  ``HH:MM`` may be any second of its minute, so
    the stamp is the minute's end unless one is given.
    """
    for line in footers:
        if match := _DOWNLOADED.search(" ".join(line)):
            try:
                taken = datetime.strptime(match[1], "%m-%d-%Y %I:%M%p").replace(tzinfo=_CHICAGO)
            except ValueError:
                continue
            return _not_before(path, quote_time, taken, _MINUTE)
    clocks = [time(int(m[1]), int(m[2])) for m in map(_CLOCK.match, times) if m]
    days = [day for text in times if (day := parse_date(text, "%m/%d/%Y", "%m/%d/%y"))]
    unread = len([text for text in times if text]) - len(clocks) - len(days)
    if named := _date_in_name(path.stem):
        days.append(named)
    if quote_time is None and (unread or not (days and clocks)):
        raise BadInput(f"{path.name}: does not say when it was taken; give --quote-time")
    if not days and quote_time is not None:
        days = [quote_time.astimezone(_CHICAGO).date()]
    session = max(days)
    opened = datetime.combine(
        session, time.fromisoformat(market.session_open), ZoneInfo(market.timezone)
    ).astimezone(_CHICAGO)
    evening = opened.time() if market.opens_day_before else time.max
    last = max((clock for clock in clocks if clock < evening), default=time(0))
    return _not_before(path, quote_time, datetime.combine(session, last, _CHICAGO), _MINUTE)


def _date_in_name(stem: str) -> date | None:
    """The last date in a file's name, ``2025-09-08`` or ``09-08-2025``."""
    texts = re.findall(r"(?<!\d)(?:\d{4}-\d{2}-\d{2}|\d{2}-\d{2}-\d{4})(?!\d)", stem)
    days = [day for text in texts if (day := parse_date(text, "%Y-%m-%d", "%m-%d-%Y"))]
    return days[-1] if days else None


def _series(market: Market) -> str:
    """The option series of a file that names none."""
    return market.option_roots[0] if market.option_roots else market.code


# --- generic -----------------------------------------------------------------------------------

_GENERIC = (
    "quote_time",
    "expiry",
    "strike",
    "option_type",
    "bid",
    "ask",
    "open_interest",
    "volume",
)
_GENERIC_MORE = ("underlying_price", "settlement", "series")
_HAS_ZONE = r"(?:[Zz]|[+-]\d{2}:?\d{2})$"
_IS_DAY = r"^\d{4}-\d{2}-\d{2}(?:[T ]00:00(?::00(?:\.0+)?)?)?$"
_ZONE_ADVICE = "write it with its offset, as 2024-05-09T15:00:00-05:00"


def _generic(
    path: Path, market: Market, underlying_price: float | None, payload: Payload
) -> Iterator[pl.DataFrame]:
    try:
        rows = _generic_scan(path)
        schema = rows.collect_schema()
        header = {name.strip().lower(): name for name in schema.names()}
    except (*_DAMAGE, pa.ArrowException, OSError, ValueError):
        raise BadInput(
            f"{path.name}: is neither CSV nor Parquet; check the file or --format"
        ) from None
    if missing := [name for name in _GENERIC if name not in header]:
        raise BadInput(
            f"{path.name}: has no column {missing[0]}; the generic format needs "
            f"{', '.join(_GENERIC)}"
        )
    payload.layout = {name: str(schema[given]) for name, given in header.items()}
    own = [name for name in (*_GENERIC, *_GENERIC_MORE) if name in header]
    rows = rows.select(pl.col(header[name]).alias(name) for name in own)
    return _generic_batches(path, rows, market, underlying_price)


def _generic_scan(path: Path) -> pl.LazyFrame:
    with open_file(path) as file:
        start = file.read(_MAX_HEADER_BYTES)
    path = path.absolute()  # Polars takes a leading ~ for the home folder
    if start.startswith(b"PAR1"):
        about = pq.read_metadata(path)
        groups = (about.row_group(number).num_rows for number in range(about.num_row_groups))
        if about.num_rows > _MAX_ROWS or max(groups, default=0) > _MAX_GROUP_ROWS:
            raise BadInput(
                f"{path.name}: has more rows than can be read, {_MAX_ROWS:,} in groups of "
                f"{_MAX_GROUP_ROWS:,}; write it in smaller row groups or files"
            )
        return pl.scan_parquet(path, hive_partitioning=False, glob=False)
    if start.startswith(_PACKED) or (len(start) == _MAX_HEADER_BYTES and b"\n" not in start):
        raise BadInput(f"{path.name}: is packed or no text; give CSV as it is, or Parquet")
    return pl.scan_csv(path, infer_schema=False, glob=False)


def _generic_batches(
    path: Path, rows: pl.LazyFrame, market: Market, underlying_price: float | None
) -> Iterator[pl.DataFrame]:
    try:
        for batch in rows.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True):
            yield _generic_batch(path, batch, market, underlying_price)
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{path.name}: cannot be read to its end ({reason}); check it") from None


def _generic_batch(
    path: Path, batch: pl.DataFrame, market: Market, underlying_price: float | None
) -> pl.DataFrame:
    batch = _generic_texts(path, batch)

    def number(name: str) -> pl.Expr:
        if name not in batch.columns:
            return pl.lit(None, pl.Float64)
        return _value(pl.col(name)) if batch.schema[name] == pl.String else pl.col(name)

    expiry, expiration = _generic_expiry(path, batch["expiry"], market)
    kind = pl.col("option_type").cast(pl.String).str.strip_chars().str.to_uppercase()
    series = (
        pl.col("series").cast(pl.String).str.strip_chars() if "series" in batch.columns else None
    )
    named = pl.when(series != "").then(series) if series is not None else pl.lit(None, pl.String)
    return batch.select(
        _generic_time(path, batch["quote_time"]).alias("quote_time"),
        expiry.alias("expiry"),
        expiration.alias("expiration"),
        pl.coalesce(named, pl.lit(_series(market))).alias("series"),
        number("strike").cast(pl.Float64).alias("strike"),
        kind.replace_strict(
            {"C": "C", "CALL": "C", "P": "P", "PUT": "P"}, default=None, return_dtype=pl.String
        ).alias("option_type"),
        *(number(name).cast(pl.Float64).alias(name) for name in _NUMBERS[:-1]),
        pl.coalesce(
            number("underlying_price").cast(pl.Float64), pl.lit(underlying_price, pl.Float64)
        ).alias("underlying_price"),
        pl.lit(None, pl.String).alias("reason"),
    )


def _generic_texts(path: Path, batch: pl.DataFrame) -> pl.DataFrame:
    """The batch with its texts as such, none of them so long that a column of it is a bomb."""
    kinds = (pl.Categorical, pl.Enum, pl.Binary)
    texts = {name: pl.String() for name, dtype in batch.schema.items() if isinstance(dtype, kinds)}
    batch = batch.cast(texts)  # type: ignore[arg-type]
    for name, dtype in batch.schema.items():
        if dtype == pl.String and (batch[name].str.len_bytes() > _MAX_TEXT).any():
            raise BadInput(f"{path.name}: {name} has more than {_MAX_TEXT} bytes; check the file")
    return batch


def _generic_time(path: Path, values: pl.Series) -> pl.Series:
    """``quote_time`` in UTC; a time without a zone is refused, for it could mean any instant."""
    if isinstance(values.dtype, pl.Datetime):
        if values.dtype.time_zone is None:
            raise BadInput(f"{path.name}: quote_time has no time zone; {_ZONE_ADVICE}")
        return _meant(values.dt.convert_time_zone("UTC")).cast(UTC)
    if values.dtype != pl.String:
        raise BadInput(f"{path.name}: quote_time is of type {values.dtype}; {_ZONE_ADVICE}")
    values = values.str.strip_chars()
    instants = _instants(values)
    naive = values.filter(instants.is_null() & values.str.contains(r"^\d{4}-\d{2}-\d{2}"))
    if not naive.is_empty():
        raise BadInput(f"{path.name}: quote_time {naive[0]!r} has no time zone; {_ZONE_ADVICE}")
    return _meant(instants)


def _generic_expiry(path: Path, values: pl.Series, market: Market) -> tuple[pl.Series, pl.Series]:
    """Expiry dates, and expiration instants where the file gives them."""
    nothing = pl.Series([None], dtype=UTC).new_from_index(0, len(values))
    if values.dtype == pl.Date:
        return values, nothing
    if isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is not None:
        instants = _meant(values.dt.convert_time_zone("UTC")).cast(UTC)
        return instants.dt.convert_time_zone(market.timezone).dt.date(), instants
    if isinstance(values.dtype, pl.Datetime):
        text = _meant(values.dt.replace_time_zone("UTC")).dt.strftime("%Y-%m-%d %H:%M:%S")
    else:
        text = values
    if text.dtype != pl.String:
        raise BadInput(f"{path.name}: expiry is of type {values.dtype}; write it as 2024-06-14")
    text = text.str.strip_chars()
    days = (
        text.zip_with(text.str.contains(_IS_DAY), _no_text(text))
        .str.slice(0, 10)
        .str.to_date("%Y-%m-%d", strict=False)
    )
    instants = _instants(text)
    naive = text.filter(days.is_null() & instants.is_null() & text.str.contains(r"^\d{4}.*:"))
    if not naive.is_empty():
        raise BadInput(f"{path.name}: expiry {naive[0]!r} has no time zone; {_ZONE_ADVICE}")
    instants = _meant(instants)
    local = instants.dt.convert_time_zone(market.timezone).dt.date()
    return days.zip_with(days.is_not_null(), local), instants


def _instants(text: pl.Series) -> pl.Series:
    """ISO timestamps that carry a zone, in UTC; NULL for anything else."""
    zoned = text.zip_with(text.str.contains(_HAS_ZONE).fill_null(False), _no_text(text))
    plain = (
        zoned.str.replace(r"[Zz]$", "+00:00")
        .str.replace(" ", "T", literal=True)
        .str.replace(r"([+-]\d{2})(\d{2})$", "${1}:${2}")
    )
    with_seconds = plain.str.replace(r"T(\d{2}:\d{2})([+-])", "T${1}:00${2}")
    return with_seconds.str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", time_zone="UTC", strict=False
    )


def _meant(instants: pl.Series) -> pl.Series:
    """Instants in UTC, NULL where they are too far off to be meant, or to be printed."""
    return instants.set(~instants.is_between(EARLIEST, LATEST, closed="left"), None)


def _no_text(like: pl.Series) -> pl.Series:
    return pl.Series([None], dtype=pl.String).new_from_index(0, len(like))
