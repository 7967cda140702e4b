-- The sessions whose derived rows may change since the last run, a superset: those that files
-- landed since then reach (`fresh.*` are views over them), those whose cut-off has passed
-- since, and those of which a settlement became known since.  `derive.months` are the months
-- of which there are prices or statistics at all.
with
-- A statistic counts from its reference date for as long as it may be carried forward.
fresh_stats as (
    select
        available_at, coalesce(ref_date::timestamp at time zone 'UTC', as_of) as counts_from
    from fresh.option_stat
    union all
    select
        available_at, coalesce(ref_date::timestamp at time zone 'UTC', as_of) as counts_from
    from fresh.futures_stat
),

-- A quote or a bar counts in the session in which it became known, and a chain file in the
-- session of its day, which may have closed days before the file's stamp.
fresh_prices as (
    select available_at, if(feed = 'snapshot', 5, 1) as days from fresh.option_quote
    union all
    select available_at, 1 as days from fresh.futures_quote
    union all
    select available_at, 1 as days from fresh.futures_1m
    union all
    select available_at, 2 as days from fresh.futures_1d
),

reach as (
    select min(counts_from) - interval 1 day as first, max(available_at) + interval 11 days as last
    from fresh_stats
    group by date_trunc('month', available_at)
    union all
    select min(available_at) - max(days) * interval 1 day, max(available_at)
    from fresh_prices
    group by date_trunc('month', available_at)
    union all
    -- A definition counts from when it is known until a newer one.
    select min(available_at), timestamptz '9999-01-01 00:00:00+00' from fresh.option_definition
    union all
    select min(available_at), timestamptz '9999-01-01 00:00:00+00' from fresh.futures_definition
),

reached as (
    select s.session_date
    from meta.sessions as s
    join reach as r
        on s.close_at + interval 1 day >= r.first
        and s.open_at - interval 1 day <= r.last
    where s.open_at <= (select known_at from derive.run)
),

passed as (
    select s.session_date
    from meta.sessions as s
    join derive.run as r on s.cut_off > r.last_known_at and s.cut_off <= r.known_at
),

settled_dates as (
    select distinct t.market, t.ref_date
    from raw.option_stat as t
    join derive.run as r on t.available_at > r.last_known_at - interval 15 minutes
    where t.stat_type = 3
),

settled as (
    select s.session_date
    from settled_dates as t
    asof join meta.sessions as s
        on t.market = s.market and t.ref_date >= s.session_date
)

select session_date
from (
    select * from reached
    union
    select * from passed
    union
    select * from settled
) as candidates
semi join derive.months
    on session_date between first_day - interval 5 days and first_day + interval 45 days
where session_date is not null
order by session_date
