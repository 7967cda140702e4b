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
--   features.moments_v1, features.flow_v1, features.cot_v1
-- max_age: 1 session, or for cot 1 release
--
-- columns:
--   market VARCHAR: market code
--   feature_name VARCHAR: name of the feature; meta.features explains each
--   as_of TIMESTAMP WITH TIME ZONE: the instant that the value describes
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the value could be known
--   value DOUBLE: the value, in the feature's unit; NULL where the market gave none
--   quality VARCHAR: full, degraded (too few liquid strikes) or missing

with
futures as (
    select
        f.market, f.as_of, f.available_at,
        'full' as quality,
        unnest([
            struct_pack(feature_name := 'fut_front_close', value := f.close::double),
            struct_pack(feature_name := 'fut_front_return_1d', value := f.return_1d::double),
            struct_pack(feature_name := 'fut_front_rv_cc_5d', value := f.rv_cc_5d::double),
            struct_pack(feature_name := 'fut_front_rv_cc_21d', value := f.rv_cc_21d::double),
            struct_pack(feature_name := 'fut_front_rv_cc_63d', value := f.rv_cc_63d::double),
            struct_pack(feature_name := 'fut_front_rv_range_5d', value := f.rv_range_5d::double),
            struct_pack(feature_name := 'fut_front_rv_range_21d', value := f.rv_range_21d::double),
            struct_pack(feature_name := 'fut_front_rv_range_63d', value := f.rv_range_63d::double),
            struct_pack(feature_name := 'fut_front_volume', value := f.volume::double),
            struct_pack(
                feature_name := 'fut_front_open_interest',
                value := f.open_interest::double
            ),
            struct_pack(feature_name := 'fut_second_close', value := s.close::double),
            struct_pack(feature_name := 'fut_roll_yield', value := f.roll_yield::double),
            struct_pack(feature_name := 'fut_term_slope', value := f.term_slope::double)
        ]) as feature
    from features.futures_v1 as f
    left join features.futures_v1 as s
        on f.market = s.market and f.session_date = s.session_date and f.as_of = s.as_of
        and s.contract_rank = 2
    where f.contract_rank = 1
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
        g.atm_iv, g.call_25d, g.put_25d,
        coalesce(g.atm_quality, if(s.is_thin, 'degraded', 'full')) as quality,
        coalesce(g.available_at, s.available_at) as available_at
    from surfaces as s
    cross join (select unnest([30, 60, 90, 180]) as tenor_days) as t
    left join tenors as g using (market, session_date, price_source, as_of, tenor_days)
),

by_maturity as (
    select
        market, as_of, available_at, quality,
        unnest([
            struct_pack(
                feature_name := 'atm_iv_' || tenor_days || 'd', value := atm_iv
            ),
            struct_pack(
                feature_name := 'rr_25d_' || tenor_days || 'd', value := call_25d - put_25d
            ),
            struct_pack(
                feature_name := 'bf_25d_' || tenor_days || 'd',
                value := (call_25d + put_25d) / 2 - atm_iv
            )
        ]) as feature,
        price_source
    from maturities
),

moments as (
    select
        s.market, s.as_of,
        coalesce(f.front.available_at, s.available_at) as available_at,
        coalesce(f.front.data_quality, 'missing') as quality,
        unnest([
            struct_pack(feature_name := 'front_days', value := (f.front.t_years * 365)::double),
            struct_pack(
                feature_name := 'front_log_variance',
                value := f.front.log_variance::double
            ),
            struct_pack(feature_name := 'front_log_skew', value := f.front.log_skew::double),
            struct_pack(
                feature_name := 'front_log_kurtosis',
                value := f.front.log_kurtosis::double
            ),
            struct_pack(feature_name := 'front_skew', value := f.front.skew::double),
            struct_pack(feature_name := 'front_kurtosis', value := f.front.kurtosis::double),
            struct_pack(
                feature_name := 'front_variance_swap',
                value := f.front.variance_swap::double
            ),
            struct_pack(feature_name := 'front_p_down_10', value := f.front.p_down_10::double),
            struct_pack(feature_name := 'front_p_up_10', value := f.front.p_up_10::double)
        ]) as feature,
        s.price_source
    from surfaces as s
    left join front_slices as f using (market, session_date, price_source, as_of)
),

options as (
    select
        * exclude (feature, price_source),
        struct_pack(
            feature_name := if(price_source = 'quote', 'opt_', 'opt_settlement_')
                || feature.feature_name,
            value := feature.value
        ) as feature
    from (
        select * from by_maturity
        union all by name
        select * from moments
    ) as measured
),

flows as (
    select
        f.market, f.as_of, f.available_at,
        if(s.is_thin, 'degraded', 'full') as quality,
        unnest([
            struct_pack(measure := 'gex', value := f.gex),
            struct_pack(measure := 'vanna', value := f.vanna_flow),
            struct_pack(measure := 'charm', value := f.charm_flow),
            struct_pack(measure := 'zero_gamma', value := f.zero_gamma)
        ]) as measured,
        f.convention || if(f.weight = 'open_interest', '_oi', '_volume') as kind
    from features.flow_v1 as f
    join surfaces as s using (market, session_date, price_source, as_of)
    where f.scope = 'total' and f.price_source = 'quote'
),

named_flows as (
    select
        market, as_of, available_at, quality,
        struct_pack(
            feature_name := 'flow_' || measured.measure || '_' || kind, value := measured.value
        ) as feature
    from flows
    where measured.measure <> 'zero_gamma' or kind like 'calls_long_puts_short%'
),

reports as (
    select
        market, as_of, available_at, 'full' as quality,
        unnest([
            struct_pack(feature_name := 'cot_open_interest', value := open_interest::double),
            struct_pack(feature_name := 'cot_prod_merc_net', value := prod_merc_net::double),
            struct_pack(feature_name := 'cot_prod_merc_share', value := prod_merc_share::double),
            struct_pack(
                feature_name := 'cot_prod_merc_percentile_3y',
                value := prod_merc_percentile_3y::double
            ),
            struct_pack(feature_name := 'cot_swap_net', value := swap_net::double),
            struct_pack(feature_name := 'cot_swap_share', value := swap_share::double),
            struct_pack(
                feature_name := 'cot_swap_percentile_3y',
                value := swap_percentile_3y::double
            ),
            struct_pack(
                feature_name := 'cot_managed_money_net',
                value := managed_money_net::double
            ),
            struct_pack(
                feature_name := 'cot_managed_money_share',
                value := managed_money_share::double
            ),
            struct_pack(
                feature_name := 'cot_managed_money_percentile_3y',
                value := managed_money_percentile_3y::double
            ),
            struct_pack(
                feature_name := 'cot_other_reportable_net',
                value := other_reportable_net::double
            ),
            struct_pack(
                feature_name := 'cot_other_reportable_share',
                value := other_reportable_share::double
            ),
            struct_pack(
                feature_name := 'cot_other_reportable_percentile_3y',
                value := other_reportable_percentile_3y::double
            ),
            struct_pack(
                feature_name := 'cot_nonreportable_net',
                value := nonreportable_net::double
            ),
            struct_pack(
                feature_name := 'cot_nonreportable_share',
                value := nonreportable_share::double
            ),
            struct_pack(
                feature_name := 'cot_nonreportable_percentile_3y',
                value := nonreportable_percentile_3y::double
            )
        ]) as feature
    from features.cot_v1
    where report = 'disaggregated_futures'
),

every_value as (
    select * from futures
    union all by name
    select * from options
    union all by name
    select * from named_flows
    union all by name
    select * from reports
),

finite as (
    select
        market, feature.feature_name as feature_name, as_of, available_at, quality,
        if(isfinite(feature.value), feature.value, null) as value
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
order by market, feature_name, as_of, available_at
