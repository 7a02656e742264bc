"""Several calls to a tracking server at once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from backtest_batch.tracking.store import Store

CONNECTIONS = 4
"""Requests that a server is sent at once."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    store: Store, call: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[int, Result]]:
    """Call a function for each item, yielding position and result in the order of the items.

    A server is called over several connections; a database, which takes one writer at a time
    anyway, in the caller's thread.

    Raises
    ------
    Exception
        What the first call that fails raises, after those in flight have ended; what these came
        to is yielded before.
    """
    if not store.is_http or len(items) < 2:
        for index, item in enumerate(items):
            yield index, call(item)
        return
    failure: BaseException | None = None
    with ThreadPoolExecutor(min(CONNECTIONS, len(items))) as pool:
        # What is said of MLflow's log lines holds in these threads, too.
        futures = [pool.submit(copy_context().run, call, item) for item in items]
        for index, future in enumerate(futures):
            if failure is not None and future.cancel():
                continue
            error = future.exception()
            if error is None:
                yield index, future.result()
            failure = failure or error
    if failure is not None:
        raise failure


def call_each(store: Store, call: Callable[[Item], object], items: Sequence[Item]) -> None:
    """Call a function for each item, as :func:`each` does, for its effect."""
    for _ in each(store, call, items):
        pass
