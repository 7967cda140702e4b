-- The futures curve, one row a market and session, of the newest three months of sessions.
with
newest as (
    select market, session_date, max(as_of) as as_of
    from features.futures_v1
    where as_of <= (select known_by from page) and available_at <= (select known_by from page)
    group by market, session_date
    qualify row_number() over (partition by market order by session_date desc) <= 65
)

select
    f.market, f.session_date,
    list(f.contract order by f.expiration, f.contract) as contract,
    list(f.expiration::date order by f.expiration, f.contract) as expiry,
    list(f.close order by f.expiration, f.contract) as close,
    list(f.open_interest order by f.expiration, f.contract) as open_interest
from features.futures_v1 as f
semi join newest as n using (market, session_date, as_of)
where
    f.available_at <= (select known_by from page)
    and f.expiration is not null and f.close is not null
group by f.market, f.session_date
order by f.market, f.session_date
