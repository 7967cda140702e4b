-- The files of the new database's views that may have rows about the spans in `build.spans`, known
-- in them or in the variable `days` before; all files of their markets where that is NULL.
with
reached as (
    select
        market, shown_until + interval 5 days as until,
        shown_from - to_days(getvariable('days')::integer) as since
    from build.spans
)

select f.view_name, f.path
from meta.files as f
join reached as r using (market)
where
    r.since is null
    -- What is derived lies by session, which becomes known around its day.
    or (f.known_from is null and f.month between date_trunc('month', r.since) and r.until)
    or (f.known_from <= r.until and f.known_until >= r.since - interval 5 days)
order by f.view_name, f.path
