-- Options of a slice whose quote is much older than the chain's newest, and left out of mids and
-- fits; or a whole chain whose newest quote is that old at the snapshot.
-- severity: warning
-- look_back: 0 days
with
quotes as (
    select
        c.*, s.snapshot_at, m.max_quote_age * interval 1 minute as max_age,
        max(c.quote_as_of) over (partition by c.market, c.session_date, c.as_of) as newest
    from features.chain_v1 as c
    join meta.markets as m on c.market = m.market
    join meta.sessions as s on c.market = s.market and c.session_date = s.session_date
    where c.price_source = 'quote'
)

select
    market, session_date, series || ' ' || expiry as subject,
    format('{} quotes out of date, the oldest of {}, first {}',
        count(*), min(quote_as_of), min(contract)) as reason
from quotes
where quarantine = 'stale'
group by market, session_date, as_of, series, expiry
union all
select
    market, session_date, 'option_quote' as subject,
    format('the newest quote, of {}, is old at the snapshot', any_value(newest)) as reason
from quotes
group by market, session_date, as_of
having any_value(newest) < least(any_value(snapshot_at), as_of) - any_value(max_age)
