"""The data of the page's figures: curves, costs, dependence; thinned to what can be seen.

``equity.html`` is the curve of one run on a small page without a plotting library.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from backtest_batch.analysis.dependence import STATISTICS
from backtest_batch.analysis.run_table import Label, RunTable
from backtest_batch.analysis.scenarios import plain_value
from backtest_batch.arrays import FloatArray, IntArray
from backtest_batch.report.html.data import Curves, plain_number, plain_numbers, script_json
from backtest_batch.report.html.tables import cells, shown_metrics
from backtest_batch.report.html.templates import asset, environment
from backtest_batch.report.tables import parameter_labels
from backtest_batch.values import cut_text

MAX_POINTS = 1000
"""Points of a curve; more cannot be told apart on a screen."""

MAX_CURVES = 20
"""Runs whose curves are drawn."""

_DIGITS = 5


def growth(net_returns: FloatArray) -> FloatArray:
    """Return what one unit of capital becomes.

    Parameters
    ----------
    net_returns
        Shape (n_bars,); NaN before the first and after the last return. A gap in between counts as
        a return of 0.

    Returns
    -------
    ndarray of shape (n_bars,)
        1 on the bar before the first return (where there is one), then the running product of
        ``1 + r``; NaN before it and after the last return.
    """
    grown: FloatArray = np.full(len(net_returns), np.nan)
    present = np.flatnonzero(np.isfinite(net_returns))
    if len(present):
        first, last = int(present[0]), int(present[-1]) + 1
        grown[first:last] = np.cumprod(1.0 + np.nan_to_num(net_returns[first:last], nan=0.0))
        if first > 0:
            grown[first - 1] = 1.0
    return grown


def drawdown(grown: FloatArray) -> FloatArray:
    """Return the fraction below the running peak, at most 0; the start counts as a peak of 1.

    Parameters
    ----------
    grown
        What :func:`growth` returned.
    """
    peak = np.fmax.accumulate(np.fmax(grown, 1.0))
    return np.asarray(np.where(np.isnan(grown), np.nan, grown / peak - 1.0))


@dataclass(frozen=True, kw_only=True)
class Thinned:
    """Bars grouped so that a curve has few points.

    Attributes
    ----------
    starts, stops
        First bar of each point and the bar after its last, each of shape (n_points,).
    bars_per_point
        How many bars most points stand for.
    """

    starts: IntArray
    stops: IntArray
    bars_per_point: int

    def last(self, values: FloatArray) -> FloatArray:
        """Return the value on the last bar of each point."""
        return values[self.stops - 1]

    def lowest(self, values: FloatArray) -> FloatArray:
        """Return the lowest value of each point; NaN where it has none."""
        return np.asarray(np.fmin.reduceat(values, self.starts)) if len(self.starts) else values


def thinned_bars(first: int, n_bars: int, max_points: int = MAX_POINTS) -> Thinned:
    """Divide the bars from ``first`` on into points; the first bar is a point by itself.

    Parameters
    ----------
    first
        Position of the bar at which the curves begin.
    n_bars
        Number of bars.
    max_points
        Most points.
    """
    size = max(1, -(-(n_bars - first - 1) // (max_points - 1)))
    starts = np.concatenate([[first], np.arange(first + 1, n_bars, size)]).astype(np.int64)
    starts = starts[starts < n_bars]
    return Thinned(starts=starts, stops=np.append(starts[1:], n_bars), bars_per_point=size)


def timestamp_texts(timestamps: npt.NDArray[np.datetime64]) -> list[str]:
    """Return dates, or dates with minutes if there are times of day."""
    daily = bool((timestamps == timestamps.astype("datetime64[D]")).all())
    return list(np.datetime_as_string(timestamps, unit="D" if daily else "m"))


def curves_payload(curves: Curves, *, max_curves: int = MAX_CURVES) -> dict[str, Any]:
    """Return the data that the page draws.

    Parameters
    ----------
    curves
        The net returns.
    max_curves
        Most runs; the benchmark is added to them.

    Returns
    -------
    dict
        ``x``; ``curves`` (name, benchmark (whether it is the benchmark), equity, drawdown, final,
        worst, calendar); ``periods`` (labels of the calendar returns); ``bars_per_point``. Equity
        is that of a point's last bar, drawdown the lowest within it.
    """
    given = [(name, values) for name, values in curves.net_returns.items() if _any(values)]
    given = given[:max_curves]
    n_runs = len(given)
    if curves.benchmark is not None and _any(curves.benchmark):
        given.append(("benchmark", curves.benchmark))
    if not given:
        return {"x": [], "curves": [], "periods": [], "bars_per_point": 1}
    grown = [growth(values) for _, values in given]
    points = thinned_bars(min(map(_begin, grown)), len(curves.timestamps))
    labels, starts = _calendar(curves.timestamps)
    entries = []
    for position, ((name, returns), equity) in enumerate(zip(given, grown, strict=True)):
        below = drawdown(equity)
        entries.append(
            {
                "name": name,
                "benchmark": position >= n_runs,
                "equity": plain_numbers(points.last(equity).tolist(), _DIGITS),
                "drawdown": plain_numbers(points.lowest(below).tolist(), _DIGITS),
                "final": plain_number(float(equity[np.isfinite(equity)][-1])),
                "worst": plain_number(float(np.nanmin(below))),
                "calendar": plain_numbers(_calendar_returns(returns, starts), _DIGITS),
            }
        )
    return {
        "x": timestamp_texts(curves.timestamps[points.stops - 1]),
        "curves": entries,
        "periods": labels,
        "bars_per_point": points.bars_per_point,
    }


def _begin(grown: FloatArray) -> int:
    """Return the bar at which a curve begins."""
    return int(np.argmax(np.isfinite(grown)))


def _any(values: FloatArray) -> bool:
    return bool(np.isfinite(values).any())


def _calendar(timestamps: npt.NDArray[np.datetime64]) -> tuple[list[str], IntArray]:
    """Return years, or months for a shorter time, and the position of their first bars."""
    years = timestamps.astype("datetime64[Y]")
    several = years[-1] - years[0] > np.timedelta64(1, "Y")
    labels = years if several else timestamps.astype("datetime64[M]")
    starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1])).astype(np.int64)
    return [str(label) for label in labels[starts]], starts


def _calendar_returns(net_returns: FloatArray, starts: IntArray) -> list[float]:
    """Return the compounded return of each period; NaN for a period without returns."""
    factors = np.where(np.isfinite(net_returns), 1.0 + net_returns, 1.0)
    measured = np.logical_or.reduceat(np.isfinite(net_returns), starts)
    compounded = np.multiply.reduceat(factors, starts) - 1.0
    return [float(x) for x in np.where(measured, compounded, np.nan)]


SIZE = 1000.0
"""Width and height of the drawing, which the page stretches to the available space."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on an axis: its label, and its position in percent from the top or the left."""

    label: str
    position: float


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The range of values along an axis, from bottom to top.

    Attributes
    ----------
    low, high
        Values at the bottom and at the top.
    logarithmic
        Whether equal ratios have equal heights.
    """

    low: float
    high: float
    logarithmic: bool = False

    def positions(self, values: FloatArray) -> FloatArray:
        """Return the positions in percent from the top."""
        low, high = self.low, self.high
        if self.logarithmic:
            # Values that are not positive lie below any logarithmic axis.
            values = np.log(np.where(values > 0, values, np.nan))
            low, high = math.log(low), math.log(high)
        return np.asarray(100.0 * (high - values) / (high - low))


def equity_scale(curves: Sequence[FloatArray]) -> Scale:
    """Return a scale that fits some growth curves, logarithmic if they grow fourfold."""
    values = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > 4:
        return Scale(low=low / 1.05, high=high * 1.05, logarithmic=True)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(low=low - margin, high=high + margin)


def ticks(scale: Scale, n_ticks: int = 5) -> list[float]:
    """Return about ``n_ticks`` round values within a scale."""
    if scale.logarithmic:
        decades = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            found = [step * 10.0**decade for decade in decades for step in steps]
            found = [value for value in found if scale.low <= value <= scale.high]
            if len(found) <= 2 * n_ticks:
                break
        return found
    raw = (scale.high - scale.low) / n_ticks
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(step * unit for step in (1, 2, 2.5, 5, 10) if step * unit >= raw * (1 - 1e-9))
    first, last = math.ceil(scale.low / step), math.floor(scale.high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]


def path(values: FloatArray, scale: Scale) -> str:
    """Return a curve as the path of an SVG of :data:`SIZE`; NaN interrupts it."""
    heights = scale.positions(values) * SIZE / 100.0
    across = np.linspace(0.0, SIZE, len(values)) if len(values) > 1 else np.array([0.0])
    words, drawing = [], False
    for x, y in zip(across.tolist(), heights.tolist(), strict=True):
        if math.isnan(y):
            drawing = False
            continue
        words.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}")
        drawing = True
    return "".join(words)


def labelled(scale: Scale, values: Sequence[float], form: str) -> list[Tick]:
    """Return ticks with their positions; ``form`` formats their labels."""
    positions = scale.positions(np.array(values, dtype=np.float64)).tolist()
    return [
        Tick(label=format(value, form), position=round(position, 2))
        for value, position in zip(values, positions, strict=True)
    ]


def time_ticks(texts: Sequence[str], n_ticks: int = 5) -> list[Tick]:
    """Return some of the timestamps, evenly along the axis, including the first and the last."""
    if not texts:
        return []
    indices = np.unique(np.linspace(0, len(texts) - 1, n_ticks).round().astype(int))
    last = max(len(texts) - 1, 1)
    return [Tick(label=texts[item], position=round(100.0 * item / last, 2)) for item in indices]


COST_SHARES = {"commission_bps": 1.0, "spread_bps": 0.5, "impact_bps": 1.0}
"""Share of each key in the cost per traded value."""


def cost_bps(table: RunTable, costs: Mapping[str, float]) -> FloatArray:
    """Return each run's cost per traded value: commission, half the spread and impact.

    Parameters
    ----------
    table
        The runs.
    costs
        The keys' configured values, for those that are not swept.

    Returns
    -------
    ndarray of shape (n_runs,)
        Basis points; NaN where a key is neither swept nor given.
    """
    total = np.zeros(len(table))
    for name, share in COST_SHARES.items():
        if name in table.params:
            values = [_number(value) for value in table.params[name]]
            total = total + share * np.array(values, dtype=np.float64)
        else:
            total = total + share * costs.get(name, np.nan)
    return total


def cost_payload(
    table: RunTable, costs: Mapping[str, float], best: Label | None
) -> dict[str, Any] | None:
    """Return how the best run depends on costs, or None if nothing is known about that.

    Parameters
    ----------
    table
        The runs.
    costs
        Configured costs; see :func:`cost_bps`.
    best
        The best run.

    Returns
    -------
    dict
        ``breakeven`` and ``own`` (bps), ``turnover`` (a year), ``mean`` (net return a year at its
        own cost); each None where unknown. ``runs``: the FINISHED runs that differ from the best
        in costs only, itself included, by cost: id, cost, mean and metrics;
        ``best`` is the best run's index among them.
    """
    if best is None:
        return None
    position = table.runs.index.tolist().index(best)
    of_run = cost_bps(table, costs)
    breakeven = _metric(table, "breakeven_cost_bps")
    turnover = _metric(table, "turnover_annual")
    siblings = [item for item in _siblings(table, position) if np.isfinite(of_run[item])]
    siblings.sort(key=lambda item: (of_run[item], item))
    if not np.isfinite(breakeven[position]) and len(siblings) < 2:
        return None
    # The definition of the break-even cost, solved for the mean return.
    means = (breakeven - of_run) * 1e-4 * turnover
    names = shown_metrics(table)
    return {
        "breakeven": plain_number(breakeven[position]),
        "own": plain_number(of_run[position]),
        "turnover": plain_number(turnover[position]),
        "mean": plain_number(means[position]),
        "runs": {
            "best": siblings.index(position) if position in siblings else -1,
            "ids": [str(table.runs["run_id"].iloc[item]) for item in siblings],
            "costs": plain_numbers(of_run[siblings]),
            "means": plain_numbers(means[siblings]),
            "metrics": {name: plain_numbers(table.metrics[name].iloc[siblings]) for name in names},
        },
    }


def _siblings(table: RunTable, position: int) -> list[int]:
    """Return the positions of the FINISHED runs that differ from one in costs only."""
    same = table.finished.copy()
    for name, levels in table.levels.items():
        if name not in COST_SHARES:
            same &= levels.codes == levels.codes[position]
    if "batch_id" in table.runs:
        # Batches may differ in keys that none of them swept.
        batches = table.runs["batch_id"].to_numpy()
        same &= batches == batches[position]
    return [int(item) for item in np.flatnonzero(same)]


def _metric(table: RunTable, name: str) -> FloatArray:
    if name not in table.metrics:
        return np.full(len(table), np.nan)
    return table.metrics[name].to_numpy(dtype=np.float64)


def _number(value: object) -> float:
    plain = plain_value(value)
    return float(plain) if isinstance(plain, int | float) else float("nan")


TIMES = " \N{MULTIPLICATION SIGN} "
"""Between the parameters of a pair."""

MAX_TERMS = 300
"""Number of terms of a metric's importance on the page, the most important first."""


def sensitivity_payload(
    table: RunTable, sensitivity: pd.DataFrame, best: Label | None
) -> list[dict[str, Any]]:
    """Return, for each parameter with several values, each metric's distribution by value.

    Parameters
    ----------
    table
        The runs.
    sensitivity
        What :func:`.parameter_sensitivity` returned for them. Its figures are used as they are;
        where a parameter has so many values that the page groups them, the groups' figures are
        computed here, in the same way.
    best
        The best run, whose value is marked.

    Returns
    -------
    list of dict
        name, labels, grouped, best (position of the best run's value, or None), metrics (by name,
        one row per label: count, mean, std, min, max).
    """
    metrics = [name for name in shown_metrics(table) if name in set(sensitivity["metric"])]
    finished = table.sorted_finished()
    labels = parameter_labels(table.params.columns)
    entries = []
    for name in table.params.columns:
        has, levels = finished.levels[name].has, finished.levels[name].of_those
        if len(levels.values) < 2:
            continue
        shown = finished if has.all() else finished.subset(has)
        texts, cell_of_level = cells(levels)
        codes: IntArray = cell_of_level[levels.codes]
        grouped = len(texts) < len(levels.values)
        rows = (
            _grouped(shown, codes, metrics)
            if grouped
            else _given(sensitivity[sensitivity["parameter"] == name], metrics)
        )
        marked = None
        if best is not None and best in shown.runs.index:
            marked = int(codes[shown.runs.index.tolist().index(best)])
        entries.append(
            {
                "name": labels[name],
                "labels": texts,
                "grouped": grouped,
                "best": marked,
                "metrics": rows,
            }
        )
    return entries


def _given(rows: pd.DataFrame, metrics: list[str]) -> dict[str, list[Any]]:
    """Return the figures of one parameter as in sensitivity_analysis.csv."""
    by_metric = dict(list(rows.groupby("metric", sort=False)))
    return {
        name: [plain_numbers(row) for row in by_metric[name][list(STATISTICS)].to_numpy(float)]
        for name in metrics
    }


def _grouped(table: RunTable, codes: IntArray, metrics: list[str]) -> dict[str, list[Any]]:
    """Return the figures of groups of values."""
    groups = table.metrics[metrics].groupby(codes)
    found = {what: getattr(groups, what)() for what in STATISTICS}
    return {
        name: [
            plain_numbers(row)
            for row in np.column_stack([found[what][name].to_numpy(float) for what in STATISTICS])
        ]
        for name in metrics
    }


def importance_payload(importance: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return the terms of each metric: term, share (eta squared, or None), pair, design, note."""
    return {
        str(metric): [_term(row) for row in rows.head(MAX_TERMS).to_dict("records")]
        for metric, rows in importance.groupby("metric", sort=False)
    }


def _term(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    labels = parameter_labels(row["parameters"])
    return {
        "term": TIMES.join(labels[name] for name in row["parameters"]),
        "share": plain_number(float(row["eta_squared"])),
        "pair": len(row["parameters"]) > 1,
        "design": row["design"],
        "note": row["note"],
    }


__all__ = ["MAX_CURVES", "returns_curves"]


def returns_curves(
    table: RunTable, returns: pd.DataFrame, *, total: int | None = None
) -> Curves | None:
    """Return the curves that report.html draws; None without any returns.

    Parameters
    ----------
    table
        The runs.
    returns
        Net returns by bar, best run first: one column per run, named by its index label in the
        table, and optionally ``benchmark``.
    total
        Number of runs, of which these are the best.
    """
    runs = [name for name in returns.columns if name != "benchmark"]
    if not runs:
        return None
    index = pd.DatetimeIndex(returns.index)
    # Plotted in the market's own time.
    stamps = index.tz_localize(None) if index.tz is not None else index
    columns = dict(zip(_names(table, runs), runs, strict=True))
    return Curves(
        timestamps=stamps.to_numpy(),
        net_returns={
            name: returns[column].to_numpy(dtype=np.float64) for name, column in columns.items()
        },
        benchmark=returns["benchmark"].to_numpy(dtype=np.float64)
        if "benchmark" in returns
        else None,
        total=total,
    )


def _names(table: RunTable, rows: Sequence[Label]) -> list[str]:
    """Return a name for each run: its run_id, with its batch_id if there are several batches."""
    runs = table.runs.loc[list(rows)]
    if not table.several_batches:
        return runs["run_id"].astype(str).tolist()
    pairs = zip(runs["run_id"], runs["batch_id"], strict=True)
    return [f"{run_id} ({batch_id})" for run_id, batch_id in pairs]


MOST_POINTS = 500
"""Points of a curve; the page stays near 50 kB."""


def render_equity(
    *,
    title: str,
    timestamps: npt.NDArray[np.datetime64],
    net_returns: FloatArray,
    benchmark: FloatArray | None = None,
    facts: Mapping[str, str] | None = None,
) -> str:
    """Return equity.html: growth of one unit beside the benchmark's, drawdown below.

    Parameters
    ----------
    title
        Name of the run.
    timestamps
        Bars, shape (n_bars,), of dtype datetime64 without time zone.
    net_returns
        Net returns of the run, shape (n_bars,); NaN up to and including its first measured bar.
    benchmark
        The benchmark's, likewise; None without one.
    facts
        A few figures to show below the title, as text.

    Returns
    -------
    str
        A page of about 50 kB that loads nothing else. At most 500 points: each holds the growth at
        the last of its bars and the deepest drawdown within.
    """
    curves = {"run": growth(net_returns)}
    if benchmark is not None and np.isfinite(benchmark).any():
        curves["benchmark"] = growth(benchmark)
    page = (
        environment()
        .get_template("equity.html.j2")
        .render(
            title=cut_text(title),
            facts={name: cut_text(text) for name, text in (facts or {}).items()},
            style=asset("equity.css"),
            script=asset("equity.js"),
            **_drawing(timestamps, curves),
        )
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _drawing(
    timestamps: npt.NDArray[np.datetime64], curves: Mapping[str, FloatArray]
) -> dict[str, Any]:
    """Return paths, ticks and the numbers that the page reads out; no chart without returns."""
    run = curves["run"]
    present = np.flatnonzero(np.isfinite(run))
    if not len(present):
        return {"chart": None, "json": script_json(None)}
    points = thinned_bars(int(present[0]), len(run), MOST_POINTS)
    texts = timestamp_texts(timestamps[points.stops - 1])
    equity = {name: points.last(grown) for name, grown in curves.items()}
    below = {name: points.lowest(drawdown(grown)) for name, grown in curves.items()}
    growth_scale = equity_scale(list(equity.values()))
    deepest = min(float(np.nanmin(values)) for values in below.values())
    fall_scale = Scale(low=1.05 * deepest if deepest < 0 else -0.01, high=0.0)
    return {
        "chart": {
            "equity": {name: path(values, growth_scale) for name, values in equity.items()},
            "drawdown": {name: path(values, fall_scale) for name, values in below.items()},
            "growth_ticks": labelled(growth_scale, ticks(growth_scale), ".4g"),
            "fall_ticks": labelled(fall_scale, ticks(fall_scale, 3), ".1%"),
            "time_ticks": time_ticks(texts),
            "logarithmic": growth_scale.logarithmic,
            "bars_per_point": points.bars_per_point,
            "final": float(run[present[-1]]),
            "worst": deepest if len(curves) == 1 else float(np.nanmin(below["run"])),
            "from": texts[0],
            "to": texts[-1],
        },
        "json": script_json(
            {
                "x": texts,
                "equity": {name: plain_numbers(v.tolist(), 4) for name, v in equity.items()},
                "drawdown": {name: plain_numbers(v.tolist(), 3) for name, v in below.items()},
            }
        ),
    }
