-- A call less the put of its strike is not what put-call parity allows, beyond their spreads and
-- a few ticks of the future; for American options parity is a band.
-- severity: warning
-- look_back: 0 days
with
pairs as (
    select
        c.market, c.session_date, c.as_of, c.series, c.expiry, c.strike, c.contract,
        c.bid - p.ask as least, c.ask - p.bid as most,
        c.discount * (c.forward - c.strike) as parity,
        -- Exercised early, an American call may be worth more by the interest on the forward, a
        -- put by that on the strike: D F - K <= C - P <= F - D K.
        if(
            m.exercise = 'american' and not list_contains(m.european_roots, c.series),
            1 - c.discount, 0
        ) as interest,
        c.forward,
        t.parity_ticks * m.tick as slack
    from features.chain_v1 as c
    join features.chain_v1 as p
        using (market, session_date, price_source, as_of, series, expiry, strike)
    join meta.markets as m on c.market = m.market
    join meta.thresholds as t on c.market = t.market
    where
        c.price_source = 'quote' and c.option_type = 'C' and p.option_type = 'P'
        and c.mid is not null and p.mid is not null and c.forward_source <> 'parity'
)

select
    market, session_date, series || ' ' || expiry as subject,
    format('{} strikes off parity, first {}', count(*), min(contract)) as reason
from pairs
where
    least > parity + interest * forward + slack or most < parity - interest * strike - slack
group by market, session_date, as_of, series, expiry
