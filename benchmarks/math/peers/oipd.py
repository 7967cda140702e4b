"""oipd: option prices to a risk-neutral distribution, one expiry a call."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import oipd
import pandas as pd
from numpy.typing import NDArray
from oipd.core.vol_surface_fitting import fit_slice

from benchmarks.math import inputs, ours
from benchmarks.math.compare import slices, turns_of
from benchmarks.math.inputs import Chains
from benchmarks.math.lines import Error, Line
from benchmarks.math.measure import take_turns
from benchmarks.math.ours import Vols
from benchmarks.math.sizes import Sizes
from mathlib import black76, density

FloatArray = NDArray[np.float64]

PACKAGES = ("oipd",)

_TODAY = pd.Timestamp("2024-01-02")
_RAW = ("a", "b", "rho", "m", "sigma")


def fit(chains: Chains, quotes: Vols) -> FloatArray:
    """Parameters (5, n) of its SVI fit, weighted by the vols of bid and ask."""
    out = np.full((5, chains.size), np.nan)
    row = chains.row
    forward, t_years = chains.forward[row], chains.t_years[row]
    bid, ask = (
        black76.implied_vol(
            side, forward, chains.strike, t_years, inputs.RATE, chains.strike >= forward
        )[0]
        for side in (chains.bid, chains.ask)
    )
    for i in range(chains.size):
        part = slice(chains.offsets[i], chains.offsets[i + 1])
        curve, _ = fit_slice(
            "svi",
            chains.strike[part],
            quotes.mid[part],
            forward=float(chains.forward[i]),
            maturity_years=float(chains.t_years[i]),
            bid_iv=bid[part],
            ask_iv=ask[part],
        )
        out[:, i] = [curve.params[name] for name in _RAW]
    return out


def frame(chains: Chains, i: int) -> pd.DataFrame:
    """Smile ``i`` as its readers want it: the call and the put of every strike, at parity."""
    part = slice(chains.offsets[i], chains.offsets[i + 1])
    strike, forward = chains.strike[part], chains.forward[i]
    parity = np.exp(-inputs.RATE * chains.t_years[i]) * (forward - strike)
    is_call = strike >= forward
    sides = []
    for option_type, shift in (
        ("C", np.where(is_call, 0.0, parity)),
        ("P", np.where(is_call, -parity, 0.0)),
    ):
        bid, ask = chains.bid[part] + shift, chains.ask[part] + shift
        columns = {"strike": strike, "bid": bid, "ask": ask, "last_price": 0.5 * (bid + ask)}
        sides.append(pd.DataFrame({**columns, "option_type": option_type}))
    days = pd.Timedelta(days=round(chains.t_years[i] * 365))
    return pd.concat(sides).assign(expiry=_TODAY + days, last_trade_date=_TODAY)


def distribution(quotes: pd.DataFrame, forward: float) -> tuple[Any, dict[str, float]]:
    """Its whole way: fit, density, moments."""
    market = oipd.MarketInputs(
        risk_free_rate=inputs.RATE,
        valuation_date=_TODAY,
        risk_free_rate_mode="continuous",
        underlying_price=forward,
    )
    curve = oipd.VolCurve().fit(quotes, market).implied_distribution()
    moments = {
        "mean": curve.mean(),
        "stdev": np.sqrt(curve.variance()) / forward,
        "skew": curve.skew(),
        "kurtosis": curve.kurtosis() + 3.0,
    }
    return curve, moments


def measure(sizes: Sizes) -> list[Line]:
    warnings.simplefilter("ignore")
    return [
        *slices(
            "oipd",
            fit,
            sizes,
            sizes.very_slow_slices,
            need=3000.0,
            note="fit_slice('svi') with its default options, bid and ask vols given",
        ),
        _whole_chain(sizes),
    ]


def _whole_chain(sizes: Sizes) -> Line:
    chains = inputs.noisy_chains(sizes.slices)
    per_turn = sizes.very_slow_slices
    turns = [
        [(frame(part, i), float(part.forward[i])) for i in range(part.size)]
        for part in turns_of(chains, sizes.runs, per_turn)
    ]
    pace, answers = take_turns(
        lambda: ours.whole_chain(chains, inputs.RATE),
        chains.size,
        lambda turn: [distribution(*smile) for smile in turns[turn]],
        per_turn,
        sizes.runs,
    )
    seen = chains.part(0, sizes.runs * per_turn)
    theirs = [smile for turn in answers for smile in turn]
    return Line(
        "price, implied vol, SVI, density, moments",
        "oipd",
        "smiles",
        pace,
        _errors(seen, theirs),
        need=5000.0,
        note="VolCurve.fit, implied_distribution and its four moments; it infers the forward too",
    )


def _errors(chains: Chains, theirs: list[tuple[Any, dict[str, float]]]) -> tuple[Error, ...]:
    """Medians over the smiles of the distance from the known distribution."""
    fitted, moments = ours.whole_chain(chains, inputs.RATE)
    k, weight = chains.truth.grid()
    true_density, true_moments = chains.truth.density(k), chains.truth.moments()
    strike = chains.forward[:, None] * np.exp(k)
    raw = [x[:, None] for x in ours.raw(fitted)]
    mine = density.pdf(strike, chains.forward[:, None], *raw) * strike
    other = np.stack([curve.pdf(x) for (curve, _), x in zip(theirs, strike, strict=True)]) * strike
    distances = [
        float(np.median((np.abs(p - true_density) * weight).sum(axis=1))) for p in (mine, other)
    ]
    name = "density, median L1 distance from the truth"
    errors = [Error(name, distances[0], distances[1], "peer")]
    moments["stdev"] = np.sqrt(moments["variance"]) / chains.forward
    for name, exact in true_moments.items():
        both = (np.asarray(moments[name]), np.array([found[name] for _, found in theirs]))
        # A moment that is said not to exist is infinitely wrong: all of the truths have it.
        off = [float(np.median(np.nan_to_num(np.abs(x - exact), nan=np.inf))) for x in both]
        errors.append(Error(f"{name}, median error", off[0], off[1]))
    return tuple(errors)
