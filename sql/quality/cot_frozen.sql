-- A COT report repeats all numbers of the week before.
-- severity: error
-- look_back: all
with
newest as (
    from features.cot_v1
    qualify available_at = max(available_at) over (partition by market, report, report_date)
),

numbers as (
    select
        market, report, report_date,
        [
            open_interest, prod_merc_long, prod_merc_short, swap_long, swap_short, swap_spread,
            managed_money_long, managed_money_short, managed_money_spread,
            other_reportable_long, other_reportable_short, other_reportable_spread,
            nonreportable_long, nonreportable_short
        ] as positions
    from newest
)

select
    market, report_date as session_date, report as subject,
    'all numbers are those of ' || lag(report_date) over weeks as reason
from numbers
window weeks as (partition by market, report order by report_date)
qualify positions = lag(positions) over weeks
