-- Every feature as it was known at the asked instant, one row a market and feature.
select *
from answers_at((select known_by from page))
