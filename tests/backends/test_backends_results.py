"""The README's command on every backend: the same bits, and nothing left behind."""

import os

import pytest
from survival_commands import Command, alive, descendants, wait_for

pytestmark = pytest.mark.slow

SWEEP = ("-m", "commission_bps=0,0.5,1", "max_gross_exposure=0.6,0.8,1.0", "n_jobs=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("nine runs ä")


@pytest.fixture(scope="module")
def reference(folder, recorded_runs):
    """The runs on loky."""
    command = Command(folder, dict(os.environ))
    done = command.run(*SWEEP, "hydra.launcher.backend=loky")
    assert done.returncode == 0, done.stderr
    return recorded_runs(folder, command.batches[-1].name)


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_local_cluster_gives_the_same_bits_and_leaves_nothing(
    folder, reference, recorded_runs, needs, backend
):
    needs(backend)
    command = Command(folder, dict(os.environ))
    process = command.start(*SWEEP, f"hydra/launcher={backend}")
    seen = {}
    wait_for(
        lambda: (
            seen.update({p.pid: p for p in descendants(process.pid)}) or process.poll() is not None
        )
    )
    done = command.end(process)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    runs = recorded_runs(folder, command.batches[-1].name)
    assert len(runs) == 9
    assert sorted(runs) == sorted(reference)
    for run_id, run in runs.items():
        first = reference[run_id]
        assert run.status == "FINISHED"
        assert run.results == first.results
        assert len(run.results) > 20
        assert run.tags["run_key"] == first.tags["run_key"]
        assert {"runtime_s", "cpu_s", "peak_rss_mb", "attempts"} <= set(run.metrics)
        for name in ("equity", "target_weights", "trades"):
            one = (first.files / f"{name}.parquet").read_bytes()
            assert one == (run.files / f"{name}.parquet").read_bytes()
    assert [entry.name for entry in folder.iterdir()] == ["mlruns"]
    wait_for(lambda: not alive(list(seen.values())), seconds=30)
