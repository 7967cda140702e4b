"""``make fuzz``: every target in a process of its own, and the table of what became of it.

``python -m tests.fuzz --seconds 600`` spreads the time over the targets and writes
``benchmarks/results/fuzz.json`` and the table in ``docs/safety.md``.  It exits 1 where an input
crashed or leaked, and keeps those.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results/fuzz.json"
DOCUMENT = ROOT / "docs/safety.md"

_COUNTS = ("tried", "refused", "crashed", "leaked")
_TABLE = re.compile(r"^\| kind of input \|.*\n(?:\|.*\n)+", re.MULTILINE)
#: Beyond its time a process may take as long as its last input and the making of its first.
_GRACE_SECONDS = 120


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The outcome in Markdown."""
    total = {"kind": "all", **{name: sum(row[name] for row in rows) for name in _COUNTS}}
    lines = [f"| kind of input | {' | '.join(_COUNTS)} |", f"|---|{'---:|' * len(_COUNTS)}"]
    for row in (*rows, total):
        counts = " | ".join(f"{row[name]:,}" for name in _COUNTS)
        lines.append(f"| {row['kind']} | {counts} |")
    return "\n".join(lines) + "\n"


def fuzz(name: str, seconds: float, folder: Path) -> Mapping[str, Any]:
    """Feed one target in a child; one that dies, or does not end, has crashed."""
    folder.mkdir()
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-m", "tests.fuzz.child", name, str(seconds), str(folder)]
    with open(folder / "outcome.log", "wb") as log:
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**kept, **quiet, "TMPDIR": str(folder / "tmp")},
                stdout=log,
                stderr=log,
                timeout=seconds + _GRACE_SECONDS,
            )
            died = done.returncode != 0
        except subprocess.TimeoutExpired:
            died = True
    written = folder / "outcome.json"
    outcome = json.loads(written.read_text()) if written.exists() else dict.fromkeys(_COUNTS, 0)
    outcome["crashed"] += died
    return {"kind": TARGETS[name].kind, **outcome}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="for all targets together")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this; repeatable")
    options = parser.parse_args()
    names = options.target or list(TARGETS)
    each = options.seconds / len(names)
    work = Path(tempfile.mkdtemp(prefix="hydra-fuzz-"))
    rows = []
    for name in names:
        rows.append(fuzz(name, each, work / name))
        print(table(rows[-1:]).splitlines()[2], flush=True)
    print(table(rows))
    if any(row["crashed"] or row["leaked"] for row in rows):
        sys.exit(f"inputs that crashed or leaked are kept in {work}")
    shutil.rmtree(work)
    if not options.target:
        results = {"seconds": options.seconds, "targets": rows}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        DOCUMENT.write_text(_TABLE.sub(lambda _: table(rows), DOCUMENT.read_text()))


if __name__ == "__main__":
    main()
