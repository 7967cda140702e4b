-- Every feature as it was known, one row a market and feature.
select
    market, feature_name, value, quality, as_of, available_at, age
from answers_at((select known_by from page))
order by market, feature_number
