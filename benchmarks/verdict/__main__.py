"""Operating characteristics of the whole verdict.

    python -m benchmarks.verdict results                      all cells, 200 sweeps each
    python -m benchmarks.verdict results --cells "garch 10y"  cells whose names have these words
    python -m benchmarks.verdict results --tables             what is there, without more sweeps
    python -m benchmarks.verdict results --tables --page docs/statistics.md    and into the page
    python -m benchmarks.verdict results --small              a few small sweeps, for CI

A sweep makes a market, backtests a grid (or an adaptive search) through the engine, and has the
verdict on it. Each result is a line in the folder, in a file a cell: killed and started again, it
goes on. Results of other code are not made again: another version wants another folder.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from backtest_batch.core.kernel_cache import use_kernel_cache
from benchmarks.verdict.cells import Cell, chosen_cells, sweep_once
from benchmarks.verdict.tables import origin, read_results, tables, write_page


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the results are, or will be")
    parser.add_argument("--sweeps", type=int, default=200, help="sweeps a cell")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--cells", nargs="*", default=[], help="words of their names")
    parser.add_argument("--list", action="store_true", help="only name the cells")
    parser.add_argument("--tables", action="store_true", help="only print what is there")
    parser.add_argument("--page", type=Path, help="put tables and plot into this page, too")
    parser.add_argument("--small", action="store_true", help="seconds, for CI")
    options = parser.parse_args()
    cells, sweeps = chosen_cells(options.cells), options.sweeps
    if options.small:
        cells = [cell for cell in cells if cell.years == 3 and cell.trials == 10]
        sweeps = min(sweeps, 2)
    if options.list:
        print("\n".join(cell.name for cell in cells))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.tables:
        fill(options.folder, cells, sweeps, options.jobs)
    results = read_results(options.folder)
    print(f"{tables(results)}\n{origin(results)}")
    if options.page:
        write_page(options.page, results)


def fill(folder: Path, cells: Sequence[Cell], sweeps: int, jobs: int) -> None:
    """Make the sweeps that are missing, and append each to the file of its cell."""
    missing = list(_missing(folder, cells, sweeps))
    if jobs == 1:
        _ready()
        for cell, number in missing:
            _append(folder, cell, sweep_once(cell, number))
        return
    with ProcessPoolExecutor(jobs, initializer=_ready) as pool:
        for first in range(0, len(missing), _AT_ONCE):
            part = missing[first : first + _AT_ONCE]
            running = {pool.submit(sweep_once, cell, number): cell for cell, number in part}
            for done in as_completed(running):
                _append(folder, running[done], done.result())


_AT_ONCE = 200


def _missing(folder: Path, cells: Sequence[Cell], sweeps: int) -> Iterator[tuple[Cell, int]]:
    results = read_results(folder)
    for cell in cells:
        held = {line["sweep"] for line in results.get(cell.name, [])}
        yield from ((cell, number) for number in range(sweeps) if number not in held)


def _ready() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    use_kernel_cache()


def _append(folder: Path, cell: Cell, result: dict[str, object]) -> None:
    # A line that a kill has cut off is closed by the next one.
    path = folder / f"{cell.name}.jsonl"
    whole = not path.exists() or path.read_bytes().endswith(b"\n") or not path.stat().st_size
    with path.open("a", encoding="utf-8") as file:
        file.write(("" if whole else "\n") + json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
