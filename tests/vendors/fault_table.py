"""The fault table: what ``hydra daily`` does about each fault.

``python -m tests.vendors.fault_table`` runs every case and prints the table of ``docs/vendors.md``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import polars as pl
from click.testing import CliRunner, Result
from databento.common.http import BentoHttpAPI

import etl
from etl.cli import main
from etl.lake import Lake
from etl.market import markets
from etl.schemas import HIVE_SCHEMA
from tests.vendors import Asked, Vendors, faults
from tests.vendors.archive import Archive
from tests.vendors.faults import Fault

__all__ = ["CASES", "HEADER", "Case", "Observed", "Stage", "markdown", "tree"]

MARKET, OPTIONS = "ZO", "OZO.OPT"
#: A lake of four sessions, and the run that a fault meets: one more session and a new report.
FIRST = datetime(2025, 3, 10, tzinfo=UTC)
BEFORE, NOW = datetime(2025, 3, 14, tzinfo=UTC), datetime(2025, 3, 15, tzinfo=UTC)
FRIDAY = date(2025, 3, 14)

UNTOUCHED, COMPLETE = "as before", "complete"
WITHOUT_OPTIONS, WITHOUT_REPORT = f"complete but for {OPTIONS}", "complete but for the COT report"

#: The clients' time-out where the fault is slowness, and a wait that outlasts it, in seconds.
_TIMEOUT, _SLOW = 1.0, 30.0
_DATABENTO, _CFTC = "hist.databento.com", "cftc.gov"


@dataclass(frozen=True)
class Case:
    """A fault in the second run of a lake, and what must come of it.

    Attributes
    ----------
    says : str
        A pattern of what a person reads, beside what every run says.
    rows : str
        What the lake holds after the run.
    conditions : mapping
        What Databento calls a day.
    patience : float
        Seconds that the run waits at least.
    reported : bool
        Whether the market is in the COT reports, so that the CFTC is asked too.
    """

    title: str
    faults: tuple[Fault, ...]
    exit_code: int
    says: str
    rows: str
    conditions: Mapping[date, str] = field(default_factory=dict)
    patience: float = 0.0
    reported: bool = False


class Observed(NamedTuple):
    """What came of a case."""

    result: Result
    said: list[str]
    rows: str
    waits: list[float]
    asked: list[Asked]


def _passes(title: str, *struck: Fault, says: str = "", patience: float = 0.0) -> Case:
    return Case(title, struck, 0, says, COMPLETE, patience=patience)


def _fails(title: str, says: str, *struck: Fault) -> Case:
    return Case(title, struck, 4, says, UNTOUCHED)


def _day(condition: str, rows: str, says: str) -> Case:
    return Case(f"the new day is {condition}", (), 0, says, rows, {FRIDAY: condition})


def _cftc_passes(title: str, *struck: Fault) -> Case:
    return Case(f"CFTC: {title}", struck, 0, "", COMPLETE, reported=True)


def _cftc_fails(title: str, says: str, *struck: Fault) -> Case:
    return Case(f"CFTC: {title}", struck, 4, says, WITHOUT_REPORT, reported=True)


_TRIED = "on each of 5 attempts; try later"
CASES = (
    # Databento refuses: nothing is tried again.
    _fails("401", "DATABENTO_API_KEY", faults.status(401, "metadata.get_dataset_range")),
    _fails("402", "billing page", faults.status(402)),
    _fails("403", "subscribed", faults.status(403, schema="bbo-1m")),
    _fails("422", "parents and the dates", faults.status(422, schema="statistics")),
    Case("cost above the limit", (faults.dear(7.5),), 5, "USD 5.00", UNTOUCHED),
    # Databento fails, for a while or for good.
    _passes("429 with seconds, once", faults.too_many_requests(7, times=1), patience=7),
    _passes(
        "429 with a date, once",
        faults.too_many_requests(9, "metadata.get_cost", times=1, as_date=True),
        patience=8,
    ),
    _fails("429, always", _TRIED, faults.too_many_requests(1)),
    _passes("500, once", faults.status(500, schema="definition", times=1)),
    _passes("503, four times", faults.status(503, schema="statistics", times=4)),
    _fails("503, always", _TRIED, faults.status(503, schema="statistics")),
    _passes("no answer in time, once", faults.slow(_SLOW, schema="bbo-1m", times=1)),
    _fails("no answer in time, always", _TRIED, faults.slow(_SLOW, schema="bbo-1m")),
    _passes("connection refused, once", faults.refused(_DATABENTO, times=1)),
    _fails("connection refused, always", _TRIED, faults.refused(_DATABENTO)),
    _passes("reset mid-stream, once", faults.reset(schema="bbo-1m", times=1)),
    _fails("reset mid-stream, always", _TRIED, faults.reset(schema="bbo-1m")),
    _fails("stream broken off, always", _TRIED, faults.broken(schema="statistics")),
    # A 200 that is not what it seems.
    _fails("body cut mid-frame, always", _TRIED, faults.cut_frame("bbo-1m")),
    _passes("body cut on a record, once", faults.cut_on_a_record("bbo-1m", times=1)),
    _fails("body cut on a record, always", _TRIED, faults.cut_on_a_record("bbo-1m")),
    _fails(
        "half of the records in a whole file, always",
        r"of [\d,]+ records",
        faults.fewer_records("bbo-1m"),
    ),
    _fails("wrong record count, always", r"of [\d,]+ records", faults.miscounted("bbo-1m")),
    _fails("empty 200, always", _TRIED, faults.empty(schema="definition")),
    _fails("JSON in a 200, always", _TRIED, faults.json_answer("ohlcv-1d")),
    # Databento has less than everything, and says so.
    _passes("206, a symbol partly resolved", faults.partial("statistics"), says="did not resolve"),
    Case(
        "206, a symbol not found",
        (faults.not_found(OPTIONS),),
        0,
        f"did not resolve.*{OPTIONS}",
        WITHOUT_OPTIONS,
    ),
    _day("degraded", COMPLETE, "landed and flagged"),
    _day("pending", UNTOUCHED, "the next run asks again"),
    _day("missing", UNTOUCHED, "the vendor calls .* missing"),
    # The CFTC.
    _cftc_passes("503, once", faults.unavailable(times=1)),
    _cftc_fails("503, always", "try later", faults.unavailable()),
    _cftc_passes("connection refused, once", faults.refused(_CFTC, times=1)),
    _cftc_fails("connection refused, always", "try later", faults.refused(_CFTC)),
    _cftc_fails("combined report alone 503, always", "com_", faults.unavailable("com_*.zip")),
    _cftc_fails("zip cut off, always", "not a whole zip", faults.cut_zip()),
    _cftc_fails("HTML page in place of a zip", "HTML page", faults.html_page()),
    _cftc_fails("renamed zip member", "holds no f_year.txt", faults.renamed_member()),
    _cftc_fails("stale year", "2024", faults.stale_year(2024)),
)


# --- running a case -----------------------------------------------------------------------------


class Stage:
    """The lake before the fault, and what an undisturbed run makes of it.

    Parameters
    ----------
    reported : bool
        Whether the market's file says that it is in the COT reports.
    """

    def __init__(self, folder: Path, reported: bool) -> None:
        self.before, after = folder / "before", folder / "after"
        self._markets = folder / "markets"
        self._markets.mkdir(parents=True)
        bundled = (Path(etl.__file__).parent / "markets" / f"{MARKET}.toml").read_text()
        text = bundled if reported else re.sub(r"(?m)^cot_.*\n", "", bundled)
        (self._markets / f"{MARKET}.toml").write_text(text)
        sold = [markets()[MARKET]]
        with Vendors(sold, FIRST, BEFORE, limited=False) as vendors:
            self._must_work(vendors, self.before, BEFORE)
        shutil.copytree(self.before, after)
        self._archive = Archive(sold, FIRST, NOW)
        with self._vendors(None) as vendors:
            self._lines = self._must_work(vendors, after, NOW).output.splitlines()
        self.tree = tree(self.before)
        old, new = rows(self.before), rows(after)
        self._rows = {
            UNTOUCHED: old,
            COMPLETE: new,
            WITHOUT_REPORT: {**new, **{name: old[name] for name in new if name == "cot"}},
            WITHOUT_OPTIONS: {
                **new,
                **{name: old[name] for name in new if name.startswith("option_")},
            },
        }

    def observe(self, case: Case, lake: Path, *flags: str) -> Observed:
        """Run a case in a copy of the lake, made at ``lake``."""
        shutil.copytree(self.before, lake)
        return self.go_on(lake, case, *flags)

    def go_on(self, lake: Path, case: Case | None = None, *flags: str) -> Observed:
        """Run again in the lake, undisturbed without a case."""
        with self._vendors(case) as vendors:
            result, waits = self._run(vendors, lake, NOW, *flags)
        said = [line for line in result.output.splitlines() if line not in self._lines]
        found = rows(lake)
        states = [state for state, held in self._rows.items() if held == found]
        return Observed(result, said, (states or ["neither"])[0], waits, vendors.requests)

    def _vendors(self, case: Case | None) -> Vendors:
        return Vendors(
            [markets()[MARKET]],
            FIRST,
            NOW,
            faults=case.faults if case else (),
            conditions=case.conditions if case else {},
            limited=False,
            archive=self._archive,
        )

    def _must_work(self, vendors: Vendors, lake: Path, now: datetime) -> Result:
        result, _ = self._run(vendors, lake, now)
        assert result.exit_code == 0, result.output
        return result

    def _run(
        self, vendors: Vendors, lake: Path, now: datetime, *flags: str
    ) -> tuple[Result, list[float]]:
        """The real command line, without the waits between attempts, which come back."""
        waits: list[float] = []
        words = [*flags, "--lake", str(lake), "--markets", str(self._markets)]
        words += ["--now", f"{now:%FT%TZ}", "daily", "--source", "databento"]
        words += ["--days", "4", "--market", MARKET]
        slow = any(fault.name == "slow" for fault in vendors.faults)
        patience = _TIMEOUT if slow else BentoHttpAPI.TIMEOUT
        with (
            mock.patch.dict(os.environ, vendors.env),
            mock.patch("time.sleep", waits.append),
            mock.patch.object(BentoHttpAPI, "TIMEOUT", patience),
        ):
            return CliRunner().invoke(main, words), waits


def tree(lake: Path) -> dict[str, str]:
    """File -> hash, of everything in a lake but its log and the files that wait to be landed."""
    return {
        str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(lake.rglob("*"))
        if path.is_file() and not {lake / "downloads", lake / "logs"} & {*path.parents}
    }


def rows(lake: Path) -> dict[str, str]:
    """Dataset -> a digest of its raw rows, whatever batch and run they came in."""
    found = {}
    for folder in sorted((lake / "raw").glob("dataset=*")):
        dataset = folder.name.removeprefix("dataset=")
        paths = Lake(lake).raw_files(dataset)
        frame = pl.read_parquet(paths, hive_partitioning=True, hive_schema=HIVE_SCHEMA)
        plain = frame.drop("batch_id", "ingested_at").sort(pl.all())
        found[dataset] = hashlib.sha256(plain.write_csv().encode()).hexdigest()
    return found


# --- the table ----------------------------------------------------------------------------------


def markdown(case: Case, observed: Observed) -> str:
    """The case's row of the table."""
    lines = [line for line in observed.said if re.search(case.says or "^hydra: ", line)]
    seen = lines[-1] if lines else "nothing of it"
    seen = re.sub(r"\S*/(?=[^/\s]+\.(dbn|zip))", "", seen)
    # How a connection ends in the client's words depends on what had arrived by then.
    seen = re.sub(r"(Error streaming response): .*?, on", r"\1, on", seen)
    return f"| {case.title} | {seen} | {observed.result.exit_code} | {observed.rows} |"


HEADER = ("| fault | what the user saw | exit code | rows in the lake |", "|---|---|---|---|")


def _print() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stages = {reported: Stage(folder / f"{reported}", reported) for reported in (False, True)}
        print(*HEADER, sep="\n")
        for number, case in enumerate(CASES):
            print(markdown(case, stages[case.reported].observe(case, folder / f"{number}")))


if __name__ == "__main__":
    _print()
