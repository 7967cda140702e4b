-- What of a new database the features read beside each other.
select table_name
from duckdb_tables()
where database_name = 'hydra' and schema_name = 'meta'
order by all
