"""The one kind of array that kernels read."""

import numpy.typing as npt

from backtest_batch.market.numbers import real_numbers
from backtest_batch.market.panel import FloatArray


def kernel_input(values: npt.ArrayLike) -> FloatArray:
    """Return ``values`` as float64, C-contiguous and read-only, copied only where needed.

    Numba compiles a kernel anew for every combination of layouts, and treats a read-only array
    and a memory map as other types; through here each kernel is compiled once.

    Raises
    ------
    TypeError, ValueError
        When the values are no real numbers.
    """
    array = real_numbers(values).view()
    array.flags.writeable = False
    return array
