"""What did I know on that Thursday, and what do I know of it today?

Beside each answer as it was known at noon in Chicago on the lake's last Thursday (or at the
instant given) stands the one with hindsight: the newest value that describes the market up to
that instant, whenever it came out.  Positions differ: Tuesday's report is out on Friday.

    python examples/known_on_that_thursday.py lake out
    python examples/known_on_that_thursday.py lake out --market ZO --at 2026-11-19T18:00:00Z

Writes ``known_on_that_thursday.csv``.
"""

from __future__ import annotations

import argparse
from datetime import datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
from duckdb import DuckDBPyConnection

import etl

CHICAGO = ZoneInfo("America/Chicago")
THURSDAY = 3  # of date.weekday
FEATURES = (
    *("fut_front_close", "fut_roll_yield", "opt_atm_iv_90d", "opt_rr_25d_90d"),
    *("flow_gex_calls_long_puts_short_oi", "cot_managed_money_net"),
)

#: Among the rows that describe a moment up to t, the newest moment's newest vintage, out or not.
HINDSIGHT = """
select
    feature_name,
    max(as_of) as hindsight_as_of,
    arg_max(value, (as_of, available_at)) as hindsight,
    arg_max(available_at, (as_of, available_at)) as hindsight_available_at
from features.long_v1
where market = ? and as_of <= ?
group by feature_name
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lake", type=Path)
    parser.add_argument("folder", type=Path, help="where the CSV goes")
    parser.add_argument("--market", default="HE")
    parser.add_argument("--at", type=datetime.fromisoformat, help="an instant with its zone")
    options = parser.parse_args()
    with etl.open_lake(options.lake) as lake:
        ((origin,),) = lake.connection.sql("select origin from meta.builds").fetchall()
        t = options.at or last_thursday(lake.connection)
        known = lake.features_at(options.market, t)
        later = lake.connection.sql(HINDSIGHT, params=[options.market, t]).pl()
    names = pl.DataFrame({"feature_name": FEATURES})
    table = names.join(known, on="feature_name", how="left", maintain_order="left").join(
        later, on="feature_name", how="left", maintain_order="left"
    )
    options.folder.mkdir(parents=True, exist_ok=True)
    table.write_csv(options.folder / "known_on_that_thursday.csv")
    note = "SAMPLE DATA, synthetic. " if origin == "sample" else ""
    print(f"{note}{options.market} at {t:%A %Y-%m-%d %H:%M %Z}:")
    shown = ("feature_name", "value", "quality", "as_of", "available_at", "hindsight")
    with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=160, tbl_hide_dataframe_shape=True):
        print(table.select(*shown, "hindsight_as_of"))


def last_thursday(connection: DuckDBPyConnection) -> datetime:
    """Noon in Chicago on the last Thursday that the lake has a session after."""
    text = "select max(session_date) from features.daily_v1"
    ((newest,),) = connection.sql(text).fetchall()
    day = newest - timedelta(days=1)
    day -= timedelta(days=(day.weekday() - THURSDAY) % 7)
    return datetime.combine(day, time(12), CHICAGO)


if __name__ == "__main__":
    main()
