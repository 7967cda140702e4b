-- How old each source is, one row a market and source: the newest instant it describes, when
-- that became known, and how many sessions or releases it is behind at the time of the build.
with
run as (select built_at from meta.builds),

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
        market, if(
            report = 'disaggregated_futures', 'cot', 'cot_' || replace(report, 'disaggregated_', '')
        ), 'release',
        max(as_of), max(available_at)
    from reports
    group by market, report
)

select
    s.market, s.source, s.as_of, s.available_at, s.clock,
    count(c.tick_number)::integer as ticks_behind,
    1 as max_age,
    if(ticks_behind > max_age, 'stale', 'fresh') as state
from sources as s
cross join run as r
left join meta.clock as c
    on s.market = c.market and s.clock = c.clock and c.as_of > s.as_of and c.known_at <= r.built_at
group by s.market, s.source, s.as_of, s.available_at, s.clock
order by s.market, s.source
