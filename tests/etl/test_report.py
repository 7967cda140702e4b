"""The report's data and file: what was known and nothing else, in one page that stands alone."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner

import etl
from etl.build import build
from etl.cli import main
from etl.derive import derive
from etl.errors import BadInput, LakeError
from etl.lake import Lake, month_of
from etl.report import data as data_module
from etl.report import report
from etl.report.charts import charts
from etl.report.data import built, collect
from etl.schemas import DATASETS
from etl.stored import derived_files

CONVENTIONS = ("dealer_short", "dealer_long", "calls_long_puts_short", "cot")

#: Between a session's preliminary settlements and the final ones; a report's release had passed.
THEN = datetime(2025, 3, 11, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def connection(sample_lake: Any) -> Iterator[duckdb.DuckDBPyConnection]:
    opened = etl.connect(sample_lake.lake.root)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def data(sample_lake: Any, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    return collect(connection, sample_lake.now)


@pytest.fixture(scope="module")
def page(sample_lake: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("report") / "report.html"
    report(sample_lake.lake, target, sample_lake.now)
    return target.read_text(encoding="utf-8")


def held(page: str) -> dict[str, Any]:
    """The data that a page carries."""
    packed = re.search(r'<script type="text/plain" id="data">(.*?)</script>', page)
    assert packed
    unpacked: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed[1])))
    return unpacked


def leaves(level: Any, depth: int) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """The keys and columns of each leaf of a nested table."""
    if not depth:
        yield (), level
        return
    for key, inside in level.items():
        for path, leaf in leaves(inside, depth - 1):
            yield (key, *path), leaf


# --- what was known -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lake_of_then(sample_lake: Any, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of the raw rows known at ``THEN``, derived and built as of then."""
    whole, cut = sample_lake.lake, Lake(tmp_path_factory.mktemp("then") / "lake")
    cut.claim("sample")
    with cut.writing(THEN):
        for path in (path for name in DATASETS for path in whole.raw_files(name)):
            rows = pl.read_parquet(path, hive_partitioning=False, glob=False)
            target = cut.root / path.relative_to(whole.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            rows.filter(pl.col("available_at") <= THEN).write_parquet(target)
        for code in cut.markets():
            derive(cut, sample_lake.markets[code], THEN)
        build(cut, dict(sample_lake.markets), THEN)
    return cut


def known(connection: duckdb.DuckDBPyConnection, t: datetime) -> dict[str, Any]:
    """The page's data but for when the checks ran, which may be later."""
    collected = collect(connection, t)
    for columns in collected["page_findings"].values():
        del columns["run_at"]
    return collected


def test_the_page_of_then_is_the_page_that_could_have_been_drawn_then(
    connection: duckdb.DuckDBPyConnection, lake_of_then: Lake
) -> None:
    then = etl.connect(lake_of_then.root)
    try:
        want = known(then, THEN)
    finally:
        then.close()
    got = known(connection, THEN)
    assert set(got) == set(want)
    for table in want:
        assert got[table] == want[table], table
    assert all(want[table] for table in want)


def test_nothing_of_then_is_newer(connection: duckdb.DuckDBPyConnection) -> None:
    def instants(value: Any) -> Iterator[datetime]:
        if isinstance(value, datetime):
            yield value
        elif isinstance(value, dict | list):
            for inside in value.values() if isinstance(value, dict) else value:
                yield from instants(inside)

    told = list(instants(known(connection, THEN)))
    assert told
    assert max(told) <= THEN


def test_a_sessions_newest_vintage_is_drawn(connection: duckdb.DuckDBPyConnection) -> None:
    final = connection.sql(
        "select session_date, min(as_of) as first, max(as_of) as last from features.surface_v1 "
        "where market = 'HE' and price_source = 'settlement' group by all having first < last "
        "order by all limit 1"
    ).fetchall()
    ((session, first, last),) = final
    for instant, want in ((first, first), (last - timedelta(microseconds=1), first), (last, last)):
        drawn = collect(connection, instant)["slices"]["HE"][str(session)]["settlement"]
        assert drawn["as_of"] == want


def test_before_anything_was_known_there_is_an_empty_page(sample_lake: Any, tmp_path: Path) -> None:
    target = tmp_path / "early.html"
    report(sample_lake.lake, target, sample_lake.now, datetime(2001, 1, 1, tzinfo=UTC))
    text = target.read_text(encoding="utf-8")
    assert held(text)["markets"] == {}
    assert "nothing known" in text


def test_an_instant_still_to_come_is_refused(sample_lake: Any, tmp_path: Path) -> None:
    late = sample_lake.now + timedelta(seconds=1)
    with pytest.raises(BadInput, match="still to come"):
        report(sample_lake.lake, tmp_path / "x.html", sample_lake.now, late)
    assert not list(tmp_path.iterdir())


# --- what is drawn ------------------------------------------------------------------------------


def test_bids_and_asks_enclose_the_mid(data: dict[str, Any]) -> None:
    counted = 0
    for (_, _, source, _), leaf in leaves(data["smile"], 4):
        for low, vol, high in zip(leaf["vol_low"], leaf["vol"], leaf["vol_high"], strict=True):
            if source == "settlement" or vol is None:
                assert low is high is None
            elif high is not None:
                assert low <= vol <= high
                counted += 1
    assert counted > 500


def test_vols_of_bid_and_ask_are_those_of_the_chains_own_prices(
    connection: duckdb.DuckDBPyConnection, data: dict[str, Any]
) -> None:
    """Near the money, where a price is linear in vol, the spread over vega is the width in vol."""
    chain = connection.sql(
        "select session_date::varchar, series || ' ' || expiry, strike, (ask - bid) / vega "
        "from features.chain_v1 where market = 'HE' and price_source = 'quote' and is_liquid "
        "and abs(delta) > 0.3 and (option_type = 'C') = (strike >= forward)"
    ).fetchall()
    counted = 0
    for session, name, strike, width in chain:
        leaf = data["smile"]["HE"].get(session, {}).get("quote", {}).get(name)
        if leaf and leaf["is_liquid"][(i := leaf["strike"].index(strike))]:
            assert leaf["vol_high"][i] - leaf["vol_low"][i] == pytest.approx(width, 0.05)
            counted += 1
    assert counted > 100


def test_degraded_slices_have_no_curve_and_no_distribution(data: dict[str, Any]) -> None:
    thin = 0
    for (market, session, source), leaf in leaves(data["slices"], 3):
        for name, quality in zip(leaf["slice"], leaf["quality"], strict=True):
            path = (market, session, source, name)
            smile, surface, density = (
                dict(leaves(data[table], 4)).get(path) for table in ("smile", "surface", "density")
            )
            assert smile
            if quality == "full":
                assert any(smile["vol_curve"])
                assert surface
                assert density
            else:
                thin += 1
                assert not any(smile["vol_curve"])
                assert surface is density is None
    assert thin


def test_the_density_keeps_its_mass(data: dict[str, Any]) -> None:
    for _, leaf in leaves(data["density"], 4):
        x, y = leaf["strike"], leaf["density"]
        mass = sum((x[i + 1] - x[i]) * (y[i + 1] + y[i]) / 2 for i in range(len(x) - 1))
        assert mass == pytest.approx(0.99, abs=0.015)


def test_each_convention_of_the_data_is_drawn(
    connection: duckdb.DuckDBPyConnection, data: dict[str, Any]
) -> None:
    assert set(CONVENTIONS) <= set(built(connection)["conventions"])
    in_flows = {path[-1] for path, _ in leaves(data["flow"], 4)}
    assert set(CONVENTIONS) <= in_flows
    invented = charts([*CONVENTIONS, "another"])
    (gamma,) = (chart for chart in invented if chart.name == "gamma_history")
    assert "another" in json.dumps(gamma.specification())
    assert "another" in [label for label, *_ in gamma.key]


def test_strikes_add_up_to_the_slices_total(data: dict[str, Any]) -> None:
    for (market, session, name, convention), leaf in leaves(data["flow"], 4):
        total = data["flow_total"][market][session]
        rows = zip(total["slice"], total["weight"], total["convention"], strict=True)
        at = list(rows).index((name, "open_interest", convention))
        for measure in ("gex", "vanna", "charm"):
            size = sum(map(abs, leaf[measure]))
            assert sum(leaf[measure]) == pytest.approx(total[measure][at], abs=1e-3 * size)


def test_what_is_drawn_strike_by_strike_is_bounded(
    connection: duckdb.DuckDBPyConnection, sample_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = collect(connection, sample_lake.now)
    monkeypatch.setattr(data_module, "STRIKES", 2)  # less than any slice has
    least = collect(connection, sample_lake.now)
    for market in ("HE", "ZO"):
        newest = max(whole["slices"][market])
        assert list(least["slices"][market]) == [newest]
        assert sum(len(leaf["slice"]) for leaf in least["slices"][market][newest].values()) == 1
    monkeypatch.setattr(data_module, "STRIKES", 700)
    some = collect(connection, sample_lake.now)
    strikes = [sum(vol is not None for vol in leaf["vol"]) for _, leaf in leaves(some["smile"], 4)]
    assert 0 < sum(strikes) <= 700
    for market, sessions in some["slices"].items():
        assert sorted(sessions) == sorted(whole["slices"][market])[-len(sessions) :]
    monkeypatch.setattr(data_module, "STRIKES", 4_000)
    more = collect(connection, sample_lake.now)
    for market, sessions in more["slices"].items():
        priced: Counter[str] = Counter()
        for (session, *_), leaf in leaves(whole["smile"][market], 3):
            priced[session] += sum(vol is not None for vol in leaf["vol"])
        through = accumulate(priced[session] for session in sorted(priced, reverse=True))
        assert len(sessions) == sum(strikes <= 2_000 for strikes in through) > 1  # and no fewer


@pytest.mark.parametrize("chart", charts(CONVENTIONS), ids=lambda chart: chart.name)
def test_a_chart_is_vega_lite_with_unit_key_and_table(chart: Any) -> None:
    spec = chart.specification(validate=True)
    text = json.dumps(spec)
    assert spec["data"] == {"name": "rows"}
    assert not re.search(r"#[0-9a-fA-F]{3,6}\b", text), "colours are the page's variables"
    assert chart.title
    assert chart.unit
    assert chart.key
    assert chart.fields


def test_of_months_without_a_drawn_session_no_chain_is_opened(
    own_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = own_lake.lake
    with lake.writing(own_lake.now):
        build(lake, dict(own_lake.markets), own_lake.now)  # its views name its own files
    monkeypatch.setattr(data_module, "STRIKES", 2)  # the newest session alone
    with etl.open_lake(lake.root) as opened:
        whole = collect(opened.connection, own_lake.now)
    for table in ("chain_v1", "surface_grid_v1", "density_v1", "flow_v1", "flow_by_strike_v1"):
        files = derived_files(lake, table)
        newest = max(month_of(str(path)) for path in files)
        older = [path for path in files if month_of(str(path)) < newest]
        assert older
        for path in older:
            path.unlink()
    with etl.open_lake(lake.root) as opened:
        assert collect(opened.connection, own_lake.now) == whole


# --- the file -----------------------------------------------------------------------------------


def test_the_page_stands_alone(page: str) -> None:
    outside = re.findall(
        r"""(?:src|href|srcset|action)\s*=\s*["'](?!#)""", page.split("<script")[0]
    )
    assert not outside
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page.split("<script")[0])
    assert page.count("<script>") == 2
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy[1]
    for script in re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]


def test_the_page_is_small_and_the_same_each_time(
    sample_lake: Any, tmp_path: Path, page: str
) -> None:
    target = tmp_path / "again.html"
    report(sample_lake.lake, target, sample_lake.now)
    assert target.read_text(encoding="utf-8") == page
    assert len(page.encode()) < 3_000_000


def test_sample_data_is_marked_wherever_one_looks(page: str) -> None:
    mark = "SAMPLE DATA: synthetic, of no real market"
    title = re.search(r"<title>(.*?)</title>", page)
    assert title
    assert mark in title[1]
    assert f'<div class="banner" role="alert">{mark}</div>' in page
    assert page.count(mark) == 3


def test_vendor_data_is_not(own_lake: Any, tmp_path: Path) -> None:
    marker = json.loads(own_lake.lake.marker.read_text())
    own_lake.lake.marker.write_text(json.dumps({**marker, "origin": "vendor"}))
    with own_lake.lake.writing(own_lake.now):
        build(own_lake.lake, dict(own_lake.markets), own_lake.now)
    report(own_lake.lake, tmp_path / "x.html", own_lake.now)
    assert "SAMPLE" not in (tmp_path / "x.html").read_text(encoding="utf-8")


def test_the_page_says_what_built_it(page: str, sample_lake: Any) -> None:
    told = held(page)
    assert told["known_by"] == "2025-03-14T12:00:00Z"
    assert told["built"]["run"]["built_at"] == "2025-03-14T12:00:00Z"
    with sample_lake.connect() as connection:
        rows = connection.sql("select sum(rows)::bigint, count(*) from meta.batches").fetchall()
    assert [(b["rows"], b["batches"]) for b in told["built"]["batches"]] == rows
    assert {view["view_name"] for view in told["built"]["views"]} >= {"chain_v1", "cot_v1"}


def test_a_page_that_cannot_be_written_leaves_the_old_one(sample_lake: Any, tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(LakeError, match="cannot write"):
        report(sample_lake.lake, target, sample_lake.now)
    assert not list(tmp_path.glob("*.part"))


def test_a_database_of_other_code_is_one_line(own_lake: Any, tmp_path: Path) -> None:
    with duckdb.connect(str(own_lake.lake.database)) as connection:
        connection.execute("alter table features.futures_v1 rename column close to last")
    with pytest.raises(LakeError, match="rebuild it with hydra build"):
        report(own_lake.lake, tmp_path / "x.html", own_lake.now)


def test_the_command_writes_where_it_is_told_and_into_the_lake(
    own_lake: Any, tmp_path: Path
) -> None:
    words = ["--lake", str(own_lake.lake.root), "--now", own_lake.now.isoformat(), "report"]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.stdout) == (0, f"report: {own_lake.lake.report}\n")
    target = tmp_path / "then.html"
    done = CliRunner().invoke(
        main, [*words, "--at", "2025-03-11T15:00:00-05:00", "-o", str(target)]
    )
    assert (done.exit_code, done.stdout) == (0, f"report: {target}\n")
    text = target.read_text(encoding="utf-8")
    assert "2025-03-11 20:00:00 UTC</strong>, and drawn from nothing" in text
    assert held(text)["known_by"] == "2025-03-11T20:00:00Z"
