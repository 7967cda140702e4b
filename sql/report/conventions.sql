-- The assumptions about dealers' side under which there are features, one row each.
select regexp_extract(feature_name, '^flow_gex_(.*)_oi$', 1) as convention
from meta.features
where feature_name like 'flow_gex_%_oi'
order by feature_number
