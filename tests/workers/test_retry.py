from backtest_batch.workers.executor import JITTER, LONGEST_DELAY_SECONDS, RetryPolicy


def test_no_retries_by_default():
    assert not RetryPolicy().allows(1, "ValueError", permanent=False)


def test_as_many_attempts_as_allowed():
    policy = RetryPolicy(retries=2)
    assert [policy.allows(attempt, "ValueError", permanent=False) for attempt in (1, 2, 3)] == [
        True,
        True,
        False,
    ]


def test_what_can_never_succeed_is_not_retried():
    assert not RetryPolicy(retries=9).allows(1, "DataError", permanent=True)


def test_worker_failures_are_retried_only_when_asked_for():
    for name in ("WorkerDied", "RunTimeout", "MemoryLimitExceeded"):
        assert not RetryPolicy(retries=1).allows(1, name, permanent=False)
        assert RetryPolicy(retries=1, worker_failures=True).allows(1, name, permanent=False)


def test_pauses_grow_are_capped_and_repeat_themselves():
    policy = RetryPolicy(retries=99, delay_seconds=1.0, backoff=2.0, seed=3)
    for attempt, pause in ((1, 1.0), (2, 2.0), (5, 16.0), (60, LONGEST_DELAY_SECONDS)):
        delay = policy.delay(0, attempt)
        assert pause <= delay <= pause * (1 + JITTER)
        assert delay == RetryPolicy(delay_seconds=1.0, backoff=2.0, seed=3).delay(0, attempt)
    assert policy.delay(0, 1) != policy.delay(1, 1)
    assert RetryPolicy(delay_seconds=0.0).delay(0, 3) == 0.0
