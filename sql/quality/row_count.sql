-- A day brought far fewer or far more rows of a dataset for each of its contracts than the days
-- before; contracts are counted, so that an expiry more or less is no fault.
-- severity: warning
-- look_back: 61 days
with
rows_seen as (
    select market, 'futures_1m' as dataset, available_at, instrument_id from raw.futures_1m
    union all
    select market, 'futures_quote', available_at, instrument_id from raw.futures_quote
    where feed = 'stream'
    union all
    select market, 'futures_stat', available_at, instrument_id from raw.futures_stat
    union all
    select market, 'option_quote', available_at, instrument_id from raw.option_quote
    where feed = 'stream'
    union all
    select market, 'option_stat', available_at, instrument_id from raw.option_stat
    where source not like 'chain-%'
),

by_contract as (
    select
        r.market, r.dataset, (r.available_at at time zone m.timezone)::date as session_date,
        r.instrument_id, count(*) as n
    from rows_seen as r
    join meta.markets as m using (market)
    -- The day of the run is not over.
    where session_date < (getvariable('run_at') at time zone m.timezone)::date
    group by all
),

counts as (
    select market, dataset, session_date, sum(n) / count(instrument_id) as n
    from by_contract
    group by all
),

first_pass as (
    select c.*, t.count_deviations, t.count_share,
        n < t.count_share * median(n) over past or n > median(n) over past / t.count_share as is_off
    from counts as c
    join meta.thresholds as t using (market)
    semi join meta.sessions as s
        on c.market = s.market and c.session_date = s.session_date
    window past as (
        partition by c.market, c.dataset order by c.session_date
        range between interval 30 days preceding and interval 1 day preceding
    )
),

second_pass as (
    select
        *,
        median(n) filter (where not coalesce(is_off, false)) over past as middle,
        1.4826 * mad(n) filter (where not coalesce(is_off, false)) over past as deviation,
        count(*) over past as n_past
    from first_pass
    window past as (
        partition by market, dataset order by session_date
        range between interval 30 days preceding and interval 1 day preceding
    )
)

select
    market, session_date, dataset as subject,
    format('{:.1f} rows a contract, median {:.1f} of the {} days before', n, middle, n_past)
        as reason
from second_pass
where
    n_past >= 5 and (n < count_share * middle or n > middle / count_share)
    and abs(n - middle) > count_deviations * deviation
