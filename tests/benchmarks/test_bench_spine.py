"""The benchmark of the spine join: all contenders agree, and a quick run reports them all."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from benchmarks import spine
from etl import engine, sqlfiles


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The JSON and the Markdown of a quick run."""
    out = tmp_path_factory.mktemp("bench")
    command = ["--date", "2025-03-14", "--quick", "--out", str(out)]
    done = CliRunner().invoke(spine.main, command)
    assert done.exit_code == 0, done.output
    return json.loads((out / "spine.json").read_text()), (out / "spine.md").read_text()


def test_every_contender_is_measured(quick_run: tuple[dict[str, Any], str]) -> None:
    values, text = quick_run
    names = [one["name"] for one in values["contenders"]]
    assert names == ["features_as_of", "DuckDB ASOF JOIN", "Polars join_asof", "pandas merge_asof"]
    for one in values["contenders"]:
        assert len(one["seconds"]) == values["turns"]
        assert f"| {one['name']} |" in text
    assert values["contenders"][1]["ratio"] == 1.0


def test_a_quick_run_says_so_and_judges_no_time(quick_run: tuple[dict[str, Any], str]) -> None:
    values, text = quick_run
    assert values["quick"]
    assert "A quick run" in text
    assert "PASS" not in text
    assert "FAIL" not in text
    assert "2025-03-14" in text


def test_the_work_has_revisions_stale_answers_and_every_feature(
    quick_run: tuple[dict[str, Any], str],
) -> None:
    rows = quick_run[0]["rows"]
    assert 0 < rows["known"] < rows["long"]
    assert 0 < rows["stale"] < rows["answers"]
    assert rows["answers"] > 50 * rows["spine"]


def test_an_answer_that_differs_stops_the_run() -> None:
    columns = {
        "market": ["HE"], "feature_name": ["fut_front_close"], "t": [1], "value": [1.0],
        "quality": ["full"], "as_of": [1], "available_at": [1],
    }  # fmt: skip
    ours = pl.DataFrame(columns)
    spine._compare({"features_as_of": ours, "other": ours})
    for name, wrong in (("value", 2.0), ("as_of", 0), ("quality", "degraded")):
        other = ours.with_columns(pl.lit(wrong).alias(name).cast(ours.schema[name]))
        with pytest.raises(AssertionError):
            spine._compare({"features_as_of": ours, "other": other})


def test_two_runs_ask_the_same() -> None:
    def asked() -> list[pl.DataFrame]:
        connection = spine.lake(spine.QUICK)
        (known,) = [file for file in sqlfiles.features() if file.name == "known_v1"]
        engine.create_feature(connection, known)
        return [
            connection.sql(f"from {table} order by all").pl()
            for table in ("spine", "features.known_v1")
        ]

    for one, other in zip(asked(), asked(), strict=True):
        assert one.equals(other)


@pytest.mark.parametrize(("ratio", "met"), [(1.5, True), (1.51, False)])
def test_the_limit_is_a_limit(
    quick_run: tuple[dict[str, Any], str], ratio: float, met: bool
) -> None:
    ours, *others = quick_run[0]["contenders"]
    result = {**quick_run[0], "quick": False, "contenders": [{**ours, "ratio": ratio}, *others]}
    assert spine.is_met(result) is met
    assert ("PASS" if met else "**FAIL**") in spine.markdown(result)
