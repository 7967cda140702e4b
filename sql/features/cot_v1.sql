-- The CFTC's Disaggregated Commitments of Traders, one row a report and vintage: positions of
-- each trader class, their share of open interest, where the net stands within its last three
-- years, and what each class holds in options.
--
-- name: cot_v1
-- status: draft
-- stage: build
-- grain: market, report, report_date, available_at
-- time: as_of is the close of the report's Tuesday; available_at the release, or for a revision
--   the instant at which this lake first saw it. The futures-only and the combined report have
--   a row at each instant at which either is news, since the options follow from both. A
--   percentile compares with the newest vintage, known by then, of each report of the three
--   years up to it.
-- sources: raw.cot
-- max_age: 1 release
--
-- columns:
--   market VARCHAR: market code
--   report VARCHAR: disaggregated_futures, or disaggregated_combined, which counts options too, in
--     futures by their deltas
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
--   options_open_interest BIGINT: open interest of options in futures by their deltas, contracts:
--     that of the combined report less that of the futures-only one; NULL, as every column of
--     options, where one of the two is not known
--   prod_merc_options_long BIGINT: calls held and puts sold by producers and merchants, in futures
--     by their deltas: longs of the combined report less those of futures only
--   prod_merc_options_short BIGINT: puts held and calls sold by producers and merchants, likewise
--   prod_merc_options_net BIGINT: long less short options of producers and merchants, likewise
--   swap_options_long BIGINT: calls held and puts sold by swap dealers, in futures
--     by their deltas: longs and spreads of the combined report less those of futures only
--   swap_options_short BIGINT: puts held and calls sold by swap dealers, likewise
--   swap_options_net BIGINT: long less short options of swap dealers, likewise
--   managed_money_options_long BIGINT: calls held and puts sold by managed money, in futures
--     by their deltas: longs and spreads of the combined report less those of futures only
--   managed_money_options_short BIGINT: puts held and calls sold by managed money, likewise
--   managed_money_options_net BIGINT: long less short options of managed money, likewise
--   other_reportable_options_long BIGINT: calls held and puts sold by other reportables, in futures
--     by their deltas: longs and spreads of the combined report less those of futures only
--   other_reportable_options_short BIGINT: puts held and calls sold by other reportables, likewise
--   other_reportable_options_net BIGINT: long less short options of other reportables, likewise
--   nonreportable_options_long BIGINT: calls held and puts sold by non-reportable traders, in
--     futures by their deltas: longs of the combined report less those of futures only
--   nonreportable_options_short BIGINT: puts held and calls sold by non-reportable traders,
--     likewise
--   nonreportable_options_net BIGINT: long less short options of non-reportable traders, likewise
--   dealer_options_share DOUBLE: what the other classes are short of options in net, and so dealers
--     long, over options_open_interest, -1 to 1; NULL where it is not within, since a report
--     does not add up
--   release_estimated BOOLEAN: the release date is not known and was taken late
--   as_of TIMESTAMP WITH TIME ZONE: close of business of the report date
--   available_at TIMESTAMP WITH TIME ZONE: first instant at which the row could be known

with
published as (
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

vintages as (
    select distinct r.market, r.report, r.report_date, v.available_at
    from published as r
    join published as v using (market, report_date)
),

reports as (
    select p.* replace (v.available_at as available_at)
    from vintages as v
    asof join published as p
        on v.market = p.market and v.report = p.report and v.report_date = p.report_date
        and v.available_at >= p.available_at
),

-- A spread is a position on either side.
options as (
    select
        f.market, f.report_date, f.available_at,
        c.open_interest - f.open_interest as options_open_interest,
        c.prod_merc_long - f.prod_merc_long as prod_merc_options_long,
        c.prod_merc_short - f.prod_merc_short as prod_merc_options_short,
        c.swap_long + c.swap_spread - f.swap_long - f.swap_spread as swap_options_long,
        c.swap_short + c.swap_spread - f.swap_short - f.swap_spread as swap_options_short,
        c.managed_money_long + c.managed_money_spread
        - f.managed_money_long - f.managed_money_spread as managed_money_options_long,
        c.managed_money_short + c.managed_money_spread
        - f.managed_money_short - f.managed_money_spread as managed_money_options_short,
        c.other_reportable_long + c.other_reportable_spread
        - f.other_reportable_long - f.other_reportable_spread as other_reportable_options_long,
        c.other_reportable_short + c.other_reportable_spread
        - f.other_reportable_short - f.other_reportable_spread as other_reportable_options_short,
        c.nonreportable_long - f.nonreportable_long as nonreportable_options_long,
        c.nonreportable_short - f.nonreportable_short as nonreportable_options_short
    from reports as f
    join reports as c using (market, report_date, available_at)
    where f.report = 'disaggregated_futures' and c.report = 'disaggregated_combined'
),

net_options as (
    select
        *,
        prod_merc_options_long - prod_merc_options_short as prod_merc_options_net,
        swap_options_long - swap_options_short as swap_options_net,
        managed_money_options_long - managed_money_options_short as managed_money_options_net,
        other_reportable_options_long
        - other_reportable_options_short as other_reportable_options_net,
        nonreportable_options_long - nonreportable_options_short as nonreportable_options_net,
        -(
            prod_merc_options_net + managed_money_options_net
            + other_reportable_options_net + nonreportable_options_net
        ) / nullif(options_open_interest, 0) as dealer_share
    from options
),

-- For each vintage, the newest vintage known by then of each report of its three years.
history as (
    select
        r.market, r.report, r.report_date, r.available_at, h.report_date as past_date,
        arg_max(h.prod_merc_net, h.available_at) as prod_merc_net,
        arg_max(h.swap_net, h.available_at) as swap_net,
        arg_max(h.managed_money_net, h.available_at) as managed_money_net,
        arg_max(h.other_reportable_net, h.available_at) as other_reportable_net,
        arg_max(h.nonreportable_net, h.available_at) as nonreportable_net
    from reports as r
    join published as h
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
    o.options_open_interest,
    o.prod_merc_options_long,
    o.prod_merc_options_short,
    o.prod_merc_options_net,
    o.swap_options_long,
    o.swap_options_short,
    o.swap_options_net,
    o.managed_money_options_long,
    o.managed_money_options_short,
    o.managed_money_options_net,
    o.other_reportable_options_long,
    o.other_reportable_options_short,
    o.other_reportable_options_net,
    o.nonreportable_options_long,
    o.nonreportable_options_short,
    o.nonreportable_options_net,
    if(
        o.options_open_interest > 0 and abs(o.dealer_share) <= 1, o.dealer_share, null
    ) as dealer_options_share,
    r.release_estimated, r.as_of, r.available_at
from reports as r
join percentiles as p using (market, report, report_date, available_at)
left join net_options as o using (market, report_date, available_at)
order by r.market, r.report, r.report_date, r.available_at
