"""Prices to target weights: the protocol, and the strategies that are shipped."""

from backtest_batch.core.strategies.base import Strategy
from backtest_batch.core.strategies.equal_weight import EqualWeight
from backtest_batch.core.strategies.inverse_volatility import InverseVolatility
from backtest_batch.core.strategies.mean_reversion import MeanReversion
from backtest_batch.core.strategies.multifactor_long_short import MultifactorLongShort
from backtest_batch.core.strategies.trend_baseline import TrendBaseline

__all__ = [
    "EqualWeight",
    "InverseVolatility",
    "MeanReversion",
    "MultifactorLongShort",
    "Strategy",
    "TrendBaseline",
]
