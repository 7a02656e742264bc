"""Results of a walk-forward: findings as plain values and sentences, and tables as CSV.

Depending on the table, there is one row per split and run, per run and metric, or per bar.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.run_table import OUT_OF_SAMPLE
from backtest_batch.analysis.scenarios import levels_of, plain_value
from backtest_batch.analysis.walk_forward.curve import (
    Bootstrap,
    Series,
    StitchedCurve,
    benchmark_curve_metrics,
    benchmark_returns,
    beta_adjusted,
    curve_metrics,
    excess_returns,
    sharpe_intervals,
    t_statistic,
)
from backtest_batch.analysis.walk_forward.walk import (
    ScenarioWalk,
    modal_choice,
    needed_metrics,
    parameter_drift,
)
from backtest_batch.arrays import FloatArray
from backtest_batch.core.splits import moment
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
        inclusive), is_<metric> and oos_<metric> (NaN where undefined), searched (whether the
        split's own search evaluated the run; only with a search), chosen, scenario.
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
    if walk.searched is not None:
        columns["searched"] = walk.searched.reshape(-1)
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
    # From (n_metrics, n_splits, n_runs) to one row per run and metric.
    by_row = values.transpose(2, 0, 1).reshape(-1, values.shape[1])
    rows = _statistics(by_row)
    run_ids = np.array(walk.runs.run_ids, dtype=object)
    keys = {"run_id": np.repeat(run_ids, len(names)), "metric": np.tile(names, len(run_ids))}
    return pd.DataFrame(keys | rows)


def _statistics(values: FloatArray) -> dict[str, FloatArray]:
    """Return statistics of each row, ignoring NaN."""
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
        timestamp, net_return, equity, run_id (of the chosen run; None in cash), split, scenario;
        and path where bars are tested several times.
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
    """Return the choice made in each split: one row per split, scenario after scenario.

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
    return pd.concat([_choice_table(walk) for walk in walks], ignore_index=True)


def _choice_table(walk: ScenarioWalk) -> pd.DataFrame:
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
    """Return net returns on the test bars: the stitched curve and what it is compared with.

    Parameters
    ----------
    walk
        The walk-forward of one scenario.

    Returns
    -------
    DataFrame of shape (n_test_bars, 1 to 3)
        Indexed by timestamp: ``walk_forward`` (the median of several paths), the run_id of the
        run that is best over everything, and ``benchmark``; the last two only where they exist.
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

    Floats have the fewest digits that read back to the same number, missing values are empty,
    booleans are ``true`` and ``false``, and timestamps are dates when all are at midnight. All
    texts are quoted when one of them has to be.

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
    """Return timestamps as text; each distinct one is converted once."""
    distinct = pd.DatetimeIndex(column.unique())
    midnights = (distinct == distinct.normalize()).all()
    names = [str(stamp.date() if midnights else stamp) for stamp in distinct]
    return column.map(dict(zip(distinct, names, strict=True)))


Plain = dict[str, Any]
Interval = tuple[float, float] | None


def summarise(
    walks: Sequence[ScenarioWalk], ranking: Ranking, bootstrap: Bootstrap | None = None
) -> list[Plain]:
    """Return the findings of each scenario as plain values; undefined ones are None.

    Parameters
    ----------
    walks
        One for each scenario.
    ranking
        The ranking by which runs were chosen.
    bootstrap
        How confidence intervals are computed.

    Returns
    -------
    list of dict
        For each scenario ``scenario``, ``method``, ``ranking``, ``n_runs``, ``n_splits``,
        ``test_start``, ``test_end``, ``n_test_bars``, then the figures of the stitched curve (where
        there are several paths, of the one with the median t-statistic):

        - ``t_statistic`` of the out-of-sample returns over the risk-free rate, ``metrics``, and
          ``sharpe_ci`` (low, high, level) of the annualised Sharpe ratio;
        - ``benchmark``: its ``metrics`` on the same bars; ``beta_adjusted``: t_statistic, sharpe
          and sharpe_ci of the part of the returns that the benchmark does not explain;
        - ``best_overall``: the run that is best on all bars, in hindsight: run_id, its metrics on
          the test bars, and sharpe_shortfall, its Sharpe ratio minus the stitched one;
        - ``efficiency``: stitched cagr divided by the mean in-sample cagr of the choices, None
          unless the latter is positive;
        - ``choices``, ``modal_choice``, ``parameter_drift``, ``switches``, ``switch_cost``;
        - ``ruined``, ``notes``, ``bootstrap``, and ``paths`` where there are several.
    """
    drawn = bootstrap or Bootstrap()
    figures = [_figures(walk) for walk in walks]
    intervals = iter(sharpe_intervals([item for found in figures for item in found.series], drawn))
    return [
        _finding(walk, found, [next(intervals) for _ in found.series], ranking, drawn)
        for walk, found in zip(walks, figures, strict=True)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Figures:
    """The curve that a scenario reports, and the returns that need a confidence interval."""

    curve: StitchedCurve
    metrics: Mapping[str, float]
    series: tuple[Series, ...]


def _figures(walk: ScenarioWalk) -> _Figures:
    runs, curve = walk.runs, walk.curve
    metrics = curve_metrics(runs, curve)
    returns = [excess_returns(runs, curve)]
    if "beta" in metrics:
        returns.append(beta_adjusted(runs, curve, metrics["beta"]))
    index = runs.index[curve.bars]
    return _Figures(
        curve=curve,
        metrics=metrics,
        series=tuple(
            Series(
                returns=item,
                index=index,
                periods_per_year=runs.periods_per_year,
                session_end=runs.session_end,
            )
            for item in returns
        ),
    )


def _finding(
    walk: ScenarioWalk,
    figures: _Figures,
    intervals: Sequence[Interval],
    ranking: Ranking,
    bootstrap: Bootstrap,
) -> Plain:
    runs, curve, plan = walk.runs, figures.curve, walk.plan
    finding: Plain = {
        "scenario": runs.scenario,
        "method": walk.settings.method,
        "ranking": str(ranking),
        "n_runs": len(runs.run_ids),
        "n_splits": len(plan.splits),
        "test_start": moment(runs.index, int(curve.bars[0])),
        "test_end": moment(runs.index, int(curve.bars[-1])),
        "n_test_bars": len(curve.bars),
        "t_statistic": t_statistic(figures.series[0].returns),
        "metrics": dict(figures.metrics),
        "sharpe_ci": _interval(intervals[0], bootstrap),
        "benchmark": benchmark_curve_metrics(runs, curve) or None,
        "beta_adjusted": None,
        "best_overall": _best_overall(walk, figures.metrics),
        "efficiency": _efficiency(walk, figures.metrics),
        "choices": _choices(walk, ranking),
        "modal_choice": modal_choice(walk.choices, runs.run_ids),
        "parameter_drift": parameter_drift(walk.choices, runs.parameters),
        "switches": len(curve.switches),
        "switch_cost": math.fsum(switch.cost for switch in curve.switches),
        "ruined": None if curve.ruined_bar is None else moment(runs.index, curve.ruined_bar),
        "notes": list(walk.notes),
        "bootstrap": asdict(bootstrap),
    }
    if len(figures.series) > 1:
        finding["beta_adjusted"] = _adjusted(figures.series[1], intervals[1], bootstrap)
    if len(walk.curves) > 1:
        finding["paths"] = _paths(walk)
    return finding


def _interval(interval: Interval, bootstrap: Bootstrap) -> Plain | None:
    if interval is None:
        return None
    return {"low": interval[0], "high": interval[1], "level": bootstrap.level}


def _adjusted(series: Series, interval: Interval, bootstrap: Bootstrap) -> Plain:
    t = t_statistic(series.returns)
    scale = math.sqrt(series.periods_per_year / len(series.returns))
    return {
        "t_statistic": t,
        "sharpe": None if t is None else t * scale,
        "sharpe_ci": _interval(interval, bootstrap),
    }


def _best_overall(walk: ScenarioWalk, stitched: Mapping[str, float]) -> Plain | None:
    if walk.best_overall is None:
        return None
    metrics = _defined(walk.tested, 0, walk.best_overall)
    shortfall = None
    if "sharpe" in metrics and "sharpe" in stitched:
        shortfall = metrics["sharpe"] - stitched["sharpe"]
    return {
        "run_id": walk.runs.run_ids[walk.best_overall],
        "metrics": metrics,
        "sharpe_shortfall": shortfall,
    }


def _efficiency(walk: ScenarioWalk, stitched: Mapping[str, float]) -> float | None:
    growth = walk.in_sample.of("cagr")
    chosen = [growth[number, run] for number, run in enumerate(walk.choices) if run is not None]
    if not chosen or "cagr" not in stitched:
        return None
    in_sample = float(np.mean(chosen))
    return stitched["cagr"] / in_sample if in_sample > 0 else None


def _choices(walk: ScenarioWalk, ranking: Ranking) -> list[Plain]:
    runs = walk.runs
    names = tuple(dict.fromkeys((*needed_metrics(ranking), "sharpe", "cagr")))
    switches = {switch.bar: switch for switch in walk.curves[0].switches}
    rows = []
    for split, choice in zip(walk.plan.splits, walk.choices, strict=True):
        row: Plain = {"split": split.number}
        for name in ("train_start", "train_end", "test_start", "test_end"):
            row[name] = moment(runs.index, getattr(split, name))
        row |= {"run_id": None, "parameters": {}, "in_sample": {}, "out_of_sample": {}}
        if choice is not None:
            inside = _defined(walk.in_sample, split.number, choice)
            outside = _defined(walk.out_of_sample, split.number, choice)
            row |= {
                "run_id": runs.run_ids[choice],
                "parameters": {
                    str(name): plain_value(value)
                    for name, value in runs.parameters.iloc[choice].items()
                },
                "in_sample": {name: inside.get(name) for name in names},
                "out_of_sample": {name: outside.get(name) for name in names},
            }
        if len(walk.curves) == 1:
            switch = switches.get(split.test_start - 1)
            row["switch_turnover"] = 0.0 if switch is None else switch.turnover
            row["switch_cost"] = 0.0 if switch is None else switch.cost
        rows.append(row)
    return rows


def _defined(metrics: WindowMetrics, window: int, run: int) -> dict[str, float]:
    values = metrics.values[:, window, run]
    return {
        name: float(value)
        for name, value in zip(metrics.names, values, strict=True)
        if math.isfinite(value)
    }


def _paths(walk: ScenarioWalk) -> list[Plain]:
    return [
        {
            "path": number,
            "t_statistic": t_statistic(excess_returns(walk.runs, curve)),
            "metrics": curve_metrics(walk.runs, curve),
        }
        for number, curve in enumerate(walk.curves)
    ]


SIGNIFICANT_T = 1.96
"""t-statistic from which a mean return differs from zero significantly, at 95 %."""


def sentences(finding: Mapping[str, Any]) -> list[str]:
    """Say what a walk-forward found, most important first.

    Parameters
    ----------
    finding
        One scenario of :func:`.summarise`.
    """
    return [*_figures_in_words(finding), *finding["notes"]]


def _figures_in_words(finding: Mapping[str, Any]) -> Iterator[str]:
    yield _out_of_sample(finding)
    adjusted = finding["beta_adjusted"]
    if adjusted is not None and adjusted["t_statistic"] is not None:
        benchmark = _number(finding["benchmark"], "sharpe")
        yield (
            f"Against the benchmark (Sharpe ratio {benchmark} on the same bars), at equal beta: "
            f"t = {adjusted['t_statistic']:.2f}, Sharpe ratio {adjusted['sharpe']:.2f}"
            f"{_interval_in_words(adjusted['sharpe_ci'])}."
        )
    best = finding["best_overall"]
    if best is not None:
        yield (
            f"{best['run_id']}, the best over everything in hindsight, has a Sharpe ratio of "
            f"{_number(best['metrics'], 'sharpe')} on the same bars."
        )
    modal = finding["modal_choice"]
    if modal["run_id"] is not None:
        yield (
            f"{modal['run_id']} was chosen most often, in {modal['share']:.0%} of "
            f"{finding['n_splits']} splits; {_switches(finding['switches'])} cost "
            f"{finding['switch_cost']:.2%} of equity in all."
        )
    efficiency = finding["efficiency"]
    if efficiency is None:
        yield "Walk-forward efficiency is undefined: the choices did not grow in-sample."
    else:
        yield (
            f"Walk-forward efficiency: {efficiency:.0%} of the annual growth that the choices had "
            "in-sample was left out-of-sample."
        )
    if finding["ruined"] is not None:
        yield f"The stitched curve was ruined on {finding['ruined']}."


def _out_of_sample(finding: Mapping[str, Any]) -> str:
    span = (
        f"Out of sample, {finding['test_start']} to {finding['test_end']}, "
        f"{finding['n_splits']} splits"
    )
    t = finding["t_statistic"]
    if t is None:
        return f"{span}: the returns do not vary."
    meaning = "not told from zero"
    if abs(t) >= SIGNIFICANT_T:
        meaning = "a gain" if t > 0 else "a loss"
    sharpe = _number(finding["metrics"], "sharpe")
    return (
        f"{span}: t = {t:.2f} ({meaning} at 95 %), Sharpe ratio {sharpe}"
        f"{_interval_in_words(finding['sharpe_ci'])}."
    )


def _switches(number: int) -> str:
    return "1 switch" if number == 1 else f"{number} switches"


def _interval_in_words(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return ""
    return f" ({interval['level']:.0%} interval {interval['low']:.2f} to {interval['high']:.2f})"


def _number(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.2f}" if name in metrics else "undefined"
