-- Moments, quantiles and tail probabilities of the risk-neutral distribution at expiry,
-- one row an expiry; NULL where the slice is not of full quality. Each has a standard
-- error: how far the quotes' errors, scaled to their scatter about the curve, and the prior of
-- the fit let it be off.
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
--   variance_se DOUBLE: standard error of variance
--   skew_se DOUBLE: standard error of skew
--   kurtosis_se DOUBLE: standard error of kurtosis
--   log_mean_se DOUBLE: standard error of log_mean
--   log_variance_se DOUBLE: standard error of log_variance
--   log_skew_se DOUBLE: standard error of log_skew
--   log_kurtosis_se DOUBLE: standard error of log_kurtosis
--   variance_swap_se DOUBLE: standard error of variance_swap
--   q01_se DOUBLE: standard error of q01
--   q05_se DOUBLE: standard error of q05
--   q10_se DOUBLE: standard error of q10
--   q25_se DOUBLE: standard error of q25
--   q50_se DOUBLE: standard error of q50
--   q75_se DOUBLE: standard error of q75
--   q90_se DOUBLE: standard error of q90
--   q95_se DOUBLE: standard error of q95
--   q99_se DOUBLE: standard error of q99
--   p_down_10_se DOUBLE: standard error of p_down_10
--   p_up_10_se DOUBLE: standard error of p_up_10
--   status TINYINT: 0 sound, else what is wrong, as mathlib.moments numbers it
--   data_quality VARCHAR: the slice's: full, degraded or missing
--   as_of TIMESTAMP WITH TIME ZONE: the cut-off
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
slices as (
    select *, svi_moments_with_errors(forward, a, b, rho, m, sigma, covariance) as moments
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
    moments.variance_se as variance_se,
    moments.skew_se as skew_se,
    moments.kurtosis_se as kurtosis_se,
    moments.log_mean_se as log_mean_se,
    moments.log_variance_se as log_variance_se,
    moments.log_skew_se as log_skew_se,
    moments.log_kurtosis_se as log_kurtosis_se,
    moments.variance_swap_se as variance_swap_se,
    moments.q01_se as q01_se,
    moments.q05_se as q05_se,
    moments.q10_se as q10_se,
    moments.q25_se as q25_se,
    moments.q50_se as q50_se,
    moments.q75_se as q75_se,
    moments.q90_se as q90_se,
    moments.q95_se as q95_se,
    moments.q99_se as q99_se,
    moments.p_down_10_se as p_down_10_se,
    moments.p_up_10_se as p_up_10_se,
    moments.status as status,
    data_quality, as_of, available_at
from slices
order by market, session_date, price_source, as_of, series, expiry
