-- freshness_at(t): how old each source is at an instant, one row a market and source: the newest
-- instant that it describes, when that became known, and how many sessions or releases it is
-- behind.
--
-- What has landed counts, whenever it did: t moves the clock alone.
create macro freshness_at(t) as table
with
asked as materialized (select instant(t) as asked_at),

reports as (
    select market, report, as_of, available_at from raw.cot
    union all
    select market, report, as_of, available_at from raw.cot_legacy
    union all
    select market, report, as_of, available_at from raw.cot_financial
),

sources as (
    select market, 'futures' as source, 'session' as clock, max(as_of) as as_of,
        max(available_at) as available_at
    from features.futures_v1
    group by market
    union all
    select market, 'options_' || price_source, 'session', max(as_of), max(available_at)
    from features.chain_v1
    group by market, price_source
    union all
    select
        market,
        case
            when report = 'disaggregated_futures' then 'cot'
            else 'cot_' || replace(report, 'disaggregated_', '')
        end,
        'release', max(as_of), max(available_at)
    from reports
    group by market, report
)

select
    s.market, s.source, s.as_of, s.available_at, s.clock,
    count(c.tick_number)::integer as ticks_behind,
    1 as max_age,
    case when ticks_behind > max_age then 'stale' else 'fresh' end as state
from sources as s
cross join asked as a
left join meta.clock as c
    on s.market = c.market and s.clock = c.clock and c.as_of > s.as_of and c.known_at <= a.asked_at
group by s.market, s.source, s.as_of, s.available_at, s.clock
order by s.market, s.source;
