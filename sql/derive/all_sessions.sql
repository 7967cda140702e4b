-- Every session that may have derived rows: those that have opened, about the months of which
-- there are prices or statistics.
select session_date
from meta.sessions
semi join derive.months
    on session_date between first_day - interval 5 days and first_day + interval 45 days
where open_at <= (select known_at from derive.run)
order by session_date
