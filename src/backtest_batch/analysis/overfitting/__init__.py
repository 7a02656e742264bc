"""Skill or luck: whether the best run of a sweep beats the best of as many by chance.

``evaluate`` is the entry; docs/statistics.md has the formulas, the rules and a worked example.
"""

from backtest_batch.analysis.overfitting.document import (
    EXPLANATIONS,
    Assessment,
    Explanation,
    assess,
    evaluate,
)
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
