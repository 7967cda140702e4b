"""What a person sees of a long or costly job: its plan as a table, and how far it has got.

On a terminal both are drawn by rich; elsewhere they are plain lines.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType

from rich import progress
from rich.console import Console
from rich.table import Table

__all__ = ["Progress", "table"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, stderr: bool) -> None:
    """Print rows under a header; the last column is a figure."""
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if console.is_terminal:
        drawn = Table()
        for name in header:
            drawn.add_column(name, justify="right" if name == header[-1] else "left")
        for row in rows:
            drawn.add_row(*row)
        console.print(drawn)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        *texts, figure = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print("  ".join([*texts, figure.strip().rjust(widths[-1])]), markup=False)


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
