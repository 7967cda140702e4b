-- How old each kind of feature was, one row a market and kind, with how many were of what quality.
select
    a.market,
    if(a.feature_name like 'opt_settlement_%', 'opt_settlement', f.feature_group) as kind,
    max(a.as_of) as as_of,
    max(a.available_at) as available_at,
    min(a.age) as age,
    any_value(f.clock) as clock,
    count(*) filter (where a.quality = 'full') as n_full,
    count(*) filter (where a.quality = 'degraded') as n_degraded,
    count(*) filter (where a.quality = 'stale') as n_stale,
    count(*) filter (where a.quality = 'missing') as n_missing
from answered as a
join meta.features as f using (feature_name)
group by a.market, kind
order by a.market, kind
