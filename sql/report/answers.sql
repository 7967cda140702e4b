-- What is drawn of the answers, one row a market and feature.
select
    market, feature_name, value, quality, as_of, available_at, age
from answered
order by market, feature_number
