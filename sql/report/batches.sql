-- What the lake was filled from, one row a source.
select
    source,
    count(*) as batches,
    sum(rows)::bigint as rows,
    min(ingested_at) as first_ingested_at,
    max(ingested_at) as last_ingested_at
from meta.batches
group by source
order by source
