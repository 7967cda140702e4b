-- Landed rows whose instants cannot be: one row a dataset, market and reason, with how many
-- there are and the first of them.  `landed.*` are views over the raw files, `instants` the
-- instants of all of them, `releases` the calendar's release of each report that landed.
with
bars as (
    select
        'futures_1m' as dataset, market, contract, as_of, available_at,
        available_at - interval 1 minute as began_at
    from landed.futures_1m
    union all
    select
        'futures_1d' as dataset, market, contract, as_of, available_at,
        available_at - interval 1 day as began_at
    from landed.futures_1d
),

unfinished as (
    select
        dataset, market, contract as subject, as_of, available_at,
        'as_of and available_at of a bar are its end' as reason
    from bars
    where
        as_of <> available_at
        or epoch_us(available_at) % (epoch_us(available_at) - epoch_us(began_at)) <> 0
),

-- The first minute of a session is traded in and the minute before it is not.
early_minutes as (
    select
        b.dataset, b.market, b.contract as subject, b.as_of, b.available_at,
        'the minute ends when a session opens: the bar is stamped at its start' as reason
    from bars as b
    semi join lake.meta.sessions as s on b.market = s.market and b.available_at = s.open_at
    where b.dataset = 'futures_1m'
),

early_days as (
    select
        b.dataset, b.market, b.contract as subject, b.as_of, b.available_at,
        'no session is in the UTC day that ends then: the bar is stamped at its start' as reason
    from bars as b
    anti join lake.meta.sessions as s
        on b.market = s.market and s.open_at < b.available_at and s.close_at > b.began_at
    where b.dataset = 'futures_1d'
),

early_reports as (
    select
        c.dataset, c.market,
        format(
            'the report of {}, released {}',
            c.subject, strftime(r.available_at, '%Y-%m-%dT%H:%M:%SZ')
        ) as subject,
        c.as_of, c.available_at, 'known before its release' as reason
    from instants as c
    join releases as r on c.subject = r.report_date::varchar
    where c.dataset like 'cot%' and c.available_at < r.available_at
),

disordered as (
    select
        dataset, market, subject, as_of, available_at,
        'as_of is after available_at, or one of them is NULL' as reason
    from instants
    where coalesce(as_of > available_at, true)
),

every_row as (
    select * from unfinished
    union all by name
    select * from early_minutes
    union all by name
    select * from early_days
    union all by name
    select * from early_reports
    union all by name
    select * from disordered
)

select
    dataset, market, reason, count(*) as rows,
    arg_min(
        struct_pack(subject := subject, as_of := as_of, available_at := available_at),
        row(available_at, as_of, subject)
    ) as first
from every_row
group by dataset, market, reason
order by dataset, market, reason
