-- What was known at the asked instant, one row a market, session and price source: the newest
-- snapshot, which is the vintage that the page draws.
select market, session_date, price_source, max(as_of) as as_of
from features.surface_v1
where as_of <= (select known_by from page) and available_at <= (select known_by from page)
group by market, session_date, price_source
order by market, session_date, price_source
