-- The smile and the open interest by strike, one row a slice.  The vols of bid and ask take out
-- early exercise as the chain's own vol does; a bid that no vol explains allows any down to zero.
with
options as (
    select
        c.*,
        m.exercise = 'american' and not list_contains(m.european_roots, c.series) as is_american,
        row_number() over (
            partition by
                c.market, c.session_date, c.price_source, c.series, c.expiry, c.strike
            order by
                c.iv is null, c.is_liquid desc,
                (c.option_type = 'C') <> (c.strike >= c.forward), c.option_type
        ) as preference
    from memory.features.chain_v1 as c
    semi join detailed_slices as d
        using (market, session_date, price_source, as_of, series, expiry)
    join meta.markets as m on c.market = m.market
),

-- As the curve's fit does: one option a strike, a liquid one first, then the out-of-the-money one.
preferred as (
    select
        * exclude (bid, ask),
        if(price_source = 'quote' and iv is not null, bid, null) as bid,
        if(price_source = 'quote' and iv is not null, ask, null) as ask
    from options
    where preference = 1
),

bounded as (
    select
        *,
        implied_vol(bid, forward, strike, t_years, rate, option_type = 'C', is_american) as low,
        implied_vol(ask, forward, strike, t_years, rate, option_type = 'C', is_american) as high
    from preferred
),

open_interest as (
    select
        market, session_date, price_source, series, expiry, strike,
        sum(open_interest) filter (where option_type = 'C')::bigint as calls,
        sum(open_interest) filter (where option_type = 'P')::bigint as puts
    from options
    group by market, session_date, price_source, series, expiry, strike
),

curves as (
    select g.*
    from memory.features.surface_grid_v1 as g
    semi join detailed_slices as d
        using (market, session_date, price_source, as_of, series, expiry)
    where g.grid = 'strike'
)

select
    b.market, b.session_date, b.price_source, b.series || ' ' || b.expiry as slice,
    list(b.strike order by b.strike) as strike,
    list(b.iv order by b.strike) as vol,
    list(if(b.bid is null, null, coalesce(b.low.vol, 0)) order by b.strike) as vol_low,
    list(b.high.vol order by b.strike) as vol_high,
    list(g.vol order by b.strike) as vol_curve,
    list(b.is_liquid::integer order by b.strike) as is_liquid,
    list(o.calls order by b.strike) as calls,
    list(o.puts order by b.strike) as puts
from bounded as b
join open_interest as o using (market, session_date, price_source, series, expiry, strike)
left join curves as g
    on b.market = g.market and b.session_date = g.session_date
    and b.price_source = g.price_source and b.series = g.series and b.expiry = g.expiry
    and b.strike::varchar = g.point
where b.iv is not null or o.calls > 0 or o.puts > 0
group by b.market, b.session_date, b.price_source, b.series, b.expiry
order by b.market, b.session_date, b.price_source, b.expiry, b.series
