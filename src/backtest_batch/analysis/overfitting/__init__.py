"""Skill or luck: whether a sweep's best run beats the best of as many runs without skill.

``evaluate`` is the entry point; docs/statistics.md has formulas, rules and a worked example.
"""

from backtest_batch.analysis.overfitting.document import Assessment, assess, evaluate
from backtest_batch.analysis.overfitting.explanations import EXPLANATIONS, Explanation
from backtest_batch.analysis.overfitting.samples import OverfittingSettings, Trial, Trials

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
