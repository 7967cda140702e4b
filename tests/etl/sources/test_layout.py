"""What columns a vendor's file had: kept with its batch, so that a change of them is seen."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl import checks, jobs
from etl.build import build
from etl.market import markets
from etl.sources import chain, dbn, sample, text_layout

MARKETS = markets()


@pytest.mark.parametrize(
    ("value", "kind"),
    [("12", "number"), ("-1,234.5", "number"), (" 7 %", "number"), (".5", "number"),
     ("HE", "text"), ("2025-03-06", "text"), ("", ""), (" ", ""), (".", "")],
)  # fmt: skip
def test_a_text_columns_type_is_its_first_values(value: str, kind: str) -> None:
    assert text_layout(["a", "b"], [value, "x"]) == {"a": kind, "b": "text"}


def test_columns_of_one_name_are_told_apart_by_place() -> None:
    assert text_layout(["bid", "bid"], ["1", "x"]) == {"bid": "number", "bid 1": "text"}


def test_a_dbn_file_says_its_fields(tmp_path: Path) -> None:
    start = datetime(2025, 3, 6, tzinfo=UTC)
    files = sample.fetch(MARKETS["ZO"], start, start + timedelta(days=1), tmp_path)
    (path,) = [path for path in files if ".FUT_bbo-1m" in path.name]
    payload = dbn.read(path, MARKETS, None, "sample")
    list(payload.frames)
    assert payload.kind == "bbo-1m"
    assert payload.layout["instrument_id"] == "<u4"
    assert payload.layout["bid_px_00"] == "<i8"


def test_a_chain_file_says_its_header(tmp_path: Path) -> None:
    path = tmp_path / "chain.csv"
    path.write_text(
        "quote_time,expiry,option_type,strike,bid,ask,open_interest,volume,Their_Own\n"
        "2025-03-06T19:00:00Z,2025-04-14,C,90,1.0,1.1,10,1,7\n"
    )
    payload = chain.read(path, "generic", MARKETS["HE"])
    list(payload.frames)
    assert payload.kind == "generic"
    assert "their_own" in payload.layout


def test_a_column_that_a_vendor_adds_is_found(own_lake, tmp_path: Path) -> None:
    """It changes nothing that is landed, and the next build says so."""
    lake, later = own_lake.lake, own_lake.now + timedelta(days=14)
    (path,) = sample.fetch_cot(2025, 2025, later, tmp_path)
    with zipfile.ZipFile(path) as archive:
        head, *rows = archive.read("f_year.txt").decode().splitlines()
    with zipfile.ZipFile(path, "w") as archive:
        text = "\n".join([f'{head},"New_Column"', *(f"{row},1" for row in rows)])
        archive.writestr("f_year.txt", text)
    known = dict(own_lake.markets)
    with lake.writing(later):
        sold = {code: known[code] for code in ("HE", "ZO")}
        (landed,) = jobs.land_cot(lake, sold, [path], later, "sample")
        assert landed.rows["cot"] == 4
        build(lake, known, later)
    found = checks.findings(checks.kept(lake, later))
    rows_found = [row for row in found.to_dicts() if row["check_name"] == "schema_drift"]
    assert [(row["market"], row["subject"]) for row in rows_found] == [
        ("HE", "sample disaggregated_futures"),
        ("ZO", "sample disaggregated_futures"),
    ]
    assert rows_found[0]["reason"].endswith("sample_fut_disagg_txt_2025.zip: new new_column")
