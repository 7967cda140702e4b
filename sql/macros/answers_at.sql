-- instant(t): t as an instant; refuses one without a time zone.
-- answers_of(chosen, t): every feature of a market as it was known at t; of all where it is NULL.
-- answers_at(t): every feature of every market as it was known at t.
-- features_at(market_code, t): the same for one market, one row a feature.
-- daily_at(t): the same, one wide row a market.
--
-- The bound is inclusive: a value counts when its as_of and available_at are at or before t.
-- Of those the newest as_of answers, in its newest vintage, which is the newest row of
-- features.known_v1.  A value more ticks behind its clock than max_age is NULL and `stale`; a
-- feature without any value by t is `missing`.
-- `age` is the number of those ticks: sessions, or releases of the COT report.
create macro instant(t) as
    case
        when t is not null and typeof(t) = 'TIMESTAMP WITH TIME ZONE' then t::timestamptz
        when
            typeof(t) = 'VARCHAR'
            and regexp_matches(
                t::varchar, ':[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$'
            )
            then t::timestamptz
        else
            error(
                't needs a time and a zone, such as ''2025-03-06T20:00:00Z'': got '
                || coalesce(t::varchar, 'NULL')
            )
    end;

create macro answers_of(chosen, t) as table
with
-- Two passes: the newest of each feature is found in two columns, and a few row groups have them.
newest as (
    select market, feature_name, max(known_at) as known_at
    from features.known_v1
    where known_at <= instant(t) and (chosen is null or market = chosen)
    group by market, feature_name
),

known as (
    select k.market, k.feature_name, k.value, k.quality, k.as_of, k.available_at
    from features.known_v1 as k
    join newest as n using (market, feature_name, known_at)
    where chosen is null or k.market = chosen
),

asked as (
    select m.market, f.feature_name, f.max_age, f.clock, f.feature_number
    from meta.markets as m
    cross join meta.features as f
    where chosen is null or m.market = chosen
),

-- Counted once for all values of one instant.
ages as (
    select i.market, i.clock, i.as_of, count(*) as age
    from (
        select distinct a.market, a.clock, k.as_of
        from asked as a
        join known as k using (market, feature_name)
    ) as i
    join meta.clock as c
        on i.market = c.market and i.clock = c.clock
        and c.as_of > i.as_of and c.known_at <= instant(t)
    where chosen is null or c.market = chosen
    group by i.market, i.clock, i.as_of
)

select
    a.market, a.feature_name, a.feature_number,
    case when coalesce(g.age, 0) <= a.max_age then k.value end as value,
    case
        when k.as_of is null then 'missing'
        when g.age > a.max_age then 'stale'
        else k.quality
    end as quality,
    k.as_of,
    k.available_at,
    floor((epoch(instant(t)) - epoch(k.as_of)) / 86400)::integer as staleness_days,
    case when k.as_of is not null then coalesce(g.age, 0) end as age
from asked as a
left join known as k using (market, feature_name)
left join ages as g
    on a.market = g.market and a.clock = g.clock and k.as_of = g.as_of;

create macro answers_at(t) as table
from answers_of(null, t);

create macro features_at(market_code, t) as table
with
-- Materialised, so that an unknown market is refused though there is no row of it.
asked as materialized (
    select case
        when exists (from meta.markets as m where m.market = market_code) then market_code
        else
            error(
                'unknown market ' || coalesce(market_code::varchar, 'NULL')
                || ': meta.markets lists them'
            )
    end as market
)

select feature_name, value, quality, as_of, available_at, staleness_days, age
from answers_of(market_code, t)
semi join asked using (market)
order by feature_number;

create macro daily_at(t) as table
with
answers as (
    select
        market, instant(t) as known_at, feature_name, value,
        max(case when value is not null then available_at end)
            over (partition by market) as available_at,
        origin
    from answers_at(t)
    cross join meta.builds
)

select *
from (
    pivot answers on feature_name in feature using max(value)
    group by market, known_at, available_at, origin
) as wide
order by market
