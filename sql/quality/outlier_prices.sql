-- Options of a slice whose price contradicts many of its others: left out of mids and fits.
-- severity: error
-- look_back: 0 days
select
    market, session_date, price_source || ' ' || series || ' ' || expiry as subject,
    format('{} outliers, first {} at {}', count(*), min(contract),
        arg_min(
            if(price_source = 'quote', bid || ' to ' || ask, settlement::varchar), contract
        )) as reason
from features.chain_v1
where quarantine = 'outlier'
group by market, session_date, price_source, as_of, series, expiry
