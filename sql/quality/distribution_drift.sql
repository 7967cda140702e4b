-- The distribution of a key column differs from that of the sessions before: its population
-- stability index, over bins of half an octave, is beyond the limit.
-- severity: warning
with
numbers as (
    select
        market, session_date,
        unnest([
            struct_pack(subject := 'spread_pct', number := spread_pct),
            struct_pack(
                subject := 'iv over its median',
                number := iv / median(iv) over (partition by market, session_date)
            ),
            struct_pack(subject := 'open_interest', number := open_interest::double)
        ], recursive := true)
    from features.chain_v1
    where price_source = 'quote'
),

bins as (
    select market, session_date, subject, floor(2 * log2(number)) as bin, count(*) as n
    from numbers
    where number > 0
    group by all
),

sessions as (
    select
        market, session_date, subject, sum(n) as n_session,
        row_number() over (partition by market, subject order by session_date) as number
    from bins
    group by market, session_date, subject
),

-- Every bin of every session, so that a bin that is empty counts.
grid as (
    select s.*, b.bin, coalesce(c.n, 0) as n
    from sessions as s
    join (select distinct market, subject, bin from bins) as b using (market, subject)
    left join bins as c using (market, session_date, subject, bin)
),

shares as (
    select
        *,
        -- Half a row more in each bin, so that an empty one has a logarithm.
        (n + 0.5) / (n_session + 0.5) as share,
        (sum(n) over past + 0.5) / (sum(n_session) over past + 0.5) as share_before
    from grid
    window past as (
        partition by market, subject, bin order by session_date
        rows between 20 preceding and 1 preceding
    )
),

indices as (
    select market, session_date, subject, any_value(n_session) as n_session,
        sum((share - share_before) * ln(share / share_before)) as stability
    from shares
    where number > 20
    group by market, session_date, subject
)

select
    i.market, i.session_date, i.subject,
    format('population stability index {:.2f} against 20 sessions', i.stability) as reason
from indices as i
join meta.thresholds as t using (market)
where i.stability > t.drift_index and i.n_session >= 100
