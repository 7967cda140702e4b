-- The option chain of a market-session as it was known at a cut-off: one row a listed
-- option, with its quote, settlement, open interest, forward, implied vol and Greeks.
--
-- name: chain_v1
-- status: draft
-- stage: derive
-- grain: market, session_date, price_source, as_of, series, expiry, option_type, strike
-- time: as_of is the cut-off; available_at is the latest available_at among the row's inputs,
--   each of them at or before the cut-off; the chain's other prices, which a price is judged
--   beside, are among them. Open interest and volume are the newest published by then, at most
--   ten days old, each with its own as_of. Settlement is the session's own.
-- sources: raw.option_definition, raw.option_quote, raw.option_stat, raw.futures_quote,
--   raw.futures_1m, raw.futures_stat
-- max_age: 1 session
--
-- columns:
--   market VARCHAR: market code
--   session_date DATE: the exchange's trade date
--   price_source VARCHAR: quote (mid at the snapshot) or settlement; never mixed in one slice
--   series VARCHAR: option root; several may expire on one date
--   expiry DATE: last trade date, in the exchange's time zone
--   expiration TIMESTAMP WITH TIME ZONE: the instant at which the option expires
--   underlying VARCHAR: contract that the option is exercised into; NULL for an index and in a
--     chain file
--   contract VARCHAR: the vendor's symbol of the option
--   instrument_id BIGINT: the vendor's number, or a hash for a row of a chain file
--   option_type VARCHAR: C or P
--   strike DOUBLE: strike, quote unit
--   bid DOUBLE: best bid, quote unit; NULL without one
--   ask DOUBLE: best ask, quote unit; NULL without one
--   quote_as_of TIMESTAMP WITH TIME ZONE: instant of the quote
--   mid DOUBLE: middle of a two-sided quote that is not in quarantine, quote unit; else NULL
--   spread_pct DOUBLE: (ask - bid) / mid as a fraction, 0.2 is 20 %
--   settlement DOUBLE: the session's settlement price known at the cut-off, quote unit
--   settlement_status VARCHAR: preliminary or final
--   quarantine VARCHAR: why the price is left out of mid, iv and all that follows: crossed, locked,
--     zero, not finite, stale (its quote is much older than the chain's newest), or outlier (it
--     contradicts more of the slice's prices than they do each other); NULL where nothing is wrong
--   open_interest BIGINT: newest published open interest, contracts
--   open_interest_as_of TIMESTAMP WITH TIME ZONE: session close that the open interest describes
--   volume BIGINT: newest published cleared volume, contracts
--   volume_as_of TIMESTAMP WITH TIME ZONE: session close that the volume describes
--   forward DOUBLE: price of the underlying future at the cut-off, or implied by parity
--   forward_source VARCHAR: future_quote, future_bar, future_settlement, file or parity
--   t_years DOUBLE: time from the instant that the price describes to expiration, ACT/365
--   rate DOUBLE: continuously compounded risk-free rate, decimal a year
--   discount DOUBLE: exp(-rate t_years)
--   iv DOUBLE: Black-76 vol of the price source's price, early exercise removed, decimal a year
--   iv_status TINYINT: 0 solved, else why not, as mathlib.black76 numbers it
--   delta DOUBLE: change of value for 1 of the forward
--   gamma DOUBLE: change of delta for 1 of the forward
--   vega DOUBLE: change of value for 1.00 of vol
--   theta DOUBLE: change of value a year
--   vanna DOUBLE: change of delta for 1.00 of vol
--   charm DOUBLE: change of delta a year as time passes
--   is_liquid BOOLEAN: quote: open interest and spread within the market's limits;
--     settlement: any open interest
--   as_of TIMESTAMP WITH TIME ZONE: the cut-off
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
spine as (
    select s.*, r.rate
    from derive.spine as s
    asof join meta.rates as r
        on s.market = r.market and s.session_date >= r.valid_from
),

-- Raw rows beyond the reach of every cut-off are left out before they are sorted.
reach as (
    select
        min(quotes_from) as quotes_from, max(quotes_to) as quotes_to,
        min(session_date) - 10 as ref_date, min(as_of) as first_as_of, max(as_of) as as_of
    from spine
),

-- Definitions are repeated every day: of those known by the first cut-off the newest counts.
counted as (
    select instrument_id, max(available_at) as counts_from
    from raw.option_definition
    where available_at <= (select first_as_of from reach)
    group by instrument_id
),

-- Each definition until the next of its instrument; of several at one instant one counts.
definitions as (
    select
        d.instrument_id, d.available_at, d.contract, d.series, d.expiration, d.option_type,
        d.strike, d.underlying, d.update_action,
        if(d.source like 'chain-%', 'snapshot', 'stream') as feed,
        lead(d.available_at, 1, timestamptz 'infinity') over (
            partition by d.instrument_id
            order by
                d.available_at, d.as_of, d.update_action desc nulls first,
                d.contract desc nulls first, d.ingested_at
        ) as superseded_at
    from raw.option_definition as d
    left join counted as c on d.instrument_id = c.instrument_id
    where
        d.available_at <= (select as_of from reach)
        and (c.counts_from is null or d.available_at >= c.counts_from)
    qualify superseded_at > d.available_at
),

listed as (
    select
        s.*, d.instrument_id, d.contract, d.series, d.expiration, d.option_type, d.strike,
        d.underlying, d.available_at as definition_known,
        (d.expiration at time zone m.timezone)::date as expiry,
        (epoch_us(d.expiration) - epoch_us(s.valued_at)) / (365 * 86400 * 1e6) as t_years,
        m.exercise = 'american' and not list_contains(m.european_roots, d.series) as is_american,
        m.underlying = 'future' as is_on_future,
        m.min_open_interest, m.max_spread,
        m.max_quote_age, m.option_tick
    from spine as s
    join meta.markets as m on s.market = m.market
    join definitions as d
        on s.feed = d.feed and s.as_of >= d.available_at and s.as_of < d.superseded_at
    where d.update_action <> 'D' and d.expiration > s.valued_at
),

-- Of two quotes the one with the greater place is the newer.
placed_quotes as (
    select
        instrument_id, feed, bid, ask, underlying_price, as_of, available_at,
        row_number() over (order by available_at, as_of, sequence, ingested_at) as place
    from raw.option_quote
    where
        available_at > (select quotes_from from reach)
        and available_at <= (select quotes_to from reach)
),

newest_quotes as (
    select s.spine_id, q.instrument_id, max(q.place) as place
    from spine as s
    join placed_quotes as q
        on s.feed = q.feed and q.available_at > s.quotes_from and q.available_at <= s.quotes_to
    group by s.spine_id, q.instrument_id
),

quotes as (
    select
        n.spine_id, n.instrument_id, q.bid, q.ask, q.underlying_price, q.as_of, q.available_at
    from newest_quotes as n
    join placed_quotes as q using (place)
),

-- Of one instant a final value goes before a preliminary one, then the price rounded to the
-- clearing tick (flag bit 2 not set), then the newest: of two, the one with the greater place
-- counts.  An intraday price (flag bit 3) is no settlement.
placed_stats as (
    select
        instrument_id, stat_type, ref_date, price, quantity, is_final, is_deleted, as_of,
        available_at, if(source like 'chain-%', 'snapshot', 'stream') as feed,
        row_number() over (
            order by
                available_at, coalesce(is_final, false), -coalesce(stat_flags, 0), sequence,
                ingested_at
        ) as place
    from raw.option_stat
    where
        stat_type in (3, 6, 9) and (is_final is null or coalesce(stat_flags, 0) & 8 = 0)
        and available_at <= (select as_of from reach)
        and (ref_date is null or ref_date >= (select ref_date from reach))
),

-- A settlement counts for its own session, the others for ten days.  A vendor's statistic
-- without a session counts for none; a chain file's is of its stamp, or of the session before a
-- weekend's.
spine_dates as materialized (
    select s.spine_id, s.as_of, s.session_date, s.session_date - back.days::integer as ref_date
    from spine as s
    cross join range(11) as back (days)
    where s.feed = 'stream'
),

counting_stats as (
    select s.spine_id, t.instrument_id, t.stat_type, t.ref_date as counts_for, t.place
    from spine_dates as s
    join placed_stats as t on s.ref_date = t.ref_date and s.as_of >= t.available_at
    where t.feed = 'stream' and (t.stat_type <> 3 or s.ref_date = s.session_date)
    union all
    select
        s.spine_id, t.instrument_id, t.stat_type,
        least(coalesce(t.ref_date, s.session_date), s.session_date) as counts_for,
        t.place
    from spine as s
    join placed_stats as t on t.available_at between s.quotes_from and s.as_of
    where
        t.feed = 'snapshot'
        and counts_for >= s.session_date - if(t.stat_type = 3, 0, 10)
),

stat_vintages as (
    select spine_id, instrument_id, stat_type, counts_for, max(place) as place
    from counting_stats
    group by spine_id, instrument_id, stat_type, counts_for
),

stats as (
    select
        spine_id, instrument_id,
        arg_max(place, counts_for) filter (where stat_type = 3) as settlement,
        arg_max(place, counts_for) filter (where stat_type = 6) as volume,
        arg_max(place, counts_for) filter (where stat_type = 9) as open_interest
    from stat_vintages
    anti join (select place from placed_stats where is_deleted) as deleted using (place)
    group by spine_id, instrument_id
),

rows_known as (
    select
        l.*,
        q.bid as bid, q.ask as ask, q.as_of as quote_as_of,
        if(l.is_on_future, q.underlying_price, null) as file_price,
        t.price as settlement,
        if(t.is_final, 'final', 'preliminary') as settlement_status,
        i.quantity as open_interest,
        i.as_of as open_interest_as_of,
        v.quantity as volume, v.as_of as volume_as_of,
        greatest(
            l.definition_known, q.available_at, t.available_at, i.available_at,
            v.available_at
        ) as option_known,
        if(l.price_source = 'quote', q.available_at, t.available_at) as price_known
    from listed as l
    left join quotes as q on l.spine_id = q.spine_id and l.instrument_id = q.instrument_id
    left join stats as n on l.spine_id = n.spine_id and l.instrument_id = n.instrument_id
    left join placed_stats as t on n.settlement = t.place
    left join placed_stats as i on n.open_interest = i.place
    left join placed_stats as v on n.volume = v.place
    where
        case
            when l.price_source = 'settlement' then t.price is not null
            when l.feed = 'snapshot' then q.available_at is not null
            else q.available_at is not null or i.quantity > 0
        end
),

judged as (
    select
        *,
        case
            when not (isfinite(bid) and isfinite(ask)) then 'not finite'
            when bid <= 0 or ask <= 0 then 'zero'
            when bid > ask then 'crossed'
            when bid = ask then 'locked'
            when
                quote_as_of < max(quote_as_of) over (partition by spine_id)
                - max_quote_age * interval 1 minute
                then 'stale'
        end as quote_fault,
        case
            when price_source = 'quote' then quote_fault
            when not isfinite(settlement) then 'not finite'
        end as fault,
        -- A price is judged beside the chain's others, so what it is follows from them too.
        if(
            price_known is null, null, max(price_known) over (partition by spine_id)
        ) as chain_known
    from rows_known
),

-- What each price says that the option is worth at least and at most; a settlement is rounded.
ranges as (
    select
        spine_id, instrument_id, series, expiration, option_type, strike,
        if(price_source = 'quote', bid, settlement - option_tick) as low,
        if(price_source = 'quote', ask, settlement + option_tick) as high
    from judged
    where fault is null
),

ladders as (
    select
        *,
        row_number() over (
            partition by spine_id, series, expiration, option_type
            order by strike, instrument_id
        ) as rung
    from ranges
),

-- Calls fall and puts rise with the strike, and neither faster than the strike itself: prices
-- that cannot both be right, whatever the underlying does.  Each is held beside those of the next
-- ten strikes: enough for a wrong one to stand out, and not the square of a long ladder.
contradictions as (
    select low.spine_id, low.instrument_id as lower_id, up.instrument_id as upper_id
    from ladders as low
    join ladders as up
        on low.spine_id = up.spine_id and low.series = up.series
        and low.expiration = up.expiration and low.option_type = up.option_type
        and up.rung between low.rung + 1 and low.rung + 10
    where
        low.strike < up.strike
        and if(
            low.option_type = 'C',
            up.low > low.high or low.low - up.high > (up.strike - low.strike) * (1 + 1e-9),
            low.low > up.high or up.low - low.high > (up.strike - low.strike) * (1 + 1e-9)
        )
),

contradicted as (
    select spine_id, lower_id as instrument_id, upper_id as other_id from contradictions
    union all
    select spine_id, upper_id, lower_id from contradictions
),

blame as (
    select spine_id, instrument_id, count(*) as times
    from contradicted
    group by spine_id, instrument_id
),

-- One wrong price contradicts many right ones, and each of those only the few wrong ones.
outliers as (
    select c.spine_id, c.instrument_id
    from contradicted as c
    join blame as b using (spine_id, instrument_id)
    join blame as o on c.spine_id = o.spine_id and c.other_id = o.instrument_id
    group by c.spine_id, c.instrument_id
    having any_value(b.times) > 1 and any_value(b.times) > median(o.times)
),

priced as (
    select
        j.* replace (greatest(j.option_known, j.chain_known) as option_known),
        coalesce(j.fault, if(o.instrument_id is null, null, 'outlier')) as quarantine,
        if(coalesce(j.quote_fault, quarantine) is null, (j.bid + j.ask) / 2, null) as mid,
        if(
            quarantine is not null, null, if(j.price_source = 'quote', mid, j.settlement)
        ) as price
    from judged as j
    left join outliers as o using (spine_id, instrument_id)
),

-- The future that a slice is exercised into: its newest two-sided quote, else its newest
-- one-minute bar; for settlements its own settlement.
future_prices as (
    select
        s.spine_id, q.contract, 'future_quote' as forward_source, 1 as preference,
        arg_max(
            struct_pack(price := (q.bid + q.ask) / 2, known := q.available_at),
            row(q.available_at, q.as_of, q.sequence, q.ingested_at)
        ) as future
    from spine as s
    join raw.futures_quote as q
        on q.available_at > s.quotes_from and q.available_at <= s.quotes_to
    where s.price_source = 'quote' and q.bid > 0 and q.ask >= q.bid
    group by s.spine_id, q.contract
    union all
    select
        s.spine_id, b.contract, 'future_bar' as forward_source, 2 as preference,
        arg_max(
            struct_pack(price := b.close, known := b.available_at),
            row(b.available_at, b.ingested_at)
        ) as future
    from spine as s
    join raw.futures_1m as b
        on b.available_at > s.quotes_from and b.available_at <= s.quotes_to
    where s.price_source = 'quote' and b.close > 0
    group by s.spine_id, b.contract
    union all
    select
        s.spine_id, t.contract, 'future_settlement' as forward_source, 1 as preference,
        arg_max(
            struct_pack(price := if(t.is_deleted, null, t.price), known := t.available_at),
            row(
                t.available_at, coalesce(t.is_final, false), -coalesce(t.stat_flags, 0),
                t.sequence, t.ingested_at
            )
        ) as future
    from spine as s
    join raw.futures_stat as t
        on s.session_date = t.ref_date and t.available_at <= s.as_of
    where
        s.price_source = 'settlement' and t.stat_type = 3
        and (t.is_final is null or coalesce(t.stat_flags, 0) & 8 = 0)
    group by s.spine_id, t.contract
),

futures as (
    select
        spine_id, contract,
        arg_min(struct_pack(price := future.price, known := future.known,
            forward_source := forward_source), preference) as future
    from future_prices
    where future.price > 0
    group by spine_id, contract
),

file_prices as (
    select
        spine_id, series, expiration,
        struct_pack(
            price := median(file_price), known := max(option_known), forward_source := 'file'
        ) as future
    from priced
    where file_price > 0
    group by spine_id, series, expiration
),

-- Slices with an option that neither a future nor the chain's file gives a forward.
without_forward as (
    select distinct p.spine_id, p.series, p.expiration
    from priced as p
    anti join futures as f on p.spine_id = f.spine_id and p.underlying = f.contract
    anti join file_prices as g using (spine_id, series, expiration)
),

-- There it is put-call parity near the money: the median over the seven strikes at which call
-- and put are closest.
parity_pairs as (
    select
        c.spine_id, c.series, c.expiration, c.strike,
        c.strike + (c.price - p.price) * exp(c.rate * c.t_years) as forward,
        greatest(c.option_known, p.option_known) as known,
        row_number() over (
            partition by c.spine_id, c.series, c.expiration
            order by abs(c.price - p.price), c.strike
        ) as closeness
    from priced as c
    semi join without_forward as w using (spine_id, series, expiration)
    join priced as p
        on c.spine_id = p.spine_id and c.series = p.series and c.expiration = p.expiration
        and c.strike = p.strike
    where c.option_type = 'C' and p.option_type = 'P' and c.price > 0 and p.price > 0
),

parity as (
    select
        spine_id, series, expiration,
        struct_pack(
            price := median(forward), known := max(known), forward_source := 'parity'
        ) as future
    from parity_pairs
    where closeness <= 7
    group by spine_id, series, expiration
),

with_forward as (
    select
        p.*,
        coalesce(f.future, g.future, y.future) as future
    from priced as p
    left join futures as f on p.spine_id = f.spine_id and p.underlying = f.contract
    left join file_prices as g
        on p.spine_id = g.spine_id and p.series = g.series and p.expiration = g.expiration
    left join parity as y
        on p.spine_id = y.spine_id and p.series = y.series and p.expiration = y.expiration
),

solved as (
    select
        *,
        implied_vol(
            if(price > 0, price, null), future.price, strike, t_years, rate,
            option_type = 'C', is_american
        ) as solution
    from with_forward
),

with_greeks as (
    select
        *,
        greeks(
            future.price, strike, t_years, solution.vol, rate, option_type = 'C'
        ) as greek
    from solved
)

select
    market, session_date, price_source, series, expiry, expiration, underlying, contract,
    instrument_id, option_type, strike,
    bid, ask, quote_as_of, mid,
    (ask - bid) / mid as spread_pct,
    settlement,
    if(settlement is null, null, settlement_status) as settlement_status,
    quarantine,
    open_interest, open_interest_as_of, volume, volume_as_of,
    future.price as forward,
    future.forward_source as forward_source,
    t_years, rate,
    exp(-rate * t_years) as discount,
    solution.vol as iv,
    solution.status as iv_status,
    greek.delta as delta,
    greek.gamma as gamma,
    greek.vega as vega,
    greek.theta as theta,
    greek.vanna as vanna,
    greek.charm as charm,
    if(
        price_source = 'quote',
        -- A spread of exactly the limit is out, however its last digit was rounded.
        coalesce(
            open_interest > min_open_interest
            and (ask - bid) < max_spread * mid * (1 - 1e-12),
            false
        ),
        coalesce(open_interest > 0, false)
    ) as is_liquid,
    as_of,
    greatest(option_known, future.known) as available_at
from with_greeks
order by market, session_date, price_source, as_of, series, expiry, option_type, strike
