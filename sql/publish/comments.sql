-- What each table and view of the features says of itself.
select table_name, comment
from duckdb_tables()
where schema_name = 'features'
union all
select view_name, comment
from duckdb_views()
where schema_name = 'features'
