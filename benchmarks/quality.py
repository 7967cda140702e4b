"""``python -m benchmarks.quality --date DATE``: what the checks catch, and what they invent.

The sample vendor's history is landed twice, clean and with planted faults.  A fault is caught
when a check that is meant for its kind names its market, session and expiry, and said nothing
of them on the clean history.  Whatever the checks say beyond that, and all that they say of the
clean history, is a false alarm.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import click
import polars as pl

from etl import checks, cot_releases, jobs, reach, sqlfiles
from etl.build import build
from etl.derive import derive
from etl.lake import Lake
from etl.market import Market, markets
from etl.sources import sample

_RESULTS = Path(__file__).parent / "results"
_NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
_CODES = ("HE", "ZO")
_STALE_COT = "stale COT file"
_REPORT = "disaggregated_futures"
_EARLY = datetime(2020, 1, 1, tzinfo=UTC)
#: The checks that are meant for each kind of fault.
MEANT_FOR: Mapping[str, tuple[str, ...]] = {
    "missing strikes": ("missing_strikes",),
    "frozen quotes": ("frozen_prices",),
    "swapped bid and ask": ("swapped_quotes",),
    "10× price": ("outlier_prices",),
    "half a chain": ("quote_count", "lost_expiry"),
    "duplicated day": ("duplicate_rows",),
    _STALE_COT: ("nothing_new", "stale_source"),
}
#: False alarms of severity error that are allowed in a month of one market.
LIMIT = 1.0

#: Check, severity, market, session date, subject and reason.
Finding = tuple[str, str, str, date, str, str]


@dataclass
class Score:
    """How one kind of fault fared."""

    planted: int = 0
    caught: int = 0
    false_alarms: int = 0


def run(days: int, seed: int, folder: Path) -> dict[str, Any]:
    """Land, derive, build and check the histories, and count.

    Parameters
    ----------
    folder : takes the lakes; those of an earlier run that it holds are used again
    """
    chosen = [markets()[code] for code in _CODES]
    clean = _history(folder / f"clean-{days}", chosen, days, None)
    faulty = _history(folder / f"seed-{seed}-{days}", chosen, days, seed)
    sessions = _sessions(folder / f"clean-{days}")
    faults = [
        fault for market in chosen for fault in sample.planted(market, *_span(sessions), seed)
    ]
    scores = score(faults, clean, faulty, sessions[0])
    scores[_STALE_COT] = _stale_reports(folder, chosen, sessions, seed)
    months = len(sessions) * len(chosen) / 21
    return {
        "days": days,
        "seed": seed,
        "market_months": round(months, 1),
        "faults": {kind: vars(found) for kind, found in scores.items()},
        "clean": _clean(clean, months),
    }


def score(
    faults: Iterable[sample.Fault], clean: set[Finding], faulty: set[Finding], first: date
) -> dict[str, Score]:
    """Planted, caught and false alarms of each kind of a session's fault.

    Faults of the ``first`` session do not count: it has nothing to differ from.
    """
    faults = list(faults)
    new = faulty - clean
    planted_days = {(fault.market, fault.session_date) for fault in faults}
    scores = {kind: Score() for kind in sample.KINDS}
    for fault in faults:
        if fault.session_date == first:
            continue
        scores[fault.kind].planted += 1
        scores[fault.kind].caught += any(_names(fault, finding) for finding in new)
    for kind in scores:
        scores[kind].false_alarms = sum(
            name in MEANT_FOR[kind] and (market, day) not in planted_days
            for name, _, market, day, *_ in faulty
        )
    return scores


def _names(fault: sample.Fault, finding: Finding) -> bool:
    """Whether a finding is of a check for the fault's kind and says where the fault is."""
    name, _, market, day, subject, _ = finding
    of_expiry = fault.subject[:4].isdigit()
    return (
        name in MEANT_FOR[fault.kind]
        and (market, day) == (fault.market, fault.session_date)
        and (not of_expiry or subject.endswith(fault.subject))
    )


def _history(root: Path, chosen: list[Market], days: int, seed: int | None) -> set[Finding]:
    """What the checks find in a history of the sample vendor."""
    lake, known = Lake(root), markets()
    if not lake.database.exists():
        with lake.writing(_NOW):
            jobs.land_sample(lake, chosen, days, _NOW, lambda line: None, seed)
            for market in chosen:
                derive(lake, market, _NOW)
            build(lake, known, _NOW)
    return set(checks.findings(checks.look(lake, _NOW)).drop("run_at").rows())


def _sessions(root: Path) -> list[date]:
    """The sessions of which the lake has option quotes, in order."""
    paths = Lake(root).raw_files("option_quote", _CODES[0])
    days = pl.scan_parquet(paths).select(pl.col("as_of").dt.date().unique()).collect()
    return sorted(days["as_of"])


def _span(sessions: list[date]) -> tuple[datetime, datetime]:
    first, last = (datetime.combine(day, time(0), UTC) for day in (sessions[0], sessions[-1]))
    return first, last + timedelta(days=1)


def _stale_reports(folder: Path, chosen: list[Market], sessions: list[date], seed: int) -> Score:
    """Each report of the history, asked for the second day after its release: withheld or not."""
    found = Score()
    known = {market.code: market for market in chosen}
    tuesdays = pl.date_range(sessions[0], sessions[-1], "1d", eager=True)
    released = cot_releases.releases(tuesdays.filter(tuesdays.dt.weekday() == 2))
    for at in sorted(set(released["available_at"])):
        asked = datetime.combine(at.date() + timedelta(days=2), time(0), UTC)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            zips = sample.fetch_cot(asked.year - 1, asked.year, asked, Path(place), _REPORT, seed)
            reports = sample.withheld(asked, seed) is not None
            found.planted += reports
            # Most weeks have no fault: every fifth of them shows whether the checks are quiet.
            if not reports and at.isocalendar().week % 5:
                continue
            lake = Lake(Path(place) / "lake")
            with lake.writing(asked):
                for result in jobs.land_cot(lake, known, zips, asked, "sample"):
                    assert not isinstance(result, Exception), result
                for code in known:
                    reach.extend(lake, f"cftc-{_REPORT}", code, (_EARLY, asked))
                build(lake, known, asked)
            names = set(checks.findings(checks.kept(lake, asked))["check_name"])
        alarm = bool(names & set(MEANT_FOR[_STALE_COT]))
        found.caught += reports and alarm
        found.false_alarms += alarm and not reports
    return found


def _clean(findings: set[Finding], months: float) -> list[dict[str, Any]]:
    """Findings of the clean history by check, in number and a market-month."""
    counts = Counter(name for name, *_ in findings)
    return [
        {
            "check": check.name,
            "severity": check.severity,
            "findings": counts[check.name],
            "a_market_month": round(counts[check.name] / months, 2),
        }
        for check in sqlfiles.checks()
    ]


def tables(result: Mapping[str, Any]) -> Iterator[str]:
    """The two tables, in Markdown."""
    lines = ["| fault | planted | caught | false alarms |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {kind} | {one['planted']} | {one['caught']} | {one['false_alarms']} |"
        for kind, one in result["faults"].items()
    ]
    yield "\n".join(lines) + "\n"
    loud = [one for one in result["clean"] if one["findings"]]
    quiet = Counter(one["severity"] for one in result["clean"] if not one["findings"])
    lines = ["| check | severity | findings | a market-month |", "| --- | --- | ---: | ---: |"]
    lines += [
        f"| {one['check']} | {one['severity']} | {one['findings']:,} | {one['a_market_month']} |"
        for one in loud
    ]
    lines += [f"| the {n} others | {severity} | 0 | 0.0 |" for severity, n in sorted(quiet.items())]
    yield "\n".join(lines) + "\n"


def is_met(result: Mapping[str, Any]) -> bool:
    """Whether every fault is caught and errors are rare on the clean history."""
    errors = sum(one["a_market_month"] for one in result["clean"] if one["severity"] == "error")
    faults = result["faults"].values()
    return errors < LIMIT and all(one["caught"] == one["planted"] for one in faults)


def markdown(result: Mapping[str, Any]) -> str:
    """The report."""
    planted, clean = tables(result)
    return (
        "# What the checks catch\n\n"
        f"{result['days']} sessions of HE and ZO with faults planted at random, seed"
        f" {result['seed']}; a fault is caught when a check that is meant for its kind names its"
        " market, session and expiry. COT files were asked for two days after each release.\n\n"
        f"{planted}\nThe same sessions without a fault, {result['market_months']} market-months:"
        f"\n\n{clean}\n"
        f"Asked for: all faults caught, fewer than {LIMIT:g} error a market-month on the clean"
        f" history. {'PASS' if is_met(result) else '**FAIL**'}.\n\n"
        f"Measured on {result['date']}.\n"
    )


@click.command()
@click.option("--date", required=True, help="Date that the report carries, as in 2026-11-24.")
@click.option("--days", default=500, show_default=True, help="Sessions of history.")
@click.option("--seed", default=1, show_default=True, help="Of the planted faults.")
@click.option(
    "--lakes",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the lakes, which are used again; else they are thrown away.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=_RESULTS,
    help="Folder for quality.json and quality.md.",
)
def main(date: str, days: int, seed: int, lakes: Path | None, out: Path) -> None:
    """Plant faults and count: ``python -m benchmarks.quality --date 2026-11-24``.

    Exit code 1 when a fault is missed or the clean history has too many errors.
    """
    with tempfile.TemporaryDirectory(prefix="hydra-quality-") as scratch:
        folder = lakes or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        result = {"date": date, **run(days, seed, folder)}
    out.mkdir(parents=True, exist_ok=True)
    (out / "quality.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    (out / "quality.md").write_text(markdown(result))
    click.echo(markdown(result))
    sys.exit(0 if is_met(result) else 1)


if __name__ == "__main__":
    main()
