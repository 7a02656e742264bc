import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backtest_batch.analysis.walk_forward import WalkForwardSettings, make_splits
from backtest_batch.core.splits import positions
from backtest_batch.errors import ConfigurationError
from tests.support.walk_forward_cases import business_days


def settings_of(n_folds, n_test_folds, purged_size=0, embargo_size=0):
    return WalkForwardSettings(
        method="combinatorial",
        n_folds=n_folds,
        n_test_folds=n_test_folds,
        purged_size=purged_size,
        embargo_size=embargo_size,
        min_train_size=1,
        min_test_size=1,
    )


@pytest.mark.oracle
@given(
    n_bars=st.integers(20, 200),
    n_folds=st.integers(3, 8),
    n_test_folds=st.integers(2, 7),
    purged=st.integers(0, 6),
    embargo=st.integers(0, 6),
)
@hypothesis_settings(deadline=None, max_examples=100)
def test_splits_and_paths_agree_with_skfolio(n_bars, n_folds, n_test_folds, purged, embargo):
    from skfolio.model_selection import CombinatorialPurgedCV

    assume(n_test_folds < n_folds)
    settings = settings_of(n_folds, n_test_folds, purged, embargo)
    oracle = CombinatorialPurgedCV(n_folds, n_test_folds, purged, embargo)
    try:
        expected = list(oracle.split(pd.DataFrame(np.zeros((n_bars, 1)))))
    except ValueError:
        with pytest.raises(ConfigurationError):
            make_splits(settings, business_days(n_bars))
        return
    # A training fold that purging empties leaves no split to learn from.
    assume(all(len(train) for train, _ in expected))
    plan = make_splits(settings, business_days(n_bars))

    assert len(plan.splits) == len(expected) == math.comb(n_folds, n_test_folds)
    for split, (train, tests) in zip(plan.splits, expected, strict=True):
        np.testing.assert_array_equal(positions(split.train), train)
        for bars, test in zip(split.test, tests, strict=True):
            np.testing.assert_array_equal(positions([bars]), test)
    paths = np.array([[segment.split for segment in path] for path in plan.paths])
    np.testing.assert_array_equal(paths.T, oracle.recombined_paths)


def test_every_path_covers_every_bar_once():
    plan = make_splits(settings_of(6, 2), business_days(100))

    assert len(plan.splits) == 15
    assert len(plan.paths) == 5
    for path in plan.paths:
        np.testing.assert_array_equal(positions([segment.bars for segment in path]), np.arange(100))
        for segment in path:
            assert segment.bars in plan.splits[segment.split].test


def test_one_test_fold_is_cross_validation():
    plan = make_splits(settings_of(4, 1, purged_size=2, embargo_size=3), business_days(40))

    assert [split.test for split in plan.splits] == [
        (range(10),),
        (range(10, 20),),
        (range(20, 30),),
        (range(30, 40),),
    ]
    assert plan.splits[1].train == (range(8), range(25, 40))
    assert len(plan.paths) == 1
