"""The sample vendor's invented world: prices, volatility surfaces and open interest that are known.

Everything about a session is a function of the market and of the dates up to it; nothing depends
on the range that is asked for.

Futures follow two factors (Schwartz and Smith, "Short-term variations and long-term dynamics in
commodity prices", Management Science 46, 2000): a short-term one that fades with the time to
expiry, so that near contracts move more, and a long-term one, on a seasonal curve.  Each expiry's
total variance is a slice of SSVI (Gatheral and Jacquier, "Arbitrage-free SVI volatility surfaces",
Quantitative Finance 14, 2014, eq. 4.1 and 4.5) with phi(theta) = eta / sqrt(theta (1 + theta)),
which is free of butterfly and calendar arbitrage as long as eta (1 + |rho|) <= 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl.market import Market, rate_on
from etl.sources.sample import contracts as listing
from etl.sources.sample.contracts import DAY_NS, Contracts, Sessions
from etl.sources.sample.noise import normal, uniform
from etl.sources.sample.products import Product, product
from mathlib import american

__all__ = ["FIRST_SESSION", "Chain", "Slices", "World", "world"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: The vendor has nothing earlier; the year before it lets the factors forget where they began.
FIRST_SESSION = date(2018, 1, 2)

_YEAR_NS = 365 * DAY_NS
_SESSIONS_A_YEAR = 252
_FADE = 0.8  # a year: the short-term factor's loading is exp(-_FADE * time to expiry)
_OVERNIGHT = 0.25  # the share of a day's move that is there at the open


@dataclass(frozen=True)
class Slices:
    """Raw SVI parameters of total variance, one slice an element."""

    t_years: Floats
    a: Floats
    b: Floats
    rho: Floats
    m: Floats
    sigma: Floats

    def total_variance(self, k: Floats) -> Floats:
        """Return w(k) for log-moneyness k, elementwise."""
        x = k - self.m
        return self.a + self.b * (self.rho * x + np.sqrt(x * x + self.sigma * self.sigma))

    def vol(self, k: Floats) -> Floats:
        """Return the annualised volatility at log-moneyness k, elementwise."""
        vol: Floats = np.sqrt(self.total_variance(k) / self.t_years)
        return vol


@dataclass(frozen=True)
class Chain:
    """Every option listed in a run of sessions, in order of session and instrument."""

    session: Ints  # index into the world's sessions
    option: Ints  # index into the world's option contracts
    strike: Ints  # in the quote unit: the sample lists whole strikes
    is_call: Bools
    quoted: Bools  # not yet expired at the snapshot
    settled: Bools  # not yet expired at the close

    def where(self, keep: Bools) -> Chain:
        """Return the options that ``keep`` holds for."""
        return Chain(
            session=self.session[keep],
            option=self.option[keep],
            strike=self.strike[keep],
            is_call=self.is_call[keep],
            quoted=self.quoted[keep],
            settled=self.settled[keep],
        )


class World:
    """One market's world up to a year's end.  Indices of sessions and contracts run through it."""

    def __init__(self, market: Market, until_year: int) -> None:
        self.market = market
        self.product: Product = product(market.code)
        self.sessions: Sessions = listing.session_table(market, until_year)
        self.futures: Contracts = listing.futures(market, self.product, self.sessions)
        self.options: Contracts = listing.options(market, self.product, self.sessions, self.futures)
        self._date = self.sessions.day.astype(np.int64)
        self._strikes: dict[int, tuple[Ints, Bools]] = {}

    # -- the factors, one value a session ---------------------------------------------------

    @cached_property
    def short_term(self) -> Floats:
        """Log price factor that fades with the time to expiry."""
        return self._mean_reverting("short", self.product.front_vol, 0.4)

    @cached_property
    def long_term(self) -> Floats:
        """Log price factor that all contracts share."""
        return self._mean_reverting("long", 0.06, 2.0)

    @cached_property
    def vol_level(self) -> Floats:
        """Volatility that the term structure is built on."""
        level = self.product.vol_level * np.exp(self._mean_reverting("vol", 0.22, 0.25))
        return np.clip(level, 0.28, 0.39)

    @cached_property
    def skew(self) -> Floats:
        """SSVI's rho."""
        middle = np.arctanh(self.product.rho)
        rho: Floats = np.tanh(middle + self._mean_reverting("rho", 0.25, 0.25))
        return np.clip(rho, -0.6, 0.6)

    @cached_property
    def curvature(self) -> Floats:
        """SSVI's eta; with rho it keeps eta (1 + |rho|) <= 1.92."""
        return np.clip(0.9 * np.exp(self._mean_reverting("eta", 0.25, 0.25)), 0.6, 1.2)

    @cached_property
    def closing_move(self) -> Floats:
        """Log move between snapshot and close: what a look-ahead would pick up."""
        size = 0.003 + 0.002 * uniform(self.market.code, "closing", self._date)
        return size * self.side(np.arange(len(self.sessions)))

    @cached_property
    def rate(self) -> Floats:
        """Continuously compounded risk-free rate."""
        days = pl.Series(self.sessions.day).cast(pl.Date)
        return rate_on(days, self.market.risk_free).to_numpy()

    def side(self, session: Ints) -> Floats:
        """Return +1 or -1, a coin's throw for each session."""
        return np.where(uniform(self.market.code, "side", self._date[session]) < 0.5, -1.0, 1.0)

    def _mean_reverting(self, name: str, vol: float, half_life: float) -> Floats:
        """Return an Ornstein-Uhlenbeck path from its mean; half-life in years, vol a root year."""
        shock = vol / np.sqrt(_SESSIONS_A_YEAR) * normal(self.market.code, name, self._date)
        keep = 0.5 ** (1.0 / (half_life * _SESSIONS_A_YEAR))
        path: Floats = np.empty_like(shock)
        value = 0.0
        for i, step in enumerate(shock):
            value = keep * value + step
            path[i] = value
        return path

    # -- futures ------------------------------------------------------------------------------

    def listed_futures(self, session: Ints) -> Ints:
        """Return the listed futures of each session, nearest first: shape (sessions, n)."""
        nearest = np.searchsorted(self.futures.last, session)
        return nearest[:, None] + np.arange(self.product.n_futures)

    def future_close(self, session: Ints, future: Ints) -> Floats:
        """Return the price at the session's close, not yet rounded, elementwise."""
        session = np.maximum(session, 0)
        days = (self.futures.expiry[future] - self.sessions.day[session]).astype(np.int64)
        fade = np.exp(-_FADE * np.maximum(days, 0) / 365.0)
        seasonal = np.asarray(self.product.seasonal)[self.futures.month[future] - 1]
        log = seasonal + fade * self.short_term[session] + self.long_term[session]
        return self.product.base * np.exp(log)

    def future_path(self, session: Ints, future: Ints) -> Floats:
        """Return prices at each minute from the day's open to the snapshot.

        Shape (elements, day_minutes + 1); a Brownian bridge between the close before, after an
        overnight gap, and the close less its closing move.
        """
        minutes = self.product.day_minutes
        place = np.arange(minutes + 1)
        steps = normal(self.market.code, "minute", self._date[session][:, None], place[None, :])
        steps[:, 0] = 0.0
        walk = np.cumsum(steps, axis=1)
        share = place / minutes
        bridge = walk - share * walk[:, -1:]
        days = (self.futures.expiry[future] - self.sessions.day[session]).astype(np.int64)
        daily = self.product.front_vol * np.exp(-_FADE * days / 365.0) / np.sqrt(_SESSIONS_A_YEAR)
        scale = daily * np.sqrt((1.0 - _OVERNIGHT) / minutes)
        before = np.log(self.future_close(session - 1, future))
        after = np.log(self.future_close(session, future)) - self.closing_move[session]
        progress = _OVERNIGHT + (1.0 - _OVERNIGHT) * share
        drift = before[:, None] + (after - before)[:, None] * progress
        path: Floats = np.exp(drift + scale[:, None] * bridge)
        return path

    def future_snapshot(self, session: Ints, future: Ints) -> Floats:
        """Return the price at the snapshot, a whole number of half ticks, elementwise."""
        after = np.log(self.future_close(session, future)) - self.closing_move[session]
        half = self.market.tick / 2
        return np.rint(np.exp(after) / half) * half

    def future_settlement(self, session: Ints, future: Ints) -> Floats:
        """Return the final settlement, the close in whole ticks, elementwise."""
        tick = self.market.tick
        return np.rint(self.future_close(session, future) / tick) * tick

    def future_open_interest(self, session: Ints, future: Ints) -> Ints:
        """Return contracts open at the session's end, elementwise."""
        years = self._days_left(self.futures, session, future) / 365.0
        shape = 1.0 - np.exp(-years / 0.08)  # runs off as the expiry nears
        noise = normal(self.market.code, "fut_oi", future, self._date[session])
        level = 4.0 * self.product.contract_volume * shape * np.exp(-1.5 * years + 0.03 * noise)
        return np.rint(level).astype(np.int64)

    def future_volume(self, session: Ints, future: Ints) -> Ints:
        """Return contracts cleared in the session, elementwise."""
        years = self._days_left(self.futures, session, future) / 365.0
        noise = normal(self.market.code, "fut_vol", future, self._date[session])
        level: Floats = self.product.contract_volume * np.exp(-3.5 * years + 0.35 * noise)
        return np.rint(level).astype(np.int64)

    def _days_left(self, contracts: Contracts, session: Ints, index: Ints) -> Floats:
        days = (contracts.expiry[index] - self.sessions.day[session]).astype(np.float64)
        return np.maximum(days, 0.0)

    # -- options ------------------------------------------------------------------------------

    def slices(self, session: Ints, option: Ints, at: Ints) -> Slices:
        """Return the smile of each expiry as it stands ``at`` an instant (ns), elementwise."""
        t = (self.options.expires_at[option] - at) / _YEAR_NS
        return self._ssvi(session, option, t)

    def _ssvi(self, session: Ints, option: Ints, t: Floats) -> Slices:
        # What is the contract's own hangs on the future, so that expiries on one future keep
        # one level and their total variance rises with time.
        future = self.futures.month_number[self.options.underlying[option]]
        own = 0.95 + 0.1 * uniform(self.market.code, "own", future)
        atm = self.vol_level[session] * own * (0.9 + 0.2 * np.exp(-3.0 * t))
        theta = atm * atm * t
        rho = self.skew[session]
        phi = self.curvature[session] / np.sqrt(theta * (1.0 + theta))
        root = np.sqrt(1.0 - rho * rho)
        return Slices(
            t_years=t,
            a=theta / 2.0 * (1.0 - rho * rho),
            b=theta * phi / 2.0,
            rho=rho,
            m=-rho / phi,
            sigma=root / phi,
        )

    def option_price(self, chain: Chain, forward: Floats, at: Ints) -> Floats:
        """Return a chain's true prices: American, on the smile as it stands ``at`` (ns)."""
        smile = self.slices(chain.session, chain.option, at)
        strike = chain.strike.astype(np.float64)
        vol = smile.vol(np.log(strike / forward))
        rate = self.rate[chain.session]
        return np.asarray(american.price(forward, strike, smile.t_years, vol, rate, chain.is_call))

    def snapshot_price(self, chain: Chain) -> Floats:
        """Return a chain's true prices at the snapshot; it holds options that are quoted."""
        forward = self.future_snapshot(chain.session, self.options.underlying[chain.option])
        return self.option_price(chain, forward, self.sessions.snapshot_at[chain.session])

    def chain(self, first: int, last: int) -> Chain:
        """Return the options listed in sessions ``first`` to ``last`` - 1."""
        parts: list[tuple[Ints, Ints, Ints]] = []
        live = np.flatnonzero((self.options.first < last) & (self.options.last >= first))
        for option in live.tolist():
            strikes, listed = self._listed_strikes(option)
            begin, end = int(self.options.first[option]), int(self.options.last[option]) + 1
            lo, hi = max(first, begin), min(last, end)
            row, column = np.nonzero(listed[lo - begin : hi - begin])
            parts.append((row + lo, np.full(len(row), option), strikes[column]))
        session, option_index, strike = (
            np.concatenate([part[i] for part in parts]).astype(np.int64) for i in range(3)
        )
        order = np.lexsort((strike, option_index, session))
        session, option_index, strike = (
            np.repeat(values[order], 2) for values in (session, option_index, strike)
        )
        expires_at = self.options.expires_at[option_index]
        return Chain(
            session=session,
            option=option_index,
            strike=strike,
            is_call=np.tile([True, False], len(order)),
            quoted=expires_at > self.sessions.snapshot_at[session],
            settled=expires_at > self.sessions.close_at[session],
        )

    def _listed_strikes(self, option: int) -> tuple[Ints, Bools]:
        """Return an option month's strikes and, session by session, whether each is listed.

        The listing follows the closes before the session; a listed strike stays.
        """
        if option not in self._strikes:
            rules = self.product
            session = np.arange(self.options.first[option], self.options.last[option] + 1)
            future = np.full(len(session), self.options.underlying[option])
            close = self.future_close(session - 1, future)
            low = np.minimum.accumulate(close) * (1.0 - rules.strike_band)
            high = np.maximum.accumulate(close) * (1.0 + rules.strike_band)
            step = rules.strike_step
            strikes = np.arange(np.ceil(low[-1] / step), np.floor(high[-1] / step) + 1) * step
            strikes = strikes.astype(np.int64)
            days = self._days_left(self.options, session, np.full(len(session), option))
            wanted = (strikes % rules.far_strike_step == 0) | (days <= rules.near_days)[:, None]
            within = (strikes >= low[:, None]) & (strikes <= high[:, None])
            self._strikes[option] = (strikes, wanted & within)
        return self._strikes[option]

    def listed_strikes(self, option: int, last: int) -> tuple[Ints, Ints]:
        """Return an option month's strikes listed before session ``last``, and since which."""
        strikes, listed = self._listed_strikes(option)
        first = int(self.options.first[option])
        listed = listed[: max(last - first, 0)]
        there = listed.any(axis=0)
        return strikes[there], listed[:, there].argmax(axis=0) + first

    def open_interest(self, chain: Chain) -> Ints:
        """Return options open at the session's end: fewer away from the money and far out."""
        rules = self.product
        code, day = self.market.code, self._date[chain.session]
        future = self.options.underlying[chain.option]
        recent = np.zeros(len(chain.session))
        for back, weight in enumerate((0.4, 0.3, 0.2, 0.1)):  # positions lag the price
            recent += weight * self.future_close(chain.session - back, future)
        years = self._days_left(self.options, chain.session, chain.option) / 365.0
        if rules.oi_unit == "sd":
            away = np.log(chain.strike / recent)
            away /= rules.vol_level * np.sqrt(np.maximum(years, 0.02))
        else:
            away = (chain.strike - recent) / rules.strike_step
        decay = np.exp(-np.maximum(years - rules.oi_flat, 0.0) / rules.oi_decay)
        peak = rules.oi_floor + rules.oi_peak * decay
        spot = np.where(chain.is_call, away, -away) / rules.oi_width
        in_the_money = 0.25 + 0.75 / (1.0 + np.exp(-4.0 * spot))
        number = self._option_number(chain)
        noise = normal(code, "oi_own", number) + 0.15 * normal(code, "oi_day", number, day)
        level = peak * in_the_money * np.exp(-spot * spot + rules.oi_noise * noise)
        return np.rint(level).astype(np.int64)

    def volume(self, chain: Chain) -> Ints:
        """Return options cleared in the session; most of the far ones do not trade."""
        code, day = self.market.code, self._date[chain.session]
        number = self._option_number(chain)
        turnover = 0.06 * np.exp(0.8 * normal(code, "volume", number, day))
        return np.floor(self.open_interest(chain) * turnover).astype(np.int64)

    def option_id(self, option: Ints, strike: Ints, is_call: Bools) -> Ints:
        """Return the options' instrument ids, elementwise."""
        kind = np.where(is_call, 1, 2)
        return self._id(kind, self.options.month_number[option], strike // self.product.strike_step)

    def future_id(self, future: Ints) -> Ints:
        """Return the futures' instrument ids, elementwise."""
        return self._id(0, self.futures.month_number[future], 0)

    def spread_id(self, future: Ints) -> Ints:
        """Return the ids of the calendar spreads that begin with these futures, elementwise."""
        return self._id(3, self.futures.month_number[future], 1)

    def combination_id(self, option: Ints, user_defined: bool) -> Ints:
        """Return the ids of the option combinations, one of each sort a month, elementwise."""
        return self._id(3, self.options.month_number[option], 3 if user_defined else 2)

    def _option_number(self, chain: Chain) -> Ints:
        return self.option_id(chain.option, chain.strike, chain.is_call)

    def _id(self, kind: Ints | int, month_number: Ints, place: Ints | int) -> Ints:
        """Pack market (4 bits), kind (2), month (9) and strike place (13) into an id."""
        return (self.product.number << 24) | (kind << 22) | (month_number << 13) | place

    def session_index(self, day: date) -> int | None:
        """Return the index of a session, None when the market has none on that date."""
        place = int(np.searchsorted(self.sessions.day, np.datetime64(day)))
        if place < len(self.sessions) and self.sessions.day[place] == np.datetime64(day):
            return place
        return None


@lru_cache(maxsize=8)
def _world(market: Market, until_year: int) -> World:
    return World(market, until_year)


def world(market: Market, until: date) -> World:
    """Return the market's world, far enough to hold every contract listed by ``until``."""
    return _world(market, until.year + 2)
