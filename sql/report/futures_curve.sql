-- The futures curve, one row a market and session, of the newest three months of sessions.
with
curves as (
    select f.*
    from features.futures_v1 as f
    where f.as_of <= (select known_by from page) and f.available_at <= (select known_by from page)
    qualify
        f.as_of = max(f.as_of) over (partition by f.market, f.session_date)
        and dense_rank() over (partition by f.market order by f.session_date desc) <= 65
)

select
    market, session_date,
    list(contract order by expiration, contract) as contract,
    list(expiration::date order by expiration, contract) as expiry,
    list(close order by expiration, contract) as close,
    list(open_interest order by expiration, contract) as open_interest
from curves
where expiration is not null and close is not null
group by market, session_date
order by market, session_date
