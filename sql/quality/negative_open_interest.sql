-- An open interest or a volume below zero.
-- severity: error
select
    market, session_date, contract as subject,
    format('open interest {}, volume {}', open_interest, volume) as reason
from features.chain_v1
where open_interest < 0 or volume < 0
