-- What of a new database the features read beside each other.
select schema_name, table_name
from duckdb_tables()
where database_name = 'hydra' and schema_name = 'meta'
union all
select schema_name, view_name
from duckdb_views()
where database_name = 'hydra' and schema_name = 'raw' and not internal
order by all
