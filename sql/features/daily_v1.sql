-- The wide table: one row a market-session, every feature as it was known at the session's
-- cut-off, NULL where there was none or it had grown stale.
--
-- name: daily_v1
-- status: draft
-- stage: build
-- grain: market, session_date
-- time: as_of is the session's cut-off; each value is the newest whose as_of and available_at
--   are at or before it; available_at is the latest available_at among the values
-- sources: features.known_v1
-- max_age: 1 session, or for cot 1 release
-- look_back: 100 days
--
-- columns:
--   market VARCHAR: market code
--   session_date DATE: the exchange's trade date
--   as_of TIMESTAMP WITH TIME ZONE: the session's cut-off
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the whole row could be known
--   origin VARCHAR: vendor, or sample where the data is synthetic
--   * DOUBLE: one column a feature, in the order of meta.features, which explains each

with
spans as (
    select market, min(as_of) as first, max(as_of) as last
    from features.known_v1
    group by market
),

spine as (
    select s.market, s.session_date, s.cut_off
    from meta.sessions as s
    join spans as p using (market)
    -- No value outlives this without news: the longest the CFTC was shut was two months.
    where
        s.cut_off between p.first and p.last + interval 70 days
        and s.cut_off <= (select built_at from meta.builds)
),

-- Reports that were held up may be released at one instant.
newest_ticks as (
    select market, clock, known_at, max(tick_number) as tick_number
    from meta.clock
    group by market, clock, known_at
),

clocks as (
    select s.market, s.session_date, s.cut_off, k.clock
    from spine as s
    cross join (select distinct clock from meta.features) as k
),

ticked as (
    select c.*, n.tick_number as newest_tick
    from clocks as c
    asof left join newest_ticks as n
        on c.market = n.market and c.clock = n.clock and c.cut_off >= n.known_at
),

asked as (
    select t.*, f.feature_name, f.max_age
    from ticked as t
    join meta.features as f using (clock)
),

-- Age: how many ticks of its clock a value is behind.
aged as (
    select
        a.market, a.session_date, a.cut_off, a.feature_name, a.max_age, k.value, k.available_at,
        coalesce(a.newest_tick, 0) - k.tick_number as age
    from asked as a
    asof join features.known_v1 as k
        on a.market = k.market and a.feature_name = k.feature_name and a.cut_off >= k.known_at
),

fresh as (
    select
        market, session_date, cut_off as as_of, feature_name,
        if(age <= max_age, value, null) as value,
        max(if(age <= max_age, available_at, null))
            over (partition by market, session_date) as available_at,
        origin
    from aged
    cross join meta.builds
)

select *
from (
    pivot fresh on feature_name in feature using max(value)
    group by market, session_date, as_of, available_at, origin
) as wide
where available_at is not null
order by market, session_date
