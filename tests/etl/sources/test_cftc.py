"""The CFTC's files: every form that they have had, in each of its reports."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from etl.cot_releases import releases
from etl.errors import BadInput
from etl.market import Market, markets
from etl.schemas import source_schema
from etl.sources import Payload, cftc

REAL = Path(__file__).parents[3] / ".." / "shared" / "data" / "cot"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real CFTC zips beside the project")

POSITIONS = (
    "Open_Interest_All",
    "Prod_Merc_Positions_Long_All",
    "Prod_Merc_Positions_Short_All",
    "Swap_Positions_Long_All",
    "Swap__Positions_Short_All",
    "Swap__Positions_Spread_All",
    "M_Money_Positions_Long_All",
    "M_Money_Positions_Short_All",
    "M_Money_Positions_Spread_All",
    "Other_Rept_Positions_Long_All",
    "Other_Rept_Positions_Short_All",
    "Other_Rept_Positions_Spread_All",
    "NonRept_Positions_Long_All",
    "NonRept_Positions_Short_All",
)
OURS = (
    "open_interest",
    "prod_merc_long",
    "prod_merc_short",
    "swap_long",
    "swap_short",
    "swap_spread",
    "managed_money_long",
    "managed_money_short",
    "managed_money_spread",
    "other_reportable_long",
    "other_reportable_short",
    "other_reportable_spread",
    "nonreportable_long",
    "nonreportable_short",
)
HOGS = "LEAN HOGS - CHICAGO MERCANTILE EXCHANGE"


def text(
    *rows: tuple[str, str],
    dates: tuple[str, ...] = ("Report_Date_as_YYYY-MM-DD",),
    positions: tuple[str, ...] = tuple(str(n) for n in range(100, 114)),
    scope: str = "FutOnly",
    pad: str = "",
) -> str:
    """A report of (code, date) rows."""
    header = ["Market_and_Exchange_Names", *dates, "CFTC_Contract_Market_Code", *POSITIONS]
    lines = [",".join(f'"{name}"' for name in [*header, "FutOnly_or_Combined"])]
    for code, day in rows:
        fields = [f'"{HOGS}"{pad}', *[day + pad] * len(dates), code + pad]
        lines.append(",".join([*fields, *positions, f'"{scope}"']))
    return "\r\n".join(lines) + "\r\n"


def zipped(content: str | bytes, name: str = "f_year.txt", **more: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
        for other, body in more.items():
            archive.writestr(other, body)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def known() -> dict[str, Market]:
    return markets()


def rows_of(payload: Payload, dataset: str = "cot") -> pl.DataFrame:
    ((found, frame),) = payload.frames
    assert found == dataset
    assert frame.schema == source_schema(dataset)
    assert (frame["as_of"] < frame["available_at"]).all()
    return frame


# --- reading -----------------------------------------------------------------------------------


def test_a_report_is_known_at_its_release(known: dict[str, Market]) -> None:
    payload = cftc.read(zipped(text(("054642", "2024-06-11"), ("999999", "2024-06-11"))), known)
    row = rows_of(payload).row(0, named=True)
    assert row["market"] == "HE"
    assert row["as_of"] == datetime(2024, 6, 11, 21, tzinfo=UTC)
    assert row["available_at"] == datetime(2024, 6, 14, 19, 30, tzinfo=UTC)
    assert row["report"] == "disaggregated_futures"
    assert (row["cot_code"], row["name"], row["source"]) == ("054642", HOGS, "cftc")
    assert [row[name] for name in OURS] == list(range(100, 114))
    assert row["release_estimated"] is False
    assert payload.left_out == Counter({"other market": 1})


@pytest.mark.parametrize(
    ("column", "day"),
    [
        ("Report_Date_as_YYYY-MM-DD", "2012-06-05"),
        ("Report_Date_as_MM_DD_YYYY", "06/05/2012"),
        ("Report_Date_as_MM_DD_YYYY", "6/5/2012"),
        ("Report_Date_as_MM_DD_YYYY", "2012-06-05"),  # the file of 2012
        ("Report_Date_as_YYYY-MM-DD", "2012-06-05 00:00:00"),
        ("Report_Date_as_YYYY-MM-DD", "2012-06-05T00:00:00.000"),
        ("As_of_Date_In_Form_YYMMDD", "120605"),
    ],
)
def test_every_date_form(known: dict[str, Market], column: str, day: str) -> None:
    frame = rows_of(cftc.read(zipped(text(("054642", day), dates=(column,))), known))
    assert frame["report_date"].to_list() == [date(2012, 6, 5)]


def test_a_date_that_lost_its_leading_zero(known: dict[str, Market]) -> None:
    content = text(("054642", "60613"), dates=("As_of_Date_In_Form_YYMMDD",))
    frame = rows_of(cftc.read(zipped(content), known))
    assert frame["report_date"].to_list() == [date(2006, 6, 13)]


@pytest.mark.parametrize("code", ["054642", "54642", " 054642 ", '"054642"', '"054642 "'])
def test_every_code_form(known: dict[str, Market], code: str) -> None:
    frame = rows_of(cftc.read(zipped(text((code, "2024-06-11"), pad=" ")), known))
    assert frame["cot_code"].to_list() == ["054642"]
    assert frame["name"].to_list() == [HOGS]


def test_missing_and_padded_and_grouped_numbers(known: dict[str, Market]) -> None:
    positions = (" 248085", ".", "", " . ", "0", '"1,234"', *["7"] * 8)
    frame = rows_of(cftc.read(zipped(text(("054642", "2024-06-11"), positions=positions)), known))
    row = frame.row(0, named=True)
    assert [row[name] for name in OURS[:7]] == [248085, None, None, None, 0, 1234, 7]


def test_headers_differ_in_underscores_case_and_a_byte_order_mark(
    known: dict[str, Market],
) -> None:
    content = "\ufeff" + text(("054642", "2024-06-11")).replace("Swap__", "Swap_").replace(
        "Market_and_Exchange_Names", "market_and_exchange_names"
    )
    assert rows_of(cftc.read(zipped(content), known)).height == 1


def test_rows_are_sorted_and_a_repeated_row_counts_once(known: dict[str, Market]) -> None:
    row = ("054642", "2024-06-11")
    frame = rows_of(cftc.read(zipped(text(row, ("004603", "2024-06-04"), row)), known))
    assert frame.select("market", "report_date").rows() == [
        ("HE", date(2024, 6, 11)),
        ("ZO", date(2024, 6, 4)),
    ]


def test_a_file_without_our_markets_says_so(known: dict[str, Market]) -> None:
    payload = cftc.read(zipped(text(("999999", "2024-06-11"))), known)
    assert list(payload.frames) == []
    assert payload.notes


def test_the_same_bytes_have_the_same_identity(known: dict[str, Market], tmp_path: Path) -> None:
    data = zipped(text(("054642", "2024-06-11")))
    path = tmp_path / "fut_disagg_txt_2024.zip"
    path.write_bytes(data)
    from_file = cftc.read(path, known)
    assert from_file.sha256 == cftc.read(data, known).sha256
    assert from_file.description == path.name
    assert rows_of(from_file).equals(rows_of(cftc.read(data, known)))


def test_the_combined_report_is_one_of_its_own(known: dict[str, Market]) -> None:
    content = text(("054642", "2024-06-11"), scope="Combined")
    frame = rows_of(cftc.read(zipped(content, "c_year.txt"), known))
    assert frame["report"].to_list() == ["disaggregated_combined"]
    assert frame.row(0, named=True)["open_interest"] == 100


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_text_itself_is_taken_too(known: dict[str, Market], tmp_path: Path, mark: str) -> None:
    content = mark + text(("054642", "2024-06-11"))
    path = tmp_path / "f_year.txt"
    path.write_text(content, encoding="utf-8", newline="")
    frame = rows_of(cftc.read(path, known))
    assert frame.equals(rows_of(cftc.read(zipped(content), known)))
    assert frame.equals(rows_of(cftc.read(path.read_bytes(), known)))


def test_years_before_2006_are_left_out(known: dict[str, Market]) -> None:
    days = ("1998-06-09", "2005-12-27", "2006-06-13")
    payload = cftc.read(zipped(text(*(("054642", day) for day in days))), known)
    assert rows_of(payload)["report_date"].to_list() == [date(2006, 6, 13)]
    assert payload.left_out == Counter({"before 2006": 2})


# --- the other reports -------------------------------------------------------------------------

SP500 = "E-MINI S&P 500 - CHICAGO MERCANTILE EXCHANGE"
#: The lake's columns in the order of the CFTC's, beside open interest.
LEGACY = (
    *("noncommercial_long", "noncommercial_short", "noncommercial_spread"),
    *("commercial_long", "commercial_short", "nonreportable_long", "nonreportable_short"),
)
FINANCIAL = (
    *(
        f"{trader}_{side}"
        for trader in ("dealer", "asset_manager", "leveraged", "other_reportable")
        for side in ("long", "short", "spread")
    ),
    *("nonreportable_long", "nonreportable_short"),
)


def legacy_text(*days: str) -> str:
    """The Legacy report as published: words and brackets in its header, no word of options."""
    header = [
        *("Market and Exchange Names", "As of Date in Form YYMMDD"),
        *("As of Date in Form YYYY-MM-DD", "CFTC Contract Market Code"),
        *("CFTC Market Code in Initials", "CFTC Region Code", "CFTC Commodity Code"),
        *("Open Interest (All)", "Noncommercial Positions-Long (All)"),
        *("Noncommercial Positions-Short (All)", "Noncommercial Positions-Spreading (All)"),
        *("Commercial Positions-Long (All)", "Commercial Positions-Short (All)"),
        *(" Total Reportable Positions-Long (All)", "Total Reportable Positions-Short (All)"),
        *("Nonreportable Positions-Long (All)", "Nonreportable Positions-Short (All)"),
        *("Open Interest (Old)", "Noncommercial Positions-Long (Old)"),
        *("% of Open Interest (OI) (All)", "CFTC Contract Market Code (Quotes)"),
    ]
    lines = [",".join(f'"{name}"' for name in header)]
    for day in days:
        short = day[2:].replace("-", "")
        cells = [f'"{HOGS}"', short, day, "054642", "CME ", "01 ", "054 "]
        cells += [f"{n:>9d}" for n in (100, 101, 102, 103, 104, 105, 900, 900, 106, 107, 1, 1)]
        lines.append(",".join([*cells, " 100.0", '"054642"']))
    return "\r\n".join(lines) + "\r\n"


def financial_text(*days: str, scope: str = "FutOnly") -> str:
    """Traders in Financial Futures."""
    header = [
        *("Market_and_Exchange_Names", "As_of_Date_In_Form_YYMMDD", "Report_Date_as_YYYY-MM-DD"),
        *("CFTC_Contract_Market_Code", "CFTC_Market_Code", "Open_Interest_All"),
        *(
            f"{trader}_Positions_{side}_All"
            for trader in ("Dealer", "Asset_Mgr", "Lev_Money", "Other_Rept")
            for side in ("Long", "Short", "Spread")
        ),
        *("Tot_Rept_Positions_Long_All", "Tot_Rept_Positions_Short_All"),
        *("NonRept_Positions_Long_All", "NonRept_Positions_Short_All", "FutOnly_or_Combined"),
    ]
    lines = [",".join(f'"{name}"' for name in header)]
    for day in days:
        numbers = [*range(100, 113), 900, 900, 113, 114]
        cells = [f'"{SP500}"', day[2:].replace("-", ""), day, "13874A", "CME "]
        lines.append(",".join([*cells, *(f"{n:>8d}" for n in numbers), f'"{scope}"']))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("zip_name", "name", "report"),
    [
        ("deacot2024.zip", "annual.txt", "legacy_futures"),
        ("deahistfo2024.zip", "annualof.txt", "legacy_combined"),
        ("deacot1986_2016.zip", "FUT86_16.txt", "legacy_futures"),
        ("deahistfo_1995_2016.zip", "Com95_16.txt", "legacy_combined"),
        ("mine.zip", "annual.txt", "legacy_futures"),
        ("mine.zip", "annualof.txt", "legacy_combined"),
        ("deahistfo2024.zip", "x.txt", "legacy_combined"),
    ],
)
def test_the_legacy_report(
    known: dict[str, Market], tmp_path: Path, zip_name: str, name: str, report: str
) -> None:
    path = tmp_path / zip_name
    path.write_bytes(zipped(legacy_text("2024-06-11"), name))
    row = rows_of(cftc.read(path, known), "cot_legacy").row(0, named=True)
    assert (row["market"], row["report"], row["open_interest"]) == ("HE", report, 100)
    assert [row[column] for column in LEGACY] == list(range(101, 108))
    assert row["available_at"] == datetime(2024, 6, 14, 19, 30, tzinfo=UTC)


def test_a_legacy_report_whose_names_are_lost_is_refused(known: dict[str, Market]) -> None:
    with pytest.raises(BadInput, match=r"counts options too.*deahistfo2024\.zip"):
        list(cftc.read(zipped(legacy_text("2024-06-11"), "x.txt"), known).frames)


@pytest.mark.parametrize(
    ("scope", "report"), [("FutOnly", "financial_futures"), ("Combined", "financial_combined")]
)
def test_the_financial_report(known: dict[str, Market], scope: str, report: str) -> None:
    content = zipped(financial_text("2024-06-11", "2024-06-18", scope=scope), "FinFutYY.txt")
    frame = rows_of(cftc.read(content, known), "cot_financial")
    row = frame.row(0, named=True)
    assert (row["market"], row["report"], row["open_interest"]) == ("ES", report, 100)
    assert [row[column] for column in FINANCIAL] == list(range(101, 115))
    assert (row["cot_code"], row["name"]) == ("13874A", SP500)


GOOD = text(("054642", "2024-06-11"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a whole zip"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (zipped(GOOD)[:-30], "not a whole zip"),
        (zipped(GOOD, other="x"), "2 files"),
        (zipped(text(("054642", "2024-06-11"), scope="Both")), "counts options too"),
        (
            zipped(GOOD + text(("054642", "2024-06-18"), scope="Combined").splitlines()[1]),
            "of the disaggregated_combined report, those before it of disaggregated_futures",
        ),
        (zipped(GOOD.replace("Prod_Merc", "Dealer")), "no column prod_merc_positions_long_all"),
        (zipped(GOOD.replace("Report_Date_as_YYYY-MM-DD", "When")), "no column report_date_as"),
        (zipped("Market_and_Exchange_Names,NComm_Postions_Long_All_NoCIT\n"), "not a report"),
        (zipped(""), "not a report"),
        (zipped(GOOD.replace("2024-06-11", "yesterday")), "not a date"),
        (zipped(GOOD.replace(",105,", ",1o5,")), "not a whole number"),
        (zipped(GOOD + "054642,2024\r\n"), "fields"),
        (zipped(GOOD + GOOD.splitlines()[1].replace(",105,", ",106,")), "two different rows"),
    ],
)
def test_what_is_not_a_report_is_refused(known: dict[str, Market], data: bytes, says: str) -> None:
    with pytest.raises(BadInput, match=says) as error:
        list(cftc.read(data, known).frames)
    assert "\n" not in str(error.value)


def test_damage_inside_the_zip_is_refused(known: dict[str, Market]) -> None:
    data = bytearray(zipped(GOOD * 50))
    data[60] ^= 0xFF
    with pytest.raises(BadInput, match="cannot be read"):
        list(cftc.read(bytes(data), known).frames)


def test_a_zip_that_unpacks_to_too_much_is_refused(
    known: dict[str, Market], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cftc, "_MAX_TEXT_BYTES", 100)
    with pytest.raises(BadInput, match="more than any report"):
        cftc.read(zipped(GOOD), known)


def test_a_missing_file_is_refused(known: dict[str, Market], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        cftc.read(tmp_path / "none.zip", known)


# --- real files --------------------------------------------------------------------------------


@needs_real
@pytest.mark.parametrize(
    ("year", "hogs", "oats", "first", "last"),
    [
        (2012, 53, 53, date(2012, 1, 3), date(2012, 12, 31)),
        (2024, 53, 26, date(2024, 1, 2), date(2024, 12, 31)),
        (2025, 52, 16, date(2025, 1, 7), date(2025, 12, 30)),
    ],
)
def test_real_years(
    known: dict[str, Market], year: int, hogs: int, oats: int, first: date, last: date
) -> None:
    payload = cftc.read(REAL / f"fut_disagg_txt_{year}.zip", known)
    frame = rows_of(payload)
    he = frame.filter(pl.col("market") == "HE")
    assert he.height == hogs
    assert frame.filter(pl.col("market") == "ZO").height == oats
    assert (he["report_date"].min(), he["report_date"].max()) == (first, last)
    every = {2012: 5938, 2024: 13601, 2025: 13630}[year]
    assert frame.height + payload.left_out["other market"] == every
    assert he["available_at"].equals(releases(he["report_date"])["available_at"])
    assert "ES" not in frame["market"].unique().to_list()


@needs_real
def test_real_positions_add_up_to_open_interest(known: dict[str, Market]) -> None:
    for year in (2012, 2024, 2025):
        frame = rows_of(cftc.read(REAL / f"fut_disagg_txt_{year}.zip", known))
        spreads = pl.col("swap_spread", "managed_money_spread", "other_reportable_spread")
        for side in ("long", "short"):
            held = pl.sum_horizontal(pl.col(f"^.*_{side}$"), spreads)
            assert frame.filter(held != pl.col("open_interest")).is_empty()


@needs_real
def test_a_real_row(known: dict[str, Market]) -> None:
    frame = rows_of(cftc.read(REAL / "fut_disagg_txt_2012.zip", known))
    row = frame.filter(market="HE", report_date=date(2012, 12, 31)).row(0, named=True)
    assert [row[name] for name in OURS[:9]] == [
        248085, 9143, 111345, 66817, 6234, 4199, 65857, 15136, 22659,
    ]  # fmt: skip


# --- a zip or a text that was made to do harm ----------------------------------------------------


def packed(content: bytes, method: int) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        archive.writestr("f_year.txt", content)
    return held.getvalue()


def many_entries() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for number in range(200):
            archive.writestr(f"../../{number}", "")
    return held.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (packed(GOOD.encode(), zipfile.ZIP_LZMA), "packed as the CFTC packs nothing"),
        (packed(GOOD.encode(), zipfile.ZIP_BZIP2), "packed as the CFTC packs nothing"),
        (many_entries(), "holds 200 files"),
        (zipped(GOOD)[3:], "not a whole zip|cannot be read"),  # its offsets are off
        (zipped("x" * 10_000_000), "not a report that is read"),  # one line without end
        (zipped('"' + "\n" * 10_000_000), "not a report that is read"),  # one field
        (zipped(GOOD + "y" * 10_000_000), "has 1 fields|cannot be read"),
        (zipped(GOOD.replace("2024-06-11", "0001-01-02")), "not a date"),
        (zipped(GOOD.replace("2024-06-11", "9999-12-28")), "not a date"),
        (zipped(GOOD.replace(",105,", ",99999999999999999999999,")), "not a whole number"),
        (zipped(GOOD.replace(",105,", ",1_05,")), "not a whole number"),
        (zipped(GOOD.replace(",105,", ",nan,")), "not a whole number"),
    ],
    ids=range(12),
)
def test_what_was_made_to_do_harm_is_refused(
    known: dict[str, Market], data: bytes, says: str
) -> None:
    with pytest.raises(BadInput, match=says) as error:
        list(cftc.read(data, known).frames)
    assert len(str(error.value)) < 400


def test_a_member_is_never_unpacked_to_a_place_it_names(
    known: dict[str, Market], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("../../outside.txt", GOOD)
    assert rows_of(cftc.read(held.getvalue(), known)).height == 1
    assert not list(tmp_path.iterdir())
