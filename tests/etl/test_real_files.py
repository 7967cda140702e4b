"""Real files of the vendors and of others go all the way to the features."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from etl import jobs
from etl.build import build
from etl.derive import derive
from etl.errors import HydraError
from etl.export import open_database
from etl.lake import Lake
from etl.landing import Landed, land
from etl.market import markets
from etl.sources import chain

NOW = datetime(2026, 11, 24, tzinfo=UTC)
QUOTE_TIME = datetime(2025, 9, 8, 20, 40, tzinfo=UTC)


@pytest.fixture(scope="module")
def landed() -> dict[str, Landed]:
    """What each file brought, by its name under the data folder."""
    return {}


@pytest.fixture(scope="module")
def database(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory, landed: dict[str, Landed]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A lake of every real file."""
    lake, known = Lake(tmp_path_factory.mktemp("real") / "lake"), markets()
    spx = chain.read(shared_data / "chains/cboe_spx_2022-12-12.csv", "cboe", known["SPX"])
    wti = chain.read(
        shared_data / "chains/barchart_wti_dec2025_2025-09-08.csv",
        "barchart",
        known["CL"],
        quote_time=QUOTE_TIME,
        expiry=date(2025, 11, 17),
    )
    with lake.writing(NOW):
        for folder in sorted((shared_data / "dbn").iterdir()):
            files = jobs.dbn_files([folder])
            for path, result in zip(files, jobs.land_dbn(lake, known, [folder], NOW), strict=True):
                assert not isinstance(result, HydraError), result
                landed[f"{folder.name}/{path.name}"] = result
        zips = sorted((shared_data / "cot").glob("*.zip"))
        for path, result in zip(zips, jobs.land_cot(lake, known, zips, NOW), strict=True):
            assert not isinstance(result, HydraError), result
            landed[path.name] = result
        for payload in (spx, wti):
            landed[payload.description] = land(lake, payload, NOW, "vendor")
        for code in ("ES", "SPX", "CL", "HE", "ZO"):
            derive(lake, known[code], NOW)
        build(lake, known, NOW)
    connection = open_database(lake.database)
    yield connection
    connection.close()


def one(database: duckdb.DuckDBPyConnection, query: str) -> dict[str, object]:
    """The only row of a query."""
    rows = database.sql(query).pl()
    assert rows.height == 1
    return rows.row(0, named=True)


def test_every_dbn_file_lands_what_it_holds(database, landed: dict[str, Landed]) -> None:
    """Row counts as the vendor's own reader gives them, less what is left out by reason."""
    futures = "es_options_2024-05-09/futures"
    options = "es_options_2024-05-09/options"
    span = "2024-05-09T09-55_2024-05-09T10-05.dbn.zst"
    weekly = "es_weekly_expiry_2026-01-09"
    late = "2026-01-09T20-55_2026-01-09T21-05.dbn.zst"
    rows = {
        f"{futures}_bbo-1m_{span}": ("futures_quote", 10),
        f"{futures}_definition.dbn.zst": ("futures_definition", 1),
        f"{futures}_ohlcv-1m_{span}": ("futures_1m", 10),
        f"{options}_bbo-1m_{span}": ("option_quote", 20),
        f"{options}_definition.dbn.zst": ("option_definition", 2),
        f"{weekly}/futures_ohlcv-1m_{late}": ("futures_1m", 10),
        f"{weekly}/options_bbo-1m_{late}": ("option_quote", 8),
        f"{weekly}/options_definition.dbn.zst": ("option_definition", 1),
        "glbx_samples/test_data.statistics.dbn.zst": ("futures_stat", 4),
        "glbx_samples/test_data.mbp-1.dbn.zst": ("futures_quote", 4),
        "definitions_v3/test_data.definition.option.dbn.zst": ("option_definition", 2),
        "definitions_v3/test_data.definition.futures_contract.dbn.zst": ("futures_definition", 1),
    }
    for name, (dataset, count) in rows.items():
        assert landed[name].rows == {dataset: count}, name
    # The file holds ESM4 and another index's future, which no market file names.
    assert landed[f"{futures}_bbo-1m_{span}"].left_out == {"other market": 10}


def test_spreads_and_user_defined_instruments_are_left_out_and_counted(
    database, landed: dict[str, Landed]
) -> None:
    spread = landed["definitions_v3/test_data.definition.futures_spread.dbn.zst"]
    assert (dict(spread.rows), dict(spread.left_out)) == ({}, {"spread": 1})
    own = landed["definitions_v3/test_data.definition.option_spread.dbn.zst"]
    assert (dict(own.rows), dict(own.left_out)) == ({}, {"user-defined": 2})


def test_es_options_have_their_forward_from_esm4_and_a_vol(database) -> None:
    rows = database.sql(
        "from features.chain_v1 where market = 'ES' and session_date = '2024-05-09' order by strike"
    ).pl()
    assert rows["strike"].to_list() == [5230.0, 5250.0]
    assert rows["underlying"].to_list() == ["ESM4"] * 2
    assert rows["forward_source"].to_list() == ["future_quote"] * 2
    # The newest two-sided quote of ESM4 in the file: 5200.25 / 5200.50.
    assert rows["forward"].to_list() == [5200.375] * 2
    assert rows["bid"].to_list() == [97.0, 107.5]
    assert rows["iv"].is_between(0.10, 0.13).all()
    assert rows["expiry"].to_list() == [date(2024, 6, 21)] * 2
    assert (rows["available_at"] <= rows["as_of"]).all()


def test_a_weekly_option_is_priced_on_its_own_underlying(database) -> None:
    row = one(database, "from features.chain_v1 where series = 'EW2'")
    assert (row["underlying"], row["contract"]) == ("ESH6", "EW2F6 C7000")
    assert row["expiry"] == row["session_date"] == date(2026, 1, 9)
    assert row["forward_source"] == "future_bar"
    assert row["iv_status"] == 0


def test_no_quote_after_the_snapshot_counts(database) -> None:
    """The weekly's quotes go on to 21:03; the snapshot is at 20:58."""
    row = one(database, "from features.chain_v1 where series = 'EW2'")
    assert (row["bid"], row["ask"]) == (8.30, 8.90)


def test_a_bar_of_a_utc_day_is_known_at_its_end(database) -> None:
    row = one(database, "from raw.futures_1d where market = 'ES'")
    assert row["as_of"] == row["available_at"] == datetime(2020, 12, 29, tzinfo=UTC)


def test_cot_has_hogs_and_oats_of_the_three_years(database) -> None:
    counts = database.sql(
        "select market, year(report_date), count(*) from features.cot_v1"
        " where market in ('HE', 'ZO') group by all order by all"
    ).fetchall()
    # Oats had too few large traders for a report in many weeks of 2024 and 2025.
    assert counts == [
        ("HE", 2012, 53),
        ("HE", 2024, 53),
        ("HE", 2025, 52),
        ("ZO", 2012, 53),
        ("ZO", 2024, 26),
        ("ZO", 2025, 16),
    ]


def test_cot_row_equals_the_published_one(database) -> None:
    row = one(
        database,
        "from features.cot_v1 where market = 'HE' and report_date = '2024-12-31'",
    )
    assert row["open_interest"] == 307749
    assert (row["managed_money_long"], row["managed_money_short"]) == (113579, 9672)
    assert row["managed_money_net"] == 113579 - 9672
    assert row["managed_money_share"] == pytest.approx((113579 - 9672) / 307749)
    # The offices were closed on Thursday 2025-01-09 only; this report came out on the 6th.
    assert row["available_at"] == datetime(2025, 1, 6, 20, 30, tzinfo=UTC)


def test_wti_goes_through_to_density_moments_and_flows(database) -> None:
    surface = one(database, "from features.surface_v1 where market = 'CL'")
    # The file's name says that the future stood at 61.69.
    assert surface["forward"] == pytest.approx(61.69, abs=0.05)
    assert surface["forward_source"] == "parity"
    assert surface["data_quality"] == "full"
    assert surface["butterfly_free"]
    assert 0.30 < surface["atm_iv"] < 0.45
    moments = one(database, "from features.moments_v1 where market = 'CL'")
    assert abs(moments["mass"] - 1) < 1e-6
    assert abs(moments["mean"] / moments["forward"] - 1) < 1e-6
    points = database.sql("from features.density_v1 where market = 'CL'").pl()
    assert points.height == 101
    assert (points["density"] >= 0).all()
    flow = one(
        database,
        "from features.flow_v1 where market = 'CL' and scope = 'total'"
        " and weight = 'open_interest' and convention = 'dealer_long'",
    )
    assert flow["gex"] > 0


def test_spx_goes_through_where_it_was_quoted(database) -> None:
    """The file was taken at night, when only some expiries had quotes left."""
    slices = database.sql("from features.surface_v1 where market = 'SPX'").pl()
    # 56 series on 51 dates, one of them expired when the file was taken.
    assert slices.height == 55
    assert slices["expiry"].n_unique() == 50
    full = slices.filter(pl.col("data_quality") == "full")
    assert full["expiry"].dt.year().to_list() == [2024, 2024, 2025, 2026]
    assert full["butterfly_free"].all()
    assert full["calendar_free"].all()
    assert (full["forward_source"] == "parity").all()
    # Forwards rise with the rate from an index of 3990.56.
    assert full["forward"].is_sorted()
    assert full["forward"].is_between(4100, 4600).all()
    moments = database.sql(
        "from features.moments_v1 where market = 'SPX' and data_quality = 'full'"
    ).pl()
    assert ((moments["mean"] / moments["forward"] - 1).abs() < 1e-6).all()
    assert database.sql("select count(*) from features.flow_v1 where market = 'SPX'").fetchall()


def test_landing_them_again_adds_nothing(shared_data: Path, tmp_path: Path, database) -> None:
    lake, known = Lake(tmp_path / "lake"), markets()
    folder = shared_data / "dbn/es_options_2024-05-09"
    zips = [shared_data / "cot/fut_disagg_txt_2025.zip"]
    later = datetime(2026, 11, 25, tzinfo=UTC)
    with lake.writing(NOW):
        first = [*jobs.land_dbn(lake, known, [folder], NOW), *jobs.land_cot(lake, known, zips, NOW)]
        files = lake.raw_files()
        again = [
            *jobs.land_dbn(lake, known, [folder], later),
            *jobs.land_cot(lake, known, zips, later),
        ]
    assert all(isinstance(result, Landed) and sum(result.rows.values()) for result in first)
    assert all(isinstance(result, Landed) and not +result.rows for result in again)
    assert lake.raw_files() == files


def test_only_changed_cells_of_a_later_cot_file_become_vintages(
    shared_data: Path, tmp_path: Path
) -> None:
    """Two cells of hogs change and a week of oats appears: three rows, known from that download."""
    published = shared_data / "cot/fut_disagg_txt_2025.zip"
    with zipfile.ZipFile(published) as archive:
        header, *lines = archive.read("f_year.txt").decode("latin-1").splitlines()
    changed = []
    for line in lines:
        fields = line.split(",")
        if fields[3].strip() == "054642" and fields[2] in ("2025-06-03", "2025-06-10"):
            fields[13] = str(int(fields[13]) + 1)  # managed money, long
        changed.append(",".join(fields))
        if fields[3].strip() == "004603" and fields[2] == "2025-12-23":
            changed.append(line.replace("251223", "251230").replace("2025-12-23", "2025-12-30"))
    later_file = tmp_path / "fut_disagg_txt_2025.zip"
    with zipfile.ZipFile(later_file, "w") as archive:
        archive.writestr("f_year.txt", "\n".join([header, *changed]).encode("latin-1"))

    lake, known = Lake(tmp_path / "lake"), markets()
    later = datetime(2026, 12, 1, tzinfo=UTC)
    with lake.writing(NOW):
        (first,) = jobs.land_cot(lake, known, [published], NOW)
        build(lake, known, NOW)
        connection = open_database(lake.database)
        past = connection.sql("from features.cot_v1 order by all").pl()
        connection.close()
        (second,) = jobs.land_cot(lake, known, [later_file], later)
        build(lake, known, later)
    assert isinstance(first, Landed)
    assert isinstance(second, Landed)
    assert second.rows == {"cot": 3}

    connection = open_database(lake.database)
    now = connection.sql("from features.cot_v1 order by all").pl()
    connection.close()
    new = now.join(past, on=past.columns, how="anti", nulls_equal=True)
    revised = new.filter(pl.col("market") == "HE")
    assert revised["report_date"].to_list() == [date(2025, 6, 3), date(2025, 6, 10)]
    assert (revised["available_at"] == later).all()
    # The week that was not there is a first vintage, known from its release on.
    oats = new.filter(pl.col("market") == "ZO", pl.col("report_date") == date(2025, 12, 30))
    assert oats["available_at"].to_list() == [datetime(2026, 1, 13, 20, 30, tzinfo=UTC)]
    # No row of the past is gone but those whose three years the new week of oats belongs to.
    gone = past.join(now, on=past.columns, how="anti", nulls_equal=True)
    assert set(gone["market"]) <= {"ZO"}
    assert gone.filter(
        pl.col("available_at") < datetime(2026, 1, 13, 20, 30, tzinfo=UTC)
    ).is_empty()
