-- A COT report lacks the open interest or the positions of a class of traders.
-- severity: warning
-- look_back: all
with
classes as (
    select
        market, report, report_date,
        unnest([
            row('open interest', [open_interest]),
            row('producers', [prod_merc_long, prod_merc_short]),
            row('swap dealers', [swap_long, swap_short, swap_spread]),
            row('managed money', [managed_money_long, managed_money_short, managed_money_spread]),
            row(
                'other reportables',
                [other_reportable_long, other_reportable_short, other_reportable_spread]
            ),
            row('small traders', [nonreportable_long, nonreportable_short])
        ]) as class
    from raw.cot
    union all
    select
        market, report, report_date,
        unnest([
            row('open interest', [open_interest]),
            row('commercials', [commercial_long, commercial_short]),
            row(
                'non-commercials', [noncommercial_long, noncommercial_short, noncommercial_spread]
            ),
            row('small traders', [nonreportable_long, nonreportable_short])
        ]) as class
    from raw.cot_legacy
    union all
    select
        market, report, report_date,
        unnest([
            row('open interest', [open_interest]),
            row('dealers', [dealer_long, dealer_short, dealer_spread]),
            row(
                'asset managers',
                [asset_manager_long, asset_manager_short, asset_manager_spread]
            ),
            row('leveraged funds', [leveraged_long, leveraged_short, leveraged_spread]),
            row(
                'other reportables',
                [other_reportable_long, other_reportable_short, other_reportable_spread]
            ),
            row('small traders', [nonreportable_long, nonreportable_short])
        ]) as class
    from raw.cot_financial
)

select
    market, report_date as session_date, report as subject,
    'no ' || string_agg(distinct class[1], ', ' order by class[1]) as reason
from classes
where list_count(class[2]) < len(class[2])
group by market, report, report_date
