"""A bench for one SQL file at a time: a few rows in, its rows out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
import pytest

from etl import engine, sqlfiles
from etl.increment import NEVER
from etl.market import Market, markets
from etl.schemas import DATASETS, raw_schema
from mathlib import udf

Row = dict[str, Any]

#: A plain Thursday in winter: hogs trade from 14:30 to 19:05 UTC, their snapshot is at 19:00.
DAY = date(2025, 3, 6)
YESTERDAY = date(2025, 3, 5)
#: When the options and futures of these tests expire unless a test says otherwise.
EXPIRATION = datetime(2025, 4, 14, 17, tzinfo=UTC)
#: An instant at which everything that a test lands is known.
LATER = datetime(2025, 6, 1, tzinfo=UTC)

#: Long before the tests' day: when their instruments were listed.
_LISTED = datetime(2025, 1, 2, 14, tzinfo=UTC)

_DEFAULTS: Mapping[str, Row] = {
    "futures_1d": {"volume": 1},
    "futures_1m": {"volume": 1},
    "futures_definition": {"update_action": "A", "expiration": EXPIRATION},
    "futures_quote": {"feed": "stream", "bid_size": 1, "ask_size": 1, "sequence": 0},
    "futures_stat": {"is_deleted": False, "stat_flags": 0, "sequence": 0},
    "option_definition": {"update_action": "A", "expiration": EXPIRATION},
    "option_quote": {"feed": "stream", "bid_size": 1, "ask_size": 1, "sequence": 0},
    "option_stat": {"is_deleted": False, "stat_flags": 0, "sequence": 0},
    "cot": {"report": "disaggregated_futures", "release_estimated": False},
    "cot_legacy": {"report": "legacy_futures", "release_estimated": False},
    "cot_financial": {"report": "financial_futures", "release_estimated": False},
}

SETTLEMENT, VOLUME, OPEN_INTEREST = 3, 6, 9


class Bench:
    """An in-memory database as ``etl.derive`` and ``etl.build`` make theirs, filled by hand.

    ``land`` and the helpers on it add raw rows, ``given`` puts feature rows in place of a file's,
    ``derive`` and ``build`` run files, ``rows`` gives what came out.
    """

    def __init__(self, code: str = "HE", **changes: Any) -> None:
        self.market = self._changed(code, changes)
        self.connection = engine.connect()
        self.connection.execute("set threads = 1")  # small tables, and tests run side by side
        udf.register(self.connection)
        for schema in ("raw", "fresh", "derive", "features", "standing", "build", "quality"):
            self.connection.execute(f"create schema {schema}")
        for file in sqlfiles.stage("build"):
            nothing = engine.no_row(file)
            self.connection.execute(f"create view standing.{file.name} as {nothing}")
        engine.create_reference(
            self.connection, [self.market], date(2024, 11, 1), date(2026, 6, 30)
        )
        self._raw: dict[str, list[Row]] = {dataset: [] for dataset in DATASETS}
        self._stored: dict[str, int] = {}
        self._ids: dict[str, int] = {}
        self._given: set[str] = set()

    @staticmethod
    def _changed(code: str, changes: Mapping[str, Any]) -> Market:
        market = markets()[code]
        names = market.__dataclass_fields__
        return Market(**{name: changes.get(name, getattr(market, name)) for name in names})

    # Instants.

    @staticmethod
    def at(clock: str, day: date = DAY) -> datetime:
        """``clock`` of a day, UTC."""
        return datetime.combine(day, time.fromisoformat(clock), UTC)

    def session(self, day: date = DAY) -> Row:
        """The market's session of a day, with its instants."""
        (row,) = self.rows("meta.sessions", f"session_date = '{day}'")
        return row

    def years(self, day: date = DAY, expiration: datetime = EXPIRATION) -> float:
        """Years of 365 days from the day's snapshot to an expiration."""
        snapshot: datetime = self.session(day)["snapshot_at"]
        return (expiration - snapshot) / timedelta(days=365)

    def rate(self, day: date = DAY) -> float:
        """The market's continuous rate in force on a day."""
        return [rate for valid_from, rate in self.market.risk_free if valid_from <= day][-1]

    # Rows in.

    def land(self, dataset: str, **values: Any) -> None:
        """Add a raw row; what is not given takes the dataset's default, else NULL.

        ``at`` stands for both ``as_of`` and ``available_at``.
        """
        row = {"market": self.market.code, "source": "sample", **_DEFAULTS[dataset], **values}
        instant = row.pop("at", _LISTED)
        row.setdefault("available_at", instant)
        row.setdefault("as_of", row["available_at"])
        row.setdefault("ingested_at", row["available_at"])
        row.setdefault("batch_id", "b")
        if "contract" in row:
            row.setdefault("instrument_id", self._ids.setdefault(row["contract"], len(self._ids)))
        self._raw[dataset].append(row)

    def forget(self, landed: Mapping[str, int]) -> None:
        """Go back to the first so many rows of each dataset, as ``landed`` gave them."""
        self._raw = {dataset: rows[: landed[dataset]] for dataset, rows in self._raw.items()}
        self._stored.clear()

    def landed(self) -> Mapping[str, int]:
        """How many rows each dataset has."""
        return {dataset: len(rows) for dataset, rows in self._raw.items()}

    def list_option(self, contract: str, **values: Any) -> None:
        """Define an option that is called ``"HEJ5 C90"``: future, kind and strike."""
        underlying, _, rest = contract.partition(" ")
        row = {
            "contract": contract,
            "underlying": underlying,
            "series": self.market.code,
            "option_type": rest[0],
            "strike": float(rest[1:]),
            **values,
        }
        self.land("option_definition", **row)

    def quote(self, contract: str, bid: float | None, ask: float | None, **values: Any) -> None:
        """A quote, five minutes before the day's snapshot unless ``at`` says otherwise."""
        values.setdefault("at", self.session()["snapshot_at"] - timedelta(minutes=5))
        dataset = "option_quote" if " " in contract else "futures_quote"
        self.land(dataset, contract=contract, bid=bid, ask=ask, **values)

    def stat(self, contract: str, stat_type: int, value: float | None, **values: Any) -> None:
        """A statistic: by default yesterday's, published this morning at 13:00 UTC."""
        values.setdefault("at", self.at("13:00"))
        values.setdefault("ref_date", YESTERDAY)
        field = "price" if stat_type == SETTLEMENT else "quantity"
        dataset = "option_stat" if " " in contract else "futures_stat"
        self.land(dataset, contract=contract, stat_type=stat_type, **{field: value}, **values)

    def open_interest(self, contract: str, value: int, **values: Any) -> None:
        self.stat(contract, OPEN_INTEREST, value, **values)

    def volume(self, contract: str, value: int, **values: Any) -> None:
        self.stat(contract, VOLUME, value, **values)

    def settle(self, contract: str, price: float | None, **values: Any) -> None:
        """A final settlement of the tests' day, published at 23:00 UTC."""
        values = {"at": self.at("23:00"), "ref_date": DAY, "is_final": True, **values}
        self.stat(contract, SETTLEMENT, price, **values)

    def option(
        self,
        contract: str,
        bid: float | None,
        ask: float | None,
        open_interest: int = 1000,
        **values: Any,
    ) -> None:
        """A listed option with a quote and an open interest."""
        self.list_option(contract, **values)
        self.quote(contract, bid, ask)
        self.open_interest(contract, open_interest)

    def bar(self, contract: str, close: float, at: datetime, **values: Any) -> None:
        """A one-minute bar that ends at ``at``; open, high and low are its close by default."""
        prices = {"open": close, "high": close, "low": close, "close": close, **values}
        self.land("futures_1m", contract=contract, at=at, **prices)

    def given(self, table: str, *rows: Row) -> None:
        """Put rows in place of what a feature file would give; what a row lacks is NULL."""
        (file,) = [file for file in sqlfiles.features() if file.name == table]
        columns = ", ".join(f"{engine.identifier(c.name)} {c.type}" for c in file.columns)
        self.connection.execute(f"create or replace table features.{table} ({columns})")
        self._given.add(table)
        if rows:
            self._insert(f"features.{table}", [{"market": self.market.code, **row} for row in rows])

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        names = list(dict.fromkeys(name for row in rows for name in row))
        frame = pl.DataFrame({name: [row.get(name) for row in rows] for name in names})
        self.connection.register("incoming", frame.to_arrow())
        self.connection.execute(f"insert into {table} by name from incoming").fetchall()
        self.connection.unregister("incoming")

    # Files run.

    def prepare(
        self,
        sessions: Sequence[date] = (DAY,),
        known_at: datetime = LATER,
        last_known_at: datetime = datetime(1970, 1, 1, tzinfo=UTC),
    ) -> None:
        """The tables that every derive-stage file hangs on, the spine apart."""
        for dataset, rows in self._raw.items():
            if self._stored.get(dataset) != len(rows):
                frame = pl.DataFrame(rows, schema=raw_schema(dataset), orient="row")
                engine.create_table(self.connection, f"raw.{dataset}", frame)
                self._stored[dataset] = len(rows)
        run = pl.DataFrame({"last_known_at": [last_known_at], "known_at": [known_at]})
        engine.create_table(self.connection, "derive.run", run)
        days = pl.DataFrame({"session_date": sorted(sessions)})
        engine.create_table(self.connection, "derive.days", days)
        chosen = "select * from meta.sessions semi join derive.days using (session_date)"
        engine.create_as(self.connection, "derive.sessions", chosen)

    def derive(self, table: str, **when: Any) -> list[Row]:
        """Run the spine and the derive-stage files up to ``table``; give its rows."""
        self.prepare(**when)
        engine.create_as(self.connection, "derive.spine", sqlfiles.text("derive/spine.sql"))
        if table == "spine":
            return self.rows("derive.spine")
        wanted = self._needs(f"features.{table}")
        for file in sqlfiles.stage("derive"):
            if f"features.{file.name}" in wanted:
                engine.create_feature(self.connection, file)
        return self.rows(f"features.{table}")

    def build(self, table: str, built_at: datetime = LATER) -> list[Row]:
        """Run the build-stage files up to ``table`` on what is given and landed; give its rows."""
        if not self._exists("raw", "cot"):
            self.prepare()
        self.reference(built_at)
        wanted = self._needs(f"features.{table}")
        for file in sqlfiles.stage("build"):
            if f"features.{file.name}" in wanted:
                engine.create_feature(self.connection, file)
        return self.rows(f"features.{table}")

    def reference(self, built_at: datetime = LATER) -> None:
        """``meta.builds``, ``meta.features``, ``meta.clock`` and the type of a feature's name."""
        if self._exists("meta", "features"):
            return
        about = {"built_at": [built_at], "origin": ["vendor"]}
        engine.create_table(self.connection, "meta.builds", pl.DataFrame(about))
        for name in ("features", "clock"):
            source = {"features": "feature_list", "clock": "clock"}[name]
            text = sqlfiles.text(f"build/{source}.sql")
            engine.create_as(self.connection, f"meta.{name}", text)
        engine.create_name_type(self.connection)

    def macros(self) -> None:
        """The table macros, over ``raw.cot`` and ``features.long_v1`` as given or built."""
        if not self._exists("raw", "cot"):
            self.prepare()
        self.reference()
        self.kept()
        for path in sorted(sqlfiles.root().glob("macros/*.sql")):
            text = path.read_text(encoding="utf-8")
            for table in sorted(set(re.findall(r"features\.(\w+_v\d+)", text))):
                if not self._exists("features", table):
                    self.given(table)
            self.connection.execute(text)

    def kept(self) -> None:
        """``meta.held``, ``sources`` and ``listed`` of what is there, and no row of the rest."""
        for file in sqlfiles.features():
            if not self._exists("features", file.name):
                engine.create_as(self.connection, f"features.{file.name}", engine.no_row(file))
        never = {"market": [self.market.code], "since": [NEVER], "looked_at_from": [NEVER.date()]}
        engine.create_table(self.connection, "build.since", pl.DataFrame(never))
        for name in ("held", "listed", "sources"):
            engine.create_as(self.connection, f"meta.{name}", sqlfiles.text(f"build/{name}.sql"))

    def _exists(self, schema: str, table: str) -> bool:
        where = f"table_schema = '{schema}' and table_name = '{table}'"
        return bool(self.sql(f"from information_schema.tables where {where}"))

    def _needs(self, name: str) -> set[str]:
        files = {f"features.{file.name}": file for file in sqlfiles.features()}
        if name not in files or files[name].name in self._given:
            return set()
        return {name}.union(*(self._needs(source) for source in files[name].sources))

    # Rows out.

    def sql(self, text: str) -> list[Row]:
        """The rows of any query."""
        frame: pl.DataFrame = self.connection.sql(text).pl()
        return frame.to_dicts()

    def rows(self, table: str, where: str = "true") -> list[Row]:
        """The rows of a table, in its own order."""
        return self.sql(f"from {table} where {where}")

    def row(self, table: str, where: str = "true") -> Row:
        """The one row of a table under a condition."""
        (row,) = self.rows(table, where)
        return row

    def check(self, name: str, run_at: datetime = LATER) -> list[Row]:
        """What one check of ``sql/quality`` finds at an instant."""
        (check,) = [check for check in sqlfiles.checks() if check.name == name]
        self.connection.execute(f"set variable run_at = timestamptz '{run_at}'")
        if "meta.held" in check.body or "meta.listed" in check.body:
            self.kept()
        return self.sql(check.body)

    # What an option is worth, written down once more.

    @staticmethod
    def black76(
        forward: float, strike: float, years: float, vol: float, rate: float, kind: str
    ) -> float:
        """Price of a European option on a future, Black (1976) eq. 16."""
        deviation = vol * math.sqrt(years)
        d1 = (math.log(forward / strike) + deviation**2 / 2) / deviation
        d2 = d1 - deviation
        sign = 1 if kind == "C" else -1
        parts = forward * _normal(sign * d1) - strike * _normal(sign * d2)
        return math.exp(-rate * years) * sign * parts

    def chain(
        self,
        strikes: Sequence[float],
        vol: float,
        *,
        underlying: str = "HEJ5",
        forward: float = 90.0,
        width: float = 0.02,
        expiration: datetime = EXPIRATION,
        open_interest: int = 1000,
        series: str | None = None,
    ) -> None:
        """List and quote a call and a put a strike at one vol; ``width`` is a share of the mid."""
        years, rate = self.years(expiration=expiration), self.rate()
        for strike in strikes:
            for kind in "CP":
                mid = self.black76(forward, strike, years, vol, rate, kind)
                self.option(
                    f"{underlying} {kind}{strike:g}",
                    mid * (1 - width / 2),
                    mid * (1 + width / 2),
                    open_interest,
                    expiration=expiration,
                    series=series or self.market.code,
                )


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench of lean hogs."""
    made = Bench()
    yield made
    made.connection.close()


@pytest.fixture
def make_bench() -> Iterator[Any]:
    """Benches of any market, with fields of its file changed: ``make_bench("NG", tick=1.0)``."""
    benches: list[Bench] = []

    def make(code: str = "HE", **changes: Any) -> Bench:
        benches.append(Bench(code, **changes))
        return benches[-1]

    yield make
    for made in benches:
        made.connection.close()
