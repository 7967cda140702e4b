-- Options of a slice whose ask is zero, or whose bid or ask is below zero or no number: left out
-- of mids and fits. A bid of zero alone says that nobody bids.
-- severity: warning
-- look_back: 0 days
select
    market, session_date, series || ' ' || expiry as subject,
    format('{} quotes of nothing, first {}', count(*), min(contract)) as reason
from features.chain_v1
where
    price_source = 'quote'
    and (ask <= 0 or bid < 0 or not isfinite(bid) or not isfinite(ask))
group by market, session_date, as_of, series, expiry
