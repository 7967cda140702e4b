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

__all__ = ["COLUMNS", "describe", "markdown", "overview", "rows"]

#: What ``rows`` says of each column of a view and each feature.
COLUMNS = ("name", "type", "meaning", "time", "sources", "max_age")

_WIDTH = 100
_ABOUT = """\
# Catalog

What `hydra.duckdb` holds under `features`: made by `hydra catalog --markdown` from the headers of
`sql/features` and from `sql/build/feature_list.sql`. A view without its version, such as
`features.surface`, is the newest one. A `draft` may still change; a `released` version never does.
"""


def overview() -> str:
    """A line for each view: its name and its sentence."""
    files = _ordered()
    width = max(len(file.name) for file in files)
    return "\n".join(_wrapped(f"{file.name:{width}}  ", file.sentence) for file in files)


def describe(name: str) -> str:
    """What one view, column or feature is, for a terminal.

    Parameters
    ----------
    name : ``surface_v1`` or ``surface``, which is the newest version, with or without
        ``features.``; a column, ``surface_v1.atm_iv``; or a feature, ``opt_atm_iv_30d``

    Raises
    ------
    BadInput
        There is no such name; the nearest ones are offered.
    """
    for feature, about, unit, age in _features():
        if feature == name:
            facts = [("unit", unit), ("max age", age)]
            return "\n".join([feature, _wrapped("", about), "", *_said(facts)])
    file, column = _find(name)
    if column is not None:
        about = _wrapped("", column.comment)
        facts = [("type", column.type), *_facts(file)]
        return "\n".join([f"features.{file.name}.{column.name}", about, "", *_said(facts)])
    lines = [f"features.{file.name}", _wrapped("", file.sentence), ""]
    lines += _said(_facts(file))
    lines.append("")
    width = max(len(column.name) for column in file.columns)
    for column in file.columns:
        lines.append(_wrapped(f"{column.name:{width}}  {column.type}  ", column.comment, width + 2))
    return "\n".join(lines)


def rows(name: str | None = None) -> list[tuple[str, ...]]:
    """For programs: every column of a view, one column or one feature; without a name, all.

    Returns
    -------
    list of tuples
        As ``COLUMNS`` names their values.

    Raises
    ------
    BadInput
        There is no such name; the nearest ones are offered.
    """
    features: list[tuple[str, ...]] = [
        (feature, "DOUBLE", f"{about}, {unit}", "see long_v1", "features.long_v1", age)
        for feature, about, unit, age in _features()
    ]
    if name is None:
        return [*(row for file in _ordered() for row in _column_rows(file)), *features]
    if alone := [row for row in features if row[0] == name]:
        return alone
    file, column = _find(name)
    held = _column_rows(file)
    return held if column is None else [held[file.columns.index(column)]]


def _column_rows(file: sqlfiles.SqlFile) -> list[tuple[str, ...]]:
    facts = tuple(" ".join(file.fields[key].split()) for key in ("time", "sources", "max_age"))
    return [
        (f"{file.name}.{column.name}", column.type, " ".join(column.comment.split()), *facts)
        for column in file.columns
    ]


def _ordered() -> list[sqlfiles.SqlFile]:
    return sorted(sqlfiles.features(), key=_place)


def markdown() -> str:
    """The whole catalog in Markdown."""
    files = _ordered()
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
    facts = [
        ("grain", file.fields["grain"]),
        ("time", file.fields["time"]),
        ("sources", file.fields["sources"]),
        ("max age", file.fields["max_age"]),
        ("version", status),
    ]
    if look_back := file.fields.get("look_back"):
        facts.insert(3, ("look back", look_back))
    return facts


def _said(facts: Iterable[tuple[str, str]]) -> list[str]:
    return [_wrapped(f"{label:10}", value) for label, value in facts]


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


def _find(name: str) -> tuple[sqlfiles.SqlFile, sqlfiles.Column | None]:
    """The file of a view, and of its column where one is named."""
    view, dot, column = name.removeprefix("features.").partition(".")
    file = _view(view)
    if not dot:
        return file, None
    known = {held.name: held for held in file.columns}
    if column not in known:
        hint = _hint(column, known, f"hydra catalog {file.name} lists them")
        raise BadInput(f"no column {column!r} in {file.name}: {hint}")
    return file, known[column]


def _view(name: str) -> sqlfiles.SqlFile:
    ordered = sorted(sqlfiles.features(), key=lambda file: file.version)
    known = {file.base: file for file in ordered} | {file.name: file for file in ordered}
    if name not in known:
        names = [*known, *(feature for feature, *_ in _features())]
        raise BadInput(f"no view {name!r}: {_hint(name, names, 'hydra catalog lists them')}")
    return known[name]


def _hint(name: str, known: Iterable[str], otherwise: str) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else otherwise


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
