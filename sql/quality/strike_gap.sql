-- The strikes that are listed of an expiry leave a gap that is wider than the steps on both sides.
-- severity: warning
-- look_back: all
with
steps as (
    select
        *,
        lead(strike) over ladder as next_strike,
        next_strike - strike as step,
        strike - lag(strike) over ladder as step_below,
        lead(strike, 2) over ladder - next_strike as step_above
    from meta.listed
    window ladder as (partition by market, series, expiration order by strike)
)

select
    s.market, (s.expiration at time zone m.timezone)::date as session_date,
    s.series || ' ' || session_date as subject,
    format('{} gaps in the listed strikes, first between {} and {}',
        count(*), min(s.strike), arg_min(s.next_strike, s.strike)) as reason
from steps as s
join meta.markets as m using (market)
join meta.thresholds as t on s.market = t.market
-- The outermost steps have no neighbour on one side, and are never gaps.
where
    s.step >= t.gap_steps * s.step_below * (1 - 1e-9)
    and s.step >= t.gap_steps * s.step_above * (1 - 1e-9)
group by s.market, m.timezone, s.series, s.expiration
