-- The derived files of the months with the sessions in `drawn`, one row a view and file.
with
spans as (
    select market, min(session_date) as first, max(session_date) as last
    from drawn
    group by market
)

select f.view_name, f.path
from meta.files as f
join spans as s using (market)
where f.known_from is null and f.month between date_trunc('month', s.first) and s.last
order by f.view_name, f.path
