"""The lake's JSON records, and what each must be for this program to go by it.

A record that was damaged or edited is refused where it is read, in one line that says at which
key, and not by whatever fails first on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any

from etl.errors import LakeError, printable

__all__ = [
    "BATCH",
    "BUILT",
    "COMPACTION",
    "DATABASE",
    "DAYS",
    "MANIFEST",
    "MARKER",
    "MOVES",
    "OBJECTS",
    "REACH",
    "REASON",
    "STATE",
    "parse",
    "read",
]


class Damaged(LakeError):
    """A record is not what this program wrote."""


#: A function that says whether a value will do, a list of one shape for every item, or a
#: dict of key → shape, where the key ``"*"`` stands for every one.
Shape = Callable[[Any], bool] | list[Any] | dict[str, Any]

_MOST = 2**63

#: Neither a path nor a database takes NUL or half a character.
_UNFIT = re.compile("[\0\ud800-\udfff]")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and _UNFIT.search(value) is None


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _is_size(value: Any) -> bool:
    return value is None or _is_count(value)  # the first lakes' records have none


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_text, value))


def _is_instant(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _is_known_at(value: Any) -> bool:
    return value is None or _is_instant(value)  # the first lakes' records have none


def _is_amount(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value < _MOST)


def _is_span(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_instant, value))


def _are_spans(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_is_span, value))


def _is_date(value: Any) -> bool:
    try:
        return value is None or bool(date.fromisoformat(value))
    except (TypeError, ValueError):
        return False


def _is_day(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    condition, modified, seen_at = value
    return _is_text(condition) and _is_date(modified) and _is_instant(seen_at)


def _are_dates(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and None not in value and all(map(_is_date, value))
    )


def _are_windows(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_window, value.values())))


def _is_window(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    *instants, rows = value
    return all(map(_is_instant, instants)) and _is_count(rows)


_FILE = {"bytes": _is_size, "sha256": _is_text}
_COUNTED = {**_FILE, "rows": _is_count}

#: ``batches/<batch>.json``
BATCH: Shape = {
    **dict.fromkeys(("batch_id", "source", "description", "payload_sha256", "kind"), _is_text),
    "ingested_at": _is_instant,
    "rows": _is_count,
    "cost_usd": _is_amount,
    "layout": {"*": _is_text},
    "files": [
        {
            **_COUNTED,
            **dict.fromkeys(("path", "dataset", "market"), _is_text),
            **dict.fromkeys(("first_available_at", "last_available_at"), _is_known_at),
        }
    ],
}
#: ``compactions/<instant>.json``
COMPACTION: Shape = {
    "compacted_at": _is_instant,
    "files": [
        {
            **_COUNTED,
            **dict.fromkeys(("path", "dataset", "market"), _is_text),
            **dict.fromkeys(("first_available_at", "last_available_at"), _is_instant),
            "landed": [_is_text],
        }
    ],
}
#: ``derived/state/<market>.json``
STATE: Shape = {
    "code": _is_text,
    "known_at": _is_instant,
    "files": [_is_text],
    "spans": _are_windows,
    "failed": _are_dates,
    "tables": {"*": _COUNTED},
    "superseded": {"*": {**_COUNTED, "superseded_at": _is_instant}},
}
#: ``hydra.duckdb.json``
DATABASE: dict[str, Shape] = {**_FILE, "built_at": _is_instant, "rows": {"*": _is_count}}
#: The same, where it says what the database was built from; the first lakes' do not
BUILT: Shape = {
    **DATABASE,
    "inputs": {
        **dict.fromkeys(("code", "origin", "about"), _is_text),
        "markets": {
            "*": {
                **dict.fromkeys(("code", "derived"), _is_text),
                "known_at": _is_instant,
                "files": [_is_text],
                "failed": _are_dates,
            }
        },
    },
}
#: ``lake.json``
MARKER: Shape = {"format": _is_count, "origin": _is_text}
#: ``staging/<name>/moves.json``: pairs of places
MOVES: Shape = [_is_pair]
#: ``reach/<source>-<market>.json``
REACH: Shape = {"*": _are_spans}
#: ``reach/days-<dataset>.json``
DAYS: Shape = {"*": _is_day}
#: ``manifest.json`` of a lake in an object store
OBJECTS: Shape = {"*": {"key": _is_text, "bytes": _is_count, "sha256": _is_hash, "made": _is_count}}
MANIFEST: Shape = {
    **dict.fromkeys(("format", "generation"), _is_count),
    **dict.fromkeys(("run", "by"), _is_text),
    "files": OBJECTS,
    "gone": {"*": _is_instant},
}
#: ``set-aside/….json``
REASON: Shape = {"path": _is_text, "set_aside_at": _is_instant, "rows": _is_size}


def read(path: Path, shape: Shape) -> Any:
    """A record, which has at least what ``shape`` asks for.

    Raises
    ------
    Damaged
        It is none of that shape.
    LakeError
        It cannot be read.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise LakeError(f"cannot read {path}: {error.strerror}") from error
    return parse(text, shape, path)


def parse(text: bytes, shape: Shape, path: object) -> Any:
    """The record that lies at ``path``, which has at least what ``shape`` asks for.

    Raises
    ------
    Damaged
        It is none of that shape.
    """
    try:
        record = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is damaged ({error}): restore it from a backup") from error
    wrong = _wrong(record, shape)
    if wrong is not None:
        at = f"its {printable('.'.join(reversed(wrong)))} is" if wrong else "it holds"
        raise Damaged(f"{path} is damaged ({at} no record): restore it from a backup")
    return record


def _wrong(value: Any, shape: Shape) -> list[str] | None:
    """The way to the first value that will not do, from its end; ``None`` where all do."""
    parts: Iterable[tuple[Any, Any, Shape]]
    match shape:
        case dict():
            if not isinstance(value, dict):
                return []
            if (every := shape.get("*")) is not None:
                if not all(map(_is_text, value)):
                    return []
                parts = ((key, each, every) for key, each in value.items())
            else:
                parts = ((key, value.get(key), form) for key, form in shape.items())
        case list():
            if not isinstance(value, list):
                return []
            parts = ((place, each, shape[0]) for place, each in enumerate(value))
        case _:
            return None if shape(value) else []
    for key, each, form in parts:
        if (way := _wrong(each, form)) is not None:
            return [*way, str(key)]
    return None
