"""The risk-neutral density of hogs before and after a Hogs & Pigs report.

USDA's report comes out at 15:00 in New York, after the session: "before" is the last session
whose cut-off comes before it, "after" the first whose cut-off follows, each as it was known at
its cut-off.  The sample vendor's world is synthetic and knows nothing of the report: there
the two differ by chance.

    python examples/density_around_hogs_and_pigs.py lake out
    python examples/density_around_hogs_and_pigs.py lake out --report 2026-09-24

Writes ``density_around_hogs_and_pigs.csv`` and ``density_around_hogs_and_pigs.svg``.
"""

from __future__ import annotations

import argparse
from datetime import date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl
from duckdb import DuckDBPyConnection

import etl

#: Release dates of Quarterly Hogs and Pigs, as NASS's Agricultural Statistics Board lists them:
#: https://www.nass.usda.gov/Publications/Calendar/ (a year's are scheduled the autumn before
#: and may move: compare them with the calendar).
REPORTS = (
    *(date(2024, 3, 28), date(2024, 6, 27), date(2024, 9, 26), date(2024, 12, 23)),
    *(date(2025, 3, 27), date(2025, 6, 26), date(2025, 9, 25), date(2025, 12, 23)),
    *(date(2026, 3, 26), date(2026, 6, 25), date(2026, 9, 24), date(2026, 12, 23)),
)
RELEASED = time(15, tzinfo=ZoneInfo("America/New_York"))

#: The last cut-off before an instant and the first after it, at which there are densities.
CUT_OFFS = """
select
    max(as_of) filter (where as_of < $released) as before,
    min(as_of) filter (where as_of > $released) as after
from features.density_v1
where market = 'HE' and price_source = 'quote'
    and as_of between $released - interval '6 days' and $released + interval '6 days'
"""

#: The first expiry at least 30 days after the report whose slice is thick enough on both sides.
EXPIRY = """
select min(expiry)
from (
    select expiry
    from features.density_v1
    where market = 'HE' and price_source = 'quote' and as_of in ($before, $after)
        and available_at <= as_of and expiry >= $released::date + 30
    group by expiry
    having count(distinct as_of) = 2
)
"""

DENSITY = """
select if(as_of = $before, 'before', 'after') as "when", strike, density
from features.density_v1
where market = 'HE' and price_source = 'quote' and as_of in ($before, $after)
    and available_at <= as_of and expiry = $expiry and cdf between 0.001 and 0.999
order by as_of, strike
"""

MOMENTS = """
select
    if(as_of = $before, 'before', 'after') as "when", as_of, forward,
    sqrt(log_variance / t_years) as volatility, log_skew, log_skew_se, q05, q50, q95,
    p_down_10, p_up_10
from features.moments_v1
where market = 'HE' and price_source = 'quote' and as_of in ($before, $after)
    and available_at <= as_of and expiry = $expiry
order by as_of
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lake", type=Path)
    parser.add_argument("folder", type=Path, help="where the CSV and the chart go")
    parser.add_argument("--report", type=date.fromisoformat, help="the newest in the lake if none")
    options = parser.parse_args()
    with etl.open_lake(options.lake) as lake:
        ((origin,),) = lake.connection.sql("select origin from meta.builds").fetchall()
        day, given = around(lake.connection, (options.report,) if options.report else REPORTS)
        density = lake.connection.sql(DENSITY, params=given).pl()
        moments = lake.connection.sql(MOMENTS, params=given).pl()
    options.folder.mkdir(parents=True, exist_ok=True)
    density.write_csv(options.folder / "density_around_hogs_and_pigs.csv")
    note = "SAMPLE DATA, synthetic. " if origin == "sample" else ""
    title = f"{note}HE {given['expiry']}, around the Hogs & Pigs report of {day}"
    chart(density, title).save(options.folder / "density_around_hogs_and_pigs.svg")
    print(title)
    with pl.Config(tbl_cols=-1, tbl_width_chars=160, tbl_hide_dataframe_shape=True):
        print(moments)


def around(
    connection: DuckDBPyConnection, reports: tuple[date, ...]
) -> tuple[date, dict[str, object]]:
    """The newest report with a density on both sides: its cut-offs and the expiry to look at."""
    for day in sorted(reports, reverse=True):
        released = {"released": datetime.combine(day, RELEASED)}
        ((before, after),) = connection.sql(CUT_OFFS, params=released).fetchall()
        sides = {"before": before, "after": after}
        ((expiry,),) = connection.sql(EXPIRY, params=released | sides).fetchall()
        if expiry is not None:
            return day, sides | {"expiry": expiry}
    asked = f"{reports[0]}'s report" if len(reports) == 1 else "any report"
    raise SystemExit(f"the lake has no density on both sides of {asked}")


def chart(density: pl.DataFrame, title: str) -> alt.Chart:
    return (
        alt.Chart(density, title=title, width=520, height=280)
        .mark_line()
        .encode(
            alt.X("strike:Q", title="price at expiry, US cents a pound", scale={"zero": False}),
            alt.Y("density:Q", title="density, per cent a pound"),
            alt.Color("when:N", sort=["before", "after"], title=None),
        )
    )


if __name__ == "__main__":
    main()
