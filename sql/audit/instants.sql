-- When each value became the lake's to answer with, up to `run.until`, oldest first: an instant
-- at which much changed is there many times.
select greatest(as_of, available_at) as known_at
from lake.features.long_v1
where greatest(as_of, available_at) <= (select until from run)
order by known_at
