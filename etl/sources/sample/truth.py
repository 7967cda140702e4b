"""What the sample's world is on a session, for tests that compare the lake with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl.errors import BadInput
from etl.market import Market
from etl.sources.sample.definitions import option_symbol
from etl.sources.sample.quotes import snapshot_quotes
from etl.sources.sample.statistics import future_preliminary, option_settlements
from etl.sources.sample.world import FIRST_SESSION, Chain, World, world
from mathlib import density, moments

__all__ = ["Truth", "truth"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SVI = ("a", "b", "rho", "m", "sigma")


@dataclass(frozen=True)
class Truth:
    """One market-session.

    Attributes
    ----------
    futures : one row a listed outright: ``contract, instrument_id, expiration, price`` (at the
        snapshot), ``settlement, settlement_preliminary, open_interest, volume`` (of this session)
        and ``open_interest_known, volume_known`` (the newest published by the cut-off).
    expiries : one row an expiry alive at the snapshot: ``expiry`` (date), ``expiration``
        (instant), ``underlying``, ``forward``, ``t_years`` (ACT/365 from the snapshot), ``rate``,
        ``atm_iv`` and raw SVI ``a, b, rho, m, sigma`` of total variance.
    settlement_expiries : the same at the close, on the futures' final settlements.
    options : one row a listed option: ``expiry, option_type, strike, contract, instrument_id``,
        ``price`` (true, American, at the snapshot), ``bid, ask`` (at the snapshot), and what
        ``futures`` has.

    A value that does not exist (after expiry, not yet published, no bid) is NULL.
    """

    market: str
    session_date: date
    snapshot_at: datetime
    close_at: datetime
    futures: pl.DataFrame
    expiries: pl.DataFrame
    settlement_expiries: pl.DataFrame
    options: pl.DataFrame

    def density(self, expiry: date, strike: Floats) -> Floats:
        """Return the undiscounted risk-neutral density at the snapshot, in strike."""
        row = self._expiry(expiry)
        return np.asarray(density.pdf(strike, row["forward"], *(row[name] for name in _SVI)))

    def moments(self, expiry: date) -> dict[str, float]:
        """Return ``moments.from_svi`` of one expiry at the snapshot."""
        row = self._expiry(expiry)
        values = (np.array([row[name]]) for name in ("forward", *_SVI))
        return {name: value[0].item() for name, value in moments.from_svi(*values).items()}

    def _expiry(self, expiry: date) -> dict[str, float]:
        return self.expiries.row(by_predicate=pl.col("expiry") == expiry, named=True)


def truth(market: Market, session_date: date) -> Truth:
    """Return the sample's world on a session.

    Raises
    ------
    BadInput
        The sample does not have the market, or the market no session on that date.
    """
    place = world(market, session_date)
    session = place.session_index(session_date)
    if session is None or session_date < FIRST_SESSION:
        raise BadInput(
            f"sample: {market.code} has no session on {session_date}: give one since"
            f" {FIRST_SESSION}"
        )
    chain = place.chain(session, session + 1)
    months = np.unique(chain.option)
    snapshot = place.sessions.snapshot_at[session]
    close = place.sessions.close_at[session]
    underlying = place.options.underlying[months]
    here = np.full(len(months), session)
    return Truth(
        market=market.code,
        session_date=session_date,
        snapshot_at=_instant(snapshot),
        close_at=_instant(close),
        futures=_futures(place, session),
        expiries=_expiries(place, months, snapshot, place.future_snapshot(here, underlying), here),
        settlement_expiries=_expiries(
            place, months, close, place.future_settlement(here, underlying), here
        ),
        options=_options(place, chain, session),
    )


def _futures(place: World, session: int) -> pl.DataFrame:
    future = place.listed_futures(np.array([session]))[0]
    here = np.full(len(future), session)
    before = np.searchsorted(place.sessions.day, np.datetime64(FIRST_SESSION)) < session
    was_listed = (place.futures.first[future] < session) & before
    expires_at = place.futures.expires_at[future]
    settled = expires_at > place.sessions.close_at[session]
    return pl.DataFrame(
        {
            "contract": [place.futures.stem[i] for i in future],
            "instrument_id": place.future_id(future),
            "expiration": _instants(expires_at),
            "price": _where(
                expires_at > place.sessions.snapshot_at[session],
                place.future_snapshot(here, future),
            ),
            "settlement": _where(settled, place.future_settlement(here, future)),
            "settlement_preliminary": _where(settled, future_preliminary(place, here, future)),
            "open_interest": _where(settled, place.future_open_interest(here, future)),
            "volume": _where(settled, place.future_volume(here, future)),
            "open_interest_known": _where(was_listed, place.future_open_interest(here - 1, future)),
            "volume_known": _where(was_listed, place.future_volume(here - 1, future)),
        }
    )


def _expiries(
    place: World, months: Ints, at: np.int64, forward: Floats, here: Ints
) -> pl.DataFrame:
    live = place.options.expires_at[months] > at
    months, forward, here = months[live], forward[live], here[live]
    smile = place.slices(here, months, np.full(len(months), at))
    return pl.DataFrame(
        {
            "expiry": place.options.expiry[months],
            "expiration": _instants(place.options.expires_at[months]),
            "underlying": [place.futures.stem[i] for i in place.options.underlying[months]],
            "forward": forward,
            "t_years": smile.t_years,
            "rate": place.rate[here],
            "atm_iv": smile.vol(np.zeros(len(months))),
            **{name: getattr(smile, name) for name in _SVI},
        }
    )


def _options(place: World, chain: Chain, session: int) -> pl.DataFrame:
    n = len(chain.session)
    price, bid, ask, preliminary, final = (np.full(n, np.nan) for _ in range(5))
    quoted = chain.where(chain.quoted)
    price[chain.quoted] = place.snapshot_price(quoted)
    bid[chain.quoted], ask[chain.quoted] = snapshot_quotes(place, quoted, price[chain.quoted])
    settled = chain.where(chain.settled)
    preliminary[chain.settled], final[chain.settled] = option_settlements(place, settled)

    names = ("option", "strike", "is_call")
    yesterday = place.chain(session - 1, session)
    yesterday = yesterday.where(yesterday.settled)
    known = pl.DataFrame(
        {
            **{name: getattr(yesterday, name) for name in names},
            "open_interest_known": place.open_interest(yesterday),
            "volume_known": place.volume(yesterday),
        }
    )
    if place.sessions.day[session - 1] < np.datetime64(FIRST_SESSION):
        known = known.clear()
    today = pl.DataFrame(
        {
            "expiry": place.options.expiry[chain.option],
            "option_type": np.where(chain.is_call, "C", "P"),
            **{name: getattr(chain, name) for name in names},
            "contract": [
                option_symbol(place, *one)
                for one in zip(*(getattr(chain, name).tolist() for name in names), strict=True)
            ],
            "instrument_id": place.option_id(chain.option, chain.strike, chain.is_call),
            "price": price,
            "bid": bid,
            "ask": ask,
            "settlement": final,
            "settlement_preliminary": preliminary,
            "open_interest": _where(chain.settled, place.open_interest(chain)),
            "volume": _where(chain.settled, place.volume(chain)),
        },
    )
    return (
        today.join(known, on=names, how="left", maintain_order="left")
        .with_columns(pl.col(pl.Float64).fill_nan(None), pl.col("strike").cast(pl.Float64))
        .drop("option", "is_call")
    )


def _where(there: NDArray[np.bool_], values: Floats | Ints) -> pl.Series:
    series = pl.Series(values)
    return series.zip_with(pl.Series(there), pl.Series([None] * len(series), dtype=series.dtype))


def _instants(ns: Ints) -> pl.Series:
    return pl.Series(ns // 1000).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _instant(ns: np.int64) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(ns) // 1000)
