"""Releases: a feature file that people build on is frozen, and what changes it is refused.

``sql/releases.toml`` holds, for each released file, the hash of its text and, at the derive
stage, of the ``mathlib`` modules that computed its rows.  ``verify`` compares; a draft is free.
The line ``superseded_until`` of a header is not hashed, since it is added when the next version
comes.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import mathlib
from etl import sqlfiles
from etl.errors import BadInput, Released
from etl.lake import write_whole

__all__ = ["outdated", "release", "verify"]

_RECORD = "releases.toml"
_UNHASHED = re.compile(r"^-- superseded_until: .*\n", re.MULTILINE)
_STATUS = re.compile(r"^-- status: .*$", re.MULTILINE)


def release(view: str, now: datetime) -> list[str]:
    """Freeze a feature file: its header says ``released`` and its hashes are recorded.

    Parameters
    ----------
    view : name of a feature file, ``surface_v1`` or ``features.surface_v1``
    now : aware datetime
        The run's instant, recorded with the hashes.

    Returns
    -------
    The drafts that the file reads: while they are, what it gives may still change.

    Raises
    ------
    BadInput
        There is no such file, it is released already, or ``sql`` is no checkout's.
    Released
        A released file, or the code behind one, has changed.
    """
    folder = sqlfiles.root()
    if folder.parent == Path(__file__).parent or not os.access(folder, os.W_OK):
        raise BadInput(
            f"{folder} is not the sql folder of a checkout that can be written to: "
            "release from a clone of the project, where the release can be committed"
        )
    name = view.removeprefix("features.")
    verify(but=name)
    files = {file.name: file for file in sqlfiles.features()}
    if name not in files:
        near = difflib.get_close_matches(name, files, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "hydra catalog lists them"
        raise BadInput(f"no feature file {name!r}: {hint}")
    records = _records()
    if name in records:
        raise BadInput(f"{name} was released on {_day(records[name])}")
    file = files[name]
    text = file.path.read_text(encoding="utf-8")
    write_whole(file.path, _STATUS.sub("-- status: released", text, count=1))
    sqlfiles.features.cache_clear()
    record = {"released_at": now, "sql_sha256": _sql_hash(file.path)}
    if file.stage == "derive":
        record["mathlib_sha256"] = _mathlib_hash()
    _write({**records, name: record})
    drafts = (files[s.removeprefix("features.")] for s in file.sources if s.startswith("features."))
    return [source.name for source in drafts if source.status == "draft"]


def verify(but: str | None = None) -> None:
    """Compare every released file, and the code behind it, with what was recorded.

    Parameters
    ----------
    but : a file that is about to be released, whose header may say so before the record does

    Raises
    ------
    Released
        Something differs; one line for all of it, with what to do.
    """
    files = {file.name: file for file in sqlfiles.features()}
    records = _records()
    wrong = []
    for name, record in records.items():
        if name not in files:
            wrong.append(
                f"{name} was released on {_day(record)} and its file is gone: put it back, or "
                f"take its table out of sql/{_RECORD} too"
            )
        elif _sql_hash(files[name].path) != record["sql_sha256"]:
            wrong.append(
                f"sql/features/{name}.sql was released on {_day(record)} and has changed since: "
                f"take the change back and add {_next(files[name])}.sql"
            )
    code = _mathlib_hash()
    behind = [n for n, r in records.items() if n in files and r.get("mathlib_sha256", code) != code]
    if behind:
        following = ", ".join(f"{_next(files[name])}.sql" for name in behind)
        wrong.append(
            f"mathlib has changed behind the released {', '.join(behind)}: take the change back, "
            f"or add {following} and retire what is replaced with its table in sql/{_RECORD}"
        )
    wrong += [
        f"{file.path}: the header says released, but no release is recorded: run "
        f"hydra release {file.name}, or say draft"
        for file in files.values()
        if file.status == "released" and file.name not in records and file.name != but
    ]
    if wrong:
        raise Released("; ".join(wrong))


def outdated(today: date) -> list[str]:
    """A line for each version that was to stay until a day before ``today``."""
    newest: dict[str, sqlfiles.SqlFile] = {}
    for file in sorted(sqlfiles.features(), key=lambda file: file.version):
        newest[file.base] = file
    return [
        f"{file.name} was to stay until {file.superseded_until}: read {newest[file.base].name}"
        for file in sqlfiles.features()
        if file.superseded_until and file.superseded_until < today
    ]


def _next(file: sqlfiles.SqlFile) -> str:
    """The first version of a name that is not there yet."""
    taken = [other.version for other in sqlfiles.features() if other.base == file.base]
    return f"{file.base}_v{max(taken) + 1}"


def _sql_hash(path: Path) -> str:
    text = _UNHASHED.sub("", path.read_text(encoding="utf-8"))
    return hashlib.sha256(text.encode()).hexdigest()


def _mathlib_hash() -> str:
    digest = hashlib.sha256()
    for path in _mathlib_files():
        text = path.read_text(encoding="utf-8")
        digest.update(path.name.encode() + b"\0" + text.encode() + b"\0")
    return digest.hexdigest()


def _mathlib_files() -> Iterable[Path]:
    return sorted(Path(mathlib.__file__).parent.glob("*.py"))


def _records() -> dict[str, dict[str, Any]]:
    try:
        return tomllib.loads(sqlfiles.text(_RECORD))
    except (OSError, tomllib.TOMLDecodeError) as error:
        path = sqlfiles.root() / _RECORD
        raise Released(f"{path}: cannot be read ({error}): take it back from git") from None


def _day(record: Mapping[str, Any]) -> date:
    at: datetime = record["released_at"]
    return at.date()


def _write(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the record anew under the comment that it begins with."""
    lines = [line for line in sqlfiles.text(_RECORD).splitlines() if line.startswith("#")]
    for name, record in sorted(records.items()):
        lines += ["", f"[{name}]"]
        for key, value in record.items():
            shown = f'"{value}"' if isinstance(value, str) else f"{value:%Y-%m-%dT%H:%M:%SZ}"
            lines.append(f"{key} = {shown}")
    write_whole(sqlfiles.root() / _RECORD, "\n".join(lines) + "\n")
