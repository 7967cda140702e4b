-- The long or the short sides of a COT report do not add up to its open interest.
-- severity: warning
with
sums as (
    select
        market, report_date, available_at, open_interest,
        swap_spread + managed_money_spread + other_reportable_spread as spread,
        prod_merc_long + swap_long + managed_money_long + other_reportable_long
        + nonreportable_long as long,
        prod_merc_short + swap_short + managed_money_short + other_reportable_short
        + nonreportable_short as short
    from features.cot_v1
    where report = 'disaggregated_futures'
)

select
    market, report_date as session_date, 'cot' as subject,
    format('open interest {}, long {} and short {} with {} of spreads',
        open_interest, long, short, spread) as reason
from sums
where long + spread <> open_interest or short + spread <> open_interest
