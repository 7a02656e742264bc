"""How many runs a second are recorded: into SQLite, into PostgreSQL, and over a tracking server.

    python -m benchmarks.recording
    python -m benchmarks.recording --small

Starts a PostgreSQL and MLflow servers of its own, as the tests do, one with a single process and
one with two; without PostgreSQL the servers stand on SQLite. Every run has 69 parameters, 33
metrics and 24 tags as one of the nine runs of the README has, once without files and once with its
six (0.5 MB). Beside the wall time stand the milliseconds of processor time that a run costs each
process, which say what saturates first, and do not depend on what else the machine does.
"""

import argparse
import contextlib
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from backtest_batch.records import RunRecord, RunResult, RunSpec
from backtest_batch.store import client
from backtest_batch.store.mlflow_run import BatchInfo
from backtest_batch.store.recorder import Recorder
from backtest_batch.store.store import open_store
from tests.support.servers import MlflowServer, PostgreSQL, missing_for_postgres, started

FILES = {
    "config.yaml": 1_340,
    "equity.parquet": 294_218,
    "metrics.csv": 750,
    "run.json": 3_290,
    "target_weights.parquet": 20_952,
    "trades.parquet": 158_181,
}
"""Bytes of the files of a run of the README's command."""


@dataclass
class Timing:
    """What recording some runs took."""

    runs: int
    seconds: float = 0.0
    processor_s: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        each = "  ".join(
            f"{name} {used / self.runs * 1000:5.1f} ms" for name, used in self.processor_s.items()
        )
        return f"{self.runs:5} runs  {self.runs / self.seconds:8.1f} runs/s   {each}"


def main() -> None:
    """Record runs every way, and print how fast that was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--runs",
        type=int,
        default=200,
        help="runs to the server, ten times more into the databases",
    )
    parser.add_argument(
        "--small", action="store_true", help="8 runs with files, a server of two processes; for CI"
    )
    arguments = parser.parse_args()
    runs = 8 if arguments.small else arguments.runs
    missing = missing_for_postgres()
    if missing:
        print(f"{missing}: the servers stand on SQLite")
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-recording-") as name,
        contextlib.chdir(name),
        contextlib.ExitStack() as stack,
    ):
        postgres = None
        if not missing:
            postgres = PostgreSQL()
            stack.callback(postgres.stop)
            postgres.start()
        for with_files in (True,) if arguments.small else (False, True):
            print("with six files a run" if with_files else "without files")
            measure_databases(Path(name), runs, postgres, with_files)
            for workers in (2,) if arguments.small else (1, 2):
                measure_server(Path(name), runs, postgres, with_files, workers)


def measure_databases(
    folder: Path, runs: int, postgres: PostgreSQL | None, with_files: bool
) -> None:
    """Print one line for each way into each database."""
    databases = {"SQLite": f"sqlite:///{folder}/mlruns/mlflow.db"}
    watched = {"client": psutil.Process()}
    if postgres is not None:
        databases["PostgreSQL"] = postgres.new_database(f"straight_{with_files}")
        watched["PostgreSQL"] = psutil.Process(postgres.pid)
    for name, uri in databases.items():
        writers: dict[Literal["client", "bulk"], int] = {
            "client": 1,
            "bulk": 1 if with_files else 10,
        }
        for writer, share in writers.items():
            timing = measure(folder, uri, runs * share, with_files, watched, writer)
            print(f"  {name + ', ' + writer:36}{timing}", flush=True)


def measure_server(
    folder: Path, runs: int, postgres: PostgreSQL | None, with_files: bool, workers: int
) -> None:
    """Print one line for each number of connections to a server."""
    backend = f"sqlite:///{folder}/served_{with_files}_{workers}.db"
    watched = {"client": psutil.Process()}
    if postgres is not None:
        backend = postgres.new_database(f"served_{with_files}_{workers}")
        watched["PostgreSQL"] = psutil.Process(postgres.pid)
    with started(MlflowServer(backend, folder, workers)) as server:
        watched["server"] = psutil.Process(server.pid)
        for count in (1, 4, 8):
            client.CONNECTIONS = count
            timing = measure(folder, server.uri, runs, with_files, watched, "auto")
            processes = "process" if workers == 1 else "processes"
            made = "connection" if count == 1 else "connections"
            name = f"server of {workers} {processes}, {count} {made}"
            print(f"  {name:36}{timing}", flush=True)


def measure(
    folder: Path,
    uri: str,
    runs: int,
    with_files: bool,
    watched: dict[str, psutil.Process],
    writer: Literal["auto", "client", "bulk"],
) -> Timing:
    """Record a batch, and return what that took."""
    store = open_store(uri, "backtest_batch")
    now = time.time_ns() // 1_000_000
    batch = BatchInfo(
        batch_id=f"{now}", batch_name="recording", n_runs=runs, started_ms=now, tags={"suite": "b"}
    )
    recorder = Recorder(store, batch, writer=writer)
    recorder.start_parent()
    recorder.record([record(folder, runs, now, with_files)])  # opens connections, checks the first
    records = [record(folder, index, now, with_files) for index in range(runs)]
    before, started_s = used(watched), time.perf_counter()
    for start in range(0, runs, 1_000):
        recorder.record(records[start : start + 1_000])
    timing = Timing(runs, time.perf_counter() - started_s)
    after = used(watched)
    timing.processor_s = {
        name: after[name] - before[name] for name in watched if after[name] - before[name] > 0.02
    }
    recorder.finish_parent("FINISHED")
    store.close()
    return timing


def used(watched: dict[str, psutil.Process]) -> dict[str, float]:
    """Return the processor seconds of processes with those that they started."""
    sums = {}
    for name, process in watched.items():
        times = process.cpu_times()
        total = times.user + times.system
        if name != "client":
            total += times.children_user + times.children_system
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    own = child.cpu_times()
                    total += own.user + own.system
        sums[name] = total
    return sums


def record(folder: Path, index: int, now: int, with_files: bool) -> RunRecord:
    """Return a run as it ended, with as much in it as a run of the README's command has."""
    commission = index / 2
    config = {"commission_bps": commission, "strategy": dict.fromkeys("abcdefghij", 1.5)}
    config |= {f"key_{number}": number for number in range(58)}
    spec = RunSpec(
        index=index,
        run_id=f"run_{commission}",
        run_name=f"commission_bps={commission}",
        run_key=f"{now:032x}{index:032x}",
        config_hash="c0" * 32,
        swept={"commission_bps": commission},
        config={
            "commission_bps": commission,
            "strategy": dict.fromkeys("abcdefghij", 1.5),
            **config,
        },
        overrides=(f"commission_bps={commission}",),
        data_fingerprint="d4" * 32,
        code_fingerprint="e5" * 32,
        strategy_seed=7,
        first_bar=60,
        n_bars=8_313,
    )
    place = None
    if with_files:
        place = folder / "made" / f"{now}-{index}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name, size in FILES.items():
            (place / name).write_bytes(b"x" * size)
    outcome = RunResult(
        metrics={f"metric_{number}": number / 7 for number in range(28)},
        undefined_metrics=(),
        tags={},
        runtime_s=0.25,
        cpu_s=0.125,
        peak_rss_mb=150.5,
        chunk_runs=1,
        artifacts=place,
    )
    return RunRecord(spec=spec, outcome=outcome, attempts=1, started_ms=now, ended_ms=now + 500)


if __name__ == "__main__":
    main()
