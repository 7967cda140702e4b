-- A session between a market's first and last has no option quotes.
-- severity: warning
with
held as (
    select distinct market, session_date from features.chain_v1 where price_source = 'quote'
),

spans as (
    select market, min(session_date) as first, max(session_date) as last
    from held
    group by market
)

select
    s.market, s.session_date, 'option_quote' as subject,
    'no chain, though sessions before and after have one' as reason
from meta.sessions as s
join spans as p on s.market = p.market and s.session_date between p.first and p.last
anti join held as h on s.market = h.market and s.session_date = h.session_date
-- Snapshots of chain files are taken when somebody has one: gaps are no fault.
where exists (
    from raw.option_quote as q where q.market = s.market and q.feed = 'stream'
)
