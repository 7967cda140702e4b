-- What each session's slices are worth, one row a market, session and price source, with how many
-- were listed: those without a price, and far ones of a large market, are not drawn.
with
listed as (
    select u.market, u.session_date, u.price_source, count(*) as n_listed
    from memory.features.surface_v1 as u
    semi join detailed_slices as d using (market, session_date, price_source, as_of)
    group by u.market, u.session_date, u.price_source
)

select
    s.market, s.session_date, s.price_source,
    any_value(s.as_of) as as_of,
    max(s.available_at) as available_at,
    any_value(l.n_listed) as n_listed,
    list(s.series || ' ' || s.expiry order by s.expiry, s.series) as slice,
    list(s.expiry order by s.expiry, s.series) as expiry,
    list(round(s.t_years * 365, 1) order by s.expiry, s.series) as days,
    list(s.underlying order by s.expiry, s.series) as underlying,
    list(s.forward order by s.expiry, s.series) as forward,
    list(s.forward_source order by s.expiry, s.series) as forward_source,
    list(s.atm_iv order by s.expiry, s.series) as atm_iv,
    list(s.atm_iv_se order by s.expiry, s.series) as atm_iv_se,
    list(s.n_strikes order by s.expiry, s.series) as n_strikes,
    list(s.n_liquid order by s.expiry, s.series) as n_liquid,
    list(s.data_quality order by s.expiry, s.series) as quality,
    list(s.rmse_vol order by s.expiry, s.series) as rmse_vol,
    list(s.share_inside order by s.expiry, s.series) as share_inside,
    list(s.butterfly_free order by s.expiry, s.series) as butterfly_free,
    list(s.calendar_free order by s.expiry, s.series) as calendar_free
from memory.features.surface_v1 as s
join listed as l using (market, session_date, price_source)
semi join detailed_slices as d using (market, session_date, price_source, as_of, series, expiry)
group by s.market, s.session_date, s.price_source
order by s.market, s.session_date, s.price_source
