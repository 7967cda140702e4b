-- An open interest or a volume below zero.
-- severity: error
-- look_back: 0 days
select
    market, session_date, contract as subject,
    format(
        'open interest {}, volume {}',
        coalesce(open_interest::varchar, 'none'), coalesce(volume::varchar, 'none')
    ) as reason
from features.chain_v1
where open_interest < 0 or volume < 0
