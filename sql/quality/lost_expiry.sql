-- An expiry that was quoted in one session is gone from the next, though it has not expired.
-- severity: error
-- look_back: 31 days
with
slices as (
    select
        market, session_date, series, expiry, any_value(expiration) as expiration,
        count(mid) as n_quotes
    from features.chain_v1
    where price_source = 'quote'
    group by market, session_date, series, expiry
),

sessions as (
    select
        s.market, s.session_date, s.snapshot_at,
        lag(s.session_date) over (partition by s.market order by s.session_date) as previous
    from meta.sessions as s
    semi join slices as c using (market, session_date)
)

select
    s.market, s.session_date, p.series || ' ' || p.expiry as subject,
    format('had {} quotes on {} and no row since', p.n_quotes, s.previous) as reason
from slices as p
join sessions as s
    on p.market = s.market and p.session_date = s.previous
    and s.previous >= s.session_date - 30
anti join slices as c
    on s.market = c.market and s.session_date = c.session_date
    and p.series = c.series and p.expiry = c.expiry
where
    p.n_quotes >= 3 and p.expiration > s.snapshot_at
    and exists (from meta.held as h where h.market = s.market and h.subject = 'option_stream')
