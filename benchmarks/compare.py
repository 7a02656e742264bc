"""How long the comparison of 10,000 recorded runs takes, beside MLflow's own search.

python -m benchmarks.compare           10,000 runs in an SQLite store
python -m benchmarks.compare --small   500 runs, for CI
"""

import argparse
import contextlib
import io
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backtest_batch.cli.compare import main as compare
from backtest_batch.core.engine.metrics import RESULT_METRICS
from backtest_batch.records import RunRecord, RunResult, RunSpec
from backtest_batch.store.address import resolve_uri
from backtest_batch.store.mlflow_run import BatchInfo
from backtest_batch.store.recorder import Recorder
from backtest_batch.store.search import read_runs
from backtest_batch.store.store import Store, open_store

AXES: dict[str, list[float]] = {
    "commission_bps": [0.0, 0.5, 1.0, 2.0, 5.0],
    "max_gross_exposure": [0.6, 0.8, 1.0, 1.2],
    "strategy.fast": list(range(5, 130, 5)),
    "strategy.slow": list(range(140, 540, 20)),
}
SMALL_AXES: dict[str, list[float]] = {
    **AXES,
    "strategy.fast": [5, 10, 20, 40, 80],
    "strategy.slow": list(range(140, 190, 10)),
}
BATCH_ID = "20260101T000000Z-a1b2c3"
ADDED_S = 3.0
"""What the comparison may take beyond the reading of the runs."""


class Seconds(NamedTuple):
    """Seconds of the clock and of the processor."""

    wall: float
    cpu: float


def config(values: dict[str, float]) -> dict[str, object]:
    """Return a configuration of about as many keys as a real one has."""
    strategy = {name.partition(".")[2]: value for name, value in values.items() if "." in name}
    further = {f"key_{number}": number for number in range(40)}
    return {
        **further,
        "commission_bps": values["commission_bps"],
        "max_gross_exposure": values["max_gross_exposure"],
        "data": {"_target_": "backtest_batch.market.sources.Sp500", "freq": "1d"},
        "strategy": {"_target_": "backtest_batch.strategies.TrendBaseline", **strategy},
        "tags": {},
    }


def records(axes: dict[str, list[float]]) -> Iterator[RunRecord]:
    """Yield made-up runs of a full grid."""
    generator = np.random.default_rng(42)
    for index, combination in enumerate(itertools.product(*axes.values())):
        values = dict(zip(axes, combination, strict=True))
        trend = np.log(values["strategy.slow"] / values["strategy.fast"])
        metrics = dict(zip(RESULT_METRICS, generator.standard_normal(25).tolist(), strict=False))
        metrics["sharpe"] = (
            float(trend / 4 - values["commission_bps"] / 10) + 0.05 * metrics["sharpe"]
        )
        spec = RunSpec(
            index=index,
            run_id="run_" + "_".join(map(str, combination)),
            run_name=" ".join(f"{name}={value}" for name, value in values.items()),
            run_key=f"{index:064x}",
            config_hash=f"{index:064x}",
            swept=values,
            config=config(values),
            overrides=tuple(f"{name}={value}" for name, value in values.items()),
            data_fingerprint="d4" * 32,
            code_fingerprint="e5" * 32,
            strategy_seed=7,
            first_bar=0,
            n_bars=8_313,
        )
        result = RunResult(
            metrics=metrics, undefined_metrics=(), runtime_s=0.01, cpu_s=0.01, peak_rss_mb=200.0
        )
        started = 1_767_225_600_000 + index
        yield RunRecord(spec=spec, outcome=result, attempts=1, started_ms=started, ended_ms=started)


def fill(store: Store, axes: dict[str, list[float]]) -> int:
    """Record the runs, and return how many there are."""
    made = list(records(axes))
    batch = BatchInfo(
        batch_id=BATCH_ID, batch_name="large", n_runs=len(made), started_ms=1_767_225_600_000
    )
    recorder = Recorder(store, batch)
    recorder.start_parent()
    recorder.record(made)
    recorder.finish_parent("FINISHED")
    return len(made)


class Watch:
    """Seconds of a step: of the clock, and of the processor.

    A machine that does other work as well takes longer by the clock.
    """

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @property
    def passed(self) -> Seconds:
        """Seconds since the beginning."""
        return Seconds(time.perf_counter() - self._wall, time.process_time() - self._cpu)


def search(store: Store) -> Seconds:
    """Return what mlflow.search_runs takes for the same runs."""
    import mlflow

    mlflow.set_tracking_uri(store.uri)
    watch = Watch()
    mlflow.search_runs(
        [store.experiment_id],
        filter_string=f"tags.batch_id = '{BATCH_ID}' and tags.batch_role = 'run'",
        max_results=50_000,
    )
    return watch.passed


def read(store: Store) -> Seconds:
    """Return what this package's own reading of the same runs takes."""
    watch = Watch()
    read_runs(store, batches=[BATCH_ID])
    return watch.passed


def compare_all() -> Seconds:
    """Return what the whole command takes."""
    printed, watch = io.StringIO(), Watch()
    with contextlib.redirect_stdout(printed):
        code = compare([f"batch={BATCH_ID}", "top_n=10"])
    passed = watch.passed
    assert code == 0, printed.getvalue()
    return passed


def run(axes: dict[str, list[float]]) -> None:
    """Print the table."""
    store = open_store(resolve_uri(None, Path.cwd()), "backtest_batch")
    n_runs = fill(store, axes)
    searched, reading = search(store), read(store)
    store.close()
    total = compare_all()
    rest = Seconds(total.wall - reading.wall, total.cpu - reading.cpu)
    print(f"{n_runs:,} runs in an SQLite store, full grid of {len(axes)} parameters\n")
    print("| step | seconds | of processor |")
    print("| --- | ---: | ---: |")
    for step, seconds in (
        ("mlflow.search_runs alone", searched),
        ("python -m backtest_batch.compare, in all", total),
        ("of which: reading the runs", reading),
        (f"of which: everything else (wanted: below {ADDED_S:g} s)", rest),
    ):
        print(f"| {step} | {seconds.wall:.1f} | {seconds.cpu:.1f} |")


def main() -> None:
    """Run the benchmark in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="500 runs")
    axes = SMALL_AXES if parser.parse_args().small else AXES
    with tempfile.TemporaryDirectory() as folder:
        previous = Path.cwd()
        os.chdir(folder)
        try:
            run(axes)
        finally:
            os.chdir(previous)


if __name__ == "__main__":
    main()
