-- The files in `named`, one row each, with when the first and the last of their rows became known
-- as the records in `landed` say: at any time, for a raw file of which nothing is said; NULL of
-- what is derived.
with
said as (
    select name, min(first_available_at) as known_from, max(last_available_at) as known_until
    from landed
    where name in (select name from named)
    group by name
)

select
    n.view_name, n.market, n.month, n.path,
    case
        when n.view_name like 'raw.%'
            then coalesce(s.known_from, timestamptz '1970-01-01 00:00:00+00')
    end as known_from,
    case
        when n.view_name like 'raw.%'
            then coalesce(s.known_until, timestamptz '2200-01-01 00:00:00+00')
    end as known_until
from named as n
left join said as s using (name)
order by n.view_name, n.month, n.path
