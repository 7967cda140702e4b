-- The strikes that are or were listed, one row a market, series, expiry and strike.
select distinct d.market, d.series, d.expiration, d.strike
from raw.option_definition as d
where
    d.update_action <> 'D'
    and d.series is not null and d.expiration is not null and d.strike is not null
