"""``python -m benchmarks.kill_points``: the commands killed at every point at which a file changes.

A point is a call of the C library that writes to a file below the lake, makes, renames, cuts
or removes one, or syncs one: a preloaded library (``shim.c``) counts them, whichever of
Python, Polars and DuckDB they come from, and kills the process at the n-th.  After each kill,

- what a reader may open is whole: each file is the old one or the new one, and the database
  opens and has the old rows or the new ones;
- the next run completes;
- the lake is that of an undisturbed run, the database row for row and every other file byte
  for byte; no other file lies in it, and ``hydra verify`` finds nothing.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

_HERE = Path(__file__).parent
_RESULTS = _HERE.parent / "results"
_LIBRARY = "HYDRA_KILL_POINTS"  # set in the process that runs with the library preloaded
_MEMORY = Path("/dev/shm")  # where a sync costs nothing
_NOW = "2025-03-14T12:00:00Z"
_MONTH_AFTER = "2025-04-14T12:00:00Z"  # when the month is closed
_NEVER = 1 << 40

Words = Sequence[str]


@dataclass(frozen=True)
class Stage:
    """Commands that are killed, on the lake that the stages before have left."""

    name: str
    killed: Sequence[Words]
    before: Sequence[Words] = ()
    after: Sequence[Words] = ()  # what a person runs next


@dataclass
class Tally:
    """What came of a stage's points."""

    stage: str
    points: int  # that an undisturbed run passes
    tried: int = 0
    recovered: int = 0
    failures: list[str] = field(default_factory=list)


def stages(files: Path) -> list[Stage]:
    """Each command at its work, on a lake that has something already: old must turn new."""
    first, second = (["land", "dbn", str(files / day)] for day in ("first", "second"))
    cot = ["land", "cot", *map(str, sorted(files.glob("*.zip")))]
    derive, build = ["derive"], ["build"]
    exports = [
        ["export", "features.daily_v1", "--format", kind, "-o", f"{{lake}}/exports/daily.{kind}"]
        for kind in ("csv", "parquet")
    ]
    return [
        Stage("land", [second, cot], before=[first, derive, build, *exports]),
        Stage("derive", [derive]),
        Stage("build", [build]),
        Stage("export", exports),
        Stage("check --repair", [["check", "--repair"]], before=[_HARM], after=[derive, build]),
        Stage("compact", [["--now", _MONTH_AFTER, "compact"]], before=[first, second]),
    ]


#: Not a command: damage to a lake.
_HARM = ("harm",)


def _harm(lake: Path) -> None:
    """A raw file cut off, one changed, a foreign one, and a derived one cut off."""
    raw = sorted(lake.glob("raw/dataset=futures_*/**/*.parquet"))
    os.truncate(raw[0], 100)
    raw[1].write_bytes(raw[1].read_bytes()[:-9] + b"123456789")
    shutil.copy(raw[2], raw[2].with_name("foreign.parquet"))
    os.truncate(min(lake.glob("derived/table=*/**/*.parquet")), 100)


class Killed(Exception):
    """The child was."""


def in_child(work: Callable[[], Any]) -> Any:
    """What ``work`` gives in a fork of this warm process.

    Raises
    ------
    Killed
        It was killed.
    AssertionError
        It failed.
    """
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        try:
            said = json.dumps({"gave": work()})
        except BaseException:
            said = json.dumps({"failed": traceback.format_exc()})
        with open(tell, "w") as handle:
            handle.write(said)
        os._exit(0)
    os.close(tell)
    with open(told) as handle:
        said = handle.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        raise Killed
    answer = json.loads(said or '{"failed": "the child fell silent"}')
    if "failed" in answer:
        raise AssertionError(answer["failed"])
    return answer["gave"]


def run(lake: Path, commands: Sequence[Words], kill_at: int = _NEVER) -> int:
    """Run commands until the ``kill_at``-th point; how many there are, if it comes so far."""

    def work() -> int:
        from click.testing import CliRunner

        from etl.cli import main

        library = ctypes.CDLL(None)
        library.kill_points_arm(str(lake).encode(), ctypes.c_long(kill_at))
        for command in commands:
            if command is _HARM:
                _harm(lake)
                continue
            words = [word.format(lake=lake) for word in command]
            done = CliRunner().invoke(main, ["-q", "--lake", str(lake), "--now", _NOW, *words])
            if done.exit_code:
                raise AssertionError(f"hydra {' '.join(words)}: {done.output}")
        return int(library.kill_points_passed())

    return int(in_child(work))


def contents(lake: Path) -> dict[str, str]:
    """Each file with a hash: the database of its rows and views, any other of its bytes.

    What only a writer opens is left out of it: the lock, parts, and the staging folder; so is the
    log, which has the clock's time.  The database's record goes with its bytes, which differ from
    build to build: verify compares it.
    """

    found = {}
    for path in sorted(path for path in lake.rglob("*") if path.is_file()):
        name = str(path.relative_to(lake))
        if name not in (".lock", "hydra.duckdb.json") and not name.startswith("logs/"):
            found[name] = _hash(path.read_bytes())
        if name == "hydra.duckdb":
            if found[name] not in _KNOWN:
                _KNOWN[found[name]] = in_child(lambda path=path: _hash(_rows(path)))
            found[name] = _KNOWN[found[name]]
    return found


#: Hash of a database's bytes → hash of its rows.
_KNOWN: dict[str, str] = {}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _rows(database: Path) -> bytes:
    """All that a reader of a database can find, as one text."""
    from etl.export import open_database

    connection = open_database(database)
    names = "select schema_name || '.' || table_name from duckdb_tables() order by all"
    views = "select sql from duckdb_views() where not internal order by all"
    rows = [connection.sql(views).fetchall()]
    for (name,) in connection.sql(names).fetchall():
        rows.append(connection.sql(f"from {name} order by all").fetchall())
    return repr(rows).encode()


def torn(found: Mapping[str, str], states: Sequence[Mapping[str, str]]) -> list[str]:
    """What a reader would find that it would in none of the states between two commands."""
    wrong = []
    for path in sorted({*found, *states[0]}):
        read = not path.startswith("staging/") and not path.endswith(".part")
        if read and found.get(path) not in {state.get(path) for state in states}:
            wrong.append(f"{path} is torn" if path in found else f"{path} is gone")
    return wrong


def walk(stage: Stage, lake: Path, every: int) -> Tally:
    """Kill a stage at each ``every``-th point, and look at what comes of it; 0 is no point."""
    base, done = (lake.with_name(name) for name in ("base", "done"))
    run(lake, stage.before)
    shutil.copytree(lake, base)
    states = [contents(lake)]
    tally = Tally(stage.name, 0)
    for command in stage.killed:
        tally.points += run(lake, [command])
        states.append(contents(lake))
    run(lake, stage.after)
    new = contents(lake)
    lake.rename(done)
    for point in range(1, tally.points + 1, every) if every else ():
        shutil.copytree(base, lake)
        try:
            run(lake, stage.killed, point)
        except Killed:
            tally.tried += 1
            wrong = _wrong(stage, lake, states, new)
            tally.recovered += not wrong
            if wrong:
                tally.failures.append(f"{stage.name}, point {point}: {'; '.join(wrong)}")
        shutil.rmtree(lake)  # without a kill the engine has written in fewer pieces this time
    shutil.rmtree(base)
    done.rename(lake)
    return tally


def _wrong(
    stage: Stage, lake: Path, states: Sequence[Mapping[str, str]], new: Mapping[str, str]
) -> list[str]:
    """What is wrong with a lake whose writer was killed, and with it after the next run."""
    try:
        wrong = torn(contents(lake), states)
        run(lake, [*stage.killed, *stage.after, ["verify"]])
        differs = sorted({path for path, _ in contents(lake).items() ^ new.items()})
        return wrong + [f"{path} differs" for path in differs]
    except AssertionError as error:
        return [str(error)]


def _preloaded() -> None:
    """Start this program again with the library preloaded, compiled for the occasion."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise click.ClickException("no C compiler: install one, such as Debian's gcc")
    library = Path(tempfile.mkdtemp(prefix="hydra-kill-points-")) / "shim.so"
    source = _HERE / "shim.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    environment = {**os.environ, **one, "LD_PRELOAD": str(library), _LIBRARY: str(library)}
    if os.access(_MEMORY, os.W_OK):
        environment["TMPDIR"] = str(_MEMORY)
    arguments = [sys.executable, "-m", "benchmarks.kill_points", *sys.argv[1:]]
    os.execve(sys.executable, arguments, environment)


def _warm_up() -> None:
    """Do once what every command does first; nothing here may start an engine's threads."""
    import scipy.special  # noqa: F401

    import etl.build
    import etl.cli
    import etl.derive
    import etl.verify  # noqa: F401
    from etl import jobs, sqlfiles  # noqa: F401

    sqlfiles.features()


def _sample_files(folder: Path) -> None:
    """Two sessions of ZO, each in a folder of its own, and a year of reports."""
    from etl.market import markets
    from etl.sources import sample

    for name, day in (("first", 12), ("second", 13)):
        (folder / name).mkdir(parents=True)
        since, until = (datetime(2025, 3, d, tzinfo=UTC) for d in (day, day + 1))
        sample.fetch(markets()["ZO"], since, until, folder / name)
    sample.fetch_cot(2025, 2025, datetime(2025, 3, 14, tzinfo=UTC), folder)


def table(tallies: Sequence[Tally]) -> str:
    head = "| stage | points | killed at | recovered |\n|---|---|---|---|\n"
    rows = [f"| {t.stage} | {t.points:,} | {t.tried:,} | {t.recovered:,} |\n" for t in tallies]
    points, tried, recovered = (
        sum(getattr(tally, name) for tally in tallies) for name in ("points", "tried", "recovered")
    )
    return head + "".join(rows) + f"| all | {points:,} | {tried:,} | {recovered:,} |\n"


@click.command()
@click.option(
    "--every", type=click.IntRange(1), default=1, show_default=True, help="Take each n-th point."
)
@click.option("--stage", "names", multiple=True, help="Only this stage; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path), default=_RESULTS, help="Folder of results.")
def main(every: int, names: tuple[str, ...], out: Path) -> None:
    """Walk the kill points of every stage and write down what came of them."""
    if _LIBRARY not in os.environ:
        _preloaded()
    _warm_up()
    tallies = []
    with tempfile.TemporaryDirectory(prefix="hydra-kill-points-") as name:
        folder = Path(name).resolve()
        tempfile.tempdir = name  # what a killed command leaves outside of its lake goes with it
        in_child(lambda: _sample_files(folder / "files"))
        for stage in stages(folder / "files"):
            tally = walk(stage, folder / "lake", 0 if names and stage.name not in names else every)
            tallies.append(tally)
            click.echo(
                f"{tally.stage}: {tally.points:,} points, "
                f"{tally.tried:,} killed at, {tally.recovered:,} recovered"
            )
    shutil.rmtree(Path(os.environ[_LIBRARY]).parent)
    out.mkdir(parents=True, exist_ok=True)
    results = json.dumps([asdict(tally) for tally in tallies], indent=1)
    (out / "kill_points.json").write_text(results + "\n")
    (out / "kill_points.md").write_text(table(tallies))
    failures = [line for tally in tallies for line in tally.failures]
    for line in failures:
        click.echo(line, err=True)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
