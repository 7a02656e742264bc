"""Walk-forward: choose in-sample, judge out-of-sample.

:func:`parse` reads the settings, :func:`make_splits` lays the windows, :func:`walk_forward`
measures, chooses and stitches within one scenario; the tables and :func:`summarise` show it.
"""

from backtest_batch.comparison.walk_forward.choose import check_ranking
from backtest_batch.comparison.walk_forward.csv_file import csv_bytes
from backtest_batch.comparison.walk_forward.evidence import Bootstrap
from backtest_batch.comparison.walk_forward.fitted import FittedWeights, Route, fitted_weights
from backtest_batch.comparison.walk_forward.parse import parse
from backtest_batch.comparison.walk_forward.per_bar import (
    drifted_weights,
    in_sample_metrics,
    per_bar_arrays,
)
from backtest_batch.comparison.walk_forward.runs import ScenarioRuns
from backtest_batch.comparison.walk_forward.settings import ExplicitSplit, WalkForwardSettings
from backtest_batch.comparison.walk_forward.split import Segment, Split, SplitPlan
from backtest_batch.comparison.walk_forward.splits import make_splits, moved
from backtest_batch.comparison.walk_forward.stitch import (
    DriftedWeights,
    StitchedCurve,
    Switch,
    stitch,
)
from backtest_batch.comparison.walk_forward.summary import summarise
from backtest_batch.comparison.walk_forward.tables import (
    aggregate_table,
    choices_table,
    compared_curves,
    equity_table,
    run_metrics,
    summary_table,
)
from backtest_batch.comparison.walk_forward.walk import ScenarioWalk, walk_forward
from backtest_batch.comparison.walk_forward.windows import (
    WindowMetrics,
    available_metrics,
    measure_windows,
    metrics_with,
)
from backtest_batch.comparison.walk_forward.words import sentences

__all__ = [
    "Bootstrap",
    "DriftedWeights",
    "ExplicitSplit",
    "FittedWeights",
    "Route",
    "ScenarioRuns",
    "ScenarioWalk",
    "Segment",
    "Split",
    "SplitPlan",
    "StitchedCurve",
    "Switch",
    "WalkForwardSettings",
    "WindowMetrics",
    "aggregate_table",
    "available_metrics",
    "check_ranking",
    "choices_table",
    "compared_curves",
    "csv_bytes",
    "drifted_weights",
    "equity_table",
    "fitted_weights",
    "in_sample_metrics",
    "make_splits",
    "measure_windows",
    "metrics_with",
    "moved",
    "parse",
    "per_bar_arrays",
    "run_metrics",
    "sentences",
    "stitch",
    "summarise",
    "summary_table",
    "walk_forward",
]
