-- Whether the tables of a schema, of the names given, hold synthetic data, as their comments say.
select distinct obj_description(c.oid, 'pg_class') like 'SAMPLE DATA%%' as is_sample
from pg_class as c
inner join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = %(schema)s and c.relname = any(%(names)s)
