"""``python -m benchmarks.pipeline.child WORK …``: one piece of work, in a process of its own.

What it took of its own is printed as JSON in the last line, where imports or the making of the
inputs are not to count; what the whole process took is its parent's to see.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.pipeline.lakes import Size, World, market_files, parse
from etl.lake import Lake
from etl.sources import Payload

Answer = dict[str, Any]


class Place:
    """A lake of a size in a folder, with its market files beside it."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.size = size
        self.lake = Lake(folder / "lake")
        self.files = folder / "markets"
        self.markets = market_files(size, self.files)

    def worlds(self) -> list[World]:
        return [World(market, self.size) for market in self.markets.values()]


def land(folder: Path, size: Size) -> Answer:
    """Land a lake month by month; the time of the landing alone."""
    from etl.landing import land as land_payload

    place = Place(folder, size)
    cpu = wall = 0.0
    rows = 0
    for world in place.worlds():
        months = list(world.months())
        for sessions in months:
            payload = world.payload(sessions)
            now = months[-1][-1]
            begin, cpu_begin = time.perf_counter(), time.process_time()
            with place.lake.writing(world.after(now)):
                landed = land_payload(place.lake, payload, world.after(now), "sample")
            wall += time.perf_counter() - begin
            cpu += time.process_time() - cpu_begin
            rows += sum(landed.rows.values())
    return {"rows": rows, "wall": wall, "cpu": cpu}


def daily(folder: Path, size: Size) -> Answer:
    """``hydra daily`` after the next session, whose rows take the sample vendor's place."""
    place = Place(folder, size)
    worlds = place.worlds()
    last = place.lake.last_run()
    assert last is not None
    session = worlds[0].session_on(last.date())
    payloads = [world.payload(range(session, session + 1)) for world in worlds]
    _daily(place, payloads, worlds[0].after(session))
    return {}


def profile_derive(folder: Path, size: Size) -> Answer:
    """Where the time of a full derive in one process goes."""
    from benchmarks.pipeline.profile import shares
    from etl.derive import derive

    place = Place(folder, size)
    now = place.lake.last_run()
    assert now is not None
    shutil.rmtree(place.lake.derived)

    def work() -> None:
        with place.lake.writing(now):
            for market in place.markets.values():
                derive(place.lake, market, now)

    return shares(work)


def profile_daily(folder: Path, size: Size) -> Answer:
    """Where the time of a day's run goes."""
    from benchmarks.pipeline.profile import shares

    return shares(lambda: daily(folder, size))


def nothing_new(folder: Path, size: Size) -> Answer:
    """``hydra daily`` once more, an hour after the last run: the vendor has nothing."""
    place = Place(folder, size)
    last = place.lake.last_run()
    assert last is not None
    _daily(place, [], last + timedelta(hours=1))
    return {}


def _daily(place: Place, payloads: Sequence[Payload], now: datetime) -> None:
    from etl import jobs
    from etl.landing import land as land_payload
    from etl.sources import sample

    def land_session(lake: Lake, *_: object) -> None:
        for payload in payloads:
            land_payload(lake, payload, now, "sample")

    jobs.land_sample = land_session  # type: ignore[assignment]
    sample.MARKETS = tuple(place.markets)  # type: ignore[assignment]
    chosen = [word for code in place.markets for word in ("--market", code)]
    _hydra(place, now, "daily", "--source", "sample", *chosen)


def _hydra(place: Place, now: datetime, *words: str) -> None:
    from etl.cli import main

    at = ["--lake", str(place.lake.root), "--markets", str(place.files), "--now", now.isoformat()]
    main(["-q", *at, *words], standalone_mode=False)


def straightforward(
    folder: Path, size: Size, n_sessions: str, exercise: str, normal: str
) -> Answer:
    """The peer's build of sessions of the first market; its tables are left for comparison."""
    from benchmarks.pipeline.straightforward import build

    place = Place(folder, size)
    (market, *_), (world, *_) = place.markets.values(), place.worlds()
    days = [session for month in world.months() for session in month]
    step = max(len(days) // int(n_sessions), 1)  # spread over the year: chains differ
    chosen = [
        (world.day[i].item(), datetime.fromtimestamp(int(world.snapshot[i]) / 1e6, UTC))
        for i in days[step // 2 :: step][: int(n_sessions)]
    ]
    database = folder / "straightforward.sqlite"
    database.unlink(missing_ok=True)
    american = exercise == "american"
    built = build(place.lake.raw, market, chosen, database, early_exercise=american, normal=normal)
    built.chain.to_parquet(folder / "peer-chain.parquet")
    built.moments.to_parquet(folder / "peer-moments.parquet")
    return {
        "sessions": built.sessions,
        "of": len(days),
        "wall": built.wall.of(len(days), built.sessions),
        "cpu": built.cpu.of(len(days), built.sessions),
    }


def compare(folder: Path, size: Size) -> Answer:
    """How far the peer's vols and moments are from ours, out of the money, near it."""
    from etl.export import open_database

    place = Place(folder, size)
    connection = open_database(place.lake.database)
    sql = (Path(__file__).parent / "compare.sql").read_text()
    for name in ("chain", "moments"):
        path = folder / f"peer-{name}.parquet"
        connection.execute(f"create temp view peer_{name} as from read_parquet('{path}')")
    names = ("options", "vol", "slices", "stdev", "skew", "q05")
    (found,) = connection.sql(sql).fetchall()
    return dict(zip(names, found, strict=True))


def query(folder: Path, size: Size, turns: str) -> Answer:
    """``features_at`` in a bare DuckDB session, once cold and then warm; seconds of each."""
    import duckdb

    place = Place(folder, size)
    connection = duckdb.connect(str(place.lake.database), read_only=True)
    spent = []
    for number in range(int(turns) + 1):
        code = size.codes[number % len(size.codes)]
        begin = time.perf_counter()
        connection.sql(f"from features_at('{code}', '2024-12-12T20:30:00Z')").fetchall()
        spent.append(time.perf_counter() - begin)
    return {"cold": spent[0], "warm": spent[1:]}


def scan(folder: Path, size: Size) -> Answer:
    """The bytes that one market's quotes of one month ask of the files, beside all there are."""
    from etl.export import open_database

    place = Place(folder, size)
    connection = open_database(place.lake.database)
    connection.sql("select count(*) from meta.builds").fetchall()
    before = _bytes_read()
    begin = time.perf_counter()
    text = (
        f"select count(*), avg(ask - bid) from raw.option_quote where market = '{size.codes[-1]}'"
        " and as_of >= '2024-12-01' and as_of < '2025-01-01'"
    )
    ((rows, _),) = connection.sql(text).fetchall()
    seconds = time.perf_counter() - begin
    held = sum(path.stat().st_size for path in place.lake.raw_files())
    return {
        "markets": size.markets,
        "rows": rows,
        "read": _bytes_read() - before,
        "of": held,
        "files": len(place.lake.raw_files()),
        "seconds": seconds,
    }


def _bytes_read() -> int:
    """What this process has asked of files so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def forget(folder: Path, size: Size) -> Answer:
    """Throw away what is derived and built, so that it is made anew."""
    place = Place(folder, size)
    shutil.rmtree(place.lake.derived, ignore_errors=True)
    place.lake.database.unlink(missing_ok=True)
    place.lake.database_record.unlink(missing_ok=True)
    return {}


def make_dbn(folder: Path, _: Size, records: str) -> Answer:
    """A DBN file of so many quotes, and the definitions of its instruments."""
    from benchmarks.decode import ways

    folder.mkdir(parents=True)
    ways.make("mbp-1", int(records), _dbn(folder))
    return {"bytes": _dbn(folder).stat().st_size}


def land_dbn(folder: Path, _: Size) -> Answer:
    """What ``hydra land dbn`` does of that file, all of it."""
    from etl.jobs import land_dbn as land_files
    from etl.market import markets

    lake, known = Lake(folder / "lake"), markets()
    shutil.rmtree(lake.root, ignore_errors=True)
    now = datetime(2024, 6, 1, tzinfo=UTC)
    with lake.writing(now):
        list(
            land_files(
                lake, known, [_dbn(folder).with_name(f"definition.{_dbn(folder).name}")], now
            )
        )
        begin, cpu = time.perf_counter(), time.process_time()
        (landed,) = land_files(lake, known, [_dbn(folder)], now)
        spent = {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
    assert not isinstance(landed, Exception), landed
    size = sum(path.stat().st_size for path in lake.raw.glob("dataset=*_quote/**/*.parquet"))
    return {**spent, "rows": sum(landed.rows.values()), "raw_bytes": size}


def bare_dbn(folder: Path, _: Size) -> Answer:
    """The same bytes decoded and written, and nothing else: no check, hash, symbol or sync."""
    import databento_dbn as dbn
    import numpy as np
    import polars as pl
    import zstandard

    begin, cpu = time.perf_counter(), time.process_time()
    with open(_dbn(folder), "rb") as file:
        data = zstandard.ZstdDecompressor().stream_reader(file).read()
    start = 8 + int.from_bytes(data[4:8], "little")  # magic, version and length; metadata; records
    records = np.frombuffer(data, np.dtype(dbn.MBP1Msg._dtypes), offset=start)
    frame = pl.DataFrame({name: _column(records[name]) for name in records.dtype.names or ()})
    frame.write_parquet(folder / "bare.parquet", compression="zstd")
    spent = {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
    return {**spent, "rows": frame.height}


def _column(values: Any) -> Any:
    import numpy as np

    plain = np.ascontiguousarray(values)
    return plain.view(np.uint8) if plain.dtype.kind == "S" else plain


def _dbn(folder: Path) -> Path:
    return folder / "quotes.dbn.zst"


def layout(folder: Path, size: Size) -> Answer:
    """A market's quotes written in other ways than the lake's."""
    from benchmarks.pipeline.layout import ways

    return {"ways": ways(Place(folder, size).lake)}


WORK: dict[str, Callable[..., Answer]] = {
    work.__name__: work
    for work in (
        *(land, forget, daily, nothing_new, straightforward, compare, query, scan),
        *(make_dbn, land_dbn, bare_dbn, layout, profile_derive, profile_daily),
    )
}


if __name__ == "__main__":
    name, where, what, *more = sys.argv[1:]
    print(json.dumps(WORK[name](Path(where), parse(what), *more)))
