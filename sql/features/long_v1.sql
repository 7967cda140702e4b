-- Every market-level feature in long form, one row a value and vintage: what `features_at`
-- and `daily_at` answer from.
--
-- name: long_v1
-- status: draft
-- stage: build
-- grain: market, feature_name, as_of, available_at
-- time: as_of and available_at are those of the row that the value is taken from; every
--   vintage is kept that was the newest when it appeared. A question at t uses rows with as_of
--   and available_at at or before t.
-- sources: features.futures_v1, features.surface_v1, features.surface_grid_v1,
--   features.moments_v1, features.flow_v1, features.flow_cot_v1, features.cot_v1
-- max_age: 1 session, or for cot 1 release
-- look_back: 60 days
--
-- columns:
--   market VARCHAR: market code
--   feature_name VARCHAR: name of the feature; meta.features explains each
--   as_of TIMESTAMP WITH TIME ZONE: the instant that the value describes
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the value could be known
--   value DOUBLE: the value, in the feature's unit; NULL where the market gave none
--   quality VARCHAR: full, degraded (too few liquid strikes) or missing

with
fronts as (
    select
        f.market, f.as_of, f.available_at,
        'full' as quality,
        f.close as fut_front_close,
        f.return_1d as fut_front_return_1d,
        f.rv_cc_5d as fut_front_rv_cc_5d,
        f.rv_cc_21d as fut_front_rv_cc_21d,
        f.rv_cc_63d as fut_front_rv_cc_63d,
        f.rv_range_5d as fut_front_rv_range_5d,
        f.rv_range_21d as fut_front_rv_range_21d,
        f.rv_range_63d as fut_front_rv_range_63d,
        f.volume::double as fut_front_volume,
        f.open_interest::double as fut_front_open_interest,
        s.close as fut_second_close,
        f.roll_yield as fut_roll_yield,
        f.term_slope as fut_term_slope
    from features.futures_v1 as f
    left join features.futures_v1 as s
        on f.market = s.market and f.session_date = s.session_date and f.as_of = s.as_of
        and s.contract_rank = 2
    where f.contract_rank = 1
),

futures as (
    select *
    from fronts
    unpivot include nulls (value for feature_name in (columns('fut_.*')))
),

-- Of all slices of a session, the first that expires at least a week later.
front_slices as (
    select
        m.market, m.session_date, m.price_source, m.as_of,
        arg_min(m, row(m.t_years, m.series)) as front
    from features.moments_v1 as m
    where m.t_years >= 7 / 365.0
    group by m.market, m.session_date, m.price_source, m.as_of
),

-- A correction of a session that appears when a newer one has been settled is superseded.
surfaces as (
    select
        market, session_date, price_source, as_of,
        max(available_at) as available_at,
        bool_or(data_quality = 'degraded') as is_thin
    from features.surface_v1
    group by market, session_date, price_source, as_of
    qualify session_date = max(session_date) over (
        partition by market, price_source order by as_of range unbounded preceding
    )
),

tenors as (
    select
        market, session_date, price_source, as_of, tenor_days,
        max(vol) filter (where point = 'ATM') as atm_iv,
        max(data_quality) filter (where point = 'ATM') as atm_quality,
        max(vol) filter (where point = '25C') as call_25d,
        max(vol) filter (where point = '25P') as put_25d,
        max(available_at) as available_at
    from features.surface_grid_v1
    where grid = 'constant_maturity'
    group by market, session_date, price_source, as_of, tenor_days
),

maturities as (
    select
        s.market, s.price_source, s.as_of, t.tenor_days,
        g.atm_iv,
        g.call_25d - g.put_25d as rr_25d,
        (g.call_25d + g.put_25d) / 2 - g.atm_iv as bf_25d,
        coalesce(g.atm_quality, if(s.is_thin, 'degraded', 'full')) as quality,
        coalesce(g.available_at, s.available_at) as available_at
    from surfaces as s
    cross join (select unnest([30, 60, 90, 180]) as tenor_days) as t
    left join tenors as g using (market, session_date, price_source, as_of, tenor_days)
),

by_maturity as (
    select *
    from maturities
    unpivot include nulls (value for measure in (atm_iv, rr_25d, bf_25d))
),

fronts_of_surfaces as (
    select
        s.market, s.price_source, s.as_of,
        coalesce(f.front.available_at, s.available_at) as available_at,
        coalesce(f.front.data_quality, 'missing') as quality,
        f.front.t_years * 365 as front_days,
        f.front.log_variance as front_log_variance,
        f.front.log_variance_se as front_log_variance_se,
        f.front.log_skew as front_log_skew,
        f.front.log_skew_se as front_log_skew_se,
        f.front.log_kurtosis as front_log_kurtosis,
        f.front.log_kurtosis_se as front_log_kurtosis_se,
        f.front.skew as front_skew,
        f.front.kurtosis as front_kurtosis,
        f.front.variance_swap as front_variance_swap,
        f.front.p_down_10 as front_p_down_10,
        f.front.p_up_10 as front_p_up_10
    from surfaces as s
    left join front_slices as f using (market, session_date, price_source, as_of)
),

moments as (
    select *
    from fronts_of_surfaces
    unpivot include nulls (value for measure in (columns('front_.*')))
),

options as (
    select
        market, as_of, available_at, quality,
        if(price_source = 'quote', 'opt_', 'opt_settlement_') || measure as feature_name,
        value
    from (
        select * replace (measure || '_' || tenor_days || 'd' as measure) from by_maturity
        union all by name
        select * from moments
    ) as measured
),

conventions as (
    select *, false as is_missing
    from features.flow_v1
    union all by name
    select *, dealer_share is null as is_missing
    from features.flow_cot_v1
),

totals as (
    select
        f.market, f.as_of, f.available_at,
        case when f.is_missing then 'missing' when s.is_thin then 'degraded' else 'full' end
            as quality,
        f.convention, if(f.weight = 'open_interest', 'oi', 'volume') as weight,
        f.gex, f.vanna_flow as vanna, f.charm_flow as charm, f.zero_gamma
    from conventions as f
    join surfaces as s using (market, session_date, price_source, as_of)
    where f.scope = 'total' and f.price_source = 'quote'
),

measured_flows as (
    select *
    from totals
    unpivot include nulls (value for measure in (gex, vanna, charm, zero_gamma))
),

flows as (
    select
        market, as_of, available_at, quality,
        concat_ws('_', 'flow', measure, convention, weight) as feature_name,
        value
    from measured_flows
    -- Dealers on one side of every option have no zero.
    where measure <> 'zero_gamma' or convention = 'calls_long_puts_short'
),

positions as (
    select
        market, as_of, available_at,
        'full' as quality,
        columns('^(.*open_interest|.*_net|.*_share|.*_percentile_3y)$')::double as "cot_\1"
    from features.cot_v1
    where report = 'disaggregated_futures'
),

reports as (
    select *
    from positions
    unpivot include nulls (value for feature_name in (columns('cot_.*')))
),

every_value as (
    select * from futures
    union all by name
    select * from options
    union all by name
    select * from flows
    union all by name
    select * from reports
),

finite as (
    select * replace (if(isfinite(value), value, null) as value)
    from every_value
)

select
    market, feature_name, as_of, available_at, value,
    if(value is null and quality = 'full', 'missing', quality) as quality
from finite
-- Two snapshots of one instant would be one key twice: one stands, whatever the order.
qualify row_number() over (
    partition by market, feature_name, as_of, available_at
    order by value is null, quality desc, value
) = 1
order by market, greatest(as_of, available_at), feature_name, as_of
