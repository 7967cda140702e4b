"""The lake on disk: where things lie, who may write, and how a batch becomes visible.

Layout (``lake/README.md`` explains it to a person)::

    lake.json                     format and origin ("sample" or "vendor")
    raw/dataset=…/market=…/year=…/month=…/<batch>-<n>.parquet
    raw/…/merged-<instant>-<hash>.parquet, compactions/<instant>.json
                                  many landed files of a month in one, and which
    batches/<batch>.json          what each batch brought, with the hash of every file and the
                                  span in which its rows became known
    reach/<source>-<market>.json  the spans that a vendor was asked for and that have landed
    reach/days-<dataset>.json     what the vendor says of each day that was asked for
    checks/<instant>.parquet      what the checks found in one run
    downloads/                    vendors' files between their download and their landing
    derived/table=…/market=…/year=…/month=…/rows-<hash>.parquet, derived/state/<market>.json
    hydra.duckdb, hydra.duckdb.json, report.html, exports/
    set-aside/                    files that were damaged or foreign, each with the reason

What changes together is staged under ``staging/<name>/``, committed by the appearance of
the list of its moves there, and then moved into place, the record that speaks of it last.
What was committed and not yet moved is moved by the next writer; what was staged and not
committed is dropped by it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from glob import glob
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from etl import records
from etl.errors import BadInput, LakeBusy, LakeError

if TYPE_CHECKING:
    import polars as pl

FORMAT = 1
ORIGINS = ("sample", "vendor")

#: What begins the name of a file that holds the rows of landed ones.
MERGED = "merged-"

#: The list of moves that commits what is staged beside it.
_MOVES = "moves.json"


@dataclass(frozen=True)
class Lake:
    """A lake at ``root``; opening one reads nothing but its marker."""

    root: Path

    def __post_init__(self) -> None:
        """Refuse a place that DuckDB and Polars would not find, or take for a partition's.

        Raises
        ------
        BadInput
            The path is not UTF-8, or a folder in it is called ``key=value`` like the lake's own.
        """
        # Both take a leading ~ for the home folder and s3: for a service, which Python does not.
        if self.root.parts and re.match("~|.*:", self.root.parts[0]):
            object.__setattr__(self, "root", self.root.absolute())
        if wrong := [part for part in self.root.absolute().parts if "=" in part]:
            raise BadInput(f"{self.root}: a lake cannot lie under a folder called {wrong[0]}")
        try:
            str(self.root).encode()
        except UnicodeEncodeError:
            raise BadInput(f"{self.root}: is no path in UTF-8; give the lake another one") from None

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    @property
    def derived(self) -> Path:
        return self.root / "derived"

    @property
    def batches(self) -> Path:
        return self.root / "batches"

    @property
    def compactions(self) -> Path:
        return self.root / "compactions"

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def checks(self) -> Path:
        return self.root / "checks"

    @property
    def spill(self) -> Path:
        """Where a writer's engine puts what does not fit into memory; the next writer clears it."""
        return self.staging / "spill"

    @property
    def database(self) -> Path:
        return self.root / "hydra.duckdb"

    @property
    def database_record(self) -> Path:
        return self.root / "hydra.duckdb.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def marker(self) -> Path:
        return self.root / "lake.json"

    @property
    def origin(self) -> str | None:
        """ "sample" or "vendor"; ``None`` while nothing has landed."""
        if not self.marker.exists():
            return None
        marker = records.read(self.marker, records.MARKER)
        if marker.get("format") != FORMAT or marker.get("origin") not in ORIGINS:
            raise LakeError(f"{self.marker} is not of a lake that this version reads: {marker}")
        return str(marker["origin"])

    def claim(self, origin: str) -> None:
        """Mark an empty lake as ``origin``; refuse data of another origin.

        Raises
        ------
        LakeError
            The lake holds data of the other origin.
        """
        self.refuse_other(origin)
        if self.origin != origin or not self._holds_something():
            write_whole(self.marker, json.dumps({"format": FORMAT, "origin": origin}) + "\n")

    def refuse_other(self, origin: str) -> None:
        """Make sure that the lake takes data of ``origin``; change nothing.

        Raises
        ------
        LakeError
            The lake holds data of the other origin.
        """
        held = self.origin
        if held not in (None, origin) and self._holds_something():
            raise LakeError(
                f"{self.root} holds {held} data and takes no {origin} data: "
                "name another lake with --lake"
            )

    def _holds_something(self) -> bool:
        return any(self.batches.glob("*.json"))

    def partition(self, dataset: str, market: str, year: int, month: int) -> Path:
        """The folder of one dataset, market and month (of ``as_of``)."""
        return self.raw / f"dataset={dataset}/market={market}/year={year}/month={month:02d}"

    def raw_files(self, dataset: str = "*", market: str = "*") -> list[Path]:
        """The files that hold every landed row of a dataset and market, in a stable order."""
        return [self.root / name for name in self.raw_names(dataset, market)]

    def raw_names(self, dataset: str = "*", market: str = "*") -> list[str]:
        """The paths of these files below the lake, as the records have them.

        A merged file takes the place of all that had landed in its folder before: at the moment
        at which it appears, and with nothing else that has to change with it.
        """
        pattern = f"raw/dataset={dataset}/market={market}/year=*/month=*/*.parquet"
        found = sorted(glob(pattern, root_dir=self.root))
        parts = [(name, *name.rpartition("/")[::2]) for name in found]
        newest = {folder: file for _, folder, file in parts if file.startswith(MERGED)}
        return [
            name
            for name, folder, file in parts
            if (held := newest.get(folder)) in (None, file) or landed_at(file) > landed_at(held)
        ]

    def below(self, folder: Path) -> Iterator[str]:
        """The path below the lake of every file in a folder of it, in a stable order."""
        place = folder.relative_to(self.root)
        for inside, folders, names in os.walk(folder):
            folders.sort()
            part = f"{place}{inside.removeprefix(str(folder))}"
            yield from (f"{part}/{name}" for name in sorted(names))

    def markets(self) -> list[str]:
        """Markets for which anything has landed."""
        found = glob("dataset=*/market=*", root_dir=self.raw)
        return sorted({path.rpartition("market=")[2] for path in found})

    def first_day(self, market: str) -> date | None:
        """First day of the earliest month for which anything of the market has landed."""
        folders = glob(f"dataset=*/market={market}/year=*/month=*/", root_dir=self.raw)
        return min(map(month_of, folders), default=None)

    def each_batch(self, batches: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
        """The record of every committed batch, or of these, oldest first, one at a time."""
        for path in sorted(self.batches.glob("*.json")):
            if batches is None or path.stem in batches:
                yield _batch(path, version(path))

    def batch_records(self) -> list[dict[str, Any]]:
        """The record of every committed batch, oldest first."""
        return list(self.each_batch())

    def compaction_records(self) -> list[dict[str, Any]]:
        """The record of every compaction, oldest first."""
        paths = sorted(self.compactions.glob("*.json"))
        return [records.read(path, records.COMPACTION) for path in paths]

    def merged(self) -> dict[str, dict[str, Any]]:
        """What the records say of each merged file, by its path below the lake."""
        return {
            file["path"]: file for record in self.compaction_records() for file in record["files"]
        }

    def state_record(self, market: str) -> Path:
        """Where the last derivation of a market left its record."""
        return self.derived / "state" / f"{market}.json"

    def state(self, market: str) -> dict[str, Any]:
        """That record; empty where there is none that can be read, since it can be made anew."""
        path = self.state_record(market)
        try:
            return _state(path, version(path))
        except (LakeError, FileNotFoundError):
            return {}

    def last_run(self) -> datetime | None:
        """The latest instant at which anything landed, was derived, built or merged."""
        found = self.state_record("*").parent.glob("*.json")
        states = (self.state(path.stem) for path in found)  # one by one: they name all files
        instants = [state["known_at"] for state in states if state]
        if batch := _newest(self.batches):
            instants.append(records.read(batch, records.BATCH)["ingested_at"])
        if compaction := _newest(self.compactions):
            instants.append(records.read(compaction, records.COMPACTION)["compacted_at"])
        built_at = [at] if (at := self.built_at()) else []
        return max([*map(datetime.fromisoformat, instants), *built_at], default=None)

    def built_at(self) -> datetime | None:
        """The instant of the last build; ``None`` where there is no database."""
        if not self.database_record.exists():
            return None
        built = records.read(self.database_record, records.DATABASE)
        return datetime.fromisoformat(built["built_at"])

    @property
    def name(self) -> str:
        """Where the lake lies, for a person."""
        return str(self.root)

    @property
    def place(self) -> str:
        """Where the lake lies, in the pattern of a file of it that a view reads.

        DuckDB takes [, * and ? of a path for patterns, unless they are bracketed.
        """
        return re.sub(r"([\[*?])", r"[\1]", str(self.root.resolve()))

    def addresses(self, names: Sequence[str]) -> list[str]:
        """Files of the lake, by their paths below it, as a view names them to whoever reads it."""
        place = self.place
        return [f"{place}/{name}" for name in names]

    def bring(self, *, whole: bool = True) -> None:
        """Make ``root`` hold the newest of the lake, for a reader; on a disk it does.

        Parameters
        ----------
        whole : whether all files are wanted, or the records alone and ``fetch`` says what else
        """

    def fetch(self, paths: Iterable[Path]) -> None:
        """Make sure that the content of files is at hand before they are opened."""

    def made_at(self, path: Path) -> int:
        """When a file was written: nanoseconds of the clock of the machine that did."""
        return path.stat().st_mtime_ns

    def has(self, path: Path) -> bool:
        """Whether the content of a file that lies in its place is at hand."""
        return True

    @contextmanager
    def held(self, *, whole: bool = True) -> Iterator[None]:
        """Bring the lake as ``bring`` does, keep other machines' writers out, publish at the end.

        Raises
        ------
        LakeBusy
            Another machine is writing, or has committed in the meantime.
        """
        yield

    def send(self, paths: Iterable[str]) -> Mapping[str, Any]:
        """Put staged files where the machine that commits them finds them; what ``adopt`` takes.

        Paths are below the lake, here and there.
        """
        return {}

    def adopt(self, sent: Mapping[str, Any]) -> None:
        """Have what other machines sent stand in the places where they staged it."""

    def publish(self) -> None:
        """Make what has been committed visible to other machines; the caller holds the lake."""

    def mend(self) -> list[tuple[str, str]]:
        """Bring anew what is not as it was brought; path and reason of what cannot be brought."""
        return []

    def sweep(self) -> int:
        """Remove what runs that were killed put where nothing refers to it; how much that was.

        The caller holds the lake.
        """
        return 0

    @contextmanager
    def writing(self, now: datetime) -> Iterator[None]:
        """Hold the lake's only write lock; finish or drop what a killed writer left.

        The lock is the operating system's, so it ends with the process that holds it.

        Parameters
        ----------
        now : aware datetime
            The run's instant: time in a lake does not go back.

        Raises
        ------
        LakeBusy
            Another process is writing.
        LakeError
            The lake cannot be written to, or was last written after ``now``.
        """
        try:
            make_folder(self.root)
            # Unbuffered: what a full disk refused must not be tried again when it is closed.
            handle = open(self._lock, "a+b", buffering=0)  # noqa: SIM115 - held for the block
        except OSError as error:
            raise LakeError(f"cannot write to the lake at {self.root}: {error.strerror}") from error
        with handle:
            self._take(handle, fcntl.LOCK_EX)
            try:
                self._recover()
                handle.truncate(0)
                holder = f"process {os.getpid()} on {socket.gethostname()} since {now:%FT%TZ}\n"
                handle.write(holder.encode())
            except OSError as error:
                raise LakeError(
                    f"cannot put the lake at {self.root} in order: {error.strerror}"
                ) from error
            try:
                last = self.last_run()
                if last is not None and now < last:
                    raise LakeError(
                        f"it is {now:%FT%TZ} by the clock, before the last run on the lake at "
                        f"{self.root}, {last:%FT%TZ}: set the clock right, or say --now"
                    )
                yield
            finally:
                with suppress(OSError):  # the next writer tries again
                    self._recover()
                    handle.truncate(0)
                # Closing is not enough where a fork holds the same handle.
                fcntl.flock(handle, fcntl.LOCK_UN)

    def refuse_writer(self) -> None:
        """Make sure that nobody is writing at the moment.

        Raises
        ------
        LakeBusy
            A process is writing.
        """
        if self._lock.exists():
            with open(self._lock, "rb", buffering=0) as handle:
                self._take(handle, fcntl.LOCK_SH)

    @property
    def _lock(self) -> Path:
        return self.root / ".lock"

    def _take(self, handle: BinaryIO, kind: int) -> None:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().decode().strip() or "another process"
            raise LakeBusy(
                f"the lake at {self.root} is being written by {holder}: "
                "wait for it to end, or stop it"
            ) from None

    def commit(self, name: str, moves: Mapping[Path, Path]) -> None:
        """Put what is staged under ``name`` in its place: all of the files, or none.

        ``moves`` maps each staged file to its place, in the order in which they are moved;
        both lie in this lake.

        Raises
        ------
        LakeError
            A file cannot be written: the next writer finishes the moves or drops what is staged.
        """
        for folder in {staged.parent for staged in moves}:
            sync_folder(folder)
        pairs = [[str(path.relative_to(self.root)) for path in pair] for pair in moves.items()]
        folder = self.staging / name
        write_whole(folder / _MOVES, json.dumps(pairs, indent=1) + "\n")
        self._move(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def _move(self, folder: Path) -> None:
        targets: list[Path] = []
        for staged, place in records.read(folder / _MOVES, records.MOVES):
            source, target = self.root / staged, self.root / place
            inside = source.is_relative_to(self.root) and target.is_relative_to(self.root)
            if not inside or ".." in (*source.parts, *target.parts):
                raise LakeError(
                    f"{folder / _MOVES}: would move {staged} to {place}, out of the lake: take "
                    "the folder away, for it is not this program's"
                )
            if not source.exists():  # moved before the writer was killed
                continue
            make_folder(target.parent)
            os.replace(source, target)
            targets.append(target)
        for parent in {target.parent for target in targets}:
            sync_folder(parent)

    def _recover(self) -> None:
        for folder in sorted(self.staging.glob("*")):
            if (folder / _MOVES).exists():
                self._move(folder)
            shutil.rmtree(folder)
        for pattern in ("*.part", "reach/*.part", "exports/*.part", "checks/*.part"):
            for part in self.root.glob(pattern):
                if part.is_file():
                    _drop(part)


def lake_at(place: str | Path, tell: Callable[[str], None] = lambda line: None) -> Lake:
    """The lake in a folder, or at an address of an object store: ``s3://bucket/prefix``.

    Parameters
    ----------
    tell : called with a line for a person when much goes to or fro

    Raises
    ------
    BadInput
        It is no place for a lake.
    """
    if "://" not in str(place):
        return Lake(Path(place))
    from etl import remote

    return remote.at(str(place), tell)


@lru_cache(maxsize=64)
def _batch(path: Path, version: tuple[int, int, int]) -> dict[str, Any]:
    """A batch's record: a run asks for all of them again and again, and they do not change.

    Memory holds so many of them, however many there are.
    """
    record: dict[str, Any] = records.read(path, records.BATCH)
    if record["batch_id"] != path.stem:
        raise LakeError(
            f"{path}: is the record of batch {record['batch_id']}, whose name it must have: "
            "remove the copy, or name it so"
        )
    return record


@lru_cache(maxsize=1)
def _state(path: Path, version: tuple[int, int, int]) -> dict[str, Any]:
    """A market's state, which a run asks for several times on end."""
    record: dict[str, Any] = records.read(path, records.STATE)
    return record


def version(path: Path) -> tuple[int, int, int]:
    """What tells a file from another that was put in its place."""
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, about.st_size


def _newest(folder: Path) -> Path | None:
    """The last of the records in a folder whose names begin with their instant's stamp."""
    return max(folder.glob("*.json"), key=lambda path: path.name, default=None)


def stamp(instant: datetime) -> str:
    """An instant as it stands in names, which sort by it."""
    return f"{instant.astimezone(UTC):%Y%m%dT%H%M%S%fZ}"


def after(name: str) -> str:
    """The stamp that comes next."""
    return stamp(datetime.strptime(name, "%Y%m%dT%H%M%S%f%z") + timedelta(microseconds=1))


def landed_at(file: str) -> str:
    """The stamp in the name of a raw file: none of its rows landed later."""
    return file.removeprefix(MERGED).partition("-")[0]


def market_of(path: str) -> str:
    """The market in whose folder a file lies."""
    return path.split("/")[-4].removeprefix("market=")


def month_of(path: str) -> date:
    """The first day of the month in whose folder a file lies."""
    year, month = (part.partition("=")[2] for part in path.split("/")[-3:-1])
    return date(int(year), int(month), 1)


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as the records keep them."""
    with open(path, "rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        return {"bytes": handle.tell(), "sha256": digest}


def write_rows(path: Path, rows: pl.DataFrame) -> dict[str, Any]:
    """Write a Parquet file of its own, synced; its row count and fingerprint."""
    made = BytesIO()  # Polars does not say what a disk refused
    rows.write_parquet(made, compression="zstd", statistics=True)
    make_folder(path.parent)
    with open(path, "wb") as handle:
        handle.write(made.getbuffer())
        handle.flush()
        os.fsync(handle.fileno())
    digest = hashlib.sha256(made.getbuffer()).hexdigest()
    return {"rows": rows.height, "bytes": len(made.getbuffer()), "sha256": digest}


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that their names survive a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make the bytes of a file survive a power cut."""
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def replace_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a file beside ``path`` and put it in its place, synced, in one step.

    Of two processes that write the same file one waits for the other.

    Raises
    ------
    LakeError
        The file cannot be written: the old one stays.  What else ``write`` raises passes on.
    """
    try:
        make_folder(path.parent)
        with _part_of(path) as part:
            write(part)
            sync_file(part)
            os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise LakeError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """The file beside ``path`` that this process alone fills; a killed one's is taken over."""
    part = path.with_name(path.name + ".part")
    while True:
        handle = open(part, "ab")  # noqa: SIM115 - held for the block
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_at(handle, part):
            break
        handle.close()  # the one that was waited for has put it in place
    with handle:
        try:
            handle.truncate(0)
            yield part
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _drop(part: Path) -> None:
    """Remove a part that a killed process left; not one that is being filled."""
    with open(part, "ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if _is_at(handle, part):
            part.unlink()


def _is_at(handle: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to ``path``: the old content or the new, never a part of it."""

    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    replace_whole(path, write)
