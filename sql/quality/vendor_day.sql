-- A session on a day that the vendor calls degraded (landed, but records may be missing from it)
-- or missing (it has nothing of that day).
-- severity: warning
-- look_back: all
select
    s.market, s.session_date, d.dataset as subject,
    format('the vendor calls {} {}', d.day, d.condition) as reason
from meta.vendor_days as d
join meta.sessions as s
    on d.market = s.market
    and d.day between (s.open_at at time zone 'UTC')::date and (s.close_at at time zone 'UTC')::date
where d.condition in ('degraded', 'missing')
