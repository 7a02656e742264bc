"""Moves that look like splits, and those that do not."""

import numpy as np
import pandas as pd
import pytest

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.panel import panel_from_frames
from backtest_batch.core.data.sources import Csv
from backtest_batch.core.data.suspicions import describe_moves

DAYS = pd.bdate_range("2021-03-01", periods=80)


def closes(move, *, volatility=0.01, at=50):
    """Return a random walk that moves by a fraction on one bar."""
    returns = np.random.default_rng(11).normal(0, volatility, len(DAYS))
    returns[at] = np.log1p(move)
    return 50 * np.exp(returns.cumsum())


def said(close, **fields):
    return describe_moves(
        close[:, None], DAYS, ["KO"], fields={name: held[:, None] for name, held in fields.items()}
    )


@pytest.mark.parametrize(
    ("move", "split"),
    [
        (1.004 / 2 - 1, "2 for 1"),
        (0.98 / 2 - 1, "2 for 1"),
        (1.03 / 2 - 1, "2 for 1"),
        (1.01 / 3 - 1, "3 for 1"),
        (0.99 / 7 - 1, "7 for 1"),
        (1.02 / 20 - 1, "20 for 1"),
        (1.005 * 2 / 3 - 1, "3 for 2"),
        (0.995 * 3 / 2 - 1, "2 for 3"),
        (1.99 - 1, "1 for 2"),
        (10.1 - 1, "1 for 10"),
    ],
)
def test_moves_near_the_ratio_of_a_split(move, split):
    text = said(closes(move))
    assert f"looks like a split that is not adjusted for: KO {move:+.1%} at" in text
    assert f"({split}?)" in text
    assert ("over 50 %" in text) == (abs(move) > 0.5)


@pytest.mark.parametrize("move", [-0.35, -0.42, 0.4, -0.31, 0.45, -0.28])
def test_crashes_and_jumps_that_are_no_ratio(move):
    assert said(closes(move)) is None


def test_a_wild_series_is_not_suspected():
    assert said(closes(-1 / 3, volatility=0.08)) is None


def test_a_step_or_two_of_a_price_in_cents_is_no_split():
    cents = np.array([0.03, 0.03, 0.03, 0.02, 0.02, 0.02, 0.02, 0.04, 0.04, 0.04, 0.04, 0.03] * 6)
    index = pd.bdate_range("2021-03-01", periods=len(cents))
    assert "look" not in str(describe_moves(cents[:, None], index, ["PENNY"]))
    still = np.r_[np.full(40, 20.0), 20.01, np.full(40, 10.0)]  # cents, too, but a thousand of them
    index = pd.bdate_range("2021-03-01", periods=len(still))
    assert "(2 for 1?)" in str(describe_moves(still[:, None], index, ["FUND"]))


def test_the_range_of_the_bar_must_lie_on_the_new_level():
    close = closes(-0.498)
    old, new = close[49], close[50]
    open_, high, low = close.copy(), close * 1.01, close * 0.99
    assert "(2 for 1?)" in said(close, open=open_, high=high, low=low)
    # A fall within the day: it opened where it had closed.
    open_[50], high[50] = old, old * 1.002
    assert said(close, open=open_, high=high, low=low) is None
    # With the range in line, 3 for 2 may come with a day of its own.
    third = closes(0.98 * 2 / 3 - 1)
    assert said(third) is None
    assert "(3 for 2?)" in said(third, open=third, high=third * 1.01, low=third * 0.99)
    assert new < old


def test_several_splits_are_counted_and_three_are_named(caplog):
    splits = [closes(1.002 / 2 - 1, at=at) for at in (20, 30, 40, 60)]
    frame = pd.DataFrame(dict(zip("ABCD", splits, strict=True)), DAYS)
    panel_from_frames(frame)
    assert "4 moves look like splits that are not adjusted for: A -49.9% at" in caplog.text
    assert caplog.text.count("for 1?)") == 3
    assert ", ..." in caplog.text


def test_a_split_is_a_warning_each_time_a_file_is_loaded(tmp_path, caplog):
    pd.DataFrame({"KO": closes(-0.498)}, DAYS).to_csv(tmp_path / "a.csv", index_label="date")
    for _ in ("read", "cached"):
        caplog.clear()
        load_panel(Csv(path=str(tmp_path / "a.csv")))
        assert "1 move looks like a split that is not adjusted for: KO -49.8%" in caplog.text
