-- Dealer exposures in total, by weight, and of each slice by open interest, under each
-- convention, with the level of zero gamma: one row a market and session. By the COT report it is
-- that of the convention of calls long, puts short, of which dealers hold a share.
with
flows as (
    select * from memory.features.flow_v1
    union all by name
    select * exclude (report_date, dealer_share, share_reason), share_reason as zero_gamma_reason
    from features.flow_cot_v1
),

drawn as (
    select
        f.* exclude (zero_gamma),
        coalesce(f.series || ' ' || f.expiry, 'total') as slice,
        case
            when f.convention = 'cot' and f.gex is not null
                then max(f.zero_gamma) filter (where f.convention = 'calls_long_puts_short') over (
                    partition by
                        f.market, f.session_date, f.price_source, f.scope, f.series, f.expiry,
                        f.weight
                )
            else f.zero_gamma
        end as zero_gamma
    from flows as f
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
from drawn
group by market, session_date
order by market, session_date
