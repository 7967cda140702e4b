"""Each kind of export read back by other programs, and the descriptor that lies beside it."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from etl.cli import main
from etl.errors import BadInput, LakeError
from etl.export import export, export_query
from etl.lake import Lake

SURFACE = "features.surface_v1"
WIDE = "features.daily_v1"


def hydra_export(lake: Lake, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--lake", str(lake.root), "-q", "export", *arguments])


def wanted(sample_lake: Any, view: str) -> pl.DataFrame:
    with sample_lake.connect() as connection:
        rows: pl.DataFrame = connection.sql(f"from {view} order by all").pl()
        return rows


def package(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "datapackage.json").read_text())
    return read


# --- read back by others ------------------------------------------------------------------------


def by_pandas(path: Path) -> list[tuple[Any, ...]]:
    instants = ["as_of", "available_at", "expiration"]
    if path.suffix == ".csv":
        frame = pd.read_csv(path, parse_dates=instants, float_precision="round_trip")
    else:
        frame = pd.read_parquet(path)
    return _plain(frame["as_of"], frame["series"], frame["a"], frame["n_liquid"])


def by_polars(path: Path) -> list[tuple[Any, ...]]:
    if path.suffix == ".csv":
        frame = pl.read_csv(path, try_parse_dates=True, infer_schema_length=None)
    elif path.suffix == ".parquet":
        frame = pl.read_parquet(path)
    else:
        frame = pl.read_ipc(path)
    return _plain(frame["as_of"], frame["series"], frame["a"], frame["n_liquid"])


def by_duckdb(path: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        rows = connection.sql(f"select as_of, series, a, n_liquid from '{path}'").fetchall()
    return _plain(*zip(*rows, strict=True))


def by_csv(path: Path) -> list[tuple[Any, ...]]:
    """Python's own reader, which is strict about RFC 4180 here."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    return _plain(
        [datetime.fromisoformat(row["as_of"]) for row in rows],
        [row["series"] for row in rows],
        [float(row["a"]) if row["a"] else None for row in rows],
        [int(row["n_liquid"]) for row in rows],
    )


def by_arrow(path: Path) -> list[tuple[Any, ...]]:
    table = pa.ipc.open_file(path).read_all()
    columns = (table[name].to_pylist() for name in ("as_of", "series", "a", "n_liquid"))
    return _plain(*columns)


def _plain(*columns: Any) -> list[tuple[Any, ...]]:
    """Rows of plain values: instants in UTC, NaN of pandas as None."""
    rows = []
    for as_of, series, a, count in zip(*columns, strict=True):
        instant = datetime.fromisoformat(as_of) if isinstance(as_of, str) else as_of
        known = a is not None and not math.isnan(a)
        rows.append((instant.astimezone(UTC), series, float(a) if known else None, int(count)))
    return rows


@pytest.mark.parametrize(
    ("form", "read"),
    [
        ("csv", by_pandas),
        ("csv", by_polars),
        ("csv", by_duckdb),
        ("csv", by_csv),
        ("parquet", by_pandas),
        ("parquet", by_polars),
        ("parquet", by_duckdb),
        ("arrow", by_polars),
        ("arrow", by_arrow),
    ],
)
def test_other_readers_see_the_same_values(
    sample_lake: Any, tmp_path: Path, form: str, read: Callable[[Path], list[tuple[Any, ...]]]
) -> None:
    target = tmp_path / f"surface.{form}"
    count = export(sample_lake.lake.database, SURFACE, form, target)
    rows = wanted(sample_lake, SURFACE)
    want = _plain(rows["as_of"], rows["series"], rows["a"], rows["n_liquid"])
    assert count == len(want) > 50
    assert any(a is None for _, _, a, _ in want)
    assert read(target) == want


def test_a_csv_file_ends_its_lines_as_rfc_4180_has_it(sample_lake: Any, tmp_path: Path) -> None:
    query = tmp_path / "q.sql"
    query.write_text("""select 1 as "a,b", 'say "x"' as c, e'two\\nlines' as d, null as e""")
    export_query(sample_lake.lake.database, query, "csv", tmp_path / "x.csv")
    lines = (tmp_path / "x.csv").read_bytes()
    assert lines == b'"a,b",c,d,e\r\n1,"say ""x""","two\nlines",\r\n'


def test_a_sheet_holds_numbers_as_numbers_and_instants_with_their_zone(
    sample_lake: Any, tmp_path: Path
) -> None:
    import zipfile

    target = tmp_path / "surface.xlsx"
    count = export(sample_lake.lake.database, SURFACE, "xlsx", target)
    with zipfile.ZipFile(target) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
        names = book.read("xl/workbook.xml").decode()
    assert 'name="SAMPLE DATA"' in names
    assert sheet.count("<row ") == count + 1
    first = wanted(sample_lake, SURFACE).row(0, named=True)
    assert f"<v>{first['forward']!r}</v>".replace(".0<", "<") in sheet
    assert f"<t>{first['as_of']:%Y-%m-%dT%H:%M:%S.%fZ}</t>" in sheet


def test_a_sheet_that_is_too_long_is_refused(
    sample_lake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.export._SHEET_ROWS", 10)
    with pytest.raises(BadInput, match="a sheet holds 10 rows: export fewer, or as csv"):
        export(sample_lake.lake.database, SURFACE, "xlsx", tmp_path / "x.xlsx")
    assert list(tmp_path.iterdir()) == []


# --- what is said of a column -------------------------------------------------------------------


def test_parquet_and_arrow_say_what_their_columns_mean(sample_lake: Any, tmp_path: Path) -> None:
    export(sample_lake.lake.database, WIDE, "parquet", tmp_path / "x.parquet")
    export(sample_lake.lake.database, WIDE, "arrow", tmp_path / "x.arrow")
    parquet = json.loads(pq.read_metadata(tmp_path / "x.parquet").metadata[b"hydra"])
    schema = pa.ipc.open_file(tmp_path / "x.arrow").schema
    assert json.loads(schema.metadata[b"hydra"]) == parquet
    (field,) = [f for f in parquet["schema"]["fields"] if f["name"] == "opt_atm_iv_30d"]
    assert field["type"] == "number"
    assert field["unit"]
    assert field["description"]
    about = schema.field("opt_atm_iv_30d").metadata
    assert about == {
        b"type": b"number",
        b"description": field["description"].encode(),
        b"unit": field["unit"].encode(),
    }
    assert parquet["title"] == "SAMPLE DATA: synthetic, of no real market"
    assert parquet["view"] == WIDE


def test_the_descriptor_is_true_of_the_file(sample_lake: Any, tmp_path: Path) -> None:
    target = tmp_path / "surface.csv"
    at = datetime(2025, 3, 12, 20, tzinfo=UTC)
    count = export(sample_lake.lake.database, SURFACE, "csv", target, at=at, market="HE")
    (resource,) = package(tmp_path)["resources"]
    assert resource["path"] == "surface.csv"
    assert resource["rows"] == count == len(target.read_text().splitlines()) - 1
    assert resource["bytes"] == target.stat().st_size
    assert resource["hash"] == f"sha256:{hashlib.sha256(target.read_bytes()).hexdigest()}"
    assert (resource["known_at"], resource["origin"]) == ("2025-03-12T20:00:00Z", "sample")
    with sample_lake.connect() as connection:
        ((sha256,),) = connection.sql(
            "select sha256 from meta.sql_versions where view_name = 'surface_v1'"
        ).fetchall()
        described = connection.sql(f"describe {SURFACE}").fetchall()
    assert (resource["view"], resource["view_sha256"]) == (SURFACE, sha256)
    fields = resource["schema"]["fields"]
    assert [field["name"] for field in fields] == [name for name, *_ in described]
    assert all(field["description"] for field in fields)
    types = {field["name"]: field["type"] for field in fields}
    assert (types["as_of"], types["session_date"]) == ("datetime", "date")
    assert (types["atm_iv"], types["n_liquid"]) == ("number", "integer")
    assert (types["series"], types["butterfly_free"]) == ("string", "boolean")


def test_without_at_what_is_known_is_what_the_build_knew(sample_lake: Any, tmp_path: Path) -> None:
    export(sample_lake.lake.database, SURFACE, "csv", tmp_path / "x.csv")
    (resource,) = package(tmp_path)["resources"]
    assert resource["known_at"] == sample_lake.now.isoformat().replace("+00:00", "Z")


def test_one_descriptor_speaks_of_all_files_of_a_folder(sample_lake: Any, tmp_path: Path) -> None:
    database = sample_lake.lake.database
    for name in ("b.csv", "a.csv", "c.csv", "a.csv"):
        export(database, WIDE, "csv", tmp_path / name)
    assert [r["path"] for r in package(tmp_path)["resources"]] == ["a.csv", "b.csv", "c.csv"]
    (tmp_path / "b.csv").unlink()
    export(database, "features.daily", "csv", tmp_path / "d.csv")
    resources = package(tmp_path)["resources"]
    assert [r["path"] for r in resources] == ["a.csv", "c.csv", "d.csv"]
    # The bare name is the newest version, and its columns mean the same.
    assert resources[-1]["view"] == WIDE
    assert resources[-1]["schema"] == resources[0]["schema"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"resources": [1]}', '{"resources": [{}]}'])
def test_a_descriptor_of_somebody_elses_is_left_alone(
    sample_lake: Any, tmp_path: Path, text: str
) -> None:
    (tmp_path / "datapackage.json").write_text(text)
    with pytest.raises(BadInput, match=r"is no descriptor of exports; move it"):
        export(sample_lake.lake.database, WIDE, "csv", tmp_path / "x.csv")
    assert (tmp_path / "datapackage.json").read_text() == text
    with pytest.raises(BadInput, match="is where the export is described"):
        export(sample_lake.lake.database, WIDE, "csv", tmp_path / "datapackage.json")


# --- queries ------------------------------------------------------------------------------------


def test_a_query_keeps_its_own_order_and_another_is_sorted(
    sample_lake: Any, tmp_path: Path
) -> None:
    database = sample_lake.lake.database
    ordered, free = tmp_path / "ordered.sql", tmp_path / "free.sql"
    text = "with s as (from features.surface_v1) select market, expiry, atm_iv from s"
    ordered.write_text(f"-- skew\n{text} order by expiry desc, market, atm_iv -- newest first")
    free.write_text(f"{text};\n")
    for name, query in (("a", ordered), ("b", ordered), ("c", free), ("d", free)):
        export_query(database, query, "parquet", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "c").read_bytes() == (tmp_path / "d").read_bytes()
    expiries = pl.read_parquet(tmp_path / "a")["expiry"]
    assert expiries.is_sorted(descending=True)
    rows = pl.read_parquet(tmp_path / "c")
    assert rows.equals(rows.sort(rows.columns, nulls_last=True))
    (resource,) = [r for r in package(tmp_path)["resources"] if r["path"] == "c"]
    assert resource["query"] == text


def test_a_query_asks_the_macros(sample_lake: Any, tmp_path: Path) -> None:
    query = tmp_path / "thursday.sql"
    query.write_text("from features_at('HE', '2025-03-13T20:00:00Z')")
    result = hydra_export(
        sample_lake.lake, "--query", str(query), "-o", str(tmp_path / "thursday.csv")
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(
        " rows of " + str(query) + "; SAMPLE DATA: synthetic, of no real market\n"
    )
    assert len((tmp_path / "thursday.csv").read_text().splitlines()) > 30


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold one SELECT"),
        ("select 1; select 2", "must hold one SELECT"),
        ("copy (select 1) to 'x.csv'", "must hold one SELECT"),
        ("attach 'other.duckdb'", "must hold one SELECT"),
        ("select form nothing", "Binder Error"),
        ("selec 1", "Parser Error"),
        ("select 1) to 'y.csv' (format csv); --", "Parser Error"),
        ("select * from no.such", "Catalog Error"),
    ],
)
def test_a_query_that_is_none_is_refused(
    sample_lake: Any, tmp_path: Path, text: str, said: str
) -> None:
    query = tmp_path / "q.sql"
    query.write_text(text)
    with pytest.raises(BadInput, match=said) as refused:
        export_query(sample_lake.lake.database, query, "csv", tmp_path / "x.csv")
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["q.sql"]


def test_a_query_that_is_not_there_is_named(sample_lake: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.sql: cannot be read"):
        export_query(sample_lake.lake.database, tmp_path / "gone.sql", "csv", tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give a view, or a file with --query"),
        ([WIDE, "--query", "q.sql"], "give a view, or a file with --query"),
        (["--query", "q.sql", "--market", "HE"], "go with a view: put them in the query"),
    ],
)
def test_what_does_not_go_together_is_said(
    sample_lake: Any, tmp_path: Path, arguments: list[str], said: str
) -> None:
    result = hydra_export(sample_lake.lake, *arguments, "-o", str(tmp_path / "x.csv"))
    assert result.exit_code == 2
    assert said in result.stderr


# --- partitions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_partitions_hold_the_same_rows(sample_lake: Any, tmp_path: Path, form: str) -> None:
    database = sample_lake.lake.database
    one, other = tmp_path / "one", tmp_path / "other"
    for target in (one, other):
        by = ["market", "session_date"]
        count = export(database, SURFACE, form, target, partition_by=by)
    files = sorted(path.relative_to(one) for path in one.rglob(f"*.{form}"))
    assert len({path.parts[0] for path in files}) == 2
    assert files[0].parts[0] == "market=HE"
    assert files[0].parts[1].startswith("session_date=2025-")
    assert all((one / path).read_bytes() == (other / path).read_bytes() for path in files)
    with duckdb.connect() as connection:
        scan = f"read_{form}('{one}/**/*.{form}', hive_partitioning = true)"
        rows = connection.sql(
            f"select market, session_date, series, forward from {scan}"
        ).fetchall()
    want = wanted(sample_lake, SURFACE).select("market", "session_date", "series", "forward").rows()
    assert count == len(want)
    key = lambda row: (row[0], str(row[1]), row[2], row[3] or 0.0)  # noqa: E731
    found = [(market, _day(day), series, forward) for market, day, series, forward in rows]
    assert sorted(found, key=key) == sorted(want, key=key)
    (described, _) = package(tmp_path)["resources"]
    assert described["path"] == [f"one/{path}" for path in files]
    assert described["rows"] == count


def _day(value: Any) -> date:
    return date.fromisoformat(value) if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("form", "by", "said"),
    [
        ("arrow", ["market"], "goes with csv and parquet, not arrow"),
        ("csv", ["markt"], "no column 'markt' to partition by: did you mean market?"),
        ("csv", ["market) as x, (from y"], "no column 'market"),
    ],
)
def test_partitions_that_cannot_be_are_refused(
    sample_lake: Any, tmp_path: Path, form: str, by: list[str], said: str
) -> None:
    with pytest.raises(BadInput) as refused:
        export(sample_lake.lake.database, SURFACE, form, tmp_path / "x", partition_by=by)
    assert said in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_touched(sample_lake: Any, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(BadInput, match="a partitioned export needs a new folder"):
        export(sample_lake.lake.database, SURFACE, "csv", tmp_path / "x", partition_by=["market"])
    assert list((tmp_path / "x").iterdir()) == []


def test_a_partitioned_export_that_fails_leaves_nothing(sample_lake: Any, tmp_path: Path) -> None:
    query = tmp_path / "q.sql"
    query.write_text(
        "select market, case when market = 'ZO' then error('midst') end as x from meta.markets"
    )
    with pytest.raises(LakeError, match="midst"):
        export_query(
            sample_lake.lake.database, query, "csv", tmp_path / "x", partition_by=["market"]
        )
    assert [path.name for path in tmp_path.iterdir()] == ["q.sql"]


def test_no_rows_are_an_empty_folder(sample_lake: Any, tmp_path: Path) -> None:
    end = date(2001, 1, 1)
    target = tmp_path / "x"
    assert (
        export(sample_lake.lake.database, SURFACE, "csv", target, end=end, partition_by=["market"])
        == 0
    )
    assert target.is_dir()
