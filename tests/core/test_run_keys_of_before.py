"""A key that is added later leaves the run keys of before as they were, at its neutral value."""

import pytest

from backtest_batch.config.schema import NEUTRAL
from backtest_batch.core.fingerprint import digest, result_config

BEFORE = {
    "data": {"_target_": "backtest_batch.market.sources.Csv", "path": "prices.csv"},
    "strategy": {"_target_": "backtest_batch.strategies.EqualWeight"},
    "rebalance": "M",
    "commission_bps": 0.5,
    "walk_forward": {},
}


def with_key(name, value):
    root, _, rest = name.partition(".")
    return {**BEFORE, root: {**BEFORE[root], rest: value} if rest else value}


def hashed(config):
    return digest(result_config(config))


def test_all_new_keys_at_their_neutral_values_change_nothing():
    config = BEFORE
    for name, value in NEUTRAL.items():
        root, _, rest = name.partition(".")
        config = {**config, root: {**config[root], rest: value} if rest else value}
    assert len(NEUTRAL) > 1
    assert hashed(config) == hashed(BEFORE)


@pytest.mark.parametrize("name", [name for name in NEUTRAL if name.startswith("data.")])
def test_another_value_is_another_run(name):
    other = 3 if isinstance(NEUTRAL[name], int) else "other"
    assert hashed(with_key(name, other)) != hashed(BEFORE)


def test_an_equal_value_of_another_type_is_not_taken_for_the_neutral_one():
    assert hashed(with_key("data.features_lag", False)) != hashed(BEFORE)
