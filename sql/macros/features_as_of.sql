-- features_as_of(spine): every feature at every (market, t) of a table, one row each.
--
-- `spine` is the name of a table, view, temporary table, CTE or file with the columns `market`
-- and `t`; each of its rows gets what features_at(market, t) answers.  One ASOF JOIN over
-- features.known_v1 finds the answers, and their age is counted once a market and instant.
create macro features_as_of(spine) as table
with
-- Read first, so that no name below can stand before a spine of the same name.
given as (
    select
        market as code,
        instant(t) as asked_at
    from query_table(spine)
),

asked as (
    select
        coalesce(
            m.market,
            error(
                'unknown market ' || coalesce(g.code::varchar, 'NULL')
                || ': meta.markets lists them'
            )
        ) as market,
        g.asked_at
    from given as g
    left join meta.markets as m on g.code = m.market
),

clocks as (
    select a.market, a.asked_at, k.clock
    from asked as a
    cross join (select distinct clock from meta.features) as k
),

-- Reports that were held up may be released at one instant.
newest_ticks as (
    select market, clock, known_at, max(tick_number) as tick_number
    from meta.clock
    group by market, clock, known_at
),

ticked as (
    select k.market, k.asked_at, k.clock, n.tick_number as newest_tick
    from clocks as k
    asof left join newest_ticks as n
        on k.market = n.market and k.clock = n.clock and k.asked_at >= n.known_at
),

questions as (
    select
        c.market, c.asked_at, c.newest_tick, f.feature_name, f.feature_number, f.max_age
    from ticked as c
    join meta.features as f using (clock)
),

answered as (
    select
        q.market, q.asked_at, q.feature_name, q.max_age,
        k.as_of, k.available_at, k.value, k.quality,
        greatest(coalesce(q.newest_tick, 0) - k.tick_number, 0) as age
    from questions as q
    asof left join features.known_v1 as k
        on q.market = k.market and q.feature_name = k.feature_name and q.asked_at >= k.known_at
)

select
    market,
    asked_at as t,
    feature_name,
    case when age <= max_age then value end as value,
    case
        when as_of is null then 'missing'
        when age > max_age then 'stale'
        else quality
    end as quality,
    as_of,
    available_at,
    floor((epoch(asked_at) - epoch(as_of)) / 86400)::integer as staleness_days,
    case when as_of is not null then age end as age
from answered;
