"""The catalog: what every view and feature is, from the headers of the SQL files.

``docs/catalog.md`` is its Markdown form, kept equal by a test::

    hydra catalog --markdown > docs/catalog.md
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Sequence

from etl import engine, sqlfiles
from etl.errors import BadInput

__all__ = ["describe", "markdown", "overview"]

_WIDTH = 100
_ABOUT = """\
# Catalog

What `hydra.duckdb` holds under `features`: made by `hydra catalog --markdown` from the headers of
`sql/features` and from `sql/build/feature_list.sql`. A view without its version, such as
`features.surface`, is the newest one. A `draft` may still change; a `released` version never does.
"""


def overview() -> str:
    """A line for each view: its name and its sentence."""
    files = sorted(sqlfiles.features(), key=_place)
    width = max(len(file.name) for file in files)
    return "\n".join(_wrapped(f"{file.name:{width}}  ", file.sentence) for file in files)


def describe(view: str) -> str:
    """What one view is, for a terminal.

    Parameters
    ----------
    view : ``surface_v1`` or ``surface``, which is the newest version, with or without ``features.``

    Raises
    ------
    BadInput
        There is no such view; the nearest names are offered.
    """
    file = _find(view)
    lines = [f"features.{file.name}", _wrapped("", file.sentence), ""]
    lines += [_wrapped(f"{label:10}", value) for label, value in _facts(file)]
    lines.append("")
    width = max(len(column.name) for column in file.columns)
    for column in file.columns:
        lines.append(_wrapped(f"{column.name:{width}}  {column.type}  ", column.comment, width + 2))
    return "\n".join(lines)


def markdown() -> str:
    """The whole catalog in Markdown."""
    files = sorted(sqlfiles.features(), key=_place)
    parts = [_ABOUT]
    parts.append(
        _table(
            ("view", "a row is", "status"),
            ((f"[{file.name}](#{file.name})", file.sentence, file.status) for file in files),
        )
    )
    for file in files:
        parts.append(f"## {file.name}\n\n{file.sentence}\n")
        facts = (f"- **{label}**: {_escaped(value)}" for label, value in _facts(file))
        parts.append("\n".join(facts) + "\n")
        columns = ((c.name, c.type, c.comment) for c in file.columns)
        parts.append(_table(("column", "type", "meaning"), columns))
    parts.append(
        "## Features\n\nWhat `features_at` and `daily_at` answer, and `features.daily_v1` has as "
        "columns: `meta.features`.\n"
    )
    parts.append(_table(("feature", "meaning", "unit", "max age"), _features()))
    return "\n".join(parts)


def _facts(file: sqlfiles.SqlFile) -> list[tuple[str, str]]:
    status = f"version {file.version}, {file.status}, made by {file.stage}"
    if file.superseded_until:
        status += f", superseded: stays until {file.superseded_until}"
    return [
        ("grain", file.fields["grain"]),
        ("time", file.fields["time"]),
        ("sources", file.fields["sources"]),
        ("max age", file.fields["max_age"]),
        ("version", status),
    ]


def _features() -> list[tuple[str, str, str, str]]:
    connection = engine.connect()
    try:
        text = sqlfiles.text("build/feature_list.sql")
        rows = connection.sql(
            "select feature_name, description, unit, max_age, clock "
            f"from ({text}) order by feature_number"
        ).fetchall()
    finally:
        connection.close()
    return [(name, about, unit, f"{age} {clock}") for name, about, unit, age, clock in rows]


def _find(view: str) -> sqlfiles.SqlFile:
    name = view.removeprefix("features.")
    ordered = sorted(sqlfiles.features(), key=lambda file: file.version)
    known = {file.base: file for file in ordered} | {file.name: file for file in ordered}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "hydra catalog lists them"
        raise BadInput(f"no view {view!r}: {hint}")
    return known[name]


def _place(file: sqlfiles.SqlFile) -> tuple[str, int]:
    return file.base, file.version


def _wrapped(label: str, text: str, indent: int | None = None) -> str:
    rest = " " * (len(label) if indent is None else indent)
    text = " ".join(text.split())
    return textwrap.fill(
        text, _WIDTH, initial_indent=label, subsequent_indent=rest, break_on_hyphens=False
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _escaped(text: str) -> str:
    """``text`` with what Markdown would take for a table's bar, emphasis or a tag escaped."""
    return re.sub(r"[\\|*<]", r"\\\g<0>", text)
