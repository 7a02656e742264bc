"""The tables of a walk-forward: a row a split and run, a run and metric, a bar; and their CSV."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.parameter_values import levels_of
from backtest_batch.analysis.run_table import OUT_OF_SAMPLE
from backtest_batch.analysis.walk_forward.curve import benchmark_returns
from backtest_batch.analysis.walk_forward.walk import ScenarioWalk
from backtest_batch.arrays import FloatArray
from backtest_batch.core.windows import WindowMetrics

if TYPE_CHECKING:
    import pyarrow as pa

IN_SAMPLE = "is_"
"""Prefix of the metrics of training windows."""


def summary_table(walks: Sequence[ScenarioWalk]) -> pd.DataFrame:
    """Return ``walk_forward_summary``: one row for each split and run, scenario after scenario.

    Parameters
    ----------
    walks
        One for each scenario.

    Returns
    -------
    DataFrame of shape (n_splits * n_runs, any)
        split, run_id, train_start, train_end, test_start, test_end (first and last bar,
        inclusive), is_<metric> and oos_<metric> (NaN where undefined), chosen, scenario.
    """
    return pd.concat([_summary(walk) for walk in walks], ignore_index=True)


def _summary(walk: ScenarioWalk) -> pd.DataFrame:
    splits, run_ids = walk.plan.splits, np.array(walk.runs.run_ids, dtype=object)
    n_splits, n_runs = len(splits), len(run_ids)
    index = walk.runs.index
    columns: dict[str, object] = {
        "split": np.repeat(np.arange(n_splits), n_runs),
        "run_id": np.tile(run_ids, n_splits),
    }
    for name in ("train_start", "train_end", "test_start", "test_end"):
        bars = np.array([getattr(split, name) for split in splits])
        columns[name] = index[np.repeat(bars, n_runs)]
    for prefix, metrics in _parts(walk):
        for name, values in zip(metrics.names, metrics.values, strict=True):
            columns[prefix + name] = values.reshape(-1)
    chosen = np.zeros((n_splits, n_runs), dtype=np.bool_)
    for number, choice in enumerate(walk.choices):
        if choice is not None:
            chosen[number, choice] = True
    columns["chosen"] = chosen.reshape(-1)
    columns["scenario"] = walk.runs.scenario
    return pd.DataFrame(columns)


def aggregate_table(walks: Sequence[ScenarioWalk]) -> pd.DataFrame:
    """Return ``walk_forward_aggregate``: each metric of each run over the splits.

    Parameters
    ----------
    walks
        One for each scenario.

    Returns
    -------
    DataFrame of shape (n_runs * 2 * n_metrics, 7)
        run_id, metric (is_<metric> or oos_<metric>), count (splits in which it is defined), mean,
        std (ddof 1, NaN for one split), min, max.
    """
    return pd.concat([_aggregate(walk) for walk in walks], ignore_index=True)


def _aggregate(walk: ScenarioWalk) -> pd.DataFrame:
    names = [prefix + name for prefix, metrics in _parts(walk) for name in metrics.names]
    values = np.concatenate([metrics.values for _, metrics in _parts(walk)])
    # From (n_metrics, n_splits, n_runs) to one row a run and metric.
    by_row = values.transpose(2, 0, 1).reshape(-1, values.shape[1])
    rows = _statistics(by_row)
    run_ids = np.array(walk.runs.run_ids, dtype=object)
    keys = {"run_id": np.repeat(run_ids, len(names)), "metric": np.tile(names, len(run_ids))}
    return pd.DataFrame(keys | rows)


def _statistics(values: FloatArray) -> dict[str, FloatArray]:
    """Return statistics of each row, NaN left out."""
    defined = np.isfinite(values)
    count = defined.sum(axis=1)
    some, several = count > 0, count > 1
    mean = np.full(len(values), np.nan)
    np.divide(np.where(defined, values, 0.0).sum(axis=1), count, out=mean, where=some)
    squares = np.where(defined, values - mean[:, None], 0.0) ** 2
    variance = np.full(len(values), np.nan)
    np.divide(squares.sum(axis=1), count - 1, out=variance, where=several)
    low = np.where(defined, values, np.inf).min(axis=1)
    high = np.where(defined, values, -np.inf).max(axis=1)
    return {
        "count": count,
        "mean": mean,
        "std": np.sqrt(variance),
        "min": np.where(some, low, np.nan),
        "max": np.where(some, high, np.nan),
    }


def equity_table(walks: Sequence[ScenarioWalk]) -> pd.DataFrame:
    """Return ``walk_forward_equity``: one row for each bar of the stitched curves.

    Parameters
    ----------
    walks
        One for each scenario.

    Returns
    -------
    DataFrame of shape (n_bars, 6 or 7)
        timestamp, net_return, equity, run_id (of the choice; None in cash), split, scenario; and
        path where bars are tested several times.
    """
    frames = []
    for walk in walks:
        names = np.array([*walk.runs.run_ids, None], dtype=object)
        for path, curve in enumerate(walk.curves):
            frame = pd.DataFrame(
                {
                    "timestamp": walk.runs.index[curve.bars],
                    "net_return": curve.net_return,
                    "equity": curve.equity,
                    # Cash, -1, is the last of the names.
                    "run_id": names[curve.runs],
                    "split": curve.splits,
                    "scenario": walk.runs.scenario,
                }
            )
            frames.append(frame.assign(path=path) if len(walk.curves) > 1 else frame)
    return pd.concat(frames, ignore_index=True)


def run_metrics(walks: Sequence[ScenarioWalk]) -> pd.DataFrame:
    """Return the metrics of each run on all test bars.

    Parameters
    ----------
    walks
        One for each scenario.

    Returns
    -------
    DataFrame of shape (n_runs, n_metrics)
        Indexed by run_id, columns oos_<metric>, NaN where undefined.
    """
    frames = [
        pd.DataFrame(
            walk.tested.values[:, 0].T,
            index=pd.Index(walk.runs.run_ids, name="run_id", dtype=object),
            columns=[OUT_OF_SAMPLE + name for name in walk.tested.names],
        )
        for walk in walks
    ]
    return pd.concat(frames)


def _parts(walk: ScenarioWalk) -> tuple[tuple[str, WindowMetrics], tuple[str, WindowMetrics]]:
    return (IN_SAMPLE, walk.in_sample), (OUT_OF_SAMPLE, walk.out_of_sample)


def choices_table(walks: Sequence[ScenarioWalk]) -> pd.DataFrame:
    """Return the choice made in each split: one row a split, scenario after scenario.

    Parameters
    ----------
    walks
        One for each scenario.

    Returns
    -------
    DataFrame of shape (n_splits, any)
        split, run_id (None where none qualified), train_start, train_end, test_start, test_end,
        the decision parameters that differ between runs, is_sharpe, oos_sharpe, is_cagr, oos_cagr,
        switch_cost (fraction of equity; walk-forwards only), scenario.
    """
    return pd.concat([_choices(walk) for walk in walks], ignore_index=True)


def _choices(walk: ScenarioWalk) -> pd.DataFrame:
    runs = walk.runs
    swept = [
        str(name) for name in runs.parameters if len(levels_of(runs.parameters[name]).values) > 1
    ]
    costs = {switch.bar: switch.cost for switch in walk.curves[0].switches}
    rows = []
    for split, choice in zip(walk.plan.splits, walk.choices, strict=True):
        row: dict[str, Any] = {
            "split": split.number,
            "run_id": None if choice is None else runs.run_ids[choice],
        }
        for name in ("train_start", "train_end", "test_start", "test_end"):
            row[name] = runs.index[getattr(split, name)]
        for name in swept:
            row[name] = None if choice is None else runs.parameters[name].iloc[choice]
        for metric in ("sharpe", "cagr"):
            for prefix, metrics in _parts(walk):
                values = metrics.of(metric)[split.number]
                row[prefix + metric] = np.nan if choice is None else values[choice]
        if len(walk.curves) == 1:
            row["switch_cost"] = costs.get(split.test_start - 1, 0.0)
        rows.append(row | {"scenario": runs.scenario})
    return pd.DataFrame(rows)


def compared_curves(walk: ScenarioWalk) -> pd.DataFrame:
    """Return net returns on the test bars: what was stitched beside what it is compared with.

    Parameters
    ----------
    walk
        The walk-forward of one scenario.

    Returns
    -------
    DataFrame of shape (n_test_bars, 1 to 3)
        Indexed by timestamp: ``walk_forward`` (of several paths the median), the run_id that is
        best over everything, and ``benchmark``, where these are.
    """
    runs, curve = walk.runs, walk.curve
    columns: dict[str, FloatArray] = {"walk_forward": curve.net_return}
    if walk.best_overall is not None:
        returns = np.asarray(runs.returns[curve.bars, walk.best_overall], dtype=np.float64)
        columns[runs.run_ids[walk.best_overall]] = returns
    if runs.benchmark is not None:
        columns["benchmark"] = benchmark_returns(runs, curve)
    return pd.DataFrame(columns, index=runs.index[curve.bars])


def csv_bytes(table: pd.DataFrame) -> bytes:
    """Return a table as CSV in UTF-8; its index is left out.

    Floats have the shortest digits that read back to the same number, missing values are empty,
    booleans ``true`` and ``false``, and timestamps at midnight are dates. Texts stand in quotes
    when one of them has to.

    Parameters
    ----------
    table
        One of the tables of a walk-forward.
    """
    import pyarrow as pa

    texts = {
        str(name): _moments(column)
        for name, column in table.items()
        if isinstance(column.dtype, pd.DatetimeTZDtype) or column.dtype.kind == "M"
    }
    rows = pa.Table.from_pandas(table.assign(**texts), preserve_index=False)
    header = ",".join(_quoted(str(name)) for name in table.columns)
    try:
        body = _body(rows, "none")
    except pa.ArrowInvalid:  # a text with a comma, a quote or a line feed
        body = _body(rows, "needed")
    return f"{header}\n".encode() + body


def _body(rows: "pa.Table", quoting_style: str) -> bytes:
    from pyarrow import csv

    options = csv.WriteOptions(include_header=False, quoting_style=quoting_style)
    buffer = io.BytesIO()
    csv.write_csv(rows, buffer, options)
    return buffer.getvalue()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\r\n') else text


def _moments(column: pd.Series) -> pd.Series:
    """Return timestamps as text; few of them are distinct."""
    distinct = pd.DatetimeIndex(column.unique())
    midnights = (distinct == distinct.normalize()).all()
    names = [str(stamp.date() if midnights else stamp) for stamp in distinct]
    return column.map(dict(zip(distinct, names, strict=True)))
