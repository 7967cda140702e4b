-- The open interest of a future, or of an expiry's options, changed by many robust deviations of
-- its changes, and by a third at least.
-- severity: warning
-- look_back: 61 days
with
published as (
    select
        market, session_date, series || ' ' || expiry as subject, contract,
        max_by(open_interest, as_of) as contracts
    from features.chain_v1
    where price_source = 'quote' and open_interest is not null
    group by all
    union all
    select market, session_date, contract as subject, contract, max_by(open_interest, as_of)
    from features.futures_v1
    -- In its last days a future's positions are closed or rolled.
    where open_interest is not null and t_years > 14 / 365
    group by all
),

sessions as (
    select
        market, session_date,
        lag(session_date) over (partition by market order by session_date) as previous
    from (select distinct market, session_date from published) as p
),

-- Of the options that were there before: newly listed strikes are no jump.
changes as (
    select
        c.market, c.session_date, c.subject,
        sum(c.contracts) as contracts, sum(b.contracts) as before,
        ln(sum(c.contracts) / sum(b.contracts)) as change
    from published as c
    join sessions as s using (market, session_date)
    join published as b
        on c.market = b.market and s.previous = b.session_date
        and s.previous >= s.session_date - 30
        and c.subject = b.subject and c.contract = b.contract
    group by c.market, c.session_date, c.subject
    having sum(c.contracts) > 0 and sum(b.contracts) > 0
),

compared as (
    select
        *,
        1.4826 * mad(change) over past as deviation, median(change) over past as middle,
        count(change) over past as n_past
    from changes
    window past as (
        partition by market, subject order by session_date
        range between interval 30 days preceding and interval 1 day preceding
    )
)

select
    c.market, c.session_date, c.subject,
    format('open interest {}, {} the session before', c.contracts, c.before) as reason
from compared as c
join meta.thresholds as t using (market)
where
    c.n_past >= 5 and greatest(c.contracts, c.before) >= 500
    and abs(c.change) > ln(4 / 3)
    and abs(c.change - c.middle) > t.open_interest_deviations * c.deviation
