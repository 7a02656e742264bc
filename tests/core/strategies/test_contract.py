import dataclasses

import pytest

from backtest_batch.core import strategies
from backtest_batch.core.strategies import (
    EqualWeight,
    InverseVolatility,
    MeanReversion,
    MultifactorLongShort,
    Strategy,
    TrendBaseline,
)
from backtest_batch.testing import StrategyContract

SHIPPED = [
    TrendBaseline(),
    TrendBaseline(average="sma", direction="long_short"),
    TrendBaseline(average="sma", fast=1, slow=2),
    MultifactorLongShort(),
    MultifactorLongShort(factors={"short_term_reversal": 1.0}, reversal_lookback=1, quantile=0.5),
    MeanReversion(),
    MeanReversion(window=5, entry_z=0.5, direction="long_short"),
    InverseVolatility(),
    InverseVolatility(window=2),
    EqualWeight(),
]


class TestShippedStrategy(StrategyContract):
    @pytest.fixture(autouse=True, params=SHIPPED, ids=repr)
    def _chosen(self, request):
        self.chosen = request.param

    def make_strategy(self):
        return dataclasses.replace(self.chosen)


def test_every_exported_strategy_is_in_the_list():
    exported = {name for name in strategies.__all__ if name != "Strategy"}
    assert {type(strategy).__name__ for strategy in SHIPPED} == exported


def test_exports_are_sorted_and_satisfy_the_protocol():
    assert strategies.__all__ == sorted(strategies.__all__)
    assert all(isinstance(strategy, Strategy) for strategy in SHIPPED)
