"""Turn-by-turn timing: both sides see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rate:
    """Units a second: the median of the turns, and the slowest and fastest turn."""

    median: float
    slowest: float
    fastest: float

    @staticmethod
    def of(units: int, seconds: NDArray[np.float64]) -> Rate:
        rates = units / seconds
        return Rate(float(np.median(rates)), float(rates.min()), float(rates.max()))


@dataclass(frozen=True)
class Pace:
    """Both rates and how many times faster the first side is.

    ``ratio`` is the median of the ratios of neighbouring turns, ``ratio_low`` and ``ratio_high``
    their quartiles.
    """

    ours: Rate
    peer: Rate
    ratio: float
    ratio_low: float
    ratio_high: float
    turns: int


def take_turns(
    ours: Callable[[], Any],
    our_units: int,
    peer: Callable[[int], Any],
    peer_units: int,
    turns: int,
) -> tuple[Pace, list[Any]]:
    """Time both sides in turns, after one turn of each that does not count.

    Parameters
    ----------
    ours : callable
        One turn of mathlib.
    our_units, peer_units : int
        Options or slices that one turn works on.
    peer : callable
        Takes the number of the turn, so that a slow peer can go on to further rows.
    turns : int
        Timed turns of each side; the side that begins changes each time.

    Returns
    -------
    pace : Pace
    answers : list
        What the peer returned in each timed turn.
    """
    ours()
    peer(0)
    spent = np.empty((2, turns))
    answers = []
    for turn in range(turns):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            begin = time.perf_counter()
            answer = ours() if side == 0 else peer(turn)
            spent[side, turn] = time.perf_counter() - begin
            if side == 1:
                answers.append(answer)
    ratios = (our_units / spent[0]) / (peer_units / spent[1])
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    pace = Pace(
        Rate.of(our_units, spent[0]),
        Rate.of(peer_units, spent[1]),
        float(middle),
        float(low),
        float(high),
        turns,
    )
    return pace, answers
