"""``python -m benchmarks.pipeline --date DATE``: measure, write and print the report."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from benchmarks.pipeline import plots, scale
from benchmarks.pipeline.lakes import DENSE, TINY, Size, World, market_files, sizes
from benchmarks.pipeline.measure import Spent, python, spread
from benchmarks.pipeline.report import is_met, markdown

_RESULTS = Path(__file__).parents[1] / "results"
_SPENT = ("cpu", "wall", "peak_mb")
_PACKAGES = ("duckdb", "polars", "numpy", "scipy", "pandas", "pyarrow", "zstandard")

#: The straightforward builds, by whether vols are freed of early exercise and by whose normal
#: distribution they take, and of how many sessions each is timed; the last is compared with ours.
_STRAIGHTFORWARD = {
    ("american", "scipy"): 2,
    ("european", "scipy"): 6,
    ("european", "erfc"): 6,
    ("american", "erfc"): 6,
}

#: What can be measured again without the hour before it.
_AGAIN = "build and check"

Result = dict[str, Any]


class Bench:
    """The lakes of a run, each in a folder of its own, and what is measured on them."""

    def __init__(self, folder: Path, chosen: Sequence[Size]) -> None:
        self.folder, self.sizes = folder, chosen
        self.quick = tuple(chosen) == TINY
        self.dense = TINY[0] if self.quick else DENSE
        self.turns = 1 if self.quick else 3
        self.evenings = 1 if self.quick else 9  # more, since a pair's ratio varies by a fifth

    # -- processes ------------------------------------------------------------------------------

    def child(self, work: str, size: Size, *more: object, at: str = "") -> Spent:
        place = self.folder / (at or size.words)
        return python(
            "-m", "benchmarks.pipeline.child", work, str(place), size.words, *map(str, more)
        )

    def hydra(self, size: Size, *words: str, at: str = "") -> Spent:
        place = self.folder / (at or size.words)
        (market, *_) = market_files(size, place / "markets").values()
        world = World(market, size)
        now: datetime = world.after(list(world.months())[-1][-1])
        options = ["--lake", str(place / "lake"), "--markets", str(place / "markets")]
        fine = (0, 2) if words == ("check",) else (0,)  # chance finds an error among made-up prices
        return python("-m", "etl", "-q", *options, "--now", now.isoformat(), *words, fine=fine)

    # -- measurements ---------------------------------------------------------------------------

    def growth(self) -> list[Result]:
        """Every stage on lakes of every size, once each."""
        found = []
        for size in self.sizes:
            landed = self.child("land", size)
            stages = {"land": {**_brief(landed), **_pick(landed.answer, "wall", "cpu")}}
            for name in ("derive", "build", "check"):
                stages[name] = _brief(self.hydra(size, name))
            lake = self.folder / size.words / "lake"
            found.append(
                {
                    "size": size.name,
                    "markets": size.markets,
                    "years": size.years,
                    "rows": landed.answer["rows"],
                    "raw_bytes": _bytes(lake / "raw"),
                    "derived_bytes": _bytes(lake / "derived"),
                    "database_bytes": (lake / "hydra.duckdb").stat().st_size,
                    "stages": stages,
                }
            )
        return found

    def build_again(self, growth: Sequence[Result]) -> list[Result]:
        """The last two stages anew, on the kept lakes of a growth that was measured before."""
        found = []
        for size, before in zip(self.sizes, growth, strict=True):
            lake = self.folder / size.words / "lake"
            if not lake.exists():
                raise click.UsageError(f"{lake} is not there: --folder names those of a growth")
            for name in ("hydra.duckdb", "hydra.duckdb.json"):
                (lake / name).unlink(missing_ok=True)
            stages = {name: _brief(self.hydra(size, name)) for name in ("build", "check")}
            database_bytes = (lake / "hydra.duckdb").stat().st_size
            found.append(
                before | {"database_bytes": database_bytes, "stages": before["stages"] | stages}
            )
        return found

    def derive(self) -> Result:
        """A market-year derived anew, beside the straightforward build of some of its sessions."""
        size, lake = self._landed(self.dense)
        ours: list[Spent] = []
        answers: dict[tuple[str, str], list[Result]] = {way: [] for way in _STRAIGHTFORWARD}
        for _ in range(self.turns):
            self.child("forget", size)
            ours.append(self.hydra(size, "derive"))
            for way, sessions in _STRAIGHTFORWARD.items():
                n_sessions = min(sessions, 2) if self.quick else sessions
                work = ("straightforward", size, n_sessions, *way)
                answers[way].append(self.child(*work).answer)
        profile = self.child("profile_derive", size).answer
        built = self.hydra(size, "build")
        peers = []
        for (exercise, normal), found in answers.items():
            peer: Result = {"exercise": exercise, "normal": normal, **_pick(found[0], "sessions")}
            for what in ("wall", "cpu"):
                ratios = [a[what] / getattr(o, what) for o, a in zip(ours, found, strict=True)]
                seconds = spread([answer[what] for answer in found])
                peer[what] = {"seconds": seconds, "ratio": spread(ratios)}
            peers.append(peer)
        return {
            "size": size.name,
            "sessions": next(iter(answers.values()))[0]["of"],
            **{what: spread([getattr(one, what) for one in ours]) for what in _SPENT},
            "derived_bytes": _bytes(lake / "derived"),
            "build": _brief(built),
            "profile": profile,
            "peers": peers,
            "differences": self.child("compare", size).answer,
        }

    def _landed(self, size: Size) -> tuple[Size, Path]:
        """A size, and the lake of it, landed now if it was not before."""
        lake = self.folder / size.words / "lake"
        if not lake.exists():
            self.child("land", size)
        return size, lake

    def daily(self) -> Result:
        """A session onto a month and onto years, in turns; then nothing; then no work at all."""
        density = self.dense.expiries, self.dense.strikes
        month = Size("a month", 1, 1, 1, *density)
        years = Size("years", 1, *((1, 2) if self.quick else (10, 12)), *density)
        spent: dict[str, list[Spent]] = {"month": [], "years": [], "nothing": [], "help": []}
        for size in (month, years):
            self.child("land", size, at=size.name)
            for command in ("derive", "build"):
                self.hydra(size, command, at=size.name)
        profile = self.child("profile_daily", years, at=years.name).answer
        self.child("daily", month, at=month.name)
        for _ in range(self.evenings):
            for name, size in (("month", month), ("years", years)):
                spent[name].append(self.child("daily", size, at=size.name))
        for _ in range(self.turns):
            spent["nothing"].append(self.child("nothing_new", years, at=years.name))
            spent["help"].append(python("-m", "etl", "--help"))
        pairs = list(zip(spent["month"], spent["years"], strict=True))
        found: Result = {"of_years": years.years, "profile": profile}
        for name, runs in spent.items():
            found[name] = {what: spread([getattr(run, what) for run in runs]) for what in _SPENT}
        found["ratio"] = {
            what: spread([getattr(y, what) / getattr(m, what) for m, y in pairs]) for what in _SPENT
        }
        return found

    def landing(self) -> Result:
        """A file of quotes landed, beside its bare decoding and writing."""
        records = 20_000 if self.quick else 2_000_000
        size, at = self.dense, "dbn"
        made = self.child("make_dbn", size, records, at=at).answer
        ours, bare = [], []
        for _ in range(1 if self.quick else 5):
            ours.append(self.child("land_dbn", size, at=at).answer)
            bare.append(self.child("bare_dbn", size, at=at).answer)
        rows = {one["rows"] for one in (*ours, *bare)}
        assert rows == {records}, f"{rows} of {records} rows"
        return {
            "records": records,
            **made,
            "raw_bytes": ours[0]["raw_bytes"],
            "seconds": spread([one["seconds"] for one in ours]),
            "cpu": spread([one["cpu"] for one in ours]),
            "bare_seconds": spread([one["seconds"] for one in bare]),
            "bare_cpu": spread([one["cpu"] for one in bare]),
            "ratio": spread([o["seconds"] / b["seconds"] for o, b in zip(ours, bare, strict=True)]),
        }

    def query(self) -> Result:
        """``features_at`` on the largest lake."""
        size = self.sizes[-1]
        answer = self.child("query", size, 5 if self.quick else 40).answer
        return {"size": size.name, "cold": answer["cold"], "warm": spread(answer["warm"])}

    def spine(self, date: str) -> Result:
        """The spine join beside DuckDB's own: ``make bench-spine``, run again."""
        out = self.folder / "spine"
        quick = ["--quick"] if self.quick else []
        python("-m", "benchmarks.spine", "--date", date, "--out", str(out), *quick)
        found: Result = json.loads((out / "spine.json").read_text())
        return _pick(found, "rows", "turns", "contenders")

    def layout(self) -> Result:
        """What one market-month reads of a lake of twenty markets, and other ways to write it."""
        few = Size("three markets", 3, 1, 1, 2, 8)
        size = few if self.quick else Size("twenty markets", 20, 1, 3, 12, 60)
        self.child("land", size, at=size.name)
        self.hydra(size, "build", at=size.name)
        scanned = self.child("scan", size, at=size.name).answer
        dense, _ = self._landed(self.dense)
        return {"scan": scanned, "ways": self.child("layout", dense).answer["ways"]}


def _brief(spent: Spent) -> dict[str, float]:
    return {what: getattr(spent, what) for what in _SPENT}


def _pick(found: Result, *names: str) -> Result:
    return {name: found[name] for name in names}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _machine() -> dict[str, str]:
    names = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        **({"processor": names[0].partition(": ")[2]} if names else {}),
        "cores": f"{os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"Python {platform.python_version()}",
        **{name: f"{name} {metadata.version(name)}" for name in _PACKAGES},
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _chosen(_: click.Context, __: click.Parameter, text: str) -> tuple[Size, ...]:
    try:
        return sizes(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--date", required=True, help="Date that the report carries, as in 2026-11-24.")
@click.option(
    "--sizes",
    "chosen",
    default="1x1 4x5 20x10",
    show_default=True,
    callback=_chosen,
    help="Lakes, markets x years, the smallest first; or tiny, to see that all works.",
)
@click.option(
    "--only",
    multiple=True,
    help=f"Measure this alone, or of growth {_AGAIN} on lakes that were kept; may be repeated.",
)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Make the lakes here and keep them."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for pipeline.json, pipeline.md and the plots; benchmarks/results by default, and"
    " of a tiny run none.",
)
def main(
    date: str,
    chosen: tuple[Size, ...],
    only: tuple[str, ...],
    folder: Path | None,
    out: Path | None,
) -> None:
    """Measure the whole pipeline, e.g. ``python -m benchmarks.pipeline --date 2026-11-24``.

    What is not measured keeps its place in the results of the last run.  Exit code 1 where
    something asked for is not met.
    """
    with tempfile.TemporaryDirectory(prefix="hydra-bench-") as temporary:
        bench = Bench((folder or Path(temporary)).resolve(), chosen)
        shown = out or (Path(temporary) / "results" if bench.quick else _RESULTS)
        result = _measure(bench, date, only, shown)
    click.echo(markdown(result))
    if shown == _RESULTS:
        scale.write(result)
    sys.exit(0 if bench.quick or is_met(result) else 1)


def _measure(bench: Bench, date: str, only: Sequence[str], out: Path) -> Result:
    """Measure, and write down after each measurement what there is."""
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "pipeline.json"
    result: Result = json.loads(kept.read_text()) if only and kept.exists() else {}
    result |= {"quick": bench.quick}
    run = f"{date}: {', '.join(_machine().values())}"
    work: dict[str, Callable[[], Any]] = {
        "growth": bench.growth,
        "derive": bench.derive,
        "daily": bench.daily,
        "landing": bench.landing,
        "query": bench.query,
        "spine": lambda: bench.spine(date),
        "layout": bench.layout,
    }
    for name in only or work:
        click.echo(f"{name} ...", err=True)
        if name == _AGAIN:
            result["growth"] = bench.build_again(result["growth"])
        else:
            result[name] = work[name]()
        result["runs"] = result.get("runs", {}) | {name: run}
        kept.write_text(json.dumps(result, indent=1) + "\n")
    (out / "pipeline.md").write_text(markdown(result))
    plots.draw(result, out)
    return result


if __name__ == "__main__":
    main()
