-- A revision of a COT report moved a position by more than revisions usually do.
-- severity: warning
-- look_back: all
with
vintages as (
    select
        *,
        lag(available_at) over vintage as before,
        greatest(
            abs(open_interest - lag(open_interest) over vintage),
            abs(prod_merc_net - lag(prod_merc_net) over vintage),
            abs(swap_net - lag(swap_net) over vintage),
            abs(managed_money_net - lag(managed_money_net) over vintage),
            abs(other_reportable_net - lag(other_reportable_net) over vintage),
            abs(nonreportable_net - lag(nonreportable_net) over vintage)
        ) as moved
    from features.cot_v1
    window vintage as (partition by market, report, report_date order by available_at)
)

select
    v.market, v.report_date as session_date, v.report as subject,
    format('a position moved by {} contracts of {} on {}',
        v.moved, v.open_interest, v.available_at) as reason
from vintages as v
join meta.thresholds as t using (market)
where v.before is not null and v.moved > t.revision_share * v.open_interest
