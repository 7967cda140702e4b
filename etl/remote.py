"""A lake in an object store, worked on in a copy on this machine.

The store holds immutable objects and one manifest (``etl.manifest``).  A command brings what it
needs into the working copy, which is an ordinary lake, works there, puts what is new into the
store and commits with a conditional put of the manifest: the store's lake is the old one or the
new one, whenever and wherever a run ends.  A working copy is kept between runs::

    <cache>/hydra/<address>/lake/          the lake; a file that was not fetched is hollow
    <cache>/hydra/<address>/manifest.json  what was brought
    <cache>/hydra/<address>/unpublished    there while the lake may hold what the store has not
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

from etl import lease, manifest, records, verify
from etl.errors import HydraError, LakeBusy, LakeError
from etl.lake import Lake, fingerprint, version, write_whole
from etl.manifest import Entry, Manifest
from etl.object_files import read_through
from etl.objects import Address, Changed, Store

__all__ = ["RemoteLake", "at"]

#: What lies in a working copy and is of this machine alone.
_LOCAL = ("logs", "downloads", "staging", ".lock")

#: How long an object stays that a manifest no longer names: readers of the one before may need it.
_GRACE = timedelta(days=1)

#: Seconds between two lines of progress.
_SAID = 10.0

Tell = Callable[[str], None]


def at(url: str, tell: Tell = lambda line: None) -> RemoteLake:
    """The lake at an address, with its working copy in the cache folder of this machine.

    Nothing is asked of anybody yet.

    Parameters
    ----------
    url : ``s3://bucket/prefix``, ``gs://…``, ``az://…``
    tell : called with a line for a person when much is brought or put

    Raises
    ------
    BadInput
        It is no address of a lake.
    """
    address = Address.parse(url)
    base = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return RemoteLake(cache.resolve() / "hydra" / address.slug / "lake", Store(address), tell)


@dataclass
class _Held:
    """What a writer knows of the store."""

    base: Manifest
    version: dict[str, str] | None  # of the manifest's object
    run: str


@dataclass(frozen=True)
class RemoteLake(Lake):
    """A lake in an object store; ``root`` is its working copy."""

    store: Store
    tell: Tell = field(default=lambda line: None, compare=False, repr=False)
    _writer: list[_Held] = field(default_factory=list, compare=False, repr=False)

    def __reduce__(self) -> tuple[Callable[[str], RemoteLake], tuple[str]]:
        return at, (self.name,)  # another machine has its own copy

    @property
    def name(self) -> str:
        return str(self.store.address)

    @property
    def _copy(self) -> Path:
        return self.root.parent

    def bring(self, *, whole: bool = True) -> None:
        read_through(self)
        with self._locked():
            if not self._is_written():
                self._sync(whole)
                return
            self.tell(f"{self.name}: a run on this machine is at work; reading what it has")
            if whole:
                self._fill(self._files().values())

    def fetch(self, paths: Iterable[Path]) -> None:
        if hollow := [path for path in paths if manifest.is_hollow(path)]:
            with self._locked():
                self._fill(hollow)

    @property
    def place(self) -> str:
        return self.name

    def addresses(self, names: Sequence[str]) -> list[str]:
        (writer,) = self._writer
        of = self._by_mark(writer.base)
        keys = []
        for name in names:
            place = self.root / name
            entry = _stored(name, place, writer.base, of)
            if entry is None:  # it is going to be put
                keys.append(manifest.key_of(name, fingerprint(place)["sha256"], writer.run))
            else:
                keys.append(entry.key)
        return [f"{self.name}/{key}" for key in keys]

    def made_at(self, path: Path) -> int:
        entry = self._brought().files.get(path.relative_to(self.root).as_posix())
        if entry and manifest.is_sealed(path, entry):
            return entry.made  # the seal took the time's place
        return super().made_at(path)

    def has(self, path: Path) -> bool:
        return not manifest.is_hollow(path)

    @contextmanager
    def held(self, *, whole: bool = True) -> Iterator[None]:
        read_through(self)
        run = uuid.uuid4().hex[:8]
        with self._alone(), lease.held(self.store, run, self._token()):
            with self._locked():
                base, base_version = self._sync(whole)
                run = self._unpublished_run() or run  # by which a database of its names files
                shutil.rmtree(self.staging, ignore_errors=True)
                self._unpublished.write_text(_words(base, run), encoding="utf-8")
            self._writer.append(_Held(base, base_version, run))
            try:
                yield
            except SystemExit:  # the command's own exit code, with nothing wrong in the lake
                self._finish()
                raise
            except Exception:
                self._publish_what_is_whole()
                raise
            else:
                self._finish()
            finally:
                self._writer.clear()

    def publish(self) -> None:
        (writer,) = self._writer
        with self._locked():
            self._refuse_half_moved()
            files, fresh = self._compared(writer.base)
            if fresh or _keys(files) != _keys(writer.base.files):
                self._commit(writer, files, fresh)

    def send(self, paths: Iterable[str]) -> dict[str, Entry]:
        with self._locked():
            if self._is_written():  # the run that wants them is at work in this very copy
                return {}
            places = {path: self.root / path for path in paths}
            sent = manifest.put(self.store, uuid.uuid4().hex[:8], places)
            for place in places.values():
                place.unlink()
            return sent

    def adopt(self, sent: Mapping[str, Any]) -> None:
        with self._locked():
            known = {**self._adopted(), **sent}
            text = json.dumps({path: asdict(entry) for path, entry in known.items()})
            write_whole(self._copy / "adopted.json", text + "\n")
            for path, entry in sent.items():
                if not (self.root / path).exists():  # else it was made on this machine
                    manifest.hollow(self.root / path, entry)

    def mend(self) -> list[tuple[str, str]]:
        stored = {key: size for key, size, _ in self.store.list()}
        with self._locked():
            brought = self._brought()
            lost = {path: e for path, e in brought.files.items() if stored.get(e.key) != e.bytes}
            damaged = {
                self.root / path: entry
                for path, entry in brought.files.items()
                if path not in lost and self._is_damaged(path, entry)
            }
            self._fetch(damaged)
        return [(path, f"{self.name}/{entry.key} is gone or cut") for path, entry in lost.items()]

    def sweep(self) -> int:
        (writer,) = self._writer
        named = {manifest.KEY, lease.KEY, *writer.base.gone}
        named |= {entry.key for entry in writer.base.files.values()}
        before = datetime.now(UTC) - _GRACE  # a later one may be of a run that is under way
        over = [key for key, _, at in self.store.list() if key not in named and at < before]
        self.store.delete(over)
        return len(over)

    # What follows is called under the lock of the copy.

    def _sync(self, whole: bool) -> tuple[Manifest, dict[str, str] | None]:
        """Make the copy that of the newest manifest; what nobody has asked for yet is hollow.

        What a run that was killed or cut off had committed in the copy stays, unless somebody has
        committed in the store since: the next writer puts it there.
        """
        found = self.store.read(manifest.KEY)
        newest = Manifest.parse(found[0], self.name) if found else Manifest()
        if not self._goes_on(newest):
            self._reset(newest, whole)
        elif whole:
            self._fill(self._files().values())
        return newest, found[1] if found else None

    def _goes_on(self, newest: Manifest) -> bool:
        """Whether the copy holds a run's work on the newest manifest that is not in the store."""
        if not self._is_unpublished(newest):
            return False
        try:
            self._recover()
            verify.refuse_wrong(self, derived=True)
        except (HydraError, OSError):
            self.tell(f"{self.name}: what a run here did not get to put there is damaged: left out")
            return False
        self.tell(f"{self.name}: going on with what a run here did not get to put there")
        return True

    def _reset(self, newest: Manifest, whole: bool) -> None:
        for name in ("unpublished", "adopted.json"):
            (self._copy / name).unlink(missing_ok=True)
        write_whole(self._copy / manifest.KEY, newest.text())
        wanted = {}
        for path, entry in newest.files.items():
            place = self.root / path
            if manifest.is_sealed(place, entry):
                continue
            if not place.exists() or manifest.is_hollow(place):
                manifest.hollow(place, entry)
                if whole or path.endswith(".json"):  # every command reads the lake's records
                    wanted[place] = entry
            elif _holds(place, entry):
                manifest.seal(place, entry)
            else:
                wanted[place] = entry
        shutil.rmtree(self._parts, ignore_errors=True)
        self._fetch(wanted)
        for path, place in self._files().items():
            if path not in newest.files:
                self._remove(place)

    def _remove(self, place: Path) -> None:
        """Remove a file, and the folders that it leaves empty: their names would be read."""
        place.unlink()
        for folder in place.parents:
            if folder == self.root or any(folder.iterdir()):
                return
            folder.rmdir()

    def _is_damaged(self, path: str, entry: Entry) -> bool:
        """Whether a file that nobody has written since it was brought holds something else."""
        place = self.root / path
        return manifest.is_sealed(place, entry) and not _holds(place, entry)

    def _fill(self, places: Iterable[Path]) -> None:
        """Bring the content of those files that are hollow."""
        of = self._by_mark(self._brought())
        marks = {place: manifest.hollow_mark(place) for place in places}
        self._fetch({place: of[number] for place, number in marks.items() if number is not None})

    def _by_mark(self, known: Manifest) -> dict[int, Entry]:
        """What a hollow file may stand in for, by its mark."""
        entries = [*known.files.values(), *self._adopted().values()]
        return {manifest.mark(entry): entry for entry in entries}

    def _fetch(self, entries: Mapping[Path, Entry]) -> None:
        progress = self._progress("bringing", [entry.bytes for entry in entries.values()])
        manifest.fetch(self.store, entries, self._parts, progress)

    def _compared(self, base: Manifest) -> tuple[dict[str, Entry], dict[str, Path]]:
        """What the store has of the copy's files already, and the files that it has not."""
        of = self._by_mark(base)
        files, fresh = {}, {}
        for path, place in self._files().items():
            entry = _stored(path, place, base, of)
            if entry is None:
                fresh[path] = place
                continue
            if manifest.hollow_mark(place) is None and not manifest.is_sealed(place, entry):
                entry = replace(entry, made=place.stat().st_mtime_ns)
                manifest.seal(place, entry)
            files[path] = entry
        return files, fresh

    def _commit(self, writer: _Held, files: dict[str, Entry], fresh: dict[str, Path]) -> None:
        base = writer.base
        progress = self._progress("putting", [place.stat().st_size for place in fresh.values()])
        made = manifest.put(self.store, writer.run, fresh, progress)
        files |= made
        now = datetime.now(UTC)
        kept = {entry.key for entry in files.values()}
        dropped = {entry.key for entry in base.files.values()} - kept
        over = [key for key, at in base.gone.items() if datetime.fromisoformat(at) < now - _GRACE]
        gone = {**base.gone, **dict.fromkeys(dropped, now.isoformat())}
        new = Manifest(
            generation=base.generation + 1,
            run=writer.run,
            by=f"{lease.holder()} at {now:%FT%TZ}",
            files=dict(sorted(files.items())),
            gone={key: at for key, at in sorted(gone.items()) if key not in over},
        )
        writer.version = self._put_manifest(new, writer)
        writer.base = new
        write_whole(self._copy / manifest.KEY, new.text())
        self._unpublished.write_text(_words(new, writer.run), encoding="utf-8")
        for path, entry in made.items():
            manifest.seal(self.root / path, entry)
        (self._copy / "adopted.json").unlink(missing_ok=True)
        with suppress(HydraError):  # what stays is swept one day
            self.store.delete(over)

    def _put_manifest(self, new: Manifest, writer: _Held) -> dict[str, str]:
        text = new.text().encode()
        try:
            return self.store.write(manifest.KEY, text, writer.version)
        except Changed:
            found = self.store.read(manifest.KEY)
        if found and found[0] == text:  # it was put, and the answer was lost on its way
            return found[1]
        other = Manifest.parse(found[0], self.name).by if found else "another writer"
        raise LakeBusy(
            f"{self.name}: {other} committed since this run began: nothing of this run is there, "
            "run it again"
        )

    def _refuse_half_moved(self) -> None:
        if any(self.staging.glob("*/moves.json")):
            raise LakeError(
                f"{self.name}: a commit in the working copy at {self.root} is not finished, so "
                "nothing was put: run it again"
            )

    def _finish(self) -> None:
        self.publish()
        self._unpublished.unlink(missing_ok=True)

    def _publish_what_is_whole(self) -> None:
        """Publish what was committed before a run failed; the failure is what its person hears."""
        try:
            self._finish()
        except HydraError as error:
            self.tell(f"{error} (what landed stays in the working copy, and the next run goes on)")

    def _is_unpublished(self, newest: Manifest) -> bool:
        run = self._unpublished_run()
        return run is not None and self._unpublished.read_text() == _words(newest, run)

    def _unpublished_run(self) -> str | None:
        """The run whose work is in the copy alone."""
        with suppress(FileNotFoundError):
            return self._unpublished.read_text(encoding="utf-8").rpartition(" ")[2]
        return None

    @property
    def _parts(self) -> Path:
        return self._copy / "parts"

    @property
    def _unpublished(self) -> Path:
        return self._copy / "unpublished"

    def _brought(self) -> Manifest:
        """What the copy was made from, or was last put."""
        path = self._copy / manifest.KEY
        return _manifest(path, version(path))

    def _adopted(self) -> dict[str, Entry]:
        path = self._copy / "adopted.json"
        if not path.exists():
            return {}
        return {name: Entry(**about) for name, about in records.read(path, records.OBJECTS).items()}

    def _files(self) -> dict[str, Path]:
        """Path below the lake → place of each file of the copy that is the lake's."""
        found = {}
        for folder, below, names in os.walk(self.root):
            if folder == str(self.root):
                below[:] = [name for name in below if name not in _LOCAL]
                names = [name for name in names if name not in _LOCAL]
            inside = folder[len(str(self.root)) + 1 :]
            for name in names:
                if not name.endswith(".part"):
                    found[f"{inside}/{name}" if inside else name] = Path(folder, name)
        return found

    def _progress(self, doing: str, sizes: list[int]) -> Callable[[int], None]:
        """Say how much is brought or put, and every now and then how much of it is done."""
        said = [monotonic()]
        if len(sizes) > 1:
            self.tell(f"{self.name}: {doing} {len(sizes):,} files, {sum(sizes) / 1e6:,.1f} MB")

        def tell(done: int) -> None:
            if monotonic() > said[0] + _SAID:
                said[0] = monotonic()
                self.tell(f"{self.name}: {doing}, {done:,} of {len(sizes):,} files done")

        return tell

    # The locks of the copy: one of who changes its files, one of who writes to the lake.

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._opened("sync.lock") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only writer on this machine.

        Raises
        ------
        LakeBusy
            Another one is at work.
        """
        with self._opened("write.lock") as handle:
            with self._locked():  # under which a reader looks whether there is a writer
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    handle.seek(0)
                    raise LakeBusy(
                        f"the lake at {self.name} is being written by {handle.read().decode()}: "
                        "wait for it to end, or stop it"
                    ) from None
            try:
                handle.truncate(0)
                handle.write(f"{lease.holder()} since {datetime.now(UTC):%FT%TZ}".encode())
                yield
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)

    def _is_written(self) -> bool:
        with self._opened("write.lock") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def _opened(self, name: str) -> BinaryIO:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return open(self._copy / name, "a+b", buffering=0)
        except OSError as error:
            raise LakeError(
                f"cannot write to the working copy at {self._copy}: {error.strerror}: make room "
                "there, or name another cache folder with XDG_CACHE_HOME"
            ) from error

    def _token(self) -> str:
        """What tells this working copy from every other one."""
        path = self._copy / "id"
        if not path.exists():
            write_whole(path, uuid.uuid4().hex)
        return path.read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _manifest(path: Path, _version: object) -> Manifest:
    """A copy's manifest, which whoever opens one file after the other asks for again and again."""
    return Manifest.parse(path.read_bytes(), path.parent)


def _words(base: Manifest, run: str) -> str:
    """What is kept of a run that goes on from a manifest."""
    return f"{base.generation} {base.run} {run}"


def _stored(path: str, place: Path, base: Manifest, of: Mapping[int, Entry]) -> Entry | None:
    """What the store has of a file of the copy; ``None`` where that is to be put.

    Parameters
    ----------
    base : what the copy was made from
    of : mark → what a hollow file stands in for
    """
    number, entry = manifest.hollow_mark(place), base.files.get(path)
    if entry and (number == manifest.mark(entry) or manifest.is_sealed(place, entry)):
        return entry
    if number is not None:
        return of[number]
    return entry if entry and _holds(place, entry) else None


def _keys(files: Mapping[str, Entry]) -> dict[str, str]:
    """The objects of files, whenever those were written."""
    return {path: entry.key for path, entry in files.items()}


def _holds(place: Path, entry: Entry) -> bool:
    """Whether a file's content is the one of an entry, whenever it was written."""
    return place.stat().st_size == entry.bytes and fingerprint(place)["sha256"] == entry.sha256
