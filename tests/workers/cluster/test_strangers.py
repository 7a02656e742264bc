"""A cluster on this machine computes for the command that started it, and for nobody else."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

DASK = """
import distributed
from backtest_batch.workers.cluster.dask_cluster import DaskCluster

if __name__ == "__main__":
    cluster = DaskCluster(None)
    cluster.open(1)
    address = cluster._local.scheduler_address
    print(address.rpartition(":")[0])
    other = distributed.Security.temporary()
    for place, keys in ((address, other), (address.replace("tls", "tcp"), None)):
        try:
            distributed.Client(place, timeout=5, security=keys)
        except (OSError, RuntimeError, TypeError, ValueError):
            print("refused")
        else:
            print("connected")
    print(cluster._client.submit(abs, -3).result())
    cluster.close("token")
"""
RAY = """
from backtest_batch.workers.cluster.ray_cluster import RayCluster

if __name__ == "__main__":
    cluster = RayCluster(None)
    cluster.open(1)
    cluster.close("token")
"""


def run(script, folder, **environment):
    (folder / "script.py").write_text(script)
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_dask_listens_on_this_machine_and_knows_its_own(needs, tmp_path):
    needs("dask")
    done = run(DASK, tmp_path)
    assert done.stdout.split() == ["tls://127.0.0.1", "refused", "refused", "3"], done.stderr


def test_the_token_of_ray_lies_in_no_file(needs, tmp_path):
    needs("ray")
    (tmp_path / "home").mkdir()
    done = run(RAY, tmp_path, HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert not [path for path in (tmp_path / "home").rglob("*") if "token" in path.name]
