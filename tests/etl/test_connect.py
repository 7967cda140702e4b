"""A connection for Python: the lake's tables and mathlib's functions side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

import etl
from etl.errors import BadInput


def test_functions_work_on_the_lakes_own_rows(sample_lake) -> None:
    """The stored vol of every option is what the function gives on the stored price."""
    connection = etl.connect(sample_lake.lake.root)
    rows = connection.sql(
        "select iv, implied_vol(mid, forward, strike, t_years, rate, option_type = 'C', true).vol"
        " from features.chain_v1 where price_source = 'quote' and mid is not null"
    ).fetchall()
    connection.close()
    assert len(rows) > 1000
    assert all(stored == again for stored, again in rows)


def test_it_is_for_reading_only(sample_lake) -> None:
    connection = etl.connect(sample_lake.lake.root)
    with pytest.raises(Exception, match="read-only"):
        connection.execute("drop table features.chain_v1")
    connection.close()


def test_several_are_open_at_once(sample_lake) -> None:
    connections = [etl.connect(sample_lake.lake.root) for _ in range(2)]
    connections.pop().close()
    (one,) = connections
    vol = "select implied_vol(2.1, 84.0, 86.0, 0.2, 0.04, true, true).vol"
    assert one.sql(vol).fetchall()[0][0] > 0
    assert one.sql("from features_at('HE', now())").fetchall()
    one.close()


def test_a_folder_without_a_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no database yet"):
        etl.connect(tmp_path)
