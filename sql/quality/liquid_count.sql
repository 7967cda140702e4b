-- Far fewer strikes of an expiry are liquid than in the sessions before.
-- severity: warning
-- look_back: 61 days
with
counts as (
    select
        market, session_date, series, expiry, max(as_of) as as_of,
        count(distinct strike) filter (where is_liquid) as n
    from features.chain_v1
    where price_source = 'quote'
    group by market, session_date, series, expiry
),

-- Twice, so that what was far off in the past is no measure for the present.
first_pass as (
    select c.*, t.count_deviations, t.count_share,
        n < t.count_share * median(n) over past as is_off
    from counts as c
    join meta.thresholds as t using (market)
    window past as (
        partition by c.market, c.series, c.expiry order by c.session_date
        range between interval 30 days preceding and interval 1 day preceding
    )
),

second_pass as (
    select
        *,
        median(n) filter (where not coalesce(is_off, false)) over past as middle,
        1.4826 * mad(n) filter (where not coalesce(is_off, false)) over past as deviation,
        count(*) over past as n_past
    from first_pass
    window past as (
        partition by market, series, expiry order by session_date
        range between interval 30 days preceding and interval 1 day preceding
    )
)

select
    market, session_date, series || ' ' || expiry as subject,
    format('{} liquid strikes, median {} of the {} sessions before', n, middle, n_past) as reason
from second_pass
where
    n_past >= 2 and middle >= 8 and n < count_share * middle
    and n < middle - count_deviations * deviation
