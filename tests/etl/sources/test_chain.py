"""Chain files: snapshots that nobody can have known before their stamp."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import zstandard

from etl.calendars import session_close_at
from etl.errors import BadInput
from etl.market import Market, markets
from etl.schemas import source_schema
from etl.sources import Payload, chain

REAL = Path(__file__).parents[3] / ".." / "shared" / "data" / "chains"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real chains beside the project")
CHICAGO = ZoneInfo("America/Chicago")

STAT = {9: "open_interest", 6: "volume", 3: "settlement"}


@pytest.fixture(scope="module")
def known() -> dict[str, Market]:
    return markets()


def collect(payload: Payload) -> dict[str, pl.DataFrame]:
    """All frames, each in its dataset's schema and known from its own instant on."""
    found: dict[str, list[pl.DataFrame]] = {}
    for dataset, frame in payload.frames:
        assert frame.schema == source_schema(dataset)
        assert (frame["as_of"] == frame["available_at"]).all()
        found.setdefault(dataset, []).append(frame)
    return {dataset: pl.concat(frames) for dataset, frames in found.items()}


def refused(path: Path, format: str, market: Market, says: str, **options: Any) -> None:
    with pytest.raises(BadInput, match=says) as error:
        collect(chain.read(path, format, market, **options))
    assert "\n" not in str(error.value)


# --- generic -----------------------------------------------------------------------------------

HEADER = "quote_time,expiry,strike,option_type,bid,ask,open_interest,volume"


def csv_file(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "chain [1].csv"  # no pattern, though it looks like one
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_row_becomes_definition_quote_and_statistics(
    known: dict[str, Market], tmp_path: Path
) -> None:
    path = csv_file(
        tmp_path,
        "2024-05-09T13:00:00-05:00,2024-06-14,90.5,C,1.25,1.5,1200,7,91.2,1.375,HE",
        header=HEADER + ",underlying_price,settlement,series",
    )
    payload = chain.read(path, "generic", known["HE"])
    frames = collect(payload)
    at = datetime(2024, 5, 9, 18, tzinfo=UTC)
    assert frames["option_quote"].drop("instrument_id").to_dicts() == [
        {
            "market": "HE",
            "as_of": at,
            "available_at": at,
            "source": "chain-generic",
            "contract": "HE 2024-06-14 C90.5",
            "bid": 1.25,
            "ask": 1.5,
            "bid_size": None,
            "ask_size": None,
            "sequence": None,
            "feed": "snapshot",
            "underlying_price": 91.2,
        }
    ]
    definition = frames["option_definition"].row(0, named=True)
    close = session_close_at(known["HE"], pl.Series([date(2024, 6, 14)]))[0]
    assert definition["expiration"] == close
    assert (definition["strike"], definition["option_type"]) == (90.5, "C")
    assert (definition["series"], definition["underlying"]) == ("HE", None)
    assert definition["tick"] == known["HE"].option_tick
    stats = frames["option_stat"]
    assert stats.select("stat_type", "price", "quantity", "ref_date").rows() == [
        (9, None, 1200, None),
        (6, None, 7, date(2024, 5, 9)),
        (3, 1.375, None, date(2024, 5, 9)),
    ]
    assert not payload.left_out
    assert not payload.notes


@pytest.mark.parametrize(
    ("bid", "ask", "expected"),
    [
        ("1", "2", (1.0, 2.0)),
        ("0", "0", (None, None)),
        ("0", "2", (0.0, 2.0)),
        ("1", "0", (1.0, None)),
        ("", "", (None, None)),
        ("", "2", (None, 2.0)),
        ("1", "", (1.0, None)),
        ("N/A", "--", (None, None)),
        ('"1,234.5"', '"1,300"', (1234.5, 1300.0)),
        ("3", "2", (3.0, 2.0)),  # crossed: kept as it came
    ],
)
def test_no_quote_is_null_and_not_zero(
    known: dict[str, Market],
    tmp_path: Path,
    bid: str,
    ask: str,
    expected: tuple[float | None, float | None],
) -> None:
    path = csv_file(tmp_path, f"2024-05-09T18:00Z,2024-06-14,90,P,{bid},{ask},,")
    frames = collect(chain.read(path, "generic", known["HE"]))
    assert frames["option_quote"].select("bid", "ask").row(0) == expected
    assert frames["option_stat"].is_empty()


def test_bad_rows_are_left_out_and_counted(known: dict[str, Market], tmp_path: Path) -> None:
    stamp = "2024-05-09T18:00Z"
    path = csv_file(
        tmp_path,
        f"{stamp},2024-06-14,90,P,1,2,3,4",
        f"{stamp},2024-06-14,90,put,1,2,3,4",
        f"{stamp},2024-06-14,x,P,1,2,3,4",
        f"{stamp},2024-06-14,0,P,1,2,3,4",
        f"{stamp},2024-06-14,,P,1,2,3,4",
        f"{stamp},2024-06-14,91,straddle,1,2,3,4",
        f"{stamp},2024-06-14,92,C,-1,2,3,4",
        f"{stamp},2024-06-14,93,C,1,two,3,4",
        f"{stamp},2024-06-14,94,C,1,2,-3,4",
        f"{stamp},soon,95,C,1,2,3,4",
        ",2024-06-14,96,C,1,2,3,4",
        f"{stamp},2024-06-14,97,C,1,inf,3,4",
        f"{stamp},2024-06-14,98,C,1,2,1e300,4",
    )
    payload = chain.read(path, "generic", known["HE"])
    assert collect(payload)["option_quote"]["contract"].to_list() == ["HE 2024-06-14 P90"]
    assert payload.left_out == Counter(
        {
            "listed twice": 1,
            "no strike above zero": 3,
            "neither call nor put": 1,
            "negative price": 1,
            "unreadable number": 3,
            "negative open interest or volume": 1,
            "no expiry": 1,
            "no quote time": 1,
        }
    )


def test_one_file_may_hold_many_snapshots(known: dict[str, Market], tmp_path: Path) -> None:
    days = [date(2024, 5, 6) + timedelta(days=n) for n in range(4)]
    rows = [
        f"{day}T13:00:00-05:00,2024-06-14,{strike},{kind},1,2,3,4"
        for day in days
        for strike in (90, 91)
        for kind in "CP"
    ]
    frames = collect(chain.read(csv_file(tmp_path, *rows), "generic", known["HE"]))
    quotes = frames["option_quote"]
    assert quotes.height == 16
    assert quotes["available_at"].unique().sort().to_list() == [
        datetime(day.year, day.month, day.day, 18, tzinfo=UTC) for day in days
    ]
    # An option keeps its number from snapshot to snapshot, and shares it with no other.
    numbers = quotes.select("instrument_id", "contract").unique()
    assert numbers.height == 4
    assert numbers["instrument_id"].n_unique() == 4
    assert numbers["instrument_id"].is_between(1 << 32, (1 << 63) - 1).all()


def test_numbers_do_not_depend_on_the_run(known: dict[str, Market], tmp_path: Path) -> None:
    path = csv_file(tmp_path, "2024-05-09T18:00Z,2024-06-14,90.50,C,1,2,3,4")
    he = collect(chain.read(path, "generic", known["HE"]))["option_quote"]["instrument_id"][0]
    le = collect(chain.read(path, "generic", known["LE"]))["option_quote"]["instrument_id"][0]
    assert he == 9085972309664552926
    assert le != he


@pytest.mark.parametrize(
    "stamp",
    [
        "2024-05-09T18:00:00Z",
        "2024-05-09T18:00Z",
        "2024-05-09 18:00:00+00:00",
        "2024-05-09 13:00:00-0500",
        "2024-05-09T13:00:00.000000-05:00",
    ],
)
def test_forms_of_a_zoned_time(known: dict[str, Market], tmp_path: Path, stamp: str) -> None:
    path = csv_file(tmp_path, f"{stamp},2024-06-14,90,C,1,2,3,4")
    quotes = collect(chain.read(path, "generic", known["HE"]))["option_quote"]
    assert quotes["available_at"].to_list() == [datetime(2024, 5, 9, 18, tzinfo=UTC)]


@pytest.mark.parametrize("stamp", ["2024-05-09T18:00:00", "2024-05-09 18:00", "2024-05-09"])
def test_a_time_without_a_zone_is_refused(
    known: dict[str, Market], tmp_path: Path, stamp: str
) -> None:
    good = "2024-05-09T18:00Z,2024-06-14,90,C,1,2,3,4"
    path = csv_file(tmp_path, good, f"{stamp},2024-06-14,91,C,1,2,3,4")
    refused(path, "generic", known["HE"], "no time zone.*offset")


@pytest.mark.parametrize(
    ("expiry", "expiration"),
    [
        ("2024-06-14T00:00:00", datetime(2024, 6, 14, 18, 5, tzinfo=UTC)),
        ("2024-06-14 00:00", datetime(2024, 6, 14, 18, 5, tzinfo=UTC)),
        ("2024-06-14T12:00:00-05:00", datetime(2024, 6, 14, 17, tzinfo=UTC)),
        ("2024-06-15T00:30:00Z", datetime(2024, 6, 15, 0, 30, tzinfo=UTC)),  # 19:30 in Chicago
    ],
)
def test_expiry_as_a_date_or_an_instant(
    known: dict[str, Market], tmp_path: Path, expiry: str, expiration: datetime
) -> None:
    path = csv_file(tmp_path, f"2024-05-09T18:00Z,{expiry},90,C,1,2,3,4")
    definition = collect(chain.read(path, "generic", known["HE"]))["option_definition"]
    assert definition["contract"].to_list() == ["HE 2024-06-14 C90"]
    assert definition["expiration"].to_list() == [expiration]


def test_an_expiry_instant_without_a_zone_is_refused(
    known: dict[str, Market], tmp_path: Path
) -> None:
    path = csv_file(tmp_path, "2024-05-09T18:00Z,2024-06-14 13:05,90,C,1,2,3,4")
    refused(path, "generic", known["HE"], "expiry.*no time zone")


def test_parquet_and_csv_give_the_same(known: dict[str, Market], tmp_path: Path) -> None:
    text = csv_file(
        tmp_path,
        "2024-05-09T18:00Z,2024-06-14,90,C,1,2,3,4",
        "2024-05-09T18:00Z,2024-07-15,91.25,P,0,0.5,10,",
    )
    path = tmp_path / "chain.parquet"
    pl.DataFrame(
        {
            "Quote_Time": [datetime(2024, 5, 9, 13, tzinfo=CHICAGO)] * 2,
            "expiry": [date(2024, 6, 14), date(2024, 7, 15)],
            "strike": [90.0, 91.25],
            "option_type": pl.Series(["call", "put"], dtype=pl.Categorical),
            "bid": [1.0, 0.0],
            "ask": [2.0, 0.5],
            "open_interest": [3, 10],
            "volume": [4, None],
        }
    ).write_parquet(path)
    from_text = collect(chain.read(text, "generic", known["HE"]))
    from_parquet = collect(chain.read(path, "generic", known["HE"]))
    for dataset, frame in from_text.items():
        assert frame.equals(from_parquet[dataset])


def test_a_parquet_time_without_a_zone_is_refused(known: dict[str, Market], tmp_path: Path) -> None:
    path = tmp_path / "chain.parquet"
    row = {name: ["2024-05-09"] for name in HEADER.split(",")}
    frame = pl.DataFrame(row).with_columns(quote_time=pl.lit(datetime(2024, 5, 9)))  # noqa: DTZ001
    frame.write_parquet(path)
    refused(path, "generic", known["HE"], "no time zone")


def test_batches_join_to_the_whole(
    known: dict[str, Market], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"2024-05-09T18:00Z,2024-06-14,{50 + n / 8},C,1,2,{n},4" for n in range(500)]
    path = csv_file(tmp_path, *rows)
    whole = collect(chain.read(path, "generic", known["HE"]))
    monkeypatch.setattr(chain, "_BATCH_ROWS", 64)
    pieces = collect(chain.read(path, "generic", known["HE"]))
    for dataset in ("option_definition", "option_quote"):
        assert pieces[dataset].equals(whole[dataset])
    key = ["instrument_id", "stat_type"]
    assert pieces["option_stat"].sort(key).equals(whole["option_stat"].sort(key))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PAR1 and no more",
        b"\x00\x01\x02",
        b"quote_time;expiry;strike\n",
        HEADER.replace("bid,", "").encode() + b"\n",
        (HEADER + "\n" + "a," * 20 + "\n").encode(),
    ],
)
def test_what_is_not_the_generic_format_is_refused(
    known: dict[str, Market], tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "chain.csv"
    path.write_bytes(content)
    refused(path, "generic", known["HE"], "chain.csv")


def test_options_that_the_file_answers_itself_are_refused(
    known: dict[str, Market], tmp_path: Path
) -> None:
    path = csv_file(tmp_path, "2024-05-09T18:00Z,2024-06-14,90,C,1,2,3,4")
    at = datetime(2024, 5, 9, 18, tzinfo=UTC)
    refused(path, "generic", known["HE"], "--quote-time", quote_time=at)
    refused(path, "generic", known["HE"], "--expiry", expiry=date(2024, 6, 14))
    refused(path, "generic", known["HE"], "--underlying-price", underlying_price=-1.0)
    refused(path, "excel", known["HE"], "cboe, barchart, generic")
    refused(tmp_path / "none.csv", "generic", known["HE"], "cannot be read")


def test_the_underlying_price_fills_what_the_file_leaves_blank(
    known: dict[str, Market], tmp_path: Path
) -> None:
    path = csv_file(
        tmp_path,
        "2024-05-09T18:00Z,2024-06-14,90,C,1,2,3,4,91.5",
        "2024-05-09T18:00Z,2024-06-14,91,C,1,2,3,4,",
        header=HEADER + ",underlying_price",
    )
    quotes = collect(chain.read(path, "generic", known["HE"], underlying_price=92.0))
    assert quotes["option_quote"]["underlying_price"].to_list() == [91.5, 92.0]


# --- cboe --------------------------------------------------------------------------------------

CBOE_HEADER = (
    "Expiration Date,Calls,Last Sale,Net,Bid,Ask,Volume,IV,Delta,Gamma,Open Interest,Strike,"
    "Puts,Last Sale,Net,Bid,Ask,Volume,IV,Delta,Gamma,Open Interest"
)
CBOE_ROW = (
    "Fri Jun 21 2024,{root}240621C05200000,1,0,10.5,11,7,0.1,0.5,0.001,100,5200.00,"
    "{root}240621P05200000,1,0,9.5,10,8,0.1,-0.5,0.001,200"
)


def cboe_file(folder: Path, *rows: str, stamp: str = "May 9, 2024 at 4:15 PM EDT") -> Path:
    path = folder / "spx_quotedata.csv"
    head = ["S&P 500 INDEX,Last: 5214.08,Change: 26.41", f'"Date: {stamp}",Bid: 5200,Ask: 5230']
    path.write_text("\n".join([*head, CBOE_HEADER, *rows]) + "\n")
    return path


def test_cboe_rows_are_a_call_and_a_put(known: dict[str, Market], tmp_path: Path) -> None:
    path = cboe_file(tmp_path, CBOE_ROW.format(root="SPX"), CBOE_ROW.format(root="SPXW"))
    payload = chain.read(path, "cboe", known["SPX"])
    frames = collect(payload)
    at = datetime(2024, 5, 9, 20, 15, tzinfo=UTC)
    quotes = frames["option_quote"]
    assert quotes["available_at"].unique().to_list() == [at]
    assert quotes.select("contract", "bid", "ask", "underlying_price").rows() == [
        ("SPX 2024-06-21 C5200", 10.5, 11.0, 5214.08),
        ("SPX 2024-06-21 P5200", 9.5, 10.0, 5214.08),
        ("SPXW 2024-06-21 C5200", 10.5, 11.0, 5214.08),
        ("SPXW 2024-06-21 P5200", 9.5, 10.0, 5214.08),
    ]
    # SPX settles in the morning, SPXW at the close.
    morning, close = (datetime(2024, 6, 21, *hm, tzinfo=UTC) for hm in ((13, 30), (20, 0)))
    assert frames["option_definition"]["expiration"].to_list() == [morning, morning, close, close]
    stats = frames["option_stat"].filter(pl.col("contract").str.starts_with("SPX "))
    assert stats.select("stat_type", "quantity").rows() == [(9, 100), (9, 200), (6, 7), (6, 8)]
    assert payload.source == "chain-cboe"
    assert not payload.left_out


@pytest.mark.parametrize(
    ("stamp", "at"),
    [
        ("May 9, 2024 at 4:15 PM EDT", datetime(2024, 5, 9, 20, 15, tzinfo=UTC)),
        ("May 9, 2024 at 4:15 PM ET", datetime(2024, 5, 9, 20, 15, tzinfo=UTC)),
        ("May 9, 2024 at 4:15 PM EST", datetime(2024, 5, 9, 21, 15, tzinfo=UTC)),
        ("December 12, 2022 at 12:30 AM EST", datetime(2022, 12, 12, 5, 30, tzinfo=UTC)),
        ("Dec 12, 2022 at 8:30 PM ET", datetime(2022, 12, 13, 1, 30, tzinfo=UTC)),
    ],
)
def test_cboe_stamps(known: dict[str, Market], tmp_path: Path, stamp: str, at: datetime) -> None:
    path = cboe_file(tmp_path, CBOE_ROW.format(root="SPX"), stamp=stamp)
    quotes = collect(chain.read(path, "cboe", known["SPX"]))["option_quote"]
    assert quotes["available_at"].unique().to_list() == [at]


def test_a_cboe_stamp_can_be_moved_later_and_not_earlier(
    known: dict[str, Market], tmp_path: Path
) -> None:
    path = cboe_file(tmp_path, CBOE_ROW.format(root="SPX"))
    later = datetime(2024, 5, 9, 21, tzinfo=UTC)
    quotes = collect(chain.read(path, "cboe", known["SPX"], quote_time=later))["option_quote"]
    assert quotes["available_at"].unique().to_list() == [later]
    early = datetime(2024, 5, 9, 20, tzinfo=UTC)
    refused(path, "cboe", known["SPX"], "later than --quote-time", quote_time=early)
    unstamped = cboe_file(tmp_path, CBOE_ROW.format(root="SPX"), stamp="yesterday")
    refused(unstamped, "cboe", known["SPX"], "give --quote-time")
    assert collect(chain.read(unstamped, "cboe", known["SPX"], quote_time=early))


def test_cboe_rows_that_contradict_themselves(known: dict[str, Market], tmp_path: Path) -> None:
    good = CBOE_ROW.format(root="SPX")
    path = cboe_file(
        tmp_path,
        good,
        good.replace("Jun 21 2024", "Jun 20 2024"),
        good.replace("SPX240621C05200000", "soon"),
        good.replace("SPX240621P", "XSP240621P").replace("5200.00", "5300.00"),
    )
    payload = chain.read(path, "cboe", known["SPX"])
    assert collect(payload)["option_quote"].height == 3
    assert payload.left_out == Counter(
        {
            "symbol and row disagree": 2,
            "no option symbol": 1,
            "listed twice": 1,
            "other market": 1,
        }
    )


def test_a_cboe_file_of_another_market_is_refused(known: dict[str, Market], tmp_path: Path) -> None:
    path = cboe_file(tmp_path, CBOE_ROW.format(root="SPX"))
    refused(path, "cboe", known["HE"], "holds options on SPX")


def test_a_cut_cboe_file_is_refused(known: dict[str, Market], tmp_path: Path) -> None:
    path = cboe_file(tmp_path, CBOE_ROW.format(root="SPX"), CBOE_ROW.format(root="SPX")[:-40])
    refused(path, "cboe", known["SPX"], "fields")


def test_a_cboe_file_without_a_column_is_refused(known: dict[str, Market], tmp_path: Path) -> None:
    path = cboe_file(tmp_path, CBOE_ROW.format(root="SPX"))
    path.write_text(path.read_text().replace("Gamma,Open Interest,Strike", "Gamma,OI,Strike"))
    refused(path, "cboe", known["SPX"], "open interest")


# --- barchart ----------------------------------------------------------------------------------

BARCHART_HEADER = "Strike,Open,High,Low,Last,Change,Bid,Ask,Volume,Open Int,Premium,Time,Type"
EXPIRY = date(2025, 11, 17)


def barchart_file(folder: Path, *rows: str, name: str = "clz25_2025-09-08.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([BARCHART_HEADER, *rows]))
    return path


def barchart_row(strike: str, at: str, *, quote: str = "1.2,1.3", kind: str = "Call") -> str:
    return f"{strike},0,1,1,1,0,{quote},5,40,1000,{at},{kind}"


def test_barchart_rows(known: dict[str, Market], tmp_path: Path) -> None:
    path = barchart_file(
        tmp_path,
        barchart_row("62.50C", "15:40 CT"),
        barchart_row("62.50P", "13:05 CT", quote="0,0", kind="Put"),
        barchart_row('"1,062.50C"', "20:06 CT"),
        barchart_row("63.00P", "15:03 CT"),
        barchart_row("strike", "15:03 CT"),
    )
    payload = chain.read(path, "barchart", known["CL"], expiry=EXPIRY, underlying_price=61.69)
    frames = collect(payload)
    assert frames["option_quote"].select("contract", "bid", "ask", "underlying_price").rows() == [
        ("LO 2025-11-17 C62.5", 1.2, 1.3, 61.69),
        ("LO 2025-11-17 P62.5", None, None, 61.69),
        ("LO 2025-11-17 C1062.5", 1.2, 1.3, 61.69),
    ]
    assert payload.left_out == Counter({"strike and type disagree": 1, "no strike above zero": 1})
    assert any("2025-11-17" in note for note in payload.notes)
    close = session_close_at(known["CL"], pl.Series([EXPIRY]))[0]
    assert frames["option_definition"]["expiration"].unique().to_list() == [close]


def central(*clock: int, day: int = 8) -> datetime:
    return datetime(2025, 9, day, *clock, tzinfo=CHICAGO)


@pytest.mark.parametrize(
    ("times", "name", "at"),
    [
        # The end of the newest minute; evening times are of the evening before.
        (["15:40 CT", "13:05 CT"], "a_2025-09-08.csv", central(15, 41)),
        (["15:40 CT", "20:06 CT"], "a_09-08-2025.csv", central(15, 41)),
        (["00:31 CT", "09/08/2025"], "a.csv", central(0, 32)),
        (["15:40 CT", "09/05/2025"], "a_2025-09-08.csv", central(15, 41)),
        (["15:40 CT", "09/09/2025"], "a_2025-09-08.csv", central(15, 41, day=9)),
    ],
)
def test_a_barchart_stamp_is_no_earlier_than_any_row(
    known: dict[str, Market], tmp_path: Path, times: list[str], name: str, at: datetime
) -> None:
    rows = [barchart_row(f"{60 + n}.00C", text) for n, text in enumerate(times)]
    path = barchart_file(tmp_path, *rows, name=name)
    quotes = collect(chain.read(path, "barchart", known["CL"], expiry=EXPIRY))["option_quote"]
    assert quotes["available_at"].unique().to_list() == [at.astimezone(UTC)]


def test_a_barchart_file_that_says_when_it_was_downloaded(
    known: dict[str, Market], tmp_path: Path
) -> None:
    path = barchart_file(
        tmp_path,
        barchart_row("60.00C", "15:40 CT"),
        '"Downloaded from Barchart.com as of 09-08-2025 03:55pm CDT"',
        name="a.csv",
    )
    payload = chain.read(path, "barchart", known["CL"], expiry=EXPIRY)
    stamps = collect(payload)["option_quote"]["available_at"].to_list()
    assert stamps == [central(15, 56).astimezone(UTC)]
    assert not payload.left_out


def test_a_barchart_file_needs_what_it_does_not_say(
    known: dict[str, Market], tmp_path: Path
) -> None:
    cl = known["CL"]
    dated = barchart_file(tmp_path, barchart_row("60.00C", "15:40 CT"))
    refused(dated, "barchart", cl, "give --expiry")
    undated = barchart_file(tmp_path, barchart_row("60.00C", "15:40 CT"), name="a.csv")
    refused(undated, "barchart", cl, "give --quote-time", expiry=EXPIRY)
    strange = barchart_file(
        tmp_path,
        barchart_row("60.00C", "15:40 CT"),
        barchart_row("61.00C", "3:40p"),
        name="b_2025-09-08.csv",
    )
    refused(strange, "barchart", cl, "give --quote-time", expiry=EXPIRY)
    given = central(16)
    for path in (dated, undated, strange):
        quotes = collect(chain.read(path, "barchart", cl, expiry=EXPIRY, quote_time=given))
        assert quotes["option_quote"]["available_at"][0] == given.astimezone(UTC)


def test_a_barchart_stamp_may_not_lie_before_a_row(
    known: dict[str, Market], tmp_path: Path
) -> None:
    for name in ("a.csv", "a_2025-09-08.csv"):
        path = barchart_file(tmp_path, barchart_row("60.00C", "15:40 CT"), name=name)
        refused(
            path,
            "barchart",
            known["CL"],
            "later than --quote-time",
            expiry=EXPIRY,
            quote_time=central(15, 39),
        )
        # A row of 15:40 may be of that very instant, so one may say so.
        payload = chain.read(
            path, "barchart", known["CL"], expiry=EXPIRY, quote_time=central(15, 40)
        )
        at = collect(payload)["option_quote"]["available_at"].to_list()
        assert at == [central(15, 40).astimezone(UTC)]


def test_contradicting_options_are_refused(known: dict[str, Market], tmp_path: Path) -> None:
    path = barchart_file(tmp_path, barchart_row("60.00C", "15:40 CT"))
    cl = known["CL"]
    refused(path, "barchart", cl, "after --expiry", expiry=date(2025, 9, 5))
    other_day = datetime(2025, 11, 16, 20, tzinfo=UTC)
    refused(path, "barchart", cl, "not on --expiry", expiry=EXPIRY, expiration=other_day)
    naive = datetime(2025, 9, 8, 16)  # noqa: DTZ001
    refused(path, "barchart", cl, "no time zone", expiry=EXPIRY, quote_time=naive)


def test_a_given_expiration_instant_is_used(known: dict[str, Market], tmp_path: Path) -> None:
    path = barchart_file(tmp_path, barchart_row("60.00C", "15:40 CT"))
    at = datetime(2025, 11, 17, 19, 30, tzinfo=UTC)
    frames = collect(chain.read(path, "barchart", known["CL"], expiry=EXPIRY, expiration=at))
    assert frames["option_definition"]["expiration"].to_list() == [at]


@pytest.mark.parametrize("format", ["cboe", "barchart"])
@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"PAR1\x00\x00", b"<html></html>"])
def test_what_has_not_the_formats_header_is_refused(
    known: dict[str, Market], tmp_path: Path, format: str, content: bytes
) -> None:
    path = tmp_path / "chain.csv"
    path.write_bytes(content)
    options = {"expiry": EXPIRY} if format == "barchart" else {}
    refused(path, format, known["SPX"], "chain.csv", **options)


# --- real files --------------------------------------------------------------------------------


@needs_real
def test_the_real_cboe_file(known: dict[str, Market]) -> None:
    payload = chain.read(REAL / "cboe_spx_2022-12-12.csv", "cboe", known["SPX"])
    frames = collect(payload)
    quotes, definitions = frames["option_quote"], frames["option_definition"]
    assert quotes.height == definitions.height == 2 * 9578
    assert definitions["instrument_id"].n_unique() == 2 * 9578
    assert definitions["expiration"].dt.date().n_unique() == 51
    assert quotes["available_at"].unique().to_list() == [datetime(2022, 12, 13, 1, 30, tzinfo=UTC)]
    assert quotes["underlying_price"].unique().to_list() == [3990.5601]
    assert definitions.group_by("series").len().sort("series").rows() == [
        ("SPX", 2 * 3197),
        ("SPXW", 2 * 6381),
    ]
    last = quotes.filter(pl.col("contract") == "SPX 2027-12-17 C10000").row(0, named=True)
    assert (last["bid"], last["ask"]) == (5.0, 40.6)
    interest = frames["option_stat"].filter(pl.col("stat_type") == 9)
    assert interest.height == 2 * 9578
    assert interest.filter(contract="SPX 2027-12-17 C12000")["quantity"].to_list() == [102]
    assert not payload.left_out


@needs_real
def test_the_real_barchart_file(known: dict[str, Market]) -> None:
    path = REAL / "barchart_wti_dec2025_2025-09-08.csv"
    payload = chain.read(path, "barchart", known["CL"], expiry=EXPIRY, underlying_price=61.69)
    frames = collect(payload)
    quotes = frames["option_quote"]
    assert quotes.height == 284
    assert quotes["available_at"].unique().to_list() == [central(15, 41).astimezone(UTC)]
    assert quotes["bid"].null_count() == 22
    row = quotes.filter(pl.col("contract") == "LO 2025-11-17 C41.5").row(0, named=True)
    assert (row["bid"], row["ask"]) == (20.23, 20.37)
    assert not payload.left_out
    refused(path, "barchart", known["CL"], "give --expiry")


# --- files that were made to do harm -------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("9999-12-31T23:59:59Z,2024-06-14,90,P,1,2,3,4", "no quote time"),
        ("0001-01-01T00:00:00Z,2024-06-14,90,P,1,2,3,4", "no quote time"),
        ("2024-05-09T18:00Z,9999-12-31,90,P,1,2,3,4", "no expiry"),
        ("2024-05-09T18:00Z,0001-01-01,90,P,1,2,3,4", "no expiry"),
        ("2024-05-09T18:00Z,1677-09-21T00:12:43Z,90,P,1,2,3,4", "no expiry"),
        ("2024-05-09T18:00Z,2024-06-14,1e308,P,1,2,3,4", "no strike above zero"),
        ("2024-05-09T18:00Z,2024-06-14,5e-324,P,1,2,3,4", "no strike above zero"),
        ("2024-05-09T18:00Z,2024-06-14,inf,P,1,2,3,4", "no strike above zero"),
        ("2024-05-09T18:00Z,2024-06-14,90,P,inf,2,3,4", "unreadable number"),
        ("2024-05-09T18:00Z,2024-06-14,90,P,1,2,9223372036854775807,4", "unreadable number"),
    ],
)
def test_a_value_that_cannot_be_is_left_out(
    known: dict[str, Market], tmp_path: Path, row: str, why: str
) -> None:
    payload = chain.read(csv_file(tmp_path, row), "generic", known["HE"])
    assert not collect(payload)
    assert payload.left_out == {why: 1}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gzip.compress(HEADER.encode() + b"\n" * 1_000_000), "is packed or no text"),
        (zlib.compress(HEADER.encode()), "is packed or no text"),
        (zstandard.compress(HEADER.encode()), "is packed or no text"),
        (b"x" * 100_000, "is packed or no text"),
        (
            f"{HEADER}\n2024-05-09T18:00Z,2024-06-14,90,{'P' * 999},,,,\n".encode(),
            "option_type has",
        ),
        (b"PAR1" + b"\xff" * 1000, "neither CSV nor Parquet"),
    ],
    ids=["gzip", "zlib", "zstd", "line", "text", "parquet"],
)
def test_a_file_that_would_not_end_is_refused(
    known: dict[str, Market], tmp_path: Path, data: bytes, says: str
) -> None:
    path = tmp_path / "chain"
    path.write_bytes(data)
    refused(path, "generic", known["HE"], says)


def test_a_row_group_that_would_not_fit_is_refused(
    known: dict[str, Market], tmp_path: Path
) -> None:
    """Forty bytes of Parquet stand for any number of equal rows."""
    path = tmp_path / "chain.parquet"
    rows = pl.DataFrame({"strike": pl.repeat(90.0, 3_000_000, eager=True)})
    rows.write_parquet(path, row_group_size=3_000_000)
    refused(path, "generic", known["HE"], "smaller row groups")


@pytest.mark.parametrize("unit", ["ms", "us"])
@pytest.mark.parametrize("column", ["quote_time", "expiry"])
def test_an_instant_that_no_calendar_has_is_no_time(
    known: dict[str, Market], tmp_path: Path, unit: Literal["ms", "us"], column: str
) -> None:
    path = tmp_path / "chain.parquet"
    line = "2024-05-09T18:00:00Z,2024-06-14,90,P,1,2,3,4"
    rows = pl.read_csv(f"{HEADER}\n{line}\n{line}\n".encode(), infer_schema=False)
    odd = pl.Series(column, [2**63 - 1, -(2**63) + 1]).cast(pl.Datetime(unit, "UTC"))
    rows.with_columns(odd).write_parquet(path)
    payload = chain.read(path, "generic", known["HE"])
    assert not collect(payload)
    assert sum(payload.left_out.values()) == 2


def test_a_footer_of_no_time_is_passed_over(known: dict[str, Market], tmp_path: Path) -> None:
    path = tmp_path / "options.csv"
    footer = "Downloaded from Barchart.com as of 99-99-9999 99:99pm CDT"
    path.write_text(f"Strike,Bid,Ask,Volume,Open Int,Time\n62.00C,3,3.2,4,30,13:05 CT\n{footer}\n")
    refused(path, "barchart", known["CL"], "when it was taken", expiry=date(2025, 11, 17))
