-- Dealer exposures by strike under each convention, weighted by open interest, one row a slice
-- and convention: from quotes, as the features are, or from settlements where a session has none.
-- By the COT report dealers hold one share of what the convention of calls long, puts short says.
with
assumed as (
    select
        f.market, f.session_date, f.price_source, f.as_of, f.series, f.expiry,
        f.convention, f.strike, f.gex, f.vanna_flow, f.charm_flow
    from memory.features.flow_by_strike_v1 as f
    semi join detailed_slices as d
        using (market, session_date, price_source, as_of, series, expiry)
    where f.weight = 'open_interest'
    qualify f.price_source = min(f.price_source) over (partition by f.market, f.session_date)
),

reported as (
    select
        a.* replace (
            c.convention as convention,
            c.dealer_share * a.gex as gex,
            c.dealer_share * a.vanna_flow as vanna_flow,
            c.dealer_share * a.charm_flow as charm_flow
        )
    from assumed as a
    join features.flow_cot_v1 as c
        using (market, session_date, price_source, as_of, series, expiry)
    where a.convention = 'calls_long_puts_short' and c.dealer_share is not null
),

flows as (
    select * from assumed
    union all
    select * from reported
)

select
    market, session_date, series || ' ' || expiry as slice, convention,
    list(strike order by strike) as strike,
    list(gex order by strike) as gex,
    list(vanna_flow order by strike) as vanna,
    list(charm_flow order by strike) as charm
from flows
group by market, session_date, series, expiry, convention
order by market, session_date, expiry, series, convention
