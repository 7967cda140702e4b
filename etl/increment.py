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
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from etl import engine, records, sqlfiles
from etl.errors import LakeError
from etl.lake import Lake, fingerprint
from etl.market import Market
from etl.schemas import UTC as UTC_TYPE
from etl.shown import CORRECTED, END, NEVER, Shown
from etl.spans import Span

__all__ = ["NEVER", "Increment", "code_hash", "inputs", "stands"]

#: The first row of a session is known no longer before its date.
_BEFORE = timedelta(days=5)

_OWN = "since, looked_at_from"
_SINCE = {"market": pl.String(), "since": UTC_TYPE, "looked_at_from": UTC_TYPE}


def inputs(lake: Lake, markets: Mapping[str, Market]) -> dict[str, Any]:
    """What a build is made of, which its record keeps for the next one to compare."""
    return {
        "code": code_hash(),
        "origin": lake.origin,
        "about": _about(lake, markets),
        "markets": {m: _derivation(state) for m in lake.markets() if (state := lake.state(m))},
    }


def stands(lake: Lake, markets: Mapping[str, Market], now: datetime) -> bool:
    """Whether a build at an instant would make what the last one made, but for the instant.

    Nothing has landed since or was derived anew, no session and no release has passed, and no
    day has ended, for which a check may wait.
    """
    lake.fetch([lake.database])
    record = _usable_record(lake)
    if record is None or not _is_same(inputs(lake, markets), record["inputs"]):
        return False
    connection = engine.connect(str(lake.database), read_only=True)
    try:
        connection.execute(f"set variable run_at = timestamptz '{now.isoformat()}'")
        return not connection.sql(sqlfiles.text("build/passed.sql")).fetchall()
    finally:
        connection.close()


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two builds are made of the same, whenever it was looked for something newer."""
    without = [
        {**made, "markets": {m: {**each, "known_at": None} for m, each in made["markets"].items()}}
        for made in (one, other)
    ]
    return without[0] == without[1]


def _derivation(state: Mapping[str, Any]) -> dict[str, Any]:
    """What is derived of a market, and from what."""
    derived = hashlib.sha256("\n".join(sorted(state["tables"])).encode()).hexdigest()
    about = {name: state[name] for name in ("code", "known_at", "files")}
    return {**about, "derived": derived, "failed": state.get("failed") or []}


def _about(lake: Lake, markets: Mapping[str, Market]) -> str:
    """One hash of what is said about the data: the markets' files, and what vendors said."""
    digest = hashlib.sha256()
    for code in [code for code in lake.markets() if code in markets]:
        digest.update(json.dumps(asdict(markets[code]), sort_keys=True, default=str).encode())
    for path in sorted(lake.batches.glob("*.json")):
        digest.update(path.name.encode())
    for path in sorted((lake.root / "reach").glob("*.json")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def code_hash() -> str:
    """One hash of all that decides what a database holds, beside the lake's files."""
    digest = hashlib.sha256(duckdb.__version__.encode())
    here = Path(__file__).parent
    kinds = [(sqlfiles.root(), "sql"), *((here, kind) for kind in ("py", "toml", "json"))]
    for folder, kind in kinds:
        for path in sorted(folder.rglob(f"*.{kind}")):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class Increment:
    """The build-stage tables of a new database, computed from each market's ``since`` on.

    A feature's SELECT runs beside the new database, in the connection's own memory, where the
    names that it reads are views: on as much of each feature as the header of its file says that
    its rows look back on.  ``standing`` has its own rows known before.  A market of which nothing
    stands has a connection of its own and is gone through year by year, so that memory holds one.

    Parameters
    ----------
    opened : gives a connection with the new database attached as ``hydra``, its ``meta`` committed
    reports : where the CFTC's reports are kept while the database is made, as ``Shown`` has it

    Attributes
    ----------
    since : market → the instant from which on its rows are computed
    looked_at : market → the instant from which on its sessions are looked at, because something
        of them is new
    """

    def __init__(self, opened: engine.Opened, lake: Lake, reports: Path) -> None:
        self._opened, self._lake, self._reports = opened, lake, reports
        self.since = self.looked_at = dict.fromkeys(lake.markets(), NEVER)
        self._going_on: set[str] = set()
        if (record := _usable_record(lake)) is None:
            return
        with self._beside() as (connection, shown):
            self._attach_last(connection)
            shifted = connection.sql(sqlfiles.text("build/shifted.sql")).fetchall()
            since = _since(lake, record, {market for (market,) in shifted})
            self.since = {**self.since, **since}
            self._going_on = {market for market, at in self.since.items() if at != NEVER}
            self.looked_at = self.since
            if self._going_on:
                self._tell(connection)
                self.looked_at = self._changed(connection, shown)

    @contextmanager
    def _beside(self) -> Iterator[tuple[duckdb.DuckDBPyConnection, Shown]]:
        """A connection to compute in, and what it is shown of the new database."""
        with self._opened() as connection:
            shown = Shown(connection, self._reports)
            connection.execute("create schema memory.standing")
            self._tell(connection)
            if self._going_on:
                self._attach_last(connection)
            yield connection, shown

    def _attach_last(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(f"attach {engine.quoted(self._lake.database)} as last (read_only)")

    def _tell(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Say in ``build.since`` what is new."""
        rows = [(market, since, self.looked_at[market]) for market, since in self.since.items()]
        limits = pl.DataFrame(rows, _SINCE, orient="row")
        engine.create_table(connection, "memory.build.since", limits)

    def _changed(self, connection: duckdb.DuckDBPyConnection, shown: Shown) -> dict[str, datetime]:
        """Market → a day with which the sessions begin of which anything is new."""
        first = dict(self.since)
        shown.limit({market: (self.since[market], END) for market in self._going_on})
        for file in sqlfiles.stage("derive"):
            shown.show(f"features.{file.name}", sqlfiles.LookBack(CORRECTED.days, ()))
            new = f"from features.{file.name} join build.since using (market)"
            rows = f"select market, min(session_date) {new} where {file.known_at} >= since"
            for market, day in connection.sql(f"{rows} group by market").fetchall():
                first[market] = min(first[market], datetime.combine(day, time(), UTC))
        return {m: at if self.since[m] == NEVER else at - _BEFORE for m, at in first.items()}

    def fill(self) -> None:
        """Make the tables: what stands of the last database's rows, and the new ones.

        Raises
        ------
        LakeError
            The columns are not the ones that a file's header states.
        """
        anew = [[market] for market in sorted(self.since.keys() - self._going_on)]
        for markets in [sorted(self._going_on), *anew] if self._going_on else anew:
            with self._beside() as (connection, shown):
                for file in sqlfiles.stage("build"):
                    self._fill(connection, shown, file, markets)

    def _fill(
        self,
        connection: duckdb.DuckDBPyConnection,
        shown: Shown,
        file: sqlfiles.SqlFile,
        markets: Sequence[str],
    ) -> None:
        """Add some markets to a table of the new database."""
        table, standing = f"hydra.features.{file.name}", f"standing.{file.name}"
        since = {market: self.since[market] if file.look_back else NEVER for market in markets}
        before = engine.no_row(file)
        for part in shown.parts(since, by_year=file.look_back is not None):
            shown.limit(part)
            for source in file.sources:
                shown.show(source, file.look_back)
            goes_on = all(since[market] != NEVER for market in part)
            if goes_on:
                stood = {market: (NEVER, since[market]) for market in part}
                before = f"from last.features.{file.name} where {_within(file, stood)}"
            connection.execute(f"create or replace view memory.{standing} as {before}")
            within = _within(file, part) if file.look_back else ""
            engine.create_feature(connection, file, "build.news", within)
            connection.execute("begin")
            connection.execute(f"create table if not exists {table} as from build.news limit 0")
            for market in sorted(part):  # a market's rows lie together, as if made at once
                for rows in (standing, "build.news") if goes_on else ("build.news",):
                    which = f"where market = {engine.quoted(market)}"
                    connection.execute(f"insert into {table} from {rows} {which}").fetchall()
            connection.execute("commit")
            connection.execute("drop table build.news")
            before = f"from {table} where market in (select market from build.spans)"
        engine.let_go(connection)
        connection.execute("checkpoint hydra")  # at the end it would be of all tables

    def keep(self, name: str, days: int, stands: str) -> None:
        """Make a table of ``meta``: the rows of its file, and those of the last one that stand.

        Parameters
        ----------
        name : of the table, and of its file below ``sql/build``
        days : how far back the file looks from the first session that is looked at
        stands : which rows of the last table stand, in SQL
        """
        rows, make = sqlfiles.text(f"build/{name}.sql"), "create table build.news as"
        with self._beside() as (connection, shown):
            for part in shown.parts(self.looked_at, by_year=False):
                shown.limit(part)
                shown.show_all(days)
                connection.execute(f"{make} {rows}").fetchall()
                make = "insert into build.news"
            if self._going_on:
                rows = f"from last.meta.{name} join build.since using (market)"
                standing = f"{rows} where since > '{NEVER}' and {stands}"
                insert = f"insert into build.news select * exclude ({_OWN}) {standing}"
                connection.execute(insert).fetchall()
            engine.create_as(connection, f"hydra.meta.{name}", "from build.news order by all")


def _within(file: sqlfiles.SqlFile, spans: Mapping[str, Span]) -> str:
    """That a row of these markets became known within its market's span, in SQL.

    It names no other table: rows that are joined come in the order that a plan happens to give.
    """
    return " or ".join(
        f"(market = {engine.quoted(market)} and {file.known_at} >= timestamptz '{start}' "
        f"and {file.known_at} < timestamptz '{end}')"
        for market, (start, end) in spans.items()
    )


def _usable_record(lake: Lake) -> dict[str, Any] | None:
    """The record of the last database, if the one is of this code and the other is as it says."""
    try:
        record: dict[str, Any] = records.read(lake.database_record, records.BUILT)
        if (record["inputs"]["code"], record["inputs"]["origin"]) != (code_hash(), lake.origin):
            return None
        return record if fingerprint(lake.database)["sha256"] == record["sha256"] else None
    except (LakeError, OSError):
        return None


def _since(lake: Lake, record: Mapping[str, Any], shifted: set[str]) -> dict[str, datetime]:
    """Since when a market's rows may be others than in the last database."""
    merged = lake.merged()
    found = {}
    for market, then in record["inputs"]["markets"].items():
        paths = lake.raw_names(market=market)
        raw, seen = (
            {one for path in each for one in merged.get(path, {}).get("landed", [path])}
            for each in (paths, then["files"])
        )
        known = _known_from(lake, raw - seen)
        news = [known.get(path) for path in raw - seen]
        is_told = raw >= seen and None not in news and market not in shifted
        if is_told and then["code"] == lake.state(market).get("code"):
            instants = [*news, then["known_at"], record["built_at"]]
            failed = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in then["failed"]]
            known_from = [day - _BEFORE for day in failed]  # that may have succeeded since
            found[market] = min(*map(datetime.fromisoformat, instants), *known_from)
    return found


def _known_from(lake: Lake, paths: Collection[str]) -> dict[str, str | None]:
    """Path → the instant at which the first row of a landed file was known, if its batch says."""
    batches = {path.rpartition("/")[2].rpartition("-")[0] for path in paths}
    return {
        file["path"]: file.get("first_available_at")
        for record in lake.each_batch(batches)
        for file in record["files"]
    }
