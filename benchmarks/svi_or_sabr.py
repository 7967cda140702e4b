"""Which of SVI and SABR is steadier on 5 to 15 strikes: the study behind docs/svi-or-sabr.md.

    python -m benchmarks.svi_or_sabr [--data FOLDER] [--output FILE]

Three experiments, each with both models on the same quotes and weights:

- known truths of three families (SVI, SABR, mixtures of lognormals), quoted twice with spreads of
  10 to 30 %;
- real chains, thinned at random, whose other strikes are to be predicted;
- consecutive sessions of the sample vendor, whose true changes are known.

Vols are compared at points and quantities that both models have, in vol points (0.01 of vol).
Everything is drawn from fixed seeds: two runs give the same file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr

from etl.calendars import sessions
from etl.derive import derive
from etl.lake import Lake
from etl.landing import land
from etl.market import Market, markets
from etl.sources import chain, sample
from etl.stored import derived_files
from mathlib import _svi_solver, american, black76, sabr, svi

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Row = dict[str, Any]

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data"

SEED = 20_260_301
STRIKES, SPREADS = (5, 8, 12, 15), (0.1, 0.2, 0.3)
TRUTHS = 400  # a family, number of strikes and spread
DRAWS = 300  # thinned chains an expiry and number of strikes
SESSIONS = 160
REACHES = (3.0, 5.0)  # at-the-money deviations within which arbitrage is looked for
LEAST_ERROR = 0.0005  # no quote counts more than one that is right to 0.05 vol points


# --- the models ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quotes:
    """Slices in ragged layout, on a forward of 1."""

    offsets: Ints
    k: Floats
    vol: Floats
    weight: Floats
    t: Floats

    def ends(self) -> tuple[Floats, Floats]:
        """Least and greatest k of each slice; the quotes of a slice are in order of k."""
        return self.k[self.offsets[:-1]], self.k[self.offsets[1:] - 1]


@dataclass(frozen=True)
class Curves:
    """Fitted or true slices: vol and Durrleman's g at k of shape (slices, points)."""

    t: Floats
    good: NDArray[np.bool_]
    vol: Callable[[Floats], Floats]
    g: Callable[[Floats], Floats]

    def deviation(self) -> Floats:
        """At-the-money total standard deviation, (slices,)."""
        return self.vol(np.zeros((self.t.size, 1)))[:, 0] * np.sqrt(self.t)

    def density(self, k: Floats) -> Floats:
        """Density of ln(S/F)."""
        root = self.vol(k) * np.sqrt(self.t)[:, None]
        with np.errstate(all="ignore"):
            d = -k / root - 0.5 * root
            return np.asarray(self.g(k) * np.exp(-0.5 * d * d) / (np.sqrt(2.0 * np.pi) * root))


def svi_curves(t: Floats, good: NDArray[np.bool_], raw: Sequence[Floats]) -> Curves:
    columns = [x[:, None] for x in raw]
    return Curves(
        t,
        good,
        lambda k: np.sqrt(svi.total_variance(k, *columns) / t[:, None]),
        lambda k: svi.durrleman_g(k, *columns),
    )


def sabr_curves(
    t: Floats, good: NDArray[np.bool_], alpha: Floats, beta: Floats, rho: Floats, nu: Floats
) -> Curves:
    columns = [x[:, None] for x in (np.ones_like(t), t, alpha, beta, rho, nu)]
    return Curves(
        t,
        good,
        lambda k: sabr.vol(k, *columns),
        lambda k: sabr.durrleman_g(k, *columns),
    )


def fit_svi(quotes: Quotes) -> Curves:
    fit = svi.calibrate(quotes.offsets, quotes.k, quotes.vol, quotes.t, quotes.weight)
    return svi_curves(quotes.t, fit.status == 0, (fit.a, fit.b, fit.rho, fit.m, fit.sigma))


def fit_sabr(beta: float) -> Callable[[Quotes], Curves]:
    def fitted(quotes: Quotes) -> Curves:
        fit = sabr.calibrate(
            quotes.offsets, quotes.k, quotes.vol, 1.0, quotes.t, beta, quotes.weight
        )
        exponent = np.full(quotes.t.size, beta)
        return sabr_curves(quotes.t, fit.status == 0, fit.alpha, exponent, fit.rho, fit.nu)

    return fitted


MODELS: dict[str, Callable[[Quotes], Curves]] = {
    "SVI": fit_svi,
    "SABR β=1": fit_sabr(1.0),
    "SABR β=½": fit_sabr(0.5),
}
PAIR = ("SVI", "SABR β=1")


# --- what is compared ---------------------------------------------------------------------------


def smile_points(curves: Curves) -> Floats:
    """At-the-money vol, 25-delta risk reversal and butterfly in vol points, (3, slices)."""
    x = np.linspace(-3.0, 3.0, 601)
    k = curves.deviation()[:, None] * x
    vol = curves.vol(k)
    root = vol * np.sqrt(curves.t)[:, None]
    delta = ndtr(-k / root + 0.5 * root)
    middle = vol[:, 300]
    wings = []
    for target in (0.25, 0.75):  # the call, and the put of delta -0.25
        first = np.argmax(delta <= target, axis=1)
        row = np.arange(curves.t.size)
        high, low = delta[row, first - 1], delta[row, first]
        share = (high - target) / (high - low)
        wing = (1.0 - share) * vol[row, first - 1] + share * vol[row, first]
        wings.append(np.where((first > 0) & curves.good, wing, np.nan))
    call, put = wings
    return 100.0 * np.stack([middle, call - put, 0.5 * (call + put) - middle])


def arbitrage(curves: Curves) -> list[NDArray[np.bool_]]:
    """Whether each slice has a negative density within each of ``REACHES`` deviations."""
    k = curves.deviation()[:, None] * np.linspace(-1.0, 1.0, 401)
    return [np.asarray((curves.g(reach * k) < 0.0).any(axis=1)) for reach in REACHES]


def rms(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else float("nan")


def share(flags: NDArray[np.bool_] | np.bool_) -> float:
    """In per cent."""
    return float(100.0 * np.mean(flags))


# --- known truths -------------------------------------------------------------------------------


def times_and_vols(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    t = np.exp(rng.uniform(np.log(0.04), np.log(1.0), n))
    return t, rng.uniform(0.15, 0.5, n)


def svi_truths(rng: np.random.Generator, n: int) -> Curves:
    """Raw SVI slices that are free of butterfly arbitrage."""
    t, atm = times_and_vols(rng, 2 * n)
    scale = atm * np.sqrt(t)
    left, right = (rng.uniform(0.15, 0.8, 2 * n) * scale for _ in range(2))
    b, rho = 0.5 * (left + right), (right - left) / (right + left)
    m, sigma = rng.normal(0.0, 0.5, 2 * n) * scale, np.exp(rng.normal(0.1, 0.5, 2 * n)) * scale
    a = scale**2 - b * (np.hypot(m, sigma) - rho * m)
    raw = np.stack([a, b, rho, m, sigma])
    keep = np.flatnonzero(svi.butterfly_free(*raw))[:n]
    return svi_curves(t[keep], np.ones(n, dtype=np.bool_), list(raw[:, keep]))


def sabr_truths(rng: np.random.Generator, n: int) -> Curves:
    """Hagan's formula with a density that is positive within five deviations."""
    t, atm = times_and_vols(rng, 3 * n)
    beta = rng.choice([0.0, 0.5, 1.0], 3 * n)
    rho = np.tanh(rng.normal(0.0, 0.5, 3 * n))
    nu = np.exp(rng.normal(np.log(0.55), 0.4, 3 * n)) / np.sqrt(t)
    free = sabr.min_durrleman_g(1.0, t, atm, beta, rho, nu, 5.0) > 0.0
    keep = np.flatnonzero(free)[:n]
    parameters = (x[keep] for x in (atm, beta, rho, nu))
    return sabr_curves(t[keep], np.ones(n, dtype=np.bool_), *parameters)


def mixture_truths(rng: np.random.Generator, n: int) -> Curves:
    """Two lognormals: forwards apart by up to about a deviation, vols by up to a factor of 2."""
    t, atm = times_and_vols(rng, n)
    scale = atm * np.sqrt(t)
    share_one = rng.uniform(0.15, 0.85, n)
    gap = rng.normal(0.0, 0.6, n) * scale
    sizes = scale * np.exp(rng.uniform(np.log(0.7), np.log(1.4), (2, n)))
    weights = np.stack([share_one, 1.0 - share_one])
    means = np.stack([np.zeros(n), gap])
    means = means - np.log((weights * np.exp(means)).sum(axis=0))  # the forwards average to 1

    def vol(k: Floats) -> Floats:
        call = np.broadcast_to(k >= 0.0, k.shape)
        strike = np.exp(k)
        price = sum(
            weights[i][:, None]
            * black76.price(np.exp(means[i])[:, None], strike, 1.0, sizes[i][:, None], 0.0, call)
            for i in range(2)
        )
        return black76.implied_vol(price, 1.0, strike, t[:, None], 0.0, call)[0]

    def density(k: Floats) -> Floats:
        out = np.zeros(k.shape)
        for i in range(2):
            size = sizes[i][:, None]
            z = (k - means[i][:, None]) / size + 0.5 * size
            out += weights[i][:, None] * np.exp(-0.5 * z * z) / (np.sqrt(2.0 * np.pi) * size)
        return out

    def g(k: Floats) -> Floats:
        root = vol(k) * np.sqrt(t)[:, None]
        d = -k / root - 0.5 * root
        return np.asarray(density(k) * np.sqrt(2.0 * np.pi) * root * np.exp(0.5 * d * d))

    return Curves(t, np.ones(n, dtype=np.bool_), vol, g)


FAMILIES = {"SVI": svi_truths, "SABR": sabr_truths, "lognormal mixture": mixture_truths}


def strikes_of(rng: np.random.Generator, deviation: Floats, n: int) -> Floats:
    """Nearly even strikes over 1 to 1.8 deviations to each side of about the forward."""
    reach = rng.uniform(1.0, 1.8, deviation.size)[:, None]
    centre = rng.normal(0.0, 0.2, deviation.size)[:, None]
    place = np.linspace(-1.0, 1.0, n) + rng.uniform(-0.2, 0.2, (deviation.size, n)) / (n - 1)
    return deviation[:, None] * (centre + reach * place)


def quoted(rng: np.random.Generator, k: Floats, vol: Floats, t: Floats, spread: Floats) -> Quotes:
    """Out-of-the-money quotes whose true price is anywhere in a spread of this share of the mid.

    `k` and `vol` (slices, strikes), `spread` broadcastable to them.
    """
    years, call, strike = t[:, None], k >= 0.0, np.exp(k)
    price = black76.price(1.0, strike, years, vol, 0.0, call)
    mid = price * (1.0 + spread * rng.uniform(-0.5, 0.5, k.shape))
    seen, _ = black76.implied_vol(mid, 1.0, strike, years, 0.0, call)
    half = 0.5 * spread * mid / black76.vega(1.0, strike, years, seen)
    weight = 1.0 / np.maximum(half, LEAST_ERROR) ** 2
    offsets = np.arange(t.size + 1) * k.shape[1]
    return Quotes(offsets, k.ravel(), seen.ravel(), weight.ravel(), t)


def known_truths(
    spreads: Sequence[float] = SPREADS, models: Collection[str] = tuple(MODELS)
) -> list[Row]:
    """One row a family, number of strikes, spread and model."""
    rows = []
    for number, (family, make) in enumerate(FAMILIES.items()):
        for strikes in STRIKES:
            for spread in spreads:
                key = (SEED, 1, number, strikes, int(100 * spread))
                rng = np.random.default_rng(key)
                truth = make(rng, TRUTHS)
                k = strikes_of(rng, truth.deviation(), strikes)
                days = [quoted(rng, k, truth.vol(k), truth.t, np.array(spread)) for _ in range(2)]
                head = {"truth": family, "strikes": strikes, "spread": spread}
                rows += [
                    {**head, "model": model, **against_truth(truth, days, MODELS[model])}
                    for model in models
                ]
    return rows


def against_truth(
    truth: Curves, days: Sequence[Quotes], fit: Callable[[Quotes], Curves]
) -> dict[str, float]:
    """Errors of the first day's fit, and what differs between two quotations of one truth."""
    first, second = (fit(quotes) for quotes in days)
    deviation = truth.deviation()[:, None]
    low, high = (x[:, None] for x in days[0].ends())
    inside = low + (high - low) * np.linspace(0.0, 1.0, 31)
    outside = deviation * np.linspace(-2.5, 2.5, 61)
    out = np.where((outside < low) | (outside > high), outside, np.nan)
    wide = deviation * np.linspace(-5.0, 5.0, 401)
    miss_in = 100.0 * (first.vol(inside) - truth.vol(inside))
    miss_out = 100.0 * (first.vol(outside) - truth.vol(outside))
    distance = np.trapezoid(np.abs(first.density(wide) - truth.density(wide)), wide, axis=1)
    points = [smile_points(curves) for curves in (truth, first, second)]
    error, change = points[1] - points[0], (points[2] - points[1]) / np.sqrt(2.0)
    near, far = arbitrage(first)
    good = first.good & np.isfinite(miss_in).all(axis=1) & np.isfinite(points[1]).all(axis=0)
    square = np.mean(miss_in**2, axis=1)
    return {
        "rmse_inside": rms(miss_in),
        "rmse_outside": rms(miss_out[np.isfinite(out)]),
        "se_inside": float(np.std(square) / np.sqrt(square.size) / (2.0 * rms(miss_in))),
        **{f"error_{name}": rms(x) for name, x in zip(POINTS, error, strict=True)},
        **{f"noise_{name}": rms(x) for name, x in zip(POINTS, change, strict=True)},
        "density_l1": float(np.nanmedian(distance)),
        "arbitrage_3": share(near),
        "arbitrage_5": share(far),
        "failed": share(~good),
    }


POINTS = ("atm", "rr", "bf")


# --- real chains --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Smile:
    """The out-of-the-money, two-sided quotes of one real expiry, in order of strike."""

    name: str
    t: float
    k: Floats
    vol: Floats
    half_spread: Floats  # in vol

    def points(self) -> Floats:
        """`smile_points` of the whole chain, straight lines between its quotes."""
        one = np.ones(1, dtype=np.bool_)
        line = Curves(np.array([self.t]), one, lambda k: np.interp(k, self.k, self.vol), _no_g)
        return smile_points(line)


def _no_g(k: Floats) -> Floats:
    return np.full(k.shape, np.nan)


def real_smiles(data: Path) -> list[Smile]:
    """Land and derive the chain files in a lake of their own and read their quotes."""
    known, now = markets(), datetime(2026, 1, 1, tzinfo=UTC)
    payloads = {
        "SPX": chain.read(data / "chains" / "cboe_spx_2022-12-12.csv", "cboe", known["SPX"]),
        "CL": chain.read(
            data / "chains" / "barchart_wti_dec2025_2025-09-08.csv",
            "barchart",
            known["CL"],
            quote_time=datetime(2025, 9, 8, 20, 40, tzinfo=UTC),
            expiry=date(2025, 11, 17),
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "lake")
        with lake.writing(now):
            for code, payload in payloads.items():
                land(lake, payload, now, "vendor")
                derive(lake, known[code], now)
        quotes = pl.concat(pl.read_parquet(path) for path in derived_files(lake, "chain_v1"))
    out_of_the_money = (pl.col("option_type") == "C") == (pl.col("strike") >= pl.col("forward"))
    rows = quotes.filter(
        out_of_the_money,
        pl.col("price_source") == "quote",
        pl.col("iv").is_not_null(),
        pl.col("bid") > 0,
        pl.col("spread_pct") < 1,
    ).sort("market", "expiry", "strike")
    smiles = []
    for (code, expiry), of in rows.partition_by(
        "market", "expiry", as_dict=True, maintain_order=True
    ).items():
        k = np.log((of["strike"] / of["forward"]).to_numpy())
        vol, t = of["iv"].to_numpy(), float(of["t_years"][0])
        half = ((of["ask"] - of["bid"]) / 2.0 / of["vega"]).to_numpy()
        near = np.abs(k) <= 2.0 * vol[np.abs(k).argmin()] * np.sqrt(t)
        smiles.append(Smile(f"{code} {expiry}", t, k[near], vol[near], half[near]))
    return smiles


def real_chains(smiles: Sequence[Smile], models: Collection[str] = tuple(MODELS)) -> list[Row]:
    """One row an expiry, number of strikes, quotation and model."""
    rows = []
    for number, smile in enumerate(smiles):
        for strikes in STRIKES:
            for thin in (False, True):
                rng = np.random.default_rng((SEED, 2, number, strikes, thin))
                # Without replacement: the places of the smallest of as many uniforms.
                order = rng.random((DRAWS, smile.k.size)).argsort(axis=1)
                chosen = np.sort(order[:, :strikes], axis=1)
                held = np.ones((DRAWS, smile.k.size), dtype=np.bool_)
                np.put_along_axis(held, chosen, False, axis=1)
                k, vol, t = smile.k[chosen], smile.vol[chosen], np.full(DRAWS, smile.t)
                if thin:
                    quotes = quoted(rng, k, vol, t, np.array(0.2))
                else:
                    half = np.maximum(smile.half_spread[chosen], LEAST_ERROR)
                    offsets = np.arange(DRAWS + 1) * strikes
                    quotes = Quotes(offsets, k.ravel(), vol.ravel(), 1.0 / half.ravel() ** 2, t)
                head = {"smile": smile.name, "strikes": strikes, "spread_20": thin}
                rows += [
                    {**head, "model": model, **held_out(smile, quotes, held, MODELS[model])}
                    for model in models
                ]
    return rows


def held_out(
    smile: Smile, quotes: Quotes, held: NDArray[np.bool_], fit: Callable[[Quotes], Curves]
) -> dict[str, float]:
    """Errors on the strikes that the fit did not see, and the draw-to-draw scatter."""
    curves = fit(quotes)
    k = np.broadcast_to(smile.k, held.shape)
    miss = 100.0 * (curves.vol(k) - smile.vol)
    low, high = (x[:, None] for x in quotes.ends())
    between = held & (k > low) & (k < high)
    beyond = held & ((k < low) | (k > high))
    points = smile_points(curves)
    scatter, error = np.nanstd(points, axis=1), points - smile.points()
    near, far = arbitrage(curves)
    return {
        "rmse_inside": rms(miss[between]),
        "rmse_outside": rms(miss[beyond]),
        **{f"error_{name}": rms(x) for name, x in zip(POINTS, error, strict=True)},
        **{f"noise_{name}": float(x) for name, x in zip(POINTS, scatter, strict=True)},
        "arbitrage_3": share(near),
        "arbitrage_5": share(far),
        "failed": share(~np.isfinite(miss).all(axis=1) | ~np.isfinite(points).all(axis=0)),
    }


# --- consecutive sessions of the sample vendor --------------------------------------------------


def sample_slices(market: Market) -> Iterator[Row]:
    """Liquid out-of-the-money quotes of each session and expiry, and the true slice."""
    day = date(2024, 6, 3)
    for _ in range(SESSIONS):
        day = next_session(market, day)
        world = sample.truth(market, day)
        options = world.options.join(world.expiries, on="expiry").filter(
            pl.col("bid") > 0,
            pl.col("ask") >= pl.col("bid"),
            pl.col("open_interest_known") > market.min_open_interest,
            (pl.col("ask") - pl.col("bid"))
            < market.max_spread * (pl.col("ask") + pl.col("bid")) / 2,
            (pl.col("option_type") == "C") == (pl.col("strike") >= pl.col("forward")),
        )
        for (expiry,), of in (
            options.sort("expiry", "strike")
            .partition_by("expiry", as_dict=True, maintain_order=True)
            .items()
        ):
            if of.height >= svi.MIN_STRIKES:
                yield {"market": market.code, "day": day, "expiry": expiry, "options": of}
        day += timedelta(days=1)


def next_session(market: Market, day: date) -> date:
    following: date = sessions(market, day, day + timedelta(days=10))["session_date"][0]
    return following


def sample_quotes(slices: Sequence[Row]) -> tuple[Quotes, Curves]:
    """European-equivalent vols of the slices' mids, and the true slices."""
    of = pl.concat([one["options"] for one in slices])
    forward, strike, t, rate, bid, ask = (
        of[name].to_numpy() for name in ("forward", "strike", "t_years", "rate", "bid", "ask")
    )
    call = (of["option_type"] == "C").to_numpy()
    vol, _ = american.european_equivalent_vol(0.5 * (bid + ask), forward, strike, t, rate, call)
    half = 0.5 * (ask - bid) / black76.vega(forward, strike, t, vol, rate)
    offsets = np.concatenate([[0], np.cumsum([one["options"].height for one in slices])])
    first = of[offsets[:-1].tolist()]
    weight = 1.0 / np.maximum(half, LEAST_ERROR) ** 2
    k = np.log(strike / forward)
    years = first["t_years"].to_numpy()
    raw = [first[name].to_numpy() for name in ("a", "b", "rho", "m", "sigma")]
    good = np.ones(years.size, dtype=np.bool_)
    return Quotes(offsets, k, vol, weight, years), svi_curves(years, good, raw)


def consecutive_sessions() -> list[Row]:
    """One row a market, class of strike counts and model."""
    known, rows = markets(), []
    for code in ("HE", "ZO"):
        slices = list(sample_slices(known[code]))
        quotes, truth = sample_quotes(slices)
        true = smile_points(truth)
        counts = np.diff(quotes.offsets)
        before = previous(slices)
        for low, high in ((5, 7), (8, 15)):
            later = np.flatnonzero(before >= 0)
            later = later[(np.minimum(counts[later], counts[before[later]]) >= low)]
            later = later[np.maximum(counts[later], counts[before[later]]) <= high]
            earlier = before[later]
            if later.size < 30:
                continue
            moved = true[:, later] - true[:, earlier]
            for model, fit in MODELS.items():
                curves = fit(quotes)
                found = smile_points(curves)
                noise = (found[:, later] - found[:, earlier]) - moved
                near, far = arbitrage(curves)
                rows.append(
                    {
                        "market": code,
                        "strikes": f"{low}–{high}",
                        "pairs": int(later.size),
                        "model": model,
                        **{f"true_{p}": rms(x) for p, x in zip(POINTS, moved, strict=True)},
                        **{f"noise_{p}": rms(x) for p, x in zip(POINTS, noise, strict=True)},
                        **{
                            f"error_{p}": rms(x)
                            for p, x in zip(POINTS, (found - true)[:, later], strict=True)
                        },
                        "arbitrage_3": share(near[later]),
                        "arbitrage_5": share(far[later]),
                        "failed": share(~np.isfinite(found[:, later]).all(axis=0)),
                    }
                )
    return rows


def previous(slices: Sequence[Row]) -> Ints:
    """Place of each slice's expiry in the session before, -1 where it is not there."""
    days = sorted({one["day"] for one in slices})
    earlier = dict(zip(days[1:], days[:-1], strict=True))
    place = {(one["day"], one["expiry"]): i for i, one in enumerate(slices)}
    return np.array(
        [place.get((earlier.get(one["day"]), one["expiry"]), -1) for one in slices], dtype=np.int64
    )


# --- how much the priors decide -----------------------------------------------------------------


@contextmanager
def prior_widths(factor: float) -> Iterator[None]:
    """Both models' priors with standard deviations times `factor`."""
    wide = [tuple(factor * sd for sd in sds) for sds in (_svi_solver.PRIOR_SD, sabr._PRIOR_SD)]
    with (
        mock.patch.object(_svi_solver, "PRIOR_SD", wide[0]),
        mock.patch.object(sabr, "_PRIOR_SD", wide[1]),
    ):
        yield


def priors(smiles: Sequence[Smile], truths: Sequence[Row], chains: Sequence[Row]) -> list[Row]:
    """Both experiments at a spread of 20 %, with priors of half, the same and twice the width.

    `truths` and `chains` are those experiments' rows at the width that the models have.
    """
    rows: list[Row] = []
    for factor in (0.5, 1.0, 2.0):
        parts = truths, chains
        if factor != 1.0:
            with prior_widths(factor):
                parts = known_truths((0.2,), PAIR), real_chains(smiles, PAIR)
        for on, part in (
            ("known truths", [row for row in parts[0] if row["spread"] == 0.2]),
            ("real chains", [row for row in parts[1] if row["spread_20"]]),
        ):
            both = pooled([row for row in part if row["model"] in PAIR], ["model"])
            rows += [{"prior_width": factor, "on": on, **row} for row in both]
    return rows


# --- where Hagan's formula ends -----------------------------------------------------------------


def density_defects(smiles: Sequence[Smile]) -> list[Row]:
    """How far the densities of fitted SABR slices (beta = 1, 12 strikes, 20 %) are from one."""
    rng = np.random.default_rng((SEED, 3))
    rows = []
    truth = mixture_truths(rng, 5 * DRAWS)
    k = strikes_of(rng, truth.deviation(), 12)
    quotes = quoted(rng, k, truth.vol(k), truth.t, np.array(0.2))
    rows.append({"on": "lognormal mixtures", **defects(quotes)})
    for smile in smiles:
        order = rng.random((DRAWS, smile.k.size)).argsort(axis=1)
        chosen, t = np.sort(order[:, :12], axis=1), np.full(DRAWS, smile.t)
        quotes = quoted(rng, smile.k[chosen], smile.vol[chosen], t, np.array(0.2))
        rows.append({"on": smile.name, **defects(quotes)})
    return rows


def defects(quotes: Quotes) -> dict[str, float]:
    """Probability and mean that a density cannot place before it turns negative."""
    t = quotes.t[:, None]
    fit = sabr.calibrate(quotes.offsets, quotes.k, quotes.vol, 1.0, quotes.t, 1.0, quotes.weight)
    slices = (1.0, t, fit.alpha[:, None], 1.0, fit.rho[:, None], fit.nu[:, None])
    deviation = sabr.vol(0.0, *slices) * np.sqrt(t)
    missing, mean = np.zeros(quotes.t.size), np.zeros(quotes.t.size)
    for sign in (-1.0, 1.0):
        k = sign * deviation * np.geomspace(0.5, 500.0, 600)
        w, w1, _ = sabr.total_variance_derivatives(k, *slices)
        negative = np.cumsum(sabr.durrleman_g(k, *slices) < 0.0, axis=1) > 0
        root = np.sqrt(w)
        tails = []
        for half in (-0.5, 0.5):  # probability beyond k, and its part of the forward
            d = -k / root + half * root
            skew = np.exp(-0.5 * d * d) / np.sqrt(2.0 * np.pi) * w1 / (2.0 * root)
            tail = ndtr(sign * d) - sign * skew
            tails.append(np.where(negative, np.inf, np.abs(tail)).min(axis=1))
        missing += tails[0]
        mean += tails[1]
    worst = np.maximum(missing, mean)
    return {
        "median": float(np.median(worst)),
        "p95": float(np.quantile(worst, 0.95)),
        "above_1e-6": share(worst > 1e-6),
    }


# --- output -------------------------------------------------------------------------------------


def pooled(rows: Sequence[Row], keys: Sequence[str]) -> list[Row]:
    """Rows of equal `keys` made one: squares are averaged for errors, plain values otherwise."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    out = []
    for key, of in groups.items():
        values = {
            name: rms(np.array([row[name] for row in of]))
            if name.startswith(("rmse", "noise", "error", "true"))
            else float(np.mean([row[name] for row in of]))
            for name, value in of[0].items()
            if name not in keys and isinstance(value, float)
        }
        out.append({**dict(zip(keys, key, strict=True)), **values})
    return out


HEADINGS = {
    "rmse_inside": "inside",
    "rmse_outside": "outside",
    "density_l1": "density L1",
    "spread_20": "spread 20 %",
    "prior_width": "prior width",
    **{
        f"{kind}_{name}": f"{name.upper()} {kind}"
        for kind in ("error", "noise", "true")
        for name in POINTS
    },
    "arbitrage_3": "arbitrage within 3 sd, %",
    "arbitrage_5": "within 5 sd, %",
    "failed": "failed, %",
    "above_1e-6": "above 1e-6, %",
}


def markdown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    names = (HEADINGS.get(column, column) for column in columns)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}" if 0.1 <= abs(value) < 1e3 or value == 0.0 else f"{value:.2g}"
    return str(value)


def tables(result: dict[str, list[Row]]) -> Iterator[tuple[str, str]]:
    """Titles and Markdown tables of the document."""
    errors, noises = ([f"{kind}_{name}" for name in POINTS] for kind in ("error", "noise"))
    measures = ["rmse_inside", "rmse_outside", *errors, *noises]
    truth, chains, days = (
        result[name] for name in ("known_truths", "real_chains", "consecutive_sessions")
    )
    thin, dense = ([row for row in chains if row["spread_20"] is x] for x in (True, False))

    def of_pair(rows: Sequence[Row], keys: list[str], columns: Sequence[str] = ()) -> str:
        pair = pooled([row for row in rows if row["model"] in PAIR], keys)
        return markdown(pair, [*keys, *measures, *columns])

    keys = ["truth", "model"]
    yield "Known truths", markdown(pooled(truth, keys), [*keys, *measures, "density_l1"])
    for name in ("strikes", "spread"):
        yield f"Known truths by {name}", of_pair(truth, [name, "model"], ["density_l1"])
    keys = ["spread_20", "model"]
    yield "Real chains", markdown(pooled(chains, keys), [*keys, *measures])
    for name in ("strikes", "smile"):
        for how, part in (("as quoted", dense), ("spread 20 %", thin)):
            yield f"Real chains by {name}, {how}", of_pair(part, [name, "model"])
    columns = ["market", "strikes", "pairs", "model", *(f"true_{name}" for name in POINTS)]
    yield "Consecutive sessions", markdown(days, [*columns, *noises, *errors])
    columns = ["prior_width", "on", "model", *measures]
    yield "Widths of both priors", markdown(result["priors"], columns)
    columns = ["on", "model", "arbitrage_3", "arbitrage_5", "failed"]
    counts = [
        {"on": on, **row}
        for on, part in (
            ("known truths", truth),
            ("real chains, as quoted", dense),
            ("real chains, spread 20 %", thin),
            ("consecutive sessions", days),
        )
        for row in pooled(part, ["model"])
    ]
    yield "Arbitrage and failures", markdown(counts, columns)
    columns = list(result["density_defects"][0])
    yield "What SABR densities do not place", markdown(result["density_defects"], columns)


def rounded(value: Any) -> Any:
    """Six digits: the last bits of a libm are no result."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    if isinstance(value, dict):
        return {key: rounded(x) for key, x in value.items()}
    return [rounded(x) for x in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real files")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "svi_or_sabr.json")
    given = parser.parse_args()
    smiles = real_smiles(given.data)
    truths, chains = known_truths(), real_chains(smiles)
    result = rounded(
        {
            "smiles": [
                {"smile": smile.name, "t_years": smile.t, "quotes": smile.k.size}
                for smile in smiles
            ],
            "known_truths": truths,
            "real_chains": chains,
            "consecutive_sessions": consecutive_sessions(),
            "priors": priors(smiles, truths, chains),
            "density_defects": density_defects(smiles),
        }
    )
    for title, table in tables(result):
        print(f"\n{title}\n\n{table}")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
