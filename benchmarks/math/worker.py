"""Measures one peer in this process: ``python -m benchmarks.math.worker PEER SIZES OUTPUT``."""

from __future__ import annotations

import importlib
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.math import sizes
from benchmarks.math.peers import PEERS


def run(peer: str, size: sizes.Sizes) -> dict[str, Any]:
    """The peer's lines and versions, or ``missing`` with the reason why there are none."""
    try:
        module = importlib.import_module(f"benchmarks.math.peers.{PEERS[peer]}")
    except ImportError as error:
        return {"peer": peer, "missing": f"cannot be imported: {error}"}
    lines = [line.as_dict() for line in module.measure(size)]
    versions = {name: metadata.version(name) for name in module.PACKAGES}
    return {"peer": peer, "versions": versions, "lines": lines}


def main(peer: str, size: str, output: str) -> None:
    """Measure ``peer`` at FULL or QUICK size and write what comes out as JSON."""
    Path(output).write_text(json.dumps(run(peer, getattr(sizes, size))))


if __name__ == "__main__":
    main(*sys.argv[1:])
