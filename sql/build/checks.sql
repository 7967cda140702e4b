-- What the checks found in every run, over `quality.recorded`: the lake's files, one a run, with a
-- row a finding and one for a check that found nothing.
create view quality.runs as
select run_at, check_name, severity, count(reason) as findings
from quality.recorded
group by run_at, check_name, severity
order by run_at, check_name;

create view quality.checks as
select
    run_at, run_at = (select max(r.run_at) from quality.recorded as r) as is_newest,
    check_name, severity, market, session_date, subject, reason
from quality.recorded
where reason is not null
order by all;

comment on view quality.runs is 'Every run of every check, and how many findings it had.';
comment on view quality.checks is
'What the checks found, one row a finding and run: is_newest tells the last run.';
