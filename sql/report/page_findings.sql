-- What the checks found in sessions whose cut-off had passed, one row a check and market, with the
-- newest finding in words: of the newest run by then, or else of the first one after it. What is of
-- no session is of the run's instant.
with
runs as (
    select
        coalesce(
            max(run_at) filter (where run_at <= (select known_by from page)), min(run_at)
        ) as run_at
    from quality.runs
)

select
    coalesce(c.market, '-') as market, c.severity, c.check_name,
    any_value(c.run_at) as run_at,
    count(*) as findings,
    max(c.session_date) as newest,
    arg_max(
        concat_ws(': ', c.subject, c.reason),
        row(coalesce(c.session_date, date '0001-01-01'), c.subject, c.reason)
    ) as example
from quality.checks as c
join runs as r using (run_at)
left join meta.sessions as s using (market, session_date)
where coalesce(s.cut_off, c.session_date, c.run_at) <= (select known_by from page)
group by c.market, c.severity, c.check_name
order by market, c.severity, c.check_name
