-- Markets of which time has passed that counts since the last build, up to the variable `run_at`:
-- a tick of a clock, or a day where the market is.
select c.market
from meta.clock as c
join meta.builds as b on c.known_at > b.built_at and c.known_at <= getvariable('run_at')
union
select m.market
from meta.markets as m
join meta.builds as b
    on (b.built_at at time zone m.timezone)::date
    < (getvariable('run_at') at time zone m.timezone)::date
