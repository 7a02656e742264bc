"""Give back the memory of arrays that are mapped from files."""

import mmap

import numpy as np
import numpy.typing as npt


def release_pages(array: npt.NDArray[np.float64]) -> None:
    """Let the system take back what was read of a mapped array; other arrays stay as they are.

    The pages are read again, mostly from the system's cache, when they are looked at again. Without
    this, a process that reads a large file part by part comes to hold all of it.
    """
    holder: object = array
    while isinstance(holder, np.ndarray):
        holder = holder.base
    if isinstance(holder, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        holder.madvise(mmap.MADV_DONTNEED)
