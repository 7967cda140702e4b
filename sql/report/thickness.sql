-- How thick each market was, one row a market, month and source of prices: liquid strikes, and
-- expiries whose slices are of full quality, on an average session.
with
sessions as (
    select
        market, session_date, price_source,
        sum(n_liquid) as liquid_strikes,
        count(*) filter (where data_quality = 'full') as full_expiries,
        count(*) as expiries
    from features.surface_v1
    group by market, session_date, price_source
)

select
    market,
    strftime(session_date, '%Y-%m') as month,
    price_source as prices,
    count(*) as sessions,
    round(avg(liquid_strikes), 1) as liquid_strikes,
    round(avg(full_expiries), 1) as full_expiries,
    round(avg(expiries), 1) as expiries
from sessions
group by market, strftime(session_date, '%Y-%m'), price_source
order by market, month, prices
