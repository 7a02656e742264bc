"""Names of the fields of a panel, and the types of its arrays."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FIELDS = ("open", "high", "low", "close", "volume")
"""Fields a panel may hold, in the order in which they are stored; ``close`` is always there."""
