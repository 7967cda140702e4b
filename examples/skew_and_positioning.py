"""How did implied skew lead managed money's positions?

Once a week, on the Tuesday that a COT report describes, skew is what was known at that
instant; the change of managed money's net share of open interest is what the report said when
it came out, not what later revisions made of it.  Their correlation is shown by how many weeks
skew comes first.

    python examples/skew_and_positioning.py lake out
    python examples/skew_and_positioning.py lake out --market ZO --skew opt_settlement_rr_25d_90d

Writes ``skew_and_positioning.csv`` (a row a week) and ``skew_and_positioning.svg``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import altair as alt
import polars as pl

import etl
from etl.reader import Reader

LEADS = range(5)  # weeks

#: Each report as it came out first: the instant it describes and managed money's net share.
REPORTS = """
select
    report_date,
    min(as_of) as tuesday,
    min(available_at) as released,
    arg_min(managed_money_share, available_at) as position
from features.cot_v1
where market = ? and report = 'disaggregated_futures'
group by report_date
order by report_date
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lake", type=Path)
    parser.add_argument("folder", type=Path, help="where the CSV and the chart go")
    parser.add_argument("--market", default="HE")
    parser.add_argument("--skew", default="opt_rr_25d_90d", help="a risk reversal's feature name")
    options = parser.parse_args()
    with etl.open_lake(options.lake) as lake:
        ((origin,),) = lake.connection.sql("select origin from meta.builds").fetchall()
        reports = lake.connection.sql(REPORTS, params=[options.market]).pl()
        skew = known(lake, options.market, reports["tuesday"], options.skew)
    weeks = reports.with_columns(skew=skew).with_columns(
        skew_change=pl.col("skew").diff(), position_change=pl.col("position").diff()
    )
    leads = lead_table(weeks)
    options.folder.mkdir(parents=True, exist_ok=True)
    weeks.write_csv(options.folder / "skew_and_positioning.csv")
    note = "SAMPLE DATA, synthetic. " if origin == "sample" else ""
    title = f"{note}{options.market}: {options.skew} and managed money's share, changes over a week"
    chart(leads, title).save(options.folder / "skew_and_positioning.svg")
    print(title)
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True):
        print(leads)


def known(lake: Reader, market: str, instants: pl.Series, feature: str) -> pl.Series:
    """A feature at each instant as it was known then; NULL where it was stale or degraded."""
    spine = pl.DataFrame({"market": market, "t": instants})
    answers = lake.features_as_of(spine).filter(pl.col("feature_name") == feature)
    full = answers.with_columns(value=pl.when(pl.col("quality") == "full").then("value"))
    return spine.join(full, on="t", how="left", maintain_order="left")["value"]


def lead_table(weeks: pl.DataFrame) -> pl.DataFrame:
    """The correlation of the two changes with skew's so many weeks earlier, and of how many."""
    rows = []
    for lead in LEADS:
        pairs = weeks.select(pl.col("skew_change").shift(lead), "position_change").drop_nulls()
        correlation = pairs.select(pl.corr("skew_change", "position_change")).item()
        rows.append((lead, pairs.height, correlation if pairs.height > 2 else None))
    schema = {"weeks_ahead": pl.Int64, "n": pl.Int64, "correlation": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def chart(leads: pl.DataFrame, title: str) -> alt.Chart:
    return (
        alt.Chart(leads, title=title, width=420, height=240)
        .mark_bar(size=28)
        .encode(
            alt.X(
                "weeks_ahead:O", title="weeks that skew comes first", axis=alt.Axis(labelAngle=0)
            ),
            alt.Y("correlation:Q", scale=alt.Scale(domain=[-1, 1])),
        )
    )


if __name__ == "__main__":
    main()
