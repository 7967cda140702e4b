"""The commands that download what is paid for, as a person runs them, from a loopback vendor."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from etl import jobs, keys, reach
from etl.cli import main
from etl.export import open_database
from etl.lake import Lake
from etl.sources import databento

NOW = "2024-05-20T00:00:00Z"
KEY = "db-SeCrEt-0123456789abcdefghijkl"

Hydra = Callable[..., Result]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def hydra(lake: Path, vendor: Any, monkeypatch: pytest.MonkeyPatch) -> Hydra:
    """The command line, with the vendor at the other end of the real client and no CFTC."""
    vendor.range["end"] = "2024-05-18T00:00:00Z"
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)
    for name in ("HYDRA_QUOTES", "HYDRA_DOWNLOADS", "HYDRA_MAX_COST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        databento, "connect", lambda key, tell: databento.Asker(vendor.client(), key, tell)
    )
    monkeypatch.setattr(jobs, "land_reports", lambda *_: None)

    def run(*words: object) -> Result:
        return CliRunner().invoke(main, ["--lake", str(lake), "--now", NOW, *map(str, words)])

    return run


BACKFILL = ("backfill", "--market", "HE", "--start", "2024-01-15", "--end", "2024-03-31")


def test_a_dry_run_shows_the_plan_and_does_nothing(hydra: Hydra, vendor: Any, lake: Path) -> None:
    for words in (BACKFILL, ("daily", "--market", "HE", "--days", "3")):
        result = hydra("-q", *words, "--dry-run")
        assert result.exit_code == 0, result.output
        header, *rows = result.stdout.splitlines()
        assert header.split() == ["market", "schema", "symbols", "from", "until", "USD"]
        assert [row.split()[1] for row in rows[:-1]] == [
            *("definition", "ohlcv-1d", "ohlcv-1m", "statistics", "bbo-1m"),
        ]
        assert rows[-1].split() == ["all", "1.2500"]
    assert vendor.count("get_range") == 0
    assert not lake.exists()


def test_a_dry_run_of_samples_costs_nothing(hydra: Hydra, lake: Path) -> None:
    result = hydra("daily", "--source", "sample", "--dry-run")
    assert result.stdout == "the sample vendor costs nothing\n"
    assert not lake.exists()


def test_a_plan_above_the_limit_exits_5_and_nothing_is_downloaded(
    hydra: Hydra, vendor: Any, lake: Path
) -> None:
    vendor.cost = 1.01
    for words in (BACKFILL, ("daily", "--market", "HE")):
        result = hydra(*words)
        assert result.exit_code == 5
        last = result.stderr.splitlines()[-1]
        assert last.startswith("hydra: the plan costs USD 5.05, above the limit of USD 5.00")
        assert "ohlcv-1m" in result.stderr  # the table
    assert vendor.count("get_range") == 0
    assert not (lake / "raw").exists()
    assert hydra(*BACKFILL, "--max-cost", "5.1").exit_code == 0


def test_settings_come_from_the_environment_too(
    hydra: Hydra, vendor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_MAX_COST", "1")
    assert hydra(*BACKFILL).exit_code == 5
    monkeypatch.setenv("HYDRA_MAX_COST", "2")
    monkeypatch.setenv("HYDRA_QUOTES", "mbp-1")
    monkeypatch.setenv("HYDRA_DOWNLOADS", str(tmp_path / "kept"))
    assert hydra(*BACKFILL).exit_code == 0
    assert any("mbp-1" in path.name for path in (tmp_path / "kept").iterdir())


def test_a_backfill_says_each_month_and_what_it_came_to(
    hydra: Hydra, vendor: Any, lake: Path
) -> None:
    result = hydra(*BACKFILL)
    assert result.exit_code == 0, result.output
    said = result.stderr.splitlines()
    steps = [line for line in said if re.match(r"\d/3 ", line)]
    assert [line.split()[:3] for line in steps] == [
        [f"{n}/3", "HE", f"2024-0{n}:"] for n in (1, 2, 3)
    ]
    assert all(re.search(r"ETA \d:\d\d:\d\d$", line) for line in steps)
    assert said[-2:] == [
        "downloaded 3 months: 297 new rows, 0.0 MB, USD 3.75",
        "next: hydra derive && hydra build",
    ]
    held = reach.held(Lake(lake), "databento", "HE", "bbo-1m HE.OPT")
    assert [(f"{a:%F}", f"{b:%F}") for a, b in held] == [("2024-01-15", "2024-04-01")]
    again = hydra("-q", *BACKFILL)
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "")
    assert vendor.count("get_range") == 15


def test_what_was_spent_and_what_the_vendor_doubts_are_in_the_database(
    hydra: Hydra, vendor: Any, lake: Path
) -> None:
    vendor.conditions = {"2024-02-06": "degraded", "2024-02-10": "missing", "2024-02-12": "pending"}
    result = hydra(*BACKFILL)
    assert "GLBX.MDP3: 1 degraded (2024-02-06): landed and flagged" in result.stderr
    assert "GLBX.MDP3: 1 pending (2024-02-12): not asked for" in result.stderr
    for words in (("derive",), ("build",)):
        assert hydra(*words).exit_code == 0
    connection = open_database(lake / "hydra.duckdb")
    (spent,) = connection.sql("select sum(cost_usd) from meta.batches").fetchall()
    days = connection.sql("select market, day::varchar, condition from meta.vendor_days").fetchall()
    found = connection.sql(
        "select session_date::varchar, severity from quality.checks where check_name = 'vendor_day'"
    ).fetchall()
    connection.close()
    assert spent == (20 * 0.25,)  # the month with the pending day is in two parts
    assert days == [("HE", "2024-02-06", "degraded"), ("HE", "2024-02-10", "missing")]
    assert found == [("2024-02-06", "warning")]  # the other is a Saturday


def test_a_backfill_to_come_or_backwards_is_nothing_or_refused(hydra: Hydra) -> None:
    result = hydra("backfill", "--market", "HE", "--start", "2025-01-01", "--end", "2025-02-01")
    assert result.exit_code == 0
    assert "Databento has nothing that the lake lacks" in result.stderr
    result = hydra("backfill", "--market", "HE", "--start", "2024-02-01", "--end", "2024-01-01")
    assert result.exit_code == 3
    assert "--end 2024-01-01 is before --start 2024-02-01" in result.stderr
    result = hydra("backfill", "--market", "SPX", "--start", "2024-01-01", "--end", "2024-02-01")
    assert "SPX is not at Databento" in result.stderr


def test_roots_that_a_market_lacks_are_listed(
    hydra: Hydra, vendor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = hydra("roots", "--market", "HE")
    assert result.exit_code == 0, result.output
    assert result.stdout == "HE: no root is missing\n"
    (form,) = (form for name, form in vendor.asked if name == "get_range")
    assert form["start"].startswith("2024-05-18")
    monkeypatch.setattr(databento, "missing_roots", lambda *_: [databento.Root("LN1.OPT", 1200)])
    assert hydra("roots", "--market", "HE", "--on", "2024-05-08").stdout.splitlines() == [
        "LN1.OPT: 1,200 options on HE futures",
        'in HE.toml: option_parents = ["HE.OPT", "LN1.OPT"]',
    ]
    assert hydra("roots", "--market", "HE", "--max-cost", "0.1").exit_code == 5


# --- a terminal ---------------------------------------------------------------------------------

_ON_A_TERMINAL = """
import sys
from etl import show, terminal
show.show(("market", "USD"), [("HE", "0.25"), ("all", "1.25")], stderr=True)
with terminal.Progress(2, quiet=False) as progress:
    progress.at("bbo-1m of HE.OPT")
    print("said beside it", file=sys.stderr)
    progress.step("HE 2024-01: 5 rows [of] 7")
    progress.step("HE 2024-02: 6 rows")
"""


def _drawn(**environment: str) -> str:
    """What the child writes to stderr when that is a terminal."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment}
    subprocess.run([sys.executable, "-c", _ON_A_TERMINAL], stderr=theirs, env=env, check=True)
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return b"".join(parts).decode()


def test_on_a_terminal_rich_draws() -> None:
    drawn = _drawn()
    assert "─" in drawn
    assert "━" in drawn
    assert "2/2" in drawn
    assert re.search(r"\x1b\[2Ksaid beside it\r?$", drawn, re.MULTILINE)  # on a cleared line
    assert "HE 2024-01: 5 rows [of] 7" in drawn
    assert "\x1b[" in drawn


def test_no_color_is_none() -> None:
    drawn = _drawn(NO_COLOR="1")
    assert "2/2" in drawn
    assert not re.search(r"\x1b\[[0-9;]*3[0-9](;|m)", drawn)


# --- the key ------------------------------------------------------------------------------------


class Ring:
    """A keyring as the package's backends are."""

    def __init__(self, held: dict[tuple[str, str], str]) -> None:
        self.held = held

    def get_password(self, service: str, name: str) -> str | None:
        return self.held.get((service, name))


def test_a_key_comes_from_the_environment_or_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = pytest.importorskip("keyring")
    ring = Ring({("hydra-lake", "databento"): " db-ring "})
    monkeypatch.setattr(keyring, "get_password", ring.get_password)
    monkeypatch.setenv("DATABENTO_API_KEY", " db-environment\n")
    assert keys.databento_key() == "db-environment"
    for blank in ("", " \n"):
        monkeypatch.setenv("DATABENTO_API_KEY", blank)
        assert keys.databento_key() == "db-ring"
    ring.held = {("hydra-lake", "databento"): "  "}
    assert keys.databento_key() == ""


def test_a_locked_or_missing_keyring_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = pytest.importorskip("keyring")
    from keyring.errors import KeyringLocked

    monkeypatch.delenv("DATABENTO_API_KEY", raising=False)

    def locked(*_: str) -> str:
        raise KeyringLocked

    monkeypatch.setattr(keyring, "get_password", locked)
    assert keys.databento_key() == ""
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert keys.databento_key() == ""


@pytest.mark.parametrize("debug", [False, True])
def test_the_key_is_in_nothing_that_a_run_leaves(
    hydra: Hydra, vendor: Any, lake: Path, debug: bool
) -> None:
    words = ["--debug"] if debug else []
    echo = f'{{"detail": "key {KEY} is not welcome"}}'.encode()
    runs = [hydra(*words, *BACKFILL)]
    for status in (401, 403, 500):
        vendor.faults["get_cost"] = [(status, echo, {})] * 5
        runs.append(hydra(*words, "daily", "--market", "HE"))
        assert runs[-1].exit_code != 0
    for result in runs:
        assert KEY not in result.output
        assert KEY not in repr(result.exception)
    left = [path for path in lake.rglob("*") if path.is_file()]
    assert left
    assert not any(KEY.encode() in path.read_bytes() for path in left)
