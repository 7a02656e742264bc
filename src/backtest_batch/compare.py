"""The command ``python -m backtest_batch.compare``: rank recorded runs, within and across batches.

python -m backtest_batch.compare batch=latest rank_by=sharpe top_n=10
python -m backtest_batch.compare 'filter_tags={suite: ai_tech}'
python -m backtest_batch.compare batch=[core,core_ml] 'filter="metrics.sharpe > 0.5"'
"""

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backtest_batch.comparison.conclusion import Conclusion, conclude
from backtest_batch.comparison.ranking import Ranking
from backtest_batch.config import CompareConfig, check_compare
from backtest_batch.errors import BacktestBatchError, ConfigurationError, SelectionError
from backtest_batch.report.best_params import best_rows
from backtest_batch.report.documents import comparison_documents
from backtest_batch.report.terminal import print_leaderboard
from backtest_batch.selection import details_of, recorded_verdict, select_runs
from backtest_batch.tracking.store import open_store, resolve_uri
from hydra_plugins.backtest_batch._messages import explain

SCHEMA = "backtest_batch_compare"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if any(item in ("-h", "--help") for item in given):
        sys.stdout.write(_help())
        return 0
    try:
        run_comparison(read_config(given))
    except (BacktestBatchError, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        sys.stderr.write(explain(error, CompareConfig) + "\n")
        return error.exit_code if isinstance(error, BacktestBatchError) else 2
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return 130
    return 0


def read_config(arguments: Sequence[str]) -> CompareConfig:
    """Return the configuration that the arguments describe.

    Raises
    ------
    ConfigurationError
        When a value is out of range.
    HydraException
        When a key is unknown or a value has the wrong type.
    """
    ConfigStore.instance().store(name=SCHEMA, node=CompareConfig)
    with initialize(version_base="1.3", config_path=None):
        composed = compose(SCHEMA, overrides=list(arguments))
    config = OmegaConf.to_object(composed)
    assert isinstance(config, CompareConfig)
    faults = list(check_compare(config))
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
    return config


def run_comparison(config: CompareConfig) -> Path:
    """Compare the selected runs, write the tables, print the leaderboard; return the folder.

    Raises
    ------
    BacktestBatchError
        When the selection is empty, or the store cannot be read.
    """
    ranking = Ranking.parse(config.rank_by, config.constraints, config.normalise)
    uri = resolve_uri(config.tracking.uri, Path.cwd())
    store = open_store(uri, config.tracking.experiment, create=False)
    selection = select_runs(store, config)
    conclusion = conclude(selection.table, ranking, notes=selection.notes)
    verdict = recorded_verdict(store, selection.batches)
    if conclusion.best is None:
        _refuse_unranked(conclusion)
    rows = best_rows(conclusion.ranked, config.top_n)
    documents = comparison_documents(
        conclusion,
        title=", ".join(batch.batch_name for batch in selection.batches) or "comparison",
        top_n=config.top_n,
        details=details_of(store, conclusion.table, rows),
        verdict=None if verdict is None else verdict["verdict"],
    )
    folder = _folder(config)
    for name, text in documents.items():
        (folder / name).write_text(text, encoding="utf-8")
    print_leaderboard(
        conclusion.table,
        conclusion.ranked,
        ranking,
        top_n=config.top_n,
        verdict="" if verdict is None else verdict["verdict"]["sentence"],
        notes=conclusion.notes,
    )
    sys.stdout.write(f"\nTables: {folder}\nBrowse: {store.ui_command}\n")
    return folder


def _refuse_unranked(conclusion: Conclusion) -> None:
    reasons = conclusion.ranked["unranked"].value_counts()
    listed = "; ".join(f"{count} {reason}" for reason, count in list(reasons.items())[:5])
    raise SelectionError(f"none of the {len(conclusion.table)} selected runs is ranked: {listed}")


def _folder(config: CompareConfig) -> Path:
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    folder = Path(config.output_dir) if config.output_dir else Path("mlruns", "comparisons", name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"output_dir={folder}: cannot be written ({error.strerror or error})"
        ) from error
    return folder.absolute()


def _help() -> str:
    lines = [str(__doc__).strip(), "", "Keys:"]
    lines += [f"  {item.name}: {item.metadata['meaning']}" for item in fields(CompareConfig)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
