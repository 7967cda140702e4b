-- A COT report lacks the open interest or the positions of a class of traders.
-- severity: warning
select
    market, report_date as session_date, report as subject,
    concat_ws(', ',
        if(open_interest is null, 'no open interest', null),
        if(prod_merc_long is null or prod_merc_short is null, 'no producers', null),
        if(swap_long is null or swap_short is null or swap_spread is null, 'no swap dealers', null),
        if(
            managed_money_long is null or managed_money_short is null
            or managed_money_spread is null,
            'no managed money', null
        ),
        if(
            other_reportable_long is null or other_reportable_short is null
            or other_reportable_spread is null,
            'no other reportables', null
        ),
        if(
            nonreportable_long is null or nonreportable_short is null, 'no small traders', null
        )) as reason
from features.cot_v1
where reason <> ''
