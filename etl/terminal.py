"""What a person sees of a long job: how far it has got.

On a terminal rich draws it; elsewhere a job says it in plain lines.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType

from rich import progress
from rich.console import Console

__all__ = ["Progress", "working"]


@contextmanager
def working(line: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Say on a terminal what a job is at and for how long, while it works; nothing elsewhere.

    Parameters
    ----------
    line : what it is at first; the function that is given says what it comes to
    """
    console = Console(stderr=True, highlight=False, quiet=quiet)
    if quiet or not console.is_terminal:
        yield lambda line: None
        return
    with progress.Progress(
        progress.SpinnerColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    ) as shown:
        task = shown.add_task(line)
        yield lambda line: shown.update(task, description=line)


class Progress:
    """Steps that are done of a number of steps, and when the last one will be.

    A bar on a terminal, one line a step elsewhere, nothing when ``quiet``; all on stderr.
    """

    def __init__(self, steps: int, *, quiet: bool) -> None:
        self._steps = steps
        self._done = 0
        self._began = time.monotonic()
        console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        self._console = console
        self._bar = progress.Progress(
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(elapsed_when_finished=True),
            progress.TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def at(self, line: str) -> None:
        """Say what is being done."""
        self._bar.update(self._task, description=line)

    def step(self, line: str) -> None:
        """One step is done."""
        self._done += 1
        self._bar.advance(self._task)
        if self._console.is_terminal:
            self._console.print(line, markup=False)
            return
        left = (time.monotonic() - self._began) / self._done * (self._steps - self._done)
        eta = timedelta(seconds=round(left))
        self._console.print(f"{self._done}/{self._steps} {line}; ETA {eta}", markup=False)
