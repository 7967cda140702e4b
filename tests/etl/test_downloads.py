"""Downloads that are paid for: one price for all of it, and no month paid for twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl import downloads, reach
from etl.errors import BadInput, CostLimit, LakeError, VendorError
from etl.lake import Lake
from etl.market import Market, markets
from etl.schemas import HIVE_SCHEMA
from etl.sources import databento
from etl.spans import Span

NOW = datetime(2024, 5, 20, tzinfo=UTC)
WEEK = datetime(2024, 5, 3, tzinfo=UTC), datetime(2024, 5, 10, tzinfo=UTC)
QUARTER = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)
YEAR = datetime(2023, 5, 1, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture(scope="module")
def hogs() -> Market:
    return markets()["HE"]


@pytest.fixture(scope="module")
def oats() -> Market:
    return markets()["ZO"]


def plan(
    lake: Lake, vendor: Any, chosen: list[Market], span: Span = WEEK, quotes: str = "bbo-1m"
) -> downloads.Plan:
    wanted = {market.code: span for market in chosen}
    return downloads.plan(lake, wanted, chosen, vendor.asker(), quotes)


def run(
    lake: Lake,
    vendor: Any,
    chosen: list[Market],
    span: Span = WEEK,
    now: datetime = NOW,
    **options: Any,
) -> list[downloads.Step]:
    """Plan, and land the plan."""
    made = plan(lake, vendor, chosen, span, options.pop("quotes", "bbo-1m"))
    options.setdefault("by_month", True)
    known = {market.code: market for market in chosen}
    report = lambda line: None  # noqa: E731
    with lake.writing(now):
        return list(downloads.land_plan(lake, made, known, vendor.asker(), now, report, **options))


def bars(lake: Lake) -> pl.DataFrame:
    paths = lake.raw_files("futures_1m")
    frame = pl.read_parquet(paths, glob=False, hive_partitioning=True, hive_schema=HIVE_SCHEMA)
    return frame.select("market", "contract", "as_of", "close").sort(pl.all())


# --- the plan -----------------------------------------------------------------------------------


def test_a_plan_is_priced_as_a_whole(lake: Lake, vendor: Any, hogs: Market, oats: Market) -> None:
    made = plan(lake, vendor, [hogs, oats])
    assert made.usd == 10 * 0.25
    rows = made.rows()
    assert rows[0] == (
        *("HE", "definition", "HE.FUT HE.OPT", "2024-05-03 00:00", "2024-05-10 00:00"),
        Decimal("0.2500"),
    )
    assert [row[0] for row in rows] == ["HE"] * 5 + ["ZO"] * 5 + ["all"]
    assert rows[-1][-1] == Decimal("2.5000")
    made.check_cost(2.5)  # the limit itself is allowed
    vendor.cost = 0.1
    plan(lake, vendor, [hogs, oats]).check_cost(1.0)
    with pytest.raises(CostLimit, match=r"USD 2\.50.*limit of USD 2\.00.*nothing was") as refused:
        made.check_cost(2.0)
    assert refused.value.exit_code == 5
    assert vendor.count("get_range") == 0
    assert not lake.root.exists()


def test_years_are_priced_in_one_go(lake: Lake, vendor: Any, hogs: Market) -> None:
    made = plan(lake, vendor, [hogs], YEAR)
    assert vendor.count("get_cost") == 5
    assert len(made.steps(by_month=True)) == 12
    assert all(len(requests) == 5 for requests in made.steps(by_month=True))
    assert [step[0].start for step in made.steps(by_month=True)] == sorted(
        s[0].start for s in made.steps(by_month=True)
    )


def test_what_resolves_to_nothing_is_said_and_not_fatal(
    lake: Lake, vendor: Any, hogs: Market
) -> None:
    vendor.unknown = {"HE.OPT", "LN1.OPT"}
    weekly = replace(hogs, option_parents=("LN1.OPT",), futures_parents=())
    made = plan(lake, vendor, [weekly])
    assert made.priced == ()
    assert made.notes == ("HE: 1 of its parents mean nothing: LN1.OPT",)
    steps = run(lake, vendor, [hogs])
    # Beside the others the vendor says so in the file.
    assert any("did not resolve" in note and "HE.OPT" in note for note in steps[0].notes)


def test_days_of_note_are_said(lake: Lake, vendor: Any, hogs: Market) -> None:
    vendor.conditions = {
        **{f"2024-05-{day:02}": "degraded" for day in range(3, 9)},
        "2024-05-09": "pending",
    }
    made = plan(lake, vendor, [hogs])
    assert made.notes == (
        "GLBX.MDP3: 6 degraded (2024-05-03, 2024-05-04, 2024-05-05, 2024-05-06, 2024-05-07, …): "
        "landed and flagged",
        "GLBX.MDP3: 1 pending (2024-05-09): not asked for, the next run asks again",
    )


def test_a_market_that_is_not_at_databento_is_passed_over(
    lake: Lake, vendor: Any, hogs: Market
) -> None:
    spx = markets()["SPX"]
    assert "SPX is not at Databento" in plan(lake, vendor, [spx, hogs]).notes[0]
    asked = len(vendor.asked)
    assert plan(lake, vendor, [spx]).priced == ()
    assert len(vendor.asked) == asked


def test_a_lake_of_samples_is_refused_before_anything_is_asked(
    lake: Lake, vendor: Any, hogs: Market
) -> None:
    lake.claim("sample")
    lake.batches.mkdir()
    (lake.batches / "something.json").write_text("{}")
    with pytest.raises(LakeError, match="holds sample data and takes no vendor data"):
        plan(lake, vendor, [hogs])
    assert vendor.asked == []


# --- landing ------------------------------------------------------------------------------------


def test_what_was_spent_is_recorded(lake: Lake, vendor: Any, hogs: Market) -> None:
    (step,) = run(lake, vendor, [hogs])
    assert step.usd == 1.25
    assert step.rows == 99  # all but the definitions, which define nothing
    assert step.line().startswith("HE 2024-05: 99 rows, 0.0 MB, USD 1.25")
    records = lake.batch_records()
    assert [record["cost_usd"] for record in records] == [0.25] * 5  # what brought nothing too
    assert downloads.summary([step]) == ("downloaded 1 months: 99 new rows, 0.0 MB, USD 1.25")


def test_a_second_run_asks_for_nothing(lake: Lake, vendor: Any, hogs: Market) -> None:
    run(lake, vendor, [hogs])
    asked = len(vendor.asked)
    assert plan(lake, vendor, [hogs]).priced == ()
    assert {name for name, _ in vendor.asked[asked:]} == {
        *("get_dataset_range", "get_dataset_condition"),
    }
    longer = WEEK[0] - timedelta(days=40), WEEK[1]
    spans = {(p.request.start, p.request.end) for p in plan(lake, vendor, [hogs], longer).priced}
    assert spans == {(longer[0], WEEK[0])}


def test_a_pending_day_is_asked_for_once_it_is_there(lake: Lake, vendor: Any, hogs: Market) -> None:
    vendor.conditions = {"2024-05-06": "pending", "2024-05-07": "degraded"}
    run(lake, vendor, [hogs])
    series = databento.series("bbo-1m", "HE.OPT")
    assert len(reach.held(lake, "databento", "HE", series)) == 2
    assert reach.days(lake) == {
        "GLBX.MDP3": {date(2024, 5, 7): ("degraded", date(2024, 5, 20), NOW)},
    }
    vendor.conditions = {}
    made = plan(lake, vendor, [hogs])
    day = datetime(2024, 5, 6, tzinfo=UTC)
    assert {(part.request.start, part.request.end) for part in made.priced} == {
        (day, day + timedelta(days=1))
    }


def test_other_quotes_and_new_roots_are_lacking_in_what_has_landed(
    lake: Lake, vendor: Any, hogs: Market
) -> None:
    run(lake, vendor, [hogs])
    made = plan(lake, vendor, [hogs], quotes="mbp-1")
    assert [part.request.schema for part in made.priced] == ["mbp-1"]
    weekly = replace(hogs, option_parents=("HE.OPT", "LN1.OPT"))
    made = plan(lake, vendor, [weekly])
    assert {part.request.symbols for part in made.priced} == {("LN1.OPT",)}


def test_files_are_kept_on_request(lake: Lake, vendor: Any, hogs: Market, tmp_path: Path) -> None:
    run(lake, vendor, [hogs])
    assert not (lake.root / "downloads").exists()
    kept = tmp_path / "kept"
    run(Lake(tmp_path / "other"), vendor, [hogs], keep=kept)
    assert len(list(kept.iterdir())) == 5
    assert all(path.name.endswith(".dbn.zst") for path in kept.iterdir())


@pytest.mark.parametrize("by_month", [False, True])
def test_a_failure_leaves_whole_steps_and_what_was_paid_for(
    lake: Lake, vendor: Any, hogs: Market, by_month: bool
) -> None:
    """February's statistics are short: January landed or nothing did, and all came once."""
    good = vendor.good

    def short(name: str, form: dict[str, str]) -> Any:
        if name == "get_range" and form["schema"] == "statistics" and "2024-02" in form["start"]:
            return 200, vendor.file(form, 6), {}
        return good(name, form)

    vendor.good = short
    with pytest.raises(VendorError, match="got 6 of 7 records"):
        run(lake, vendor, [hogs], QUARTER, by_month=by_month)
    assert bool(lake.raw_files()) == by_month
    if by_month:
        assert set(bars(lake)["as_of"].dt.month()) == {1}
    else:
        assert lake.batch_records() == []
        assert not (lake.root / "reach").exists()
    vendor.good = good
    asked = vendor.spans()
    run(lake, vendor, [hogs], QUARTER, by_month=by_month)
    again = set(asked) & set(vendor.spans()[len(asked) :])
    assert {(schema, start) for schema, _, start, _ in again} == {
        ("statistics", "2024-02-01T00:00")
    }
    assert set(bars(lake)["as_of"].dt.month()) == {1, 2, 3}
    assert sum(record["cost_usd"] or 0 for record in lake.batch_records()) == 15 * 0.25


#: A backfill in a process of its own, killed just after a certain call of a function.
_BACKFILL = """
import importlib, json, os, signal, sys
from datetime import datetime
from pathlib import Path
from databento import Historical
from etl import downloads
from etl.lake import Lake
from etl.market import markets
from etl.sources.databento import Asker

url, root, module, name, number, *moments = sys.argv[1:]
start, end, now = map(datetime.fromisoformat, moments)
client = Historical("db-key")
for api in (client.metadata, client.timeseries):
    api._base_url = api._base_url.replace(api._gateway, url)
holder = importlib.import_module(module)
real, calls = getattr(holder, name), iter(range(1, 1000))

def call(*arguments, **named):
    result = real(*arguments, **named)
    if next(calls) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(holder, name, call)
lake, ask, hogs = Lake(Path(root)), Asker(client, "db-key", print), markets()["HE"]
plan = downloads.plan(lake, {"HE": (start, end)}, [hogs], ask, "bbo-1m")
with lake.writing(now):
    for step in downloads.land_plan(lake, plan, {"HE": hogs}, ask, now, print, by_month=True):
        pass
"""


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("etl.sources.databento.fetch", 7),
        ("etl.downloads.land", 1),
        ("etl.downloads.land", 12),
        ("etl.reach.extend", 15),
    ],
)
def test_a_killed_backfill_goes_on_and_pays_for_nothing_twice(
    lake: Lake, tmp_path: Path, vendor: Any, hogs: Market, where: str, number: int
) -> None:
    """Killed with SIGKILL just after a download, a landing or its record."""
    words = [vendor.url, str(lake.root), *where.rsplit(".", 1), str(number)]
    words += [moment.isoformat() for moment in (*QUARTER, NOW)]
    ended = subprocess.run([sys.executable, "-c", _BACKFILL, *words], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()

    run(lake, vendor, [hogs], QUARTER)
    downloaded = vendor.spans()
    assert len(downloaded) == len(set(downloaded)) == 15  # no month of a schema twice
    at_once = Lake(tmp_path / "at-once")
    run(at_once, vendor, [hogs], QUARTER)
    assert bars(lake).equals(bars(at_once))
    assert plan(lake, vendor, [hogs], QUARTER).priced == ()
    assert not (lake.root / "downloads").exists()
    assert [record["cost_usd"] for record in lake.batch_records() if record["cost_usd"]] == (
        [0.25] * 15
    )


def test_roots_are_looked_for_in_one_days_definitions(vendor: Any, hogs: Market) -> None:
    midnight = datetime(2024, 5, 8, tzinfo=UTC)
    with pytest.raises(CostLimit, match=r"USD 0\.25"):
        downloads.find_roots(hogs, midnight, vendor.asker(), 0.1)
    assert downloads.find_roots(hogs, midnight, vendor.asker(), 1.0) == ([], 0.25)
    (form,) = (form for name, form in vendor.asked if name == "get_range")
    assert (form["symbols"], form["schema"]) == ("ALL_SYMBOLS", "definition")
    vendor.records["definition"] = 0
    with pytest.raises(BadInput, match="no definitions of 2024-05-08"):
        downloads.find_roots(hogs, midnight, vendor.asker(), 1.0)
    with pytest.raises(BadInput, match="SPX is not at Databento"):
        downloads.find_roots(markets()["SPX"], midnight, vendor.asker(), 1.0)
