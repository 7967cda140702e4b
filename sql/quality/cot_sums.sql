-- The long or the short sides of a COT report do not add up to its open interest.
-- severity: warning
-- look_back: all
with
sums as (
    select
        market, report, report_date, open_interest,
        swap_spread + managed_money_spread + other_reportable_spread as spread,
        prod_merc_long + swap_long + managed_money_long + other_reportable_long
        + nonreportable_long as long,
        prod_merc_short + swap_short + managed_money_short + other_reportable_short
        + nonreportable_short as short
    from raw.cot
    union all
    select
        market, report, report_date, open_interest,
        noncommercial_spread as spread,
        noncommercial_long + commercial_long + nonreportable_long as long,
        noncommercial_short + commercial_short + nonreportable_short as short
    from raw.cot_legacy
    union all
    select
        market, report, report_date, open_interest,
        dealer_spread + asset_manager_spread + leveraged_spread + other_reportable_spread as spread,
        dealer_long + asset_manager_long + leveraged_long + other_reportable_long
        + nonreportable_long as long,
        dealer_short + asset_manager_short + leveraged_short + other_reportable_short
        + nonreportable_short as short
    from raw.cot_financial
)

select
    market, report_date as session_date, report as subject,
    format('open interest {}, long {} and short {} with {} of spreads',
        open_interest, long, short, spread) as reason
from sums
where long + spread <> open_interest or short + spread <> open_interest
