-- The risk-neutral density of the price at expiry, in closed form from a full-quality
-- slice: 101 strikes an expiry that cover its mass.
--
-- name: density_v1
-- status: draft
-- stage: derive
-- grain: market, session_date, price_source, as_of, series, expiry, strike
-- time: as_of is the cut-off; available_at is the slice's
-- sources: features.surface_v1
-- max_age: 1 session
--
-- columns:
--   market VARCHAR: market code
--   session_date DATE: the exchange's trade date
--   price_source VARCHAR: quote or settlement
--   series VARCHAR: option root
--   expiry DATE: last trade date, in the exchange's time zone
--   strike DOUBLE: price at expiry, quote unit
--   density DOUBLE: undiscounted probability for 1 of the quote unit
--   cdf DOUBLE: probability of a price at or below the strike
--   as_of TIMESTAMP WITH TIME ZONE: the cut-off
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
slices as (
    select *, svi_density(forward, a, b, rho, m, sigma) as grid
    from features.surface_v1
    where data_quality = 'full'
),

points as (
    select
        market, session_date, price_source, series, expiry,
        unnest(grid.strike) as strike,
        unnest(grid.density) as density,
        unnest(grid.cdf) as cdf,
        as_of, available_at
    from slices
)

select *
from points
where density is not null
order by market, session_date, price_source, as_of, series, expiry, strike
