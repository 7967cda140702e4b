-- The markets of which a session, a tick or a threshold is another than in the last database; new
-- ones that follow on the old are none.
with
sessions as (
    from last.meta.sessions
    except
    from hydra.meta.sessions
),

ticks as (
    from last.meta.clock
    except
    from hydra.meta.clock
),

thresholds as (
    from last.meta.thresholds
    except
    from hydra.meta.thresholds
)

select market from sessions
union
select market from ticks
union
select market from thresholds
