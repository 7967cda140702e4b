"""What a process takes: time, memory of all that it started, bytes that it read."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

__all__ = ["Spent", "python", "spread"]

_ROOT = Path(__file__).parents[2]
#: All that a measured process knows of the machine: one thread a core for the engines, one for
#: the linear algebra beneath them.
_ONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_KEPT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_EVERY = 0.02  # seconds between two looks at the memory
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1024**2


@dataclass(frozen=True)
class Spent:
    """What one process and those that it started took."""

    wall: float
    cpu: float  # user and system, of all of them
    peak_mb: float  # resident, all of them together
    said: str

    @property
    def answer(self) -> Any:
        """The JSON that it printed last."""
        return json.loads(self.said.splitlines()[-1])


def python(*words: str, fine: Collection[int] = (0,)) -> Spent:
    """Run ``python WORDS`` in the fixed environment.

    Raises
    ------
    RuntimeError
        It ended with an exit code that is not ``fine``; with what it said.
    """
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {**_ONE, "PYTHONPATH": str(_ROOT), "PYTHONHASHSEED": "0", "TZ": "UTC"}
    command = [sys.executable, *words]
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        child = subprocess.Popen(command, env=environment, stdout=said, stderr=complained)
        peak = _Peak(child.pid)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        peak.stop()
        said.seek(0)
        complained.seek(0)
        text, error = said.read().decode(), complained.read().decode()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in fine:
        raise RuntimeError(f"{' '.join(command)}: {error[-2000:]}")
    return Spent(wall, usage.ru_utime + usage.ru_stime, peak.mb, text)


class _Peak:
    """The most that a process and its descendants hold together, looked at again and again.

    The system's own figure is of one process, and counts what its parent held when it was made.
    """

    def __init__(self, pid: int) -> None:
        self.mb = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._looker = threading.Thread(target=self._look, daemon=True)
        self._looker.start()

    def stop(self) -> None:
        self._over.set()
        self._looker.join()

    def _look(self) -> None:
        while not self._over.wait(_EVERY):
            family = _family(self._pid)
            together = sum(_resident_mb(pid) for pid in family)
            self.mb = max(self.mb, together, *(_most_mb(pid) for pid in family))


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found, coming = [], [pid]
    while coming:
        found.append(one := coming.pop())
        for task in glob(f"/proc/{one}/task/*/children"):  # none where it has ended
            with suppress(OSError):
                coming += map(int, Path(task).read_text().split())
    return found


def _resident_mb(pid: int) -> float:
    """What a process holds now, less what it may share with others."""
    with suppress(OSError):
        resident, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[1:3])
        return (resident - shared) * _PAGE_MB
    return 0.0


def _most_mb(pid: int) -> float:
    """The most that a process has held so far."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most of some turns."""
    median = statistics.median(values)
    return {"median": round(median, 4), "low": round(min(values), 4), "high": round(max(values), 4)}
