-- The days of which there is data, one row a market, day and kind of it: a session's chain of
-- quotes, a session's or UTC day's bar of a future, a UTC day of a stream of option quotes.
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
    union
    select market, (available_at at time zone 'UTC')::date, 'option_stream'
    from raw.option_quote
    where feed = 'stream'
)

select h.*
from held as h
join build.since as b using (market)
where h.session_date >= b.looked_at_from::date
