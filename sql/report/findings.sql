-- What a run of the checks found, one row a check and market: how many and the newest.
select
    severity, check_name, coalesce(market, '-') as market, count(*) as findings,
    arg_max(
        concat_ws(' ', session_date, subject, reason),
        row(coalesce(session_date, date '0001-01-01'), subject, reason)
    ) as newest
from found
group by severity, check_name, market
order by severity, check_name, market
