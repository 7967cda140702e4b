-- A future's return lies beyond ten robust deviations of its market's returns.
-- severity: warning
with
spread as (
    select market, median(return_1d) as middle, mad(return_1d) as deviation
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
where abs(f.return_1d - s.middle) > 10 * 1.4826 * s.deviation and s.deviation > 0
