-- The surface by log-moneyness, as far as strikes are priced, one row a slice of full quality.
with
spans as (
    select
        c.market, c.session_date, c.price_source, c.as_of, c.series, c.expiry,
        min(ln(c.strike / c.forward)) as low,
        max(ln(c.strike / c.forward)) as high
    from memory.features.chain_v1 as c
    semi join detailed_slices as d
        using (market, session_date, price_source, as_of, series, expiry)
    where c.iv is not null
    group by c.market, c.session_date, c.price_source, c.as_of, c.series, c.expiry
)

select
    g.market, g.session_date, g.price_source, g.series || ' ' || g.expiry as slice,
    list(g.log_moneyness order by g.log_moneyness) as log_moneyness,
    list(g.vol order by g.log_moneyness) as vol
from memory.features.surface_grid_v1 as g
join spans as s using (market, session_date, price_source, as_of, series, expiry)
where g.grid = 'log_moneyness' and g.log_moneyness between s.low and s.high
group by g.market, g.session_date, g.price_source, g.series, g.expiry
order by g.market, g.session_date, g.price_source, g.expiry, g.series
