-- The straightforward build beside ours: quotes, and vols where both judge an option liquid.
with
vols as (
    select abs(p.iv - c.iv) as vol
    from peer_chain as p
    join features.chain_v1 as c
        on p.contract = c.contract and p.price_source = c.price_source
        and p.session_date::date = c.session_date
    where
        c.price_source = 'quote' and (c.option_type = 'C') = (c.strike >= c.forward)
        and c.is_liquid and abs(ln(c.strike / c.forward)) < 0.15
),

moments as (
    select
        abs(sqrt(p.variance / c.variance) - 1) as stdev,
        abs(p.skew - c.skew) as skew,
        abs(p.q05 - c.q05) / c.forward as q05
    from peer_moments as p
    join features.moments_v1 as c
        on p.price_source = c.price_source and p.session_date::date = c.session_date
        and p.expiration::date = c.expiry
    where c.price_source = 'quote' and c.variance is not null
)

select
    (select count(vol) from vols), (select median(vol) from vols),
    count(*), median(stdev), median(skew), median(q05)
from moments
