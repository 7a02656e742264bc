"""Arrays of real numbers for the kernels, and when a number counts as zero.

Values that numpy would silently turn into real numbers are refused.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest_batch.arrays import FloatArray
from backtest_batch.config.schema import processors

BASIS_POINT = 1e-4

TRADE_THRESHOLD = 1e-9
"""A change of position up to this fraction of equity is not a trade: it is neither charged nor
counted. Otherwise rounding alone would cause trades at each rebalance."""

DUST = 1e-4
"""Cash that was spent on costs, up to this fraction of the positions, is not raised by selling some
of them. Nobody would sell 4 to pay for a cost of 4, and then 0.008 for the cost of that sale."""

ROUNDING = 1e-12
"""Equity up to this fraction of the amounts that it is the sum of is rounding: it counts as 0."""


_KINDS = {
    "c": "complex numbers",
    "S": "text",
    "U": "text",
    "T": "text",
    "M": "dates",
    "m": "lengths of time",
}


def real_numbers(values: Any) -> FloatArray:
    """Return ``values`` as float64, C-contiguous, copied only where needed.

    True and false become 1 and 0. An array of Python objects is taken if each of them is a number.

    Raises
    ------
    TypeError
        When they are something else; numpy would drop the imaginary part of complex numbers,
        read text as numbers, and ignore the mask of masked arrays.
    ValueError
        When they do not form an array.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise TypeError("some values are masked")
    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = _of_objects(array)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"the values are {_KINDS.get(array.dtype.kind, str(array.dtype))}")
    return np.ascontiguousarray(array, dtype=np.float64)


def _of_objects(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array of Python's numbers, or of its booleans, as numpy holds them."""
    items = array.ravel().tolist()
    booleans = sum(isinstance(item, bool | np.bool_) for item in items)
    if booleans == len(items):
        return array.astype(np.bool_)
    if booleans:
        others = {_name_of(item) for item in items if not isinstance(item, bool | np.bool_)}
        raise TypeError(f"the values are booleans with {' and '.join(sorted(others))} among them")
    for item in items:
        if not isinstance(item, int | float | np.integer | np.floating):
            raise TypeError(f"the values are objects, {_name_of(item)} among them")
    return array.astype(np.float64)


def _name_of(item: Any) -> str:
    if item is None or item is pd.NA or item is pd.NaT:
        return str(item)
    return "NaN" if isinstance(item, float) and item != item else type(item).__name__


def kernel_input(values: npt.ArrayLike) -> FloatArray:
    """Return ``values`` as float64, C-contiguous and read-only, copied only where needed.

    Numba compiles a kernel anew for every combination of layouts, and treats a read-only array
    and a memory map as different types; this way each kernel is compiled only once.

    Raises
    ------
    TypeError, ValueError
        When the values are not real numbers.
    """
    array = real_numbers(values).view()
    array.flags.writeable = False
    return array


Part = TypeVar("Part")
Result = TypeVar("Result")


def in_threads(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Return ``work`` of each part, in the order of the parts, with one thread per processor."""
    threads = min(len(parts), processors())
    if threads <= 1:
        return [work(part) for part in parts]
    from threadpoolctl import threadpool_limits  # not needed by a small batch

    # BLAS threads inside these would wait for each other, which costs as much as working does.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))
