"""How long the nine-run command takes, against ``import mlflow`` and the stock application.

    python -m benchmarks.startup
    python -m benchmarks.startup --small     for CI

Wall seconds of whole processes, in turns; medians. The store exists and the kernels are compiled,
as from the second command on.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.sweep import STOCK, run

NINE = ["-m", "commission_bps=0,0.5,1", "max_gross_exposure=0.6,0.8,1.0"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    turns = 1 if options.small else options.turns
    sides = {
        "import mlflow": [sys.executable, "-c", "import mlflow"],
        "nine runs": [sys.executable, "-m", "backtest_batch", *NINE],
    }
    sides["stock application"] = [sys.executable, str(STOCK), *NINE]
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mlruns").mkdir()
        for command in sides.values():
            run(command, folder)
        for _ in range(turns):
            for side, command in sides.items():
                seconds[side].append(run(command, folder)[0])
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    print(f"{'':<20}{'median s':>10}{'least':>8}{'most':>8}{'ratio':>8}")
    for side, values in seconds.items():
        ratio = medians[side] / medians["nine runs"]
        print(
            f"{side:<20}{medians[side]:>10.2f}{min(values):>8.2f}{max(values):>8.2f}{ratio:>8.2f}"
        )
    nine = medians["nine runs"] / medians["import mlflow"]
    print(f"\nthe nine runs take {nine:.2f} times as long as import mlflow;")
    faster = medians["stock application"] / medians["nine runs"]
    print(f"the stock application takes {faster:.2f} times as long as the nine runs")


if __name__ == "__main__":
    main()
