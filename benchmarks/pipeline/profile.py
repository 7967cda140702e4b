"""Where a run's time goes: what it is in, looked at every few milliseconds.

A profiler that hooks calls does not see the functions that DuckDB calls from its own threads; a
look at every thread's Python frames does.
"""

from __future__ import annotations

import linecache
import sys
import threading
from collections import Counter
from collections.abc import Callable
from types import FrameType

__all__ = ["shares"]

_EVERY = 0.005
#: What stands in the line that has called DuckDB, which has no frame of its own.
_DUCKDB = (".execute(", ".sql(", ".fetchall(", ".fetchone(", ".pl(", ".arrow(", "create_as(")
_ELSEWHERE = "elsewhere"


def shares(work: Callable[[], object]) -> dict[str, dict[str, float]]:
    """The shares of ``work`` that it was in each engine (mathlib, DuckDB, …) and each module."""
    engines: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    over = threading.Event()
    main = threading.get_ident()

    def look() -> None:
        own = threading.get_ident()
        while not over.wait(_EVERY):
            frames = sys._current_frames()
            frames.pop(own, None)
            places = {_place(frame) for frame in frames.values()}
            # DuckDB waits for the function that it has called.
            engines["mathlib" if "mathlib" in places else _place(frames[main])] += 1
            modules[_module(frames[main])] += 1

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    try:
        work()
    finally:
        over.set()
        looker.join()
    return {"engines": _of_all(engines), "modules": _of_all(modules)}


def _of_all(counts: Counter[str]) -> dict[str, float]:
    looks = max(sum(counts.values()), 1)
    return {name: round(count / looks, 4) for name, count in counts.most_common()}


def _place(frame: FrameType | None) -> str:
    """What a thread is in: the innermost of its frames that tells."""
    if frame is not None:
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno or 0)
        if any(word in line for word in _DUCKDB):
            return "DuckDB"
    while frame is not None:
        name = frame.f_code.co_filename
        if "/mathlib/" in name:
            return "mathlib"
        if "/polars/" in name:
            return "Polars"
        if name.startswith("<frozen importlib"):
            return "imports"
        frame = frame.f_back
    return _ELSEWHERE


def _module(frame: FrameType | None) -> str:
    """The module of ``etl`` that the command line has called."""
    found = "imports"
    while frame is not None:
        _, inside, name = frame.f_code.co_filename.rpartition("/etl/")
        if inside and name not in ("cli.py", "__main__.py"):
            found = name.partition("/")[0].removesuffix(".py")
        frame = frame.f_back
    return found
