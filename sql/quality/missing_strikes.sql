-- A strike inside the quoted range of a slice is listed and has open interest, but no quote.
-- severity: warning
-- look_back: 0 days
with
ranges as (
    select market, session_date, as_of, series, expiry, option_type,
        min(strike) as low, max(strike) as high
    from features.chain_v1
    where price_source = 'quote' and mid is not null
    group by market, session_date, as_of, series, expiry, option_type
)

select
    c.market, c.session_date, c.series || ' ' || c.expiry as subject,
    format('{} of its options with open interest have no quote, first strike {}',
        count(*), min(c.strike)) as reason
from features.chain_v1 as c
join ranges as r using (market, session_date, as_of, series, expiry, option_type)
join meta.markets as m on c.market = m.market
where
    c.price_source = 'quote' and c.bid is null and c.ask is null
    and c.open_interest > m.min_open_interest
    and c.strike between r.low and r.high
group by c.market, c.session_date, c.as_of, c.series, c.expiry
