"""The inputs that mathlib and its peers get: seeded, the same in every process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.math.truth import Smiles, exact_implied_vol
from mathlib import black76

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

RATE = 0.04


@dataclass(frozen=True)
class Options:
    """Options with the vol that made their price; arrays of one length."""

    price: FloatArray
    forward: FloatArray
    strike: FloatArray
    t_years: FloatArray
    vol: FloatArray
    is_call: BoolArray
    rate: float = RATE

    @property
    def size(self) -> int:
        return self.price.size

    def first(self, n: int) -> Options:
        """The first rows: rows come in no order, so that they stand for all."""
        return Options(
            self.price[:n],
            self.forward[:n],
            self.strike[:n],
            self.t_years[:n],
            self.vol[:n],
            self.is_call[:n],
            self.rate,
        )

    def exact_vol(self) -> FloatArray:
        """The vol of exactly these prices, to the last digit."""
        return exact_implied_vol(
            self.price, self.forward, self.strike, self.t_years, self.rate, self.is_call, self.vol
        )


def chain_options(n: int) -> Options:
    """Calls and puts within 2.5 standard deviations, in and out of the money."""
    rng = np.random.default_rng(76)
    z = rng.uniform(-2.5, 2.5, n)
    return _options(rng, z, is_call=rng.random(n) < 0.5)


def deep_options(n: int) -> Options:
    """Out-of-the-money options up to 7 standard deviations: prices down to 1e-15 of the forward."""
    rng = np.random.default_rng(77)
    z = rng.uniform(-7.0, 7.0, n)
    return _options(rng, z, is_call=z >= 0.0)


def _options(rng: np.random.Generator, z: FloatArray, is_call: BoolArray) -> Options:
    forward = 80.0 * np.exp(rng.normal(0.0, 0.1, z.size))
    t_years, vol = rng.uniform(0.02, 1.5, z.size), rng.uniform(0.1, 0.8, z.size)
    strike = forward * np.exp(z * vol * np.sqrt(t_years))
    price = black76.price(forward, strike, t_years, vol, RATE, is_call)
    return Options(price, forward, strike, t_years, vol, is_call)


@dataclass(frozen=True)
class Chains:
    """Noisy end-of-day smiles of known truth, one expiry each, in the ragged layout.

    Attributes
    ----------
    truth : Smiles
    forward, t_years : ndarray, shape (n,)
    offsets : ndarray of int64, shape (n + 1,)
    strike, bid, ask : ndarray, shape (offsets[-1],)
        Quotes of the out-of-the-money option of each strike, a call at the forward.
    held_out : ndarray, shape (n, points)
        Log-moneyness of strikes without a quote, NaN beyond a smile's own: between the quoted
        ones, and half a step past the last on either side.
    """

    truth: Smiles
    forward: FloatArray
    offsets: NDArray[np.int64]
    strike: FloatArray
    bid: FloatArray
    ask: FloatArray
    held_out: FloatArray

    @property
    def size(self) -> int:
        return self.forward.size

    @property
    def t_years(self) -> FloatArray:
        return self.truth.t_years

    @property
    def row(self) -> NDArray[np.intp]:
        """The smile of each quote."""
        return np.repeat(np.arange(self.size), np.diff(self.offsets))

    def part(self, start: int, stop: int) -> Chains:
        """Smiles ``start`` up to ``stop``."""
        cut = slice(int(self.offsets[start]), int(self.offsets[stop]))
        return Chains(
            self.truth.take(slice(start, stop)),
            self.forward[start:stop],
            self.offsets[start : stop + 1] - self.offsets[start],
            self.strike[cut],
            self.bid[cut],
            self.ask[cut],
            self.held_out[start:stop],
        )

    def held_out_vol(self) -> FloatArray:
        """The true vol at the strikes held out."""
        k = np.where(np.isnan(self.held_out), 0.0, self.held_out)
        price = self.truth.out_of_the_money(k)
        vol, _ = black76.implied_vol(
            price, 1.0, np.exp(k), self.t_years[:, None], 0.0, is_call=k >= 0.0
        )
        return np.where(np.isnan(self.held_out), np.nan, vol)


def noisy_chains(n: int) -> Chains:
    """``n`` smiles of 8 to 20 strikes, quoted 10 to 30 % wide, fair anywhere in the spread."""
    rng = np.random.default_rng(2014)
    truth = Smiles.draw(n, seed=1204)
    forward = 90.0 * np.exp(rng.normal(0.0, 0.1, n))
    count = rng.integers(8, 21, n)
    # Strikes step evenly over about 1.5 deviations to both sides.
    step = 3.0 * truth.deviation / (count - 1)
    begin = -1.5 * truth.deviation + rng.uniform(-0.5, 0.5, n) * step
    place = np.arange(20)
    quoted = place < count[:, None]
    k = begin[:, None] + step[:, None] * place
    fair = truth.out_of_the_money(k) * (np.exp(-RATE * truth.t_years) * forward)[:, None]
    spread = rng.uniform(0.10, 0.30, n)[:, None]
    mid = fair * (1.0 + rng.uniform(-0.5, 0.5, k.shape) * spread)
    half = 0.5 * spread * fair
    between = begin[:, None] + step[:, None] * (np.arange(21) - 0.5)
    return Chains(
        truth,
        forward,
        np.concatenate([[0], np.cumsum(count)]),
        (forward[:, None] * np.exp(k))[quoted],
        (mid - half)[quoted],
        (mid + half)[quoted],
        np.where(np.arange(21) <= count[:, None], between, np.nan),
    )


@dataclass(frozen=True)
class Book:
    """Positions in a chain: options, contracts, the strike's number, and USD a point."""

    options: Options
    quantity: FloatArray
    strike_number: NDArray[np.intp]
    n_strikes: int
    multiplier: float = 400.0

    def first(self, n: int) -> Book:
        """The first positions."""
        return Book(
            self.options.first(n),
            self.quantity[:n],
            self.strike_number[:n],
            self.n_strikes,
            self.multiplier,
        )


def book(n: int) -> Book:
    """Options with open interest on 60 strikes, as in a livestock market."""
    rng = np.random.default_rng(400)
    n_strikes = 60
    number = rng.integers(0, n_strikes, n)
    strike = np.asarray(60.0 + number, dtype=np.float64)
    forward = 90.0 + rng.normal(0.0, 3.0, n)
    t_years, vol = rng.uniform(0.02, 1.0, n), rng.uniform(0.15, 0.5, n)
    is_call = rng.random(n) < 0.5
    price = black76.price(forward, strike, t_years, vol, RATE, is_call)
    options = Options(price, forward, strike, t_years, vol, is_call)
    return Book(options, np.floor(rng.exponential(400.0, n)), number, n_strikes)
