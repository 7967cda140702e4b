"""The command line: help with examples, one line for a person, and the exit codes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import duckdb
import polars as pl
import pytest
from click.testing import CliRunner, Result

from etl import build as build_module
from etl.cli import main
from etl.lake import Lake
from etl.market import markets
from etl.sources import sample

NOW = "2025-03-14T12:00:00Z"


def commands(group: click.Group = main, path: str = "hydra") -> Iterator[tuple[str, click.Command]]:
    """Every command with the words that call it."""
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands())
each_command = pytest.mark.parametrize("path", COMMANDS)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HYDRA_LAKE", "HYDRA_MARKETS", "DATABENTO_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def hydra(lake: Path, *arguments: object) -> Result:
    words = ["--lake", str(lake), "--now", NOW, *map(str, arguments)]
    return CliRunner().invoke(main, words)


def refused(result: Result, exit_code: int) -> str:
    """The one line of a refusal."""
    assert result.exit_code == exit_code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("hydra: ")
    assert "Traceback" not in result.output
    return line


# --- help ---------------------------------------------------------------------------------------


def examples(command: click.Command) -> list[list[str]]:
    """The example calls in a command's help, as words."""
    text = (command.help or "").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("hydra ")]


@each_command
def test_every_command_has_help_with_an_example(path: str) -> None:
    result = CliRunner().invoke(main, [*path.split()[1:], "--help"])
    assert result.exit_code == 0
    assert "Example:\n" in result.output
    command = COMMANDS[path]
    assert examples(command)
    assert (command.help or "").splitlines()[0].endswith(".")
    assert result.output == CliRunner().invoke(main, [*path.split()[1:], "-h"]).output


@each_command
def test_every_option_says_what_it_does(path: str) -> None:
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help
            assert parameter.help.endswith(".")


@each_command
def test_examples_are_calls_that_parse(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for name, command in COMMANDS.items():
        if not isinstance(command, click.Group):
            monkeypatch.setattr(
                command, "callback", lambda *_, of_test=name, **__: called.append(of_test)
            )
    for words in examples(COMMANDS[path]):
        first = words[: words.index("&&")] if "&&" in words else words
        result = CliRunner().invoke(main, first[1:])
        assert result.exit_code == 0, result.output
    assert all(name.startswith(path) for name in called)
    assert called


@pytest.mark.parametrize("words", [[], ["--help"], ["land"]])
def test_a_group_alone_lists_its_commands(words: list[str]) -> None:
    result = CliRunner().invoke(main, words)
    group = main.commands["land"] if words == ["land"] else main
    assert all(f"\n  {name} " in result.output for name in group.commands)


def test_the_version_is_the_packages() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert "0." in result.output


def test_markets_are_listed(lake: Path) -> None:
    result = hydra(lake, "markets")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["market", *markets()]
    assert not lake.exists()


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        ("export features.daily_v1 -o x.csv", 3, "no database yet: run hydra daily"),
        ("status", 3, "no database yet"),
        ("check", 3, "no database yet"),
        ("build", 7, "is empty: land something first (hydra daily)"),
        ("daily --source databento", 3, "no Databento key: set DATABENTO_API_KEY"),
        ("daily --market LE", 3, "the sample vendor has no LE: it has HE, ZO"),
        ("daily --source sample --market LE", 3, "the sample vendor has no LE: it has HE, ZO"),
        ("daily --source sample --market HEE", 3, "unknown market 'HEE': did you mean HE?"),
        ("daily --market he", 3, "did you mean HE?"),
        ('derive --market "x\' or 1=1 --"', 3, "unknown market"),
        ("land dbn nowhere.dbn", 3, "nowhere.dbn: no such file or folder"),
        ("land cot nowhere.zip", 3, "nowhere.zip: cannot be read"),
        ("land chain nowhere.csv --format cboe --market SPX", 3, "nowhere.csv: "),
        ("land chain x.csv --format cboe --market SPZ", 3, "did you mean SPX?"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(
    lake: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    exit_code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = hydra(lake, *shlex.split(words))
    assert said in refused(result, exit_code)
    assert result.stdout == ""
    assert not (lake / "raw").exists()
    assert not list(tmp_path.glob("x.csv*"))


def test_markets_of_ones_own_must_be_there(lake: Path, tmp_path: Path) -> None:
    result = hydra(lake, "--markets", tmp_path / "none", "markets")
    assert "not a folder of market files" in refused(result, 3)


def test_a_lake_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = hydra(tmp_path / "file" / "lake", "build")
    assert "cannot write to the lake at" in refused(result, 7)


def test_the_sample_has_no_other_cot_report(lake: Path) -> None:
    result = hydra(lake, "daily", "--source", "sample", "--cot", "legacy")
    assert "the sample vendor has no legacy COT report" in refused(result, 3)
    assert not lake.exists()


def test_debug_shows_where_an_error_came_from(lake: Path) -> None:
    result = hydra(lake, "--debug", "status")
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "BadInput"


def test_an_error_nobody_thought_of_is_one_line_too(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ZeroDivisionError("of a kind\nthat nobody\nthought of")

    monkeypatch.setattr(build_module, "build", fails)
    line = refused(hydra(lake, "build"), 1)
    assert line == "hydra: ZeroDivisionError: of a kind that nobody thought of; --debug shows where"
    result = hydra(lake, "--debug", "build")
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize("words", ["nope", "daily --nope", "daily --days 0", "land chain x.csv"])
def test_a_call_that_makes_no_sense_is_explained(lake: Path, words: str) -> None:
    result = hydra(lake, *words.split())
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert "Traceback" not in result.output


# --- instants and dates -------------------------------------------------------------------------

#: A call with each option that takes an instant.
INSTANTS = {
    "--now": "--now {} markets",
    "--at": "export features.daily_v1 -o x.csv --at {}",
    "--quote-time": "land chain x.csv --format cboe --market SPX --quote-time {}",
    "--expiration": "land chain x.csv --format cboe --market SPX --expiration {}",
}


@pytest.mark.parametrize("option", INSTANTS)
@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("2025-03-06", "has no zone: write 2025-03-06T00:00:00Z if it is UTC"),
        ("2025-03-06T20:00", "has no zone: write 2025-03-06T20:00:00Z if it is UTC"),
        ("2025-03-06 20:00:30", "has no zone: write 2025-03-06T20:00:30Z if it is UTC"),
        ("2025-03-06Z", "is not an instant, such as 2025-03-06T20:00:00Z"),
        ("yesterday", "is not an instant"),
        ("2025-02-30T00:00:00Z", "is not an instant"),
        ("0001-01-01T00:00:00+14:00", "is not in the years 1980 to 2099"),
        ("", "is not an instant"),
    ],
)
def test_an_instant_without_a_zone_is_refused(option: str, given: str, advice: str) -> None:
    words = INSTANTS[option].format(shlex.quote(given))
    result = CliRunner().invoke(main, shlex.split(words))
    assert result.exit_code == 2
    line = " ".join(result.stderr.split())
    assert f"Invalid value for '{option}'" in line
    assert advice in line
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "given", ["2025-03-07T20:30:00Z", "2025-03-07T14:30:00-06:00", "2025-03-08 02:00+05:30"]
)
def test_an_instant_is_one_whatever_its_zone(sample_lake: Any, tmp_path: Path, given: str) -> None:
    target = tmp_path / "x.parquet"
    words = ["export", "features.cot_v1", "--format", "parquet", "-o", target, "--at", given]
    assert hydra(sample_lake.lake.root, *words).exit_code == 0
    known = pl.read_parquet(target)["available_at"].max()
    assert known == datetime(2025, 3, 7, 20, 30, tzinfo=UTC)


@pytest.mark.parametrize("given", ["06.03.2025", "2025-02-30", "2025-03-06T20:00:00Z", "x'--"])
def test_a_date_that_is_none_is_refused(lake: Path, given: str) -> None:
    result = hydra(lake, "export", "features.daily_v1", "-o", "x.csv", "--start", given)
    assert result.exit_code == 2
    assert "is not a date, such as 2025-03-06" in " ".join(result.stderr.split())


# --- landing ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample vendor's files of a session of ZO."""
    folder = tmp_path_factory.mktemp("dbn")
    days = datetime(2025, 3, 13, tzinfo=UTC), datetime(2025, 3, 14, tzinfo=UTC)
    sample.fetch(markets()["ZO"], *days, folder)
    return folder


def test_files_land_and_are_told_file_by_file(lake: Path, files: Path) -> None:
    result = hydra(lake, "land", "dbn", files)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == len(list(files.iterdir()))
    assert all(" rows of " in line for line in lines)
    assert result.stderr == "next: hydra derive && hydra build\n"
    again = hydra(lake, "-q", "land", "dbn", files)
    assert again.exit_code == 0
    assert again.stderr == ""
    assert not any(" rows of " in line for line in again.stdout.splitlines())
    assert all("already there" in line for line in again.stdout.splitlines())


def test_refused_files_exit_3_and_the_others_land(lake: Path, tmp_path: Path, files: Path) -> None:
    (whole,) = files.glob("*FUT_definition*")
    cut, text = tmp_path / "cut.dbn.zst", tmp_path / "text.dbn"
    cut.write_bytes(whole.read_bytes()[:-30])
    text.write_text("market,close\nZO,350\n")
    result = hydra(lake, "land", "dbn", cut, whole, text)
    assert result.exit_code == 3
    errors = result.stderr.splitlines()
    assert len(errors) == 2
    assert all(line.startswith("hydra: ") for line in errors)
    assert sum("cut.dbn.zst" in line for line in errors) == 1
    assert sum("text.dbn" in line for line in errors) == 1
    (landed,) = result.stdout.splitlines()
    assert landed.startswith(whole.name)
    assert {path.parts[-5] for path in Lake(lake).raw_files()} == {"dataset=futures_definition"}


def test_a_page_in_place_of_a_zip_is_refused(lake: Path, tmp_path: Path) -> None:
    page = tmp_path / "fut_disagg_txt_2024.zip"
    page.write_text("<html><body>Service unavailable</body></html>")
    line = refused(hydra(lake, "land", "cot", page), 3)
    assert "fut_disagg_txt_2024.zip: is an HTML page" in line
    assert Lake(lake).raw_files() == []


def test_a_chain_file_that_is_none_is_refused(lake: Path, tmp_path: Path) -> None:
    path = tmp_path / "chain.csv"
    for content in (b"", b"<html></html>", b"\x00\xff" * 50, b"a,b\n1,2\n"):
        path.write_bytes(content)
        for form in ("cboe", "barchart", "generic"):
            result = hydra(lake, "land", "chain", path, "--format", form, "--market", "SPX")
            assert "chain.csv: " in refused(result, 3)
    assert Lake(lake).raw_files() == []


def test_a_chain_lands(lake: Path, tmp_path: Path) -> None:
    path = tmp_path / "chain.csv"
    path.write_text(
        "quote_time,expiry,strike,option_type,bid,ask,open_interest,volume,underlying_price\n"
        "2025-03-13T20:00:00Z,2025-04-17,90,P,2.0,2.4,120,5,100\n"
    )
    words = ["land", "chain", path, "--format", "generic", "--market", "SPX"]
    result = hydra(lake, *words)
    assert result.exit_code == 0, result.output
    assert "1 rows of option_quote" in result.stdout
    assert Lake(lake).markets() == ["SPX"]
    assert "already there" in hydra(lake, *words).stdout


def test_vendor_files_do_not_go_into_a_sample_lake(own_lake: Any, files: Path) -> None:
    before = own_lake.lake.raw_files()
    line = refused(hydra(own_lake.lake.root, "land", "dbn", files), 7)
    assert "holds sample data and takes no vendor data: name another lake with --lake" in line
    assert own_lake.lake.raw_files() == before


# --- one writer ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", ["daily --source sample", "land dbn {}", "land cot {}", "derive", "build"]
)
def test_a_busy_lake_exits_6_and_names_the_holder(lake: Path, files: Path, words: str) -> None:
    with Lake(lake).writing(datetime(2025, 3, 14, 11, tzinfo=UTC)):
        line = refused(hydra(lake, "-q", *words.format(files).split()), 6)
        assert f"being written by process {os.getpid()} on " in line
        assert "since 2025-03-14T11:00:00Z" in line
        assert not (lake / "raw").exists()


def test_reading_needs_no_lock(own_lake: Any, tmp_path: Path) -> None:
    with own_lake.lake.writing(own_lake.now):
        for words in (["status"], ["check"], ["export", "features.cot_v1", "-o", tmp_path / "x"]):
            assert hydra(own_lake.lake.root, *words).exit_code == 0


# --- what is there ------------------------------------------------------------------------------


def _without_size(text: str) -> list[str]:
    """The lines but the one with the database's size, which differs between builds."""
    return [line for line in text.splitlines() if not line.startswith("last built ")]


def test_daily_twice_adds_nothing_and_serves(own_lake: Any) -> None:
    root = own_lake.lake.root
    before = own_lake.lake.raw_files()
    result = hydra(root, "daily", "--source", "sample", "--days", 12)
    assert result.exit_code == 0, result.output
    assert own_lake.lake.raw_files() == before
    assert "SAMPLE DATA" in result.stderr
    assert "SAMPLE DATA" in result.stdout
    assert "HE: 0 sessions derived" in result.stderr
    assert sorted(os.listdir(root / "exports")) == [
        "datapackage.json",
        *(f"sample_daily_v1.{kind}" for kind in ("csv", "parquet")),
    ]
    first = {path: path.read_bytes() for path in (root / "exports").iterdir()}
    quiet = hydra(root, "-q", "daily", "--source", "sample", "--days", 12)
    assert quiet.exit_code == 0
    assert quiet.stderr == ""
    told = [_without_size(done.stdout) for done in (quiet, result)]
    assert told[0] == told[1]
    assert {path: path.read_bytes() for path in (root / "exports").iterdir()} == first


def test_status_shows_each_market_and_source(sample_lake: Any) -> None:
    result = hydra(sample_lake.lake.root, "status")
    assert result.exit_code == 0
    first, *rest = result.stdout.splitlines()
    assert first == f"{sample_lake.lake.root}: SAMPLE DATA: synthetic, of no real market"
    head, *shown = [tuple(line.split()[:2]) for line in rest[3:]]
    assert head == ("market", "source")
    sources = ("cot", "cot_combined", "futures", "options_quote", "options_settlement")
    assert shown == [(market, source) for market in ("HE", "ZO") for source in sources]


def test_an_export_says_what_it_wrote(sample_lake: Any, tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    words = ["export", "features.daily_v1", "-o", target, "--market", "HE"]
    words += ["--start", "2025-03-05", "--end", "2025-03-07"]
    result = hydra(sample_lake.lake.root, *words)
    assert result.stdout.startswith(f"{target}: 3 rows of features.daily_v1; SAMPLE DATA")
    days = pl.read_csv(target)["session_date"].to_list()
    assert days == ["2025-03-05", "2025-03-06", "2025-03-07"]


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (["features.dayly_v1"], 3, "did you mean features.daily_v1"),
        (["features.daily_v1", "--market", "x' or 1=1 --"], 3, 'no market "x\' or 1=1 --"'),
        (["x' or 1=1 --"], 3, "unknown view"),
    ],
)
def test_an_export_that_cannot_be_is_one_line(
    sample_lake: Any, tmp_path: Path, words: list[str], exit_code: int, said: str
) -> None:
    target = tmp_path / "x.csv"
    result = hydra(sample_lake.lake.root, "export", *words, "-o", target)
    assert said in refused(result, exit_code)
    assert os.listdir(tmp_path) == []


def test_an_export_that_cannot_be_written_is_one_line(sample_lake: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "x.csv"
    result = hydra(sample_lake.lake.root, "export", "features.daily_v1", "-o", target)
    assert f"cannot write {target}: " in refused(result, 7)


@pytest.mark.parametrize(
    ("severities", "plain", "strict"),
    [(set(), 0, 0), ({"warning"}, 0, 1), ({"error"}, 2, 2), ({"warning", "error"}, 2, 2)],
)
def test_the_checks_decide_the_exit_code(
    own_lake: Any, tmp_path: Path, severities: set[str], plain: int, strict: int
) -> None:
    root = own_lake.lake.root
    with duckdb.connect(str(own_lake.lake.database)) as connection:
        if "warning" not in severities:  # the sample has a crossed quote now and then
            uncrossed = "* from {} where quarantine is distinct from 'crossed'"
            _shows(connection, tmp_path, "chain_v1", uncrossed)
        if "error" in severities:
            unsound = "* replace (false as butterfly_free) from {}"
            _shows(connection, tmp_path, "surface_v1", unsound)
    for words, exit_code in ((["check"], plain), (["check", "--strict"], strict)):
        result = hydra(root, *words)
        assert result.exit_code == exit_code, result.output
        head, *lines = result.stdout.splitlines()
        assert {line.split()[0] for line in lines} == severities
        assert head.split()[0] == ("severity" if severities else "checks:")


def _shows(connection: duckdb.DuckDBPyConnection, folder: Path, name: str, select: str) -> None:
    """Have the files of a view, as the database lists them, be others that hold something else."""
    rows = f"select {select.format(f'features.{name}')}"
    by_month = "year(session_date) as year, month(session_date) as month"
    parted = f"select *, {by_month} from ({rows})"
    into = "(format parquet, partition_by (market, year, month))"
    connection.execute(f"copy ({parted}) to '{folder / name}' {into}")
    for path in (folder / name).rglob("*.parquet"):
        market, year, month = (part.partition("=")[2] for part in path.parts[-4:-1])
        connection.execute(
            "update meta.files set path = ?"
            " where view_name = ? and market = ? and month = make_date(?, ?, 1)",
            [str(path), f"features.{name}", market, int(year), int(month)],
        )


def test_check_gives_every_finding_to_programs(own_lake: Any) -> None:
    root = own_lake.lake.root
    found = json.loads(hydra(root, "check", "--format", "json").stdout)
    assert found
    assert {row["check_name"] for row in found} == {"crossed_quotes"}
    assert list(found[0]) == [
        "run_at", "check_name", "severity", "market", "session_date", "subject", "reason"
    ]  # fmt: skip
    assert found[0]["run_at"] == "2025-03-14T12:00:00Z"
    text = hydra(root, "check", "--format", "csv").stdout
    assert len(pl.read_csv(text.encode())) == len(found)


def test_check_counts_age_to_its_own_instant(own_lake: Any) -> None:
    """A lake that nobody has filled for a week is stale, whatever the build said."""
    assert hydra(own_lake.lake.root, "build").exit_code == 0
    words = ["--lake", str(own_lake.lake.root), "--now", "2025-03-24T12:00:00Z", "check"]
    result = CliRunner().invoke(main, words)
    assert "stale_source" in result.stdout
    with own_lake.connect() as connection:
        runs = "select distinct run_at::varchar, is_newest from quality.checks order by all"
        assert connection.sql(runs).fetchall() == [
            ("2025-03-14 12:00:00+00", False), ("2025-03-24 12:00:00+00", True)
        ]  # fmt: skip


def test_check_of_a_database_of_another_version_says_what_to_do(own_lake: Any) -> None:
    with duckdb.connect(str(own_lake.lake.database)) as connection:
        connection.execute("drop table meta.thresholds")
    assert "run hydra build" in refused(hydra(own_lake.lake.root, "check"), 3)


def test_chaos_is_the_samples_alone(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", "db-none")
    assert "--chaos" in refused(hydra(lake, "daily", "--chaos", "1"), 3)
    assert not lake.exists()


# --- as it is installed -------------------------------------------------------------------------


def run(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    call = [sys.executable, "-m", "etl", *map(str, words)]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        call, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, check=False
    )


def test_it_runs_from_any_folder_on_the_lake_of_the_environment(
    sample_lake: Any, tmp_path: Path
) -> None:
    words = ["export", "features.daily_v1", "-o", "x.csv"]
    done = run(*words, cwd=tmp_path, HYDRA_LAKE=str(sample_lake.lake.root))
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["datapackage.json", "x.csv"]


def test_a_process_exits_with_the_code_and_one_line(tmp_path: Path) -> None:
    done = run("--lake", "none", "status", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    traced = run("--lake", "none", "--debug", "status", cwd=tmp_path)
    assert traced.returncode == 1
    assert traced.stderr.startswith("Traceback")
    assert "BadInput" in traced.stderr


def test_another_process_is_told_who_writes(lake: Path, tmp_path: Path) -> None:
    with Lake(lake).writing(datetime(2025, 3, 14, 11, tzinfo=UTC)):
        done = run("--lake", lake, "build", cwd=tmp_path)
    assert done.returncode == 6
    assert f"process {os.getpid()} on " in done.stderr


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
def test_a_reader_that_stops_reading_is_no_error(tmp_path: Path) -> None:
    text = f"{shlex.quote(sys.executable)} -m etl markets | true"
    done = subprocess.run(
        ["sh", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("year", ["0001", "1979", "2100", "9999"])
def test_no_run_is_of_a_time_that_no_calendar_knows(year: str) -> None:
    done = CliRunner().invoke(main, ["--now", f"{year}-06-01T00:00:00Z", "markets"])
    assert (done.exit_code, "is not in the years 1980 to 2099" in done.output) == (2, True)


def test_no_limit_is_no_number() -> None:
    """NaN is neither below a cost nor above it: any download would pass."""
    done = CliRunner().invoke(main, ["daily", "--max-cost", "nan"])
    assert (done.exit_code, "is not an amount" in done.output) == (2, True)
