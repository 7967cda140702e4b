-- What dealers' hedges would have to trade, by strike: gamma, vanna and charm exposure in
-- USD under an assumed side of the dealers, weighted by open interest or by volume.
--
-- name: flow_by_strike_v1
-- status: draft
-- stage: derive
-- grain: market, session_date, price_source, as_of, series, expiry, strike, weight, convention
-- time: as_of is the cut-off; available_at is the latest among the options' rows and the
--   slice's. Open interest and volume are the newest published by the cut-off.
-- sources: features.chain_v1, features.surface_v1
-- max_age: 1 session
--
-- columns:
--   market VARCHAR: market code
--   session_date DATE: the exchange's trade date
--   price_source VARCHAR: source of the forward and vols: quote or settlement
--   series VARCHAR: option root
--   expiry DATE: last trade date, in the exchange's time zone
--   strike DOUBLE: strike, quote unit
--   weight VARCHAR: open_interest or volume
--   convention VARCHAR: dealer_short, dealer_long or calls_long_puts_short
--   contracts BIGINT: contracts at the strike, calls and puts
--   net_contracts BIGINT: contracts that dealers hold there under the convention, short negative
--   forward DOUBLE: forward of the slice, quote unit
--   t_years DOUBLE: time to expiration, ACT/365
--   rate DOUBLE: continuously compounded risk-free rate, decimal a year
--   vol DOUBLE: vol that the strike is priced at, decimal a year: the slice's, so that strikes
--     without a quote count too, else the one at the money
--   gex DOUBLE: USD of delta that dealers gain for a 1 % rise: gamma x contracts x multiplier
--     x forward squared x 0.01, signed by the convention
--   vanna_flow DOUBLE: USD of delta that dealers gain for a rise of 1 vol point
--   charm_flow DOUBLE: USD of delta that dealers gain in a calendar day
--   weight_as_of TIMESTAMP WITH TIME ZONE: session close that the weight describes
--   as_of TIMESTAMP WITH TIME ZONE: the cut-off
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
options as (
    select
        c.market, c.session_date, c.price_source, c.as_of, c.series, c.expiry,
        c.strike, c.option_type, c.forward, c.t_years, c.rate,
        c.open_interest, c.open_interest_as_of, c.volume, c.volume_as_of,
        m.multiplier,
        greatest(c.available_at, s.available_at) as available_at,
        coalesce(
            sqrt(
                svi_total_variance(ln(c.strike / c.forward), s.a, s.b, s.rho, s.m, s.sigma)
                / c.t_years
            ),
            s.atm_iv
        ) as vol
    from features.chain_v1 as c
    join features.surface_v1 as s
        using (market, session_date, price_source, as_of, series, expiry)
    join meta.markets as m on c.market = m.market
),

with_greeks as materialized (
    select *, greeks(forward, strike, t_years, vol, rate, option_type = 'C') as greek
    from options
),

weighted as (
    select *, 'open_interest' as weight, open_interest as contracts,
        open_interest_as_of as weight_as_of
    from with_greeks
    union all
    select *, 'volume' as weight, volume as contracts, volume_as_of as weight_as_of
    from with_greeks
),

-- Gamma is the same whoever holds the option: each side's exposure is the long one's, negated
-- or with the puts' part negated.
exposures as (
    select
        *,
        contracts * multiplier * forward * greek.gamma * forward * 0.01 as gex,
        contracts * multiplier * forward * greek.vanna * 0.01 as vanna_flow,
        contracts * multiplier * forward * greek.charm / 365 as charm_flow,
        if(option_type = 'C', 1, -1) as side
    from weighted
    where contracts > 0
),

by_strike as (
    select
        market, session_date, price_source, as_of, series, expiry, strike, weight,
        sum(contracts)::bigint as contracts,
        sum(side * contracts)::bigint as mixed_contracts,
        any_value(forward) as forward,
        any_value(t_years) as t_years,
        any_value(rate) as rate,
        any_value(vol) as vol,
        sum(gex) as gex,
        sum(side * gex) as mixed_gex,
        sum(vanna_flow) as vanna_flow,
        sum(side * vanna_flow) as mixed_vanna_flow,
        sum(charm_flow) as charm_flow,
        sum(side * charm_flow) as mixed_charm_flow,
        max(weight_as_of) as weight_as_of,
        max(available_at) as available_at
    from exposures
    group by market, session_date, price_source, as_of, series, expiry, strike, weight
),

-- Less than zero is taken from zero: the negative of zero would be another number.
by_convention as (
    select
        * exclude (mixed_contracts, mixed_gex, mixed_vanna_flow, mixed_charm_flow)
        replace (0.0 - gex as gex, 0.0 - vanna_flow as vanna_flow, 0.0 - charm_flow as charm_flow),
        'dealer_short' as convention, -contracts as net_contracts
    from by_strike
    union all by name
    select
        * exclude (mixed_contracts, mixed_gex, mixed_vanna_flow, mixed_charm_flow),
        'dealer_long' as convention, contracts as net_contracts
    from by_strike
    union all by name
    select
        * exclude (mixed_contracts, mixed_gex, mixed_vanna_flow, mixed_charm_flow)
        replace (
            mixed_gex as gex, mixed_vanna_flow as vanna_flow, mixed_charm_flow as charm_flow
        ),
        'calls_long_puts_short' as convention, mixed_contracts as net_contracts
    from by_strike
)

select
    market, session_date, price_source, series, expiry, strike, weight, convention, contracts,
    net_contracts, forward, t_years, rate, vol, gex, vanna_flow, charm_flow, weight_as_of,
    as_of, available_at
from by_convention
order by market, session_date, price_source, as_of, series, expiry, strike, weight, convention
