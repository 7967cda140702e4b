"""HYDRA lake: point-in-time features of thin commodity option markets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["connect"]


def connect(lake: str | Path = "lake") -> DuckDBPyConnection:
    """Open a lake's database for reading, with every function of ``mathlib.udf`` registered.

    Parameters
    ----------
    lake : the lake's folder

    Raises
    ------
    BadInput
        There is no database there, or it cannot be opened.

    Examples
    --------
    >>> con = etl.connect("lake")
    >>> con.sql("select implied_vol(2.1, 84.0, 86.0, 0.2, 0.04, true, true).vol").fetchall()
    """
    # Imported here, so that `import etl` costs nothing.
    from etl import engine
    from etl.export import open_database
    from etl.lake import Lake
    from mathlib import udf

    database = Lake(Path(lake)).database
    open_database(database).close()  # says what is wrong with it
    # Connections to one file share an instance, in which a function is registered only once.
    connection = engine.connect()
    connection.execute(f"attach {engine.quoted(database)} as lake (read_only)")
    connection.execute("use lake")
    udf.register(connection)
    return connection
