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

from etl.cli import main
from etl.lake import HIVE_SCHEMA, Lake
from etl.market import markets
from tests.vendors import Asked, Vendors, faults
from tests.vendors.archive import Archive
from tests.vendors.faults import Fault

__all__ = ["CASES", "HEADER", "Case", "Observed", "Stage", "markdown", "tree"]

MARKET = "ZO"
#: A lake of four sessions, and the run that a fault meets: one more session and a new report.
FIRST = datetime(2025, 3, 10, tzinfo=UTC)
BEFORE, NOW = datetime(2025, 3, 14, tzinfo=UTC), datetime(2025, 3, 15, tzinfo=UTC)
FRIDAY = date(2025, 3, 14)

UNTOUCHED, COMPLETE, NEITHER = "as before", "complete", "something else"

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
    databento, cot : str
        What the rows of each vendor are after the run.
    patience : float
        Seconds that the run waits at least.
    """

    title: str
    faults: tuple[Fault, ...]
    exit_code: int
    says: str
    databento: str
    cot: str
    conditions: Mapping[date, str] = field(default_factory=dict)
    patience: float = 0.0


class Observed(NamedTuple):
    """What came of a case."""

    result: Result
    said: list[str]
    databento: str
    cot: str
    waits: list[float]
    asked: list[Asked]

    @property
    def rows(self) -> str:
        """The rows in the lake, in words."""
        if self.databento == self.cot:
            return self.cot
        return f"Databento {self.databento}, COT {self.cot}"


def _passes(title: str, *struck: Fault, says: str = "", patience: float = 0.0) -> Case:
    return Case(title, struck, 0, says, COMPLETE, COMPLETE, patience=patience)


def _databento_fails(title: str, says: str, *struck: Fault) -> Case:
    return Case(title, struck, 4, says, UNTOUCHED, UNTOUCHED)


def _cftc_fails(title: str, says: str, *struck: Fault) -> Case:
    return Case(title, struck, 4, says, COMPLETE, UNTOUCHED)


_TRIED = "on each of 5 attempts; try later"
CASES = (
    # Databento refuses: nothing is tried again.
    _databento_fails(
        "401", "check DATABENTO_API_KEY", faults.status(401, "metadata.get_dataset_range")
    ),
    _databento_fails("402", "billing page", faults.status(402)),
    _databento_fails("403", "subscribed", faults.status(403, schema="bbo-1m")),
    _databento_fails("422", "parents and the dates", faults.status(422, schema="statistics")),
    Case("cost above the limit", (faults.dear(7.5),), 5, "USD 5.00", UNTOUCHED, UNTOUCHED),
    # Databento fails, for a while or for good.
    _passes("429 with seconds, once", faults.too_many_requests(7, times=1), patience=7),
    _passes(
        "429 with a date, once",
        faults.too_many_requests(9, "metadata.get_cost", times=1, as_date=True),
    ),
    _databento_fails("429, always", _TRIED, faults.too_many_requests(1)),
    _passes("500, once", faults.status(500, schema="definition", times=1)),
    _passes("503, four times", faults.status(503, schema="statistics", times=4)),
    _databento_fails("503, always", _TRIED, faults.status(503, schema="statistics")),
    _passes("no answer in time, once", faults.slow(_SLOW, schema="bbo-1m", times=1)),
    _databento_fails("no answer in time, always", _TRIED, faults.slow(_SLOW, schema="bbo-1m")),
    _passes("connection refused, once", faults.refused(_DATABENTO, times=1)),
    _databento_fails("connection refused, always", _TRIED, faults.refused(_DATABENTO)),
    _passes("reset mid-stream, once", faults.reset(schema="bbo-1m", times=1)),
    _databento_fails("reset mid-stream, always", _TRIED, faults.reset(schema="bbo-1m")),
    _databento_fails("stream broken off, always", _TRIED, faults.broken(schema="statistics")),
    # A 200 that is not what it seems.
    _databento_fails("body cut mid-frame, always", _TRIED, faults.cut_frame("bbo-1m")),
    _passes("body cut on a record, once", faults.cut_on_a_record("bbo-1m", times=1)),
    _databento_fails("body cut on a record, always", _TRIED, faults.cut_on_a_record("bbo-1m")),
    _databento_fails(
        "half of the records in a whole file, always",
        r"of [\d,]+ records",
        faults.fewer_records("bbo-1m"),
    ),
    _databento_fails(
        "wrong record count, always", r"of [\d,]+ records", faults.miscounted("bbo-1m")
    ),
    _databento_fails("empty 200, always", _TRIED, faults.empty(schema="definition")),
    _databento_fails("JSON in a 200, always", _TRIED, faults.json_answer("ohlcv-1d")),
    # Databento has less than everything, and says so.
    _passes("206, a symbol partly resolved", faults.partial("statistics"), says="did not resolve"),
    Case("day degraded", (), 0, "1 degraded", COMPLETE, COMPLETE, {FRIDAY: "degraded"}),
    Case("day pending", (), 0, "1 pending", UNTOUCHED, COMPLETE, {FRIDAY: "pending"}),
    # The CFTC.
    _passes("CFTC: 503, once", faults.unavailable(times=1)),
    _cftc_fails("CFTC: 503, always", "try later", faults.unavailable()),
    _passes("CFTC: connection refused, once", faults.refused(_CFTC, times=1)),
    _cftc_fails("CFTC: connection refused, always", "try later", faults.refused(_CFTC)),
    _cftc_fails("CFTC: zip cut off, always", "", faults.cut_zip()),
    _cftc_fails("CFTC: HTML page in place of a zip", "HTML page", faults.html_page()),
    _cftc_fails("CFTC: renamed zip member", "holds no f_year.txt", faults.renamed_member()),
    _cftc_fails("CFTC: stale year", "2024", faults.stale_year(2024)),
)


# --- running a case -----------------------------------------------------------------------------


class Stage:
    """The lake before the fault, and what an undisturbed run makes of it."""

    def __init__(self, folder: Path) -> None:
        self.before, after = folder / "before", folder / "after"
        sold = [markets()[MARKET]]
        with Vendors(sold, FIRST, BEFORE, limited=False) as vendors:
            self._must_work(vendors, self.before, BEFORE)
        shutil.copytree(self.before, after)
        self.archive = Archive(sold, FIRST, NOW)
        with self.vendors() as vendors:
            self.lines = self._must_work(vendors, after, NOW).output.splitlines()
        self.tree = tree(self.before)
        self.rows = {UNTOUCHED: rows(self.before), COMPLETE: rows(after)}

    def vendors(self, case: Case | None = None) -> Vendors:
        """The vendors as they are at ``NOW``."""
        return Vendors(
            [markets()[MARKET]],
            FIRST,
            NOW,
            faults=case.faults if case else (),
            conditions=case.conditions if case else {},
            limited=False,
            archive=self.archive,
        )

    def _must_work(self, vendors: Vendors, lake: Path, now: datetime) -> Result:
        result, _ = run(vendors, lake, now)
        assert result.exit_code == 0, result.output
        return result

    def observe(self, case: Case, lake: Path, *flags: str) -> Observed:
        """Run a case in a copy of the lake, made at ``lake``."""
        shutil.copytree(self.before, lake)
        return self.go_on(lake, case, *flags)

    def go_on(self, lake: Path, case: Case | None = None, *flags: str) -> Observed:
        """Run again in the lake, undisturbed without a case."""
        with self.vendors(case) as vendors:
            result, waits = run(vendors, lake, NOW, *flags)
        said = [line for line in result.output.splitlines() if line not in self.lines]
        found = rows(lake)
        databento, cot = (self._state(source, found[source]) for source in ("databento", "cftc"))
        return Observed(result, said, databento, cot, waits, vendors.requests)

    def _state(self, source: str, digest: str) -> str:
        states = [state for state, held in self.rows.items() if held[source] == digest]
        return states[0] if states else NEITHER


def run(vendors: Vendors, lake: Path, now: datetime, *flags: str) -> tuple[Result, list[float]]:
    """The real command line, without the waits between attempts, which come back."""
    waits: list[float] = []
    words = [*flags, "--lake", str(lake), "--now", f"{now:%FT%TZ}", "daily"]
    words += ["--source", "databento", "--days", "4", "--market", MARKET]
    with mock.patch.dict(os.environ, vendors.env), mock.patch("time.sleep", waits.append):
        if any(fault.name == "slow" for fault in vendors.faults):
            with mock.patch.object(BentoHttpAPI, "TIMEOUT", _TIMEOUT):
                return CliRunner().invoke(main, words), waits
        return CliRunner().invoke(main, words), waits


def tree(folder: Path) -> dict[str, str]:
    """File -> hash, of everything in a lake but downloads that were paid for and did not land."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and folder / "downloads" not in path.parents
    }


def rows(lake: Path) -> dict[str, str]:
    """Vendor -> a digest of its raw rows, whatever batch and run they came in."""
    found = {"databento": hashlib.sha256(), "cftc": hashlib.sha256()}
    for dataset in sorted({path.name for path in (lake / "raw").glob("dataset=*")}):
        paths = Lake(lake).raw_files(dataset.removeprefix("dataset="))
        frame = pl.read_parquet(paths, hive_partitioning=True, hive_schema=HIVE_SCHEMA)
        plain = frame.drop("batch_id", "ingested_at").sort(pl.all())
        vendor = "cftc" if dataset == "dataset=cot" else "databento"
        found[vendor].update(dataset.encode() + plain.write_csv().encode())
    return {vendor: digest.hexdigest() for vendor, digest in found.items()}


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
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        print(*HEADER, sep="\n")
        for number, case in enumerate(CASES):
            print(markdown(case, stage.observe(case, Path(folder) / f"{number}")))


if __name__ == "__main__":
    _print()
