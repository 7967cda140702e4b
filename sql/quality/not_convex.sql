-- Three neighbouring strikes of a slice whose middle one costs more than the line between the
-- others, beyond their spreads: a butterfly that pays for itself.
-- severity: warning
-- look_back: 0 days
with
quotes as (
    select
        *,
        lag(strike) over ladder as low_strike, lag(ask) over ladder as low_ask,
        lead(strike) over ladder as high_strike, lead(ask) over ladder as high_ask,
        (high_strike - strike) / (high_strike - low_strike) as low_share
    from features.chain_v1
    where price_source = 'quote' and mid is not null
    window ladder as (
        partition by market, session_date, as_of, series, expiry, option_type order by strike
    )
)

select
    market, session_date, series || ' ' || expiry as subject,
    format('{} butterflies below zero, first at {}', count(*), min(contract)) as reason
from quotes
where bid > (low_share * low_ask + (1 - low_share) * high_ask) * (1 + 1e-9)
group by market, session_date, as_of, series, expiry
