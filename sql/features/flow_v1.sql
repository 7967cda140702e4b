-- Dealer exposures of a market-session in USD, in total and by expiry, with the level of the
-- forward at which gamma exposure would change its sign.
--
-- name: flow_v1
-- status: draft
-- stage: derive
-- grain: market, session_date, price_source, as_of, scope, series, expiry, weight, convention
-- time: as_of is the cut-off; available_at is the latest among the options' rows and slices'
-- sources: features.flow_by_strike_v1
-- max_age: 1 session
--
-- columns:
--   market VARCHAR: market code
--   session_date DATE: the exchange's trade date
--   price_source VARCHAR: source of the forward and vols: quote or settlement
--   scope VARCHAR: total or expiry
--   series VARCHAR: option root; NULL in total
--   expiry DATE: last trade date; NULL in total
--   weight VARCHAR: open_interest or volume
--   convention VARCHAR: dealer_short, dealer_long or calls_long_puts_short
--   contracts BIGINT: contracts, calls and puts
--   gex DOUBLE: USD of delta that dealers gain for a 1 % rise of every forward
--   vanna_flow DOUBLE: USD of delta that dealers gain for a rise of 1 vol point
--   charm_flow DOUBLE: USD of delta that dealers gain in a calendar day
--   zero_gamma DOUBLE: forward at which gex is zero, re-priced at fixed vols by strike; in total
--     that of the first expiry, all forwards moving by one factor; NULL where there is none
--   zero_gamma_reason VARCHAR: why zero_gamma is NULL
--   weight_as_of TIMESTAMP WITH TIME ZONE: session close that the weight describes
--   as_of TIMESTAMP WITH TIME ZONE: the cut-off
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
by_expiry as (
    select
        market, session_date, price_source, as_of, 'expiry' as scope, series, expiry,
        weight, convention,
        sum(contracts) as contracts,
        -- In an order, since a sum of floats depends on it.
        sum(gex order by strike) as gex,
        sum(vanna_flow order by strike) as vanna_flow,
        sum(charm_flow order by strike) as charm_flow,
        max(weight_as_of) as weight_as_of, max(available_at) as available_at
    from features.flow_by_strike_v1
    group by
        market, session_date, price_source, as_of, series, expiry, weight, convention
),

in_total as (
    select
        market, session_date, price_source, as_of, 'total' as scope,
        null as series, null as expiry, weight, convention,
        sum(contracts) as contracts,
        sum(gex order by expiry, series) as gex,
        sum(vanna_flow order by expiry, series) as vanna_flow,
        sum(charm_flow order by expiry, series) as charm_flow,
        max(weight_as_of) as weight_as_of, max(available_at) as available_at
    from by_expiry
    group by market, session_date, price_source, as_of, weight, convention
),

scopes as (
    select * from by_expiry
    union all by name
    select * from in_total
),

-- Only a convention that is long some options and short others can have a zero.  Gamma is
-- the same for a call and a put, so a strike counts with what is held there in net.
holdings as (
    select 'expiry' as scope, * from features.flow_by_strike_v1
    where convention = 'calls_long_puts_short' and vol is not null
    union all
    select 'total' as scope, * replace (null as series, null as expiry)
    from features.flow_by_strike_v1
    where convention = 'calls_long_puts_short' and vol is not null
),

profiles as (
    select
        scope, market, session_date, price_source, as_of, series, expiry, weight, convention,
        arg_min(forward, row(t_years, forward)) as first_forward,
        list(
            struct_pack(
                forward := forward, strike := strike, t_years := t_years, vol := vol,
                rate := rate, quantity := net_contracts::double
            )
            order by t_years, strike, net_contracts
        ) as options
    from holdings
    group by
        scope, market, session_date, price_source, as_of, series, expiry, weight, convention
),

zeros as (
    select
        * exclude (options),
        zero_gamma(
            list_transform(options, lambda x: x.forward),
            list_transform(options, lambda x: x.strike),
            list_transform(options, lambda x: x.t_years),
            list_transform(options, lambda x: x.vol),
            list_transform(options, lambda x: x.rate),
            list_transform(options, lambda x: true),
            list_transform(options, lambda x: x.quantity)
        ) as zero
    from profiles
)

select
    f.market, f.session_date, f.price_source, f.scope, f.series, f.expiry,
    f.weight, f.convention,
    f.contracts::bigint as contracts,
    f.gex, f.vanna_flow, f.charm_flow,
    z.zero.scale * z.first_forward as zero_gamma,
    case
        when z.zero.scale is not null then null
        when f.convention <> 'calls_long_puts_short' then 'dealers are on one side of every option'
        when f.gex is null then 'no vol to price the options at'
        else 'gamma exposure keeps its sign between half and twice the forward'
    end as zero_gamma_reason,
    f.weight_as_of, f.as_of, f.available_at
from scopes as f
left join zeros as z
    on f.scope = z.scope and f.market = z.market and f.session_date = z.session_date
    and f.price_source = z.price_source and f.as_of = z.as_of
    and f.series is not distinct from z.series and f.expiry is not distinct from z.expiry
    and f.weight = z.weight and f.convention = z.convention
order by
    f.market, f.session_date, f.price_source, f.as_of, f.scope, f.series, f.expiry, f.weight,
    f.convention
