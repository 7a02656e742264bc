"""The columns of a leaderboard, for the terminal and for Markdown alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from backtest_batch.comparison.ranking import Ranking, podium
from backtest_batch.comparison.run_table import Label, RunTable
from backtest_batch.report.escaping import short_numbers
from backtest_batch.report.tables import parameter_labels, parameter_text

MAIN_METRICS = (
    "sharpe",
    "cagr",
    "volatility",
    "max_drawdown",
    "calmar",
    "turnover_annual",
    "trades",
)
"""Metrics that a leaderboard always shows, where the runs have them."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a leaderboard.

    Attributes
    ----------
    title
        What stands above it.
    cells
        Text of each row.
    places
        1, 2 or 3 where the row is among the best three of all runs, else 0; empty for a column
        that is no metric.
    number
        Whether it is set flush right.
    """

    title: str
    cells: tuple[str, ...]
    places: tuple[int, ...] = ()
    number: bool = False


def leaderboard_metrics(table: RunTable, ranking: Ranking) -> list[str]:
    """Return the metrics that a leaderboard shows: the main ones and those that rank.

    Parameters
    ----------
    table
        The runs; a metric that none of them has is left out.
    ranking
        How they are ranked.
    """
    wanted = dict.fromkeys((*MAIN_METRICS, *ranking.metrics))
    present = table.metrics.notna().any()
    return [name for name in wanted if name in present.index and present[name]]


def leaderboard_columns(
    table: RunTable,
    ranked: pd.DataFrame,
    ranking: Ranking,
    rows: Sequence[Label] | pd.Index,
    *,
    status: bool = False,
    extra: pd.DataFrame | None = None,
) -> list[Column]:
    """Return the columns of a leaderboard.

    Parameters
    ----------
    table
        The runs.
    ranked
        What :func:`.rank_runs` returned for them.
    ranking
        How they were ranked.
    rows
        Index labels of the runs to show, in order.
    status
        Whether to show how each run ended.
    extra
        Further columns of text, indexed like the table.
    """
    rows = pd.Index(rows)
    runs = table.runs.reindex(rows)
    places = ranked.reindex(rows)
    columns = [_column("rank", [_rank(rank) for rank in places["rank"]], number=True)]
    # Where each scenario has one run, every one of them is the first.
    if (ranked["rank_in_scenario"] > 1).any() and table.scenario.nunique() > 1:
        within = [_rank(rank) for rank in places["rank_in_scenario"]]
        columns.append(_column("in scenario", within, number=True))
    columns.append(_column("run_id", runs["run_id"].astype(str)))
    if table.several_batches:
        columns.append(_column("batch_id", runs["batch_id"].astype(str)))
    if status:
        columns.append(_column("status", runs["status"].astype(str)))
    labels = parameter_labels(table.params.columns)
    for name in table.params.columns:
        cells = parameter_text(table, name).reindex(rows)
        columns.append(_column(labels[name], cells, number=table.levels[name].numeric))
    if ranking.weighted:
        scores = ["" if pd.isna(score) else f"{score:.4f}" for score in places["score"]]
        columns.append(_column("score", scores, number=True))
    columns += _metric_columns(table, leaderboard_metrics(table, ranking), rows)
    if extra is not None:
        columns += [
            _column(str(name), extra[name].reindex(rows).fillna("").astype(str))
            for name in extra.columns
        ]
    return columns


def _metric_columns(table: RunTable, metrics: list[str], rows: pd.Index) -> list[Column]:
    best = podium(table, metrics).reindex(rows)
    return [
        Column(
            title=name,
            cells=tuple(short_numbers(name, table.metrics[name].reindex(rows).tolist())),
            places=tuple(best[name].tolist()),
            number=True,
        )
        for name in metrics
    ]


def _column(title: str, cells: Sequence[str] | pd.Series, *, number: bool = False) -> Column:
    return Column(title=title, cells=tuple(cells), number=number)


def _rank(rank: object) -> str:
    return "" if rank is pd.NA else str(rank)
