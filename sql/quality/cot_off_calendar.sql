-- A COT report of a day on which the CFTC takes none, or weeks without a report between others.
-- severity: warning
-- look_back: all
with
-- Positions are taken on Tuesday, or on the Monday before a federal holiday on one.
due as (
    select
        report_date as tuesday,
        if(
            strftime(report_date, '%m-%d') in ('01-01', '06-19', '07-04', '11-11', '12-25'),
            report_date - 1, report_date
        ) as holiday_date
    from meta.cot_releases
),

reports as (
    select
        market, report, report_date,
        lead(report_date) over (partition by market, report order by report_date) as next_date
    from (
        select market, report, report_date from raw.cot
        union
        select market, report, report_date from raw.cot_legacy
        union
        select market, report, report_date from raw.cot_financial
    ) as c
)

select
    market, report_date as session_date, report as subject,
    'no report is due of a ' || dayname(report_date) as reason
from reports
where
    report_date >= (select min(tuesday) from due)
    and report_date not in (select unnest([tuesday, holiday_date]) from due)
union all
select
    r.market, min(d.holiday_date), r.report,
    format('{} weeks without a report up to that of {}', count(*), r.next_date)
from reports as r
join due as d on d.holiday_date > r.report_date and d.tuesday < r.next_date
group by r.market, r.report, r.report_date, r.next_date
