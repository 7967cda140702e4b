"""The manifest of a lake in an object store: which object holds which of its files.

An object is written once and its key never used again.  It lies under the file's own path, with
hash and run before the suffix, so that ``raw`` stays hive-partitioned Parquet for any tool::

    manifest.json
    raw/dataset=…/market=…/year=…/month=…/<batch>-<n>.<hash>-<run>.parquet
    hydra.<hash>-<run>.duckdb

What the manifest names is the lake, and a conditional put of it is the commit.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from uuid import uuid4

from etl import records
from etl.errors import LakeError
from etl.lake import fingerprint
from etl.objects import Store, each

__all__ = [
    *("KEY", "Entry", "Manifest", "fetch", "hollow", "hollow_mark", "is_hollow", "is_sealed"),
    *("key_of", "mark", "path_of", "put", "seal"),
]

KEY = "manifest.json"
FORMAT = 1

#: The most that a mark is, and how much later the time of a hollow file is: in 1974 to 1976.
_MOST, _HOLLOW = 2**56, 2**57


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the lake, and the object that holds it."""

    key: str
    bytes: int
    sha256: str
    made: int = 0  # when it was written, in nanoseconds since 1970


@dataclass(frozen=True)
class Manifest:
    """All files of a lake at one generation."""

    generation: int = 0  # 0 while the store holds no lake
    run: str = ""  # which run committed it
    by: str = ""  # process, host and instant, for a person
    files: Mapping[str, Entry] = field(default_factory=dict)  # path below the lake → its object
    gone: Mapping[str, str] = field(default_factory=dict)  # key that was dropped → when

    def text(self) -> str:
        """The JSON that is stored; equal manifests have the same."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=0, sort_keys=True) + "\n"

    @classmethod
    def parse(cls, text: bytes, where: object) -> Manifest:
        """Read one.

        Raises
        ------
        LakeError
            It is none, or speaks of files outside of the lake.
        """
        record = records.parse(text, records.MANIFEST, f"{where}/{KEY}")
        files = {path: Entry(**about) for path, about in record["files"].items()}
        if record["format"] != FORMAT or not all(map(_is_inside, files)):
            raise LakeError(
                f"{where}/{KEY} is not of a lake that this version reads: upgrade hydra-lake, or "
                "see to what wrote it"
            )
        known = {name: record[name] for name in ("generation", "run", "by", "gone")}
        return cls(**known, files=files)


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts


def key_of(path: str, sha256: str, run: str) -> str:
    """The key of a file's object."""
    place = PurePosixPath(path)
    return str(place.with_name(f"{place.stem}.{sha256[:16]}-{run}{place.suffix}"))


def path_of(key: str) -> str:
    """The path of the file that an object holds."""
    return re.sub(r"\.[0-9a-f]{16}-[0-9a-f]{8}(?=\.[^./]*$|$)", "", key)


def put(
    store: Store,
    run: str,
    files: Mapping[str, Path],
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Entry]:
    """Put files into the store, several at a time; nothing refers to their objects yet.

    Parameters
    ----------
    run : the token of the run, which no other run has: the same file put twice is one object
    files : path below the lake → where its content lies
    progress : called with the number of files that are there

    Returns
    -------
    dict
        Path below the lake → what a manifest says of it.
    """
    made: dict[str, Entry] = {}

    def one(item: tuple[str, Path]) -> None:
        path, place = item
        about = fingerprint(place)
        made_at = place.stat().st_mtime_ns
        entry = Entry(key_of(path, about["sha256"], run), **about, made=made_at)
        store.upload(place, entry.key)
        made[path] = entry

    each(one, files.items(), progress)
    return made


def fetch(
    store: Store,
    entries: Mapping[Path, Entry],
    parts: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Bring objects into the places of their files, each whole or not at all, several at a time.

    Parameters
    ----------
    entries : place → what the manifest says of its file
    parts : folder on the same file system, for what has not come whole
    progress : called with the number of files that are there

    Raises
    ------
    LakeError
        An object is gone or is not what was put there, or a file cannot be written.
    """

    def one(item: tuple[Path, Entry]) -> None:
        place, entry = item
        part = parts / uuid4().hex
        try:
            parts.mkdir(parents=True, exist_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not (_bring(store, entry, part) or _bring(store, entry, part)):  # cut on its way
                raise LakeError(
                    f"{store.address}/{entry.key} is gone or has changed since it was put there: "
                    "bring it back from a version or a copy of the bucket"
                )
            seal(part, entry)
            os.replace(part, place)
        except OSError as error:
            raise LakeError(f"cannot write {place}: {error.strerror or error}") from error
        finally:
            part.unlink(missing_ok=True)

    each(one, entries.items(), progress)


def _bring(store: Store, entry: Entry, part: Path) -> bool:
    try:
        return store.download(entry.key, part) == entry.sha256
    except FileNotFoundError:
        return False


def mark(entry: Entry) -> int:
    """A number of an entry's content: nanoseconds since 1970, up to 2.3 years of them."""
    return 1 + int(entry.sha256[:14], 16)


def seal(place: Path, entry: Entry) -> None:
    """Mark a file as the one that an entry speaks of: by its time, which no other file has."""
    _set_time(place, mark(entry))


def is_sealed(place: Path, entry: Entry) -> bool:
    """Whether a file is as ``seal`` left it; one that was written since has another time."""
    try:
        return place.stat().st_mtime_ns == mark(entry)
    except FileNotFoundError:
        return False


def hollow(place: Path, entry: Entry) -> None:
    """Stand in for a file that is not fetched: its name and size are there, no byte of it is.

    Its time says which it is, so that it may be moved.
    """
    if hollow_mark(place) == mark(entry):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    with open(place, "wb") as file:
        file.truncate(entry.bytes)
    _set_time(place, _HOLLOW + mark(entry))


def hollow_mark(place: Path) -> int | None:
    """The mark of the file that a hollow one stands in for; ``None`` of any other file."""
    try:
        number = place.stat().st_mtime_ns - _HOLLOW
    except FileNotFoundError:
        return None
    return number if 0 < number <= _MOST else None


def _set_time(place: Path, nanoseconds: int) -> None:
    os.utime(place, ns=(0, nanoseconds))
    if place.stat().st_mtime_ns != nanoseconds:
        raise LakeError(
            f"the file system of {place} keeps no time to the nanosecond, by which brought files "
            "are told: name a cache folder on another one with XDG_CACHE_HOME"
        )


def is_hollow(place: Path) -> bool:
    """Whether ``hollow`` made a file."""
    return hollow_mark(place) is not None
