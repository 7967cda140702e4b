-- A source was asked after a session or a release that it should have had, and had nothing of it.
-- severity: warning
-- look_back: all
with
asked as (
    select
        r.market,
        if(starts_with(r.source, 'cftc-'), 'release', 'session') as clock,
        -- The COT reports are asked for one by one.
        replace(replace(r.source, 'cftc-', ''), 'disaggregated_', '') as report,
        max(r.until - t.source_grace_hours * interval 1 hour) as had_to_have
    from meta.reach as r
    join meta.thresholds as t using (market)
    group by all
)

select
    f.market, (f.as_of at time zone m.timezone)::date as session_date, f.source as subject,
    format('newest is of {}, though asked for {} more {}s', f.as_of, count(*), f.clock) as reason
from freshness_at(getvariable('run_at')) as f
join asked as a
    on f.market = a.market and f.clock = a.clock
    and (
        f.clock = 'session' or f.source = 'cot_' || a.report
        or (f.source = 'cot' and a.report = 'futures')
    )
join meta.markets as m on f.market = m.market
join meta.clock as c
    on f.market = c.market and f.clock = c.clock
    and c.as_of > f.as_of and c.known_at <= a.had_to_have
group by f.market, m.timezone, f.as_of, f.source, f.clock
