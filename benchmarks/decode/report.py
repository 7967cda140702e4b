"""What was measured, what is asked for, and both as Markdown."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.decode import ways

#: How many times the rate of the vendor's own writer is asked for.
NEED = 3.0
#: How much more memory than the smallest file of a schema the largest may take.
GROWTH = 1.25

_METHOD = """\
A DBN file (zstd) with the quotes of 1,500 instruments, or with one bar a minute of each of the
markets' futures. `hydra land dbn` does all that it does for a person: hashes the file, checks its
zstd frame and every record, joins the file's symbols and the lake's definitions by (instrument,
date), drops repeats, looks for rows that the lake has, writes and syncs the partitioned Parquet
and its hashes, commits. The vendor's client writes one Parquet file with its default options:
prices as floats, symbols joined. Every value is compared first, row by row: prices, sizes, times,
symbols. Each way then runs {turns} times in turns, each time in a fresh process; its imports are
not timed, the peak of memory is the whole process's. The ratio is the median over the turns of the
rate over that of `to_parquet` in the same turn."""
_QUICK = "**A quick run: it shows that everything works. Its times mean nothing.**"


@dataclass(frozen=True)
class Way:
    """One way from DBN to Parquet: each turn's seconds and peak, its speed over `to_parquet`'s."""

    name: str
    seconds: list[float]
    peak_mb: list[float]
    ratio: float


@dataclass(frozen=True)
class Case:
    """One file and every way that read it."""

    schema: str
    records: int
    size: int
    ways: list[Way]

    @property
    def ours(self) -> Way:
        (way,) = (way for way in self.ways if way.name == ways.OURS)
        return way


@dataclass(frozen=True)
class Run:
    """Everything that was measured."""

    date: str
    quick: bool
    machine: dict[str, str]
    turns: int
    cases: list[Case]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def shortfalls(self) -> list[str]:
        """What is asked for and not met; a quick run's times are not judged."""
        if self.quick:
            return []
        quoted = sorted(
            (case for case in self.cases if case.schema == "mbp-1"), key=lambda case: case.records
        )
        short = []
        if quoted[-1].ours.ratio < NEED:
            short.append(f"{quoted[-1].ours.ratio:.2f} times to_parquet's rate, not {NEED:g}")
        small, large = (statistics.median(case.ours.peak_mb) for case in (quoted[0], quoted[-1]))
        if large > GROWTH * small:
            short.append(f"memory grows with the file: {small:.0f} MB, then {large:.0f} MB")
        return short


def markdown(run: Run) -> str:
    """The report."""
    lines = [
        "# DBN into Parquet",
        "",
        *([_QUICK, ""] if run.quick else []),
        _METHOD.format(turns=run.turns),
        "",
        "| file | way | k rows/s | slowest | fastest | peak MB | highest | ratio |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [_row(case, way) for case in run.cases for way in case.ways]
    lines += [
        "",
        f"Asked for, of mbp-1: at least {NEED:g} times `to_parquet`'s rate, and memory bounded by"
        f" the chunk: at most {GROWTH:g} times as much for the largest file as for the smallest."
        f"{_verdict(run)}",
        "",
        f"Measured on {run.date}: {', '.join(run.machine.values())}.",
    ]
    return "\n".join(lines) + "\n"


def _row(case: Case, way: Way) -> str:
    rates = [case.records / seconds / 1_000 for seconds in way.seconds]
    file = f"{case.schema}, {case.records / 1e6:g} M rows, {case.size / 1e6:.0f} MB"
    return (
        f"| {file} | {way.name} | {statistics.median(rates):,.0f} | {min(rates):,.0f} |"
        f" {max(rates):,.0f} | {statistics.median(way.peak_mb):,.0f} | {max(way.peak_mb):,.0f} |"
        f" {way.ratio:.2f}× |"
    )


def _verdict(run: Run) -> str:
    if run.quick:
        return ""
    short = run.shortfalls()
    return f" **FAIL**: {'; '.join(short)}." if short else " PASS."
