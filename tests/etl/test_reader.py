"""A lake from Python: the macros' answers and whole views, as frames."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

import etl
from etl.errors import BadInput

T = datetime(2025, 3, 13, 20, tzinfo=UTC)


def test_answers_are_those_of_the_database(sample_lake: Any) -> None:
    with etl.open_lake(sample_lake.lake.root) as lake, sample_lake.connect() as connection:
        assert lake.markets() == ["HE", "ZO"]
        at = f"'{T.isoformat()}'"
        for frame, text in (
            (lake.features_at("HE", T), f"from features_at('HE', {at})"),
            (lake.daily_at(T), f"from daily_at({at})"),
        ):
            assert frame.height > 0
            assert_frame_equal(frame, connection.sql(text).pl())
        chicago = T.astimezone(ZoneInfo("America/Chicago"))
        assert_frame_equal(lake.features_at("HE", chicago), lake.features_at("HE", T))


def test_a_spine_is_answered_as_each_question_alone(sample_lake: Any) -> None:
    asked = [("HE", T), ("ZO", T - timedelta(days=1)), ("HE", T - timedelta(days=2))]
    spine = pl.DataFrame({"market": [m for m, _ in asked], "t": [t for _, t in asked], "n": 1})
    with etl.open_lake(sample_lake.lake.root) as lake:
        answers = lake.features_as_of(spine)
        for market, t in asked:
            alone = lake.features_at(market, t).sort("feature_name")
            mine = answers.filter(pl.col("market") == market, pl.col("t") == t)
            mine = mine.select(alone.columns).sort("feature_name")
            assert_frame_equal(mine, alone)


def test_a_view_is_its_rows_as_a_frame_and_as_batches(sample_lake: Any) -> None:
    with etl.open_lake(str(sample_lake.lake.root)) as lake:
        table = lake.table("features.chain_v1")
        reader = lake.batches("features.chain_v1", rows=2048)
        batches = [pl.DataFrame(pa.Table.from_batches([batch])) for batch in reader]
        key = ["market", "as_of", "contract", "price_source"]
        whole = pl.concat(batches).sort(key)
        assert max(batch.height for batch in batches) <= 2048 < whole.height
        values = [*key, "mid", "iv"]
        assert whole.select(values).rows() == table.sort(key).select(values).rows()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda lake: lake.features_at("XX", T), "the lake has no market 'XX': it has HE, ZO"),
        (lambda lake: lake.features_at("HE", T.replace(tzinfo=None)), "has no time zone"),
        (lambda lake: lake.daily_at(T.replace(tzinfo=None)), "has no time zone"),
        (lambda lake: lake.table("features.surfac_v1"), "did you mean features.surface_v1"),
        (lambda lake: lake.table("features.surface_v1; drop table x"), "unknown view"),
        (lambda lake: lake.batches("nothing"), "unknown view 'nothing'"),
        (lambda lake: lake.features_as_of(pl.DataFrame({"market": ["HE"]})), "needs the columns"),
        (
            lambda lake: lake.features_as_of(
                pl.DataFrame({"market": ["HE"], "t": [T.replace(tzinfo=None)]})
            ),
            "t with a time zone",
        ),
        (
            lambda lake: lake.features_as_of(pl.DataFrame({"market": ["XX"], "t": [T]})),
            "the lake has no market 'XX'",
        ),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(
    sample_lake: Any, ask: Any, said: str
) -> None:
    with etl.open_lake(sample_lake.lake.root) as lake, pytest.raises(BadInput) as refused:
        ask(lake)
    assert said in str(refused.value)


def test_a_folder_without_a_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no database yet"):
        etl.open_lake(tmp_path)


def test_a_reader_keeps_to_the_database_that_it_opened(own_lake: Any) -> None:
    with etl.open_lake(own_lake.lake.root) as lake:
        before = lake.daily_at(T)
        own_lake.lake.database.unlink()
        assert_frame_equal(lake.daily_at(T), before)
