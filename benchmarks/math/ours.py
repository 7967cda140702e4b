"""The work that is measured, done by mathlib."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.math.inputs import Book, Chains, Options
from mathlib import black76, density, flows, moments, svi

FloatArray = NDArray[np.float64]

GREEKS = ("delta", "gamma", "vega", "theta", "rho", "vanna", "charm")
#: Flows by strike, and the exposure that each is the sum of.
FLOWS = {"gex": "gex", "vanna_flow": "vanna", "charm_flow": "charm"}


def implied_vol(options: Options) -> FloatArray:
    """The vol of every option."""
    vol, _ = black76.implied_vol(
        options.price,
        options.forward,
        options.strike,
        options.t_years,
        options.rate,
        options.is_call,
    )
    return vol


@dataclass(frozen=True)
class Vols:
    """Quotes of smiles as vols; arrays of shape (offsets[-1],)."""

    log_moneyness: FloatArray
    mid: FloatArray
    error: FloatArray
    weight: FloatArray


def vols(chains: Chains, rate: float) -> Vols:
    """Mids as vols, with their errors from the spreads."""
    row = chains.row
    forward, t_years = chains.forward[row], chains.t_years[row]
    is_call = chains.strike >= forward
    mid = 0.5 * (chains.bid + chains.ask)
    vol, _ = black76.implied_vol(mid, forward, chains.strike, t_years, rate, is_call)
    error = svi.quote_error(chains.bid, chains.ask, forward, chains.strike, t_years, vol, rate)
    return Vols(np.log(chains.strike / forward), vol, error, svi.error_weight(error, vol))


def fit(chains: Chains, quotes: Vols) -> svi.SviFit:
    """A slice of every smile."""
    return svi.calibrate(
        chains.offsets,
        quotes.log_moneyness,
        quotes.mid,
        chains.t_years,
        quotes.weight,
        vol_error=quotes.error,
    )


def raw(fitted: svi.SviFit) -> FloatArray:
    """Parameters as (5, n)."""
    return np.stack([fitted.a, fitted.b, fitted.rho, fitted.m, fitted.sigma])


def whole_chain(chains: Chains, rate: float) -> tuple[svi.SviFit, dict[str, NDArray[Any]]]:
    """Price to implied vol to slice to density, distribution and moments."""
    fitted = fit(chains, vols(chains, rate))
    parameters = raw(fitted)
    density.grid(chains.forward, *parameters)
    return fitted, moments.from_svi(chains.forward, *parameters)


def book_by_strike(book: Book) -> dict[str, FloatArray]:
    """Price and seven Greeks of every option, and the dealer's exposures by strike, in USD."""
    o = book.options
    option = (o.forward, o.strike, o.t_years, o.vol, o.rate, o.is_call)
    values = black76.price_and_greeks(*option)
    position = flows.signs("calls_long_puts_short", o.is_call) * book.quantity
    usd = flows.exposures_of(values, o.forward, position, book.multiplier)
    by_strike = {
        flow: np.bincount(book.strike_number, usd[name], book.n_strikes).astype(
            np.float64, copy=False
        )
        for flow, name in FLOWS.items()
    }
    return {**values, **by_strike}
