-- A source is more sessions, or releases, behind than its limit.
-- severity: warning
-- look_back: all
select
    market, as_of::date as session_date, source as subject,
    format('newest is of {}, {} {}s behind, limit {}', as_of, ticks_behind, clock, max_age)
        as reason
from freshness_at(getvariable('run_at'))
where state = 'stale'
