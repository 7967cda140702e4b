"""HYDRA lake: point-in-time features of thin commodity option markets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from etl.reader import Reader

__all__ = ["connect", "open_lake"]


def open_lake(lake: str | Path = "lake") -> Reader:
    """Open a lake's database for reading: point-in-time answers, whole views, and SQL.

    Parameters
    ----------
    lake : the lake's folder, or its address in an object store

    Raises
    ------
    BadInput
        There is no database there, or it cannot be opened.

    Examples
    --------
    >>> with etl.open_lake("lake") as lake:
    ...     lake.features_at("HE", datetime(2025, 3, 6, 20, tzinfo=UTC))
    ...     lake.table("features.surface_v1")
    """
    # Imported here, so that `import etl` costs nothing.
    from etl.reader import Reader

    return Reader(lake)


def connect(lake: str | Path = "lake") -> DuckDBPyConnection:
    """Open a lake's database for SQL alone: the connection of ``open_lake``.

    Parameters
    ----------
    lake : the lake's folder, or its address in an object store

    Raises
    ------
    BadInput
        There is no database there, or it cannot be opened.

    Examples
    --------
    >>> con = etl.connect("lake")
    >>> con.sql("select implied_vol(2.1, 84.0, 86.0, 0.2, 0.04, true, true).vol").fetchall()
    """
    return open_lake(lake).connection
