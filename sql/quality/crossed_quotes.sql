-- Options of a slice whose bid is above their ask: left out of mids and fits.
-- severity: warning
-- look_back: 0 days
select
    market, session_date, series || ' ' || expiry as subject,
    format('{} crossed quotes, first {}', count(*), min(contract)) as reason
from features.chain_v1
where price_source = 'quote' and quarantine = 'crossed'
group by market, session_date, as_of, series, expiry
