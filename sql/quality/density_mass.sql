-- A density whose mass is not 1, or whose mean is not the forward, within one in a million.
-- severity: error
-- look_back: 0 days
select
    market, session_date, price_source || ' ' || series || ' ' || expiry as subject,
    format(
        'mass {}, mean {}, forward {}',
        coalesce(mass::varchar, 'none'), coalesce(mean::varchar, 'none'),
        coalesce(forward::varchar, 'none')
    ) as reason
from features.moments_v1
where
    data_quality = 'full'
    and not coalesce(abs(mass - 1) <= 1e-6 and abs(mean / forward - 1) <= 1e-6, false)
