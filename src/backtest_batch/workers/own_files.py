"""Returns of runs that read their own data: a file a run, with the bars that only it knows.

Runs on given data write rows of one array; see :mod:`backtest_batch.rows`. Here each has its own
bars. A file is named by its run key, and is written as a whole or not at all.
"""

import contextlib
import os
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from backtest_batch.arrays import FloatArray
from backtest_batch.core.data.timestamps import index_of, stamps_of

FOLDER = "own"
"""Folder of these files in one of working files."""

_RETURNS = "net_return"


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnReturns:
    """The returns of one run, on its own bars.

    Attributes
    ----------
    index
        Timestamps of the measured bars, shape (n_bars,).
    net_return
        Net returns, NaN on the first bar.
    beside
        What a walk-forward needs besides, by name, shape (n_bars,).
    """

    index: pd.DatetimeIndex
    net_return: FloatArray
    beside: Mapping[str, FloatArray]


def own_file(folder: Path, run_key: str) -> Path:
    """Return the file of a run in a folder of working files."""
    return folder / FOLDER / f"{run_key}.npz"


def write_own_returns(folder: Path, run_key: str, returns: OwnReturns) -> None:
    """Write the returns of a run.

    Raises
    ------
    OSError
        When there is no room.
    """
    file = own_file(folder, run_key)
    file.parent.mkdir(parents=True, exist_ok=True)
    stamps, tz = stamps_of(returns.index)
    unfinished = file.with_name(f".{file.stem}.{os.getpid()}")
    try:
        with unfinished.open("wb") as stream:
            np.savez(
                stream,
                allow_pickle=False,
                stamps=np.array(stamps),
                tz=np.array(tz or ""),
                **{_RETURNS: returns.net_return},
                **dict(returns.beside),
            )
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def read_own_returns(folders: Iterable[Path], run_key: str) -> OwnReturns | None:
    """Return the returns of a run from the first folder that has them whole; None without any."""
    for folder in folders:
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            with np.load(own_file(folder, run_key), allow_pickle=False) as held:
                arrays = {name: held[name] for name in held.files}
            tz = str(arrays.pop("tz"))
            index = index_of(arrays.pop("stamps"), tz or None)
            return OwnReturns(index=index, net_return=arrays.pop(_RETURNS), beside=arrays)
    return None
