-- Three years of COT reports in the newest vintage of each, one row a report: what the classes
-- held in net, in futures and in options by their deltas, where the futures stood within three
-- years, when the report was released and how often its futures were revised.
select
    market, report_date,
    columns(
        '^(prod_merc|swap|managed_money|other_reportable|nonreportable)'
        || '_(net|options_net|percentile_3y)$'
    ),
    min(available_at) over (partition by market, report_date) as released_at,
    release_estimated,
    count(distinct row(
        prod_merc_net, swap_net, managed_money_net, other_reportable_net, nonreportable_net
    )) over (partition by market, report_date) - 1 as revisions
from features.cot_v1
where
    report = 'disaggregated_futures'
    and as_of <= (select known_by from page) and available_at <= (select known_by from page)
    and report_date > (select known_by from page)::date - interval 3 years
qualify available_at = max(available_at) over (partition by market, report_date)
order by market, report_date
