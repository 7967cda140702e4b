-- At-the-money vol or the kurtosis of a slice jumped while its forward hardly moved.
-- severity: warning
-- look_back: 10 days
with
sessions as (
    select
        market, session_date,
        lag(session_date) over (partition by market order by session_date) as previous
    from meta.sessions
),

slices as (
    select
        s.market, s.session_date, s.price_source, s.series, s.expiry, s.t_years, s.forward,
        s.atm_iv, s.atm_iv_se, m.log_kurtosis, m.log_kurtosis_se
    from features.surface_v1 as s
    join features.moments_v1 as m
        using (market, session_date, price_source, as_of, series, expiry)
    where s.data_quality = 'full'
    qualify s.as_of = max(s.as_of) over (
        partition by s.market, s.session_date, s.price_source, s.series, s.expiry
    )
),

changes as (
    select
        c.market, c.session_date, c.price_source, c.series, c.expiry,
        b.atm_iv as atm_before, c.atm_iv as atm_after,
        b.log_kurtosis as kurtosis_before, c.log_kurtosis as kurtosis_after,
        ln(1 + t.moment_jump) as limit_log,
        abs(ln(c.forward / b.forward)) / (b.atm_iv / sqrt(252)) as moved,
        t.quiet_move,
        3 * sqrt(c.atm_iv_se ** 2 + b.atm_iv_se ** 2) as atm_error,
        3 * sqrt(c.log_kurtosis_se ** 2 + b.log_kurtosis_se ** 2) as kurtosis_error
    from slices as c
    join sessions as s using (market, session_date)
    join slices as b
        on c.market = b.market and s.previous = b.session_date
        and c.price_source = b.price_source and c.series = b.series and c.expiry = b.expiry
    join meta.thresholds as t on c.market = t.market
    -- In the last days a vol is a few ticks of price.
    where c.t_years > 7 / 365
),

jumps as (
    select
        *,
        abs(ln(atm_after / atm_before)) > limit_log
            and abs(atm_after - atm_before) > coalesce(atm_error, 0) as vol_jumped,
        abs(ln(kurtosis_after / kurtosis_before)) > limit_log
            and abs(kurtosis_after - kurtosis_before) > coalesce(kurtosis_error, 0)
            as kurtosis_jumped
    from changes
    where moved < quiet_move
)

select
    market, session_date, price_source || ' ' || series || ' ' || expiry as subject,
    if(
        vol_jumped,
        format('at-the-money vol from {:.3f} to {:.3f}', atm_before, atm_after),
        format('kurtosis from {:.2f} to {:.2f}', kurtosis_before, kurtosis_after)
    ) || format(', the forward by {:.1f} daily deviations', moved) as reason
from jumps
where vol_jumped or kurtosis_jumped
