-- A bar's low is above its high, or its open or close outside them.
-- severity: error
select
    market, session_date, contract as subject,
    format('open {} high {} low {} close {}', open, high, low, close) as reason
from features.session_bar_v1
where
    high is not null
    and not (low <= least(open, close) and high >= greatest(open, close))
