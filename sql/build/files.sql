-- The views of a new database on files, each with its text, which names them.
select schema_name || '.' || view_name, sql
from duckdb_views()
where database_name = 'hydra' and schema_name in ('raw', 'features') and sql like '%read_parquet%'
