"""The README's command on every backend: the same bits, and nothing left behind."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.commands import SMALL_MARKET, Command, alive, descendants, wait_for

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


SETS = """
import os
import numpy as np

NAMES = {"one", "two", "three", "four", "five", "six", "seven"}


class Sets:
    def target_weights(self, panel, decisions):
        with open("orders.txt", "a") as file:
            file.write(" ".join(NAMES) + "\\n")
        return np.full((len(decisions), panel.n_assets), 0.5 / panel.n_assets)
"""


@pytest.mark.parametrize(
    ("backend", "given", "used"), [("loky", "", "0"), ("dask", "", "0"), ("ray", "7", "7")]
)
def test_workers_have_one_order_of_sets_and_it_is_recorded(
    tmp_path, recorded_runs, needs, backend, given, used
):
    """A strategy that goes through a set comes to the same result in every process."""
    if backend != "loky":
        needs(backend)
    (tmp_path / "sets.py").write_text(SETS)
    environment = {**os.environ, "PYTHONHASHSEED": given}
    done = Command(tmp_path, environment).run(
        *SMALL_MARKET,
        "n_jobs=1",
        "strategy=custom",
        "strategy._target_=sets.Sets",
        f"hydra.launcher.backend={backend}",
    )
    assert done.returncode == 0, done.stderr
    printed = subprocess.run(
        [sys.executable, "-c", f"{SETS.split('class', maxsplit=1)[0]}\nprint(' '.join(NAMES))"],
        env={**os.environ, "PYTHONHASHSEED": used},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set((tmp_path / "orders.txt").read_text().splitlines()) == {printed.stdout.strip()}
    (run,) = recorded_runs(tmp_path).values()
    document = json.loads((run.files / "run.json").read_text())
    assert document["provenance"]["hash_seed"] == used


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_search_takes_the_same_course_on_a_cluster(tmp_path, recorded_runs, needs, backend):
    needs(backend)
    asked = (
        *("-m", *SMALL_MARKET, "n_jobs=2", "search=tpe", "search.n_trials=16"),
        *("strategy.fast=interval(2,30)", "strategy.slow=interval(31,90)", "commission_bps=0,5"),
    )
    command = Command(tmp_path, dict(os.environ))
    courses, rankings = [], []
    for chosen in ("loky", backend):
        done = command.run(*asked, f"hydra.launcher.backend={chosen}")
        assert done.returncode == 0, done.stderr
        runs = recorded_runs(tmp_path, command.batches[-1].name)
        courses.append(
            {name: (run.tags["trial"], run.tags["search_round"]) for name, run in runs.items()}
        )
        rankings.append(command.report("rankings.csv").read_bytes())
    assert len(courses[0]) == 32
    assert courses[0] == courses[1]
    assert rankings[0] == rankings[1]
