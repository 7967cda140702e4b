-- The futures curve of a market-session as it was known at the cut-off: one row a contract,
-- ranked front, second, …, with returns, realised vol, roll yield and the curve's slope.
--
-- The front is the first contract that expires more than the market's roll_sessions sessions
-- later; contracts before it have no rank.  Returns are of one contract, so no roll is in them.
--
-- name: futures_v1
-- status: draft
-- stage: build
-- grain: market, session_date, contract, as_of
-- time: as_of is the session's cut-off, or the end of the day for a UTC-day bar; available_at
--   is the latest among the rows of the curve and of the window
-- sources: features.session_bar_v1
-- max_age: 1 session
-- look_back: 120 days
--
-- columns:
--   market VARCHAR: market code
--   session_date DATE: the exchange's trade date
--   contract VARCHAR: the vendor's symbol of the future
--   contract_rank INTEGER: 1 front month, 2 second month, …; NULL inside the roll window
--   expiration TIMESTAMP WITH TIME ZONE: the instant at which the future expires
--   t_years DOUBLE: time to expiration, ACT/365
--   close DOUBLE: newest price at the cut-off, quote unit
--   close_source VARCHAR: bar_1m, quote, settlement or bar_1d
--   return_1d DOUBLE: ln of close over the previous session's, same contract; as everything
--     that takes a logarithm, NULL where a price is not above zero
--   rv_cc_5d DOUBLE: realised vol of 5 close-to-close returns, root mean square, decimal a year
--   rv_cc_21d DOUBLE: realised vol of 21 close-to-close returns, decimal a year
--   rv_cc_63d DOUBLE: realised vol of 63 close-to-close returns, decimal a year
--   rv_range_5d DOUBLE: Parkinson (1980) realised vol of 5 sessions' highs and lows, decimal a year
--   rv_range_21d DOUBLE: Parkinson realised vol of 21 sessions, decimal a year
--   rv_range_63d DOUBLE: Parkinson realised vol of 63 sessions, decimal a year
--   volume BIGINT: newest published cleared volume, contracts
--   open_interest BIGINT: newest published open interest, contracts
--   roll_yield DOUBLE: ln of close over the next contract's, a year; positive in backwardation
--   term_slope DOUBLE: slope of ln(close) over t_years across the contracts of the next 18
--     months, least squares, a year
--   as_of TIMESTAMP WITH TIME ZONE: the cut-off, or the end of the UTC day
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
sessions as (
    select
        s.market, s.session_date,
        row_number() over (partition by s.market order by s.session_date) as session_number,
        lead(s.session_date, m.roll_sessions) over (
            partition by s.market order by s.session_date
        ) as roll_until
    from meta.sessions as s
    join meta.markets as m using (market)
),

bars as (
    select
        b.*, s.session_number, s.roll_until,
        (epoch_us(b.expiration) - epoch_us(b.as_of)) / (365 * 86400 * 1e6) as t_years,
        coalesce(b.expiration::timestamp::date, last_day(b.contract_month)) as expires_on,
        ln(if(b.close > 0, b.close, null)) as log_close
    from features.session_bar_v1 as b
    join sessions as s using (market, session_date)
),

-- The curve at each instant of a session: at midnight a UTC-day bar stands beside what was
-- known at the cut-off, which knows nothing of it.
curve_rows as (
    select
        i.curve_at, b.*,
        (epoch_us(b.expiration) - epoch_us(i.curve_at)) / (365 * 86400 * 1e6) as curve_years
    from (select distinct market, session_date, as_of as curve_at from bars) as i
    join bars as b
        on i.market = b.market and i.session_date = b.session_date and b.as_of <= i.curve_at
),

ranked as (
    select
        market, contract, as_of,
        row_number() over (
            partition by market, session_date, curve_at order by expires_on, contract
        )::integer as contract_rank
    from curve_rows
    where expires_on > roll_until
    qualify as_of = curve_at
),

yields as (
    select
        market, contract, as_of,
        (log_close - lead(log_close) over curve)
        / nullif(lead(curve_years) over curve - curve_years, 0) as roll_yield
    from curve_rows
    window curve as (partition by market, session_date, curve_at order by expires_on, contract)
    qualify as_of = curve_at
),

curves as (
    select
        market, session_date, curve_at as as_of,
        if(
            regr_count(log_close, curve_years) filter (where curve_years between 0 and 1.5) > 1,
            regr_slope(log_close, curve_years order by curve_years, contract)
                filter (where curve_years between 0 and 1.5),
            null
        ) as term_slope,
        max(available_at) as available_at
    from curve_rows
    group by market, session_date, curve_at
),

-- A contract is quoted on after its front days and may miss sessions: a return needs both.
returns as (
    select
        *,
        if(
            lag(session_number) over contract_life = session_number - 1,
            log_close - lag(log_close) over contract_life,
            null
        ) as return_1d,
        if(low > 0, ln(high / low) ** 2 / (4 * ln(2)), null) as parkinson
    from bars
    window contract_life as (partition by market, contract order by session_number, as_of)
),

vols as (
    select
        *,
        -- A mean of a list adds in the window's order; a window's own mean adds in an order that
        -- the rows of other contracts change, and with it the last digit.
        if(
            count(return_1d) over w5 = 5,
            sqrt(252 * list_avg(list(return_1d ** 2) over w5)),
            null
        ) as rv_cc_5d,
        if(
            count(return_1d) over w21 = 21,
            sqrt(252 * list_avg(list(return_1d ** 2) over w21)),
            null
        ) as rv_cc_21d,
        if(
            count(return_1d) over w63 = 63,
            sqrt(252 * list_avg(list(return_1d ** 2) over w63)),
            null
        ) as rv_cc_63d,
        if(
            count(parkinson) over w5 = 5,
            sqrt(252 * list_avg(list(parkinson) over w5)),
            null
        ) as rv_range_5d,
        if(
            count(parkinson) over w21 = 21,
            sqrt(252 * list_avg(list(parkinson) over w21)),
            null
        ) as rv_range_21d,
        if(
            count(parkinson) over w63 = 63,
            sqrt(252 * list_avg(list(parkinson) over w63)),
            null
        ) as rv_range_63d,
        max(available_at) over w63 as window_available_at
    from returns
    window
        w5 as (
            partition by market, contract order by session_number
            range between 4 preceding and current row
        ),
        w21 as (
            partition by market, contract order by session_number
            range between 20 preceding and current row
        ),
        w63 as (
            partition by market, contract order by session_number
            range between 62 preceding and current row
        )
)

select
    v.market, v.session_date, v.contract, r.contract_rank, v.expiration, v.t_years,
    v.close, v.close_source, v.return_1d,
    v.rv_cc_5d, v.rv_cc_21d, v.rv_cc_63d, v.rv_range_5d, v.rv_range_21d, v.rv_range_63d,
    v.volume, v.open_interest, y.roll_yield, c.term_slope,
    v.as_of,
    greatest(v.window_available_at, c.available_at) as available_at
from vols as v
join curves as c using (market, session_date, as_of)
join yields as y on v.market = y.market and v.contract = y.contract and v.as_of = y.as_of
left join ranked as r on v.market = r.market and v.contract = r.contract and v.as_of = r.as_of
order by v.market, v.session_date, v.as_of, v.expires_on, v.contract
