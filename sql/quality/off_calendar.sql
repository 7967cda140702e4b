-- Bars or streamed quotes at a time when the market's calendar has no session: a bar that lies
-- wholly outside one, or a quote on a day without one.  The calendar is wrong, or the data is.
-- severity: warning
-- look_back: 0 days
with
bars as (
    select
        b.market, 'futures_1m' as subject, m.timezone as day_zone,
        b.as_of - interval 1 minute as starts_at, b.as_of as ends_at, count(*) as n_rows
    from raw.futures_1m as b
    join meta.markets as m using (market)
    group by all
    union all
    select market, 'futures_1d', 'UTC', as_of - interval 1 day, as_of, count(*)
    from raw.futures_1d
    group by all
),

-- A book is filled before the open and left standing after the close: only a quote's day counts.
quotes as (
    select
        market, 'option_quote' as subject, date_trunc('hour', as_of) as as_of, count(*) as n_rows
    from raw.option_quote
    where feed = 'stream'
    group by all
    union all
    select market, 'futures_quote', date_trunc('hour', as_of), count(*)
    from raw.futures_quote
    where feed = 'stream'
    group by all
),

quote_days as (
    select
        q.market, q.subject, m.timezone as day_zone,
        date_trunc('day', q.as_of at time zone m.timezone) as day,
        sum(q.n_rows) as n_rows
    from quotes as q
    join meta.markets as m using (market)
    group by all
),

-- What each row is about: an instant of it within a session is enough.
spans as (
    from bars
    union all
    select
        market, subject, day_zone, day at time zone day_zone,
        (day + interval 1 day) at time zone day_zone, n_rows
    from quote_days
),

-- Sessions do not overlap: the newest that opened before a span's end is the one that may
-- reach into it.  A closing trade may print just after the close, in a minute that starts there.
outside as (
    select s.*, (s.starts_at at time zone s.day_zone)::date as session_date
    from spans as s
    asof left join meta.sessions as t on s.market = t.market and s.ends_at > t.open_at
    where t.close_at is null or s.starts_at > t.close_at
)

select
    market, session_date, subject,
    format('{} rows outside every session of the calendar, first from {} to {}',
        sum(n_rows)::bigint, min(starts_at), min(ends_at)) as reason
from outside
group by market, session_date, subject
