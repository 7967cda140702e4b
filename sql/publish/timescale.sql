-- The schema of TimescaleDB's functions, where the extension is there.
select n.nspname
from pg_extension as e
inner join pg_namespace as n on n.oid = e.extnamespace
where e.extname = 'timescaledb'
