"""``python -m benchmarks.math --date DATE``: measure every peer, write and print the report."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from benchmarks.math import sizes
from benchmarks.math.peers import PEERS
from benchmarks.math.report import Run, markdown

_ROOT = Path(__file__).parents[2]
_THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA")
#: Longer than the slowest peer takes on a slow machine.
_TIMEOUT_SECONDS = 3600


@click.command()
@click.option("--date", required=True, help="Date that the report carries, as in 2026-11-24.")
@click.option("--quick", is_flag=True, help="Tiny sizes: see that it works, not how fast.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=_ROOT / "benchmarks" / "results",
    help="Folder for math.json and math.md.",
)
def main(date: str, quick: bool, out: Path) -> None:
    """Measure mathlib beside its peers, e.g. ``python -m benchmarks.math --date 2026-11-24``.

    Exit code 1 when something required is not met, or a peer is missing from a full run.
    """
    size = "QUICK" if quick else "FULL"
    found = []
    for peer in PEERS:
        click.echo(f"{peer} ...", err=True)
        found.append(_measure(peer, size))
    run = Run(date, quick, _machine(), getattr(sizes, size).runs, found)
    out.mkdir(parents=True, exist_ok=True)
    (out / "math.json").write_text(json.dumps(run.as_dict(), indent=1) + "\n")
    (out / "math.md").write_text(markdown(run))
    click.echo(markdown(run))
    sys.exit(1 if run.shortfalls() or (run.missing() and not quick) else 0)


def _measure(peer: str, size: str) -> dict[str, Any]:
    """What the peer's own process measured, or ``missing`` with the reason."""
    threads = {f"{name}_NUM_THREADS": "1" for name in _THREADS}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lines.json"
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.math.worker", peer, size, str(output)],
            cwd=_ROOT,
            env={**os.environ, **threads},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode == 0:
            return dict(json.loads(output.read_text()))
    last = (done.stderr.strip() or "no message").splitlines()[-1]
    return {"peer": peer, "missing": f"stopped with exit code {done.returncode}: {last}"}


def _machine() -> dict[str, str]:
    return {
        "processor": _processor(),
        "cores": f"{os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"Python {platform.python_version()}",
        "numpy": f"numpy {metadata.version('numpy')}",
    }


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"


if __name__ == "__main__":
    main()
