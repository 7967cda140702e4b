-- Moments, quantiles and tail probabilities of the risk-neutral distribution at expiry,
-- one row an expiry; NULL where the slice is not of full quality.
--
-- name: moments_v1
-- status: draft
-- stage: derive
-- grain: market, session_date, price_source, as_of, series, expiry
-- time: as_of is the cut-off; available_at is the slice's
-- sources: features.surface_v1
-- max_age: 1 session
--
-- columns:
--   market VARCHAR: market code
--   session_date DATE: the exchange's trade date
--   price_source VARCHAR: quote or settlement
--   series VARCHAR: option root
--   expiry DATE: last trade date, in the exchange's time zone
--   forward DOUBLE: forward of the slice, quote unit
--   t_years DOUBLE: time to expiration, ACT/365
--   mass DOUBLE: integral of the density before any normalising; 1 but for rounding
--   mean DOUBLE: mean price, quote unit; the forward but for rounding
--   variance DOUBLE: variance of price, quote unit squared
--   skew DOUBLE: skewness of price
--   kurtosis DOUBLE: kurtosis of price, 3 for a normal
--   log_mean DOUBLE: mean of ln(price / forward)
--   log_variance DOUBLE: variance of ln(price / forward), not annualised
--   log_skew DOUBLE: skewness of ln(price / forward)
--   log_kurtosis DOUBLE: kurtosis of ln(price / forward), 3 for a normal
--   variance_swap DOUBLE: total variance of the log contract, -2 E ln(price / forward)
--   q01 DOUBLE: 1 % quantile of price, quote unit
--   q05 DOUBLE: 5 % quantile of price, quote unit
--   q10 DOUBLE: 10 % quantile of price, quote unit
--   q25 DOUBLE: 25 % quantile of price, quote unit
--   q50 DOUBLE: median price, quote unit
--   q75 DOUBLE: 75 % quantile of price, quote unit
--   q90 DOUBLE: 90 % quantile of price, quote unit
--   q95 DOUBLE: 95 % quantile of price, quote unit
--   q99 DOUBLE: 99 % quantile of price, quote unit
--   p_down_10 DOUBLE: probability of a price 10 % or more below the forward
--   p_up_10 DOUBLE: probability of a price 10 % or more above the forward
--   status TINYINT: 0 sound, else what is wrong, as mathlib.moments numbers it
--   data_quality VARCHAR: the slice's: full, degraded or missing
--   as_of TIMESTAMP WITH TIME ZONE: the cut-off
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
slices as (
    select *, svi_moments(forward, a, b, rho, m, sigma) as moments
    from features.surface_v1
)

select
    market, session_date, price_source, series, expiry, forward, t_years,
    moments.mass as mass,
    moments.mean as mean,
    moments.variance as variance,
    moments.skew as skew,
    moments.kurtosis as kurtosis,
    moments.log_mean as log_mean,
    moments.log_variance as log_variance,
    moments.log_skew as log_skew,
    moments.log_kurtosis as log_kurtosis,
    moments.variance_swap as variance_swap,
    moments.q01 as q01,
    moments.q05 as q05,
    moments.q10 as q10,
    moments.q25 as q25,
    moments.q50 as q50,
    moments.q75 as q75,
    moments.q90 as q90,
    moments.q95 as q95,
    moments.q99 as q99,
    moments.p_down_10 as p_down_10,
    moments.p_up_10 as p_up_10,
    moments.status as status,
    data_quality, as_of, available_at
from slices
order by market, session_date, price_source, as_of, expiration, series
