-- The snapshots that may be drawn strike by strike, one row each, with the market's share of the
-- page's strikes: the newest session's, and those before it while the share is not filled. A
-- slice's strikes with a usable price are no more than those with a vol.
with
share as (
    select any_value(a.strikes) / count(distinct s.market) as strikes
    from snapshots as s
    cross join page as a
),

counted as (
    select
        *,
        dense_rank() over (partition by market order by session_date desc) as age,
        sum(n_strikes) over (partition by market order by session_date desc) as at_least
    from snapshots
)

select c.market, c.session_date, c.price_source, c.as_of, s.strikes as share
from counted as c
cross join share as s
where c.age = 1 or c.at_least <= s.strikes
