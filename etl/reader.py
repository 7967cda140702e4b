"""A lake's database from Python: point-in-time answers and whole views, as Polars or Arrow."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import duckdb
import polars as pl

from etl import engine
from etl.errors import BadInput, beneath
from etl.export import known_market, known_view, open_database
from etl.lake import lake_at
from mathlib import udf

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Reader"]


class Reader:
    """A lake's database, open for reading; close it, or use it in a ``with`` block.

    A reader keeps to the database that it opened: what is built later is seen by the next one.

    Parameters
    ----------
    lake : path
        The lake's folder, or its address in an object store.

    Attributes
    ----------
    connection : DuckDBPyConnection
        For SQL of one's own, with every function of ``mathlib.udf`` registered.

    Raises
    ------
    BadInput
        There is no database there, or it cannot be opened.
    LakeError
        The object store cannot be read.
    """

    def __init__(self, lake: str | Path) -> None:
        found = lake_at(lake)
        found.bring(whole=False)
        database = found.database
        found.fetch([database])
        open_database(database).close()  # says what is wrong with it
        # Connections to one file share an instance, in which a function is registered only once:
        # several readers of one process each attach it to their own.
        self.connection: duckdb.DuckDBPyConnection = engine.connect()
        self.connection.execute(f"attach {engine.quoted(database)} as lake (read_only)")
        self.connection.execute("use lake")
        udf.register(self.connection)

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the database go."""
        self.connection.close()

    def markets(self) -> list[str]:
        """The markets that the lake has data of."""
        rows = self.connection.sql("select market from meta.markets order by market").fetchall()
        return [code for (code,) in rows]

    def features_at(self, market: str, t: datetime) -> pl.DataFrame:
        """Every feature of a market as it was known at an instant.

        Parameters
        ----------
        market : str
            A code of ``markets()``.
        t : aware datetime
            Inclusive: what became known at ``t`` counts.

        Returns
        -------
        DataFrame, one row a feature
            ``feature_name, value, quality, as_of, available_at, staleness_days, age``.

        Raises
        ------
        BadInput
            The lake has no such market, or ``t`` has no zone.
        """
        known_market(self.connection, market)
        return self._ask("from features_at(?, ?)", market, _aware(t))

    def daily_at(self, t: datetime) -> pl.DataFrame:
        """The wide row of each market as it was known at an instant: one column a feature.

        Raises
        ------
        BadInput
            ``t`` has no zone.
        """
        return self._ask("from daily_at(?)", _aware(t))

    def features_as_of(self, spine: pl.DataFrame) -> pl.DataFrame:
        """Every feature at each (market, t) of a table, as ``features_at`` answers one by one.

        Parameters
        ----------
        spine : DataFrame
            Columns ``market`` and ``t``, the latter with a time zone; others are ignored.

        Returns
        -------
        DataFrame, one row a spine row and feature

        Raises
        ------
        BadInput
            A column is missing, ``t`` has no zone, or the lake has no such market.
        """
        kind = spine.schema.get("t")
        if "market" not in spine.columns or not isinstance(kind, pl.Datetime) or not kind.time_zone:
            raise BadInput("a spine needs the columns market and t, t with a time zone")
        if unknown := sorted(set(spine["market"].to_list()) - set(self.markets())):
            raise BadInput(f"the lake has no market {unknown[0]!r}: it has {self.markets()}")
        self.connection.register("spine", spine.select("market", "t").to_arrow())
        try:
            return self._ask("from features_as_of('spine') order by all")
        finally:
            self.connection.unregister("spine")

    def table(self, view: str) -> pl.DataFrame:
        """All rows of a view, sorted: ``features.surface_v1``.

        Raises
        ------
        BadInput
            There is no such view.
        """
        return self._ask(f"from {known_view(self.connection, view)} order by all")

    def batches(self, view: str, rows: int = 65_536) -> pa.RecordBatchReader:
        """A view as Arrow record batches of at most so many rows, for what memory cannot hold.

        Raises
        ------
        BadInput
            There is no such view.
        """
        cursor = self.connection.cursor()
        cursor.execute("use lake")
        relation = cursor.sql(f"from {known_view(self.connection, view)}")
        reader: pa.RecordBatchReader = relation.to_arrow_reader(rows)
        return reader

    def _ask(self, text: str, *values: object) -> pl.DataFrame:
        try:
            frame: pl.DataFrame = self.connection.sql(text, params=values or None).pl()
        except duckdb.Error as error:
            raise beneath(error) or error from None
        return frame


def _aware(t: datetime) -> datetime:
    if t.tzinfo is None:
        raise BadInput(f"{t} has no time zone: give it one, such as datetime(…, tzinfo=UTC)")
    return t
