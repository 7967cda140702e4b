-- The slices that the page draws strike by strike, one row each: the newest session's, nearest
-- expiries first, and as many sessions before it as the market's share of the page's strikes holds.
with
share as (
    select any_value(a.strikes) / count(distinct s.market) as strikes
    from snapshots as s
    cross join page as a
),

-- A slice's strikes with a usable price are no more than those with a vol, and need no look into
-- the chain: where they fill the share already, the sessions before are not drawn.
counted as (
    select
        u.market, u.session_date, u.price_source, u.as_of,
        dense_rank() over (partition by u.market order by u.session_date desc) as age,
        sum(u.n_strikes) over (partition by u.market order by u.session_date desc) as at_least
    from features.surface_v1 as u
    semi join snapshots as s using (market, session_date, price_source, as_of)
),

near as (
    select distinct c.market, c.session_date, c.price_source, c.as_of
    from counted as c
    cross join share as s
    where c.age = 1 or c.at_least <= s.strikes
),

sizes as (
    select
        c.market, c.session_date, c.price_source, c.as_of, c.series, c.expiry,
        count(distinct c.strike) as strikes
    from features.chain_v1 as c
    semi join near as n using (market, session_date, price_source, as_of)
    where c.iv is not null
    group by c.market, c.session_date, c.price_source, c.as_of, c.series, c.expiry
),

running as (
    select
        *,
        dense_rank() over (partition by market order by session_date desc) as age,
        sum(strikes) over (partition by market order by session_date desc) as through_session,
        sum(strikes) over (
            partition by market order by session_date desc, expiry, series, price_source
        ) as through_slice
    from sizes
)

select r.market, r.session_date, r.price_source, r.as_of, r.series, r.expiry
from running as r
cross join share as s
where
    r.through_session <= s.strikes
    or (r.age = 1 and r.through_slice - r.strikes < s.strikes)
order by r.market, r.session_date, r.price_source, r.expiry, r.series
