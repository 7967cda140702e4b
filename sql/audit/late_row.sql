-- A raw row that a leaking table may have read, of a source of the differing row (`suspect`): of
-- its day or before it, and not known at the instant.  The row that the lake says it waited
-- for comes first, then those of its contract, then what is newest.
select dataset, subject, as_of, available_at
from instants
cross join suspect as s
where
    instants.market = s.market
    and list_contains(s.sources, 'raw.' || dataset)
    and as_of <= s.row_as_of + interval 12 hours
    and available_at > s.asked_at
order by
    coalesce(available_at = s.row_known_at, false) desc,
    coalesce(subject = s.contract, false) desc,
    as_of desc, available_at, dataset, subject
limit 1
