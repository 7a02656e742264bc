"""The section on the walk-forward."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from backtest_batch.comparison.metrics_choice import result_metric_names
from backtest_batch.comparison.walk_forward import sentences
from backtest_batch.report.escaping import short_numbers
from backtest_batch.report.html.data import WalkForwardView
from backtest_batch.report.html.sections import metric_meaning
from backtest_batch.report.html.text_table import TextTable, number_text, table_of_frame

MAX_CHOICES = 300
"""Splits whose choice the page lists."""


@dataclass(frozen=True, kw_only=True)
class WalkForwardSection:
    """What the page shows of a walk-forward; tables that would be empty are None.

    Attributes
    ----------
    sentences
        What was found, most important first.
    metrics
        The stitched curve beside the benchmark and the run that is best in hindsight.
    drift
        How the chosen parameters move from split to split.
    scenarios, paths
        The main figures of each scenario and of each combinatorial path.
    choices
        The choice made in each split.
    n_choices
        How many there are, of which the first are listed.
    """

    sentences: Sequence[str]
    metrics: TextTable
    drift: TextTable | None
    scenarios: TextTable | None
    paths: TextTable | None
    choices: TextTable | None
    n_choices: int


def walk_forward_section(view: WalkForwardView) -> WalkForwardSection:
    """Return the section of a walk-forward.

    Parameters
    ----------
    view
        With at least one finding.
    """
    first = view.findings[0]
    choices = view.choices
    n_choices = 0 if choices is None else len(choices)
    return WalkForwardSection(
        sentences=sentences(first),
        metrics=_metrics(first),
        drift=_drift(first["parameter_drift"]),
        scenarios=_scenarios(view.findings) if len(view.findings) > 1 else None,
        paths=_paths(first.get("paths") or ()),
        choices=_choices(choices) if choices is not None and n_choices else None,
        n_choices=n_choices,
    )


def _metrics(finding: Mapping[str, Any]) -> TextTable:
    best = finding["best_overall"] or {"run_id": "", "metrics": {}}
    columns = [finding["metrics"], finding["benchmark"] or {}, best["metrics"]]
    rows = [
        [name, *(_short(name, column) for column in columns), metric_meaning(name)]
        for name in result_metric_names(finding["metrics"])
    ]
    hindsight = f"best in hindsight ({best['run_id']})" if best["run_id"] else "best in hindsight"
    return TextTable(
        caption="Out of sample, on the test bars",
        head=["metric", "walk-forward", "benchmark", hindsight, "meaning"],
        rows=rows,
        numbers=frozenset({1, 2, 3}),
    )


def _short(name: str, metrics: Mapping[str, float]) -> str:
    return short_numbers(name, [metrics[name]])[0] if name in metrics else ""


def _drift(drift: Mapping[str, Mapping[str, Any]]) -> TextTable | None:
    if not drift:
        return None
    keys = ("changed", "mean_steps", "min", "mean", "max")
    return TextTable(
        caption="How the chosen parameters move from split to split",
        head=["parameter", "changes", "mean steps", "lowest", "mean", "highest"],
        rows=[[name, *(_figure(key, of.get(key)) for key in keys)] for name, of in drift.items()],
        numbers=frozenset(range(1, 6)),
    )


def _figure(key: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0%}" if key == "changed" else number_text(float(value))


def _scenarios(findings: Sequence[Mapping[str, Any]]) -> TextTable:
    rows = []
    for finding in findings:
        adjusted = finding["beta_adjusted"] or {}
        figures = (
            finding["t_statistic"],
            finding["metrics"].get("sharpe"),
            (finding["benchmark"] or {}).get("sharpe"),
            adjusted.get("t_statistic"),
            finding["efficiency"],
        )
        texts = ["" if figure is None else f"{figure:.2f}" for figure in figures]
        rows.append([str(finding["scenario"]), f"{finding['n_splits']:,}", *texts])
    return TextTable(
        caption="The walk-forward in each scenario",
        head=[
            "scenario",
            "splits",
            "t-statistic",
            "Sharpe ratio",
            "benchmark's",
            "t beyond the benchmark",
            "efficiency",
        ],
        rows=rows,
        numbers=frozenset(range(1, 7)),
    )


def _paths(paths: Sequence[Mapping[str, Any]]) -> TextTable | None:
    if not paths:
        return None
    return TextTable(
        caption="The combinatorial paths",
        head=["path", "t-statistic", "Sharpe ratio", "cagr", "max_drawdown"],
        rows=[
            [
                str(path["path"]),
                "" if path["t_statistic"] is None else f"{path['t_statistic']:.2f}",
                *(_short(name, path["metrics"]) for name in ("sharpe", "cagr", "max_drawdown")),
            ]
            for path in paths
        ],
        numbers=frozenset(range(1, 5)),
    )


def _choices(choices: pd.DataFrame) -> TextTable:
    choices = choices.head(MAX_CHOICES)
    if "scenario" in choices and choices["scenario"].nunique() == 1:
        choices = choices.drop(columns="scenario")
    shown = table_of_frame("The choice made in each split", choices)
    texts = dict(zip(shown.head, zip(*shown.rows, strict=True), strict=True))
    for name in choices.columns:
        prefix = next((item for item in ("is_", "oos_") if name.startswith(item)), None)
        values = choices[name].tolist()
        if prefix is not None:
            texts[name] = tuple(short_numbers(name.removeprefix(prefix), values))
        elif name == "switch_cost":
            texts[name] = tuple(f"{value:.3%}" for value in values)
    return replace(shown, rows=list(zip(*texts.values(), strict=True)))
