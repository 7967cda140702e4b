-- The distribution of a key column differs from that of the sessions before: its population
-- stability index, over bins of half an octave, is beyond the limit.
-- severity: warning
-- look_back: 31 days
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
        count(*) over past as n_past,
        sum(sum(n)) over past as n_before
    from bins
    group by market, session_date, subject
    window past as (
        partition by market, subject order by session_date
        range between interval 30 days preceding and interval 1 day preceding
    )
),

-- Every bin of the session or of those before it, so that one that is empty in either counts.
shares as (
    select
        s.market, s.session_date, s.subject, b.bin,
        any_value(s.n_session) as n_session, any_value(s.n_past) as n_past,
        -- Half a row more in each bin, so that an empty one has a logarithm.
        (coalesce(sum(b.n) filter (where b.session_date = s.session_date), 0) + 0.5)
        / (any_value(s.n_session) + 0.5) as share,
        (coalesce(sum(b.n) filter (where b.session_date < s.session_date), 0) + 0.5)
        / (any_value(s.n_before) + 0.5) as share_before
    from sessions as s
    join bins as b
        on s.market = b.market and s.subject = b.subject
        and b.session_date between s.session_date - 30 and s.session_date
    where s.n_past >= 15
    group by s.market, s.session_date, s.subject, b.bin
),

indices as (
    select
        market, session_date, subject,
        any_value(n_session) as n_session, any_value(n_past) as n_past,
        sum((share - share_before) * ln(share / share_before) order by bin) as stability
    from shares
    group by market, session_date, subject
)

select
    i.market, i.session_date, i.subject,
    format('population stability index {:.2f} against {} sessions', i.stability, i.n_past)
        as reason
from indices as i
join meta.thresholds as t using (market)
where i.stability > t.drift_index and i.n_session >= 100
