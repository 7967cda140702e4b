-- The markets of which a session or a tick is another than in the last database; new ones that
-- follow on the old are none.
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
)

select market from sessions
union
select market from ticks
