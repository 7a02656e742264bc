"""Several calls to a tracking server at once."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from backtest_batch.tracking.store import Store

CONNECTIONS = 8
"""Requests that a server is sent at once; MLflow's client keeps up to ten connections open."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    store: Store,
    call: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    at_once: bool | None = None,
) -> Iterator[tuple[int, Result]]:
    """Call a function for each item, yielding position and result in the order of the items.

    Parameters
    ----------
    store
        Where the calls go. A server is called over several connections; a database, which takes
        one writer at a time anyway, in the caller's thread.
    call, items
        What is called with what.
    at_once
        Whether several connections are used; None for as the store is.

    Raises
    ------
    Exception
        What the first call that fails raises, after those in flight have ended; what these came
        to is yielded before.
    """
    if not (store.is_http if at_once is None else at_once) or len(items) < 2:
        for index, item in enumerate(items):
            yield index, call(item)
        return
    lost = threading.Event()

    def attempt(item: Item) -> list[Result]:
        # What has not begun when another call fails would only wait for the same server again.
        if lost.is_set():
            return []
        try:
            return [call(item)]
        except BaseException:
            lost.set()
            raise

    failure: BaseException | None = None
    with ThreadPoolExecutor(min(CONNECTIONS, len(items))) as pool:
        # What is said of MLflow's log lines holds in these threads, too.
        futures = [pool.submit(copy_context().run, attempt, item) for item in items]
        for index, future in enumerate(futures):
            error = future.exception()
            if error is None:
                yield from ((index, result) for result in future.result())
            failure = failure or error
    if failure is not None:
        raise failure


def call_each(
    store: Store,
    call: Callable[[Item], object],
    items: Sequence[Item],
    *,
    at_once: bool | None = None,
) -> None:
    """Call a function for each item, as :func:`each` does, for its effect."""
    for _ in each(store, call, items, at_once=at_once):
        pass
