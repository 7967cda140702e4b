-- A vendor's file has other columns than its last one of the kind: new, lost, or of another type.
-- severity: warning
-- look_back: all
with
batches as (
    select
        l.market, l.source, l.kind, l.batch_id, b.ingested_at, b.description,
        map_from_entries(list(row(l.column_name, l.column_type))) as columns
    from meta.layouts as l
    join meta.batches as b using (batch_id)
    group by all
),

compared as (
    select
        *,
        lag(columns) over landings as before,
        list_filter(map_keys(columns), lambda c: not map_contains(before, c)) as new_columns,
        list_filter(map_keys(before), lambda c: not map_contains(columns, c)) as lost_columns,
        -- A column that was blank has no type to compare.
        list_filter(
            map_keys(columns),
            lambda c: map_contains(before, c) and columns[c] <> before[c]
            and columns[c] <> '' and before[c] <> ''
        ) as retyped_columns
    from batches
    window landings as (partition by market, source, kind order by ingested_at, batch_id)
)

select
    market, ingested_at::date as session_date, source || ' ' || kind as subject,
    description || ': ' || concat_ws(
        ', ',
        if(len(new_columns) > 0, 'new ' || array_to_string(new_columns, ' '), null),
        if(len(lost_columns) > 0, 'lost ' || array_to_string(lost_columns, ' '), null),
        if(len(retyped_columns) > 0, 'retyped ' || array_to_string(retyped_columns, ' '), null)
    ) as reason
from compared
where len(new_columns) + len(lost_columns) + len(retyped_columns) > 0
