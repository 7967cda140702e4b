-- Dealer exposures in total, by weight, and of each slice by open interest, under each
-- convention, with the level of zero gamma: one row a market and session.
with
flows as (
    select
        f.*,
        coalesce(f.series || ' ' || f.expiry, 'total') as slice
    from features.flow_v1 as f
    semi join detailed_slices as d using (market, session_date, price_source, as_of)
    where f.scope = 'total' or f.weight = 'open_interest'
    qualify f.price_source = min(f.price_source) over (partition by f.market, f.session_date)
)

select
    market, session_date,
    any_value(price_source) as price_source,
    max(weight_as_of) as weight_as_of,
    list(slice order by slice, weight, convention) as slice,
    list(weight order by slice, weight, convention) as weight,
    list(convention order by slice, weight, convention) as convention,
    list(gex order by slice, weight, convention) as gex,
    list(vanna_flow order by slice, weight, convention) as vanna,
    list(charm_flow order by slice, weight, convention) as charm,
    list(zero_gamma order by slice, weight, convention) as zero_gamma,
    list(zero_gamma_reason order by slice, weight, convention) as reason
from flows
group by market, session_date
order by market, session_date
