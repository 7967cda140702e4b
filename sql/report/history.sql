-- The snapshots that the histories of the drawn slices are made of, one row each, with how many
-- sessions a history has: those drawn strike by strike, and so many of the market's before them.
with
slices as (
    select distinct market, price_source, series, expiry
    from detailed_slices
),

share as (
    select greatest(any_value(a.sessions) / count(*), 2) as sessions
    from slices
    cross join page as a
),

firsts as (
    select market, min(session_date) as first_drawn
    from detailed_slices
    group by market
)

select s.market, s.session_date, s.price_source, s.as_of, h.sessions
from snapshots as s
join firsts as f using (market)
cross join share as h
qualify
    s.session_date >= f.first_drawn
    or dense_rank() over (
        partition by s.market, s.session_date >= f.first_drawn order by s.session_date desc
    ) <= h.sessions
