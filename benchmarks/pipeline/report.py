"""What was measured and what is asked for, as Markdown."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["is_met", "markdown", "slope", "verdicts"]

Result = dict[str, Any]

STAGES = ("land", "derive", "build", "check")

_METHOD = """\
Lakes of synthetic markets ([lakes.py](../pipeline/lakes.py)): of every session the definitions of
all options, quotes at the snapshot, settlements, open interest and volume, bars, and the CFTC's
reports. Growth is measured on markets as the sample vendor's lean hogs: six expiries of 32 strikes,
calls and puts; all else on dense ones: twelve expiries of sixty strikes. Every figure is of a
process of its own, imports included, in one fixed environment; CPU is user and system time of it
and all that it started, the peak is their resident memory together. Where a figure has a range, it
is the median of the turns with the least and the most; ratios are taken within a turn. Times hang
on the machine and on what else it does: read ratios and growth."""
_NORMALS = {"scipy": "`scipy.stats.norm`", "erfc": "`math.erfc`"}
_QUICK = "**A tiny run: it shows that everything works. Its times mean nothing.**"


def slope(result: Result, stage: str) -> float:
    """Growth of a stage's CPU time in rows: the slope of a line through their logarithms."""
    rows = [math.log(one["rows"]) for one in result["growth"]]
    spent = [math.log(one["stages"][stage]["cpu"]) for one in result["growth"]]
    return float(np.polyfit(rows, spent, 1)[0])


def _memory(result: Result, stage: str) -> float:
    """Peak of the largest lake over that of the smallest."""
    first, last = (result["growth"][place]["stages"][stage]["peak_mb"] for place in (0, -1))
    return float(last / first)


def verdicts(result: Result) -> list[tuple[str, str, bool]]:
    """What is asked for, what was measured of it, and whether it is met."""
    found = []
    if "daily" in result:
        daily = result["daily"]
        for what, name in (("cpu", "CPU time"), ("peak_mb", "peak memory")):
            ratio = daily["ratio"][what]["median"]
            asked = f"a session onto {daily['of_years']} years, over one onto a month: {name}"
            found.append((f"{asked} at most 1.3×", f"{ratio:.2f}×", ratio <= 1.3))
        seconds = daily["nothing"]["cpu"]["median"]
        found.append(("a run with nothing new under 3 s of CPU", f"{seconds:.2f} s", seconds < 3))
        seconds = daily["help"]["wall"]["median"]
        found.append(("`hydra --help` under 0.3 s", f"{seconds:.2f} s", seconds < 0.3))
    if "derive" in result:
        printed, practised = (
            _peer(result["derive"], "american", normal)["wall"]["ratio"]["median"]
            for normal in ("scipy", "erfc")
        )
        asked = "a market-year derived at least 100× as fast as the straightforward build"
        measured = f"{printed:.0f}×; {practised:.0f}× if that is sped up by `math.erfc`"
        found.append((asked, measured, printed >= 100))
        share = _outside(result["derive"]["profile"])
        asked = "of that under 20 % outside of mathlib, DuckDB and Polars"
        found.append((asked, f"{share:.1%}", share < 0.2))
    if len(result.get("growth", ())) > 1:
        steepest = max(slope(result, stage) for stage in STAGES)
        found.append(
            ("time linear in rows: slope at most 1.05", f"{steepest:.2f}", steepest <= 1.05)
        )
        most = max(_memory(result, stage) for stage in STAGES)
        found.append(("peak memory flat: at most 1.2×", f"{most:.2f}×", most <= 1.2))
        peak = max(one["stages"][s]["peak_mb"] for one in result["growth"] for s in STAGES)
        found.append(("peak memory under 2 GB", f"{peak / 1024:.2f} GB", peak < 2048))
    if "landing" in result:
        ratio = result["landing"]["ratio"]["median"]
        asked = "landing at most 2× a bare decode and write of the same bytes"
        found.append((asked, f"{ratio:.2f}×", ratio <= 2))
    if "query" in result:
        warm = 1000 * result["query"]["warm"]["median"]
        found.append(("`features_at` under 50 ms, warm", f"{warm:.0f} ms", warm < 50))
    if "spine" in result:
        ratio = result["spine"]["contenders"][0]["ratio"]
        asked = "spine join at most 1.5× DuckDB's ASOF JOIN on prepared rows"
        found.append((asked, f"{ratio:.2f}×", ratio <= 1.5))
    if "layout" in result:
        share = result["layout"]["scan"]["read"] / result["layout"]["scan"]["of"]
        asked = "one market's month of quotes reads under 2 % of twenty markets' bytes"
        found.append((asked, f"{share:.2%}", share < 0.02))
    return found


def _outside(profile: Result) -> float:
    """The share of a profile that is in none of the three."""
    return 1 - sum(profile["engines"].get(name, 0.0) for name in ("mathlib", "DuckDB", "Polars"))


def _shares(profile: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in profile.items())


def is_met(result: Result) -> bool:
    """Whether all that is asked for is met."""
    return all(met for _, _, met in verdicts(result))


def markdown(result: Result) -> str:
    """The report."""
    sections = {
        "growth": _growth,
        "derive": _derive,
        "daily": _daily,
        "landing": _landing,
        "query": _query,
        "spine": _spine,
        "layout": _layout,
    }
    lines = ["# The pipeline", "", *([_QUICK, ""] if result["quick"] else []), _METHOD, ""]
    lines += ["| asked for | measured | |", "| --- | ---: | --- |"]
    for asked, measured, met in verdicts(result):
        verdict = "" if result["quick"] else "PASS" if met else "**FAIL**"
        lines.append(f"| {asked} | {measured} | {verdict} |")
    for name, section in sections.items():
        if name in result:
            lines += ["", *section(result)]
    lines += ["", *_runs(result)]
    return "\n".join(lines) + "\n"


def _runs(result: Result) -> list[str]:
    """When and on what machine all was measured, or what was."""
    found: dict[str, list[str]] = {}
    for name, run in result["runs"].items():
        found.setdefault(run, []).append(name)
    if len(found) == 1:
        return [f"Measured on {run}." for run in found]
    return [f"- Measured on {run}: {', '.join(names)}." for run, names in sorted(found.items())]


def _range(about: dict[str, float], form: str = ".2f") -> str:
    return f"{about['median']:{form}} ({about['low']:{form}} to {about['high']:{form}})"


def _growth(result: Result) -> list[str]:
    lines = ["## Growth", "", "![growth](pipeline-growth.svg)", ""]
    lines += [
        "| lake | raw rows | raw MB | derived MB | database MB | stage | CPU s | wall s | peak MB |"
    ]
    lines += ["| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |"]
    for one in result["growth"]:
        size = " | ".join(
            f"{one[name] / 1e6:,.0f}" for name in ("raw_bytes", "derived_bytes", "database_bytes")
        )
        for stage in STAGES:
            spent = one["stages"][stage]
            lines.append(
                f"| {one['size']} | {one['rows']:,} | {size} | {stage} | {spent['cpu']:,.1f} |"
                f" {spent['wall']:,.1f} | {spent['peak_mb']:,.0f} |"
            )
    if len(result["growth"]) < 2:
        return lines
    lines += ["", "| stage | slope of CPU in rows, log-log | peak, largest over smallest |"]
    lines += ["| --- | ---: | ---: |"]
    lines += [
        f"| {stage} | {slope(result, stage):.2f} | {_memory(result, stage):.2f}× |"
        for stage in STAGES
    ]
    return [*lines, "", "Land's times are of the landing alone, not of the making of its rows."]


def _derive(result: Result) -> list[str]:
    one = result["derive"]
    apart = one["differences"]
    timed = sorted({peer["sessions"] for peer in one["peers"]})
    lines = [
        "## A market-year beside the straightforward build",
        "",
        f"One dense market, {one['sessions']} sessions, quotes and settlements. The peer"
        " ([straightforward.py](../pipeline/straightforward.py)) is timed on"
        f" {' or '.join(map(str, timed))} sessions spread over the year; its time of all is that of"
        " loading the year's rows once and that of a session times their number. The options are"
        " American: it frees vols of early exercise, as ours are, by the usual approximation; how"
        " long it takes without stands below. Its normal distribution is `scipy.stats.norm`, as"
        " nearly all printed code has it; how long it takes with the standard library's `math.erfc`"
        " in that place, as a practised hand would write it, stands below too. It leaves out error"
        " bars, repair of arbitrage and zero gamma.",
        "",
        "| | wall s | ours is faster | CPU s | ours takes less | peak MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        f"| hydra derive | {_range(one['wall'], '.1f')} | | {_range(one['cpu'], '.1f')} | |"
        f" {_range(one['peak_mb'], '.0f')} |",
    ]
    for peer in one["peers"]:
        name = _NORMALS[peer["normal"]]
        if peer["exercise"] == "european":
            name += ", early exercise left out"
        cells = (
            f"{_range(peer[what]['seconds'], ',.0f')} | {_range(peer[what]['ratio'], '.1f')}×"
            for what in ("wall", "cpu")
        )
        lines.append(f"| straightforward, {name} | {' | '.join(cells)} | |")
    return [
        *lines,
        "",
        f"Where its time goes, in one process: {_shares(one['profile']['engines'])}.",
        "",
        f"Both do the same job: of {apart['options']:,} liquid options out of the money their vols"
        f" are {apart['vol']:.4f} apart (median), of {apart['slices']:,} slices the standard"
        f" deviations {apart['stdev']:.1%}, skews {apart['skew']:.2f} and 5 % quantiles"
        f" {apart['q05']:.2%} of the forward.",
    ]


def _peer(derive: Result, exercise: str, normal: str) -> Result:
    """The straightforward build of a kind."""
    kinds = {(peer["exercise"], peer["normal"]): peer for peer in derive["peers"]}
    found: Result = kinds[exercise, normal]
    return found


def _daily(result: Result) -> list[str]:
    one = result["daily"]
    names = {
        "month": "a session onto a month",
        "years": f"a session onto {one['of_years']} years",
        "nothing": "nothing new",
        "help": "`hydra --help`",
    }
    lines = [
        "## A day",
        "",
        "`hydra daily` of one market: land, derive, build, check, export, report.",
    ]
    lines += ["", "| run | CPU s | wall s | peak MB |", "| --- | ---: | ---: | ---: |"]
    for name, text in names.items():
        spent = one[name]
        lines.append(
            f"| {text} | {_range(spent['cpu'])} | {_range(spent['wall'])} |"
            f" {_range(spent['peak_mb'], '.0f')} |"
        )
    ratio = one["ratio"]
    return [
        *lines,
        f"| {one['of_years']} years over a month | {_range(ratio['cpu'])}× |"
        f" {_range(ratio['wall'])}× | {_range(ratio['peak_mb'])}× |",
        "",
        f"Where the time of a session onto {one['of_years']} years goes:"
        f" {_shares(one['profile']['engines'])}; by module of `etl`"
        f" {_shares(one['profile']['modules'])}.",
    ]


def _landing(result: Result) -> list[str]:
    one = result["landing"]
    return [
        "## Landing",
        "",
        f"{one['records']:,} quotes (mbp-1, {one['bytes'] / 1e6:.0f} MB of zstd), imports not"
        " timed. Bare: decompress, view the bytes as records, write all fields to one file.",
        "",
        "| | wall s | CPU s |",
        "| --- | ---: | ---: |",
        f"| hydra land dbn | {_range(one['seconds'])} | {_range(one['cpu'])} |",
        f"| bare | {_range(one['bare_seconds'])} | {_range(one['bare_cpu'])} |",
        f"| ratio | {_range(one['ratio'])}× | |",
    ]


def _query(result: Result) -> list[str]:
    one = result["query"]
    warm = {name: 1000 * value for name, value in one["warm"].items()}
    return [
        "## A point-in-time query",
        "",
        f"`features_at` on lake {one['size']} in a bare DuckDB session, each market in turn:"
        f" {1000 * one['cold']:.0f} ms at first, then {_range(warm, '.0f')} ms.",
    ]


def _spine(result: Result) -> list[str]:
    one = result["spine"]
    lines = [
        "## Many answers at once",
        "",
        f"{one['rows']['answers']:,} answers out of {one['rows']['long']:,} long rows"
        " ([spine.md](spine.md) says how), medians.",
        "",
        "| contender | s | ratio |",
        "| --- | ---: | ---: |",
    ]
    return lines + [
        f"| {way['name']} | {way['median']:.2f} | {way['ratio']:.2f}× |"
        for way in one["contenders"]
    ]


def _layout(result: Result) -> list[str]:
    scan, ways = result["layout"]["scan"], result["layout"]["ways"]
    lines = [
        "## Layout",
        "",
        f"A month of one market's quotes, {scan['rows']:,} rows by two columns, asked of"
        f" `raw.option_quote` in a lake of {scan['markets']} markets and {scan['files']:,} files:"
        f" {scan['read'] / 1e3:,.0f} kB read of {scan['of'] / 1e6:,.1f} MB,"
        f" {scan['read'] / scan['of']:.2%}, footers included.",
        "",
        f"One file of a market's quotes, {ways[0]['rows']:,} rows, written in other ways; the first"
        " is the lake's own. Scans ask for two columns: of all rows, of a session, of an option.",
        "",
        "| order | rows a group | zstd level | MB | write ms | all ms | session ms | option ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way in ways:
        group = f"{way['row_group']:,}" if way["row_group"] else "Polars'"
        times = " | ".join(f"{1000 * way[n]:.1f}" for n in ("write", "whole", "session", "option"))
        level = way["level"] or "Polars'"
        size = way["bytes"] / 1e6
        lines.append(f"| {way['order']} | {group} | {level} | {size:.2f} | {times} |")
    return lines
