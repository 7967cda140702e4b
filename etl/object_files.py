"""How DuckDB reads a lake in an object store: by a file system of the addresses in its views.

A file is read in the working copy.  One whose content is not at hand there is brought when DuckDB
opens it, which it does of those alone that a question's market and months leave: it is compared
with its hash, and is at hand from then on.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem

from etl import engine, manifest
from etl.errors import LakeError

if TYPE_CHECKING:
    from etl.remote import RemoteLake

__all__ = ["Handle", "read_through"]


def read_through(lake: RemoteLake) -> None:
    """Have every later connection of this process read the addresses of a lake's files."""
    scheme = lake.store.address.scheme
    files = engine.file_systems.setdefault(scheme, _ObjectFiles(scheme))
    files.lakes[lake.name] = lake


class _ObjectFiles(AbstractFileSystem):  # type: ignore[misc]  # without types
    """The lakes of one service; for reading."""

    cachable = False

    def __init__(self, scheme: str) -> None:
        super().__init__()
        self.protocol = (scheme,)
        self.lakes: dict[str, RemoteLake] = {}

    def glob(self, path: str, **_: Any) -> list[str]:
        lake, inside = self._found(path)
        if "*" not in inside:
            return [path]
        places = sorted(lake.root.glob(inside))
        return [f"{lake.name}/{place.relative_to(lake.root)}" for place in places]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self._place(path).stat().st_size, "type": "file"}

    def modified(self, path: str) -> datetime:
        return datetime.fromtimestamp(0, UTC)  # an object is written once

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Handle:
        lake, _inside = self._found(path)
        place = self._place(path)
        lake.fetch([place])
        return Handle(place)

    def _found(self, path: str) -> tuple[RemoteLake, str]:
        """The lake of an address, and what follows on the lake's own."""
        names = [name for name in self.lakes if path.startswith(f"{name}/")]
        if not names:
            raise LakeError(f"{path} is of no lake that is open")
        name = max(names, key=len)  # one may lie in another
        return self.lakes[name], path.removeprefix(f"{name}/")

    def _place(self, path: str) -> Path:
        lake, inside = self._found(path)
        place = lake.root / manifest.path_of(inside)
        if not place.exists():
            raise LakeError(f"{path} has been replaced since: open the lake anew")
        return place


class Handle:
    """A file to read from by several threads: each goes by a position of its own.

    DuckDB has its threads share a handle, and seeks and reads in two calls.  It closes none, but
    lets them go.
    """

    def __init__(self, place: Path) -> None:
        self._file = open(place, "rb", buffering=0)  # noqa: SIM115 - for as long as DuckDB holds it
        self._at = local()

    def seek(self, position: int) -> int:
        self._at.position = position
        return position

    def tell(self) -> int:
        return getattr(self._at, "position", 0)

    def read(self, size: int) -> bytes:
        found = os.pread(self._file.fileno(), size, self.tell())
        self.seek(self.tell() + len(found))
        return found

    def close(self) -> None:
        self._file.close()
