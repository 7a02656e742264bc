"""Tables of a comparison as frames, as CSV text, and as text for people.

Texts are safe in a line, a Markdown table and a terminal. Nothing here writes a file.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from backtest_batch.analysis.dependence import SENSITIVITY_COLUMNS
from backtest_batch.analysis.run_table import (
    RUN_COLUMNS,
    SEARCH_COLUMNS,
    RunTable,
    engine_metric,
    result_metric_names,
)
from backtest_batch.analysis.scenarios import plain_value, value_as_typed
from backtest_batch.core.engine.metrics import METRICS

_RESERVED = frozenset(
    (
        *METRICS,
        *RUN_COLUMNS,
        *SEARCH_COLUMNS,
        *SENSITIVITY_COLUMNS,
        *(
            "rank",
            "rank_in_scenario",
            "scenario",
            "score",
            "pareto",
            "unranked",
            "sharpe_lower_bound",
            "started",
            "ended",
        ),
    )
)

_RESOURCES = ("runtime_s", "cpu_s", "peak_rss_mb")


def parameter_labels(names: Iterable[str]) -> dict[str, str]:
    """Return the column name of each swept parameter.

    Parameters
    ----------
    names
        The swept parameters.

    Returns
    -------
    dict
        The name itself, with the prefix ``param.`` if a metric or another column has that name.
    """
    return {
        name: f"param.{name}" if name in _RESERVED or name.startswith("oos_") else name
        for name in names
    }


def swept_columns(columns: Iterable[str]) -> dict[str, str]:
    """Return the swept parameters in a table of trials, by column; see :func:`parameter_labels`.

    Parameters
    ----------
    columns
        Those of rankings.csv or batch_summary.csv, of which what is not a parameter is left out; or
        of any other table, in which each is a parameter.
    """
    names = list(columns)
    if not any(known <= set(names) for known in ({"rank", "unranked"}, {"status", "run_key"})):
        return {name: name for name in names}
    return {
        name: name.removeprefix("param.")
        for name in names
        if name not in _RESERVED and engine_metric(name) is None
    }


def rankings_table(
    table: RunTable, ranked: pd.DataFrame, bounds: "pd.Series | None" = None
) -> pd.DataFrame:
    """Return rankings.csv.

    Parameters
    ----------
    table
        The runs.
    ranked
        What :func:`.rank_runs` returned for them.
    bounds
        Lower bound of each run's true annual Sharpe ratio, indexed like the table; None without a
        verdict.

    Returns
    -------
    DataFrame of shape (n_runs, any)
        In order of rank, unranked runs last: rank, rank_in_scenario, run_id, batch_id (only where
        there are several batches), swept parameters (as text), result metrics, score, pareto,
        unranked (why there is no rank), and of a verdict sharpe_lower_bound: below which no run's
        true annual Sharpe ratio lies, at 95 % for all runs of a scenario together. It holds
        nothing that differs when the same batch is computed again: no times and no ids of MLflow.
    """
    rows = ranked.index
    columns: dict[str, pd.Series] = {
        "rank": ranked["rank"],
        "rank_in_scenario": ranked["rank_in_scenario"],
        "run_id": table.runs["run_id"].reindex(rows),
    }
    if table.several_batches:
        columns["batch_id"] = table.runs["batch_id"].reindex(rows)
    columns |= {name: text.reindex(rows) for name, text in _parameters(table).items()}
    columns |= {name: table.metrics[name].reindex(rows) for name in shown_results(table)}
    columns |= {name: ranked[name] for name in ("score", "pareto", "unranked")}
    if bounds is not None:
        columns["sharpe_lower_bound"] = bounds.reindex(rows)
    return pd.DataFrame(columns, index=rows).reset_index(drop=True)


def batch_summary_table(table: RunTable, ranked: pd.DataFrame) -> pd.DataFrame:
    """Return batch_summary.csv.

    Parameters
    ----------
    table
        The runs.
    ranked
        What :func:`.rank_runs` returned for them.

    Returns
    -------
    DataFrame of shape (n_runs, any)
        In the order of the table: run_id, batch_id (only where there are several batches), status,
        rank, trial and search_round (only of a search), runtime_s, cpu_s, peak_rss_mb, attempts,
        swept parameters (as text), result metrics, error_type, error_message, undefined_metrics,
        run_key, mlflow_run_id, started, ended (UTC).
        Columns that the table has no values for are left out.
    """
    rows, runs = table.runs.index, table.runs
    columns: dict[str, pd.Series] = {"run_id": runs["run_id"]}
    if table.several_batches:
        columns["batch_id"] = runs["batch_id"]
    columns |= {"status": runs["status"], "rank": ranked["rank"].reindex(rows)}
    columns |= {
        name: runs[name].where(runs[name] > 0).astype("Int64")
        for name in SEARCH_COLUMNS
        if name in runs
    }
    columns |= {name: table.metrics[name] for name in _RESOURCES if name in table.metrics}
    if "attempts" in table.metrics:
        columns["attempts"] = table.metrics["attempts"].round().astype("Int64")
    columns |= _parameters(table)
    columns |= {name: table.metrics[name] for name in shown_results(table)}
    facts = ("error_type", "error_message", "undefined_metrics", "run_key", "mlflow_run_id")
    columns |= {name: runs[name] for name in facts if name in runs}
    for name, source in (("started", "started_ms"), ("ended", "ended_ms")):
        if source in runs:
            columns[name] = _utc(runs[source])
    return pd.DataFrame(columns, index=rows).reset_index(drop=True)


def shown_results(table: RunTable) -> list[str]:
    """Return the result metrics that at least one run of the table has, in order.

    Parameters
    ----------
    table
        The runs.
    """
    present = table.metrics.notna().any()
    return [name for name in result_metric_names(table.metrics.columns) if present[name]]


def csv_text(frame: pd.DataFrame) -> str:
    """Return a table as CSV: the same values give the same bytes.

    Floats by ``repr``, missing values empty, booleans as ``true`` and ``false``; lines end with a
    line feed. A carriage return within a text becomes a line feed.

    Parameters
    ----------
    frame
        Any table; its index is left out.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows(zip(*(_texts(column) for _, column in frame.items()), strict=True))
    return buffer.getvalue()


def _texts(column: pd.Series) -> list[str]:
    if column.dtype == np.float64:
        # A missing value is the only one that is not equal to itself.
        return [repr(value) if value == value else "" for value in column.tolist()]
    return [_text(value) for value in column.tolist()]


def _text(value: object) -> str:
    if isinstance(value, str):
        text = value
    else:
        text = "" if plain_value(value) is None else value_as_typed(value)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _parameters(table: RunTable) -> dict[str, pd.Series]:
    """Return the swept parameters as text by the names of their columns."""
    labels = parameter_labels(table.params.columns)
    return {labels[name]: parameter_text(table, name) for name in table.params.columns}


def parameter_text(table: RunTable, name: str) -> pd.Series:
    """Return one swept parameter as it is typed; empty for runs that do not have it.

    Parameters
    ----------
    table
        The runs.
    name
        The parameter.
    """
    levels = table.levels[name]
    texts = np.array(levels.texts(), dtype=object)
    return pd.Series(texts[levels.codes], index=table.params.index, dtype=object)


def _utc(milliseconds: pd.Series) -> pd.Series:
    times = pd.to_datetime(milliseconds, unit="ms", utc=True)
    return times.dt.strftime("%Y-%m-%dT%H:%M:%S.%f").str.slice(0, 23).add("Z").where(times.notna())


_WHOLE = ("count", "bars")

_RATES = ("cagr", "volatility", "alpha")
"""Annual rates that are fractions of capital; few people read annual turnover as a percentage."""

_SPECIAL = re.compile(r"[\\`*|<\[\]~$]|&(?=#?\w+;)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def one_line(text: str) -> str:
    r"""Return text on one line: line breaks, tabs and control characters as escapes (``\n``).

    A terminal would otherwise obey control characters that came from an error message.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def markdown_text(text: str) -> str:
    """Return text for a cell of a Markdown table, so that it is shown as it is.

    Markdown and HTML are escaped, line breaks become spaces. Underscores within words stay: they
    mean nothing there, and names are full of them.
    """
    flat = one_line(" ".join(text.split("\n")).replace("\r", " "))
    return _SPECIAL.sub(lambda match: "\\" + match.group(0), flat).strip()


def code_block(text: str) -> str:
    """Return a command as a block of Markdown code, even if it holds backticks."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{text}\n{fence}"


def short_numbers(metric: str, values: Sequence[float]) -> list[str]:
    """Return one metric's values for people; empty where missing.

    Counts stay whole, fractions of capital and annual rates of return become percentages; anything
    else has three decimals, or two significant digits where three decimals would show zero.

    Parameters
    ----------
    metric
        Name of the metric; decides the unit.
    values
        Its values.
    """
    known = engine_metric(metric)
    unit = "" if known is None else known.unit
    if unit in _WHOLE:
        form = "{:z,.0f}"
    elif unit == "fraction" or (known is not None and known.name in _RATES):
        form = "{:z.2%}"
    else:
        return ["" if math.isnan(value) else _three_decimals(value) for value in values]
    return ["" if math.isnan(value) else form.format(value) for value in values]


def _three_decimals(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:z.3f}" if abs(value) >= 0.0005 or value == 0 else f"{value:.2g}"
