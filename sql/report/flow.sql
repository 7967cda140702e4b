-- Dealer exposures by strike under each convention, weighted by open interest, one row a slice
-- and convention: from quotes, as the features are, or from settlements where a session has none.
with
flows as (
    select f.*
    from features.flow_by_strike_v1 as f
    semi join detailed_slices as d
        using (market, session_date, price_source, as_of, series, expiry)
    where f.weight = 'open_interest'
    qualify f.price_source = min(f.price_source) over (partition by f.market, f.session_date)
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
