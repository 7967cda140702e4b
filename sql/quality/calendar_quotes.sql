-- An option costs more than one of the same future and strike that expires later, beyond their
-- spreads; exercise is American, so that the later one is worth at least as much.
-- severity: warning
-- look_back: 0 days
select
    e.market, e.session_date, l.series || ' ' || l.expiry as subject,
    format('{} options cheaper than those that expire on {}, first {}',
        count(*), e.expiry, min(l.contract)) as reason
from features.chain_v1 as e
join features.chain_v1 as l
    using (market, session_date, price_source, as_of, underlying, option_type, strike)
join meta.markets as m on e.market = m.market
where
    e.price_source = 'quote' and e.expiration < l.expiration and e.bid > l.ask
    and e.mid is not null and l.mid is not null
    and m.exercise = 'american'
    and not list_has_any(m.european_roots, [e.series, l.series])
group by e.market, e.session_date, e.as_of, e.expiry, l.series, l.expiry
