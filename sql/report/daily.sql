-- Three years of what each session knew at its cut-off: the front month, realised and implied
-- vol, and dealers' gamma under each convention, one row a market-session.
select
    market, session_date as session, fut_front_close,
    fut_front_rv_cc_21d, fut_front_rv_range_21d, opt_atm_iv_30d, opt_settlement_atm_iv_30d,
    columns('^flow_gex_.*_oi$')
from features.daily_v1
where
    as_of <= (select known_by from page) and available_at <= (select known_by from page)
    and coalesce(fut_front_close, opt_atm_iv_30d, opt_settlement_atm_iv_30d) is not null
qualify row_number() over (partition by market order by session_date desc) <= 756
order by market, session_date
