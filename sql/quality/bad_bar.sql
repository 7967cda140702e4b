-- Bars whose low is above their high, whose open or close lies outside them, or that lack a
-- price or have one that is no number: left out of the session's bar.
-- severity: error
-- look_back: 0 days
with
bars as (
    select market, 'futures_1m' as dataset, contract, as_of, as_of - interval 1 minute as starts_at,
        open, high, low, close
    from raw.futures_1m
    union all
    select market, 'futures_1d', contract, as_of, as_of - interval 1 day, open, high, low, close
    from raw.futures_1d
)

select
    b.market, (b.starts_at at time zone 'UTC')::date as session_date,
    b.dataset || ' ' || b.contract as subject,
    format(
        '{} bars, first to {}: open {}, high {}, low {}, close {}',
        count(*), min(b.as_of),
        coalesce(arg_min(b.open, b.as_of)::varchar, 'none'),
        coalesce(arg_min(b.high, b.as_of)::varchar, 'none'),
        coalesce(arg_min(b.low, b.as_of)::varchar, 'none'),
        coalesce(arg_min(b.close, b.as_of)::varchar, 'none')
    ) as reason
from bars as b
where
    not coalesce(
        isfinite(b.high) and isfinite(b.low)
        and b.open between b.low and b.high and b.close between b.low and b.high,
        false
    )
group by b.market, session_date, b.dataset, b.contract
