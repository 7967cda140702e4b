-- The CFTC's Commitments of Traders, one row a report and vintage: positions of each trader
-- class, their share of open interest and where the net stands within its last three years.
--
-- name: cot_v1
-- status: draft
-- stage: build
-- grain: market, report, report_date, available_at
-- time: as_of is the close of the report's Tuesday; available_at the release, or for a revision
--   the instant at which this lake first saw it. A percentile compares with the newest vintage,
--   known by then, of each report of the three years up to it.
-- sources: raw.cot
-- max_age: 1 release
--
-- columns:
--   market VARCHAR: market code
--   report VARCHAR: kind of report
--   report_date DATE: the day that the positions describe
--   open_interest BIGINT: contracts outstanding
--   prod_merc_long BIGINT: long positions of producers and merchants, contracts
--   prod_merc_short BIGINT: short positions of producers and merchants, contracts
--   prod_merc_net BIGINT: long less short positions of producers and merchants, contracts
--   prod_merc_share DOUBLE: net of producers and merchants over open interest, as a fraction
--   prod_merc_percentile_3y DOUBLE: share of the reports of three years whose net of
--     producers and merchants was at or below this one's, 0 to 1; NULL with fewer than 26 reports
--   swap_long BIGINT: long positions of swap dealers, contracts
--   swap_short BIGINT: short positions of swap dealers, contracts
--   swap_spread BIGINT: spread positions of swap dealers, contracts
--   swap_net BIGINT: long less short positions of swap dealers, contracts
--   swap_share DOUBLE: net of swap dealers over open interest, as a fraction
--   swap_percentile_3y DOUBLE: share of the reports of three years whose net of
--     swap dealers was at or below this one's, 0 to 1; NULL with fewer than 26 reports
--   managed_money_long BIGINT: long positions of managed money, contracts
--   managed_money_short BIGINT: short positions of managed money, contracts
--   managed_money_spread BIGINT: spread positions of managed money, contracts
--   managed_money_net BIGINT: long less short positions of managed money, contracts
--   managed_money_share DOUBLE: net of managed money over open interest, as a fraction
--   managed_money_percentile_3y DOUBLE: share of the reports of three years whose net of
--     managed money was at or below this one's, 0 to 1; NULL with fewer than 26 reports
--   other_reportable_long BIGINT: long positions of other reportables, contracts
--   other_reportable_short BIGINT: short positions of other reportables, contracts
--   other_reportable_spread BIGINT: spread positions of other reportables, contracts
--   other_reportable_net BIGINT: long less short positions of other reportables, contracts
--   other_reportable_share DOUBLE: net of other reportables over open interest, as a fraction
--   other_reportable_percentile_3y DOUBLE: share of the reports of three years whose net of
--     other reportables was at or below this one's, 0 to 1; NULL with fewer than 26 reports
--   nonreportable_long BIGINT: long positions of non-reportable traders, contracts
--   nonreportable_short BIGINT: short positions of non-reportable traders, contracts
--   nonreportable_net BIGINT: long less short positions of non-reportable traders, contracts
--   nonreportable_share DOUBLE: net of non-reportable traders over open interest, as a fraction
--   nonreportable_percentile_3y DOUBLE: share of the reports of three years whose net of
--     non-reportable traders was at or below this one's, 0 to 1; NULL with fewer than 26 reports
--   reports_3y INTEGER: reports that the percentiles compare with, this one included
--   release_estimated BOOLEAN: the release date is not known and was taken late
--   as_of TIMESTAMP WITH TIME ZONE: close of business of the report date
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
reports as (
    select
        *,
        prod_merc_long - prod_merc_short as prod_merc_net,
        swap_long - swap_short as swap_net,
        managed_money_long - managed_money_short as managed_money_net,
        other_reportable_long - other_reportable_short as other_reportable_net,
        nonreportable_long - nonreportable_short as nonreportable_net
    from raw.cot
    qualify row_number() over (
        partition by market, report, report_date, available_at order by ingested_at desc
    ) = 1
),

-- For each vintage, the newest vintage known by then of each report of its three years.
history as (
    select
        r.market, r.report, r.report_date, r.available_at, h.report_date as past_date,
        arg_max(h.prod_merc_net, row(h.available_at, h.ingested_at)) as prod_merc_net,
        arg_max(h.swap_net, row(h.available_at, h.ingested_at)) as swap_net,
        arg_max(h.managed_money_net, row(h.available_at, h.ingested_at)) as managed_money_net,
        arg_max(h.other_reportable_net, row(h.available_at, h.ingested_at)) as other_reportable_net,
        arg_max(h.nonreportable_net, row(h.available_at, h.ingested_at)) as nonreportable_net
    from reports as r
    join reports as h
        on r.market = h.market and r.report = h.report
        and h.report_date > r.report_date - interval 3 years
        and h.report_date <= r.report_date
        and h.available_at <= r.available_at
    group by r.market, r.report, r.report_date, r.available_at, h.report_date
),

percentiles as (
    select
        r.market, r.report, r.report_date, r.available_at,
        count(*) as reports_3y,
        if(
            count(*) >= 26,
            count(*) filter (where h.prod_merc_net <= r.prod_merc_net) / count(*),
            null
        ) as prod_merc_percentile_3y,
        if(
            count(*) >= 26,
            count(*) filter (where h.swap_net <= r.swap_net) / count(*),
            null
        ) as swap_percentile_3y,
        if(
            count(*) >= 26,
            count(*) filter (where h.managed_money_net <= r.managed_money_net) / count(*),
            null
        ) as managed_money_percentile_3y,
        if(
            count(*) >= 26,
            count(*) filter (where h.other_reportable_net <= r.other_reportable_net) / count(*),
            null
        ) as other_reportable_percentile_3y,
        if(
            count(*) >= 26,
            count(*) filter (where h.nonreportable_net <= r.nonreportable_net) / count(*),
            null
        ) as nonreportable_percentile_3y
    from reports as r
    join history as h using (market, report, report_date, available_at)
    group by all
)

select
    r.market, r.report, r.report_date, r.open_interest,
    r.prod_merc_long,
    r.prod_merc_short,
    r.prod_merc_net,
    r.prod_merc_net / nullif(r.open_interest, 0) as prod_merc_share,
    p.prod_merc_percentile_3y,
    r.swap_long,
    r.swap_short,
    r.swap_spread,
    r.swap_net,
    r.swap_net / nullif(r.open_interest, 0) as swap_share,
    p.swap_percentile_3y,
    r.managed_money_long,
    r.managed_money_short,
    r.managed_money_spread,
    r.managed_money_net,
    r.managed_money_net / nullif(r.open_interest, 0) as managed_money_share,
    p.managed_money_percentile_3y,
    r.other_reportable_long,
    r.other_reportable_short,
    r.other_reportable_spread,
    r.other_reportable_net,
    r.other_reportable_net / nullif(r.open_interest, 0) as other_reportable_share,
    p.other_reportable_percentile_3y,
    r.nonreportable_long,
    r.nonreportable_short,
    r.nonreportable_net,
    r.nonreportable_net / nullif(r.open_interest, 0) as nonreportable_share,
    p.nonreportable_percentile_3y,
    p.reports_3y::integer as reports_3y,
    r.release_estimated, r.as_of, r.available_at
from reports as r
join percentiles as p using (market, report, report_date, available_at)
order by r.market, r.report, r.report_date, r.available_at
