-- A bar's low is above its high, its open or close outside them, or its low or high missing.
-- severity: error
select
    market, session_date, contract as subject,
    format(
        'open {}, high {}, low {}, close {}',
        coalesce(open::varchar, 'none'), coalesce(high::varchar, 'none'),
        coalesce(low::varchar, 'none'), coalesce(close::varchar, 'none')
    ) as reason
from features.session_bar_v1
where
    (high is not null or low is not null)
    and not coalesce(low <= least(open, close) and high >= greatest(open, close), false)
