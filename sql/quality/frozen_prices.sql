-- Nearly all prices of a slice, or all closes of the futures, are the previous session's to a tick.
-- severity: error
-- look_back: 10 days
with
sessions as (
    select
        market, session_date,
        lag(session_date) over (partition by market order by session_date) as previous
    from meta.sessions
),

prices as (
    select
        c.market, c.session_date, c.price_source, c.series, c.expiry, c.instrument_id,
        -- A number in place of the prices themselves, which would be a list to keep of each.
        arg_max(
            if(c.price_source = 'quote', hash(c.bid, c.ask), hash(c.settlement)), c.as_of
        ) as price
    from features.chain_v1 as c
    join meta.markets as m using (market)
    -- Near nothing, the same few ticks are the price on many days.
    where if(c.price_source = 'quote', c.mid, c.settlement) > 4 * m.option_tick
    group by all
    union all
    select
        market, session_date, 'futures', null, null, hash(contract),
        arg_max(hash(close, volume), as_of)
    from features.futures_v1
    where close is not null
    group by all
),

pairs as (
    select
        *,
        lag(session_date) over history as session_before, lag(price) over history as price_before
    from prices
    window history as (
        partition by market, price_source, series, expiry, instrument_id order by session_date
    )
),

slices as (
    select
        p.market, p.session_date, s.previous,
        concat_ws(' ', p.price_source, p.series, p.expiry) as subject,
        count(*) as n_prices,
        count(*) filter (where p.price = p.price_before) as n_same
    from pairs as p
    join sessions as s
        on p.market = s.market and p.session_date = s.session_date
        and p.session_before = s.previous
    group by p.market, p.session_date, s.previous, p.price_source, p.series, p.expiry
)

select
    s.market, s.session_date, s.subject,
    format('{} of {} prices are those of {}', s.n_same, s.n_prices, s.previous) as reason
from slices as s
join meta.thresholds as t using (market)
where s.n_prices >= if(s.subject = 'futures', 3, 6) and s.n_same >= t.frozen_share * s.n_prices
