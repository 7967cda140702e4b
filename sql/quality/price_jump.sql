-- A future's return lies many robust deviations beyond its market's.
-- severity: warning
-- look_back: all
with
spread as (
    select market, median(return_1d) as middle, 1.4826 * mad(return_1d) as deviation
    from features.futures_v1
    where return_1d is not null
    group by market
    having count(*) >= 20
)

select
    f.market, f.session_date, f.contract as subject,
    format('return of {:.1f} % in one session', 100 * f.return_1d) as reason
from features.futures_v1 as f
join spread as s using (market)
join meta.thresholds as t on f.market = t.market
where abs(f.return_1d - s.middle) > t.price_deviations * s.deviation and s.deviation > 0
