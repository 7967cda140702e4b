-- Gamma exposure changed its sign, though open interest and the forward hardly changed.
-- severity: warning
-- look_back: 31 days
with
totals as (
    select
        market, session_date, price_source, as_of,
        any_value(contracts) filter (where convention = 'calls_long_puts_short') as contracts,
        any_value(gex) filter (where convention = 'calls_long_puts_short') as gex,
        any_value(abs(gex)) filter (where convention = 'dealer_long') as gross
    from features.flow_v1
    where scope = 'total' and weight = 'open_interest'
    group by market, session_date, price_source, as_of
    qualify as_of = max(as_of) over (partition by market, session_date, price_source)
),

fronts as (
    select market, session_date, sum(return_1d) as moved, any_value(rv_cc_21d) as vol
    from features.futures_v1
    where contract_rank = 1
    group by market, session_date
),

changes as (
    select
        *,
        lag(session_date) over days as previous,
        lag(gex) over days as gex_before,
        lag(contracts) over days as contracts_before
    from totals
    window days as (partition by market, price_source order by session_date)
)

select
    c.market, c.session_date, c.price_source || ' gex' as subject,
    format('from {:.0f} to {:.0f} USD, open interest from {} to {}',
        c.gex_before, c.gex, c.contracts_before, c.contracts) as reason
from changes as c
join meta.thresholds as t using (market)
left join fronts as f on c.market = f.market and c.session_date = f.session_date
where
    sign(c.gex) = -sign(c.gex_before) and c.previous >= c.session_date - 30
    and least(abs(c.gex), abs(c.gex_before)) > t.flip_share * c.gross
    and abs(ln(c.contracts / c.contracts_before)) < t.flip_open_interest
    and coalesce(abs(f.moved) < t.quiet_move * f.vol / sqrt(252), true)
