"""Tables of the page: their type, those of each section, and the runs as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.ranking import unranked_counts
from backtest_batch.analysis.run_table import (
    NEIGHBOURHOOD,
    OUT_OF_SAMPLE,
    Label,
    RunTable,
    direction_of,
    engine_metric,
    result_metric_names,
)
from backtest_batch.analysis.scenarios import Levels, value_as_typed
from backtest_batch.arrays import IntArray
from backtest_batch.core.engine.metrics import METRICS
from backtest_batch.report.html.data import plain_number, plain_numbers
from backtest_batch.report.tables import one_line, parameter_labels, parameter_text, short_numbers
from backtest_batch.values import REPORTED_MESSAGE, cut_text


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """One table: headings, and rows whose first cell is their name.

    Attributes
    ----------
    caption
        What it shows, for those who cannot see its position on the page.
    head
        Headings of the columns.
    rows
        Cells as text.
    numbers
        Positions of the right-aligned columns.
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
        position
        for position, name in enumerate(frame.columns)
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
"""Most failed runs that the page lists."""

_VALUES_SHOWN = 24

NO_VALUE = "\N{EN DASH}"
"""In the place of a parameter that a run does not have."""

_RESOURCES = (
    ("runtime_s", "Wall time", "s"),
    ("cpu_s", "Processor time", "s"),
    ("peak_rss_mb", "Peak memory of the process", "MiB"),
    ("attempts", "Attempts", ""),
)


def swept_table(table: RunTable, best: Label | None) -> TextTable | None:
    """Return the swept parameters, each with its kind and its values; None without any."""
    if not len(table.params.columns):
        return None
    labels = parameter_labels(table.params.columns)
    rows = []
    for name, levels in table.levels.items():
        texts = [cut_text(text, 60) for text in levels.of_those.texts()]
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
    table: RunTable, best: Label | None, benchmark: Mapping[str, float], name: str = ""
) -> TextTable | None:
    """Return the best run's metrics beside the benchmark's and the median run's.

    If a walk-forward measured the run, its out-of-sample metrics are shown as well. The
    benchmark's column has its name where it is given.
    """
    if best is None:
        return None
    of_best = table.metrics.loc[[best]].iloc[0].dropna()
    columns = {
        "best run": of_best,
        "out of sample": of_best[
            [name for name in of_best.index if name.startswith(OUT_OF_SAMPLE)]
        ].rename(lambda name: str(name).removeprefix(OUT_OF_SAMPLE)),
        f"benchmark: {name}" if name else "benchmark": pd.Series(benchmark, dtype=float),
        "median run": table.metrics[table.finished].median(),
    }
    shown = {title: values for title, values in columns.items() if len(values)}
    rows = [
        [
            metric,
            *(
                short_numbers(metric, [values.get(metric, math.nan)])[0]
                for values in shown.values()
            ),
            metric_meaning(metric),
        ]
        for metric in result_metric_names(of_best.index)
        if not metric.startswith(OUT_OF_SAMPLE)
    ]
    return TextTable(
        caption="Metrics of the best run beside others",
        head=["metric", *shown, "meaning"],
        rows=rows,
        numbers=frozenset(range(1, 1 + len(shown))),
    )


def metric_meaning(name: str) -> str:
    """Return the meaning of a metric and which direction is better."""
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
        # Error messages have several lines; other control characters would not be visible.
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


MAX_RUNS = 10_000
"""Most runs on the page; of more, an even sample by rank."""

MAX_CELLS = 30
"""Most distinct values of a parameter along an axis; more are grouped."""

N_GROUPS = 12
"""Number of groups for many numbers."""

_FORMS = {"25.00%": "percent", "0": "whole"}
"""How the tables write 0.25 shows the page's script how to write a metric."""


def even_sample(n_items: int, limit: int) -> IntArray:
    """Return at most ``limit`` positions, evenly spread, including the first and the last."""
    if n_items <= limit:
        return np.arange(n_items, dtype=np.int64)
    return np.unique(np.linspace(0, n_items - 1, limit).round().astype(np.int64))


def runs_payload(table: RunTable, ranked: pd.DataFrame, rows: pd.Index) -> dict[str, Any]:
    """Return the runs of the page.

    Parameters
    ----------
    table
        All runs.
    ranked
        What :func:`.rank_runs` returned for them.
    rows
        Index labels of the runs to hold, in order of rank.

    Returns
    -------
    dict
        ``ids``, ``ranks``, ``trials`` (of a search), ``scenarios`` (labels and codes), ``params``
        (see :func:`_parameter`) and ``metrics`` (see :func:`metric_payload`).
    """
    positions = table.runs.index.get_indexer(rows)
    scenarios = pd.Categorical(table.scenario.reindex(rows))
    labels = parameter_labels(table.params.columns)
    values = table.metrics.reindex(rows)
    return {
        "ids": table.runs["run_id"].reindex(rows).astype(str).tolist(),
        "ranks": [None if pd.isna(rank) else int(rank) for rank in ranked["rank"].reindex(rows)],
        "trials": _trials(table, rows),
        "scenarios": {
            "labels": [cut_text(str(label)) for label in scenarios.categories],
            "codes": scenarios.codes.tolist(),
        },
        "params": [
            _parameter(
                labels[name],
                table.levels[name],
                positions,
                scenario=name in table.scenario_axes,
            )
            for name in table.params.columns
        ],
        "metrics": [
            metric_payload(name, values[name])
            for name in shown_metrics(table)
            if values[name].notna().any()
        ],
    }


def _trials(table: RunTable, rows: pd.Index) -> list[int | None]:
    """Return when the search asked for each run; empty without one search alone."""
    if not table.is_searched or table.several_batches:
        return []
    return [None if pd.isna(n) or n < 1 else int(n) for n in table.runs["trial"].reindex(rows)]


def shown_metrics(table: RunTable) -> list[str]:
    """Return the metrics that finished runs have: result metrics, then those of the execution."""
    present = table.metrics[table.finished].notna().any()
    names = [str(name) for name in present.index[present]]
    results = result_metric_names(names)
    return [*results, *(name for name in METRICS if name in names and name not in results)]


def metric_payload(name: str, values: pd.Series) -> dict[str, Any]:
    """Return one metric of the runs: name, direction, form (how it is written) and values."""
    return {
        "name": name,
        "direction": direction_of(name),
        "form": _FORMS.get(short_numbers(name, [0.25])[0], "plain"),
        "values": plain_numbers(values.tolist()),
    }


def _parameter(name: str, levels: Levels, positions: IntArray, *, scenario: bool) -> dict[str, Any]:
    """Return one parameter: its values as numbers or texts, and the cells they fall into."""
    codes = levels.codes[positions]
    labels, cell_of_level = cells(levels)
    return {
        "name": name,
        "scenario": scenario,
        "numeric": levels.numeric,
        "levels": [cut_text(text) for text in levels.texts(NO_VALUE)],
        "numbers": [
            plain_number(float(value))
            if levels.numeric and isinstance(value, int | float)
            else None
            for value in levels.values
        ],
        "codes": codes.tolist(),
        "cells": labels,
        "cellOf": cell_of_level.tolist(),
        "grouped": len(labels) < len(levels.values),
        "varies": len(np.unique(codes)) > 1,
    }


def cells(levels: Levels, limit: int = MAX_CELLS) -> tuple[list[str], IntArray]:
    """Put the values of a parameter into few cells along an axis.

    Parameters
    ----------
    levels
        The values.
    limit
        Most cells. More numbers become :data:`N_GROUPS` groups of equally many runs; of more texts,
        the ``limit - 1`` most frequent keep a cell each and the others share one.

    Returns
    -------
    tuple
        Labels of the cells, and the cell of each value, shape (n_levels,).
    """
    texts = [cut_text(text) for text in levels.texts(NO_VALUE)]
    n_levels = len(texts)
    if n_levels <= limit:
        return texts, np.arange(n_levels, dtype=np.int64)
    counts = np.bincount(levels.codes, minlength=n_levels)
    if not levels.numeric:
        frequent = np.sort(np.argsort(-counts, kind="stable")[: limit - 1])
        cell_of_level: IntArray = np.full(n_levels, limit - 1, dtype=np.int64)
        cell_of_level[frequent] = np.arange(limit - 1)
        return [
            *(texts[code] for code in frequent),
            f"{n_levels - limit + 1} others",
        ], cell_of_level
    # The middle of a value's runs decides its group: equal values stay together.
    middle = (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1)
    groups = np.minimum((middle * N_GROUPS).astype(np.int64), N_GROUPS - 1)
    present, cell_of_level = np.unique(groups, return_inverse=True)
    labels = []
    for group in range(len(present)):
        members = np.flatnonzero(cell_of_level == group)
        low, high = texts[members[0]], texts[members[-1]]
        labels.append(low if low == high else f"{_short(low)} to {_short(high)}")
    return labels, cell_of_level.astype(np.int64)


def _short(text: str) -> str:
    """Return a number for the label of a group; other text as it is."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
