-- The implied-vol surface of a market-session as it was known at a cut-off: one row an
-- expiry, with its arbitrage-free SVI slice where the market is thick enough.
--
-- name: surface_v1
-- status: draft
-- stage: derive
-- grain: market, session_date, price_source, as_of, series, expiry
-- time: as_of is the cut-off; available_at is the latest available_at among the slice's options
-- sources: features.chain_v1
-- max_age: 1 session
--
-- columns:
--   market VARCHAR: market code
--   session_date DATE: the exchange's trade date
--   price_source VARCHAR: quote or settlement
--   series VARCHAR: option root
--   expiry DATE: last trade date, in the exchange's time zone
--   expiration TIMESTAMP WITH TIME ZONE: the instant at which the options expire
--   underlying VARCHAR: contract that the options are exercised into
--   forward DOUBLE: forward of the slice, quote unit
--   forward_source VARCHAR: future_quote, future_bar, future_settlement, file or parity
--   t_years DOUBLE: time to expiration, ACT/365
--   rate DOUBLE: continuously compounded risk-free rate, decimal a year
--   atm_iv DOUBLE: vol at the forward, decimal a year
--   atm_iv_se DOUBLE: standard error of atm_iv, from the quotes' errors, scaled to their scatter
--     about the curve; a wrong forward or a later revision of a settlement comes on top. NULL
--     where no curve could be fitted
--   a DOUBLE: SVI level of total variance; NULL unless data_quality is full, as for b to rmse_vol
--   b DOUBLE: SVI slope of the wings, total variance for 1 of log-moneyness
--   rho DOUBLE: SVI rotation, -1 to 1
--   m DOUBLE: SVI shift, log-moneyness
--   sigma DOUBLE: SVI curvature, log-moneyness
--   rmse_vol DOUBLE: root mean square of curve less quote over the quotes used, vol in decimal
--   share_inside DOUBLE: share of fitted quotes whose bid and ask enclose the curve's price; of
--     settlements, within half a tick of it
--   covariance DOUBLE[]: of the curve's coordinates, 5 x 5 by rows, as mathlib.svi has them: log
--     of the least total variance, m, log of sigma, logits of the left and right slope over 2
--   skew_estimate DOUBLE: slope of vol in log-moneyness at the forward, also of degraded
--     slices, where few quotes leave much to the prior: to be read with its error
--   skew_estimate_se DOUBLE: standard error of skew_estimate
--   n_strikes INTEGER: strikes with a vol
--   n_liquid INTEGER: strikes with a liquid option
--   butterfly_free BOOLEAN: Durrleman's g is nowhere negative and the wings obey Lee's bound
--   calendar_free BOOLEAN: total variance is nowhere below that of an earlier expiry of the
--     same underlying
--   data_quality VARCHAR: full, degraded (too few liquid strikes: atm_iv only) or missing
--   fit_status TINYINT: 0 fitted, else why not, as mathlib.svi numbers it
--   as_of TIMESTAMP WITH TIME ZONE: the cut-off
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
chain as (
    select
        c.*, m.min_strikes, m.option_tick,
        ln(c.strike / c.forward) as k,
        -- A settlement of a tick is a floor and no price; sums of ticks are a hair off.
        c.iv is not null
            and (c.price_source = 'quote' or c.settlement > 1.000001 * m.option_tick)
            as is_usable,
        (c.option_type = 'C') = (c.strike >= c.forward) as is_otm
    from features.chain_v1 as c
    join meta.markets as m using (market)
),

slices as (
    select
        market, session_date, price_source, as_of, series, expiry, expiration,
        any_value(underlying) as underlying,
        any_value(forward) as forward,
        any_value(forward_source) as forward_source,
        any_value(t_years) as t_years,
        any_value(rate) as rate,
        any_value(min_strikes) as min_strikes,
        max(available_at) as available_at,
        count(distinct strike) filter (where is_usable) as n_strikes,
        count(distinct strike) filter (where is_liquid) as n_liquid,
        case
            when price_source = 'quote'
                then count(distinct strike) filter (where is_liquid and is_usable)
            else count(distinct strike) filter (where is_usable)
        end >= any_value(min_strikes) as is_thick
    from chain
    group by market, session_date, price_source, as_of, series, expiry, expiration
),

-- One option a strike: a liquid one before another, then the out-of-the-money one.  The fair
-- price is anywhere in the spread, or within half a tick of a settlement: the standard
-- deviation of either is its width / sqrt(12), here in vol.
points as (
    select
        c.market, c.session_date, c.price_source, c.as_of, c.series, c.expiry, c.strike,
        arg_max(
            struct_pack(
                k := c.k,
                iv := c.iv,
                iv_error := if(c.price_source = 'quote', c.ask - c.bid, c.option_tick)
                / sqrt(12) / nullif(c.vega, 0)
            ),
            4 * c.is_liquid::integer + 2 * c.is_otm::integer + (c.option_type = 'C')::integer
        ) as point
    from chain as c
    join slices as s using (market, session_date, price_source, as_of, series, expiry)
    where
        c.is_usable
        and (c.is_liquid or c.price_source = 'settlement' or not s.is_thick)
    group by
        c.market, c.session_date, c.price_source, c.as_of, c.series, c.expiry, c.strike
),

point_lists as (
    select
        market, session_date, price_source, as_of, series, expiry,
        list(point.k order by point.k) as ks,
        list(point.iv order by point.k) as ivs,
        list(point.iv_error order by point.k) as errors,
        arg_min(point.iv, abs(point.k)) as nearest_iv
    from points
    group by market, session_date, price_source, as_of, series, expiry
),

numbered as (
    select
        s.*, p.ks, p.ivs, p.errors, p.nearest_iv,
        row_number() over (
            partition by s.market, s.session_date, s.price_source, s.as_of
            order by s.expiration, s.series
        ) as slice_number,
        -- Expiries of one underlying are fitted together, but a thick one does not bend to a
        -- thin one: that stands alone.
        if(
            s.is_thick,
            dense_rank() over (
                partition by s.market, s.session_date, s.price_source, s.as_of
                order by coalesce(s.underlying, '')
            ),
            -slice_number
        ) as underlying_number
    from slices as s
    join point_lists as p using (market, session_date, price_source, as_of, series, expiry)
),

surfaces as (
    select
        market, session_date, price_source, as_of,
        svi_surface(
            list(len(ks)::integer order by slice_number),
            flatten(list(ks order by slice_number)),
            flatten(list(ivs order by slice_number)),
            flatten(list(errors order by slice_number)),
            list(t_years order by slice_number),
            list(underlying_number::integer order by slice_number)
        ) as fits
    from numbered
    group by market, session_date, price_source, as_of
),

fitted as (
    select n.*, f.fits[n.slice_number] as fit
    from numbered as n
    join surfaces as f using (market, session_date, price_source, as_of)
),

curves as (
    select
        *,
        svi_at_the_money(t_years, fit.a, fit.b, fit.rho, fit.m, fit.sigma, fit.covariance)
            as money
    from fitted
)

select
    s.market, s.session_date, s.price_source, s.series, s.expiry, s.expiration, s.underlying,
    s.forward, s.forward_source, s.t_years, s.rate,
    coalesce(f.money.atm_iv, f.nearest_iv) as atm_iv,
    f.money.atm_iv_se as atm_iv_se,
    if(s.is_thick, f.fit.a, null) as a,
    if(s.is_thick, f.fit.b, null) as b,
    if(s.is_thick, f.fit.rho, null) as rho,
    if(s.is_thick, f.fit.m, null) as m,
    if(s.is_thick, f.fit.sigma, null) as sigma,
    if(s.is_thick, f.fit.rmse_vol, null) as rmse_vol,
    if(s.is_thick, f.fit.share_inside, null) as share_inside,
    if(s.is_thick, f.fit.covariance, null) as covariance,
    f.money.skew as skew_estimate,
    f.money.skew_se as skew_estimate_se,
    s.n_strikes::integer as n_strikes,
    s.n_liquid::integer as n_liquid,
    if(
        s.is_thick,
        svi_butterfly_free(f.fit.a, f.fit.b, f.fit.rho, f.fit.m, f.fit.sigma),
        null
    ) as butterfly_free,
    if(s.is_thick, f.fit.calendar_free, null) as calendar_free,
    case
        when atm_iv is null then 'missing'
        when a is null then 'degraded'
        else 'full'
    end as data_quality,
    f.fit.status as fit_status,
    s.as_of, s.available_at
from slices as s
left join curves as f using (market, session_date, price_source, as_of, series, expiry)
order by s.market, s.session_date, s.price_source, s.as_of, s.series, s.expiry
