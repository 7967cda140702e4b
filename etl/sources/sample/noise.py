"""Random numbers that depend on their keys alone.

A draw is a hash of its keys (market, session, strike, …), so the same record comes out whatever
range is asked for and in whatever order.  The hash is SplitMix64's finaliser (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), chained over the keys.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np
import scipy
from numpy.typing import NDArray

__all__ = ["normal", "uniform"]

Floats = NDArray[np.float64]
Key = int | str | NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def uniform(*keys: Key) -> Floats:
    """Return uniforms in (0, 1), one for each element of the broadcast keys."""
    state: NDArray[np.uint64] = np.zeros(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            state = _mixed((state ^ _as_bits(key)) + _GOLDEN)
    if all(isinstance(key, int | str) for key in keys):
        state = state.reshape(())
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(*keys: Key) -> Floats:
    """Return standard normals, one for each element of the broadcast keys."""
    drawn: Floats = scipy.special.ndtri(uniform(*keys))
    return drawn


def _as_bits(key: Key) -> NDArray[np.uint64]:
    if isinstance(key, str):
        return np.array(_word_bits(key))
    return np.asarray(key, dtype=np.int64).view(np.uint64)


@lru_cache(maxsize=1024)
def _word_bits(word: str) -> np.uint64:
    return np.uint64(int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little"))


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))
