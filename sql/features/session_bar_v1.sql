-- A future's session as it was known at the cut-off: one row a contract, its prices from
-- one-minute bars up to the cut-off, else from quotes, a settlement or a UTC-day bar.
--
-- name: session_bar_v1
-- status: draft
-- stage: derive
-- grain: market, session_date, contract, as_of
-- time: as_of is the session's cut-off, but the end of the day for a UTC-day bar, which is not
--   known at the cut-off; available_at is the latest available_at among the row's inputs.
--   Volume and open interest are the newest published by then, at most ten days old.
-- sources: raw.futures_1m, raw.futures_1d, raw.futures_quote, raw.futures_stat,
--   raw.futures_definition
-- max_age: 1 session
--
-- columns:
--   market VARCHAR: market code
--   session_date DATE: the exchange's trade date
--   contract VARCHAR: the vendor's symbol of the future
--   expiration TIMESTAMP WITH TIME ZONE: the instant at which the future expires; NULL while no
--     definition is known
--   contract_month DATE: first day of the contract's month, from the symbol
--   open DOUBLE: first price of the session, quote unit
--   high DOUBLE: highest price up to the cut-off, quote unit
--   low DOUBLE: lowest price up to the cut-off, quote unit
--   close DOUBLE: newest price at the cut-off, quote unit
--   close_source VARCHAR: bar_1m, quote, settlement or bar_1d, the first of them that is known
--   bar_volume BIGINT: contracts traded in the bars up to the cut-off
--   bars_in_quarantine INTEGER: bars up to the cut-off that are left out, since a price is no
--     number or lies outside their high and low
--   volume BIGINT: newest published cleared volume, contracts
--   volume_as_of TIMESTAMP WITH TIME ZONE: session close that the volume describes
--   open_interest BIGINT: newest published open interest, contracts
--   open_interest_as_of TIMESTAMP WITH TIME ZONE: session close that the open interest describes
--   as_of TIMESTAMP WITH TIME ZONE: the cut-off, or the end of the UTC day
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
sessions as (
    select * from derive.sessions
    where cut_off <= (select known_at from derive.run)
),

-- A bar that landed again counts once, as it landed last.
minutes as (
    select distinct on (contract, available_at)
        *,
        isfinite(high) and isfinite(low)
        and open between low and high and close between low and high as is_sound
    from raw.futures_1m
    order by contract, available_at, ingested_at desc, instrument_id
),

bars as (
    select
        s.market, s.session_date, b.contract,
        arg_min(b.open, b.available_at) filter (where b.is_sound) as open,
        max(b.high) filter (where b.is_sound) as high,
        min(b.low) filter (where b.is_sound) as low,
        arg_max(b.close, b.available_at) filter (where b.is_sound) as close,
        sum(b.volume) as bar_volume,
        count(*) filter (where not coalesce(b.is_sound, false)) as bars_in_quarantine,
        max(b.available_at) as known
    from sessions as s
    join minutes as b
        on b.available_at > s.open_at and b.available_at <= s.cut_off
    group by s.market, s.session_date, b.contract
),

quotes as (
    select
        s.market, s.session_date, q.contract,
        arg_max(
            struct_pack(price := (q.bid + q.ask) / 2, known := q.available_at),
            row(q.available_at, q.as_of, q.sequence, q.ingested_at)
        ) as quote
    from sessions as s
    join raw.futures_quote as q
        on q.available_at > s.open_at and q.available_at <= s.snapshot_at
    where q.bid > 0 and q.ask >= q.bid
    group by s.market, s.session_date, q.contract
),

stat_vintages as (
    select
        s.market, s.session_date, t.contract, t.stat_type, t.ref_date,
        arg_max(
            struct_pack(
                price := t.price, quantity := t.quantity, is_deleted := t.is_deleted,
                as_of := t.as_of, known := t.available_at
            ),
            row(
                t.available_at, coalesce(t.is_final, false), -coalesce(t.stat_flags, 0),
                t.sequence, t.ingested_at
            )
        ) as stat
    from sessions as s
    join raw.futures_stat as t
        on t.available_at <= s.cut_off
        and t.ref_date between s.session_date - if(t.stat_type = 3, 0, 10) and s.session_date
    where
        t.stat_type in (3, 6, 9)
        -- An intraday price (flag bit 3) is no settlement.
        and (t.is_final is null or coalesce(t.stat_flags, 0) & 8 = 0)
    group by s.market, s.session_date, t.contract, t.stat_type, t.ref_date
),

stats as (
    select
        market, session_date, contract,
        arg_max(stat, ref_date) filter (where stat_type = 3) as settlement,
        arg_max(stat, ref_date) filter (where stat_type = 6) as volume,
        arg_max(stat, ref_date) filter (where stat_type = 9) as open_interest
    from stat_vintages
    where not coalesce(stat.is_deleted, false)
    group by market, session_date, contract
),

at_cut_off as (
    select
        s.market, s.session_date, contract, s.cut_off as as_of,
        b.open, b.high, b.low,
        coalesce(b.close, q.quote.price, t.settlement.price) as close,
        case
            when b.close is not null then 'bar_1m'
            when q.quote.price is not null then 'quote'
            when t.settlement.price is not null then 'settlement'
        end as close_source,
        b.bar_volume, b.bars_in_quarantine,
        t.volume as volume, t.open_interest as open_interest,
        greatest(
            b.known,
            if(b.close is null, q.quote.known, null),
            if(b.close is null and q.quote.price is null, t.settlement.known, null),
            t.volume.known, t.open_interest.known
        ) as known
    from bars as b
    full join quotes as q using (market, session_date, contract)
    full join stats as t using (market, session_date, contract)
    join sessions as s using (market, session_date)
),

by_day as (
    select
        s.market, s.session_date, d.contract, d.available_at as as_of,
        d.open, d.high, d.low, d.close, 'bar_1d' as close_source, d.volume as bar_volume,
        0 as bars_in_quarantine,
        struct_pack(price := null::double, quantity := d.volume, is_deleted := false,
            as_of := d.as_of, known := d.available_at) as volume,
        null as open_interest,
        d.available_at as known
    from sessions as s
    join raw.futures_1d as d
        on s.session_date = ((d.available_at - interval 1 day) at time zone 'UTC')::date
    anti join at_cut_off as c
        on s.market = c.market and s.session_date = c.session_date
        and d.contract = c.contract and c.close is not null
    where
        d.available_at <= (select known_at from derive.run)
        and isfinite(d.high) and isfinite(d.low)
        and d.open between d.low and d.high and d.close between d.low and d.high
    qualify row_number() over (
        partition by d.contract, s.session_date order by d.ingested_at desc, d.instrument_id
    ) = 1
),

sessions_known as (
    select * from at_cut_off
    where close is not null
    union all by name
    select * from by_day
),

-- The month's letter and the year's digits at a symbol's end; NULL where it has none.
named as (
    select
        *,
        nullif(regexp_extract(contract, '([FGHJKMNQUVXZ])[0-9]{1,2}$', 1), '') as month_letter,
        nullif(regexp_extract(contract, '[FGHJKMNQUVXZ]([0-9]{1,2})$', 1), '') as year_digits
    from sessions_known
),

-- One row a contract and instant: ties in an ASOF JOIN would be broken at random.
definitions as (
    select distinct on (contract, available_at) contract, available_at, expiration
    from raw.futures_definition
    where update_action <> 'D'
    order by contract, available_at, as_of desc, instrument_id, ingested_at desc
)

select
    k.market, k.session_date, k.contract, d.expiration,
    make_date(
        if(
            length(k.year_digits) = 2,
            2000 + k.year_digits::integer,
            -- One digit: the first such year from the session's on.
            year(k.session_date) + (k.year_digits::integer - year(k.session_date) % 10 + 10) % 10
        ),
        strpos('FGHJKMNQUVXZ', k.month_letter),
        1
    ) as contract_month,
    k.open, k.high, k.low, k.close, k.close_source,
    k.bar_volume::bigint as bar_volume,
    coalesce(k.bars_in_quarantine, 0)::integer as bars_in_quarantine,
    k.volume.quantity as volume, k.volume.as_of as volume_as_of,
    k.open_interest.quantity as open_interest, k.open_interest.as_of as open_interest_as_of,
    k.as_of,
    greatest(k.known, d.available_at) as available_at
from named as k
asof left join definitions as d
    on k.contract = d.contract and k.as_of >= d.available_at
order by k.market, k.session_date, k.contract, k.as_of
