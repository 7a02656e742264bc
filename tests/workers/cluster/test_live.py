"""Functions that no file holds, and runs that read their own data, on Dask and Ray."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from tests.support.commands import Command

pytestmark = pytest.mark.slow

SCRIPT = """
import sys

import numpy as np
import pandas as pd

import backtest_batch as bb

STEP = 0.0002


def walk(conditions, seed, number: int = 0):
    index = pd.bdate_range("2015-01-05", periods=300 + number)
    moves = np.random.default_rng([seed % 1000, number]).normal(STEP, 0.01, len(index))
    return pd.Series(moves, index=index) - conditions.cost_rate


if __name__ == "__main__":
    found = bb.run_sweep(
        {"strategy.number": [1, 2, 3], "commission_bps": [0, 5]},
        data="none", strategy=walk, n_jobs=2, output_dir=sys.argv[1],
        **{"data.version": "made", "hydra.launcher.backend": sys.argv[2]},
    )
    sys.exit(found.exit_code)
"""


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_function_of_a_script_gives_the_same_bits_on_a_cluster(command: Command, needs, backend):
    needs(backend)
    (command.folder / "script.py").write_text(SCRIPT)
    for folder, where in (("here", "loky"), ("there", backend)):
        done = subprocess.run(
            [sys.executable, "script.py", folder, where],
            cwd=command.folder,
            env={**os.environ, **command.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    here, there = (
        pd.read_parquet(command.folder / folder / "returns.parquet") for folder in ("here", "there")
    )
    assert here.shape == (304, 7)
    pd.testing.assert_frame_equal(here, there, check_exact=True)
