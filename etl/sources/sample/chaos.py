"""Faults that the sample vendor plants on request, to see whether the checks find them.

A session in ten has one, drawn from the seed, the market and the date alone: the same whatever
range is asked for.  So has one in ten of the CFTC's releases, which is then withheld.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from etl.sources.sample import quotes
from etl.sources.sample.dbn_files import UNDEF_PRICE, Records
from etl.sources.sample.noise import uniform
from etl.sources.sample.world import World

__all__ = ["KINDS", "Fault", "faults", "planted", "withholds"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_SHARE = 0.1  # of sessions, and of releases
_MISSING_STRIKES = 3
#: An expiry that is hit has this long to go: its options are quoted in both directions.
_LEAST_LIFE_NS = 21 * 86_400_000_000_000


@dataclass(frozen=True)
class Fault:
    """What was planted, and where."""

    kind: str
    market: str
    session_date: date
    subject: str  # the expiry that was hit, else the dataset


def faults(world: World, first: int, last: int, seed: int) -> list[Fault]:
    """The faults of sessions ``first`` to ``last`` - 1, in order."""
    found = []
    for session, kind in _drawn(world, first, last, seed):
        expiry = world.options.expiry[_target(world, session)].item()
        subject = f"{expiry}" if kind in _OF_ONE_EXPIRY else "option_quote"
        day = world.sessions.day[session].item()
        found.append(Fault(kind, world.market.code, day, subject))
    return found


def planted(
    world: World, first: int, last: int, seed: int, kind: str, schema: str, made: Records
) -> Records:
    """Put the faults of sessions ``first`` to ``last`` - 1 into their records of one file."""
    for session, name in _drawn(world, first, last, seed):
        if name == "duplicated day" and schema in {"bbo-1m", "statistics"}:
            made = _twice(world, session, made)
        elif name != "duplicated day" and (kind, schema) == ("OPT", "bbo-1m"):
            of_session = _session(world, made) == session
            rest, hit = made[~of_session], made[of_session]
            made = _in_order(np.concatenate((rest, _KINDS[name](world, session, hit))))
    return made


def withholds(report_date: date, seed: int) -> bool:
    """Whether the CFTC's file lacks a report for as long as it is the newest one."""
    return float(uniform("chaos", seed, "cot", report_date.toordinal())) < _SHARE


def _drawn(world: World, first: int, last: int, seed: int) -> list[tuple[int, str]]:
    """Sessions with a fault, and its kind."""
    session = np.arange(first, last)
    day = world.sessions.day[session].astype(np.int64)
    code = world.market.code
    hit = uniform("chaos", seed, code, "hit", day) < _SHARE
    kind = (len(KINDS) * uniform("chaos", seed, code, "kind", day)).astype(np.int64)
    return [(int(s), KINDS[k]) for s, k in zip(session[hit], kind[hit], strict=True)]


def _target(world: World, session: int) -> int:
    """The option month that a session's fault hits: the nearest one with a life before it."""
    alive = world.sessions.snapshot_at[session] + _LEAST_LIFE_NS
    return int(np.searchsorted(world.options.expires_at, alive))


def _of_target(world: World, session: int, made: Records) -> Bools:
    month = world.options.month_number[_target(world, session)]
    return np.asarray((made["instrument_id"].astype(np.int64) >> 13) & 0x1FF == month)


def _session(world: World, made: Records) -> Ints:
    received = made["ts_recv"].astype(np.int64)
    return np.searchsorted(world.sessions.midnight, received, side="right") - 1


def _strike_place(made: Records) -> Ints:
    return made["instrument_id"].astype(np.int64) & 0x1FFF


def _missing_strikes(world: World, session: int, made: Records) -> Records:
    """Strikes next to the money without any quote."""
    option = np.array([_target(world, session)])
    future = world.options.underlying[option]
    forward = float(world.future_snapshot(np.array([session]), future)[0])
    target = _of_target(world, session, made)
    places = np.unique(_strike_place(made[target]))
    distance = np.abs(places * world.product.strike_step - forward)
    nearest = places[np.argsort(distance, kind="stable")[:_MISSING_STRIKES]]
    return made[~(target & np.isin(_strike_place(made), nearest))]


def _frozen(world: World, session: int, made: Records) -> Records:
    """The session before, once more."""
    chain = world.chain(session - 1, session)
    before = quotes.option_quotes(world, chain.where(chain.quoted))
    moved = world.sessions.snapshot_at[session] - world.sessions.snapshot_at[session - 1]
    known = {
        key: i
        for i, key in enumerate(
            zip(before["instrument_id"].tolist(), before["ts_recv"].tolist(), strict=True)
        )
    }
    keys = zip(
        made["instrument_id"].tolist(),
        (made["ts_recv"].astype(np.int64) - moved).tolist(),
        strict=True,
    )
    source = np.array([known.get(key, -1) for key in keys], dtype=np.int64)
    there = source >= 0
    made = made.copy()
    for side in ("bid", "ask"):
        for field in (f"{side}_px_00", f"{side}_sz_00", f"{side}_ct_00"):
            made[field][there] = before[field][source[there]]
    return made


def _swapped(world: World, session: int, made: Records) -> Records:
    """Bid and ask of an expiry in each other's place."""
    made = made.copy()
    hit = _of_target(world, session, made)
    bid, ask = made["bid_px_00"][hit].copy(), made["ask_px_00"][hit].copy()
    made["bid_px_00"][hit], made["ask_px_00"][hit] = ask, bid
    return made


def _tenfold(world: World, session: int, made: Records) -> Records:
    """Ten times the price of one option that has both sides at every stamp."""
    sided = (made["bid_px_00"] != UNDEF_PRICE) & (made["ask_px_00"] != UNDEF_PRICE)
    target = _of_target(world, session, made)
    whole = np.setdiff1d(
        made["instrument_id"][target & sided], made["instrument_id"][target & ~sided]
    )
    place = float(uniform("chaos", world.market.code, "option", session))
    hit = made["instrument_id"] == whole[int(place * len(whole))]
    made = made.copy()
    for field in ("bid_px_00", "ask_px_00"):
        made[field][hit] *= 10
    return made


def _half(world: World, session: int, made: Records) -> Records:
    """A download that ended in its middle: the lower half of the instruments."""
    middle = np.median(np.unique(made["instrument_id"]))
    return np.asarray(made[made["instrument_id"] <= middle])


def _twice(world: World, session: int, made: Records) -> Records:
    """The session's records once more, under other sequence numbers."""
    again = made[_session(world, made) == session]
    again["sequence"] += 1
    return _in_order(np.concatenate((made, again)))


def _in_order(made: Records) -> Records:
    return made[np.lexsort((made["instrument_id"], made["ts_recv"]))]


_KINDS: Mapping[str, Callable[[World, int, Records], Records]] = {
    "missing strikes": _missing_strikes,
    "frozen quotes": _frozen,
    "swapped bid and ask": _swapped,
    "10× price": _tenfold,
    "half a chain": _half,
    "duplicated day": _twice,
}
_OF_ONE_EXPIRY = ("missing strikes", "swapped bid and ask", "10× price")
#: What a session's fault may be.
KINDS = tuple(_KINDS)
