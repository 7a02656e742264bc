"""Batches under faults at seeded moments; afterwards nothing may be lost, doubled or left behind.

    python -m benchmarks.storm --faults 1000 --seed 7
    python -m benchmarks.storm --faults 20 --jobs 1            small
    python -m benchmarks.storm --batch 123456                  one batch again, by its seed

Each batch has a folder of its own (a store, a cache, a temporary directory). Its command meets
faults of several kinds, is resumed under further ones, and at last without any. Then every run is
FINISHED exactly once and with its files, rankings.csv is that of an undisturbed batch byte for
byte, each command has ended with a documented exit code and without a traceback, no process
outlived it by more than 4 s, and no file is where it does not belong. What is wrong is printed with
the folder, which is then kept. The seed fixes kinds and moments; what a moment meets depends on
the machine. Ctrl-C ends the storm after the batches under way.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.storm.batch import Outcome, run_batch
from benchmarks.storm.faults import KINDS
from benchmarks.storm.sandbox import Grid, Sandbox

GRIDS = (
    Grid(n_choices=12, seconds=0.15),
    Grid(n_choices=6, n_scenarios=4, seconds=0.2),
    Grid(n_choices=10, seconds=0.1, output_dir=True),
)
"""What the batches compute, in turn."""


def undisturbed(grid: Grid, kernels: Path) -> bytes:
    """Return rankings.csv of a grid that met no fault."""
    with tempfile.TemporaryDirectory(prefix="storm-") as root:
        sandbox = Sandbox(root=Path(root), kernels=kernels)
        command = sandbox.start(grid.arguments)
        if command.process.wait() != 0:
            raise SystemExit(
                f"without any fault: exit {command.process.returncode}: {command.errors}"
            )
        return (sandbox.batches[0] / "rankings.csv").read_bytes()


def migrated(folder: Path) -> Path:
    """Return a database whose migrations were run, to be copied into every other sandbox."""
    database = folder / "mlflow.db"
    program = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{database}"]
    subprocess.run(program, check=True, capture_output=True)
    return database


class Storm:
    """The batches of a storm, and what came of them."""

    def __init__(self, folder: Path, n_faults: int, kinds: Sequence[str] = ()) -> None:
        self.kinds = [kind for kind in KINDS if not kinds or kind.name in kinds]
        self.folder, self.n_faults = folder, n_faults
        self.kernels = folder / "kernels"
        self.kernels.mkdir()
        self.references = [undisturbed(grid, self.kernels) for grid in GRIDS]
        self.database = migrated(folder)
        self.outcomes: list[Outcome] = []
        self.lock = threading.Lock()

    @property
    def applied(self) -> Counter[str]:
        """How many faults of each kind have happened."""
        return sum((outcome.applied for outcome in self.outcomes), Counter())

    def batch(self, seed: int) -> None:
        """Compute one batch, unless enough faults have happened."""
        with self.lock:
            if self.applied.total() >= self.n_faults:
                return
        which = seed % len(GRIDS)
        root = Path(tempfile.mkdtemp(prefix="storm-"))
        sandbox = Sandbox(root=root, kernels=self.kernels)
        if seed % 4:  # the others meet faults while their store is made
            (sandbox.work / "mlruns").mkdir()
            shutil.copyfile(self.database, sandbox.database)
        try:
            outcome = run_batch(sandbox, GRIDS[which], seed, self.references[which], self.kinds)
        except Exception as error:  # noqa: BLE001 (a batch that hangs is a finding, too)
            sandbox.end_everything()
            outcome = Outcome(root=root, wrong=[f"{type(error).__name__}: {error}"])
        with self.lock:
            self.outcomes.append(outcome)
            if outcome.wrong:
                print(f"batch {seed} in {root}:", *outcome.story, sep="\n  ")
                print(*(f"  WRONG {text}" for text in outcome.wrong), sep="\n", flush=True)
            print(f"{len(self.outcomes)} batches, {self.applied.total()} faults", flush=True)

    def abate(self) -> None:
        """Begin no further batch; those under way come to their end."""
        self.n_faults = 0

    def report(self) -> bool:
        """Print what happened; return whether all was well."""
        wrong = [outcome for outcome in self.outcomes if outcome.wrong]
        width = max(len(name) for name in self.applied) if self.applied else 0
        for name, number in sorted(self.applied.items(), key=lambda item: -item[1]):
            print(f"{name:{width}}  {number:5}")
        n_commands = sum(outcome.n_commands for outcome in self.outcomes)
        print(
            f"{self.applied.total()} faults in {len(self.outcomes)} batches and {n_commands} "
            f"commands; {len(wrong)} batches are not as they must be"
        )
        return not wrong


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=100, help="how many faults at least")
    parser.add_argument("--seed", type=int, default=1, help="of kinds and moments")
    parser.add_argument("--jobs", type=int, default=2, help="batches at once")
    parser.add_argument("--batch", type=int, help="compute this one batch only")
    parser.add_argument("--kind", action="append", default=[], help="only faults of this kind")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Let the storm loose."""
    options = parse(arguments)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="storm-shared-") as folder:
        storm = Storm(Path(folder), options.faults, options.kind)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: storm.abate())
        rng = random.Random(options.seed)
        with ThreadPoolExecutor(options.jobs) as pool:
            if options.batch is not None:
                seeds = [options.batch]
            else:
                seeds = [rng.randrange(10**9) for _ in range(options.faults)]
            list(pool.map(storm.batch, seeds))
        return 0 if storm.report() else 1


if __name__ == "__main__":
    sys.exit(main())
