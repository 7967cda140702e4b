"""The command line: ``hydra``, or ``python -m etl``."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from functools import wraps
from pathlib import Path
from time import monotonic
from typing import Any

import click

from etl import completion, settings, show
from etl.engines import ENGINES
from etl.errors import (
    BadInput,
    HydraError,
    LakeBusy,
    LakeError,
    VendorError,
    beneath,
    printable,
    refusal,
)
from etl.lake import Lake, lake_at
from etl.outside import EARLIEST, LATEST

_FAILED = 3
_SAMPLE_NOTE = "SAMPLE DATA: synthetic, of no real market"

#: The markets of a run that names none: the thin ones that the project is for.
_DEFAULT_MARKETS = ("HE", "ZO")


class Hydra(click.Group):
    """Turns errors into one line and an exit code; ``--debug`` shows where they came from."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            _ended(ctx, 0)
            return result
        except SystemExit as left:
            _ended(ctx, left.code)
            raise
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click's own
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            error = beneath(error) or error
            if isinstance(error, HydraError):
                click.echo(f"hydra: {error}", err=True)
                _ended(ctx, error.exit_code, str(error))
                ctx.exit(error.exit_code)
            reason = printable(" ".join(str(error).split()))
            if refused := refusal(error):
                click.echo(f"hydra: {refused}, says the machine ({reason})", err=True)
                _ended(ctx, LakeError.exit_code, f"{refused}, says the machine ({reason})")
                ctx.exit(LakeError.exit_code)
            click.echo(f"hydra: {type(error).__name__}: {reason}; --debug shows where", err=True)
            _ended(ctx, HydraError.exit_code, f"{type(error).__name__}: {reason}")
            ctx.exit(HydraError.exit_code)


def _say(line: str) -> None:
    """Log a line for a person; ``hydra --help`` waits for no log."""
    from loguru import logger

    logger.info(line)


def _warn(line: str) -> None:
    from loguru import logger

    logger.warning(line)


def _ended(ctx: click.Context, exit_code: Any, error: str | None = None) -> None:
    """Log how a run ended, which its person sees anyway."""
    if ctx.obj is None:  # it ended before it began
        return
    from etl import logs

    if error:
        logs.note("ERROR", error)
    logs.note("INFO", f"exit code {exit_code} after {monotonic() - ctx.obj['began']:.1f} s")


class Instant(click.ParamType[datetime]):
    """An ISO 8601 instant with its zone; one without is refused, not guessed."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, datetime):
            return value
        try:
            read = datetime.fromisoformat(value)
            if read.tzinfo is not None:
                if EARLIEST <= read < LATEST:
                    return read.astimezone(UTC)
                self.fail(f"{value!r} is not in the years 1980 to 2099", param, ctx)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not an instant, such as 2025-03-06T20:00:00Z", param, ctx)
        self.fail(f"{value!r} has no zone: write {read:%FT%TZ} if it is UTC", param, ctx)


class Day(click.ParamType[date]):
    """A date, YYYY-MM-DD."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return value if isinstance(value, date) else date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a date, such as 2025-03-06", param, ctx)


class Dollars(click.FloatRange):
    """An amount of USD, zero or more; "nan" would be below any limit and above none."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        amount = super().convert(value, param, ctx)
        if math.isnan(amount):
            self.fail(f"{value!r} is not an amount", param, ctx)
        return amount


class Place(click.Path):
    """A folder, or the address of a lake in an object store."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if "://" in str(value) else super().convert(value, param, ctx)


INSTANT, DAY = Instant(), Day()


def _read_settings(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    if not ctx.resilient_parsing:
        try:
            settings.apply(ctx, path)
        except HydraError as error:
            click.echo(f"hydra: {error}", err=True)
            ctx.exit(error.exit_code)
    return path


@click.group(cls=Hydra, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--settings",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="HYDRA_SETTINGS",
    is_eager=True,
    expose_value=False,
    callback=_read_settings,
    help="File of settings, hydra.toml here by default; HYDRA_SETTINGS sets it too.",
)
@click.option(
    "--lake",
    "lake_path",
    cls=settings.Setting,
    type=Place(path_type=Path, file_okay=False),
    envvar="HYDRA_LAKE",
    default=Path("lake"),
    show_default=True,
    help="Folder of the lake, or s3://bucket/prefix (gs, az); HYDRA_LAKE sets it too.",
)
@click.option(
    "--markets",
    "markets_path",
    cls=settings.Setting,
    type=click.Path(path_type=Path, file_okay=False),
    envvar="HYDRA_MARKETS",
    help="Folder with market files of your own, which win over the bundled ones.",
)
@click.option(
    "--now",
    type=INSTANT,
    help="Run as if at this instant; the computer's clock by default.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and errors.")
@click.option("--debug", is_flag=True, help="Show a traceback where an error came from.")
@click.version_option(package_name="hydra-lake")
@click.pass_context
def main(
    ctx: click.Context,
    lake_path: Path | str,
    markets_path: Path | None,
    now: datetime | None,
    quiet: bool,
    debug: bool,
) -> None:
    """Point-in-time features of thin commodity option markets.

    \b
    Example:
      hydra daily --source sample
      duckdb lake/hydra.duckdb "from features_at('HE', now())"
    """
    from etl import logs

    def known() -> dict[str, Any]:
        from etl.market import markets

        return markets(markets_path)

    now = now or datetime.now(UTC)
    run = f"{now:%Y%m%dT%H%M%SZ}-{os.getpid()}"
    lake = lake_at(lake_path, _say)
    logs.start(lake.root, run, ctx.invoked_subcommand or "", quiet=quiet)
    ctx.obj = {
        "lake": lake,
        "markets": known,
        "now": now,
        "quiet": quiet,
        "began": monotonic(),
    }


def _chosen(obj: dict[str, Any], codes: tuple[str, ...]) -> list[Any]:
    """The markets that a command names, or the default ones."""
    from etl.market import chosen

    known = obj["markets"]()
    return [chosen(known, code) for code in codes or _DEFAULT_MARKETS]


Command = Callable[..., None]


def _reads(*, whole: bool = False) -> Callable[[Command], Command]:
    """Give a command its ``obj``, with the newest of the lake at hand.

    Parameters
    ----------
    whole : whether it opens the lake's files by itself, and not in the database's views alone
    """

    def decorate(command: Command) -> Command:
        @click.pass_obj
        @wraps(command)
        def run(obj: dict[str, Any], /, **given: Any) -> None:
            _bring(obj["lake"], whole=whole)
            command(obj, **given)

        return run

    return decorate


def _bring(lake: Lake, *, whole: bool) -> None:
    lake.bring(whole=whole)
    lake.fetch([lake.database])


def _writes(*, unless: str | None = None) -> Callable[[Command], Command]:
    """Give a command its ``obj``, and the lake to itself among all machines.

    Parameters
    ----------
    unless : the option with which it only reads
    """

    def decorate(command: Command) -> Command:
        @click.pass_obj
        @wraps(command)
        def run(obj: dict[str, Any], /, **given: Any) -> None:
            if unless and given[unless]:
                _bring(obj["lake"], whole=False)
                command(obj, **given)
            else:
                with obj["lake"].held(whole=False):
                    command(obj, **given)

        return run

    return decorate


@contextmanager
def _writing(obj: dict[str, Any]) -> Iterator[None]:
    """Hold the lock of a lake whose files are what they were when they landed."""
    from etl import verify

    with obj["lake"].writing(obj["now"]), verify.guarded(obj["lake"]):
        for line in verify.set_aside(obj["lake"]):
            _warn(line)
        yield


_MARKET = click.option(
    "--market",
    "codes",
    multiple=True,
    metavar="CODE",
    shell_complete=completion.markets,
    help="Only this market; may be repeated.",
)
_FORMAT = click.option(
    "--format",
    "file_format",
    type=click.Choice(show.FORMATS),
    default="table",
    show_default=True,
    help="A table for people, JSON or CSV for programs.",
)


def _engine(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what its derivations run on."""
    for option in (
        click.option(
            "--scheduler", metavar="ADDRESS", help="Dask's, by default two workers on this machine."
        ),
        click.option(
            "--engine",
            type=click.Choice(ENGINES),
            default="local",
            show_default=True,
            help="What derives: processes on this machine, or Dask.",
        ),
    ):
        command = option(command)
    return command


_COT = click.option(
    "--cot",
    "cot_kinds",
    type=click.Choice(["disaggregated", "legacy", "financial"]),
    multiple=True,
    help="Land the CFTC's report of this kind too, beside what a market's file names.",
)


def _paid(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that downloads what is paid for."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Show the plan and its price alone."),
        click.option(
            "--keep-downloads",
            "keep",
            cls=settings.Setting,
            type=click.Path(path_type=Path, file_okay=False),
            envvar="HYDRA_DOWNLOADS",
            help="Keep the files of Databento here; without it they go once they have landed.",
        ),
        click.option(
            "--quotes",
            cls=settings.Setting,
            type=click.Choice(["bbo-1m", "bbo-1s", "mbp-1"]),
            default="bbo-1m",
            show_default=True,
            envvar="HYDRA_QUOTES",
            help="Databento's schema of quotes: each minute's, each second's or every change.",
        ),
        _max_cost("USD that the whole plan may cost."),
    ):
        command = option(command)
    return command


def _max_cost(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--max-cost",
        cls=settings.Setting,
        type=Dollars(),
        default=5.0,
        show_default=True,
        envvar="HYDRA_MAX_COST",
        help=text,
    )


@main.command()
@click.option(
    "--source",
    type=click.Choice(["sample", "databento"]),
    help="Where data comes from; databento when there is a key, else sample.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 5000),
    help="Sessions of history: 90 of the sample, 5 of Databento by default.",
)
@_paid
@click.option(
    "--chaos", type=click.IntRange(0), metavar="SEED", help="Have the sample vendor plant faults."
)
@_COT
@_engine
@_MARKET
@_writes(unless="dry_run")
def daily(
    obj: dict[str, Any],
    /,
    source: str | None,
    days: int | None,
    chaos: int | None,
    cot_kinds: tuple[str, ...],
    engine: str,
    scheduler: str | None,
    codes: tuple[str, ...],
    **paid: Any,
) -> None:
    """Land what is new, derive, build, check, export and report.

    \b
    Example:
      hydra daily --source sample --days 120
      hydra daily --source databento --dry-run
    """
    from etl import checks, jobs, terminal

    lake, now = obj["lake"], obj["now"]
    chosen = _chosen(obj, codes)
    source = source or ("databento" if _key() else "sample")
    if chaos is not None and source != "sample":
        raise BadInput(f"--chaos plants faults in the sample's data alone: {source} has its own")
    if source == "sample":
        if other := sorted({*cot_kinds} - {"disaggregated"}):
            raise BadInput(f"the sample vendor has no {other[0]} COT report: leave --cot out")
        chosen = _sampled(chosen)
        _say(_SAMPLE_NOTE)
    wanted = {market.code: jobs.recent(market, days or 5, now) for market in chosen}
    if paid["dry_run"]:
        if source == "sample":
            click.echo("the sample vendor costs nothing")
        else:
            _download(obj, chosen, wanted, **paid)
        return
    failed: VendorError | None = None
    with _writing(obj):
        if source == "sample":
            with terminal.working("landing", quiet=obj["quiet"]) as at:
                jobs.land_sample(lake, chosen, days or 90, now, _told(at), chaos)
        else:
            _download(obj, chosen, wanted, **paid)
            try:
                with terminal.working("landing reports", quiet=obj["quiet"]) as at:
                    jobs.land_reports(lake, chosen, now, _told(at), cot_kinds=cot_kinds)
            except VendorError as error:  # what has landed is of use without the reports
                failed = error
        lake.publish()  # what was paid for is there, whatever comes of the rest
        _derive(obj, (), engine, scheduler)
        is_new = not _is_all_there(obj)
        if is_new:
            _build(obj)
        findings = checks.findings(checks.kept(lake, lake.built_at() or now))
    _tell_findings(findings)
    if is_new:
        _export_daily(lake)
        _report(obj, lake.report, None)
    else:
        _say(f"nothing new: {lake.database}, exports and report stay as they are")
        click.echo(f"report: {lake.report}")
    _summary(obj)
    if "error" in findings["severity"]:
        _warn("the checks found errors: hydra check lists them")
    if failed:
        raise failed


@main.command()
@click.option("--start", type=DAY, required=True, help="First day.")
@click.option("--end", type=DAY, required=True, help="Last day.")
@_paid
@_COT
@_MARKET
@_writes(unless="dry_run")
def backfill(
    obj: dict[str, Any],
    /,
    start: date,
    end: date,
    cot_kinds: tuple[str, ...],
    codes: tuple[str, ...],
    **paid: Any,
) -> None:
    """Land years of history from Databento and the CFTC, month by month.

    What the lake has is not asked for again, so an interrupted run goes on where it ended.

    \b
    Example:
      hydra backfill --market HE --start 2015-01-01 --end 2024-12-31 --max-cost 50
    """
    from etl import jobs

    if end < start:
        raise BadInput(f"--end {end} is before --start {start}")
    lake, now = obj["lake"], obj["now"]
    chosen = _chosen(obj, codes)
    span = _midnight(start), min(_midnight(end + timedelta(days=1)), now)
    wanted = {market.code: span for market in chosen}
    if paid["dry_run"]:
        _download(obj, chosen, wanted, **paid)
        return
    with _writing(obj):
        _download(obj, chosen, wanted, by_month=True, **paid)
        jobs.land_reports(lake, chosen, now, _say, start.year, cot_kinds)
    _say("next: hydra derive && hydra build")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _key() -> str:
    from etl import keys

    return keys.databento_key()


def _asker() -> Any:
    from etl.sources import databento

    key = _key()
    if not key:
        raise BadInput(
            "no Databento key: set DATABENTO_API_KEY, or store it with keyring set hydra-lake "
            "databento; hydra daily --source sample needs none"
        )
    return databento.connect(key, _warn)


def _download(
    obj: dict[str, Any],
    chosen: list[Any],
    wanted: dict[str, Any],
    *,
    max_cost: float,
    quotes: str,
    keep: Path | None,
    dry_run: bool,
    by_month: bool = False,
) -> None:
    """Show what the lake lacks of Databento's data and its price, and land it unless it is dry."""
    from etl import downloads, terminal

    ask = _asker()
    plan = downloads.plan(obj["lake"], wanted, chosen, ask, quotes)
    for note in plan.notes:
        _warn(note)
    if not plan.priced:
        _say("Databento has nothing that the lake lacks")
        return
    if dry_run or not obj["quiet"]:
        show.show(plan.HEADER, plan.rows(), stderr=not dry_run)
    if dry_run:
        return
    plan.check_cost(max_cost)
    by_code = {market.code: market for market in chosen}
    number = len(plan.steps(by_month))
    done: list[downloads.Step] = []
    with terminal.Progress(number, quiet=obj["quiet"] or not by_month) as progress:
        report = progress.at if by_month else _say
        for step in downloads.land_plan(
            obj["lake"], plan, by_code, ask, obj["now"], report, by_month=by_month, keep=keep
        ):
            done.append(step)
            if by_month:
                obj["lake"].publish()
            progress.step(step.line())
    _say(downloads.summary(done))


def _sampled(chosen: list[Any]) -> list[Any]:
    from etl.sources import sample

    if unknown := [market.code for market in chosen if market.code not in sample.MARKETS]:
        raise BadInput(
            f"the sample vendor has no {', '.join(unknown)}: it has {', '.join(sample.MARKETS)}"
        )
    return chosen


@main.group()
def land() -> None:
    """Land files that are on disk already.

    \b
    Example:
      hydra land dbn downloads/
    """


def _land(obj: dict[str, Any], job: Callable[[], Any]) -> None:
    """Run a landing job under the lock, say what each file brought, fail if one was refused."""
    from etl import terminal

    failed = 0
    with _writing(obj), terminal.working("landing", quiet=obj["quiet"]) as at:
        for number, result in enumerate(job(), 1):
            at(f"landing, {number:,} files done")
            if isinstance(result, HydraError):
                failed += 1
                click.echo(f"hydra: {result}", err=True)
            else:
                click.echo(result.line())
    if failed:
        sys.exit(_FAILED)
    _say("next: hydra derive && hydra build")


@land.command("dbn")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@_writes()
def land_dbn(obj: dict[str, Any], paths: tuple[Path, ...]) -> None:
    """Land Databento's DBN files, or all of those in a folder.

    \b
    Example:
      hydra land dbn definitions.dbn.zst bbo-1m.dbn.zst
    """
    from etl import jobs

    _land(obj, lambda: jobs.land_dbn(obj["lake"], obj["markets"](), paths, obj["now"]))


@land.command("cot")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@_writes()
def land_cot(obj: dict[str, Any], paths: tuple[Path, ...]) -> None:
    """Land the CFTC's yearly zips: Disaggregated, Legacy or Financial, with options or without.

    \b
    Example:
      hydra land cot fut_disagg_txt_2024.zip com_disagg_txt_2024.zip
    """
    from etl import jobs

    _land(obj, lambda: jobs.land_cot(obj["lake"], obj["markets"](), paths, obj["now"]))


@land.command("chain")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["cboe", "barchart", "generic"]),
    required=True,
    help="How the file is laid out; docs/chain-files.md describes each.",
)
@click.option(
    "--market",
    "code",
    metavar="CODE",
    required=True,
    shell_complete=completion.markets,
    help="Market of the options.",
)
@click.option("--quote-time", type=INSTANT, help="When the snapshot was taken.")
@click.option("--expiry", type=DAY, help="Expiry of a file that holds one and does not say which.")
@click.option("--expiration", type=INSTANT, help="The instant at which that expiry expires.")
@click.option(
    "--underlying-price",
    type=click.FloatRange(0, min_open=True),
    help="The underlying's price at the snapshot, where the file has none.",
)
@_writes()
def land_chain(
    obj: dict[str, Any],
    path: Path,
    file_format: str,
    code: str,
    quote_time: datetime | None,
    expiry: date | None,
    expiration: datetime | None,
    underlying_price: float | None,
) -> None:
    """Land an end-of-day chain from a file of another source.

    \b
    Example:
      hydra land chain quotedata.csv --format cboe --market SPX
      hydra land chain options.csv --format barchart --market CL \\
        --expiry 2025-11-17 --quote-time 2025-09-08T15:40:00-05:00
    """
    from etl.landing import land as land_payload
    from etl.sources import chain

    (market,) = _chosen(obj, (code,))
    payload = chain.read(
        path,
        file_format,
        market,
        quote_time=quote_time,
        expiry=expiry,
        expiration=expiration,
        underlying_price=underlying_price,
    )
    _land(obj, lambda: [land_payload(obj["lake"], payload, obj["now"], "vendor")])


@main.command()
@click.option("--market", "code", metavar="CODE", required=True, help="Market of the options.")
@click.option("--on", "day", type=DAY, help="Day to look at; the day before yesterday by default.")
@_max_cost("USD that the definitions of that day may cost.")
@click.pass_obj
def roots(obj: dict[str, Any], code: str, day: date | None, max_cost: float) -> None:
    """Find options on a market's future whose root the market's file lacks.

    Asks Databento for the definitions of every instrument on one day.

    \b
    Example:
      hydra roots --market HE --on 2026-11-20
    """
    from etl import downloads

    (market,) = _chosen(obj, (code,))
    midnight = _midnight(day or (obj["now"] - timedelta(days=2)).date())
    found, usd = downloads.find_roots(market, midnight, _asker(), max_cost)
    _say(f"definitions of {midnight:%Y-%m-%d}: USD {usd:.2f}")
    for root in found:
        click.echo(f"{root.parent}: {root.contracts:,} options on {market.futures_root} futures")
    if found:
        parents = [*market.option_parents, *(root.parent for root in found)]
        click.echo(f"in {market.code}.toml: option_parents = {json.dumps(parents)}")
    else:
        click.echo(f"{market.code}: no root is missing")


@main.command()
@_engine
@_MARKET
@_writes()
def derive(obj: dict[str, Any], engine: str, scheduler: str | None, codes: tuple[str, ...]) -> None:
    """Compute chains, surfaces, densities, moments and flows of what landed.

    \b
    Example:
      hydra derive --market HE
      hydra derive --engine dask --scheduler tcp://10.0.0.5:8786
    """
    with _writing(obj):
        _derive(obj, codes, engine, scheduler)


def _derive(
    obj: dict[str, Any], codes: tuple[str, ...], engine: str, scheduler: str | None
) -> None:
    from etl import engines, release, terminal
    from etl.derive import derive_markets
    from etl.market import chosen

    release.verify()
    lake, known = obj["lake"], obj["markets"]()
    markets = [chosen(known, code) for code in dict.fromkeys(codes or lake.markets())]
    with (
        terminal.working("deriving", quiet=obj["quiet"]) as at,
        engines.opened(engine, scheduler) as on,
    ):
        for done in derive_markets(lake, markets, obj["now"], _told(at), on):
            _say(f"{done.market}: {done.sessions} sessions derived, {done.rows:,} rows")


def _told(at: Callable[[str], None]) -> Callable[[str], None]:
    """What a job is at, for the terminal's living line and for the log."""

    def tell(line: str) -> None:
        at(line)
        _say(line)

    return tell


@main.command()
@_writes()
def build(obj: dict[str, Any]) -> None:
    """Make the database anew from what is landed and derived.

    \b
    Example:
      hydra build && duckdb lake/hydra.duckdb
    """
    with _writing(obj):
        _build(obj)


def _build(obj: dict[str, Any]) -> None:
    from etl import cot_releases, release, terminal, verify
    from etl.build import build as build_database

    verify.refuse_wrong(obj["lake"], raw=False, derived=True)  # a writer looks at raw ones first
    with terminal.working(f"building {obj['lake'].database}", quiet=obj["quiet"]):
        build_database(obj["lake"], obj["markets"](), obj["now"])
    _say(f"built {obj['lake'].database}")
    today = obj["now"].date()
    for line in [*release.outdated(today), cot_releases.runs_out(today)]:
        if line:
            _warn(line)


@main.command()
@click.option("--strict", is_flag=True, help="Exit 1 when there are warnings.")
@_FORMAT
@click.option(
    "--repair", is_flag=True, help="Set damaged and foreign Parquet files aside; no other check."
)
@click.pass_obj
def check(obj: dict[str, Any], strict: bool, file_format: str, repair: bool) -> None:
    """Run the checks on the built database and say what they found.

    Exits 0, 1 (warnings, with --strict) or 2 (errors). quality.checks keeps what every run found.

    \b
    Example:
      hydra check --strict
      hydra check --format json
    """
    if repair:  # the database has views on the files that go
        _repair(obj)
        return
    from etl import checks

    lake, now = obj["lake"], obj["now"]
    lake.bring(whole=False)
    results = checks.look(lake, now)
    try:
        with lake.held(whole=False), lake.writing(now):
            checks.keep(lake, results, now)
    except (LakeBusy, LakeError) as error:  # to look needs no lock, and no right to write
        _warn(f"not kept in quality.checks: {error}")
    findings = checks.findings(results)
    if file_format == "table":
        _tell_findings(findings)
    else:
        show.show(findings.columns, findings.rows(), file_format)
    severities = set(findings["severity"])
    if "error" in severities:
        sys.exit(2)
    if strict and severities:
        sys.exit(1)


def _repair(obj: dict[str, Any]) -> None:
    """Set aside what is wrong, and say what that means."""
    from etl import verify

    lake = obj["lake"]
    with lake.held(), lake.writing(obj["now"]):
        wrong = verify.repair(lake, obj["now"])
        missing = verify.set_aside(lake)
        swept = lake.sweep()
    for found in wrong:
        click.echo(f"set aside {found.line()}")
    if not wrong:
        click.echo("nothing to set aside")
    if swept:
        click.echo(f"removed {swept:,} objects that no run refers to")
    for line in missing:
        _warn(line)
    if wrong:
        _say("next: hydra derive && hydra build")


def _tell_findings(findings: Any) -> None:
    """Print a table with a line a check and market that has findings."""
    from etl.checks import summary

    if findings.is_empty():
        click.echo("checks: nothing found")
        return
    show.show(("severity", "check", "market", "findings", "newest"), summary(findings))


@main.command()
@_FORMAT
@_reads(whole=True)
def verify(obj: dict[str, Any], file_format: str) -> None:
    """Compare every file of the lake with its recorded hash and row count.

    Exits 0, or 2 with a line for each file that differs, is gone or was not brought by a landing.

    \b
    Example:
      hydra verify
    """
    from etl.verify import set_aside
    from etl.verify import verify as compare

    count, wrong = compare(obj["lake"])
    if file_format != "table":
        show.show(("path", "reason"), [(found.path, found.reason) for found in wrong], file_format)
    else:
        for found in wrong:
            click.echo(found.line())
    for line in set_aside(obj["lake"]):
        _warn(line)
    if wrong:
        sys.exit(2)
    if file_format == "table":
        click.echo(f"verify: {count:,} files are as they were recorded")


@main.command()
@_MARKET
@_writes()
def compact(obj: dict[str, Any], codes: tuple[str, ...]) -> None:
    """Merge the small raw files of closed months into one a dataset, market and month.

    Rows stay as they landed, and the batches' records keep the small files' hashes. These files
    stay for open readers of older databases; a later run, seven days on, removes them.

    \b
    Example:
      hydra compact --market HE
    """
    from etl.compact import compact as merge
    from etl.market import chosen

    for code in codes:
        chosen(obj["markets"](), code)
    with _writing(obj):
        done = merge(obj["lake"], obj["now"], codes)
    click.echo(done.line())
    for code in done.waiting:
        _warn(f"{code}: not all of it is derived; what is not keeps its files")
    if done.months:
        _say("next: hydra build")


@main.command()
@click.option(
    "--samples",
    type=click.IntRange(0, 1000),
    default=3,
    show_default=True,
    help="How many instants of the history to draw; the same lake gives the same ones.",
)
@click.option(
    "--at", "instants", type=INSTANT, multiple=True, help="Replay this instant too; repeatable."
)
@_reads(whole=True)
def audit(obj: dict[str, Any], samples: int, instants: tuple[datetime, ...]) -> None:
    """Prove that no answer knows what came after its instant.

    At each instant everything is rebuilt from the raw rows known by then, in a lake of its own
    that is thrown away, and compared with what the database answers. Raw rows that say they were
    known before they can have been are looked for as well. Exits 0, or 2 with a line a finding.

    \b
    Example:
      hydra audit --samples 1 --at 2026-11-20T20:30:00Z
    """
    from etl import terminal
    from etl.audit import audit as look

    with terminal.working("looking at times", quiet=obj["quiet"]) as at:
        done = look(obj["lake"], obj["markets"](), samples, instants, _told(at))
    for finding in done.findings:
        click.echo(printable(finding))
    if done.findings:
        sys.exit(2)
    click.echo(f"audit: nothing found; {len(done.instants)} instants replayed")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--at", "known_at", type=INSTANT, help="What the market could know at this instant.")
@click.option("--had-at", type=INSTANT, help="What this lake had landed at this instant.")
@_reads(whole=True)
def replay(
    obj: dict[str, Any], folder: Path, known_at: datetime | None, had_at: datetime | None
) -> None:
    """Make a lake in FOLDER as this one stood at an instant, by one clock or by both.

    It holds the raw rows known (--at) and landed (--had-at) by then, derived and built as of then
    with the code of today. Ask it with duckdb, or with any command and --lake FOLDER.

    \b
    Example:
      hydra replay /tmp/thursday --had-at 2026-11-19T20:30:00Z
      duckdb /tmp/thursday/hydra.duckdb "from features_at('HE', '2026-11-19T20:30:00Z')"
    """
    from etl.replay import replay as make

    if known_at is None and had_at is None:
        raise click.UsageError("give --at, --had-at or both")
    target = Lake(folder)
    rows = make(obj["lake"], target, obj["markets"](), known_at=known_at, had_at=had_at)
    if rows:
        click.echo(f"{target.database}: {rows:,} raw rows{_note(obj['lake'])}")
    else:
        click.echo(f"{folder}: nothing was there yet")


@main.command()
@click.argument("view", required=False, shell_complete=completion.views)
@click.option(
    "--query",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Export what the SELECT in this file gives, instead of a view.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "parquet", "arrow", "xlsx"]),
    default="csv",
    show_default=True,
    help="Kind of file; xlsx needs the extra hydra-lake[excel].",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write, or with --partition-by the new folder.",
)
@click.option(
    "--market",
    "code",
    metavar="CODE",
    shell_complete=completion.markets,
    help="Only this market.",
)
@click.option("--start", type=DAY, help="First session date.")
@click.option("--end", type=DAY, help="Last session date.")
@click.option("--at", type=INSTANT, help="Only rows that were known at this instant.")
@click.option(
    "--partition-by",
    multiple=True,
    metavar="COLUMN",
    help="A folder for each value of this column; may be repeated.",
)
@_reads()
def export(
    obj: dict[str, Any],
    view: str | None,
    query: Path | None,
    file_format: str,
    output: Path,
    code: str | None,
    start: date | None,
    end: date | None,
    at: datetime | None,
    partition_by: tuple[str, ...],
) -> None:
    """Write a view, or what a query gives, to a file, and say beside it what is in it.

    \b
    Example:
      hydra export features.daily_v1 --format csv -o daily.csv --market HE
      hydra export features.chain_v1 --format parquet -o chains/ --partition-by market
      hydra export --query skew.sql -o skew.csv
    """
    from etl.export import export as export_view
    from etl.export import export_query

    database = obj["lake"].database
    if (view is None) == (query is None):
        raise click.UsageError("give a view, or a file with --query")
    if view is not None:
        rows = export_view(
            database,
            view,
            file_format,
            output,
            market=code,
            start=start,
            end=end,
            at=at,
            partition_by=partition_by,
        )
    else:
        assert query is not None
        if code or start or end or at:
            raise click.UsageError(
                "--market, --start, --end and --at go with a view: put them in the query"
            )
        rows = export_query(database, query, file_format, output, partition_by=partition_by)
    click.echo(printable(f"{output}: {rows:,} rows of {view or query}{_note(obj['lake'])}"))


@main.command()
@click.argument("url")
@click.argument("views", nargs=-1, metavar="[VIEW]...", shell_complete=completion.views)
@click.option("--schema", default="hydra", show_default=True, help="Schema that holds the tables.")
@_reads()
def publish(obj: dict[str, Any], url: str, views: tuple[str, ...], schema: str) -> None:
    """Upsert features into PostgreSQL, every vintage kept: all views, or those named.

    \b
    Example:
      hydra publish postgresql://hydra@db.example.org/research
      hydra publish postgresql:///research features.daily_v1 --schema lean_hogs
    """
    from etl.publish import publish as publish_views

    for done in publish_views(obj["lake"].database, url, views, schema):
        counts = f"{done.added:,} rows new, {done.changed:,} changed"
        click.echo(f"{done.view}: {counts}{_note(obj['lake'])}")


def _is_all_there(obj: dict[str, Any]) -> bool:
    """Whether all that a daily run makes is there and says what it would say now."""
    from etl import checks
    from etl.increment import stands

    lake = obj["lake"]
    made = [lake.report, *_exports(lake).values()]
    if not lake.database.exists() or not checks.is_kept(lake, lake.built_at()):
        return False
    built = lake.made_at(lake.database)
    is_newer = all(path.exists() and lake.made_at(path) >= built for path in made)
    return is_newer and stands(lake, obj["markets"](), obj["now"])


def _exports(lake: Lake) -> dict[str, Path]:
    """Format → the file that a daily run exports."""
    name = "sample_daily_v1" if lake.origin == "sample" else "daily_v1"
    return {kind: lake.root / "exports" / f"{name}.{kind}" for kind in ("csv", "parquet")}


def _note(lake: Lake) -> str:
    """What ends a line about data that is synthetic."""
    return f"; {_SAMPLE_NOTE}" if lake.origin == "sample" else ""


def _export_daily(lake: Lake) -> None:
    from etl.export import export as export_view

    for file_format, target in _exports(lake).items():
        export_view(lake.database, "features.daily_v1", file_format, target)
    _say(f"exported features.daily_v1 to {target.parent}")


@main.command("report")
@click.option("--at", type=INSTANT, help="Draw the page as it could have been drawn then.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; report.html in the lake by default.",
)
@_writes(unless="output")
def report_page(obj: dict[str, Any], at: datetime | None, output: Path | None) -> None:
    """Write one HTML page to look at: every market's smiles, densities, flows and positions.

    The page holds all that it needs and asks nothing of the outside.

    \b
    Example:
      hydra report --at 2026-11-20T20:30:00Z -o then.html
    """
    _report(obj, output or obj["lake"].report, at)


def _report(obj: dict[str, Any], target: Path, at: datetime | None) -> None:
    from etl.report import report

    report(obj["lake"], target, obj["now"], at)
    click.echo(f"report: {target}")


@main.command()
@_FORMAT
@_reads()
def status(obj: dict[str, Any], file_format: str) -> None:
    """Show what the lake holds, from when to when, how much, and how fresh it is.

    \b
    Example:
      hydra status
      hydra status --format json
    """
    _summary(obj, file_format)


def _summary(obj: dict[str, Any], file_format: str = "table") -> None:
    from etl import status as held

    lake = obj["lake"]
    found = held.look(lake)
    if file_format == "table":
        note = _SAMPLE_NOTE if lake.origin == "sample" else "vendor data"
        click.echo(printable(f"{lake.name}: {note}"))
        for line in found.lines():
            click.echo(printable(line))
        show.show(found.COLUMNS, found.holdings)
    else:
        show.show(*found.table(lake.origin), file_format)


@main.command()
@_FORMAT
@_reads()
def markets(obj: dict[str, Any], file_format: str) -> None:
    """List the configured markets, and how thick each was by month in this lake.

    Liquid strikes and expiries of full quality are those of an average session: a market is
    thick enough to study where they are many.

    \b
    Example:
      hydra markets
      hydra markets --format csv
    """
    from etl import status as held

    listed = held.configured(obj["markets"]())
    thickness = held.thickness(obj["lake"])
    if file_format == "table":
        show.show(held.MARKET, listed)
        if thickness:
            click.echo()
            show.show(held.THICKNESS, thickness)
    else:
        show.show(*held.by_month(listed, thickness), file_format)


@main.command()
@click.argument("query", required=False)
@_FORMAT
@click.option(
    "--limit",
    type=click.IntRange(0),
    help="Rows to print of each result: 40 of a table, all of JSON and CSV by default.",
)
@_reads()
def sql(obj: dict[str, Any], query: str | None, file_format: str, limit: int | None) -> None:
    """Ask the database in SQL, for reading, with the functions of mathlib.

    Without QUERY it takes what is piped in, or opens a session to type in.

    \b
    Example:
      hydra sql "from features_at('HE', now())"
      hydra sql "select implied_vol(2.1, 84.0, 86.0, 0.2, 0.04, true, true).vol" --format json
      cat skew.sql | hydra sql
    """
    from etl import shell
    from etl.reader import Reader

    if limit is None and file_format == "table":
        limit = 40
    with Reader(obj["lake"].root) as reader:
        if query is None and sys.stdin.isatty():
            shell.interact(reader, file_format, limit)
        else:
            shell.run(reader, sys.stdin.read() if query is None else query, file_format, limit)


@main.command()
@click.argument("name", required=False, shell_complete=completion.views)
@click.option("--markdown", is_flag=True, help="Print all of it, as docs/catalog.md has it.")
@_FORMAT
def catalog(name: str | None, markdown: bool, file_format: str) -> None:
    """Say what a view, a column of one or a feature is, or list the views.

    \b
    Example:
      hydra catalog surface_v1
      hydra catalog surface_v1.atm_iv
      hydra catalog opt_atm_iv_30d
      hydra catalog --format csv
    """
    from etl import catalog as made

    if markdown:
        if name is not None:
            raise BadInput("--markdown prints the whole catalog: leave the name out")
        click.echo(made.markdown(), nl=False)
    elif file_format == "table":
        click.echo(made.overview() if name is None else made.describe(name))
    else:
        show.show(made.COLUMNS, made.rows(name), file_format)


@main.command()
@click.argument("path", type=click.Path(path_type=Path), default=settings.DEFAULT)
def init(path: Path) -> None:
    """Write a settings file with a comment for each setting; one that is there stays.

    Flags win over the file, the file over the environment. It is read from the folder that hydra
    runs in, or from where --settings or HYDRA_SETTINGS says.

    \b
    Example:
      hydra init
    """
    settings.write(path)
    click.echo(f"{path}: every setting is there, none is set")


@main.command()
@_FORMAT
@_reads()
def doctor(obj: dict[str, Any], file_format: str) -> None:
    """Say whether machine, versions, key, lake and calendars are fit for a run.

    Exits 0, or 1 when a check fails.

    \b
    Example:
      hydra doctor
    """
    from etl import doctor as examined

    lake, known = obj["lake"], obj["markets"]()
    codes = [*dict.fromkeys((*_DEFAULT_MARKETS, *lake.markets()))]
    wanted = {code: known[code] for code in codes if code in known}
    findings = examined.examine(lake, wanted, _key(), obj["now"])
    show.show(examined.COLUMNS, findings, file_format)
    if any(state == "fail" for _, state, *_ in findings):
        sys.exit(1)


@main.command("release")
@click.argument("view", shell_complete=completion.views)
@click.pass_obj
def release_view(obj: dict[str, Any], view: str) -> None:
    """Freeze a view's SQL file: from then on a change of it needs a new version.

    \b
    Example:
      hydra release cot_v1
    """
    from etl import release

    drafts = release.release(view, obj["now"])
    click.echo(f"{view} is released: commit sql/features and sql/releases.toml")
    if drafts:
        _warn(f"it reads drafts, which may still change: {', '.join(drafts)}")
