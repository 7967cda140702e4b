-- A session between a market's first and last has no option quotes, or no bar of a future.
-- severity: warning
-- look_back: all
with
held as (
    from meta.held
    where subject in ('option_quote', 'futures_bar')
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
    from meta.held as h where h.market = s.market and h.subject = 'option_stream'
)
