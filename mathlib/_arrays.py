"""What all modules share: array types, checks of arguments, work in blocks, ragged layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.intp]
StatusArray = NDArray[np.int8]

#: Rows worked on at a time: the temporaries of one block stay in the processor's cache.
BLOCK = 8192


def as_float(name: str, values: ArrayLike) -> FloatArray:
    """``values`` as a float64 array; ``TypeError`` when they are not real numbers."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, not {array.dtype}")
    return array.astype(np.float64, copy=False)


def as_bool(name: str, values: ArrayLike) -> BoolArray:
    """``values`` as a boolean array; ``TypeError`` when they are anything else."""
    array = np.asarray(values)
    if array.dtype.kind != "b":
        raise TypeError(f"{name} must be boolean, not {array.dtype}")
    return array


def in_blocks(
    kernel: Callable[..., tuple[NDArray[Any], ...]],
    dtypes: tuple[type[np.generic], ...],
    *arguments: NDArray[Any],
) -> tuple[NDArray[Any], ...]:
    """Broadcast ``arguments`` and run ``kernel`` on flat blocks of at most ``BLOCK`` rows.

    Parameters
    ----------
    kernel : callable
        Takes one flat array per argument and returns one flat array per entry of ``dtypes``.
        Its result for a row must not depend on the other rows.
    dtypes : tuple of type
        The dtypes of the results.

    Returns
    -------
    tuple of ndarray
        Of the broadcast shape.
    """
    shape = np.broadcast_shapes(*(argument.shape for argument in arguments))
    flat = [np.broadcast_to(argument, shape).reshape(-1) for argument in arguments]
    size = flat[0].size
    # The results of a dtype are rows of one table: a large one comes in huge pages, where arrays of
    # their own cost a page fault for every 512 values.
    tables = {dtype: iter(np.empty((dtypes.count(dtype), size), dtype)) for dtype in set(dtypes)}
    results = tuple(next(tables[dtype]) for dtype in dtypes)
    with np.errstate(all="ignore"):
        for start in range(0, size, BLOCK):
            block = slice(start, start + BLOCK)
            for result, values in zip(results, kernel(*(a[block] for a in flat)), strict=True):
                result[block] = values
    return tuple(result.reshape(shape) for result in results)


def checked_offsets(offsets: ArrayLike, size: int) -> IndexArray:
    """``offsets`` as an index array; ``ValueError`` when they do not cut ``size`` rows."""
    array = np.asarray(offsets)
    if array.dtype.kind not in "iu":
        raise TypeError(f"offsets must be integers, not {array.dtype}")
    if array.ndim != 1 or array.size == 0:
        raise ValueError("offsets must be one-dimensional with one entry more than slices")
    if array[0] != 0 or array[-1] != size or np.any(array[1:] < array[:-1]):
        raise ValueError(f"offsets must rise from 0 to the number of rows, {size}")
    return array.astype(np.intp, copy=False)
