"""Where tasks run: in this process, in a pool of processes on this machine, or on Dask.

A task is a picklable value and its work a function of it alone, so that it may run anywhere, and
again where a worker was lost.  An engine is what has ``run`` and ``close``: another one is
another module here.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from etl.errors import BadInput, LakeError

__all__ = [
    *("ENGINES", "TRIES", "Engine", "InProcess", "Outcome", "Work"),
    *("cores", "lost", "opened", "outcome"),
]

#: The engines that a person may name.
ENGINES = ("local", "dask")

#: How many workers may be lost over one task before it counts as failed.
TRIES = 3

#: Workers on one machine share the memory that one process may take: more would starve each other.
_MOST_WORKERS = 4

T = TypeVar("T")
R = TypeVar("R")


#: What gives a task's result, told how many tasks share the machine.
Work = Callable[[T, int], R]


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """What came of a task: its result, or the error that it ended with."""

    task: T
    result: R | None = None
    error: Exception | None = None


class Engine(Protocol):
    """What runs tasks."""

    def run(
        self, work: Work[T, R], tasks: Iterable[T], *, light: bool = False
    ) -> Iterator[Outcome[T, R]]:
        """The outcome of each task, in the order in which they end; none is raised.

        Parameters
        ----------
        work : gives a task's result; told how many tasks share the machine
        tasks : each is asked for when there is a worker for it
        light : whether all of it is less than the start of a worker takes
        """
        ...

    def close(self) -> None:
        """End every worker, whatever it is at."""
        ...


class InProcess:
    """One task after another, here, with every core for each."""

    def run(
        self, work: Work[T, R], tasks: Iterable[T], *, light: bool = False
    ) -> Iterator[Outcome[T, R]]:
        """The outcome of each task, in order."""
        for task in tasks:
            yield outcome(work, task, 1)

    def close(self) -> None:
        """Nothing to end."""


@contextmanager
def opened(name: str = "local", scheduler: str | None = None) -> Iterator[Engine]:
    """The engine called ``name``; its workers end with the block.

    Parameters
    ----------
    name : one of ``ENGINES``
    scheduler : address of a Dask scheduler; by default a cluster of two workers on this machine

    Raises
    ------
    BadInput
        ``scheduler`` is given for another engine than Dask, is not there, or Dask is not.
    """
    if scheduler and name != "dask":
        raise BadInput(f"--scheduler {scheduler} is Dask's: say --engine dask too")
    engine: Engine
    if name == "dask":
        from etl.engines.dask import Dask

        engine = Dask(scheduler)
    elif cores() > 1:
        from etl.engines.pool import Pool

        engine = Pool(min(cores(), _MOST_WORKERS))
    else:
        engine = InProcess()
    try:
        yield engine
    finally:
        engine.close()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def outcome(work: Work[T, R], task: T, share: int) -> Outcome[T, R]:
    """Do the work of a task; an error is its outcome, in a shape that crosses processes."""
    try:
        return Outcome(task, work(task, share))
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # what an error holds is its own affair
            return Outcome(task, error=LakeError(f"{type(error).__name__}: {error}"))
        return Outcome(task, error=error)


def lost(tries: int) -> LakeError:
    """The error of a task that took ``tries`` workers with it."""
    return LakeError(f"its worker was lost {tries} times: out of memory, or killed")
