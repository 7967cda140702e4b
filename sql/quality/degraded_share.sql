-- Many slices that were of full quality in one session are not in the next.
-- severity: warning
-- look_back: 31 days
with
slices as (
    select market, session_date, series, expiry, max_by(data_quality, as_of) as data_quality,
        any_value(t_years) as t_years
    from features.surface_v1
    where price_source = 'quote'
    group by market, session_date, series, expiry
),

sessions as (
    select
        market, session_date,
        lag(session_date) over (partition by market order by session_date) as previous
    from (select distinct market, session_date from slices) as s
),

compared as (
    select
        s.market, s.session_date,
        count(*) as n_full,
        count(*) filter (where c.data_quality is distinct from 'full') as n_lost
    from sessions as s
    join slices as b on s.market = b.market and s.previous = b.session_date
        and s.previous >= s.session_date - 30
    left join slices as c
        on s.market = c.market and s.session_date = c.session_date
        and b.series = c.series and b.expiry = c.expiry
    -- Strikes run out of buyers as an expiry nears.
    where b.data_quality = 'full' and b.t_years > 14 / 365
    group by s.market, s.session_date
)

select
    c.market, c.session_date, 'surface' as subject,
    format('{} of {} slices are no longer of full quality', c.n_lost, c.n_full) as reason
from compared as c
join meta.thresholds as t using (market)
where c.n_lost >= 2 and c.n_lost >= t.degraded_share * c.n_full
