-- A session between a market's first and last has no option quotes, or no bar of a future.
-- severity: warning
with
held as (
    select distinct market, session_date, 'option_quote' as subject
    from features.chain_v1
    where price_source = 'quote'
    union
    select b.market, s.session_date, 'futures_bar'
    from (select distinct market, as_of from raw.futures_1m) as b
    asof join meta.sessions as s on b.market = s.market and b.as_of > s.open_at
    where b.as_of - interval 1 minute <= s.close_at
    union
    select market, ((as_of - interval 1 day) at time zone 'UTC')::date, 'futures_bar'
    from raw.futures_1d
),

spans as (
    select market, subject, min(session_date) as first, max(session_date) as last
    from held
    group by market, subject
)

select
    s.market, s.session_date, p.subject,
    if(p.subject = 'option_quote', 'no chain', 'no bar')
    || ', though sessions before and after have one' as reason
from meta.sessions as s
join spans as p on s.market = p.market and s.session_date between p.first and p.last
anti join held as h
    on s.market = h.market and s.session_date = h.session_date and p.subject = h.subject
-- Snapshots of chain files are taken when somebody has one: gaps are no fault.
where p.subject = 'futures_bar' or exists (
    from raw.option_quote as q where q.market = s.market and q.feed = 'stream'
)
