"""Rows for a person or a program: a table, JSON or CSV.

A table is drawn by rich on a terminal, which honours ``NO_COLOR``, and is plain text elsewhere.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import click

from etl.errors import printable

__all__ = ["FORMATS", "show", "size"]

FORMATS = ("table", "json", "csv")

_UNITS = ("B", "kB", "MB", "GB", "TB")


def show(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    file_format: str = "table",
    *,
    stderr: bool = False,
) -> None:
    """Print rows, to standard error if asked.

    Parameters
    ----------
    columns : the names of the values of each row
    rows : numbers, texts, dates, aware instants, lists and dicts; ``None`` is no value
    file_format : one of ``FORMATS``; JSON is a list of objects, and it and CSV have every digit
    """
    if file_format == "json":
        objects = [dict(zip(columns, map(_plain, row), strict=True)) for row in rows]
        click.echo(json.dumps(objects, indent=1, ensure_ascii=False), err=stderr)
    elif file_format == "csv":
        sheet = io.StringIO()
        writer = csv.writer(sheet, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_field(value) for value in row] for row in rows)
        click.echo(sheet.getvalue(), nl=False, err=stderr)
    else:
        held = [list(row) for row in rows]
        right = [any(_is_number(row[i]) for row in held) for i in range(len(columns))]
        texts = [[_cell(value) for value in row] for row in held]
        on_terminal = (sys.stderr if stderr else sys.stdout).isatty()
        (_draw if on_terminal else _align)(columns, texts, right, stderr)


def size(count: int) -> str:
    """A number of bytes for a person: ``1.2 GB``."""
    value, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.3g} {unit}"


def _draw(
    columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[bool], stderr: bool
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, is_number in zip(columns, right, strict=True):
        table.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for row in texts:
        table.add_row(*map(Text, row))
    Console(stderr=stderr).print(table)


def _align(
    columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[bool], stderr: bool
) -> None:
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for row in (columns, *texts):
        cells = zip(row, widths, right, strict=True)
        line = "  ".join(cell.rjust(n) if number else cell.ljust(n) for cell, n, number in cells)
        click.echo(line.rstrip(), err=stderr)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    """A value in a table, on one line."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return _iso(value).replace("T", " ")
    return printable(" ".join(_field(value).split()))


def _field(value: Any) -> str:
    """A value in CSV."""
    if value is None:
        return ""
    plain = _plain(value)
    if isinstance(plain, list | dict | bool):
        return json.dumps(plain, ensure_ascii=False)
    return repr(value) if isinstance(value, float) else str(plain)


def _plain(value: Any) -> Any:
    """A value as JSON has it; a number that is not finite is none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return _iso(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _iso(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
