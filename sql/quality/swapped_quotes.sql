-- Most two-sided quotes of a slice are crossed: bid and ask stand in each other's place.
-- severity: error
-- look_back: 0 days
select
    c.market, c.session_date, c.series || ' ' || c.expiry as subject,
    format('{} of {} quotes are crossed, first {}',
        count(*) filter (where c.bid > c.ask), count(*),
        min(c.contract) filter (where c.bid > c.ask)) as reason
from features.chain_v1 as c
join meta.thresholds as t using (market)
where c.price_source = 'quote' and c.bid > 0 and c.ask > 0
group by c.market, c.session_date, c.as_of, c.series, c.expiry
having
    count(*) filter (where c.bid > c.ask) >= 3
    and count(*) filter (where c.bid > c.ask) >= any_value(t.swapped_share) * count(*)
