-- Bring in the rows that are new or differ: a new key is added, a changed value replaces the old
-- one, and a row that is there already is not touched.  Gives how many were added and changed.
with
written as (
    insert into %(target)s as published (%(columns)s)
    (
        select %(columns)s from incoming
        except
        select %(columns)s from %(target)s
    )
    on conflict (%(key)s) do update set (%(values)s) = row (%(new_values)s)
    returning (published.xmax = 0) as is_new
)

select
    count(*) filter (where is_new) as added,
    count(*) filter (where not is_new) as changed
from written
