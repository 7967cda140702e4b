-- What the lake holds, one row a market and source: from when it is, how new and how much.
with
chains as (
    select
        market, 'options_' || price_source as source, min(session_date) as first_day,
        format('{} sessions, {:.0f} % of slices of full quality', count(distinct session_date),
            100 * avg((data_quality = 'full')::integer)) as detail
    from features.surface_v1
    group by market, price_source
),

futures as (
    select market, 'futures' as source, min(session_date) as first_day,
        format('{} sessions, {} contracts', count(distinct session_date), count(distinct contract))
            as detail
    from features.futures_v1
    group by market
),

every_report as (
    select market, report, report_date from raw.cot
    union all
    select market, report, report_date from raw.cot_legacy
    union all
    select market, report, report_date from raw.cot_financial
),

reports as (
    select
        market, if(
            report = 'disaggregated_futures', 'cot', 'cot_' || replace(report, 'disaggregated_', '')
        ) as source, min(report_date) as first_day,
        format('{} reports, {} vintages', count(distinct report_date), count(*)) as detail
    from every_report
    group by market, report
),

details as (
    select * from chains
    union all
    select * from futures
    union all
    select * from reports
)

select f.market, f.source, d.first_day, f.as_of, f.state, d.detail
from quality.freshness as f
left join details as d using (market, source)
order by f.market, f.source
