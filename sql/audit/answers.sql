-- The answers at one instant that the lake and its replay do not agree on, each side's being a
-- table of `answers_at`; of a market that a side has nothing of everything is missing.
with
paired as (
    select
        market, feature_name::varchar as feature_name,
        l.value as lake_value, coalesce(l.quality, 'missing') as lake_quality,
        l.as_of as lake_as_of, l.available_at as lake_available_at,
        r.value as replay_value, coalesce(r.quality, 'missing') as replay_quality,
        r.as_of as replay_as_of, r.available_at as replay_available_at
    from lake_answers as l
    full join replay_answers as r using (market, feature_name)
)

select *, greatest(lake_as_of, replay_as_of) as as_of
from paired
where
    lake_value is distinct from replay_value
    or lake_quality <> replay_quality
    or lake_as_of is distinct from replay_as_of
    or lake_available_at is distinct from replay_available_at
order by market, feature_name
