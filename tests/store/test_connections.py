import threading
import time

import pytest

from backtest_batch.store.client import CONNECTIONS, call_each, each


def test_results_come_in_the_order_of_the_items_and_calls_overlap(store):
    met = threading.Barrier(CONNECTIONS, timeout=30)

    def call(number: int) -> int:
        met.wait()  # broken, and so an error, unless so many calls are under way at once
        time.sleep(0.01 * (CONNECTIONS - number))
        return number * 10

    found = list(each(store, call, range(CONNECTIONS), at_once=True))
    assert found == [(number, number * 10) for number in range(CONNECTIONS)]


def test_what_was_under_way_when_a_call_failed_is_told_before_the_failure(store):
    n_items = 10 * CONNECTIONS
    called, told = [], []

    def call(number: int) -> int:
        called.append(number)
        if number == 1:
            raise ConnectionError("lost")
        time.sleep(0.05)
        return number

    def tell() -> None:
        for _, result in each(store, call, range(n_items), at_once=True):
            told.append(result)

    with pytest.raises(ConnectionError, match="lost"):
        tell()
    # Nothing that was done is forgotten, and what had not begun is left.
    assert sorted([*told, 1]) == sorted(called)
    assert len(called) < n_items


@pytest.mark.parametrize("at_once", [None, True])
def test_a_database_and_a_single_item_are_called_in_the_caller_s_thread(store, at_once):
    threads = set()
    items = [1] if at_once else range(5)
    call_each(store, lambda _: threads.add(threading.get_ident()), items, at_once=at_once)
    assert threads == {threading.get_ident()}


def test_nothing_to_call_is_no_fault(store):
    assert list(each(store, lambda item: item, [], at_once=True)) == []
