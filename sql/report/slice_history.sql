-- How each drawn slice's distribution moved, one row a market, price source and slice: its
-- newest sessions, quantiles in the quote unit, vol, skewness and kurtosis with standard errors.
with
slices as (
    select distinct market, price_source, series, expiry
    from detailed_slices
),

newest as (
    select
        u.market, u.price_source, u.series, u.expiry, u.session_date, u.forward, u.atm_iv,
        u.atm_iv_se, u.data_quality,
        m.q05, m.q10, m.q25, m.q50, m.q75, m.q90, m.q95,
        m.log_skew, m.log_skew_se, m.log_kurtosis, m.log_kurtosis_se
    from memory.features.surface_v1 as u
    join history as h using (market, session_date, price_source, as_of)
    semi join slices as s using (market, price_source, series, expiry)
    left join memory.features.moments_v1 as m
        using (market, session_date, price_source, as_of, series, expiry)
    qualify row_number() over (
        partition by u.market, u.price_source, u.series, u.expiry order by u.session_date desc
    ) <= h.sessions
)

select
    market, price_source, series || ' ' || expiry as slice,
    list(session_date order by session_date) as session,
    list(forward order by session_date) as forward,
    list(q05 order by session_date) as q05,
    list(q10 order by session_date) as q10,
    list(q25 order by session_date) as q25,
    list(q50 order by session_date) as q50,
    list(q75 order by session_date) as q75,
    list(q90 order by session_date) as q90,
    list(q95 order by session_date) as q95,
    list(atm_iv order by session_date) as vol,
    list(atm_iv_se order by session_date) as vol_se,
    list(log_skew order by session_date) as skew,
    list(log_skew_se order by session_date) as skew_se,
    list(log_kurtosis order by session_date) as kurtosis,
    list(log_kurtosis_se order by session_date) as kurtosis_se,
    list(data_quality order by session_date) as quality
from newest
group by market, price_source, series, expiry
order by market, price_source, expiry, series
