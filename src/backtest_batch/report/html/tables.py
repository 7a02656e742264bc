"""Tables of the page: what one is made of, and those of each section."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.parameter_values import value_as_typed
from backtest_batch.analysis.ranking import unranked_counts
from backtest_batch.analysis.run_table import (
    NEIGHBOURHOOD,
    OUT_OF_SAMPLE,
    Label,
    RunTable,
    engine_metric,
    result_metric_names,
)
from backtest_batch.cutting import REPORTED_MESSAGE, cut_text
from backtest_batch.report.tables import parameter_labels, parameter_text
from backtest_batch.report.text import one_line, short_numbers


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """One table: headings, and rows whose first cell names them.

    Attributes
    ----------
    caption
        What it shows, for those who cannot see where it stands.
    head
        Headings of the columns.
    rows
        Cells as text.
    numbers
        Positions of the columns that are set flush right.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()


def table_of_rows(caption: str, head: Sequence[str], rows: Mapping[str, str]) -> TextTable:
    """Return a table of two columns from text by name."""
    cells = [(str(name), cut_text(str(text), REPORTED_MESSAGE)) for name, text in rows.items()]
    return TextTable(caption=caption, head=head, rows=cells)


def table_of_frame(caption: str, frame: pd.DataFrame) -> TextTable:
    """Return a frame as text, without its index.

    Numbers have four significant digits, midnights are dates, missing values are empty.
    """
    numbers = frozenset(
        place
        for place, name in enumerate(frame.columns)
        if pd.api.types.is_numeric_dtype(frame[name]) and frame[name].dtype != np.bool_
    )
    columns = [[cell_text(value) for value in frame[name].tolist()] for name in frame.columns]
    return TextTable(
        caption=caption,
        head=[str(name) for name in frame.columns],
        rows=list(zip(*columns, strict=True)),
        numbers=numbers,
    )


def cell_text(value: Any) -> str:
    """Return a value of any kind for people."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, float | np.floating):
        return number_text(float(value))
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if isinstance(value, pd.Timestamp):
        return str(value.date()) if value == value.normalize() else str(value)
    if isinstance(value, list | tuple):
        return cut_text(", ".join(cell_text(item) for item in value))
    return cut_text(value_as_typed(value))


def number_text(value: float) -> str:
    """Return a number with four significant digits, grouped when large; empty when missing."""
    if not math.isfinite(value):
        return ""
    if value.is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


MAX_FAILURES = 200
"""Failed runs that the page lists."""

_VALUES_SHOWN = 24

_RESOURCES = (
    ("runtime_s", "Wall time", "s"),
    ("cpu_s", "Processor time", "s"),
    ("peak_rss_mb", "Peak memory of the process", "MiB"),
    ("attempts", "Attempts", ""),
)


def swept_table(table: RunTable, best: Label | None) -> TextTable | None:
    """Return what was swept: each parameter, its kind and its values; None without any."""
    if not len(table.params.columns):
        return None
    labels = parameter_labels(table.params.columns)
    rows = []
    for name, levels in table.levels.items():
        texts = [cut_text(value_as_typed(value), 60) for value in levels.values]
        shown = ", ".join(texts[:_VALUES_SHOWN])
        more = len(texts) - _VALUES_SHOWN
        kind = "scenario" if name in table.scenario_axes else "decision"
        row = [labels[name], kind, f"{len(texts):,}", shown + (f", … {more:,} more" * (more > 0))]
        if best is not None:
            row.append(cut_text(str(parameter_text(table, name)[best]), 60))
        rows.append(row)
    head = ["parameter", "kind", "values", "tried", *(["best run"] if best is not None else [])]
    return TextTable(caption="Swept parameters", head=head, rows=rows, numbers=frozenset({2}))


def winner_table(
    table: RunTable, best: Label | None, benchmark: Mapping[str, float]
) -> TextTable | None:
    """Return the best run's metrics beside the benchmark's and the median run's.

    Where a walk-forward measured the run, its out-of-sample metrics stand beside the others.
    """
    if best is None:
        return None
    of_best = table.metrics.loc[[best]].iloc[0].dropna()
    columns = {
        "best run": of_best,
        "out of sample": of_best[
            [name for name in of_best.index if name.startswith(OUT_OF_SAMPLE)]
        ].rename(lambda name: str(name).removeprefix(OUT_OF_SAMPLE)),
        "benchmark": pd.Series(benchmark, dtype=float),
        "median run": table.metrics[table.finished].median(),
    }
    held = {title: values for title, values in columns.items() if len(values)}
    rows = [
        [
            name,
            *(short_numbers(name, [values.get(name, math.nan)])[0] for values in held.values()),
            metric_meaning(name),
        ]
        for name in result_metric_names(of_best.index)
        if not name.startswith(OUT_OF_SAMPLE)
    ]
    return TextTable(
        caption="Metrics of the best run beside others",
        head=["metric", *held, "meaning"],
        rows=rows,
        numbers=frozenset(range(1, 1 + len(held))),
    )


def metric_meaning(name: str) -> str:
    """Return what a metric is and which way is better."""
    if name == NEIGHBOURHOOD:
        return "Mean sharpe of the runs one step away in one parameter. More is better."
    metric = engine_metric(name)
    if metric is None:
        return ""
    better = {1: " More is better.", -1: " Less is better.", 0: ""}[metric.direction]
    text = metric.meaning[:1].upper() + metric.meaning[1:]
    return f"{text}{'' if text.endswith('.') or not text else '.'}{better}".strip()


def unranked_table(ranked: pd.DataFrame) -> TextTable | None:
    """Return why runs have no rank, and how many; None when all have one."""
    counts = unranked_counts(ranked)
    if not counts:
        return None
    return TextTable(
        caption="Why runs are unranked",
        head=["reason", "runs"],
        rows=[
            (cut_text(reason, REPORTED_MESSAGE), f"{count:,}") for reason, count in counts.items()
        ],
        numbers=frozenset({1}),
    )


def failures_table(table: RunTable) -> TextTable | None:
    """Return the runs that did not finish and why; None when all did."""
    runs = table.runs[~table.finished]
    if runs.empty:
        return None
    columns = ("run_id", "status", "error_type", "error_message")
    rows = []
    for record in runs.head(MAX_FAILURES).to_dict("records"):
        cells = [record.get(name) for name in columns]
        # Error messages have lines; the control characters among them would not be seen.
        texts = ["" if pd.isna(cell) else str(cell) for cell in cells]
        rows.append([cut_text(_printable(text), REPORTED_MESSAGE) for text in texts])
    return TextTable(
        caption="Runs that did not finish", head=["run_id", "status", "error", "message"], rows=rows
    )


def _printable(text: str) -> str:
    return "\n".join(one_line(line) for line in text.splitlines())


def timings_table(timings: Mapping[str, float]) -> TextTable | None:
    """Return the seconds of each stage; None without any."""
    if not timings:
        return None
    return TextTable(
        caption="Seconds by stage of the batch",
        head=["stage", "seconds"],
        rows=[(str(name), f"{seconds:,.2f}") for name, seconds in timings.items()],
        numbers=frozenset({1}),
    )


def resources_table(table: RunTable) -> TextTable | None:
    """Return what one run took; None when nothing was measured."""
    rows = []
    for name, title, unit in _RESOURCES:
        values = table.metrics[name].dropna() if name in table.metrics else pd.Series(dtype=float)
        if len(values):
            figures = [values.mean(), *values.quantile([0.5, 0.95, 1.0]).tolist(), values.sum()]
            if name == "peak_rss_mb":
                figures.pop()
            texts = [_amount(value) for value in figures]
            rows.append([f"{title} ({unit})" if unit else title, *texts, *[""] * (5 - len(texts))])
    if not rows:
        return None
    return TextTable(
        caption="What one run took",
        head=["of one run", "mean", "median", "95 %", "highest", "sum"],
        rows=rows,
        numbers=frozenset(range(1, 6)),
    )


def _amount(value: float) -> str:
    if value == round(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3f}"
