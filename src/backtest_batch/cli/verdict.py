"""The command ``python -m backtest_batch.verdict``: skill or luck, of any returns.

python -m backtest_batch.verdict returns.parquet
python -m backtest_batch.verdict returns.csv benchmark=SPY n_trials=500
python -m backtest_batch.verdict returns.parquet decisions=grid.csv tracking=true
"""

import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

from backtest_batch.analysis.overfitting.samples import OverfittingSettings
from backtest_batch.api.skill import Judgement, skill_or_luck
from backtest_batch.cli.main import exit_code_of
from backtest_batch.cli.typed import help_text, made_folder, tracking_in_full, typed_config
from backtest_batch.config.checks import check_verdict, require_written_arguments
from backtest_batch.config.schema import AUTO, VerdictConfig
from backtest_batch.errors import ConfigurationError, StoreError
from backtest_batch.interrupt import begun, finished
from backtest_batch.report.markdown import skill_columns
from backtest_batch.report.terminal import print_leaderboard
from backtest_batch.store.store import Store, close_stores
from backtest_batch.streams import say, tell

NOT_RECORDED = 3
"""Exit code when everything was computed and written, but not recorded."""

_KEYS = frozenset(item.name for item in fields(VerdictConfig))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> int:
        if any(item in ("-h", "--help") for item in given):
            sys.stdout.write(help_text(__doc__, VerdictConfig))
            return 0
        require_written_arguments(given)
        try:
            return run_verdict(read_verdict_config(given))
        finally:
            close_stores()

    return exit_code_of(work, schema=VerdictConfig)


def read_verdict_config(arguments: Sequence[str]) -> VerdictConfig:
    """Return the configuration that the arguments describe; one of them may be a file.

    Raises
    ------
    ConfigurationError
        When there is no file, or several, or a value is out of range.
    HydraException
        When a key is unknown or a value has the wrong type.
    """
    files = [item for item in arguments if _is_file(item)]
    typed = [tracking_in_full(item) for item in arguments if not _is_file(item)]
    config = typed_config(typed, VerdictConfig)
    assert isinstance(config, VerdictConfig)
    files += [] if config.file is None else [config.file]
    if not files:
        raise ConfigurationError(
            "name the file of returns: python -m backtest_batch.verdict returns.parquet"
        )
    if len(files) > 1:
        raise ConfigurationError(f"one file is judged at a time, not {len(files)}: {files}")
    config.file = files[0]
    faults = list(check_verdict(config))
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
    return config


def _is_file(argument: str) -> bool:
    key, equals, _ = argument.partition("=")
    if argument.startswith("-") or (equals and key.lstrip("+~").partition(".")[0] in _KEYS):
        return False
    return not equals or Path(argument).is_file()


def run_verdict(config: VerdictConfig) -> int:
    """Judge the returns, write the files, print the verdict, and return the exit code.

    Raises
    ------
    BacktestBatchError
        When the file cannot be read or judged, or the store cannot be opened.
    """
    assert config.file is not None
    store = _store(config) if config.tracking.is_wanted else None
    judgement = skill_or_luck(
        config.file,
        config.benchmark,
        n_trials=config.n_trials,
        decisions=config.decisions,
        scenario_axes=config.scenario_axes,
        decision_axes=config.decision_axes,
        rank_by=config.rank_by,
        risk_free_rate=config.risk_free_rate,
        periods_per_year=config.periods_per_year,
        session_end=config.session_end,
        returns_unit=config.returns_unit,
        options=config.options,
        benchmark_values=config.benchmark_values,
        factors=config.factors,
        settings=OverfittingSettings(
            seed=config.seed, mean_block=config.statistics.mean_block or AUTO
        ),
        title=config.batch_name or Path(config.file).name,
    )
    documents = judgement.documents()
    begun()
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", Path(config.file).stem).strip(".-")[:80] or "returns"
    folder = made_folder(
        config.output_dir, Path("mlruns", "verdicts"), f"{stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    )
    try:
        for name, text in documents.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        said = f"{folder} cannot be written ({error.strerror or error})"
        raise ConfigurationError(said) from error
    code = 0
    if store is not None:
        try:
            _record(store, config, judgement, documents)
        except StoreError as error:
            say(f"{error}\nThe verdict is in {folder}, not in the store.\n")
            code = NOT_RECORDED
    finished(code)
    _print(config, judgement, folder, store if code == 0 else None)
    if judgement.label in config.fail_on_verdict:
        say(f"fail_on_verdict: the verdict is {judgement.label}.\n")
        return code or 1
    return code


def _print(config: VerdictConfig, judgement: Judgement, folder: Path, store: Store | None) -> None:
    conclusion = judgement.conclusion
    print_leaderboard(
        conclusion.table,
        conclusion.ranked,
        conclusion.ranking,
        top_n=config.top_n,
        verdict=judgement.sentence,
        notes=conclusion.notes,
        extra=skill_columns(conclusion),
    )
    lines = [*(f"  {reason}" for reason in judgement.reasons), "", f"Report: {folder}"]
    if store is not None:
        lines.append(f"Browse: {store.ui_command}")
    tell("\n".join(lines) + "\n", sys.stdout)


def _store(config: VerdictConfig) -> Store:
    from backtest_batch.store.address import resolve_experiment, resolve_uri
    from backtest_batch.store.store import open_store

    uri = resolve_uri(config.tracking.uri, Path.cwd())
    return open_store(uri, resolve_experiment(config.tracking.experiment))


def _record(
    store: Store, config: VerdictConfig, judgement: Judgement, documents: dict[str, str]
) -> None:
    """Record the verdict as a run of its own, which no batch and no comparison takes for one."""
    from backtest_batch.store.verdicts import record_verdict

    returns = judgement.given.returns
    if judgement.given.benchmark is not None:
        returns = returns.assign(benchmark=judgement.given.benchmark)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, text in documents.items():
            (folder / name).write_text(text, encoding="utf-8")
        returns.rename_axis("timestamp").reset_index().to_parquet(
            folder / "returns.parquet", compression="zstd", index=False
        )
        record_verdict(
            store,
            name=config.batch_name or Path(str(config.file)).name,
            document=judgement,
            params={
                "file": str(config.file),
                "benchmark": judgement.benchmark.name or None,
                "n_trials": config.n_trials,
                "decisions": config.decisions,
                "periods_per_year": judgement.given.periods_per_year,
                "risk_free_rate": config.risk_free_rate,
                "seed": config.seed,
            },
            artifacts=folder,
        )
