"""The Frictionless descriptor that lies beside exported files and says what is in them.

Data Package, https://specs.frictionlessdata.io: one ``datapackage.json`` a folder, one resource
a file.  Properties of our own (``rows``, ``known_at``, ``view``, …) stand beside the standard's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etl.errors import BadInput
from etl.lake import write_whole

NAME = "datapackage.json"

#: DuckDB's types as the standard names them; what is not here is text.
_TYPES: Mapping[str, str] = {
    "BIGINT": "integer",
    "INTEGER": "integer",
    "HUGEINT": "integer",
    "DOUBLE": "number",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP WITH TIME ZONE": "datetime",
}

_MEDIA: Mapping[str, str] = {
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


@dataclass(frozen=True)
class Column:
    """A column of an export."""

    name: str
    type: str  # DuckDB's
    comment: str | None
    unit: str | None

    def field(self) -> dict[str, str]:
        """The column as the standard's field descriptor."""
        kind = "array" if self.type.endswith("[]") else _TYPES.get(self.type, "string")
        given = {"name": self.name, "type": kind, "description": self.comment, "unit": self.unit}
        return {key: text for key, text in given.items() if text}


@dataclass(frozen=True)
class Content:
    """What was exported: the same for every format."""

    name: str  # the view's, or the query file's
    about: Mapping[str, str]  # the view's version and hash, or the query's text
    origin: str  # "sample" or "vendor"
    known_at: datetime  # nothing that became known later is in it
    columns: Sequence[Column]

    def describe(self) -> dict[str, Any]:
        """All of it but the files."""
        synthetic = {"title": "SAMPLE DATA: synthetic, of no real market"}
        return {
            **(synthetic if self.origin == "sample" else {}),
            "origin": self.origin,
            "known_at": self.known_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            **self.about,
            "schema": {"fields": [column.field() for column in self.columns]},
        }


def describe(content: Content, target: Path, file_format: str, rows: int) -> None:
    """Enter an exported file, or a folder of them, in the descriptor beside it.

    Raises
    ------
    BadInput
        There is a ``datapackage.json`` already that is not one.
    LakeError
        It cannot be written.
    """
    place = target.parent / NAME
    resources = {resource["path_of"]: resource for resource in _resources(place)}
    resources[target.name] = _resource(content, target, file_format, rows)
    package = {
        "profile": "data-package",
        "name": "hydra-lake-export",
        "resources": [resources[name] for name in sorted(resources)],
    }
    write_whole(place, json.dumps(package, indent=1, ensure_ascii=False) + "\n")


def _resources(place: Path) -> list[dict[str, Any]]:
    """What the descriptor says of the other files that are still there."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))["resources"]
        return [old for old in found if (place.parent / str(old["path_of"])).exists()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise BadInput(
            f"{place}: is no descriptor of exports; move it, or export to another folder"
        ) from None


def _resource(content: Content, target: Path, file_format: str, rows: int) -> dict[str, Any]:
    files = [target] if target.is_file() else sorted(p for p in target.rglob("*") if p.is_file())
    named = [str(path.relative_to(target.parent)) for path in files]
    hashes = [_sha256(path) for path in files]
    if target.is_file():
        whole: dict[str, Any] = {"path": named[0], "hash": hashes[0]}
    else:
        whole = {"path": named, "hashes": dict(zip(named, hashes, strict=True))}
    return {
        "name": re.sub(r"[^a-z0-9._-]+", "-", target.name.lower()),
        "path_of": target.name,
        **whole,
        "bytes": sum(path.stat().st_size for path in files),
        "rows": rows,
        "format": file_format,
        "mediatype": _MEDIA[file_format],
        **({"encoding": "utf-8"} if file_format == "csv" else {}),
        **content.describe(),
    }


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
