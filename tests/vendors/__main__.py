"""Serve both vendors in the foreground: ``python -m tests.vendors --days 5 --market HE``."""

from __future__ import annotations

import shlex
import signal
from datetime import UTC, datetime, time, timedelta

import click

from etl.market import chosen, markets
from tests.vendors import Vendors


@click.command()
@click.option("--days", type=click.IntRange(1, 5000), default=30, help="Days that Databento has.")
@click.option("--end", type=click.DateTime(["%Y-%m-%d"]), help="Midnight that data goes up to.")
@click.option("--market", "codes", multiple=True, default=("HE", "ZO"), help="May be repeated.")
def main(days: int, end: datetime | None, codes: tuple[str, ...]) -> None:
    """Serve synthetic data as Databento and the CFTC do, until interrupted."""
    today = datetime.combine(datetime.now(UTC).date(), time(0), UTC)
    until = end.replace(tzinfo=UTC) if end else today
    known = markets()
    sold = [chosen(known, code) for code in codes]
    with Vendors(sold, until - timedelta(days=days), until) as vendors:
        click.secho("ALL DATA HERE IS SYNTHETIC, OF NO REAL MARKET.", bold=True)
        click.echo("No account, no cost. In another terminal:\n")
        for name, value in vendors.env.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        lake = "--lake /tmp/loopback-lake"
        click.echo(f"\nhydra {lake} --now {until:%FT%TZ} daily --source databento")
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
