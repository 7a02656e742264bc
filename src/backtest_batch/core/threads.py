"""Work on arrays shared among threads: numpy and compiled loops let go of the interpreter."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from backtest_batch.config.schema import processors

Part = TypeVar("Part")
Result = TypeVar("Result")


def in_threads(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Return ``work`` of each part, in the order of the parts; a thread a processor shares them."""
    threads = min(len(parts), processors())
    if threads <= 1:
        return [work(part) for part in parts]
    from threadpoolctl import threadpool_limits  # not needed by a small batch

    # Threads of BLAS within these would wait for each other, which costs as much as working does.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))
