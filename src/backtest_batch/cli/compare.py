"""The command ``python -m backtest_batch.compare``: rank recorded runs, within and across batches.

python -m backtest_batch.compare batch=latest rank_by=sharpe top_n=10
python -m backtest_batch.compare 'filter_tags={suite: ai_tech}'
python -m backtest_batch.compare batch=[core,core_ml] 'filter="metrics.sharpe > 0.5"'
"""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backtest_batch.analysis.conclusion import Conclusion, conclude
from backtest_batch.analysis.ranking import Ranking, unranked_counts
from backtest_batch.analysis.run_table import result_metric_names
from backtest_batch.analysis.scenarios import AxisKinds
from backtest_batch.cli.main import exit_code_of
from backtest_batch.cli.typed import help_text, made_folder, typed_config
from backtest_batch.config.checks import check_compare, require_written_arguments
from backtest_batch.config.schema import CompareConfig
from backtest_batch.errors import ConfigurationError, SelectionError
from backtest_batch.interrupt import begun, finished
from backtest_batch.report.best_params import RunDetails, best_rows
from backtest_batch.report.html.figures import MAX_CURVES, returns_curves
from backtest_batch.report.html.page import render_report
from backtest_batch.report.markdown import comparison_documents, report_data
from backtest_batch.report.terminal import batch_lines, print_leaderboard
from backtest_batch.store.address import resolve_experiment, resolve_uri
from backtest_batch.store.recorded import (
    batch_facts,
    details_of,
    recorded_assessment,
    recorded_bounds,
    recorded_returns,
)
from backtest_batch.store.selection import RunSelection, select_runs
from backtest_batch.store.store import Store, close_stores, open_store
from backtest_batch.streams import tell

_TITLED_BATCHES = 3
_LISTED_REASONS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> int:
        if any(item in ("-h", "--help") for item in given):
            sys.stdout.write(help_text(__doc__, CompareConfig))
            return 0
        require_written_arguments(given)
        try:
            run_comparison(read_config(given))
        finally:
            close_stores()
        return 0

    return exit_code_of(work, schema=CompareConfig)


def read_config(arguments: Sequence[str]) -> CompareConfig:
    """Return the configuration that the arguments describe.

    Raises
    ------
    ConfigurationError
        When a value is out of range.
    HydraException
        When a key is unknown or a value has the wrong type.
    """
    config = typed_config(arguments, CompareConfig)
    assert isinstance(config, CompareConfig)
    faults = list(check_compare(config))
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
    return config


def run_comparison(config: CompareConfig) -> Path:
    """Compare the selected runs, write the tables, print the leaderboard, return the folder.

    Raises
    ------
    BacktestBatchError
        When the selection is empty, no run can be ranked, or the store cannot be read.
    """
    ranking = Ranking.parse(
        config.rank_by, config.constraints, config.normalise, config.metric_directions
    )
    uri = resolve_uri(config.tracking.uri, Path.cwd())
    store = open_store(uri, resolve_experiment(config.tracking.experiment), create=False)
    selection = select_runs(
        store,
        batch=config.batch,
        filter_tags=config.filter_tags,
        filter_string=config.filter or "",
        statuses=config.statuses,
        kinds=AxisKinds(tuple(config.scenario_axes), tuple(config.decision_axes)),
    )
    conclusion = conclude(
        selection.table,
        ranking,
        notes=selection.notes,
        facts=batch_facts(store, selection.table),
    )
    if conclusion.best is None:
        _refuse_unranked(conclusion)
    assessment = recorded_assessment(store, conclusion.table)
    documents = _documents(store, config, selection, conclusion, assessment)
    begun()
    folder = made_folder(
        config.output_dir, Path("mlruns", "comparisons"), f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    )
    for name, text in documents.items():
        (folder / name).write_text(text, encoding="utf-8")
    # Everything is written: a signal would only spoil the output.
    finished(0)
    _print(store, config, conclusion, assessment, folder)
    return folder


def _documents(
    store: Store,
    config: CompareConfig,
    selection: RunSelection,
    conclusion: Conclusion,
    assessment: Mapping[str, Any] | None,
) -> dict[str, str]:
    """Return the files of the comparison, by name."""
    table, ranked = conclusion.table, conclusion.ranked
    details = details_of(store, table, best_rows(ranked, config.top_n))
    title = _title(selection)
    documents = comparison_documents(
        conclusion,
        title=title,
        top_n=config.top_n,
        details=details,
        verdict=None if assessment is None else assessment["verdict"],
        recorded_bounds=recorded_bounds(store, table),
    )
    drawn = best_rows(ranked, MAX_CURVES)[:MAX_CURVES]
    returns = recorded_returns(store, table, drawn)
    page = report_data(
        conclusion,
        title=title,
        details=details,
        overfitting=assessment,
        facts=_facts(store, config, selection),
        provenance=_provenance(conclusion, details[conclusion.best]),
        curves=returns_curves(table, returns, total=int(table.finished.sum())),
    )
    documents["report.html"] = render_report(page)
    return documents


def _title(selection: RunSelection) -> str:
    names = list(dict.fromkeys(selection.table.runs["batch_name"]))
    if len(names) <= _TITLED_BATCHES:
        return ", ".join(name or "unnamed" for name in names)
    return f"{len(names)} batches"


def _facts(store: Store, config: CompareConfig, selection: RunSelection) -> dict[str, str]:
    """Return the facts at the head of the report."""
    batches = selection.table.runs["batch_id"].unique().tolist()
    shown = ", ".join(map(str, batches[:_TITLED_BATCHES]))
    more = len(batches) - _TITLED_BATCHES
    facts = {"batches": shown + (f" and {more:,} more" if more > 0 else "")}
    asked = {"filter_tags": config.filter_tags, "filter": config.filter}
    facts |= {name: str(value) for name, value in asked.items() if value}
    return facts | {"experiment": store.experiment, "compared": f"{datetime.now(UTC):%F %R} UTC"}


def _provenance(conclusion: Conclusion, best: RunDetails) -> dict[str, dict[str, str]]:
    """Return where the best run came from, as far as it is recorded."""
    known = best.environment
    run = conclusion.table.runs.loc[conclusion.best]
    machine = {name: str(known[name]) for name in ("host", "platform", "machine") if name in known}
    versions = {"python": known["python"], **known["packages"]} if "packages" in known else {}
    marks = ("data_fingerprint", "code_fingerprint", "git_commit", "run_key")
    return {
        "Best run": {name: str(run[name]) for name in ("run_id", "batch_id", *marks)},
        "Machine of the best run": machine,
        "Versions of the best run": versions,
    }


def _print(
    store: Store,
    config: CompareConfig,
    conclusion: Conclusion,
    assessment: Mapping[str, Any] | None,
    folder: Path,
) -> None:
    print_leaderboard(
        conclusion.table,
        conclusion.ranked,
        conclusion.ranking,
        top_n=config.top_n,
        verdict="" if assessment is None else f"Of the whole batch: {_sentence(assessment)}",
        notes=conclusion.notes,
        heading=batch_lines(conclusion.table, conclusion.differences),
    )
    tell(f"\nTables: {folder}\nBrowse: {store.ui_command}\n", sys.stdout)


def _sentence(assessment: Mapping[str, Any]) -> str:
    return str(assessment["verdict"]["sentence"])


def _refuse_unranked(conclusion: Conclusion) -> None:
    """Say why no run has a rank, and by which metrics runs could be ranked.

    Raises
    ------
    SelectionError
        Always.
    """
    table, ranking = conclusion.table, conclusion.ranking
    counts = unranked_counts(conclusion.ranked)
    kinds = [f"{reason} ({count:,})" for reason, count in counts.items()]
    listed = "; ".join(kinds[:_LISTED_REASONS])
    message = f"none of the {len(table):,} selected runs can be ranked: {listed}"
    if len(table) == 1:
        message = f"the only selected run cannot be ranked: {'; '.join(counts)}"
    present = table.metrics.notna().any()
    lacking = [name for name in ranking.metrics if not present.get(name, default=False)]
    available = [name for name in result_metric_names(present.index) if present[name]]
    if lacking:
        message = f"rank_by={', '.join(lacking)}: {message}"
        message += f". They have {', '.join(available)}" if available else ""
    elif ranking.constraints:
        message = f"constraints={'; '.join(map(str, ranking.constraints))}: {message}"
    raise SelectionError(message)
