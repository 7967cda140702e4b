-- The views of the database in use, each with its definition and what is said of it.
select
    views.schema_name,
    views.view_name,
    views.sql as definition,
    views.comment as view_comment,
    list(columns.column_name order by columns.column_index) as column_names,
    list(columns.comment order by columns.column_index) as column_comments
from duckdb_views() as views
inner join duckdb_columns() as columns
    on
        columns.database_name = views.database_name
        and columns.schema_name = views.schema_name
        and columns.table_name = views.view_name
where views.database_name = current_database() and not views.internal
group by all
order by views.schema_name, views.view_name
