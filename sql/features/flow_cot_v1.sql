-- Dealer exposures of a market-session in USD under the convention `cot`, whose size and side
-- are evidence: dealers hold the other side of what every other class holds in options, by the
-- newest COT report known at the cut-off.
--
-- name: flow_cot_v1
-- status: draft
-- stage: build
-- grain: market, session_date, price_source, as_of, scope, series, expiry
-- time: as_of is the cut-off; available_at is the later of the flow's and of that report's, which
--   is the newest that was out at the cut-off
-- sources: features.flow_v1, features.cot_v1
-- max_age: 1 session
-- look_back: 60 days, all of features.cot_v1
--
-- columns:
--   market VARCHAR: market code
--   session_date DATE: the exchange's trade date
--   price_source VARCHAR: source of the forward and vols: quote or settlement
--   scope VARCHAR: total or expiry
--   series VARCHAR: option root; NULL in total
--   expiry DATE: last trade date; NULL in total
--   weight VARCHAR: open_interest
--   convention VARCHAR: cot, dealers on the other side of what others hold in options
--   report_date DATE: Tuesday of the COT report; NULL where none was out at the cut-off
--   dealer_share DOUBLE: share of each option's open interest that dealers hold, long of calls and
--     short of puts, negative the other way: cot_v1's dealer_options_share
--   share_reason VARCHAR: why dealer_share is NULL
--   contracts BIGINT: contracts, calls and puts
--   gex DOUBLE: USD of delta that dealers gain for a 1 % rise of every forward: dealer_share
--     x that of calls_long_puts_short, whose zero_gamma it shares
--   vanna_flow DOUBLE: USD of delta that dealers gain for a rise of 1 vol point
--   charm_flow DOUBLE: USD of delta that dealers gain in a calendar day
--   weight_as_of TIMESTAMP WITH TIME ZONE: session close that the weight describes
--   as_of TIMESTAMP WITH TIME ZONE: the cut-off
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
flows as (
    select *
    from features.flow_v1
    where weight = 'open_interest' and convention = 'calls_long_puts_short'
),

-- The report that is the newest from each instant on: a late revision of an older one is
-- superseded when it appears, and of those released at one instant the newest stands.
newest_reports as (
    select market, report_date, as_of, available_at, dealer_options_share
    from features.cot_v1
    where report = 'disaggregated_futures'
    window releases as (partition by market order by available_at, report_date)
    qualify
        report_date = max(report_date) over (releases rows unbounded preceding)
        and available_at is distinct from lead(available_at) over releases
),

ticks as (
    select market, known_at, max(tick_number) as tick_number
    from meta.clock
    where clock = 'release'
    group by market, known_at
),

reports as (
    select r.*, coalesce(c.tick_number, 0) as tick_number
    from newest_reports as r
    asof left join (from meta.clock where clock = 'release') as c
        on r.market = c.market and r.as_of >= c.as_of
),

known as (
    select
        f.*, r.report_date, r.available_at as report_available_at, r.dealer_options_share,
        coalesce(t.tick_number, 0) - r.tick_number as age
    from flows as f
    asof left join reports as r
        on f.market = r.market and f.as_of >= r.available_at
    asof left join ticks as t
        on f.market = t.market and f.as_of >= t.known_at
),

shared as (
    select
        *,
        if(age <= 1, dealer_options_share, null) as dealer_share,
        case
            when report_date is null then 'no report was out at the cut-off'
            when age > 1 then 'the newest report is more than one release behind'
            when dealer_options_share is null then 'no combined report, or one that does not add up'
        end as share_reason
    from known
)

select
    market, session_date, price_source, scope, series, expiry,
    weight, 'cot' as convention,
    report_date, dealer_share, share_reason, contracts,
    dealer_share * gex as gex,
    dealer_share * vanna_flow as vanna_flow,
    dealer_share * charm_flow as charm_flow,
    weight_as_of, as_of,
    greatest(available_at, report_available_at) as available_at
from shared
order by market, session_date, price_source, as_of, scope, expiry, series
