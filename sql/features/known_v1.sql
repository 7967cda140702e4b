-- The long table prepared for questions at many instants: of every feature, the row that
-- answers from each instant on at which its answer changes.
--
-- name: known_v1
-- status: draft
-- stage: build
-- grain: market, feature_name, known_at
-- time: a row answers every t at or after known_at, which is the later of as_of and
--   available_at, until the next row of its feature; so one ASOF JOIN on known_at gives what
--   was known. Values that were superseded when they appeared are not in it.
-- sources: features.long_v1
-- max_age: 1 session, or for cot 1 release
-- look_back: 0 days
--
-- columns:
--   market VARCHAR: market code
--   feature_name VARCHAR: name of the feature; meta.features explains each
--   known_at TIMESTAMP WITH TIME ZONE: first instant at which this row is the answer
--   as_of TIMESTAMP WITH TIME ZONE: the instant that the value describes
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the value could be known
--   value DOUBLE: the value, in the feature's unit; NULL where the market gave none
--   quality VARCHAR: full, degraded (too few liquid strikes) or missing
--   tick_number BIGINT: tick of the feature's clock that the value belongs to, as meta.clock
--     numbers them; 0 before the first

with
-- The rows of this table that stand while only newer ones are made, none where all are: the last
-- row of a feature supersedes the same as all that went before it.
before as (
    select
        market, feature_name,
        arg_max(struct_pack(as_of, available_at, value, quality), known_at) as answer
    from standing.known_v1
    group by market, feature_name
),

every_value as (
    select market, feature_name, as_of, available_at, value, quality
    from features.long_v1
    union all
    select market, feature_name, unnest(answer)
    from before
),

instants as (
    select v.*, greatest(v.available_at, v.as_of) as known_at, f.clock
    from every_value as v
    join meta.features as f using (feature_name)
),

-- A late revision of an old value is superseded when it appears. Of what becomes known at one
-- instant the newest stands: ties in an ASOF JOIN would be broken at random.
newest as (
    select *
    from instants
    window vintages as (
        partition by market, feature_name order by known_at, as_of, available_at
    )
    qualify
        as_of = max(as_of) over (vintages rows unbounded preceding)
        and known_at is distinct from lead(known_at) over vintages
)

select
    k.market, k.feature_name, k.known_at, k.as_of, k.available_at, k.value, k.quality,
    coalesce(c.tick_number, 0) as tick_number
from newest as k
asof left join meta.clock as c
    on k.market = c.market and k.clock = c.clock and k.as_of >= c.as_of
order by k.market, k.known_at, k.feature_name
