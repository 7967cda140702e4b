"""How much each measurement works on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Rows and runs of one benchmark.

    Attributes
    ----------
    runs : int
        Timed turns of each side.
    options : int
        Options in the implied-vol sets and in the book of positions.
    exact : int
        Rows whose implied vol is computed in high precision.
    slices : int
        Smiles in the batch that mathlib fits.
    slow_options, slow_slices, very_slow_slices : int
        Rows a turn of a peer that goes through them one by one.
    """

    runs: int
    options: int
    exact: int
    slices: int
    slow_options: int
    slow_slices: int
    very_slow_slices: int


FULL = Sizes(
    runs=9,
    options=100_000,
    exact=2_000,
    slices=4_000,
    slow_options=2_000,
    slow_slices=100,
    very_slow_slices=5,
)
#: Enough to see that everything works and is right; its times mean nothing.
QUICK = Sizes(
    runs=2,
    options=1_000,
    exact=60,
    slices=40,
    slow_options=60,
    slow_slices=3,
    very_slow_slices=1,
)
