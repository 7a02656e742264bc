"""Walk-forward: choose in-sample, judge out-of-sample.

:func:`parse` reads the settings, :func:`make_splits` lays out the windows, :func:`walk_forward`
measures, chooses and stitches within one scenario; the tables and :func:`summarise` present the
result.
"""

from backtest_batch.analysis.walk_forward.curve import (
    Bootstrap,
    DriftedWeights,
    StitchedCurve,
    Switch,
    stitch,
)
from backtest_batch.analysis.walk_forward.tables import (
    aggregate_table,
    choices_table,
    compared_curves,
    csv_bytes,
    equity_table,
    run_metrics,
    sentences,
    summarise,
    summary_table,
)
from backtest_batch.analysis.walk_forward.walk import ScenarioWalk, check_ranking, walk_forward
from backtest_batch.core.fitting import (
    FittedWeights,
    Route,
    drifted_weights,
    fitted_weights,
    in_sample_metrics,
    per_bar_arrays,
)
from backtest_batch.core.split_settings import parse
from backtest_batch.core.splits import (
    ExplicitSplit,
    Segment,
    Split,
    SplitPlan,
    WalkForwardSettings,
    make_splits,
    moved,
)
from backtest_batch.core.windows import (
    ScenarioRuns,
    WindowMetrics,
    available_metrics,
    measure_windows,
    metrics_with,
)

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
