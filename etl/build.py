"""Build: one DuckDB file of plain SQL, made beside the old one and put in its place in one step.

Nothing in the file calls Python, so a bare ``duckdb`` command line runs all of it.  What is raw or
derived is a view on the lake's Parquet files, by absolute path or address in an object store;
everything else is stored inside.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from etl import checks, engine, reach, release, sqlfiles
from etl.errors import LakeError
from etl.increment import Increment, code_hash, inputs
from etl.lake import Lake, fingerprint, make_folder, month_of, sync_file, write_whole
from etl.market import Market
from etl.schemas import DATASETS, UTC
from etl.shown import Shown
from etl.stored import derived_tables

#: Every DuckDB 1.x client reads this; the engine's own default would lock older ones out.
STORAGE_VERSION = "v1.0.0"

_BATCH: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "batch_id": pl.String,
    "source": pl.String,
    "description": pl.String,
    "payload_sha256": pl.String,
    "ingested_at": UTC,
    "rows": pl.Int64,
    "files": pl.Int64,
    "cost_usd": pl.Float64,  # NULL where nobody was paid
}
_LAYOUT = dict.fromkeys(
    ("batch_id", "source", "kind", "market", "column_name", "column_type"), pl.String()
)
#: By a file's path below the lake, when its first and its last row became known, if that is said.
_INSTANTS = ("first_available_at", "last_available_at")
_LANDED = {"name": pl.String(), **dict.fromkeys(_INSTANTS, UTC)}
_NAMED = {**dict.fromkeys(("view_name", "market", "name", "path"), pl.String()), "month": pl.Date()}

#: Records of batches that are held at once.
_SOME = 100

#: Comments of one transaction, which holds the text of their view with all its files as often.
_AT_ONCE = 20

#: A source of which nothing is as new as what is looked at stays what it was.
_OLDER_SOURCE = "(market, source) not in (select (market, source) from build.news)"

#: A strike that is listed again is there already.
_STRIKE = "(market, series, expiration, strike)"
_OTHER_STRIKE = f"{_STRIKE} not in (select {_STRIKE} from build.news)"


def build(lake: Lake, markets: dict[str, Market], now: datetime) -> None:
    """Make ``hydra.duckdb`` anew; the caller holds the write lock.

    Parameters
    ----------
    markets : the configured markets; those that the lake has data of are built
    now : aware datetime
        The run's instant, which freshness is measured at.

    Raises
    ------
    Released
        A released SQL file, or the code behind one, has changed: the old database stays.
    """
    release.verify()
    lake.fetch([lake.database])
    folder = lake.staging / "build"
    made, record = folder / lake.database.name, folder / lake.database_record.name
    try:
        make_folder(folder)
        code = code_hash()  # that builds, whatever is installed in the meantime
        opened = partial(_opened, lake, made)
        with opened() as connection, _writing(connection):
            for schema in ("raw", "features", "quality", "meta"):
                connection.execute(f"create schema {schema}")
            _reference(connection, lake, markets, now)
        with opened() as connection:
            connection.execute("use hydra")  # without a transaction, which would hold all rows
            _landed(connection, lake)
            _files(connection, lake)
            connection.execute("use memory")
        reports = folder / "reports.duckdb"
        with opened() as connection:
            Shown(connection, reports)  # makes them; what it keeps of their files goes with it
        increment = Increment(opened, lake, reports)
        increment.fill()
        increment.keep("held", 0, "session_date < looked_at_from::date")
        increment.keep("sources", 100, _OLDER_SOURCE)
        increment.keep("listed", 0, _OTHER_STRIKE)
        before = _last_run(lake)
        found = checks.run(opened, reports, now, increment.looked_at, before)
        checks.keep(lake, found, now)
        with opened() as connection:
            rows = _describe(connection, lake)
        sync_file(made)
        about = {"built_at": now.isoformat(), "rows": rows, **fingerprint(made)}
        about["inputs"] = inputs(lake, markets) | {"code": code}
    except OSError as error:
        raise LakeError(f"cannot write {lake.database}: {error.strerror}") from error
    write_whole(record, json.dumps(about, indent=1) + "\n")
    lake.commit("build", {made: lake.database, record: lake.database_record})


@contextmanager
def _opened(lake: Lake, path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the new database attached as ``hydra``.

    Each step has its own: what one keeps of another's files and windows goes with it.
    """
    connection = engine.connect(spill=lake.spill)
    try:
        options = f"(storage_version '{STORAGE_VERSION}')"
        connection.execute(f"attach {engine.quoted(path)} as hydra {options}")
        # Merging row groups at a checkpoint takes 80 MB now and then, and saves 8 % of the file.
        connection.execute("set max_vacuum_tasks = 0")
        yield connection
        connection.execute("detach hydra")
    finally:
        connection.close()


def _describe(connection: duckdb.DuckDBPyConnection, lake: Lake) -> dict[str, int]:
    """Make the views and macros, and say what all is; how many rows each table has."""
    note = "SAMPLE DATA, synthetic. " if lake.origin == "sample" else ""
    with _writing(connection):
        _views(connection)
    for file in sqlfiles.features():
        kind = "view" if file.stage == "derive" else "table"
        _comment(connection, kind, file.name, file, note)
    for base, file in _newest().items():
        _comment(connection, "view", base, file, note)
    with _writing(connection):
        engine.create_macros(connection)
        freshness = "from freshness_at((select built_at from meta.builds))"
        engine.create_as(connection, "quality.freshness", freshness)
        _checks(connection, lake)
        return _row_counts(connection)


@contextmanager
def _writing(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """One transaction in the new database for all of it, since each commit waits for the disk."""
    connection.execute("use hydra")
    connection.execute("begin")
    yield
    connection.execute("commit")
    connection.execute("use memory")


def _row_counts(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    names = "select schema_name, table_name from duckdb_tables() where database_name = 'hydra'"
    found = {}
    for parts in connection.sql(f"{names} order by all").fetchall():
        table = ".".join(map(engine.identifier, parts))
        ((found[".".join(parts)],),) = connection.sql(f"select count(*) from {table}").fetchall()
    return found


def _reference(
    connection: duckdb.DuckDBPyConnection, lake: Lake, markets: dict[str, Market], now: datetime
) -> None:
    """Everything under ``meta``."""
    landed = lake.markets()
    unknown = [code for code in landed if code not in markets]
    if unknown:
        raise LakeError(
            f"the lake holds data of {', '.join(unknown)}, for which there is no market file: "
            "add it, or name its folder with --markets"
        )
    if not landed:
        raise LakeError(f"the lake at {lake.root} is empty: land something first (hydra daily)")
    chosen = [markets[code] for code in landed]
    first = min(day for code in landed if (day := lake.first_day(code)))
    engine.create_reference(
        connection, chosen, first - timedelta(days=31), date(now.year + 1, 12, 31)
    )
    run = {"built_at": [now], "origin": [lake.origin], **_versions()}
    engine.create_table(connection, "meta.builds", pl.DataFrame(run))
    engine.create_table(connection, "meta.reach", _reach(lake))
    engine.create_table(connection, "meta.vendor_days", _vendor_days(lake, chosen))
    engine.create_table(connection, "meta.sql_versions", _sql_versions())
    engine.create_as(connection, "meta.features", sqlfiles.text("build/feature_list.sql"))
    engine.create_as(connection, "meta.clock", sqlfiles.text("build/clock.sql"))
    engine.create_name_type(connection)


def _comment(
    connection: duckdb.DuckDBPyConnection, kind: str, name: str, file: sqlfiles.SqlFile, note: str
) -> None:
    """Say in the database what a feature file says of its table and columns."""
    comments = [(f"{kind} features.{name}", note + file.sentence)]
    for column, comment in _comments(connection, file):
        comments.append((f"column features.{name}.{engine.identifier(column)}", comment))
    for some in range(0, len(comments), _AT_ONCE):
        with _writing(connection):
            for target, comment in comments[some : some + _AT_ONCE]:
                connection.execute(f"comment on {target} is {engine.quoted(comment)}")


def _comments(
    connection: duckdb.DuckDBPyConnection, file: sqlfiles.SqlFile
) -> list[tuple[str, str]]:
    comments = [(column.name, column.comment) for column in file.columns if column.name != "*"]
    if len(comments) < len(file.columns):  # the wide table: one column a feature
        text = "select feature_name, description || ', ' || unit from hydra.meta.features"
        comments += connection.sql(text).fetchall()
    return comments


def _newest() -> dict[str, sqlfiles.SqlFile]:
    """The newest version of each feature, by its name without one."""
    return {file.base: file for file in sorted(sqlfiles.features(), key=lambda f: f.version)}


def _last_run(lake: Lake) -> pl.DataFrame | None:
    """What the last build's run of the checks found, if that can be read."""
    try:
        built_at = lake.built_at()
        return None if built_at is None else checks.kept(lake, built_at)
    except (LakeError, OSError, pl.exceptions.PolarsError):
        return None


def _checks(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Show what every run of the checks found."""
    files = engine.quoted(f"{lake.place}/{lake.checks.name}/*.parquet")
    scan = f"from read_parquet({files})"
    connection.execute(f"create view quality.recorded as {scan}")
    connection.execute(sqlfiles.text("build/checks.sql"))


def _versions() -> dict[str, list[str]]:
    try:
        own = version("hydra-lake")
    except PackageNotFoundError:
        own = "not installed"
    return {
        "hydra_version": [own],
        "duckdb_version": [duckdb.__version__],
        "python_version": [platform.python_version()],
        "code_sha256": [sqlfiles.code_hash()],
    }


def _landed(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Make ``meta.batches``, ``meta.layouts`` and ``temp.landed``: when raw files became known."""
    engine.create_table(connection, "meta.batches", pl.DataFrame(schema=_BATCH))
    engine.create_table(connection, "meta.layouts", pl.DataFrame(schema=_LAYOUT))
    instants = ", ".join(f"{name} timestamptz" for name in _INSTANTS)
    connection.execute(f"create temp table landed (name varchar, {instants})")
    records = iter(lake.each_batch())
    while some := list(islice(records, _SOME)):
        batches = [
            {
                **{name: record.get(name) for name in _BATCH},
                "ingested_at": datetime.fromisoformat(record["ingested_at"]),
                "files": len(record["files"]),
            }
            for record in some
        ]
        layouts = [
            (record["batch_id"], record["source"], record["kind"], market, name, kind)
            for record in some
            for market in sorted({file["market"] for file in record["files"]})
            for name, kind in record.get("layout", {}).items()
        ]
        engine.insert(connection, "meta.batches", pl.DataFrame(batches, _BATCH))
        engine.insert(connection, "meta.layouts", pl.DataFrame(layouts, _LAYOUT, orient="row"))
        _know(connection, some)
    _know(connection, lake.compaction_records())


def _know(connection: duckdb.DuckDBPyConnection, made: Iterable[Mapping[str, Any]]) -> None:
    """Keep when the first and the last row of some records' raw files became known."""
    rows = [
        (file["path"], *(at and datetime.fromisoformat(at) for at in map(file.get, _INSTANTS)))
        for record in made
        for file in record["files"]
    ]
    engine.insert(connection, "temp.landed", pl.DataFrame(rows, _LANDED, orient="row"))


def _files(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Make ``meta.files``: the files of each view on what is raw and on what is derived.

    A market's at once: memory holds no list of all.
    """
    select, make = sqlfiles.text("build/files.sql"), "create table meta.files as"
    for market in lake.markets():
        views = {f"raw.{name}": lake.raw_names(name, market) for name in DATASETS}
        derived = derived_tables(lake, market)
        views |= {f"features.{f.name}": derived[f.name] for f in sqlfiles.stage("derive")}
        rows = [
            (view, market, name, path, month_of(name))
            for view, names in views.items()
            for name, path in zip(names, lake.addresses(names), strict=True)
        ]
        connection.register("named", pl.DataFrame(rows, _NAMED, orient="row").to_arrow())
        connection.execute(f"{make} {select}").fetchall()
        connection.unregister("named")
        make = "insert into meta.files"


def _views(connection: duckdb.DuckDBPyConnection) -> None:
    """Show what is raw, what is derived, and the newest version of each feature by its name."""

    def files(view: str) -> list[str]:
        rows = f"select path from meta.files where view_name = '{view}' order by path"
        return [path for (path,) in connection.sql(rows).fetchall()]

    engine.create_raw_views(connection, {name: files(f"raw.{name}") for name in DATASETS})
    for file in sqlfiles.stage("derive"):
        engine.create_derived_view(connection, file, files(f"features.{file.name}"))
    for base, file in _newest().items():
        connection.execute(f"create view features.{base} as from features.{file.name}")


def _reach(lake: Lake) -> pl.DataFrame:
    schema = {"source": pl.String(), "market": pl.String(), "until": UTC}
    return pl.DataFrame(reach.ends(lake), schema=schema, orient="row")


def _vendor_days(lake: Lake, markets: Sequence[Market]) -> pl.DataFrame:
    """What the vendor said of each day that it was asked for, one row a market and day."""
    said = reach.days(lake)
    rows = [
        (market.code, dataset, day, *about)
        for market in markets
        if (dataset := market.databento_dataset)
        for day, about in said.get(dataset, {}).items()
    ]
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "market": pl.String,
        "dataset": pl.String,
        "day": pl.Date,
        "condition": pl.String,
        "modified": pl.Date,
        "seen_at": pl.Datetime("us", "UTC"),
    }
    return pl.DataFrame(rows, schema=schema, orient="row").sort("market", "day")


def _sql_versions() -> pl.DataFrame:
    rows = [
        {
            "view_name": file.name,
            "status": file.status,
            "superseded_until": file.superseded_until,
            "stage": file.stage,
            "sentence": file.sentence,
            "grain": file.fields["grain"],
            "time_semantics": file.fields["time"],
            "sources": file.fields["sources"],
            "max_age": file.fields["max_age"],
            "sha256": file.sha256,
        }
        for file in sqlfiles.features()
    ]
    return pl.DataFrame(rows, schema_overrides={"superseded_until": pl.Date})
