-- Quotes to vols, Greeks, slices, densities and moments through mathlib's functions in DuckDB.

with
quoted as (
    select
        q.* exclude (vol),
        implied_vol(q.mid, q.forward, q.strike, q.t_years, q.rate, q.is_call, false).vol as vol
    from quotes as q
),

-- Sorted, for a function then gets full vectors: out of a GROUP BY come small pieces.
smiles as (
    select
        smile,
        any_value(forward) as forward,
        any_value(t_years) as t_years,
        list(log_moneyness order by strike) as ks,
        list(vol order by strike) as vols,
        list(vol_error order by strike) as vol_errors,
        sum(greeks(forward, strike, t_years, vol, rate, is_call).gamma) as gamma
    from quoted
    group by smile
    order by smile
),

fitted as (
    select
        *,
        svi_surface([len(ks)::integer], ks, vols, vol_errors, [t_years], [0::integer])[1] as fit
    from smiles
)

select
    smile, gamma, fit,
    svi_density(forward, fit.a, fit.b, fit.rho, fit.m, fit.sigma) as density,
    svi_moments(forward, fit.a, fit.b, fit.rho, fit.m, fit.sigma) as moments
from fitted
order by smile
