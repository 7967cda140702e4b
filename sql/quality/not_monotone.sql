-- Neighbouring strikes of a slice whose prices are out of order, or further apart than the strikes,
-- beyond their spreads: a vertical spread that pays for itself.
-- severity: warning
-- look_back: 0 days
with
quotes as (
    select
        *,
        lead(strike) over ladder as next_strike,
        lead(bid) over ladder as next_bid,
        lead(ask) over ladder as next_ask
    from features.chain_v1
    where price_source = 'quote' and mid is not null
    window ladder as (
        partition by market, session_date, as_of, series, expiry, option_type order by strike
    )
)

select
    market, session_date, series || ' ' || expiry as subject,
    format('{} pairs of strikes out of order, first at {}', count(*), min(contract)) as reason
from quotes
where
    if(
        option_type = 'C',
        next_bid > ask or bid - next_ask > (next_strike - strike) * (1 + 1e-9),
        bid > next_ask or next_bid - ask > (next_strike - strike) * (1 + 1e-9)
    )
group by market, session_date, as_of, series, expiry
