"""The comparisons that several peers share: the same inputs, turns and errors for each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.math import inputs, ours, truth
from benchmarks.math.inputs import Chains, Options
from benchmarks.math.lines import Error, Line
from benchmarks.math.measure import take_turns
from benchmarks.math.ours import Vols
from benchmarks.math.sizes import Sizes

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: Relative error that implied vols, prices and Greeks have to keep.
EXACT = 1e-12


# --- implied vol --------------------------------------------------------------------------------


def implied_vols(
    peer: str,
    solve: Callable[[Options], FloatArray],
    sizes: Sizes,
    *,
    row_by_row: bool = False,
    need: float | None = None,
    note: str = "",
) -> list[Line]:
    """A solver on both sets of options; one that goes row by row gets their first rows."""
    sets = {
        "implied vol, within 2.5 sd": inputs.chain_options(sizes.options),
        "implied vol, out of the money to 7 sd": inputs.deep_options(sizes.options),
    }
    lines = []
    for work, options in sets.items():
        part = options.first(sizes.slow_options) if row_by_row else options
        pace, answers = take_turns(
            partial(ours.implied_vol, options),
            options.size,
            partial(_solve, solve, part),
            part.size,
            sizes.runs,
        )
        known = part.first(sizes.exact)
        exact = known.exact_vol()
        error = Error(
            "worst relative error",
            worst(ours.implied_vol(known), exact),
            worst(answers[0][: known.size], exact),
            EXACT,
        )
        lines.append(Line(work, peer, "options", pace, (error,), need=need, note=note))
    return lines


def _solve(solve: Callable[[Options], FloatArray], options: Options, turn: int) -> FloatArray:
    return solve(options)


def worst(values: FloatArray, exact: FloatArray) -> float:
    """Largest relative error; a value that is missing counts as all wrong."""
    return float(np.max(np.where(np.isfinite(values), np.abs(values / exact - 1.0), 1.0)))


# --- slices -------------------------------------------------------------------------------------


def slices(
    peer: str,
    fit: Callable[[Chains, Vols], FloatArray],
    sizes: Sizes,
    per_turn: int,
    *,
    need: float | None = None,
    note: str = "",
) -> list[Line]:
    """A fitter of SVI slices that takes them one by one; every turn brings it further ones.

    ``fit`` returns raw parameters (5, n), NaN where it found none.
    """
    chains = inputs.noisy_chains(sizes.slices)
    quotes = ours.vols(chains, inputs.RATE)
    parts = turns_of(chains, sizes.runs, per_turn)
    part_quotes = [ours.vols(part, inputs.RATE) for part in parts]
    pace, answers = take_turns(
        partial(ours.fit, chains, quotes),
        chains.size,
        lambda turn: fit(parts[turn], part_quotes[turn]),
        per_turn,
        sizes.runs,
    )
    theirs = np.concatenate(answers, axis=1)
    mine = ours.raw(ours.fit(chains, quotes))
    errors = (
        held_out_error(chains, mine, theirs),
        _share("share with butterfly arbitrage", truth.has_butterfly, mine, theirs),
        _share("share beyond Lee's bound", truth.breaks_lee, mine, theirs),
        Error(
            "share without a fit",
            float((~_fitted(mine)).mean()),
            float((~_fitted(theirs)).mean()),
            0.0,
        ),
    )
    return [Line("SVI slice, 8-20 strikes", peer, "slices", pace, errors, need=need, note=note)]


def turns_of(chains: Chains, turns: int, per_turn: int) -> list[Chains]:
    """Consecutive parts of the batch, one a turn."""
    return [chains.part(turn * per_turn, (turn + 1) * per_turn) for turn in range(turns)]


def held_out_error(chains: Chains, mine: FloatArray, theirs: FloatArray) -> Error:
    """RMSE of fitted less true vol at strikes held out, over the smiles that both sides fitted."""
    n = theirs.shape[1]
    both = np.flatnonzero(_fitted(mine[:, :n]) & _fitted(theirs))
    true_vol = chains.part(0, n).held_out_vol()[both]
    root_t, held_out = np.sqrt(chains.t_years[both])[:, None], chains.held_out[both]
    rmse = []
    for raw in (mine[:, both], theirs[:, both]):
        # A slice that goes below zero there has no vol: it counts as 0.
        variance = np.maximum(truth.svi_variance(held_out, raw[:, :, None]), 0.0)
        vol = np.sqrt(variance) / root_t
        rmse.append(float(100.0 * np.sqrt(np.nanmean((vol - true_vol) ** 2))))
    return Error("RMSE at strikes held out, vol points", rmse[0], rmse[1], "peer")


def _fitted(raw: FloatArray) -> BoolArray:
    return np.asarray(np.isfinite(raw).all(axis=0))


def _share_missing(raw: FloatArray) -> float:
    return float((~_fitted(raw)).mean())


def _share(
    name: str, judge: Callable[[FloatArray], BoolArray], mine: FloatArray, theirs: FloatArray
) -> Error:
    """How large a share of all slices that each side fitted is judged so: mathlib must have 0."""
    shares = [float(judge(raw[:, _fitted(raw)]).mean()) for raw in (mine, theirs)]
    return Error(name, shares[0], shares[1], 0.0)
