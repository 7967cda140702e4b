-- The risk-neutral density, one row a slice: every second stored price of its middle 99.8 %.
with
points as (
    select
        *,
        row_number() over (
            partition by market, session_date, price_source, series, expiry order by strike
        ) as point
    from memory.features.density_v1 as p
    semi join detailed_slices as d
        using (market, session_date, price_source, as_of, series, expiry)
    where cdf between 0.001 and 0.999
)

select
    market, session_date, price_source, series || ' ' || expiry as slice,
    list(strike order by strike) as strike,
    list(density order by strike) as density
from points
where point % 2 = 1
group by market, session_date, price_source, series, expiry
order by market, session_date, price_source, expiry, series
