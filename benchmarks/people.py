"""``python -m benchmarks.people --date DATE``: how long people wait, and what an export takes.

A newcomer's path from ``git clone`` to the first plot that a browser has drawn, with an empty
home and no environment; the report's making, size and opening; and the memory of exporting ten
million rows.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from tests.browser import CHROMIUM, Browser

_ROOT = Path(__file__).parents[1]
_RESULTS = Path(__file__).parent / "results"
_TURNS = 5
_ROWS = 10_000_000
#: Bytes that an export may take at its peak, and that the page may weigh.
_MEMORY, _PAGE = 10**9, 3 * 10**6
#: What a newcomer's shell would have, and what tells installers where packages are.
_KEPT = ("PATH", "PIP_", "UV_", "SSL_CERT", "REQUESTS_CA", "HTTP", "http", "NO_PROXY", "no_proxy")
_QUERY = "select l.* from features.long_v1 as l, range(1000000) as again limit {rows}"


def _run(words: Sequence[str | Path], folder: Path, home: Path) -> float:
    """Run a command with an empty home; the seconds that it took."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
    began = perf_counter()
    subprocess.run(
        list(map(str, words)),
        cwd=folder,
        env={**kept, "HOME": str(home), "LANG": "C.UTF-8"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return perf_counter() - began


def _opened(page: Path, folder: Path) -> list[float]:
    """Seconds from asking a browser for the page until all of it is drawn, each time."""
    browser = Browser(folder)
    try:
        seconds = []
        for _ in range(_TURNS + 1):
            began = perf_counter()
            browser.open(page)
            seconds.append(perf_counter() - began)
        return seconds[1:]  # the first warms the browser, not the page
    finally:
        browser.close()


def _spent(words: Sequence[str | Path], folder: Path) -> tuple[float, int]:
    """CPU seconds and peak bytes of a command; to be called in a process of its own."""
    subprocess.run(list(map(str, words)), cwd=folder, check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1) as process:
        return process.submit(work, *arguments).result()


def measure(rows: int) -> dict[str, Any]:
    """Everything, on a clone of what is committed."""
    with tempfile.TemporaryDirectory(prefix="hydra-people-") as name:
        folder = Path(name)
        home, project = folder / "home", folder / "project"
        home.mkdir()
        path = {
            "git clone": _run(["git", "clone", "--quiet", _ROOT, project], folder, home),
            "make daily": _run(["make", "daily"], project, home),
        }
        page = project / "lake/report.html"
        opened = _opened(page, folder / "profile") if CHROMIUM else []
        hydra = project / ".venv/bin/hydra"
        drawn = [_apart(_spent, [hydra, "-q", "report"], project)[0] for _ in range(_TURNS)]
        query = folder / "rows.sql"
        query.write_text(_QUERY.format(rows=rows))
        exports = {}
        for kind in ("csv", "parquet", "arrow"):
            target = folder / f"rows.{kind}"
            words = [hydra, "-q", "export", "--query", query, "--format", kind, "-o", target]
            exports[kind] = [*_apart(_spent, words, project), target.stat().st_size]
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        weight = page.stat().st_size
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {
        **{"machine": machine, "path": path, "opened": opened, "drawn": drawn},
        **{"bytes": weight, "rows": rows, "exports": exports},
    }


def markdown(date: str, found: dict[str, Any]) -> str:
    """The results as people read them."""
    opened, path = found["opened"], dict(found["path"])
    if opened:
        path["the page drawn in Chromium"] = statistics.median(opened)
    lines = [
        *("# Waiting and memory", "", f"{date}, {found['machine']}.", ""),
        *("## From a clone to the first plot", "", "| step | seconds |", "|---|---:|"),
        *(f"| {step} | {seconds:.1f} |" for step, seconds in path.items()),
        *(f"| all | {sum(path.values()):.1f} |", "", "## The report", ""),
        "| what | median | lowest to highest |",
        "|---|---:|---|",
        _spread("CPU seconds to make it", found["drawn"]),
    ]
    if opened:
        lines.append(_spread("seconds to open and draw it", opened))
    lines += [
        *(f"| megabytes | {found['bytes'] / 1e6:.2f} | |", ""),
        *(f"## Exporting {found['rows']:,} rows", ""),
        "| format | peak memory, MB | CPU seconds | file, MB |",
        "|---|---:|---:|---:|",
    ]
    for kind, (seconds, peak, size) in found["exports"].items():
        lines.append(f"| {kind} | {peak / 1e6:,.0f} | {seconds:.1f} | {size / 1e6:,.0f} |")
    return "\n".join(lines) + "\n"


def _spread(what: str, values: Sequence[float]) -> str:
    middle = statistics.median(values)
    return f"| {what} | {middle:.2f} | {min(values):.2f} to {max(values):.2f} |"


@click.command()
@click.option("--date", required=True, help="Date that the report carries, as in 2026-11-24.")
@click.option("--rows", type=click.IntRange(1), default=_ROWS, help="Rows to export.")
@click.option("--out", type=click.Path(path_type=Path), default=_RESULTS, help="Folder of results.")
def main(date: str, rows: int, out: Path) -> None:
    """Measure what people wait for; exit code 1 where an export or the page is too large."""
    found = measure(rows)
    out.mkdir(parents=True, exist_ok=True)
    (out / "people.json").write_text(json.dumps({"date": date, **found}, indent=1) + "\n")
    (out / "people.md").write_text(markdown(date, found))
    click.echo(markdown(date, found))
    too_large = any(peak > _MEMORY for _, peak, _ in found["exports"].values())
    sys.exit(too_large or found["bytes"] > _PAGE)


if __name__ == "__main__":
    main()
