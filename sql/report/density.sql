-- The risk-neutral density at every fourth stored price, one row a slice.
with
points as (
    select
        *,
        row_number() over (
            partition by market, session_date, price_source, series, expiry order by strike
        ) as point
    from features.density_v1 as p
    semi join detailed_slices as d
        using (market, session_date, price_source, as_of, series, expiry)
)

select
    market, session_date, price_source, series || ' ' || expiry as slice,
    list(strike order by strike) as strike,
    list(density order by strike) as density
from points
where point % 4 = 1
group by market, session_date, price_source, series, expiry
order by market, session_date, price_source, expiry, series
