"""``hydra daily --source databento`` from the loopback vendors: the same features, and no secret.

The command runs as a process of its own, as a person runs it, with the vendors in its environment.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from etl.lake import Lake
from etl.market import markets
from tests.vendors import KEY, Vendors, faults
from tests.vendors.archive import Archive

ROOT = Path(__file__).parents[2]
CODES = ("HE", "ZO")
FIRST, NOW = datetime(2025, 3, 10, tzinfo=UTC), datetime(2025, 3, 14, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
SESSIONS = 3

_INHERITED = ("PATH", "OMP_NUM_THREADS")
#: What says whose data it is: sample or vendor.
ORIGIN = "origin"


@dataclass(frozen=True)
class Ran:
    """A process that has ended."""

    code: int
    out: str
    err: str


def hydra(
    lake: Path, now: datetime, *words: str, env: dict[str, str] | None = None, home: Path
) -> Ran:
    """Run the command in a folder of its own, where its temporary files stay too."""
    home.mkdir(exist_ok=True)
    inherited = {
        name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ
    }
    done = subprocess.run(
        [sys.executable, "-m", "etl", "--lake", str(lake), "--now", f"{now:%FT%TZ}", *words],
        env={
            **inherited,
            **(env or {}),
            "PYTHONPATH": str(ROOT),
            "HOME": str(home),
            "TMPDIR": str(home),
        },
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def daily(source: str) -> tuple[str, ...]:
    return ("daily", "--source", source, "--days", str(SESSIONS))


@pytest.fixture(scope="module")
def archive() -> Archive:
    """All that the vendors have by ``LATER``."""
    return Archive([markets()[code] for code in CODES], FIRST, LATER)


def serve(archive: Archive, *struck: faults.Fault) -> Vendors:
    sold = [markets()[code] for code in CODES]
    return Vendors(sold, FIRST, LATER, archive=archive, faults=struck)


@dataclass(frozen=True)
class Runs:
    """A lake from the loopback vendors, and one of the sample vendor, of the same days."""

    vendor: Path
    sample: Path
    vendors: Vendors
    said: str  # by the run that met the vendors
    home: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    home = folder / "home"
    with Vendors([markets()[code] for code in CODES], FIRST, NOW) as vendors:
        words = ("--debug", *daily("databento"))  # which says no less than a run without
        met = hydra(folder / "vendor", NOW, *words, env=vendors.env, home=home)
    assert met.code == 0, met.err
    ran = hydra(folder / "sample", NOW, *daily("sample"), home=home)
    assert ran.code == 0, ran.err
    return Runs(folder / "vendor", folder / "sample", vendors, met.out + met.err, home)


def features(lake: Path) -> dict[str, pl.DataFrame]:
    """Every table and view of features, without its origin, its rows in order."""
    with duckdb.connect(str(Lake(lake).database), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        names = connection.sql(
            "select table_name from information_schema.tables where table_schema = 'features'"
        ).fetchall()
        frames = {name: connection.sql(f"from features.{name}").pl() for (name,) in names}
    plain = {name: frame.drop(ORIGIN, strict=False) for name, frame in frames.items()}
    return {name: frame.sort(pl.all()) for name, frame in plain.items()}


def test_the_features_are_those_of_the_sample_vendor(runs: Runs) -> None:
    ours, theirs = features(runs.vendor), features(runs.sample)
    assert ours.keys() == theirs.keys() >= {"chain_v1", "surface_v1", "daily_v1", "cot_v1"}
    for name, frame in ours.items():
        assert frame.height > 0, name
        assert frame.equals(theirs[name]), name


def test_nothing_but_the_vendors_was_reached_and_nothing_was_left(runs: Runs) -> None:
    assert {asked.status for asked in runs.vendors.requests} <= {200, 206, 429}
    assert runs.vendors.downloaded_bytes > 100_000
    assert [path for path in runs.home.rglob("*") if path.is_file()] == []


def test_the_next_run_asks_for_nothing_that_the_lake_has(
    runs: Runs, archive: Archive, tmp_path: Path
) -> None:
    lake, home = tmp_path / "lake", tmp_path / "home"
    shutil.copytree(runs.vendor, lake)
    with serve(archive) as vendors:
        ran = hydra(lake, NOW, *daily("databento"), env=vendors.env, home=home)
        assert ran.code == 0, ran.err
        assert vendors.count("timeseries.get_range") == 0
        ran = hydra(lake, LATER, *daily("databento"), env=vendors.env, home=home)
        assert ran.code == 0, ran.err
    asked = [one.form for one in vendors.requests if one.name == "timeseries.get_range"]
    assert {form["schema"] for form in asked} == {
        *("definition", "ohlcv-1d", "ohlcv-1m", "statistics", "bbo-1m")
    }
    assert min(datetime.fromisoformat(form["start"]) for form in asked) == NOW
    zips = {one.name for one in vendors.requests if one.name.endswith(".zip")}
    assert all(name.endswith("_2025.zip") for name in zips)
    assert not found(ran.out.encode() + ran.err.encode())
    assert not holding(tmp_path)


# --- secrets ------------------------------------------------------------------------------------

#: The key, and what a header makes of it.
SECRETS = [
    KEY.encode(),
    base64.b64encode(f"{KEY}:".encode()),
    base64.b64encode(KEY.encode()).rstrip(b"="),
]
_TELLTALE = faults.status(401, "metadata.get_cost", message=f"The key {KEY} is not known.")


def test_the_key_is_nowhere(runs: Runs) -> None:
    assert not found(runs.said.encode())
    assert not holding(runs.vendor)
    assert not found(unpacked(runs.vendor))
    assert not [one for one in runs.vendors.requests if found(f"{one.name} {one.form}".encode())]


@pytest.mark.parametrize(
    ("before", "struck", "code"),
    [
        ([], (_TELLTALE,), 4),
        (["--debug"], (_TELLTALE,), 1),
        (["--debug"], (faults.html_page(),), 1),
    ],
    ids=["401", "401, debug", "COT, debug"],
)
def test_the_key_is_nowhere_whatever_happens(
    archive: Archive,
    tmp_path: Path,
    before: Sequence[str],
    struck: tuple[faults.Fault, ...],
    code: int,
) -> None:
    words = [*before, "daily", "--source", "databento", "--days", "1", "--market", "ZO"]
    lake, home = tmp_path / "lake", tmp_path / "home"
    with serve(archive, *struck) as vendors:
        ran = hydra(lake, LATER, *words, env=vendors.env, home=home)
    assert ran.code == code, ran.err
    assert ("Traceback" in ran.err) == (code == 1)
    assert vendors.requests
    assert not found(ran.out.encode() + ran.err.encode())
    assert not holding(tmp_path)


def holding(folder: Path) -> list[Path]:
    """What has a secret in its name or its bytes."""
    return [
        path
        for path in folder.rglob("*")
        if found(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
    ]


def found(data: bytes) -> list[bytes]:
    """The secrets that are in ``data``."""
    return [secret for secret in SECRETS if secret in data]


def unpacked(lake: Path) -> bytes:
    """Everything that Parquet files and the database hold compressed, as text."""
    paths = sorted(lake.rglob("*.parquet"))
    parts = [str(pq.read_table(path).to_pylist()) for path in paths]
    with duckdb.connect(str(Lake(lake).database), read_only=True) as connection:
        tables = connection.sql("select schema_name, table_name from duckdb_tables()").fetchall()
        for schema, table in tables:
            parts.append(str(connection.sql(f"from {schema}.{table}").fetchall()))
    return "".join(parts).encode()


def test_the_search_finds_a_key_where_there_is_one() -> None:
    header = base64.b64encode(f"{KEY}:".encode())
    assert found(b"x" + KEY.encode() + b"y")
    assert found(b"Basic " + header)
    assert not found(b"Basic dXNlcjo=")
