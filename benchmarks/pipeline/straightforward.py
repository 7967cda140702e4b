"""The straightforward build that the literature suggests: pandas, scipy and SQLite.

A strike's vol is a root by Brent's method: of Black-76, or, where the options are American, of its
quadratic approximation (Barone-Adesi and Whaley, "Efficient analytic approximation of American
option values", Journal of Finance 42, 1987), as is usual for options on futures (Trolle and
Schwartz, "Unspanned stochastic volatility and the pricing of commodity derivatives", Review of
Financial Studies 22, 2009).  A slice's raw SVI parameters (Gatheral,
"A parsimonious arbitrage-free implied volatility parameterization", 2004) are a minimum of
vega-weighted squared errors under the usual bounds; the density is the second difference of call
prices on a fine grid (Breeden and Litzenberger, "Prices of state-contingent claims implicit in
option prices", Journal of Business 51, 1978), and its moments and probabilities are integrals
over that; exposures of dealers are sums over the rows of a chain.  The raw Parquet files of a lake
go in, both of a session's price sources are computed, and the tables come out in SQLite.

What is a column operation in pandas is one; what is solved is solved one by one.  The normal
distribution is scipy's, as nearly all printed code has it, or the standard library's error
function, which a practised hand puts in its place: a number at a time it is fifty times as fast.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.stats import norm

from etl.market import Market

__all__ = ["NORMALS", "Built", "build"]

Floats = NDArray[np.float64]

_YEAR = 365.0 * 86_400.0
_GRID = 400  # strikes of a density
_REACH = 6.0  # standard deviations to either side
_SETTLEMENT, _VOLUME, _OPEN_INTEREST = 3, 6, 9
_SVI = ("a", "b", "rho", "m", "sigma")
_MIN_STRIKES, _MIN_OPEN_INTEREST, _MAX_SPREAD = 8, 50, 0.2


class Seconds(NamedTuple):
    """What a build of some sessions took: all of the market's raw rows are loaded in any case."""

    load: float
    sessions: float

    def of(self, sessions: int, timed: int) -> float:
        """What so many sessions take, each as long as one of those timed."""
        return self.load + self.sessions / timed * sessions


@dataclass(frozen=True)
class Built:
    """What a build took, and what it gave."""

    wall: Seconds
    cpu: Seconds
    sessions: int
    chain: pd.DataFrame
    moments: pd.DataFrame


def build(
    raw: Path,
    market: Market,
    cut_offs: Sequence[tuple[date, datetime]],
    database: Path,
    *,
    early_exercise: bool = True,
    normal: str = "scipy",
) -> Built:
    """Build the tables of some sessions of a market, as known at each one's cut-off and evening.

    Parameters
    ----------
    raw : the lake's folder of raw files
    cut_offs : session date and cut-off of each session
    database : the SQLite file to make
    early_exercise : whether vols are freed of it, where the market's options are American
    normal : which of ``NORMALS`` the formulas take
    """
    is_american = early_exercise and market.exercise == "american"
    formulas = _Formulas(*NORMALS[normal], is_american)
    begin, cpu = time.perf_counter(), time.process_time()
    names = ("option_definition", "option_quote", "option_stat", "futures_quote", "futures_stat")
    rows = {name: _load(raw / f"dataset={name}" / f"market={market.code}") for name in names}
    loaded, cpu_loaded = time.perf_counter(), time.process_time()
    chains, moments = [], []
    with sqlite3.connect(database) as store:
        for day, cut_off in cut_offs:
            evening = pd.Timestamp(cut_off).normalize() + pd.Timedelta(hours=23, minutes=30)
            for source, known_at in (("quote", pd.Timestamp(cut_off)), ("settlement", evening)):
                chain = _chain(rows, market, day, pd.Timestamp(cut_off), known_at, source, formulas)
                tables = {"chain": chain, **_slices(chain, day, source)}
                tables["flows"] = _flows(chain, market, day, source)
                for name, table in tables.items():
                    table.to_sql(name, store, if_exists="append", index=False)
                chains.append(chain)
                moments.append(tables["moments"])
    return Built(
        Seconds(loaded - begin, time.perf_counter() - loaded),
        Seconds(cpu_loaded - cpu, time.process_time() - cpu_loaded),
        len(cut_offs),
        pd.concat(chains),
        pd.concat(moments),
    )


def _load(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.rglob("*.parquet"))])


# -- the chain ------------------------------------------------------------------------------------


def _chain(
    rows: dict[str, pd.DataFrame],
    market: Market,
    day: date,
    cut_off: pd.Timestamp,
    known_at: pd.Timestamp,
    source: str,
    formulas: _Formulas,
) -> pd.DataFrame:
    """One row an option with a price: quote or settlement, open interest, vol and Greeks."""
    definitions = _newest(rows["option_definition"], known_at)
    quotes = _newest(_since(rows["option_quote"], cut_off.normalize()), cut_off)
    stats = _since(rows["option_stat"], cut_off - pd.Timedelta(days=10))
    settled = stats[(stats["stat_type"] == _SETTLEMENT) & (stats["ref_date"] == day)]
    settlements = _newest(settled, known_at)
    open_interest = _newest(stats[stats["stat_type"] == _OPEN_INTEREST], known_at)
    volume = _newest(stats[stats["stat_type"] == _VOLUME], known_at)
    chain = definitions[["contract", "option_type", "strike", "expiration", "underlying"]].copy()
    chain[["bid", "ask"]] = quotes[["bid", "ask"]]
    chain["settlement"] = settlements["price"]
    chain["open_interest"] = open_interest["quantity"]
    chain["volume"] = volume["quantity"]
    chain = chain[chain["expiration"] > cut_off].reset_index()
    chain["mid"] = (chain["bid"] + chain["ask"]) / 2
    chain["price"] = chain["mid"] if source == "quote" else chain["settlement"]
    chain = chain.dropna(subset=["price"])
    chain["forward"] = chain["underlying"].map(_forwards(rows, day, cut_off, known_at, source))
    chain["t_years"] = (chain["expiration"] - cut_off).dt.total_seconds() / _YEAR
    chain["rate"] = next(rate for since, rate in reversed(market.risk_free) if since <= day)
    spread = (chain["ask"] - chain["bid"]) / chain["mid"]
    traded = chain["open_interest"] > (_MIN_OPEN_INTEREST if source == "quote" else 0)
    chain["is_liquid"] = traded & ((spread < _MAX_SPREAD) | (source != "quote"))
    chain["is_call"] = chain["option_type"] == "C"
    chain["iv"] = chain.apply(formulas.vol, axis=1)
    greeks = chain.apply(formulas.greeks, axis=1, result_type="expand")
    chain[["delta", "gamma", "vega", "vanna", "charm"]] = greeks
    chain["session_date"], chain["price_source"] = day, source
    return chain


def _since(rows: pd.DataFrame, instant: pd.Timestamp) -> pd.DataFrame:
    return rows[rows["available_at"] >= instant]


def _newest(rows: pd.DataFrame, known_at: pd.Timestamp) -> pd.DataFrame:
    """The newest row of each instrument that was known at an instant."""
    known = rows[rows["available_at"] <= known_at].sort_values(["as_of", "available_at"])
    return known.groupby("instrument_id").last()


def _forwards(
    rows: dict[str, pd.DataFrame],
    day: date,
    cut_off: pd.Timestamp,
    known_at: pd.Timestamp,
    source: str,
) -> pd.Series:
    if source == "quote":
        quotes = _newest(_since(rows["futures_quote"], cut_off.normalize()), cut_off)
        return quotes.assign(price=(quotes["bid"] + quotes["ask"]) / 2).set_index("contract")[
            "price"
        ]
    stats = rows["futures_stat"]
    settled = stats[(stats["stat_type"] == _SETTLEMENT) & (stats["ref_date"] == day)]
    return _newest(settled, known_at).set_index("contract")["price"]


# -- what is solved and computed option by option -------------------------------------------------


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def _pdf(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


#: Distribution and density of the standard normal, by where they come from.
NORMALS = {"scipy": (norm.cdf, norm.pdf), "erfc": (_cdf, _pdf)}


@dataclass(frozen=True)
class _Formulas:
    """Prices, vols and Greeks of one option."""

    cdf: Callable[[float], float]
    pdf: Callable[[float], float]
    is_american: bool

    def vol(self, row: pd.Series) -> float:
        terms = (row["forward"], row["strike"], row["t_years"])
        price = self.american if self.is_american else self.black

        def miss(vol: float) -> float:
            return price(*terms, vol, row["rate"], row["is_call"]) - float(row["price"])

        try:
            return float(brentq(miss, 1e-3, 5.0, xtol=1e-8))
        except ValueError:  # below the least or above the most that it can be worth
            return math.nan

    def black(self, f: float, k: float, t: float, vol: float, rate: float, is_call: bool) -> float:
        sd = vol * math.sqrt(t)
        d1 = math.log(f / k) / sd + sd / 2
        sign = 1.0 if is_call else -1.0
        value = sign * (f * self.cdf(sign * d1) - k * self.cdf(sign * (d1 - sd)))
        return math.exp(-rate * t) * value

    def american(
        self, f: float, k: float, t: float, vol: float, rate: float, is_call: bool
    ) -> float:
        """Barone-Adesi and Whaley's price of an American option on a future."""
        sign = 1.0 if is_call else -1.0
        carry = 8 * rate / (vol * vol * -math.expm1(-rate * t))
        power = (1 + sign * math.sqrt(1 + carry)) / 2
        discount, sd = math.exp(-rate * t), vol * math.sqrt(t)
        limit = k / (1 - 1 / ((1 + sign * math.sqrt(1 + 8 * rate / (vol * vol))) / 2))
        critical = k + (limit - k) * -math.expm1(-2 * sd * k / abs(limit - k))
        for _ in range(20):  # Newton, from the paper's first guess
            d1 = math.log(critical / k) / sd + sd / 2
            cdf = self.cdf(sign * d1)
            miss = self.black(critical, k, t, vol, rate, is_call) - sign * (critical - k)
            miss += sign * (1 - discount * cdf) * critical / power
            slope = sign * discount * cdf * (1 - 1 / power)
            slope += sign * (1 - sign * discount * self.pdf(d1) / sd) / power - sign
            step = miss / slope
            critical = max(critical - step, 1e-3 * k)
            if abs(step) < 1e-6 * k:
                break
        if sign * (f - critical) >= 0:
            return sign * (f - k)
        d1 = math.log(critical / k) / sd + sd / 2
        premium = sign * critical / power * (1 - discount * self.cdf(sign * d1))
        return self.black(f, k, t, vol, rate, is_call) + premium * float((f / critical) ** power)

    def greeks(self, row: pd.Series) -> tuple[float, ...]:
        f, k, t, vol, rate = (row[name] for name in ("forward", "strike", "t_years", "iv", "rate"))
        if not vol > 0:
            return (math.nan,) * 5
        root = math.sqrt(t)
        d1 = math.log(f / k) / (vol * root) + vol * root / 2
        d2 = d1 - vol * root
        discount, density = math.exp(-rate * t), self.pdf(d1)
        delta = discount * (self.cdf(d1) if row["is_call"] else self.cdf(d1) - 1)
        gamma = discount * density / (f * vol * root)
        vega = discount * f * density * root
        vanna = -discount * density * d2 / vol
        charm = rate * delta + discount * density * d2 / (2 * t)
        return delta, gamma, vega, vanna, charm


# -- slices, densities and moments ----------------------------------------------------------------


def _slices(chain: pd.DataFrame, day: date, source: str) -> dict[str, pd.DataFrame]:
    """SVI parameters, density and moments of each expiry that has enough liquid strikes."""
    surface, densities, moments = [], [], []
    is_otm = chain["is_call"] == (chain["strike"] >= chain["forward"])
    used = chain[is_otm & chain["is_liquid"] & chain["iv"].notna()]
    for expiry, options in used.groupby("expiration"):
        if len(options) < _MIN_STRIKES:
            continue
        forward, t_years = float(options["forward"].iloc[0]), float(options["t_years"].iloc[0])
        k = np.log(options["strike"].to_numpy() / forward)
        parameters = _fit(k, options["iv"].to_numpy(), options["vega"].to_numpy(), t_years)
        head = {"session_date": day, "price_source": source, "expiration": expiry}
        surface.append({**head, **dict(zip(_SVI, parameters, strict=True))})
        strike, density = _density(parameters, forward, t_years)
        densities.append(pd.DataFrame({**head, "strike": strike, "density": density}))
        moments.append({**head, "forward": forward, **_moments(strike, density, forward)})
    return {
        "surface": pd.DataFrame(surface),
        "density": pd.concat(densities) if densities else pd.DataFrame(),
        "moments": pd.DataFrame(moments),
    }


def _variance(k: Floats, parameters: Sequence[float] | Floats) -> Floats:
    a, b, rho, m, sigma = parameters
    return np.asarray(a + b * (rho * (k - m) + np.sqrt((k - m) ** 2 + sigma**2)))


def _fit(k: Floats, vol: Floats, vega: Floats, t_years: float) -> Floats:
    """Raw SVI by SLSQP, from the usual first guess; total variance is nowhere negative."""
    variance, weight = vol * vol * t_years, vega / vega.sum()

    def miss(x: Floats) -> float:
        model = np.sqrt(np.maximum(_variance(k, x), 1e-12) / t_years)
        return float(np.sum(weight * (model - vol) ** 2) * 1e4)

    bounds = [(-1.0, variance.max()), (1e-5, 2.0), (-0.999, 0.999), (-1.0, 1.0), (1e-3, 2.0)]
    guess = np.array([0.5 * variance.min(), 0.1, -0.3, k[variance.argmin()], 0.1])
    positive = {
        "type": "ineq",
        "fun": lambda x: x[0] + x[1] * x[4] * np.sqrt(max(1 - x[2] ** 2, 0.0)),
    }
    found = minimize(miss, guess, method="SLSQP", bounds=bounds, constraints=[positive])
    return np.asarray(found.x)


def _density(parameters: Floats, forward: float, t_years: float) -> tuple[Floats, Floats]:
    """The undiscounted density on a grid: the second difference of the call's price."""
    reach = _REACH * math.sqrt(float(_variance(np.zeros(1), parameters)[0]))
    strike = np.linspace(forward * math.exp(-reach), forward * math.exp(reach), _GRID)
    sd = np.sqrt(np.maximum(_variance(np.log(strike / forward), parameters), 1e-12))
    d1 = np.log(forward / strike) / sd + sd / 2
    call = forward * norm.cdf(d1) - strike * norm.cdf(d1 - sd)
    step = strike[1] - strike[0]
    density = np.maximum(np.diff(call, 2) / step**2, 0.0)
    strike = strike[1:-1]
    return strike, density / np.trapezoid(density, strike)


def _moments(strike: Floats, density: Floats, forward: float) -> dict[str, float]:
    def mean(values: Floats) -> float:
        return float(np.trapezoid(values * density, strike))

    middle = mean(strike)
    variance = mean((strike - middle) ** 2)
    found: dict[str, float] = {"mean": middle, "variance": variance}
    found["skew"] = mean((strike - middle) ** 3) / variance**1.5
    found["kurtosis"] = mean((strike - middle) ** 4) / variance**2
    log = np.log(strike / forward)
    found["log_mean"] = mean(log)
    found["log_variance"] = mean((log - found["log_mean"]) ** 2)
    for name, power in (("log_skew", 3), ("log_kurtosis", 4)):
        central = mean((log - found["log_mean"]) ** power)
        found[name] = central / found["log_variance"] ** (power / 2)
    step = strike[1] - strike[0]
    cdf = np.cumsum(density) * step
    for percent in (1, 5, 10, 25, 50, 75, 90, 95, 99):
        found[f"q{percent:02d}"] = float(np.interp(percent / 100, cdf, strike))
    found["p_down_10"] = float(np.interp(0.9 * forward, strike, cdf))
    found["p_up_10"] = 1 - float(np.interp(1.1 * forward, strike, cdf))
    return found


# -- dealers' exposures ---------------------------------------------------------------------------


def _flows(chain: pd.DataFrame, market: Market, day: date, source: str) -> pd.DataFrame:
    """Exposures a strike, by open interest and by volume, under three conventions."""
    signs = {
        "dealer_short": lambda is_call: -1.0,
        "dealer_long": lambda is_call: 1.0,
        "calls_long_puts_short": lambda is_call: 1.0 if is_call else -1.0,
    }
    solved = chain[chain["iv"].notna()]
    made: list[dict[str, Any]] = []
    for weight in ("open_interest", "volume"):
        for convention, sign in signs.items():
            for row in solved.itertuples():
                contracts = getattr(row, weight)
                if not contracts > 0:
                    continue
                held = sign(row.is_call) * contracts * market.multiplier
                made.append(
                    {
                        "expiration": row.expiration,
                        "strike": row.strike,
                        "weight": weight,
                        "convention": convention,
                        "gex": held * row.gamma * row.forward**2 * 0.01,
                        "vanna_flow": held * row.vanna * row.forward * 0.01,
                        "charm_flow": held * row.charm * row.forward / 365.0,
                    }
                )
    by_strike = ["expiration", "strike", "weight", "convention"]
    table = pd.DataFrame(made).groupby(by_strike, as_index=False).sum()
    return table.assign(session_date=day, price_source=source)
