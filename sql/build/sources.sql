-- The newest instant that each source describes and when that became known, one row a market and
-- source: what has landed counts, whenever it did.
with
reports as (
    select market, report, as_of, available_at from raw.cot
    union all
    select market, report, as_of, available_at from raw.cot_legacy
    union all
    select market, report, as_of, available_at from raw.cot_financial
)

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
