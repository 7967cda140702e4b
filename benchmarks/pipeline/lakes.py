"""Generated lakes: end-of-day chains of as many synthetic markets and years as wished.

A market has as many monthly expiries as its size says, each on a future of its own, and as many
strikes around each future, calls and puts.  Of a session there are the definitions of all of
them, one quote of each at the snapshot, minute and day bars of the futures, settlements in the
evening, and on the next morning the open interest and the volume; of a week the CFTC's report.
All of it is landed as a vendor's payload is.  What a session has hangs on the market and the date
alone, so a lake of fewer years is the end of a lake of more.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl import calendars, cot_releases
from etl.market import Market, markets, rate_on
from etl.schemas import COT_DATASETS, source_schema
from etl.sources import Payload, conform
from etl.sources.sample.noise import normal, uniform
from mathlib import american

__all__ = ["DENSE", "LAST_YEAR", "TINY", "Size", "World", "market_files", "parse", "sizes"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Every lake ends with this year.
LAST_YEAR = 2024

_FIRST = date(2012, 1, 1)  # paths begin here, before the first lake does
_LETTERS = "FGHJKMNQUVXZ"
_DAY = 86_400_000_000
_SETTLEMENT, _VOLUME, _OPEN_INTEREST = 3, 6, 9
_NO_FLAGS, _FINAL_FLAGS = 255, 7
_BARS = 10  # minutes before the snapshot that have bars
_OFFSET = 500  # strikes of an expiry have room for so many either side of each other in ids


@dataclass(frozen=True)
class Size:
    """How much a lake holds: markets, years, and of a session expiries and strikes of each.

    So many expiries and strikes as the sample vendor's lean hogs have, if nothing else is said.
    """

    name: str
    markets: int
    years: int
    months: int = 12  # of the last year, for a lake that is to be made in seconds
    expiries: int = 6
    strikes: int = 32

    @property
    def first(self) -> date:
        return date(LAST_YEAR - self.years + 1, 13 - self.months, 1)

    @property
    def codes(self) -> list[str]:
        return [f"B{number:02d}" for number in range(1, self.markets + 1)]

    @property
    def words(self) -> str:
        """All of it in one word, which ``parse`` reads."""
        return "-".join(map(str, astuple(self)))


#: A market-year of a dense market.
DENSE = Size("dense", 1, 1, 12, 12, 60)

#: The lakes that are asked for by name; others by ``MARKETSxYEARS``.
TINY = (Size("1x1 tiny", 1, 1, 1, 3, 16), Size("2x1 tiny", 2, 1, 1, 3, 16))


def sizes(text: str) -> tuple[Size, ...]:
    """The sizes that a person asks for: ``tiny``, or some ``MARKETSxYEARS``.

    Raises
    ------
    ValueError
        A word is neither.
    """
    if text == "tiny":
        return TINY
    found = []
    for word in text.split():
        if not re.fullmatch(r"[1-9]\d?x([1-9]|1[0-2])", word):
            raise ValueError(f"{word!r} is no size: tiny, or markets x years, as 4x5")
        found.append(Size(word, *map(int, word.split("x"))))
    return tuple(found)


def parse(words: str) -> Size:
    """The size whose ``words`` these are."""
    name, *numbers = words.split("-")
    return Size(name, *map(int, numbers))


def market_files(size: Size, folder: Path) -> dict[str, Market]:
    """Write a file for each of a size's markets, HE's but for its code; the markets in them."""
    import etl

    text = (Path(etl.__file__).parent / "markets" / "HE.toml").read_text(encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for code in size.codes:
        own = text.replace('code = "HE"', f'code = "{code}"').replace(
            'root = "HE"', f'root = "{code}"'
        )
        own = own.replace('option_roots = ["HE"]', f'option_roots = ["{code}"]')
        (folder / f"{code}.toml").write_text(own, encoding="utf-8")
    known = markets(folder)
    return {code: known[code] for code in size.codes}


@dataclass(frozen=True)
class _Chain:
    """The options of a run of sessions, one an element."""

    session: Ints  # index into the world's sessions
    month: Ints  # index into its contracts
    strike: Ints
    is_call: NDArray[np.bool_]
    forward: Floats
    vol: Floats
    t_years: Floats
    price: Floats


class World:
    """One market's sessions, contracts and prices."""

    def __init__(self, market: Market, size: Size) -> None:
        self.market, self.size = market, size
        self._number = int(market.code[1:])
        table = calendars.sessions(market, _FIRST, date(LAST_YEAR + 2, 6, 30))
        self.day = table["session_date"].to_numpy().astype("datetime64[D]")
        self.snapshot, self.close, self.open = (
            table[name].dt.epoch("us").to_numpy() for name in ("snapshot_at", "close_at", "open_at")
        )
        self._midnight = self.day.astype(np.int64) * _DAY
        month = self.day.astype("datetime64[M]")
        starts = np.unique(month)[:-1]
        # The tenth session of its month, at noon in Chicago or an hour later.
        self._expiry = np.searchsorted(month, starts) + 9
        self._expires = self._midnight[self._expiry] + 18 * _DAY // 24
        self._month = starts
        self._names = [
            f"{market.futures_root}{_LETTERS[m.month - 1]}{m.year % 100:02d}"
            for m in starts.astype(object)
        ]

    def sessions(self, first: date, last: date) -> range:
        """Indices of the sessions of these days, both included."""
        return range(self.session_on(first), self.session_on(last + timedelta(days=1)))

    def session_on(self, day: date) -> int:
        """Index of the first session of this day or later."""
        return int(np.searchsorted(self.day, np.datetime64(day)))

    def months(self) -> Iterator[range]:
        """The sessions of each month of the size's years."""
        for year in range(self.size.first.year, LAST_YEAR + 1):
            for month in range(13 - self.size.months, 13):
                after = date(year + month // 12, month % 12 + 1, 1)
                yield self.sessions(date(year, month, 1), after - timedelta(days=1))

    def payload(self, sessions: range) -> Payload:
        """What a download after the last of the sessions brings, that one before has not."""
        frames = list(self._frames(sessions))
        about = f"{self.market.code}, {self.day[sessions[0]]} to {self.day[sessions[-1]]}"
        digest = hashlib.sha256(f"{about} {self.size}".encode()).hexdigest()
        return Payload("sample", about, digest, iter(frames), kind="generated")

    def after(self, session: int) -> datetime:
        """When the download after a session is made: before the next one's morning."""
        return datetime.combine(self.day[session].item(), time(10), UTC) + timedelta(days=1)

    # -- prices ---------------------------------------------------------------------------------

    @cached_property
    def _factors(self) -> Floats:
        """Log price, log vol level and skew of each session, each fading to its mean."""
        keys = self.day.astype(np.int64)
        found = np.empty((3, len(keys)))
        for row, (daily, keep) in enumerate(((0.016, 0.995), (0.012, 0.98), (0.012, 0.98))):
            value = 0.0
            for i, step in enumerate(daily * normal(self.market.code, row, keys)):
                value = keep * value + step
                found[row, i] = value
        return found

    @cached_property
    def _rate(self) -> Floats:
        days = pl.Series(self.day).cast(pl.Date)
        return rate_on(days, self.market.risk_free).to_numpy()

    def _forward(self, session: Ints, month: Ints) -> Floats:
        years = np.maximum(self._expires[month] - self.snapshot[session], 0) / (365.0 * _DAY)
        season = 0.07 * np.sin(2 * np.pi * (self._month[month].astype(np.int64) % 12) / 12.0)
        log = season + np.exp(-0.8 * years) * self._factors[0, session]
        half = self.market.tick / 2
        return np.asarray(np.rint(85.0 * np.exp(log) / half) * half)

    def _nearest(self, sessions: Ints) -> tuple[Ints, Ints]:
        """The contracts that are alive at each session's snapshot, nearest first."""
        n = self.size.expiries
        first = np.searchsorted(self._expires, self.snapshot[sessions], side="right")
        return sessions.repeat(n), (first[:, None] + np.arange(n)).ravel()

    def _chain(self, sessions: Ints) -> _Chain:
        session, month = self._nearest(sessions)
        forward = self._forward(session, month)
        t_years = (self._expires[month] - self.snapshot[session]) / (365.0 * _DAY)
        places = np.arange(self.size.strikes) - self.size.strikes // 2
        strike = np.rint(forward).astype(np.int64)[:, None] + places
        level = 0.32 * np.exp(self._factors[1, session]) * (0.9 + 0.2 * np.exp(-3 * t_years))
        rho = np.clip(-0.2 + self._factors[2, session], -0.6, 0.4)
        # SSVI of Gatheral and Jacquier (2014): free of arbitrage.
        theta = level * level * t_years
        phi = 0.9 / np.sqrt(theta * (1 + theta))
        x = phi[:, None] * np.log(strike / forward[:, None])
        r = rho[:, None]
        variance = theta[:, None] / 2 * (1 + r * x + np.sqrt((x + r) ** 2 + 1 - r * r))
        vol = np.sqrt(variance / t_years[:, None])

        def options(values: NDArray[Any]) -> NDArray[Any]:
            shape = (len(session), self.size.strikes)
            wide = values if values.ndim == 2 else np.broadcast_to(values[:, None], shape)
            return np.repeat(wide.ravel(), 2)

        is_call = np.tile([True, False], strike.size)
        f, k, t, v = (options(values) for values in (forward, strike, t_years, vol))
        price = american.price(f, k.astype(np.float64), t, v, self._rate[options(session)], is_call)
        return _Chain(options(session), options(month), k, is_call, f, v, t, np.asarray(price))

    # -- rows -----------------------------------------------------------------------------------

    def _frames(self, sessions: range) -> Iterator[tuple[str, pl.DataFrame]]:
        now = np.array(sessions)
        chain, before = self._chain(now), self._chain(now - 1)
        yield "futures_definition", self._definitions(now)
        yield "option_definition", self._option_definitions(chain)
        yield "futures_quote", self._futures_quotes(now)
        yield "option_quote", self._option_quotes(chain)
        yield "futures_1m", self._minute_bars(now)
        yield "futures_1d", self._day_bars(now)
        yield "futures_stat", self._futures_stats(now)
        yield "option_stat", self._option_stats(chain, before, sessions[0])
        if len(reports := self._reports(sessions)):
            yield "cot", reports

    def _future_id(self, month: Ints) -> Ints:
        return self._number * 10**8 + month

    def _option_id(self, month: Ints, strike: Ints, is_call: NDArray[np.bool_]) -> Ints:
        place = (month * 2 * _OFFSET + strike) * 2 + ~is_call
        return np.asarray(self._number * 10**8 + 10**6 + place)

    def _contracts(self, month: Ints) -> NDArray[np.object_]:
        return np.array(self._names, dtype=object)[month]

    def _symbols(self, chain: _Chain) -> pl.Series:
        frame = pl.DataFrame(
            {
                "stem": self._contracts(chain.month),
                "right": np.where(chain.is_call, " C", " P"),
                "strike": chain.strike * 100,
            },
            schema_overrides={"stem": pl.String},
        )
        return frame.select(pl.concat_str("stem", "right", "strike")).to_series()

    def _frame(self, dataset: str, as_of: Any, available_at: Any, **columns: Any) -> pl.DataFrame:
        """Rows of a dataset; instants are in microseconds, what is not given is NULL."""
        common = {"market": self.market.code, "source": "sample"}
        length = len(available_at)
        given = {**common, "as_of": as_of, "available_at": available_at, **columns}
        frame = pl.DataFrame(
            {
                name: pl.Series(values)
                if np.ndim(values)
                else pl.repeat(values, length, eager=True)
                for name, values in given.items()
            }
        )
        lacking = [pl.lit(None).alias(n) for n in source_schema(dataset) if n not in frame.columns]
        utc = [
            pl.from_epoch(name, "us").dt.replace_time_zone("UTC").alias(name)
            for name in ("as_of", "available_at", "expiration", "activation")
            if name in frame.columns
        ]
        return conform(dataset, frame.with_columns(*lacking, *utc))

    def _listed(self, session: Ints, month: Ints) -> dict[str, Any]:
        """What the definitions of all kinds share: sent at midnight, known since then."""
        return {
            "as_of": self._midnight[session] - 1_800_000_000,
            "available_at": self._midnight[session],
            "series": self.market.futures_root,
            "expiration": self._expires[month],
            "activation": self._midnight[np.maximum(self._expiry[month] - 400, 0)],
            "unit_quantity": 40_000.0,
            "currency": "USD",
            "update_action": "A",
        }

    def _definitions(self, sessions: Ints) -> pl.DataFrame:
        session, month = self._nearest(sessions)
        return self._frame(
            "futures_definition",
            **self._listed(session, month),
            instrument_id=self._future_id(month),
            contract=self._contracts(month),
            tick=self.market.tick,
        )

    def _option_definitions(self, chain: _Chain) -> pl.DataFrame:
        return self._frame(
            "option_definition",
            **self._listed(chain.session, chain.month),
            instrument_id=self._option_id(chain.month, chain.strike, chain.is_call),
            contract=self._symbols(chain),
            tick=self.market.option_tick,
            option_type=np.where(chain.is_call, "C", "P"),
            strike=chain.strike.astype(np.float64),
            underlying=self._contracts(chain.month),
            underlying_id=self._future_id(chain.month),
        )

    def _futures_quotes(self, sessions: Ints) -> pl.DataFrame:
        session, month = self._nearest(sessions)
        forward, half = self._forward(session, month), self.market.tick / 2
        return self._frame(
            "futures_quote",
            as_of=self.snapshot[session] - 5_000_000,
            available_at=self.snapshot[session],
            instrument_id=self._future_id(month),
            contract=self._contracts(month),
            bid=forward - half,
            ask=forward + half,
            bid_size=3,
            ask_size=4,
            sequence=session,
            feed="stream",
        )

    def _option_quotes(self, chain: _Chain) -> pl.DataFrame:
        tick = self.market.option_tick
        ids = self._option_id(chain.month, chain.strike, chain.is_call)
        place = np.abs(np.log(chain.strike / chain.forward)) / (chain.vol * np.sqrt(chain.t_years))
        share = np.minimum(0.06 + 0.02 * place * place, 0.3)
        low = np.rint(chain.price * (1 - share / 2) / tick) * tick
        high = np.maximum(np.rint(chain.price * (1 + share / 2) / tick) * tick, low + tick)
        early = 1 + (50e6 * uniform(self.market.code, "stamp", ids, chain.session)).astype(np.int64)
        size = 1 + (60 * uniform(self.market.code, "size", ids, chain.session)).astype(np.int64)
        return self._frame(
            "option_quote",
            as_of=self.snapshot[chain.session] - early,
            available_at=self.snapshot[chain.session],
            instrument_id=ids,
            contract=self._symbols(chain),
            bid=pl.Series(np.where(low > 0, low, np.nan)).fill_nan(None),
            ask=high,
            bid_size=size,
            ask_size=size + 1,
            sequence=ids % 2**20,
            feed="stream",
        )

    def _minute_bars(self, sessions: Ints) -> pl.DataFrame:
        """The nearest four contracts' last minutes before the snapshot."""
        near = np.tile(np.arange(self.size.expiries) < 4, len(sessions))
        session, month = (values[near].repeat(_BARS) for values in self._nearest(sessions))
        minute = np.tile(np.arange(_BARS), len(session) // _BARS)
        end = self.snapshot[session] - (_BARS - 1 - minute) * 60_000_000
        wander = normal(self.market.code, "bar", month, session, minute) * (minute < _BARS - 1)
        price = self._forward(session, month) + np.rint(wander) * self.market.tick
        return self._bars("futures_1m", session, month, end, price)

    def _day_bars(self, sessions: Ints) -> pl.DataFrame:
        session, month = self._nearest(sessions)
        end = self._midnight[session] + _DAY
        return self._bars("futures_1d", session, month, end, self._forward(session, month))

    def _bars(
        self, dataset: str, session: Ints, month: Ints, end: Ints, price: Floats
    ) -> pl.DataFrame:
        tick = self.market.tick
        volume = 40 + (900 * uniform(self.market.code, dataset, month, end)).astype(np.int64)
        return self._frame(
            dataset,
            as_of=end,
            available_at=end,
            instrument_id=self._future_id(month),
            contract=self._contracts(month),
            open=price,
            high=price + tick,
            low=price - tick,
            close=price,
            volume=volume,
        )

    def _futures_stats(self, sessions: Ints) -> pl.DataFrame:
        settled, open_at = self._nearest(sessions), self._nearest(sessions - 1)
        contracts = [self._future_id(month) for _, month in (settled, open_at)]
        names = [self._contracts(month) for _, month in (settled, open_at)]
        years = (self._expires[open_at[1]] - self.snapshot[open_at[0]]) / (365.0 * _DAY)
        level = 40_000 * np.exp(-1.5 * years)
        return pl.concat(
            [
                self._settlement(
                    "futures_stat", settled[0], contracts[0], names[0], self._forward(*settled)
                ),
                self._count("futures_stat", _VOLUME, open_at[0], contracts[1], names[1], level / 5),
                self._count(
                    "futures_stat", _OPEN_INTEREST, open_at[0], contracts[1], names[1], level
                ),
            ]
        )

    def _option_stats(self, chain: _Chain, before: _Chain, first: int) -> pl.DataFrame:
        ids = self._option_id(before.month, before.strike, before.is_call)
        names = self._symbols(before)
        own = normal(self.market.code, "own", ids)
        away = np.log(before.strike / before.forward) / (0.32 * np.sqrt(before.t_years + 0.02))
        out = np.where(before.is_call, away, -away) - 0.5
        level = (60 + 2_000 * np.exp(-4 * before.t_years)) * np.exp(-out * out + 0.3 * own)
        traded = uniform(self.market.code, "traded", ids, before.session) < 0.25
        return pl.concat(
            [
                self._settlement(
                    "option_stat",
                    chain.session,
                    self._option_id(chain.month, chain.strike, chain.is_call),
                    self._symbols(chain),
                    np.maximum(np.rint(chain.price / self.market.option_tick), 1)
                    * self.market.option_tick,
                ),
                self._count("option_stat", _OPEN_INTEREST, before.session, ids, names, level),
                self._count(
                    "option_stat",
                    _VOLUME,
                    before.session[traded],
                    ids[traded],
                    names.filter(pl.Series(traded)),
                    level[traded] / 10,
                ),
            ]
        )

    def _settlement(
        self, dataset: str, session: Ints, ids: Ints, names: Any, price: Floats
    ) -> pl.DataFrame:
        return self._frame(
            dataset,
            as_of=self.close[session],
            available_at=self._midnight[session] + 23 * _DAY // 24 + ids % 1000,
            instrument_id=ids,
            contract=names,
            sequence=ids % 2**20,
            ref_date=self.day[session],
            stat_type=_SETTLEMENT,
            price=price,
            is_final=True,
            stat_flags=_FINAL_FLAGS,
            is_deleted=False,
        )

    def _count(
        self, dataset: str, kind: int, session: Ints, ids: Ints, names: Any, count: Floats
    ) -> pl.DataFrame:
        """What is published on the next session's morning."""
        return self._frame(
            dataset,
            as_of=self.close[session],
            available_at=self._midnight[session + 1] + 11 * _DAY // 24 + ids % 1000,
            instrument_id=ids,
            contract=names,
            sequence=ids % 2**20,
            ref_date=self.day[session],
            stat_type=kind,
            quantity=np.rint(count).astype(np.int64),
            stat_flags=_NO_FLAGS,
            is_deleted=False,
        )

    def _reports(self, sessions: range) -> pl.DataFrame:
        """The reports that are released before the download after the last session."""
        since, until = self.after(sessions[0] - 1), self.after(sessions[-1])
        first = self.day[sessions[0]].item() - timedelta(days=60)
        tuesday = first + timedelta(days=(1 - first.weekday()) % 7)
        tuesdays = pl.date_range(tuesday, until.date(), "1w", eager=True)
        released = cot_releases.releases(tuesdays)
        table = pl.DataFrame({"day": tuesdays, "as_of": cot_releases.report_as_of(tuesdays)})
        table = pl.concat([table, released], how="horizontal")
        table = table.filter(pl.col("available_at").is_between(since, until, closed="right"))
        number = table["day"].cast(pl.Int32).to_numpy().astype(np.int64)
        names = [name for name, kind in COT_DATASETS["cot"].items() if kind == pl.Int64()]
        counts = {
            name: (9_000 * (1 + uniform(self.market.code, name, number))).astype(np.int64)
            for name in names
        }
        longs, shorts, spreads = (
            sum(counts[name] for name in names if name.endswith(side))
            for side in ("_long", "_short", "_spread")
        )
        counts["nonreportable_long"] += np.maximum(shorts - longs, 0)
        counts["nonreportable_short"] += np.maximum(longs - shorts, 0)
        counts["open_interest"] = np.maximum(longs, shorts) + spreads
        return self._frame(
            "cot",
            as_of=table["as_of"].dt.epoch("us").to_numpy(),
            available_at=table["available_at"].dt.epoch("us").to_numpy(),
            report="disaggregated_futures",
            report_date=table["day"],
            cot_code=self.market.cot_code,
            name=self.market.code,
            release_estimated=table["estimated"],
            **counts,
        )
