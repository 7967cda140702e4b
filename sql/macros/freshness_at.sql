-- freshness_at(t): how old each source is at an instant, one row a market and source: the newest
-- instant that it describes, when that became known, and how many sessions or releases it is
-- behind.
--
-- What has landed counts, whenever it did: t moves the clock alone.
create macro freshness_at(t) as table
with
asked as materialized (select instant(t) as asked_at)

select
    s.market, s.source, s.as_of, s.available_at, s.clock,
    count(c.tick_number)::integer as ticks_behind,
    1 as max_age,
    case when ticks_behind > max_age then 'stale' else 'fresh' end as state
from meta.sources as s
cross join asked as a
left join meta.clock as c
    on s.market = c.market and s.clock = c.clock and c.as_of > s.as_of and c.known_at <= a.asked_at
group by s.market, s.source, s.as_of, s.available_at, s.clock
order by s.market, s.source;
