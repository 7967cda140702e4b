"""``python -m benchmarks.spine --date DATE``: many answers at once, beside other engines' joins.

A spine of (market, t) is asked for every feature.  ``features_as_of`` does all of it; the peers
get their work ready made: rows of ``features.known_v1``, which are free of superseded values and
of ties, and the spine crossed with the features, both sorted as each engine likes them best.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
import duckdb
import numpy as np
import pandas as pd
import polars as pl
from polars.testing import assert_frame_equal

from etl import engine, sqlfiles
from etl.market import markets

_RESULTS = Path(__file__).parent / "results"
#: The most that the macro may take, in times of DuckDB's own ASOF JOIN on prepared rows.
LIMIT = 1.5
_OURS, _ASOF = "features_as_of", "DuckDB ASOF JOIN"
_FIRST, _LAST = date(2017, 1, 1), date(2025, 12, 31)
_KEY = ["market", "feature_name", "t"]
_ANSWER = ["value", "quality", "as_of", "available_at"]
_SHARE_REVISED = 0.1

_METHOD = """\
A spine of {spine:,} (market, t) asked for every feature: {answers:,} answers out of {long:,} long
rows. `features_as_of('spine')` crosses the spine with the features, joins, counts ages and
withholds the {stale:,} answers that are stale. The peers get the crossed spine and the {known:,}
rows of `features.known_v1` ready made and join only; Polars and pandas get both sorted by time and
under one integer key, which is their best case and takes longer to make than the join. All give
value, quality, as_of and available_at, and the same ones, row by row, before any is timed. The
contenders take turns and keep their result in memory; a ratio is the median over {turns} turns of
the time over that of DuckDB's own join in the same turn."""
_QUICK = "**A quick run: it shows that everything works. Its times mean nothing.**"


@dataclass(frozen=True)
class Size:
    """How much is asked of how much."""

    markets: int
    long_rows: int
    answers: int
    turns: int


FULL = Size(markets=10, long_rows=1_500_000, answers=1_500_000, turns=7)
QUICK = Size(markets=2, long_rows=20_000, answers=20_000, turns=2)


def lake(size: Size) -> duckdb.DuckDBPyConnection:
    """A database with ``features.long_v1``, ``known_v1``, the macros and the table ``spine``.

    One value of a feature a session, known up to two hours after it; a tenth of the values are
    revised, up to thirty days later.
    """
    connection = engine.connect()
    for schema in ("raw", "features", "standing"):
        connection.execute(f"create schema {schema}")
    (known,) = [file for file in sqlfiles.features() if file.name == "known_v1"]
    for schema in ("standing", "features"):  # nothing of it stands, and all of it is made later
        engine.create_as(connection, f"{schema}.{known.name}", engine.no_row(known))
    chosen = list(markets().values())[: size.markets]
    engine.create_reference(connection, chosen, _FIRST, _LAST)
    for name, file in (("features", "feature_list"), ("clock", "clock")):
        engine.create_as(connection, f"meta.{name}", sqlfiles.text(f"build/{file}.sql"))
    dice = np.random.default_rng(2025)
    long = _long_rows(connection, size, dice)
    engine.create_table(connection, "features.long_v1", long)
    engine.create_table(connection, "spine", _spine(connection, long, size, dice))
    about = {"built_at": [datetime(_LAST.year + 1, 1, 1, tzinfo=UTC)], "origin": ["sample"]}
    engine.create_table(connection, "meta.builds", pl.DataFrame(about))
    engine.create_name_type(connection)
    for name in ("answers_at", "features_as_of"):
        connection.execute(sqlfiles.text(f"macros/{name}.sql"))
    return connection


def _long_rows(
    connection: duckdb.DuckDBPyConnection, size: Size, dice: np.random.Generator
) -> pl.DataFrame:
    features = connection.sql("select feature_name from meta.features").pl()
    first = size.long_rows / (1 + _SHARE_REVISED)
    sessions: pl.DataFrame = connection.sql(
        "select market, cut_off as as_of from meta.sessions qualify row_number() over"
        f" (partition by market order by cut_off) <= {first / len(features) / size.markets}"
        " order by all"
    ).pl()
    values = sessions.join(features, how="cross")
    values = values.with_columns(available_at=pl.col("as_of") + _seconds(dice, 0, 7_200, values))
    revised = values.filter(pl.Series(dice.random(len(values)) < _SHARE_REVISED))
    late = _seconds(dice, 3_600, 30 * 86_400, revised)
    revised = revised.with_columns(available_at=pl.col("available_at") + late)
    long = pl.concat([values, revised])
    long = long.with_columns(value=pl.Series(dice.normal(size=len(long))), quality=pl.lit("full"))
    return long.sample(fraction=1.0, shuffle=True, seed=1)


def _seconds(dice: np.random.Generator, low: int, high: int, frame: pl.DataFrame) -> pl.Series:
    """A duration for each row of a frame."""
    return pl.Series(dice.integers(low, high, len(frame)) * 1_000_000).cast(pl.Duration("us"))


def _spine(
    connection: duckdb.DuckDBPyConnection,
    long: pl.DataFrame,
    size: Size,
    dice: np.random.Generator,
) -> pl.DataFrame:
    """Instants of any time within the values, in no order; every third is one of publication."""
    features = connection.sql("select feature_name from meta.features").pl()
    count = round(size.answers / len(features))
    published = long["available_at"].sample(count, seed=2)
    moves = dice.integers(0, 86_400_000_000, count) * (np.arange(count) % 3 > 0)
    names = long["market"].unique().sort().to_numpy()
    return pl.DataFrame(
        {
            "market": dice.choice(names, count),
            "t": published + pl.Series(moves).cast(pl.Duration("us")),
        }
    ).unique(maintain_order=True)


def contenders(connection: duckdb.DuckDBPyConnection) -> dict[str, Callable[[], Any]]:
    """Every way to answer, by its name.

    Each gives a frame of questions and answers, or leaves it as the table ``answered``.
    """
    connection.execute(
        "create table questions as select s.market, f.feature_name, s.t"
        " from spine as s cross join meta.features as f order by all"
    ).fetchall()
    known = connection.sql("select *, known_at as t from features.known_v1 order by known_at").pl()
    known = known.select(*_KEY, *_ANSWER).set_sorted("t")
    questions = connection.sql("from questions order by t").pl().set_sorted("t")
    keys = known.select("market", "feature_name").unique().sort("market", "feature_name")
    keys = keys.with_row_index("series")
    left, right = (
        frame.join(keys, on=["market", "feature_name"], how="left", maintain_order="left")
        for frame in (questions, known)
    )
    right = right.select("series", "t", *_ANSWER)
    left_pandas, right_pandas = left.to_pandas(), right.to_pandas()
    asof = (
        "select q.*, k.value, k.quality, k.as_of, k.available_at"
        " from questions as q asof left join features.known_v1 as k"
        " on q.market = k.market and q.feature_name = k.feature_name and q.t >= k.known_at"
    )

    def stored(text: str) -> Callable[[], Any]:
        statement = f"create or replace temp table answered as {text}"
        return lambda: connection.execute(statement).fetchall()

    return {
        _OURS: stored("from features_as_of('spine')"),
        _ASOF: stored(asof),
        "Polars join_asof": lambda: left.join_asof(
            right, on="t", by="series", check_sortedness=False
        ),
        "pandas merge_asof": lambda: pd.merge_asof(left_pandas, right_pandas, on="t", by="series"),
    }


def run(size: Size) -> dict[str, Any]:
    """Measure every contender in turns, after one turn of each whose answers are compared.

    Raises
    ------
    AssertionError
        Two contenders answer differently.
    """
    connection = lake(size)
    (known,) = [file for file in sqlfiles.features() if file.name == "known_v1"]
    begin = time.perf_counter()
    engine.create_feature(connection, known)
    prepared = time.perf_counter() - begin
    ways = contenders(connection)
    answers = {name: _answers(connection, way) for name, way in ways.items()}
    _compare(answers)
    spent: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(size.turns):
        for name in names if turn % 2 == 0 else names[::-1]:
            begin = time.perf_counter()
            ways[name]()
            spent[name].append(time.perf_counter() - begin)
    seconds = {name: np.array(values) for name, values in spent.items()}
    held = "select (select count(*) from features.{}), (select count(*) from features.known_v1)"
    ((long_rows, known_rows),) = connection.sql(held.format("long_v1")).fetchall()
    return {
        "rows": {
            "long": long_rows,
            "known": known_rows,
            "spine": connection.sql("select count(*) from spine").fetchall()[0][0],
            "answers": len(answers[_OURS]),
            "stale": int((answers[_OURS]["quality"] == "stale").sum()),
        },
        "turns": size.turns,
        "seconds_to_prepare": round(prepared, 3),
        "contenders": [
            {
                "name": name,
                "seconds": [round(float(value), 4) for value in values],
                "median": round(float(np.median(values)), 4),
                "ratio": round(float(np.median(values / seconds[_ASOF])), 3),
            }
            for name, values in seconds.items()
        ],
    }


def _answers(connection: duckdb.DuckDBPyConnection, way: Callable[[], Any]) -> pl.DataFrame:
    found: Any = way()
    if isinstance(found, list):  # stored
        found = connection.sql("from answered").pl()
    elif isinstance(found, pd.DataFrame):
        found = pl.from_pandas(found)
    frame: pl.DataFrame = found.select(*_KEY, *_ANSWER)
    instants = pl.col("t", "as_of", "available_at").cast(pl.Datetime("us", "UTC"))
    return frame.with_columns(instants).sort(_KEY)


def _compare(answers: dict[str, pl.DataFrame]) -> None:
    """Every answer of the peers is ours, but that ours is NULL where it is stale or missing."""
    ours = answers[_OURS]
    withheld = ours["quality"].is_in(["stale", "missing"])
    for found in answers.values():
        same = found.with_columns(
            value=pl.when(~withheld).then("value"),
            quality=pl.when(withheld).then(ours["quality"]).otherwise("quality"),
        )
        assert_frame_equal(same, ours, check_exact=True)


def markdown(result: dict[str, Any]) -> str:
    """The report."""
    machine = result["machine"]
    lines = [
        "# Many answers at once",
        "",
        *([_QUICK, ""] if result["quick"] else []),
        _METHOD.format(turns=result["turns"], **result["rows"]),
        "",
        "| contender | median s | fastest s | slowest s | ratio |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one['name']} | {one['median']:.2f} | {min(one['seconds']):.2f} |"
        f" {max(one['seconds']):.2f} | {one['ratio']:.2f}× |"
        for one in result["contenders"]
    ]
    verdict = "" if result["quick"] else f" {'PASS' if is_met(result) else '**FAIL**'}."
    lines += [
        "",
        f"Asked for: `features_as_of` within {LIMIT} times of DuckDB's own ASOF JOIN.{verdict}",
        f"Preparing `features.known_v1` took {result['seconds_to_prepare']:.1f} s, once a build.",
        "",
        f"Measured on {result['date']}: {', '.join(machine.values())}.",
    ]
    return "\n".join(lines) + "\n"


def is_met(result: dict[str, Any]) -> bool:
    """Whether the macro keeps its limit."""
    return bool(result["contenders"][0]["ratio"] <= LIMIT)


def _machine() -> dict[str, str]:
    return {
        "cores": f"{os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"Python {platform.python_version()}",
        **{
            module.__name__: f"{module.__name__} {module.__version__}"
            for module in (duckdb, pl, pd)
        },
    }


@click.command()
@click.option("--date", required=True, help="Date that the report carries, as in 2026-11-24.")
@click.option("--quick", is_flag=True, help="Tiny sizes: see that it works, not how fast.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=_RESULTS,
    help="Folder for spine.json and spine.md.",
)
def main(date: str, quick: bool, out: Path) -> None:
    """Measure the spine join, e.g. ``python -m benchmarks.spine --date 2026-11-24``.

    Exit code 1 when it takes longer than it may.
    """
    head = {"date": date, "quick": quick, "machine": _machine()}
    result = {**head, **run(QUICK if quick else FULL)}
    out.mkdir(parents=True, exist_ok=True)
    (out / "spine.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "spine.md").write_text(markdown(result))
    click.echo(markdown(result))
    sys.exit(0 if quick or is_met(result) else 1)


if __name__ == "__main__":
    main()
