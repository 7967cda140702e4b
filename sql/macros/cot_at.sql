-- cot_at(market_code, t, had_at): the newest COT report of a market by two clocks, one row a
-- kind of report: published by `t`, and landed in this lake by `had_at`.
--
-- Both bounds are inclusive.  cot_at('HE', t, t) is what somebody who worked with this lake at t
-- saw; cot_at('HE', t, now()) is what the market could know at t.
create macro cot_at(market_code, t, had_at) as table
with
-- Materialised, so that a bad question is refused also where there is no row to compare with.
asked as materialized (
    select
        instant(t) as known_at,
        instant(had_at) as landed_by,
        case
            when exists (from meta.markets as m where m.market = market_code) then market_code
            else
                error(
                    'unknown market ' || coalesce(market_code::varchar, 'NULL')
                    || ': meta.markets lists them'
                )
        end as market
)

select c.*
from raw.cot as c
join asked as a
    on c.market = a.market and c.as_of <= a.known_at
    and c.available_at <= a.known_at and c.ingested_at <= a.landed_by
qualify row_number() over (
    partition by c.market, c.report
    order by c.as_of desc, c.available_at desc, c.ingested_at desc, c.batch_id
) = 1
order by c.report
