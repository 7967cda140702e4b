"""A pool of processes on this machine, each at one task at a time.

Workers are spawned, since neither DuckDB nor Polars survives a fork.  Each has one core's share of
threads.  The one whose worker dies is the only task to be run again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from etl.engines import TRIES, InProcess, Outcome, Work, lost, outcome

__all__ = ["Pool"]

T = TypeVar("T")
R = TypeVar("R")

#: Seconds that a worker has to end when it is told to.
_GRACE = 5

#: What the libraries that a worker imports read their number of threads from.
_THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    pipe: Connection


class Pool:
    """``workers`` processes, started when the first tasks come and kept for the next ones."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, _Worker] = {}

    def run(
        self, work: Work[T, R], tasks: Iterable[T], *, light: bool = False
    ) -> Iterator[Outcome[T, R]]:
        """The outcome of each task, as they end; light ones are done in this process."""
        if light:
            yield from InProcess().run(work, tasks)
            return
        coming = ((task, 1) for task in tasks)
        again: list[tuple[T, int]] = []
        at: dict[Connection, tuple[T, int]] = {}
        while True:
            while len(at) < self._workers and (job := again.pop() if again else next(coming, None)):
                at[self._give(work, job[0])] = job
            if not at:
                return
            for pipe in wait(list(at)):
                assert isinstance(pipe, Connection)
                task, tries = at.pop(pipe)
                worker = self._busy.pop(pipe)
                try:
                    ended: Outcome[T, R] = pipe.recv()
                except (EOFError, OSError):
                    _end(worker)
                    if tries < TRIES:
                        again.append((task, tries + 1))
                    else:
                        yield Outcome(task, error=lost(tries))
                else:
                    self._idle.append(worker)
                    yield ended

    def close(self) -> None:
        """End every worker, whatever it is at."""
        for worker in (*self._idle, *self._busy.values()):
            _end(worker)
        self._idle.clear()
        self._busy.clear()

    def _give(self, work: Work[T, R], task: T) -> Connection:
        """Hand a task to a worker: an idle one, or a new one where it has died in the meantime."""
        while True:
            worker = self._idle.pop() if self._idle else _start()
            self._busy[worker.pipe] = worker
            try:
                worker.pipe.send((work, task, self._workers))
            except OSError:
                _end(self._busy.pop(worker.pipe))
            else:
                return worker.pipe


def _start() -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), name="hydra-worker", daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.terminate()
    worker.process.join(_GRACE)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.process.close()


def _serve(pipe: Connection) -> None:
    """Do the tasks that come through ``pipe`` until it is closed: a worker's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who gives the tasks
    for name in _THREADS:  # read when a task's modules are imported, which is when the first comes
        os.environ[name] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job: tuple[Work[Any, Any], Any, int] = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(outcome(*job))


def _end_with_parent() -> None:
    """Leave no worker behind, however its parent ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
