"""What a new database takes over from the last one, and from when on it is computed anew.

A row that was known by an instant follows from rows known by then and from nothing else, which
``hydra audit`` proves.  So where nothing new became known of a market before an instant, all of
its rows known before it stand as the last database has them.  The instant is the market's
``since``: the earliest ``available_at`` of what has landed or was derived after the last build,
or the instant up to which that build knew everything.  Where that cannot be told, it is
``NEVER``, before every row: the code is another, a raw file has gone, the calendar differs, or
the last database is not what its record says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from etl import engine, records, sqlfiles
from etl.errors import LakeError
from etl.lake import Lake, fingerprint, month_of
from etl.schemas import UTC as UTC_TYPE
from etl.stored import derived_files

__all__ = ["NEVER", "Increment", "inputs"]

#: Before every row: nothing of the market is taken over.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)

_SINCE = {"market": pl.String(), "since": UTC_TYPE}


def inputs(lake: Lake) -> dict[str, Any]:
    """What a build is made of, which its record keeps for the next one to compare."""
    names = ("code", "known_at", "files")
    states = {market: lake.state(market) for market in lake.markets()}
    markets = {m: {name: state[name] for name in names} for m, state in states.items() if state}
    return {"code": _code(), "origin": lake.origin, "markets": markets}


def _code() -> str:
    """One hash of all that decides what a database holds, beside the lake's files."""
    digest = hashlib.sha256(duckdb.__version__.encode())
    for folder, pattern in ((sqlfiles.root(), "*.sql"), (Path(__file__).parent, "*.py")):
        for path in sorted(folder.rglob(pattern)):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class Increment:
    """The build-stage tables of a new database, computed from each market's ``since`` on.

    A feature's SELECT runs beside the new database, in the connection's own memory, where the
    names that it reads are views: on ``meta`` and ``raw``, and on as much of each feature as the
    header of its file says that its rows look back on.  ``standing`` has the rows that stand.

    Parameters
    ----------
    connection : with the new database attached as ``hydra``, its ``meta`` and ``raw`` committed
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
        self._connection = connection
        self._lake = lake
        self.since = dict.fromkeys(lake.markets(), NEVER)
        if (record := _usable_record(lake)) is not None:
            connection.execute(f"attach {engine.quoted(lake.database)} as last (read_only)")
            shifted = connection.sql(sqlfiles.text("build/shifted.sql")).fetchall()
            self.since |= _since(lake, record, {market for (market,) in shifted})
        self._bound = any(since != NEVER for since in self.since.values())
        for schema in ("build", "standing", "meta", "raw", "features"):
            connection.execute(f"create schema memory.{schema}")
        for schema, name in connection.sql(sqlfiles.text("build/shown.sql")).fetchall():
            connection.execute(f"create view memory.{schema}.{name} as from hydra.{schema}.{name}")
        engine.create_name_type(connection)
        rows = pl.DataFrame(list(self.since.items()), _SINCE, orient="row")
        engine.create_table(connection, "memory.build.since", rows)

    def close(self) -> None:
        """Let the last database go."""
        if self._bound:
            self._connection.execute("detach last")

    def fill(self, file: sqlfiles.SqlFile) -> None:
        """Make a table of the new database: what stands of the last one's rows, and the new ones.

        Raises
        ------
        LakeError
            The columns are not the ones that the file's header states.
        """
        look_back = file.look_back if self._bound else None
        for source in file.sources:
            self.show(source, look_back)
        place = f"hydra.features.{file.name}"
        stands = f"memory.standing.{file.name}"
        if look_back is None:
            self._connection.execute(f"create or replace view {stands} as {engine.no_row(file)}")
            engine.create_feature(self._connection, file, place)
            return
        self._connection.execute(
            f"create or replace view {stands} as select * exclude (since) "
            f"from last.features.{file.name} join build.since using (market) "
            f"where {file.known_at} < since"
        )
        engine.create_feature(self._connection, file, "build.news", f"{file.known_at} >= since")
        self._connection.execute("begin")
        self._connection.execute(f"create table {place} as from build.news limit 0")
        for market in sorted(self.since):  # a market's rows lie together, as if made at once
            for rows in (stands, "build.news"):
                which = f"where market = {engine.quoted(market)}"
                self._connection.execute(f"insert into {place} from {rows} {which}").fetchall()
        self._connection.execute("commit")
        self._connection.execute("drop table build.news")

    def show(self, source: str, look_back: sqlfiles.LookBack | None) -> None:
        """Let a feature's name stand for as much of it as is looked back on; ``None`` is all."""
        file = next(
            (file for file in sqlfiles.features() if f"features.{file.name}" == source), None
        )
        if file is None:  # what is raw is read whole
            return
        days = None if look_back is None or source in look_back.whole else look_back.days
        if file.stage == "derive":
            files = [
                path for path in derived_files(self._lake, file.name) if self._reaches(path, days)
            ]
            engine.create_derived_view(self._connection, file, engine.shown(self._lake.root, files))
            return
        rows = f"from hydra.{source}"
        if days is not None:
            rows = (
                f"select * exclude (since) {rows} join build.since using (market) "
                f"where {file.known_at} >= since - interval {days} days"
            )
        self._connection.execute(f"create or replace view memory.{source} as {rows}")

    def _reaches(self, path: Path, days: int | None) -> bool:
        """Whether a market's derived month is within so many days before its ``since``."""
        since = self.since[path.parts[-4].removeprefix("market=")]
        if days is None or since == NEVER:
            return True
        return month_of(path) >= (since - timedelta(days=days)).date().replace(day=1)


def _usable_record(lake: Lake) -> dict[str, Any] | None:
    """The record of the last database, if the one is of this code and the other is as it says."""
    try:
        record: dict[str, Any] = records.read(lake.database_record, records.BUILT)
        now, then = inputs(lake), record["inputs"]
        if (now["code"], now["origin"]) != (then["code"], then["origin"]):
            return None
        return record if fingerprint(lake.database)["sha256"] == record["sha256"] else None
    except (LakeError, OSError):
        return None


def _since(lake: Lake, record: Mapping[str, Any], shifted: set[str]) -> dict[str, datetime]:
    """Since when a market's rows may be others than in the last database."""
    known: dict[str, str | None] = {
        file["path"]: file.get("first_available_at")
        for batch in lake.batch_records()
        for file in batch["files"]
    }
    merged = lake.merged()

    def landed(paths: Iterable[str]) -> set[str]:
        return {one for path in paths for one in merged.get(path, {}).get("landed", [path])}

    found = {}
    for market, then in record["inputs"]["markets"].items():
        raw = landed(str(path.relative_to(lake.root)) for path in lake.raw_files(market=market))
        shown = landed(then["files"])
        news = [known.get(path) for path in raw - shown]
        is_told = raw >= shown and None not in news and market not in shifted
        if is_told and then["code"] == lake.state(market).get("code"):
            instants = [*news, then["known_at"], record["built_at"]]
            found[market] = min(map(datetime.fromisoformat, instants))
    return found
