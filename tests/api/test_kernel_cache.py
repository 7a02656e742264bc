"""Compiled kernels stand in the cache: the package may be where nothing can be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import backtest_batch

PACKAGE = Path(backtest_batch.__file__).parent

BACKTEST = """
import {first}
import numpy as np, pandas as pd
import backtest_batch as bb
from backtest_batch.core.strategies import TrendBaseline
index = pd.date_range("2020-01-01", periods=100)
prices = pd.DataFrame({{"A": np.linspace(1, 2, 100)}}, index=index)
bb.backtest(TrendBaseline(fast=2, slow=5), prices)
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["sys", "numba"])
def test_a_notebook_compiles_into_the_cache(tmp_path, first):
    """Also where numba was imported before this package."""
    before = set(PACKAGE.rglob("*.nbi"))
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    subprocess.run(
        [sys.executable, "-c", BACKTEST.format(first=first)],
        env={**environment, "BACKTEST_BATCH_CACHE": str(tmp_path / "cache")},
        cwd=tmp_path,
        check=True,
        timeout=300,
    )
    assert list((tmp_path / "cache" / "numba").rglob("*.nbc"))
    assert set(PACKAGE.rglob("*.nbi")) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["cache"]
