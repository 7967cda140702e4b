"""known_v1.sql and macros/features_as_of.sql: a table of questions answered at once."""

from __future__ import annotations

import itertools
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.sql.long_rows import cut_offs, value

MICROSECOND = timedelta(microseconds=1)
FEATURE = "fut_front_close"
COLUMNS = [
    "market", "t", "feature_name", "value", "quality", "as_of", "available_at", "staleness_days",
    "age",
]  # fmt: skip
KEY = ["market", "t", "feature_name"]

#: The rule in its own words: every row that is known, every tick that is.
ORACLE = """
with answers as (
    select s.market, s.t, f.feature_name, f.clock, f.max_age,
        max_by(l, row(l.as_of, l.available_at)) filter (where l.market is not null) as l
    from spine as s
    cross join meta.features as f
    left join features.long_v1 as l
        on l.market = s.market and l.feature_name = f.feature_name
        and l.available_at <= s.t and l.as_of <= s.t
    group by all
),
aged as (
    select a.market, a.t, a.feature_name, a.max_age, a.l,
        count(c.as_of) as age
    from answers as a
    left join meta.clock as c
        on c.market = a.market and c.clock = a.clock
        and c.as_of > a.l.as_of and c.known_at <= a.t
    group by all
)
select market, t, feature_name,
    if(age > max_age, null, l.value) as value,
    case when l is null then 'missing' when age > max_age then 'stale' else l.quality end
        as quality,
    l.as_of as as_of, l.available_at as available_at,
    floor((epoch(t) - epoch(l.as_of)) / 86400)::integer as staleness_days,
    if(l is null, null, age) as age
from aged
"""


def known(bench, *rows: dict[str, Any]) -> None:
    """Put values in long_v1, prepare them, and make the macros."""
    bench.given("long_v1", *rows)
    bench.build("known_v1")
    if not bench.sql("from duckdb_functions() where function_name = 'features_as_of'"):
        bench.macros()


def spine(bench, instants: Sequence[datetime], market: str = "HE") -> None:
    """The table ``spine`` of one market at these instants."""
    frame = pl.DataFrame(
        {"market": [market] * len(instants), "t": list(instants)},
        schema={"market": pl.String, "t": pl.Datetime("us", "UTC")},
    )
    bench.connection.register("incoming", frame.to_arrow())
    bench.connection.execute("create or replace table spine as from incoming").fetchall()
    bench.connection.unregister("incoming")


def answers(connection: duckdb.DuckDBPyConnection, text: str = "features_as_of('spine')"):
    """The rows of a question, in an order of their own."""
    return connection.sql(f"from ({text})" if "select" in text else f"from {text}").pl().sort(KEY)


def at(t: datetime) -> str:
    return f"timestamptz '{t.isoformat()}'"


def random_values(bench, seed: int) -> list[dict[str, Any]]:
    """Vintages of every feature, many at equal instants, some known before what they describe."""
    dice = random.Random(seed)
    days = cut_offs(bench, 12)
    features = bench.rows("meta.features")
    rows = {}
    for feature in features:
        for _ in range(dice.randrange(0, 12)):
            as_of = dice.choice(days)
            at = as_of + timedelta(hours=dice.choice((-5, 0, 0, 2, 24, 24, 50)))
            number = dice.choice((None, dice.random()))
            quality = dice.choice(("full", "degraded")) if number is not None else "missing"
            row = value(feature["feature_name"], as_of, at, number, quality)
            rows[feature["feature_name"], as_of, at] = row
    return list(rows.values())


@pytest.mark.parametrize("seed", range(4))
def test_random_spines_equal_the_slow_oracle_and_each_single_question(bench, seed: int) -> None:
    bench.reference()
    rows = random_values(bench, seed)
    known(bench, *rows)
    dice = random.Random(seed)
    edges = [row[key] for row in rows for key in ("as_of", "available_at")]
    instants = [
        dice.choice(edges) + dice.choice((-1, 0, 0, 1)) * MICROSECOND
        + dice.choice((timedelta(0), timedelta(hours=1), timedelta(days=5)))
        for _ in range(60)
    ]  # fmt: skip
    spine(bench, sorted(set(instants), key=lambda t: t.microsecond))
    found = answers(bench.connection)
    assert found["quality"].n_unique() == 4
    assert_frame_equal(found, answers(bench.connection, ORACLE), check_exact=True)
    for t in instants[:8]:
        alone = bench.connection.sql(f"from features_at('HE', {at(t)})").pl().sort("feature_name")
        together = found.filter(pl.col("t") == t)
        assert_frame_equal(together.select(alone.columns), alone, check_exact=True)


def test_every_interleaving_of_three_reports_and_a_revision(bench) -> None:
    """Each order and coincidence of four publications, asked at, before and after each instant."""
    days = cut_offs(bench, 4)
    hours = [days[0] + timedelta(hours=h) for h in (-30, -1, 20, 30, 60)]
    as_ofs = (days[0], days[1], days[1], days[2])
    orders = [order for order in itertools.product(hours, repeat=4) if order[1] != order[2]]
    bench.reference()
    names = [row["feature_name"] for row in bench.rows("meta.features")]
    spine(
        bench,
        sorted({t + move * MICROSECOND for t in (*hours, *days) for move in (-1, 0, 1)}),
    )
    for start in range(0, len(orders), len(names)):
        known(
            bench,
            *(
                value(name, as_of, available_at, float(i))
                for name, order in zip(names, orders[start:], strict=False)
                for i, (as_of, available_at) in enumerate(zip(as_ofs, order, strict=True))
            ),
        )
        expected = answers(bench.connection, ORACLE)
        assert_frame_equal(answers(bench.connection), expected, check_exact=True)


def test_a_whole_lake_answers_as_each_single_question_does(sample_lake) -> None:
    dice = random.Random(5)
    with sample_lake.connect() as connection:
        edges = connection.sql("select distinct known_at from features.known_v1 order by all")
        instants = [known_at for (known_at,) in edges.fetchall()]
        chosen = [
            (dice.choice(("HE", "ZO")), t + dice.choice((-1, 0, 1)) * MICROSECOND)
            for t in [*dice.sample(instants, 6), *dice.sample(instants[-20:], 10)]
        ]
        values = ", ".join(f"('{market}', {at(t)})" for market, t in chosen)
        text = f"create temp table spine as from (values {values}) as s (market, t)"
        connection.execute(text).fetchall()
        found = answers(connection)
        assert found.columns == COLUMNS
        assert len(found) == len(chosen) * len(connection.sql("from meta.features").fetchall())
        for market, t in chosen:
            question = f"features_at('{market}', {at(t)})"
            alone = connection.sql(f"from {question}").pl().sort("feature_name")
            together = found.filter((pl.col("market") == market) & (pl.col("t") == t))
            assert_frame_equal(together.select(alone.columns), alone, check_exact=True)


# --- what is prepared -----------------------------------------------------------------------------


def test_what_was_superseded_when_it_appeared_is_not_prepared(bench) -> None:
    first, second = cut_offs(bench, 2)
    late = second + timedelta(hours=1)
    bench.given(
        "long_v1",
        value(FEATURE, first, late, 1.5),
        value(FEATURE, second, second, 2.0),
        value(FEATURE, first, first, 1.0),
    )
    rows = bench.build("known_v1")
    assert [(row["known_at"], row["value"]) for row in rows] == [(first, 1.0), (second, 2.0)]


def test_of_two_values_that_become_known_at_one_instant_the_newest_stands(bench) -> None:
    first, second = cut_offs(bench, 2)
    early = second - timedelta(hours=3)
    bench.given(
        "long_v1",
        value(FEATURE, first, second, 1.0),
        value(FEATURE, second, early, 2.0),  # known ahead: answers from the instant it describes
        value(FEATURE, second, second, 2.5),
    )
    (row,) = bench.build("known_v1")
    assert (row["known_at"], row["available_at"], row["value"]) == (second, second, 2.5)


def test_a_row_carries_the_tick_that_it_belongs_to(bench) -> None:
    """From the instant on at which the tick begins; nought before the first."""
    bench.reference()
    tick = bench.rows("meta.clock", "clock = 'session'")[40]
    begin, number = tick["as_of"], tick["tick_number"]
    instants = {
        datetime.fromisoformat("2001-01-02T00:00:00Z"): 0,
        begin - MICROSECOND: number - 1,
        begin: number,
        tick["known_at"]: number,
    }
    bench.given("long_v1", *(value(FEATURE, instant, instant, 1.0) for instant in instants))
    found = {row["as_of"]: row["tick_number"] for row in bench.build("known_v1")}
    assert found == instants


# --- the answers ----------------------------------------------------------------------------------


def test_the_bound_is_inclusive(bench) -> None:
    (day,) = cut_offs(bench, 1)
    known_at = day + timedelta(hours=2)
    known(bench, value(FEATURE, day, known_at, 1.0))
    spine(bench, [known_at - MICROSECOND, known_at])
    found = bench.rows("features_as_of('spine')", f"feature_name = '{FEATURE}'")
    rows = {row["t"]: (row["value"], row["quality"], row["age"]) for row in found}
    assert rows == {known_at - MICROSECOND: (None, "missing", None), known_at: (1.0, "full", 0)}


def test_age_counts_ticks_and_what_is_too_old_is_stale(bench) -> None:
    days = cut_offs(bench, 4)
    known(bench, value(FEATURE, days[0], days[0], 1.0, "degraded"))
    spine(bench, days)
    found = bench.rows("features_as_of('spine')", f"feature_name = '{FEATURE}'")
    rows = sorted(found, key=lambda row: row["t"])
    assert [row["age"] for row in rows] == [0, 1, 2, 3]
    assert [row["quality"] for row in rows] == ["degraded", "degraded", "stale", "stale"]
    assert [row["value"] for row in rows] == [1.0, 1.0, None, None]
    assert {row["as_of"] for row in rows} == {days[0]}


def test_reports_released_at_one_instant_all_count(bench) -> None:
    """After an incident three reports came out at once: what was before them is three behind."""
    bench.reference()
    at_once = datetime.fromisoformat("2025-03-28T19:30:00Z")
    bench.connection.execute(
        f"update meta.clock set known_at = '{at_once}'"
        " where clock = 'release' and as_of between '2025-03-10' and '2025-03-26'"
    )
    tuesday = datetime.fromisoformat("2025-03-04T22:00:00Z")
    released = datetime.fromisoformat("2025-03-07T20:30:00Z")
    known(bench, value("cot_swap_net", tuesday, released, 5.0))
    spine(bench, [released, at_once - MICROSECOND, at_once])
    found = bench.rows("features_as_of('spine')", "feature_name = 'cot_swap_net'")
    ages = [row["age"] for row in sorted(found, key=lambda row: row["t"])]
    assert ages == [0, 0, 3]


def test_a_value_ahead_of_its_own_tick_is_of_age_nought(bench) -> None:
    """A chain file taken before the session's cut-off, asked for before it."""
    day = cut_offs(bench, 2)[1]
    taken = day - timedelta(hours=1)
    known(bench, value(FEATURE, taken, taken, 1.0))
    spine(bench, [taken])
    (row,) = bench.rows("features_as_of('spine')", f"feature_name = '{FEATURE}'")
    (alone,) = bench.rows(f"features_at('HE', {at(taken)})", f"feature_name = '{FEATURE}'")
    assert (row["value"], row["age"]) == (alone["value"], alone["age"]) == (1.0, 0)


def test_a_market_without_any_value_is_missing_and_not_absent(bench) -> None:
    (day,) = cut_offs(bench, 1)
    known(bench)
    spine(bench, [day])
    names = [row["feature_name"] for row in bench.rows("meta.features")]
    for question in ("features_as_of('spine')", f"features_at('HE', {at(day)})"):
        rows = bench.rows(question)
        assert sorted(row["feature_name"] for row in rows) == sorted(names)
        assert {row["quality"] for row in rows} == {"missing"}


# --- how a spine is named -------------------------------------------------------------------------


@pytest.fixture
def asked(bench) -> Any:
    """A bench with one known value and a spine of one row."""
    (day,) = cut_offs(bench, 1)
    known(bench, value(FEATURE, day, day, 1.0))
    spine(bench, [day])
    return bench


def of_feature(bench, question: str) -> list[float | None]:
    where = f"feature_name = '{FEATURE}'"
    return [row["value"] for row in bench.sql(f"{question} where {where}")]


@pytest.mark.parametrize(
    "made",
    [
        "create table mine as from spine",
        "create temp table mine as from spine",
        "create view mine as from spine",
        "create view mine as select 7 as order_id, market, t, current_date as day from spine",
        "create view mine as select upper('he') as market, strftime(t, '%xT%XZ') as t from spine",
    ],
)
def test_a_spine_is_any_table_or_view(asked, made: str) -> None:
    asked.connection.execute(made).fetchall()
    assert of_feature(asked, "from features_as_of('mine')") == [1.0]
    assert of_feature(asked, "from features_as_of(mine)") == [1.0]


@pytest.mark.parametrize(
    "name",
    ["given", "asked", "clocks", "newest_ticks", "ticked", "questions", "answered", "mine"],
)
def test_a_spine_may_have_any_name(asked, name: str) -> None:
    """Also one that the macro uses itself."""
    cte = f"with {name} as (select market, t from spine union all from spine)"
    assert of_feature(asked, f"{cte} from features_as_of('{name}')") == [1.0, 1.0]
    asked.connection.execute(f"create table {name} as from spine").fetchall()
    assert of_feature(asked, f"from features_as_of('{name}')") == [1.0]


def test_a_spine_may_be_a_file(asked, tmp_path: Path) -> None:
    path = tmp_path / "spine.parquet"
    asked.connection.execute(f"copy spine to '{path}'").fetchall()
    assert of_feature(asked, f"from features_as_of('{path}')") == [1.0]


def test_answers_join_back_to_the_spine(asked) -> None:
    asked.connection.execute("create table trades as select 7 as trade, * from spine").fetchall()
    text = "select trade, value, feature_name from trades join features_as_of('trades')"
    assert of_feature(asked, f"from ({text} using (market, t))") == [1.0]


def test_an_empty_spine_has_no_answers(asked) -> None:
    spine(asked, [])
    assert asked.rows("features_as_of('spine')") == []


@pytest.mark.parametrize(
    ("row", "refusal"),
    [
        ("'HE' as market, timestamp '2025-03-06 20:00:00' as t", "t needs a time and a zone"),
        ("'HE' as market, date '2025-03-06' as t", "t needs a time and a zone"),
        ("'HE' as market, '2025-03-06 20:00:00' as t", "t needs a time and a zone"),
        ("'HE' as market, null::timestamptz as t", "t needs a time and a zone"),
        ("'XX' as market, timestamptz '2025-03-06 20:00:00+00' as t", "unknown market XX"),
        ("null as market, timestamptz '2025-03-06 20:00:00+00' as t", "unknown market NULL"),
        ("timestamptz '2025-03-06 20:00:00+00' as t", "market"),
    ],
)
def test_a_spine_that_cannot_be_answered_is_refused(asked, row: str, refusal: str) -> None:
    asked.connection.execute(f"create table bad as select {row}").fetchall()
    with pytest.raises(duckdb.Error, match=refusal):
        asked.rows("features_as_of('bad')")


def test_one_bad_row_refuses_the_whole_spine(asked) -> None:
    asked.connection.execute("insert into spine values ('XX', now())").fetchall()
    with pytest.raises(duckdb.Error, match="unknown market XX"):
        asked.rows("features_as_of('spine')")


def test_the_command_line_of_duckdb_1_answers_the_same(sample_lake, tmp_path: Path) -> None:
    """Read-only, with a temporary table."""
    command = shutil.which("duckdb", path=str(Path(sys.executable).parent))
    assert command, "the development environment has duckdb-cli"
    path = tmp_path / "spine.csv"
    path.write_text("market,t\nHE,2025-03-12T20:00:00Z\nZO,2025-03-20T02:00:00Z\n")
    columns = "feature_name, value, quality, as_of, available_at, staleness_days, age"
    script = f"""
        create temp table spine as
            select market, t::timestamptz as t from read_csv('{path}', all_varchar = true);
        select count(value), max(age) from features_as_of('spine');
        select {columns} from features_as_of('spine') where market = 'HE'
        except all from features_at('HE', '2025-03-12T20:00:00Z');
        select {columns} from features_as_of('spine') where market = 'ZO'
        except all from features_at('ZO', '2025-03-20T02:00:00Z');
    """
    done = subprocess.run(
        [command, "-readonly", "-csv", "-noheader", str(sample_lake.lake.database)],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.split()
    values, oldest = map(int, line.split(","))
    assert values > 40
    assert oldest > 1


def test_the_statements_of_the_docs_run(sample_lake) -> None:
    text = (Path(__file__).parents[2] / "docs" / "time.md").read_text(encoding="utf-8")
    create, join_back, pattern = [
        statement
        for block in re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
        for statement in block.split(";")
        if statement.strip()
    ]
    with sample_lake.connect() as connection:
        connection.execute(create).fetchall()
        assert len(connection.sql(join_back).fetchall()) == 2
        connection.execute("create temp table spine as from trades").fetchall()
        assert len(connection.sql(pattern).fetchall()) == 2


def test_one_feature_by_the_documented_pattern_is_what_the_macro_answers(sample_lake) -> None:
    """But for staleness, which the plain join does not know."""
    with sample_lake.connect() as connection:
        connection.execute(
            "create temp table spine as select market, cut_off as t from meta.sessions"
            " where session_date between '2025-02-20' and '2025-03-20'"
        ).fetchall()
        pattern = (
            "select s.market, s.t, k.as_of, k.available_at from spine as s"
            " asof left join features.known_v1 as k"
            f" on s.market = k.market and k.feature_name = '{FEATURE}' and s.t >= k.known_at"
            " order by all"
        )
        macro = (
            "select market, t, as_of, available_at from features_as_of('spine')"
            f" where feature_name = '{FEATURE}' order by all"
        )
        found = connection.sql(macro).fetchall()
        assert len(found) > 30
        assert connection.sql(pattern).fetchall() == found
