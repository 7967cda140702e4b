"""The exchange's own vols and Greeks of a Cboe quote export, beside mathlib's.

    python -m benchmarks.cboe_chain ../shared/data/chains/cboe_spx_2022-12-12.csv

The export of 2022-12-12 was taken at night.  Where it still has quotes, its IV column is zero;
where it has vols, bid and ask are zero.  So mathlib's vols here are those of the day's last
sales, on a forward by parity of the last sales, and compare with vols that the exchange took
from its closing quotes.  Deltas and gammas are computed from the exchange's own vols, so that
they compare formulas and not prices.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from etl.market import markets, rate_on
from etl.sources import parse_date
from mathlib import black76

_NEW_YORK = ZoneInfo("America/New_York")
_EXPIRES = {"SPX": (9, 30), "SPXW": (16, 0)}
_LEAST_DAYS = 5  # nearer to expiry a stale sale says nothing
_RESULT = Path(__file__).parent / "results" / "cboe_chain.md"


class Row(NamedTuple):
    """One series and expiry; differences are mathlib's less the exchange's."""

    series: str
    expiry: date
    forward: float
    options: int
    iv_median: float  # vol points, out-of-the-money last sales within one deviation
    iv_p05: float
    iv_p95: float
    delta_median: float  # undiscounted, of options with a size of delta from 0.05 to 0.95
    gamma_ratio: float


def options(path: Path) -> pl.DataFrame:
    """Every option of the file with what the exchange says of it."""
    found = []
    with path.open(newline="") as file:
        for line in list(csv.reader(file))[4:]:
            for first in (1, 12):
                root, day, kind, strike = re.fullmatch(
                    r"([A-Z]+)(\d{6})([CP])(\d{8})", line[first]
                ).groups()  # type: ignore[union-attr]
                last, _, bid, _, volume, iv, delta, gamma, _ = map(
                    float, (line[2:11] if first == 1 else line[13:22])
                )
                expiry = parse_date(day, "%y%m%d")
                found.append(
                    (root, expiry, kind, int(strike) / 1000, last, bid, volume, iv, delta, gamma)
                )
    names = ["series", "expiry", "kind", "strike", "last", "bid", "volume", "iv"]
    return pl.DataFrame(found, schema=[*names, "delta", "gamma"], orient="row")


def compare(chain: pl.DataFrame, closed_at: datetime) -> Iterator[Row]:
    """A row for every expiry that has three strikes with sales of both calls and puts."""
    schedule = markets()["SPX"].risk_free
    rate = rate_on(pl.Series([closed_at.date()]), schedule)[0]
    parts = chain.partition_by("series", "expiry", as_dict=True, maintain_order=True)
    for (series, expiry), of in sorted(parts.items(), key=lambda part: part[0][::-1]):
        hour, minute = _EXPIRES[series]
        at = datetime(expiry.year, expiry.month, expiry.day, hour, minute, tzinfo=_NEW_YORK)
        t = (at - closed_at).total_seconds() / (365 * 86400)
        sold = of.filter(pl.col("volume") > 5, pl.col("last") > 0, pl.col("iv") > 0)
        pairs = sold.filter(kind="C").join(sold.filter(kind="P"), on="strike")
        gap = pl.col("last") - pl.col("last_right")
        pairs = pairs.with_columns(gap=gap).sort(pl.col("gap").abs()).head(7)
        if t < _LEAST_DAYS / 365 or pairs.height < 3:
            continue
        forward = float((pairs["strike"] + pairs["gap"] * np.exp(rate * t)).median())
        near = (pl.col("strike") / forward).log().abs() < pl.col("iv") * np.sqrt(t)
        is_otm = (pl.col("kind") == "C") == (pl.col("strike") >= forward)
        quoted = sold.filter(is_otm, near)
        vol, _ = black76.implied_vol(
            quoted["last"], forward, quoted["strike"], t, rate, quoted["kind"] == "C"
        )
        points = 100 * (vol - quoted["iv"].to_numpy())
        middling = of.filter(pl.col("iv") > 0, pl.col("delta").abs().is_between(0.05, 0.95))
        greeks = black76.greeks(
            forward, middling["strike"], t, middling["iv"], rate, middling["kind"] == "C"
        )
        delta = greeks["delta"] * np.exp(rate * t) - middling["delta"].to_numpy()
        low, middle, high = np.nanquantile(points, (0.05, 0.5, 0.95))
        ratio = np.median(greeks["gamma"] / middling["gamma"].to_numpy())
        yield Row(series, expiry, forward, len(points), middle, low, high, np.median(delta), ratio)


def table(chain: pl.DataFrame, rows: list[Row]) -> str:
    """The comparison in Markdown."""
    vols, bids = chain.filter(pl.col("iv") > 0).height, chain.filter(pl.col("bid") > 0).height
    both = chain.filter(pl.col("iv") > 0, pl.col("bid") > 0).height
    lines = [
        "# Cboe's vols and Greeks beside mathlib's",
        "",
        f"{chain.height:,} options: {vols:,} with the exchange's vol, {bids:,} with a bid, "
        f"{both} with both.",
        "Vols: last sales less the exchange's, vol points, out of the money within one deviation.",
        "Delta and gamma: from the exchange's vols, less its own and over its own, medians.",
        "",
        "| series | expiry | forward | options | vol, median | 5 % | 95 % | delta | gamma ratio |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r.series} | {r.expiry} | {r.forward:.2f} | {r.options} | {r.iv_median:+.2f} "
        f"| {r.iv_p05:+.2f} | {r.iv_p95:+.2f} | {r.delta_median:+.4f} | {r.gamma_ratio:.3f} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main(path: Path) -> None:
    """Compare, print and write the table."""
    chain = options(path)
    closed_at = datetime(2022, 12, 12, 21, 15, tzinfo=UTC)  # 16:15 in New York
    text = table(chain, list(compare(chain, closed_at)))
    _RESULT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
