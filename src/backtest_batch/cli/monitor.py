"""The command ``python -m backtest_batch.monitor``: whether a winner holds what was promised.

python -m backtest_batch.monitor best=best_params.json data.path=newer.parquet
python -m backtest_batch.monitor best=best_params.json output_dir=monitor tracking.enabled=false

It runs the first run of best_params.json, as it was, on newer data: data.path, or any other key of
the data; without one on what its batch read, as it is now. Looked at are the bars after the last
one of the batch. Exit codes: 0 holds or too early to tell, 1 broken, 2 nothing could be compared,
3 not recorded.
"""

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from backtest_batch.api.monitoring import Frozen, Monitored
from backtest_batch.batch.rerun import Winner
from backtest_batch.cli.main import exit_code_of
from backtest_batch.cli.typed import help_text, made_folder, tracking_in_full, typed_config
from backtest_batch.compose.arguments import read_arguments, readable
from backtest_batch.config.arguments import Argument, Arguments, argument_key, refuse_repeats
from backtest_batch.config.checks import check_monitor, require_written_arguments
from backtest_batch.config.schema import MonitorConfig
from backtest_batch.errors import ConfigurationError, StoreError
from backtest_batch.interrupt import begun, finished
from backtest_batch.store.address import resolve_experiment, resolve_uri
from backtest_batch.store.store import Store, StoreNotFoundError, close_stores, open_store
from backtest_batch.streams import say, tell

BROKEN = 1
"""Exit code when the strategy no longer earns what its backtest promised."""

NOT_RECORDED = 3
"""Exit code when everything was computed and written, but not recorded."""

_NEWER = ("benchmark", "benchmark_values", "end_date")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> int:
        if any(item in ("-h", "--help") for item in given):
            sys.stdout.write(help_text(__doc__, MonitorConfig))
            return 0
        require_written_arguments(given)
        try:
            return run_monitor(*read_monitor_config(given))
        finally:
            close_stores()

    return exit_code_of(work, schema=MonitorConfig)


def read_monitor_config(arguments: Sequence[str]) -> tuple[MonitorConfig, Arguments]:
    """Return the configuration that the arguments describe, and the keys of the newer data.

    Raises
    ------
    ConfigurationError
        When no best_params.json is named, a key is given twice, or a value is out of range.
    HydraException
        When a key is unknown or a value has the wrong type.
    """
    newer = [item for item in arguments if argument_key(item).partition(".")[0] == "data"]
    config = typed_config(
        [tracking_in_full(item) for item in arguments if item not in newer], MonitorConfig
    )
    assert isinstance(config, MonitorConfig)
    faults = list(check_monitor(config))
    if faults:
        raise ConfigurationError("\n".join(str(fault) for fault in faults), faults)
    if config.best is None:
        raise ConfigurationError(
            "name the winner: python -m backtest_batch.monitor best=best_params.json"
        )
    data = read_arguments(readable(newer))
    refuse_repeats(data.given())
    keys = [*data.keys]
    keys += [
        Argument.of(name, value) for name in _NEWER if (value := getattr(config, name)) is not None
    ]
    keys += [
        Argument.of(f"tracking.{name}", value)
        for name in ("uri", "experiment")
        if (value := getattr(config.tracking, name)) is not None
    ]
    return config, Arguments(keys=tuple(keys))


def run_monitor(config: MonitorConfig, newer: Arguments) -> int:
    """Follow the winner, write the files, record and print the answer; return the exit code.

    Raises
    ------
    BacktestBatchError
        When the winner cannot be computed or compared, or the store cannot be opened.
    """
    frozen = Frozen(str(config.best), newer, trust=config.trust)
    uri = resolve_uri(frozen.config["tracking"]["uri"], Path.cwd())
    experiment = resolve_experiment(frozen.config["tracking"]["experiment"])
    # A store that cannot be written is said before anything is computed.
    store = open_store(uri, experiment) if config.tracking.enabled else None

    def stored(winner: Winner) -> Iterator[pd.Series]:
        return _stored(winner, store, uri, experiment)

    found = frozen.follow(since=config.since, title=config.batch_name, stored=stored)
    begun()
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", found.title).strip(".-")[:80] or "winner"
    folder = made_folder(
        config.output_dir, Path("mlruns", "monitors"), f"{stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    )
    try:
        found.save(folder)
    except OSError as error:
        said = f"{folder} cannot be written ({error.strerror or error})"
        raise ConfigurationError(said) from error
    code = BROKEN if found.answer == "broken" else 0
    recorded_in = store
    if store is not None:
        try:
            _record(store, found, newer)
        except StoreError as error:
            say(f"{error}\nThe answer is in {folder}, not in the store.\n")
            code, recorded_in = code or NOT_RECORDED, None
    finished(code)
    _print(found, folder, recorded_in)
    return code


def _stored(winner: Winner, store: Store | None, uri: str, experiment: str) -> Iterator[pd.Series]:
    """Yield the returns of a winner that its store holds."""
    from backtest_batch.store.recorded import returns_of_run

    if store is None:
        try:
            store = open_store(uri, experiment, create=False)
        except (StoreNotFoundError, StoreError):
            return
    id_in_store = winner.entry.get("mlflow_run_id")
    yield from returns_of_run(
        store,
        winner.batch_id,
        winner.run_id,
        id_in_store if isinstance(id_in_store, str) else None,
    )


def _record(store: Store, found: Monitored, newer: Arguments) -> None:
    """Record the answer as a run of its own, which no batch and no comparison takes for one."""
    from backtest_batch.store.verdicts import record_monitor

    with tempfile.TemporaryDirectory() as temporary:
        record_monitor(
            store,
            name=found.title,
            document=found,
            params={
                "best": found["best"],
                "run_id": found["run_id"],
                "run_key": found["run_key"],
                "newer": " ".join(item.text for item in newer.keys) or None,
                "data_fingerprint": found["data_fingerprint"],
                "benchmark": found["benchmark"],
            },
            artifacts=found.save(temporary),
        )


def _print(found: Monitored, folder: Path, store: Store | None) -> None:
    lines = [found.sentence, *(f"  {line}" for line in (*found.reasons, *found.notes)), ""]
    lines.append(f"Report: {folder}")
    if store is not None:
        lines.append(f"Browse: {store.ui_command}")
    tell("\n".join(lines) + "\n", sys.stdout)
