-- A fitted slice with butterfly or calendar arbitrage.
-- severity: error
-- look_back: 0 days
select
    market, session_date, price_source || ' ' || series || ' ' || expiry as subject,
    if(butterfly_free, 'total variance below an earlier expiry''s', 'negative density') as reason
from features.surface_v1
where data_quality = 'full' and not (butterfly_free and calendar_free)
