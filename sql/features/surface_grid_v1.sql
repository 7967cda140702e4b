-- Vols on a grid, one row a point: by listed strike, by log-moneyness and by delta at each
-- expiry, and by delta at constant maturities of 30, 60, 90 and 180 days.
--
-- name: surface_grid_v1
-- status: draft
-- stage: derive
-- grain: market, session_date, price_source, as_of, grid, series, expiry, tenor_days, point
-- time: as_of is the cut-off; available_at is the latest among the slices that a point uses
-- sources: features.surface_v1, features.chain_v1
-- max_age: 1 session
--
-- columns:
--   market VARCHAR: market code
--   session_date DATE: the exchange's trade date
--   price_source VARCHAR: quote or settlement
--   grid VARCHAR: strike, log_moneyness, delta or constant_maturity
--   series VARCHAR: option root; NULL at a constant maturity
--   expiry DATE: last trade date; NULL at a constant maturity
--   tenor_days INTEGER: constant maturity in days; NULL at an expiry
--   point VARCHAR: name of the point: the strike, the log-moneyness, 10P 25P ATM 25C 10C
--   t_years DOUBLE: time to the expiry or maturity, ACT/365
--   strike DOUBLE: strike, quote unit; NULL at a constant maturity, which has no forward of its own
--   log_moneyness DOUBLE: ln(strike / forward)
--   vol DOUBLE: implied vol, decimal a year
--   total_variance DOUBLE: vol squared times t_years
--   is_extrapolated BOOLEAN: the maturity lies before the first expiry; vol is held flat there,
--     at equal log-moneyness, and beyond the last expiry there is no row
--   data_quality VARCHAR: full, or degraded where an ATM-only slice was used
--   as_of TIMESTAMP WITH TIME ZONE: the cut-off
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
slices as (
    select *
    from features.surface_v1
    where data_quality <> 'missing' and t_years > 0
),

full_slices as (select * from slices where data_quality = 'full'),

delta_points as (
    select *
    from (
        values
            ('10P', -0.10, false), ('25P', -0.25, false),
            ('25C', 0.25, true), ('10C', 0.10, true)
    ) as p (point, delta, is_call)
),

strikes as (
    select distinct market, session_date, price_source, as_of, series, expiry, strike
    from features.chain_v1
),

by_strike as (
    select
        s.market, s.session_date, s.price_source, 'strike' as grid, s.series, s.expiry,
        s.t_years, c.strike::varchar as point, ln(c.strike / s.forward) as k,
        svi_total_variance(ln(c.strike / s.forward), s.a, s.b, s.rho, s.m, s.sigma) as w,
        s.forward, s.data_quality, s.as_of, s.available_at
    from full_slices as s
    join strikes as c
        using (market, session_date, price_source, as_of, series, expiry)
),

by_log_moneyness as (
    select
        s.market, s.session_date, s.price_source, 'log_moneyness' as grid, s.series, s.expiry,
        s.t_years, format('{:.2f}', i / 20.0) as point, i / 20.0 as k,
        svi_total_variance(i / 20.0, s.a, s.b, s.rho, s.m, s.sigma) as w,
        s.forward, s.data_quality, s.as_of, s.available_at
    from full_slices as s
    cross join range(-8, 9) as r (i)
),

by_delta as (
    select
        s.market, s.session_date, s.price_source, 'delta' as grid, s.series, s.expiry,
        s.t_years, p.point,
        svi_delta_strike(
            p.delta, s.forward, s.t_years, s.a, s.b, s.rho, s.m, s.sigma, p.is_call
        ) as found,
        s.forward, s.data_quality, s.as_of, s.available_at
    from full_slices as s
    cross join delta_points as p
),

at_expiry as (
    select * from by_strike
    union all by name
    select * from by_log_moneyness
    union all by name
    select
        * exclude (found), found.log_moneyness as k, found.vol ** 2 * t_years as w
    from by_delta
    union all by name
    select
        market, session_date, price_source, 'delta' as grid, series, expiry, t_years,
        'ATM' as point, 0.0 as k, atm_iv ** 2 * t_years as w, forward, data_quality,
        as_of, available_at
    from slices
),

tenors as (select unnest([30, 60, 90, 180]) as tenor_days),

-- The slices on both sides of each maturity; before the first expiry both are the first.
brackets as (
    select
        s.market, s.session_date, s.price_source, s.as_of, t.tenor_days,
        t.tenor_days / 365.0 as t_years,
        arg_max(s, row(s.t_years, s.series)) filter (where s.t_years <= t.tenor_days / 365.0)
            as below,
        arg_min(s, row(s.t_years, s.series)) filter (where s.t_years >= t.tenor_days / 365.0)
            as above
    from slices as s
    cross join tenors as t
    group by s.market, s.session_date, s.price_source, s.as_of, t.tenor_days
),

bounds as (
    select
        * exclude (below, above),
        coalesce(below, above) as lo, above as hi, below is null as is_extrapolated,
        if(
            above.data_quality = 'full' and coalesce(below, above).data_quality = 'full',
            'full', 'degraded'
        ) as data_quality
    from brackets
    where above is not null
),

at_the_money as (
    select
        *, 'ATM' as point, 0.0 as k,
        if(
            hi.t_years > lo.t_years,
            lo.atm_iv ** 2 * lo.t_years
            + (hi.atm_iv ** 2 * hi.t_years - lo.atm_iv ** 2 * lo.t_years)
            * (t_years - lo.t_years) / (hi.t_years - lo.t_years),
            lo.atm_iv ** 2 * t_years
        ) as w
    from bounds
),

by_constant_delta as (
    select
        b.*, p.point,
        svi_constant_maturity(
            p.delta, p.is_call, b.t_years,
            b.lo.t_years, b.lo.a, b.lo.b, b.lo.rho, b.lo.m, b.lo.sigma,
            b.hi.t_years, b.hi.a, b.hi.b, b.hi.rho, b.hi.m, b.hi.sigma
        ) as found
    from bounds as b
    cross join delta_points as p
    where b.data_quality = 'full'
),

at_maturity as (
    select * from at_the_money
    union all by name
    select
        * exclude (found), found.log_moneyness as k, found.vol ** 2 * t_years as w
    from by_constant_delta
),

points as (
    select
        market, session_date, price_source, grid, series, expiry,
        null::integer as tenor_days, point, t_years, forward * exp(k) as strike, k, w,
        false as is_extrapolated, data_quality, as_of, available_at
    from at_expiry
    union all
    select
        market, session_date, price_source, 'constant_maturity' as grid,
        null as series, null as expiry, tenor_days, point, t_years, null as strike, k, w,
        is_extrapolated, data_quality,
        as_of, greatest(lo.available_at, hi.available_at) as available_at
    from at_maturity
)

select
    market, session_date, price_source, grid, series, expiry, tenor_days, point,
    t_years, strike, k as log_moneyness,
    sqrt(w / t_years) as vol,
    w as total_variance,
    is_extrapolated, data_quality, as_of, available_at
from points
where w is not null
order by market, session_date, price_source, as_of, grid, series, expiry, tenor_days, point
