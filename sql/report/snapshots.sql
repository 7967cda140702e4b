-- What was known at the asked instant, one row a market, session and price source: the newest
-- snapshot, which is the vintage that the page draws, with how many strikes of it have a vol.
select market, session_date, price_source, as_of, sum(n_strikes) as n_strikes
from features.surface_v1
where as_of <= (select known_by from page) and available_at <= (select known_by from page)
group by market, session_date, price_source, as_of
qualify as_of = max(as_of) over (partition by market, session_date, price_source)
order by market, session_date, price_source
