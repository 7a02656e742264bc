import io
import time

from backtest_batch.report.terminal import LINE_SECONDS, Counts, ProgressDisplay


def test_counts_in_words():
    assert Counts(total=9).describe() == "0 done"
    counts = Counts(total=9, done=3, failed=1, running=2, best=("sharpe", 0.61803))
    assert counts.describe() == "3 done, 1 failed, 2 running, best sharpe 0.618"
    assert counts.ended == 4


def test_without_a_terminal_a_line_now_and_then():
    stream = io.StringIO()
    with ProgressDisplay(total=4, stream=stream) as progress:
        progress.counts.done = 1
        progress.show()
        assert stream.getvalue() == ""
        past = time.monotonic() - LINE_SECONDS - 1
        progress._started = progress._last_line = past
        progress.show()
        progress.show()
    assert stream.getvalue() == "1/4: 1 done, 5.5/min, about 34 s left\n"


def test_a_slow_batch_has_its_own_units():
    stream = io.StringIO()
    progress = ProgressDisplay(total=100, stream=stream)
    progress._started = time.monotonic() - 7_200
    for done in (0, 1, 200):
        progress.counts.done = done
        progress._last_line -= LINE_SECONDS + 1
        progress.show()
    none, slow, _ = stream.getvalue().splitlines()
    assert none == "0/100: 0 done"
    assert slow == "1/100: 1 done, 0.5/h, about 8 days 6 h left"


def test_output_that_nobody_reads_any_more():
    stream = io.StringIO()
    progress = ProgressDisplay(total=4, stream=stream)
    progress._last_line -= LINE_SECONDS + 1
    stream.close()
    progress.show()
