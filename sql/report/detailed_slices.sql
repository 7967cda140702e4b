-- The slices that the page draws strike by strike, one row each: the newest session's, nearest
-- expiries first, and as many sessions before it as the market's share of the page's strikes holds.
with
sizes as (
    select
        c.market, c.session_date, c.price_source, c.as_of, c.series, c.expiry,
        any_value(n.share) as share,
        count(distinct c.strike) as strikes
    from memory.features.chain_v1 as c
    join near as n using (market, session_date, price_source, as_of)
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

select market, session_date, price_source, as_of, series, expiry
from running
where through_session <= share or (age = 1 and through_slice - strikes < share)
order by market, session_date, price_source, expiry, series
