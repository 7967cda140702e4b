"""Dask distributed: workers on this machine or on others that see the lake under the same path."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar

from etl.engines import TRIES, Outcome, Work, lost, outcome
from etl.errors import BadInput

__all__ = ["Dask"]

T = TypeVar("T")
R = TypeVar("R")

#: Workers of a cluster of its own, and seconds to wait for one of others.
_WORKERS, _PATIENCE = 2, 10


class Dask:
    """A client of the scheduler at ``address``, or of a cluster of its own.

    Raises
    ------
    BadInput
        Dask is not installed, or no scheduler answers.
    """

    def __init__(self, address: str | None = None) -> None:
        try:
            import dask
            import distributed
        except ImportError:
            raise BadInput(
                "--engine dask: install it with pip install 'hydra-lake[dask]'"
            ) from None
        self._distributed: Any = distributed
        # A worker that is lost over a task takes it to the next one, so many times.
        dask.config.set({"distributed.scheduler.allowed-failures": TRIES - 1})
        self._cluster: Any = None
        if address is None:
            self._cluster = distributed.LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=_WORKERS,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                memory_limit=0,  # DuckDB's own limit bounds it
                silence_logs=logging.CRITICAL,
                env={"POLARS_MAX_THREADS": "1"},
            )
        try:
            self._client: Any = distributed.Client(  # type: ignore[no-untyped-call]
                address or self._cluster, timeout=_PATIENCE, set_as_default=False
            )
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except (OSError, ValueError) as error:
            raise BadInput(
                f"--scheduler {address}: no Dask scheduler with a worker answers ({error}): "
                "start one with dask scheduler and dask worker, or leave --scheduler out"
            ) from None

    def run(
        self, work: Work[T, R], tasks: Iterable[T], *, light: bool = False
    ) -> Iterator[Outcome[T, R]]:
        """The outcome of each task, as they end."""
        # Handed out one a thread: a worker that is lost tells against its own task alone.
        coming, of = iter(tasks), {}
        running = self._distributed.as_completed(loop=self._client.loop)
        threads = self._threads()
        share = max(threads.values(), default=1)

        def hand_out(most: int) -> None:
            for task in islice(coming, most):
                future = self._client.submit(outcome, work, task, share, pure=False)
                of[future.key] = task
                running.add(future)

        hand_out(max(1, threads.total()))
        for future in running:
            task = of.pop(future.key)
            try:
                ended: Outcome[T, R] = future.result()
            except self._distributed.KilledWorker:
                ended = Outcome(task, error=lost(TRIES))
            except Exception as error:  # of a worker that has other packages than this process
                ended = Outcome(task, error=error)
            future.release()
            hand_out(1)
            yield ended

    def close(self) -> None:
        """Drop what is not done, and end the cluster if it is this one's."""
        with suppress(OSError, TimeoutError):
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def _threads(self) -> Counter[str]:
        """How many threads the workers of each machine have: so many tasks share it."""
        threads: Counter[str] = Counter()
        for about in self._client.scheduler_info(n_workers=-1)["workers"].values():
            threads[about["host"]] += about["nthreads"]
        return threads
