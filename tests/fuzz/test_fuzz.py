"""Hostile input in seconds: mutations of good files go in, rows or a refusal come out.

``make fuzz`` does it for longer, guided by coverage, in processes that are bounded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.errors import HydraError
from tests.fuzz import rows
from tests.fuzz.__main__ import DOCUMENT, RESULTS, table
from tests.fuzz.seeds import TOKENS
from tests.fuzz.targets import TARGETS

#: Examples that take about two seconds each.
EXAMPLES = {
    **dict.fromkeys(("dbn", "cot_text", "cboe", "barchart"), 60),
    **dict.fromkeys(("generic_csv", "generic_parquet"), 60),
    **{"cot_zip": 300, "market": 100, "command_line": 10, "record": 2, "rows": 1},
}

#: Targets of which an input is a run of its own, on a lake that is made of no file.
WHOLE_RUNS = ("command_line", "record", "rows")


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A seed with a few places overwritten, cut out, repeated, or with a token put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    share = st.floats(0, 1, exclude_max=True)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["byte", "token", "over", "cut", "again", "end"]))
        start = int(draw(share) * len(data))
        length = draw(st.integers(1, 40))
        if kind == "byte":
            data[start : start + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "token":
            data[start:start] = draw(st.sampled_from(TOKENS))
        elif kind == "over":
            token = draw(st.sampled_from(TOKENS))
            data[start : start + len(token)] = token
        elif kind == "cut":
            del data[start : start + length]
        elif kind == "again":
            data[start:start] = data[start : start + length]
        else:
            del data[start:]
    return bytes(data)


def feed(name: str, data: bytes) -> None:
    """Run a target in a folder of its own; it may refuse, and raise nothing else."""
    with tempfile.TemporaryDirectory(prefix="hydra-fuzz-") as folder:
        place = Path(folder).resolve()
        here = Path.cwd()
        os.chdir(place)
        try:
            with suppress(HydraError):
                TARGETS[name].run(data, place)
        finally:
            os.chdir(here)


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in WHOLE_RUNS])
def test_fuzzing_begins_with_what_is_taken(name: str, tmp_path: Path) -> None:
    for number, seed in enumerate(TARGETS[name].seeds()):
        place = tmp_path / str(number)
        place.mkdir()
        TARGETS[name].run(seed, place)


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_input_is_taken_or_refused(name: str) -> None:
    @settings(max_examples=EXAMPLES[name], suppress_health_check=list(HealthCheck))
    @given(mutated(list(TARGETS[name].seeds())))
    def run(data: bytes) -> None:
        feed(name, data)

    run()


def test_every_kind_of_column_has_values_to_be_spoilt_by() -> None:
    from etl.schemas import DATASETS, raw_schema

    kinds = {type(dtype) for name in DATASETS for dtype in raw_schema(name).values()}
    assert kinds <= set(rows.VALUES)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("open('../outside', 'w')", "Leak: open '../outside'"),
        ("os.rename('x', '../y')", "Leak: os.rename '../y'"),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", "Leak: socket.getaddrinfo"),
        ("os.system('true')", "Leak: os.system"),
        ("bytearray(3 << 30)", "MemoryError"),
        ("while True: pass", "TooSlow"),
        ("open('inside', 'w'); os.rename('inside', 'there'); os.remove('there')", ""),
    ],
)
def test_the_guard_sees_what_leaves_its_bounds(tmp_path: Path, code: str, says: str) -> None:
    """What the long runs rely on, each in a process of its own."""
    script = (
        "import os, pathlib\nfrom tests.fuzz import guard\nguard.SECONDS = 1\n"
        f"held = guard.Guard(pathlib.Path({str(tmp_path)!r}))\n"
        f"code = compile({code!r}, 'hostile', 'exec')\n"
        "with held.watching(): exec(code)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert (says in done.stderr) if says else (done.returncode == 0), done.stderr


def test_the_document_shows_the_last_long_run() -> None:
    results = json.loads(RESULTS.read_text())
    assert table(results["targets"]) in DOCUMENT.read_text()
    assert [row["kind"] for row in results["targets"]] == [each.kind for each in TARGETS.values()]
    assert all(row["tried"] for row in results["targets"])
    assert not any(row["crashed"] or row["leaked"] for row in results["targets"])
