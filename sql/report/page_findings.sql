-- What the checks found in sessions whose cut-off had passed, one row a check and market, with the
-- newest finding in words. What is of no session is of the build's instant.
select
    coalesce(c.market, '-') as market, c.severity, c.check_name,
    count(*) as findings,
    max(c.session_date) as newest,
    arg_max(
        concat_ws(': ', c.subject, c.reason),
        row(coalesce(c.session_date, date '0001-01-01'), c.subject, c.reason)
    ) as example
from quality.checks as c
left join meta.sessions as s using (market, session_date)
where
    coalesce(s.cut_off, c.session_date, (select built_at from meta.builds))
    <= (select known_by from page)
group by c.market, c.severity, c.check_name
order by market, c.severity, c.check_name
