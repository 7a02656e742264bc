"""Skill or luck: whether the best run of a sweep beats the best of as many by chance.

``evaluate`` is the entry; docs/statistics.md has the formulas, the rules and a worked example.
"""

from backtest_batch.comparison.overfitting.assess import Assessment, assess, evaluate
from backtest_batch.comparison.overfitting.explanations import EXPLANATIONS, Explanation
from backtest_batch.comparison.overfitting.trials import OverfittingSettings, Trial, Trials

__all__ = [
    "EXPLANATIONS",
    "Assessment",
    "Explanation",
    "OverfittingSettings",
    "Trial",
    "Trials",
    "assess",
    "evaluate",
]
