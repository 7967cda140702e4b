-- Rows of a day, in UTC, came twice: they differ in nothing but the vendor's sequence number.
-- severity: error
-- look_back: 0 days
with
rows_seen as (
    select
        market, 'option_quote' as dataset, available_at,
        hash(instrument_id, as_of, available_at, bid, ask, bid_size, ask_size) as content
    from raw.option_quote
    union all
    select market, 'futures_quote', available_at,
        hash(instrument_id, as_of, available_at, bid, ask, bid_size, ask_size)
    from raw.futures_quote
    union all
    select market, 'option_stat', available_at,
        hash(instrument_id, as_of, available_at, stat_type, price, quantity, stat_flags)
    from raw.option_stat
    union all
    select market, 'futures_stat', available_at,
        hash(instrument_id, as_of, available_at, stat_type, price, quantity, stat_flags)
    from raw.futures_stat
    union all
    select market, 'futures_1m', available_at, hash(instrument_id, as_of)
    from raw.futures_1m
),

days as (
    select
        r.*, (r.available_at at time zone 'UTC')::date as session_date, t.duplicate_share
    from rows_seen as r
    join meta.thresholds as t using (market)
),

-- A sketch is enough to leave out the days on which every row is another.
suspect as (
    select market, dataset, session_date
    from days
    group by market, dataset, session_date
    having approx_count_distinct(content) < (1 - any_value(duplicate_share) / 2) * count(*)
)

select
    market, session_date, dataset as subject,
    format('{} of {} rows repeat another one', count(*) - count(distinct content), count(*))
        as reason
from days
semi join suspect using (market, dataset, session_date)
group by market, session_date, dataset
having count(*) - count(distinct content) > any_value(duplicate_share) * count(*)
