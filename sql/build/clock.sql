-- The clocks on which staleness is counted, one row a tick: a market's sessions, known at
-- their cut-off, and the CFTC's reports, known at their scheduled release.
with
ticks as (
    select
        s.market, 'session' as clock,
        -- A chain file taken before its session's cut-off is not behind that session.
        s.session_date::timestamp at time zone m.timezone as as_of, s.cut_off as known_at
    from meta.sessions as s
    join meta.markets as m using (market)
    union all
    select
        m.market, 'release' as clock,
        -- A report before a holiday is Monday's: the week's begin stands for either day.
        date_trunc('week', r.as_of) as as_of, r.available_at as known_at
    from meta.cot_releases as r
    cross join meta.markets as m
    where m.cot_code is not null
)

select
    *, row_number() over (partition by market, clock order by as_of) as tick_number
from ticks
order by market, clock, as_of
