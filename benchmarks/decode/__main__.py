"""``python -m benchmarks.decode --date DATE``: measure every way, write and print the report."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks.decode import ways
from benchmarks.decode.report import Case, Run, Way, markdown

_RESULTS = Path(__file__).parents[1] / "results"
#: Files by schema and records, and the turns that each way takes.
_FULL = [("mbp-1", 3_000_000), ("mbp-1", 1_000_000), ("ohlcv-1m", 3_000_000)], 5
_QUICK = [("mbp-1", 20_000), ("ohlcv-1m", 20_000)], 1

_T = TypeVar("_T")


@click.command()
@click.option("--date", required=True, help="Date that the report carries, as in 2026-11-24.")
@click.option("--quick", is_flag=True, help="Tiny sizes: see that it works, not how fast.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=_RESULTS,
    help="Folder for decode.json and decode.md.",
)
def main(date: str, quick: bool, out: Path) -> None:
    """Measure the decoder, e.g. ``python -m benchmarks.decode --date 2026-11-24``.

    Exit code 1 when it is slower than it has to be, or its memory grows with the file.
    """
    files, turns = _QUICK if quick else _FULL
    cases = []
    for schema, records in files:
        click.echo(f"{schema}, {records:,} records ...", err=True)
        with tempfile.TemporaryDirectory() as folder:
            cases.append(_measure(schema, records, turns, Path(folder)))
    run = Run(date, quick, _machine(), turns, cases)
    out.mkdir(parents=True, exist_ok=True)
    (out / "decode.json").write_text(json.dumps(run.as_dict(), indent=1) + "\n")
    (out / "decode.md").write_text(markdown(run))
    click.echo(markdown(run))
    sys.exit(1 if run.shortfalls() else 0)


def _measure(schema: str, records: int, turns: int, folder: Path) -> Case:
    """Every way on one file in turns, after one turn of each whose values are compared."""
    path = folder / f"{schema}.dbn.zst"
    _fresh(ways.make, schema, records, path)
    size = path.stat().st_size
    outs = {name: folder / f"out-{number}" for number, name in enumerate(ways.WAYS)}
    for name, way in ways.WAYS.items():
        _fresh(way, path, outs[name])
    compared = _fresh(ways.compare, schema, *outs.values())
    assert compared == records, f"{compared} of {records} rows"
    spent: dict[str, list[ways.Spent]] = {name: [] for name in ways.WAYS}
    names = list(ways.WAYS)
    for turn in range(turns):
        for name in names if turn % 2 == 0 else names[::-1]:
            _remove(outs[name])
            spent[name].append(_fresh(ways.WAYS[name], path, outs[name]))
    by_vendor = [one.seconds for one in spent[ways.TO_PARQUET]]
    measured = [
        Way(
            name,
            [one.seconds for one in found],
            [one.peak_mb for one in found],
            statistics.median(b / one.seconds for b, one in zip(by_vendor, found, strict=True)),
        )
        for name, found in spent.items()
    ]
    return Case(schema, records, size, measured)


def _fresh(function: Callable[..., _T], *args: Any) -> _T:
    """What ``function`` returns in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as process:
        return process.submit(function, *args).result()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _machine() -> dict[str, str]:
    names = ("databento", "databento-dbn", "polars", "pandas", "pyarrow", "numpy", "zstandard")
    return {
        "cores": f"{os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"Python {platform.python_version()}",
        **{name: f"{name} {metadata.version(name)}" for name in names},
    }


if __name__ == "__main__":
    main()
