-- Settlements of a slice lie away from its quotes, these moved by the future's way from snapshot
-- to settlement, by more than a few spreads.
-- severity: warning
-- look_back: 0 days
with
settled as (
    from features.chain_v1
    where price_source = 'settlement' and quarantine is null
    qualify as_of = max(as_of) over (partition by market, session_date, series, expiry)
),

pairs as (
    select
        q.market, q.session_date, q.series, q.expiry, q.contract,
        abs(s.settlement - q.mid - q.delta * (s.forward - q.forward)) as distance,
        t.settlement_spreads * (q.ask - q.bid) + 2 * m.option_tick as allowed
    from features.chain_v1 as q
    join settled as s using (market, session_date, series, expiry, option_type, strike)
    join meta.markets as m on q.market = m.market
    join meta.thresholds as t on q.market = t.market
    where q.price_source = 'quote' and q.mid is not null and q.delta is not null
)

select
    market, session_date, series || ' ' || expiry as subject,
    format('{} of {} settlements are off the quotes, first {}',
        count(*) filter (where distance > allowed), count(*),
        min(contract) filter (where distance > allowed)) as reason
from pairs
group by market, session_date, series, expiry
having count(*) filter (where distance > allowed) > 0.1 * count(*)
