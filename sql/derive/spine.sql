-- The cut-offs at which a market's chains are taken, one row a session and price source
-- and cut-off; everything that is derived hangs on it.
--
-- `quote`, feed `stream`: the newest quotes at the session's snapshot; the cut-off is the
-- session's.  Feed `snapshot`: a chain file is a snapshot of its own, and its stamp the
-- cut-off; a stamp after the session's close describes the close.
-- `settlement`: publications are gathered in windows of 15 minutes and the cut-off is the
-- end of the window, so that it does not depend on what is published later.  Preliminary
-- and final values, and every correction, are vintages of their own; an intraday price (flag
-- bit 3) is no settlement.
with
run as (select known_at from derive.run),

stream as (
    select
        s.market, s.session_date, 'quote' as price_source, 'stream' as feed,
        s.cut_off as as_of, s.snapshot_at as valued_at,
        s.open_at as quotes_from, s.snapshot_at as quotes_to
    from derive.sessions as s
    semi join raw.option_quote as q
        on q.feed = 'stream'
        and q.available_at > s.open_at
        and q.available_at <= s.snapshot_at
),

stamps as (
    select distinct
        q.market, q.available_at as stamp,
        (q.available_at at time zone m.timezone)::date as local_date
    from raw.option_quote as q
    join meta.markets as m using (market)
    where q.feed = 'snapshot'
),

dated as (
    select t.market, t.stamp, s.session_date, s.close_at
    from stamps as t
    asof join meta.sessions as s
        on t.market = s.market and t.local_date >= s.session_date
),

snapshots as (
    select
        d.market, d.session_date, 'quote' as price_source, 'snapshot' as feed,
        d.stamp as as_of, least(d.stamp, d.close_at) as valued_at,
        d.stamp - interval 1 microsecond as quotes_from, d.stamp as quotes_to
    from dated as d
    semi join derive.sessions as s using (market, session_date)
),

windows as (
    select distinct
        market, ref_date, if(source like 'chain-%', 'snapshot', 'stream') as feed,
        time_bucket(interval 15 minutes, available_at - interval 1 microsecond)
        + interval 15 minutes as as_of
    from raw.option_stat
    where stat_type = 3 and (is_final is null or coalesce(stat_flags, 0) & 8 = 0)
),

-- A chain file of a weekend holds the settlements of the session before.
publications as (
    select w.market, s.session_date, w.feed, w.as_of
    from windows as w
    asof join meta.sessions as s
        on w.market = s.market and w.ref_date >= s.session_date
    where w.feed = 'snapshot' or w.ref_date = s.session_date
),

settlements as (
    select
        p.market, p.session_date, 'settlement' as price_source, p.feed,
        p.as_of, s.close_at as valued_at,
        if(p.feed = 'stream', s.open_at, s.open_at - interval 7 days) as quotes_from,
        if(p.feed = 'stream', least(s.snapshot_at, p.as_of), p.as_of) as quotes_to
    from publications as p
    join derive.sessions as s using (market, session_date)
    where p.as_of <= s.close_at + interval 45 days
),

spine as (
    select * from stream
    union all
    select * from snapshots
    union all
    select * from settlements
)

select
    row_number() over (order by market, session_date, price_source, as_of, feed) as spine_id,
    spine.*
from (
    select *
    from spine
    -- Where a vendor's stream and a chain file meet at one instant, the stream stands.
    qualify feed = max(feed) over (partition by market, session_date, price_source, as_of)
) as spine
cross join run
where as_of <= run.known_at
