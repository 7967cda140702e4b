"""What is fed with hostile input: a target takes bytes and a folder, and gives or refuses.

A target may raise ``HydraError`` and nothing else, and change nothing outside its folder.
"""

from __future__ import annotations

import atexit
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from etl import calendars, engine, jobs, status, verify
from etl.build import build
from etl.cli import main
from etl.derive import derive
from etl.errors import BadInput, HydraError
from etl.jobs import known_instruments
from etl.lake import Lake
from etl.landing import land
from etl.market import Market, markets
from etl.objects import Address
from etl.sources import Payload, cftc, chain, dbn
from tests.fuzz import rows, seeds

NOW = datetime(2025, 3, 14, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Target:
    """Something that reads bytes from outside."""

    kind: str  # what a person calls such input
    seeds: Callable[[], Iterator[bytes]]
    run: Callable[[bytes, Path], None]


@cache
def _bundled() -> Mapping[str, Market]:
    return markets()


# --- files -------------------------------------------------------------------------------------


def _land(payload: Payload, folder: Path) -> None:
    """Land what could be read in a lake of its own, as a user's command would."""
    land(Lake(folder / "lake"), payload, NOW, "vendor")


def _file(data: bytes, folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _dbn(data: bytes, folder: Path) -> None:
    path = _file(data, folder, "input.dbn.zst")
    _land(dbn.read(path, _bundled(), None), folder)
    _land(dbn.read(path, _bundled(), known_instruments(Lake(folder / "lake"))), folder)
    dbn.count(path)


def _cot_text(data: bytes, folder: Path) -> None:
    with suppress(HydraError):  # without a zip around it, the same
        _land(cftc.read(data, _bundled()), folder)
    _cot_zip(seeds.zipped(data), folder)


def _cot_zip(data: bytes, folder: Path) -> None:
    path = _file(data, folder, "fut_disagg_txt_2025.zip")
    _land(cftc.read(path, _bundled()), folder)
    _land(cftc.read(data, _bundled()), folder)


def _chain(format: str, code: str, name: str, **options: Any) -> Callable[[bytes, Path], None]:
    def run(data: bytes, folder: Path) -> None:
        path = _file(data, folder, name)
        _land(chain.read(path, format, _bundled()[code], **options), folder)

    return run


def _market(data: bytes, folder: Path) -> None:
    named = re.search(rb'^code = "([A-Z0-9]{1,16})"', data, re.MULTILINE)
    code = named[1].decode() if named else "HE"
    _file(data, folder, f"{code}.toml")
    market = markets(folder)[code]
    # What a run does with a market before it has any data.
    calendars.sessions(market, date(2025, 3, 3), date(2025, 3, 14))
    connection = engine.connect()
    try:
        engine.create_reference(connection, [market], date(2025, 3, 3), date(2025, 3, 14))
        zones = "select max(now() at time zone timezone) from meta.markets"
        connection.sql(zones).fetchall()
    finally:
        connection.close()


# --- the command line --------------------------------------------------------------------------

#: A command a line; each ``?`` is a hostile argument.  What may write does so in the folder.
COMMANDS = (
    "--lake LAKE export ? -o OUT",
    "--lake LAKE export features.daily_v1 -o OUT --market ?",
    "--lake LAKE export features.daily_v1 -o OUT --start ? --end ?",
    "--lake LAKE export features.daily_v1 -o OUT --at ?",
    "--lake LAKE export features.cot_v1 --format ? -o OUT",
    "--lake LAKE export features.cot_v1 -o ?",
    "--lake LAKE export raw.cot -o ?",
    "--lake ? status",
    "--lake ? check",
    "--lake ? derive --market ?",
    "--lake ? build",
    "--lake ? export features.daily_v1 -o ?",
    "--lake NEW land dbn ?",
    "--lake NEW land cot ? ?",
    "--lake NEW land chain ? --format generic --market HE",
    "--lake NEW land chain ? --format ? --market ?",
    "--lake NEW land chain CHAIN --format barchart --market CL --expiry ? --quote-time ?",
    "--lake NEW land chain CHAIN --format barchart --market CL --expiry 2025-11-17 --expiration ?",
    "--lake NEW land chain CHAIN --format generic --market HE --underlying-price ?",
    "--markets ? markets",
    "--now ? --lake LAKE check",
    "catalog ?",
    "daily --source ?",
    "daily --days ? --market ?",
    "daily --source databento --max-cost ? --market ?",
    "--lake LAKE audit --samples ? --at ?",
    "--lake LAKE publish postgresql://127.0.0.1:9/?",
    "--lake LAKE publish postgresql://127.0.0.1:9/x --schema ? ?",
    "--lake LAKE publish ?",
    "? ?",
)
_ARGUMENTS = (
    *("HE", "features.daily_v1", "raw.cot", "2025-03-06", "2025-03-06T20:00:00Z", "5", "generic"),
    *("nan", "inf", "-1", "1e308", "-0", "9" * 400, "0001-01-01", "9999-12-31", "1677-09-21"),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2025-03-06T20:00", "", " "),
    *("'; drop table meta.markets; --", '"', "x' or '1'='1", "features.daily_v1; attach 'x'"),
    *("features.daily_v1 union select 1", "../../outside", "/etc/passwd", "/dev/zero", "~/outside"),
    *("lake/raw/x", "market=ZO", "*", "[a-z]", "%s%n{}", "a\nb", "\x1b[2J", "\u202e", "\udcff"),
    *(
        "s3://bucket/key",
        "s3://k:s@b/?x",
        "http://127.0.0.1:9/",
        "x" * 300,
        "-o",
        "--",
        "\uff11",
        "con",
        ".",
    ),
)


def arguments() -> Iterator[bytes]:
    """Each command with arguments of each kind."""
    for number, _ in enumerate(COMMANDS):
        for argument in _ARGUMENTS:
            yield b"%d\n" % number + argument.encode("utf-8", "surrogateescape")


def _command_line(data: bytes, folder: Path) -> None:
    """The first line says which command, the others are its arguments, in turns."""
    first, *given = data.decode("utf-8", "surrogateescape").split("\n")
    template = COMMANDS[int(re.sub("[^0-9]", "", first)[:4] or "0") % len(COMMANDS)]
    places = {
        "LAKE": str(_small_lake(folder)),
        "NEW": str(folder / "new"),
        "OUT": str(folder / "out.csv"),
        "CHAIN": str(_file(next(seeds.barchart()), folder, "c.csv")),
    }
    words = []
    for place, word in enumerate(template.split()):
        argument = given[place % len(given)] if given else "?"
        word = argument if word == "?" else places.get(word, word).replace("/?", f"/{argument}")
        if words and words[-1] in ("-o", "--lake") and not _is_inside(word, folder):
            return  # where a user says that it is to be written
        if words and words[-1] == "--lake" and _is_address(word):
            return  # a service's, which is not asked from here
        words.append(word)
    result = CliRunner().invoke(main, words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.exit_code == 1:  # an error that nobody foresaw
        raise AssertionError(f"{words}: {result.output}")


def _is_address(word: str) -> bool:
    try:
        return "://" in word and bool(Address.parse(word))
    except BadInput:
        return False


def _is_inside(word: str, folder: Path) -> bool:
    return "\0" in word or (folder / word).resolve().is_relative_to(folder)


@cache
def _made_lake() -> Path:
    """A small lake of the sample vendor, made once a process and copied for each input."""
    root = Path(tempfile.mkdtemp(prefix="hydra-fuzz-lake-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    made, known = Lake(root), dict(_bundled())
    with made.writing(NOW):
        jobs.land_sample(made, [known["HE"]], 2, NOW, lambda line: None)
        derive(made, known["HE"], NOW)
        build(made, known, NOW)
    return root


def _small_lake(folder: Path) -> Path:
    root = folder / "lake"
    shutil.copytree(_made_lake(), root)
    return root


# --- the lake's own records --------------------------------------------------------------------


def _records() -> Iterator[bytes]:
    """A JSON record of each kind after its place, and the moves that a killed writer left."""
    root = _made_lake()
    batches = sorted(Lake(root).batches.iterdir())
    for path in sorted({*root.rglob("*.json")} - {*batches[1:]}):
        yield str(path.relative_to(root)).encode() + b"\n" + path.read_bytes()
    yield b'staging/x/moves.json\n[["staging/x/1", "reach/sample-HE.json"]]\n'


def _record(data: bytes, folder: Path) -> None:
    """Put a record in its place, and do what reads it: every command but a download does."""
    lake = Lake(_small_lake(folder))
    name, _, content = data.partition(b"\n")
    known = {str(path.relative_to(lake.root)).encode() for path in lake.root.rglob("*.json")}
    known.add(b"staging/x/moves.json")
    place = lake.root / (name if name in known else b"derived/state/HE.json").decode()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    for read in (verify.verify, status.look):
        with suppress(HydraError):
            read(lake)
    with lake.writing(NOW):
        jobs.land_sample(lake, [_bundled()["HE"]], 2, NOW, lambda line: None)
        derive(lake, _bundled()["HE"], NOW)
        build(lake, dict(_bundled()), NOW)


# --- raw rows ----------------------------------------------------------------------------------


def _numbers() -> Iterator[bytes]:
    yield from (b"%d" % number for number in range(40))


def _rows(data: bytes, folder: Path) -> None:
    """Spoil a lake's raw rows, then derive and build: every number is finite or NULL."""
    rng = random.Random(data)
    lake = Lake(_small_lake(folder))
    shutil.rmtree(lake.derived)
    rows.spoil(lake, rng, columns=rng.choice((1, 3, 30)), share=rng.choice((0.001, 0.02, 0.3)))
    derive(lake, _bundled()["HE"], NOW)
    build(lake, dict(_bundled()), NOW)
    wrong = list(rows.not_finite(lake.database))
    assert not wrong, wrong


TARGETS: Mapping[str, Target] = {
    "dbn": Target("DBN file", seeds.dbn, _dbn),
    "cot_text": Target("COT text in a zip", seeds.cot_text, _cot_text),
    "cot_zip": Target("COT zip", seeds.cot_zip, _cot_zip),
    "cboe": Target("chain file, cboe", seeds.cboe, _chain("cboe", "SPX", "quotes.csv")),
    "barchart": Target(
        "chain file, barchart",
        seeds.barchart,
        _chain("barchart", "CL", "options-2025-09-08.csv", expiry=date(2025, 11, 17)),
    ),
    "generic_csv": Target(
        "chain file, generic CSV", seeds.generic_csv, _chain("generic", "HE", "chain.csv")
    ),
    "generic_parquet": Target(
        "chain file, generic Parquet", seeds.generic_parquet, _chain("generic", "HE", "chain")
    ),
    "market": Target("market file", seeds.market_files, _market),
    "command_line": Target("command line", arguments, _command_line),
    "record": Target("record of a lake", _records, _record),
    "rows": Target("raw rows of a lake", _numbers, _rows),
}
