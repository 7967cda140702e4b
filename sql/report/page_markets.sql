-- The markets of which something was known, with what describes them.
select m.*
from meta.markets as m
semi join (
    select market from features.known_v1 where known_at <= (select known_by from page)
) as k using (market)
order by m.market
