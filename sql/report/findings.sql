-- What the checks found, one row a check and market: how many findings and the newest.
select
    severity, check_name, coalesce(market, '-') as market, count(*) as findings,
    arg_max(concat_ws(' ', session_date, subject, reason), session_date) as newest
from quality.checks
group by severity, check_name, market
order by severity, check_name, market
