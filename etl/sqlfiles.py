"""The SQL files: where they are, what their headers say, and the order they run in.

A feature file is one SELECT under a header that this module reads::

    -- One sentence that says what a row is.
    --
    -- name: surface_v1
    -- status: draft
    -- stage: derive
    -- grain: market, session_date, series, expiry, price_source, as_of
    -- time: as_of is the cut-off; available_at the latest among the row's inputs
    -- sources: features.chain_v1
    -- max_age: 1 session
    --
    -- columns:
    --   market VARCHAR: market code
    --   …

``stage`` is ``derive`` (runs per market-session with the mathlib functions, stored as
Parquet) or ``build`` (plain SQL over what is derived, run while the database is made).
``look_back`` of a build-stage file says that rows known from an instant on follow from rows of its
sources that are at most so old then: ``100 days``, or ``60 days, all of features.cot_v1``.  Only
the new rows are computed in a build; a file without it is made whole.
``status`` is ``draft``, or ``released`` once ``etl.release`` has frozen the file.  A version
that a newer one replaces may say ``superseded_until: YYYY-MM-DD``: it stays until then.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from itertools import takewhile
from pathlib import Path

from etl.errors import LakeError

STAGES = ("derive", "build")
STATUSES = ("draft", "released")
_FIELDS = ("name", "status", "stage", "grain", "time", "sources", "max_age")
_OPTIONAL = ("superseded_until", "look_back")
_CHECK_FIELDS = ("severity: ", "look_back: ")
_COLUMN = re.compile(
    r"^  (?P<name>[a-z0-9_]+|\*) (?P<type>[A-Z][A-Z0-9 \[\]]*): (?P<comment>\S.*)$"
)


@dataclass(frozen=True)
class Column:
    """An output column: its SQL type and what it means, units included."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class LookBack:
    """How far back the sources of new rows are read."""

    days: int
    whole: tuple[str, ...]  # the sources that are read whole


@dataclass(frozen=True)
class SqlFile:
    """A feature's SELECT with what its header says."""

    path: Path
    sentence: str
    fields: Mapping[str, str]
    columns: tuple[Column, ...]
    body: str

    @property
    def name(self) -> str:
        return self.fields["name"]

    @property
    def base(self) -> str:
        """The name without its version: ``surface`` of ``surface_v1``."""
        return self.name.rsplit("_v", 1)[0]

    @property
    def version(self) -> int:
        return int(self.name.rsplit("_v", 1)[1])

    @property
    def stage(self) -> str:
        return self.fields["stage"]

    @property
    def grain(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.fields["grain"].split(","))

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.fields["sources"].split(","))

    @property
    def status(self) -> str:
        return self.fields["status"]

    @property
    def superseded_until(self) -> date | None:
        """The last day on which a replaced version is promised to be there."""
        day = self.fields.get("superseded_until")
        return date.fromisoformat(day) if day else None

    @property
    def look_back(self) -> LookBack | None:
        """How far back new rows look; ``None`` where the file is made whole."""
        found = re.fullmatch(r"(\d+) days(?:, all of (.+))?", self.fields.get("look_back", ""))
        return (
            LookBack(int(found[1]), tuple(filter(None, (found[2] or "").split(", "))))
            if found
            else None
        )

    @property
    def known_at(self) -> str:
        """From when on a row is known, in SQL."""
        return "known_at" if "known_at" in self.grain else "greatest(as_of, available_at)"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def root() -> Path:
    """The folder ``sql``: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "sql"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "sql"


def text(name: str) -> str:
    """The text of one SQL file, named by its path under ``sql``."""
    return (root() / name).read_text(encoding="utf-8")


def parse(path: Path) -> SqlFile:
    """Read a feature file.

    Raises
    ------
    LakeError
        The header lacks a field, or a line of it cannot be read.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    header = []
    for line in lines:
        if not line.startswith("--"):
            break
        header.append(line.removeprefix("--").removeprefix(" ").rstrip())
    body = "\n".join(lines[len(header) :]).strip()
    if "columns:" not in header:
        raise LakeError(f"{path}: the header has no line '-- columns:'")
    split = header.index("columns:")
    sentence: list[str] = []
    fields: dict[str, str] = {}
    for line in header[:split]:
        key, colon, value = line.partition(": ")
        if colon and key in _FIELDS + _OPTIONAL:
            fields[key] = value.strip()
        elif fields and line:  # a field goes on in the next line
            fields[next(reversed(fields))] += " " + line.strip()
        elif line:
            sentence.append(line)
    columns = []
    for line in header[split + 1 :]:
        found = _COLUMN.match(line)
        if found:
            columns.append(Column(**found.groupdict()))
        elif line.startswith("    ") and columns:
            last = columns.pop()
            columns.append(Column(last.name, last.type, f"{last.comment} {line.strip()}"))
        elif line:
            raise LakeError(f"{path}: cannot read the header's column line '{line}'")
    missing = [key for key in _FIELDS if key not in fields]
    if missing or not sentence or not columns:
        raise LakeError(f"{path}: the header lacks {', '.join(missing) or 'a sentence or columns'}")
    if fields["stage"] not in STAGES or fields["status"] not in STATUSES:
        raise LakeError(f"{path}: stage is one of {STAGES}, status one of {STATUSES}")
    if fields["name"] != path.stem or not re.fullmatch(r"[a-z_]+_v\d+", path.stem):
        raise LakeError(f"{path}: the header's name is '{fields['name']}', not the file's")
    file = SqlFile(path, " ".join(sentence), fields, tuple(columns), body)
    try:
        _ = file.superseded_until
    except ValueError:
        day = fields["superseded_until"]
        raise LakeError(f"{path}: superseded_until is a date, YYYY-MM-DD, not '{day}'") from None
    if "look_back" in fields and file.look_back is None:
        given = fields["look_back"]
        raise LakeError(f"{path}: look_back is such as '60 days, all of features.x', not '{given}'")
    return file


@lru_cache
def features() -> tuple[SqlFile, ...]:
    """Every feature file, each after the ones that it reads."""
    files = {f"features.{f.name}": f for f in map(parse, sorted(root().glob("features/*.sql")))}
    graph = {key: [s for s in file.sources if s in files] for key, file in sorted(files.items())}
    try:
        order = TopologicalSorter(graph).static_order()
        return tuple(files[key] for key in order)
    except CycleError as error:
        raise LakeError(f"the SQL files read each other in a circle: {error.args[1]}") from error


def stage(name: str) -> tuple[SqlFile, ...]:
    """The feature files of one stage, in the order they run."""
    return tuple(file for file in features() if file.stage == name)


@dataclass(frozen=True)
class Check:
    """A SELECT of what is wrong: market, session_date, subject and reason of each row."""

    name: str
    sentence: str
    severity: str
    look_back: int | None  # days before a session from which it is judged; None is all of them
    body: str


def checks() -> tuple[Check, ...]:
    """Every check under ``quality/``, by name."""
    found = []
    for path in sorted(root().glob("quality/*.sql")):
        lines = path.read_text(encoding="utf-8").splitlines()
        header = [line.removeprefix("--").strip() for line in takewhile(_is_comment, lines)]
        severity = _stated(header, "severity: ")
        if severity not in (["error"], ["warning"]):
            raise LakeError(f"{path}: the header needs one line '-- severity: error' or 'warning'")
        look_back = [
            re.fullmatch(r"all|(\d+) days", days) for days in _stated(header, "look_back: ")
        ]
        if len(look_back) != 1 or look_back[0] is None:
            raise LakeError(f"{path}: the header needs one line '-- look_back: 30 days' or 'all'")
        days = look_back[0][1]
        sentence = " ".join(line for line in header if line and not line.startswith(_CHECK_FIELDS))
        body = "\n".join(lines[len(header) :]).strip()
        look_back_days = int(days) if days else None
        found.append(Check(path.stem, sentence, severity[0], look_back_days, body))
    return tuple(found)


def _stated(header: Iterable[str], field: str) -> list[str]:
    return [line.removeprefix(field) for line in header if line.startswith(field)]


def _is_comment(line: str) -> bool:
    return line.startswith("--")


def code_hash(extra: Iterable[Path] = ()) -> str:
    """One hash of all derive-stage SQL and of ``extra`` files: when it changes, derive anew."""
    digest = hashlib.sha256()
    paths = [*(f.path for f in stage("derive")), *sorted(root().glob("derive/*.sql")), *extra]
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
