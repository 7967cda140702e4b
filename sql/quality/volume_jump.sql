-- The volume of a market's futures lies many robust deviations from that of the sessions before.
-- severity: warning
-- look_back: 91 days
with
sessions as (
    select market, session_date, as_of, ln(1 + sum(volume)) as log_volume
    from features.futures_v1
    where volume is not null
    group by market, session_date, as_of
),

compared as (
    select
        *,
        median(log_volume) over past as middle,
        1.4826 * mad(log_volume) over past as deviation,
        count(*) over past as n_past
    from sessions
    window past as (
        partition by market order by session_date
        range between interval 90 days preceding and interval 1 day preceding
    )
)

select
    c.market, c.session_date, 'futures' as subject,
    format('volume {:.0f}, median {:.0f}', exp(c.log_volume) - 1, exp(c.middle) - 1) as reason
from compared as c
join meta.thresholds as t using (market)
where
    c.n_past >= 20 and c.deviation > 0
    and abs(c.log_volume - c.middle) > t.volume_deviations * c.deviation
