"""SQL on a lake's database: one query, what is piped in, or a session to type in."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import duckdb

from etl import show
from etl.errors import BadInput, beneath
from etl.reader import Reader

__all__ = ["history_file", "interact", "run"]

T = TypeVar("T")

_PROMPT, _MORE = "hydra> ", "   ...> "
_LEAVE = {"exit", "quit", ".exit", ".quit"}


def run(reader: Reader, text: str, file_format: str, limit: int | None) -> None:
    """Run the statements of ``text`` and print what each gives.

    Parameters
    ----------
    limit : rows that are printed of each result; ``None`` is all of them

    Raises
    ------
    BadInput
        A statement does not run; the line says why, with the nearest names where it can.
    """
    try:
        for statement in reader.connection.extract_statements(text):
            given = _stoppable(
                reader.connection, partial(_ask, reader.connection, statement, limit)
            )
            if given is None:
                continue
            columns, rows = given
            show.show(columns, rows[:limit], file_format)
            if limit is not None and len(rows) > limit:
                click.echo(f"the first {limit} rows: --limit shows more", err=True)
    except duckdb.Error as error:
        raise beneath(error) or BadInput(_reason(error)) from None


def interact(reader: Reader, file_format: str, limit: int | None) -> None:
    """Read statements from a person, each ended by a semicolon, until ``exit`` or Ctrl-D.

    Ctrl-C drops what is typed, or stops the statement that runs.
    """
    with suppress(ImportError):  # a Python without it has no history, and works
        import readline

        with suppress(OSError):
            readline.read_history_file(history_file())
        readline.set_history_length(2000)
    click.echo("SQL ended by a semicolon; Ctrl-D ends the session.", err=True)
    typed: list[str] = []
    while True:
        try:
            line = input(_MORE if typed else _PROMPT)
            if not typed and line.strip().rstrip(";").lower() in _LEAVE:
                break
            typed.append(line)
            if line.rstrip().endswith(";"):
                text, typed = "\n".join(typed), []
                run(reader, text, file_format, limit)
        except EOFError:
            click.echo(err=True)
            break
        except KeyboardInterrupt:
            typed = []
            click.echo(err=True)
        except BadInput as error:
            click.echo(f"hydra: {error}", err=True)
    if "readline" in sys.modules:
        with suppress(OSError):
            history_file().parent.mkdir(parents=True, exist_ok=True)
            sys.modules["readline"].write_history_file(history_file())


def _ask(
    connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement, limit: int | None
) -> tuple[list[str], list[tuple[Any, ...]]] | None:
    """The columns and rows of a statement, one row more than the limit if there are as many."""
    relation = connection.sql(statement)
    if relation is None:
        return None
    return relation.columns, (relation if limit is None else relation.limit(limit + 1)).fetchall()


def _stoppable(connection: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """Do the work in a thread of its own, since the engine hears Ctrl-C in some of its phases only.

    It is told to stop until it has: what begins a query forgets what it was told before.
    """
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        try:
            while not wait([done], timeout=0.1).done:
                pass  # a signal that another thread got is heard now
            return done.result()
        except KeyboardInterrupt:
            heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
            while not done.done():
                connection.interrupt()
                wait([done], timeout=0.05)
            signal.signal(signal.SIGINT, heard)
            raise


def history_file() -> Path:
    """Where what was typed is kept: in the user's folder of states (XDG)."""
    states = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(states) / "hydra" / "sql_history"


def _reason(error: duckdb.Error) -> str:
    """What the engine says, without its picture of the place."""
    said = str(error).split("\n\nLINE ")[0]
    return " ".join(said.split())
