"""The command ``python -m backtest_batch``: arguments to exit code."""

import contextlib
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from hydra.errors import ConfigCompositionException

from backtest_batch.arguments import argument_value, divide, option_value
from backtest_batch.batch_file import expand_arguments
from backtest_batch.config.texts import require_written_arguments
from backtest_batch.errors import BacktestBatchError, ConfigurationError
from backtest_batch.exit_code import FULL_ERROR, exit_code_of
from backtest_batch.interrupt import heed, shielded
from backtest_batch.kernel_cache import use_kernel_cache
from backtest_batch.records import BatchRequest
from backtest_batch.repeats import refuse_repeats
from hydra_plugins.backtest_batch._apart import apart
from hydra_plugins.backtest_batch._typed import given_keys, merged, readable

CONFIG_NAME = "config"

RunBatch = Callable[..., Any]
"""What is done with the request of a batch."""


def run_batch(request: BatchRequest, **options: Any) -> Any:
    """Run a batch; what that takes is imported now, since a misspelt key needs none of it."""
    from backtest_batch.sweep.story import run

    return run(request, **options)


class Task:
    """What Hydra is given to run: it knows how to run a batch, and keeps what the batch came to.

    Hydra would call it for each run if it were left to run them by itself.

    Parameters
    ----------
    output
        Where the summary of the batch is written.
    run
        What the sweeper and the launcher hand the batch to.
    """

    def __init__(self, output: TextIO, run: RunBatch = run_batch) -> None:
        self.output = output
        self.arguments: tuple[str, ...] = ()
        self._run = run
        self.outcome: Any = None
        self.started = False
        self.__name__ = "backtest_batch"

    def run(self, request: BatchRequest, **options: Any) -> Any:
        """Run a batch and return its outcome."""
        self.started = True
        return self._run(request, output=self.output, **options)

    def __call__(self, config: Any) -> None:  # noqa: ARG002 - Hydra passes it
        """Refuse: runs are computed in batches."""
        raise ConfigurationError(
            "runs are computed in batches, by the sweeper or the launcher `batch`: leave out "
            "hydra.mode=RUN, and choose another launcher only with hydra/sweeper=batch"
        )


def config_folder() -> Path:
    """Return the folder of the configuration: inside the wheel, or at the top of a checkout."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    arguments
        What follows the command's name; by default that of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    tasks: list[Task] = []

    def work() -> int:
        if given == ["--version"]:
            sys.stdout.write(f"backtest_batch {importlib.metadata.version('backtest-batch')}\n")
            return 0
        # What stands for standard output now loses nothing by a full disk.
        tasks.append(Task(sys.stdout))
        outcome = run_command(readable(given), tasks[0])
        return 0 if outcome is None else int(outcome.exit_code)

    return exit_code_of(work, begun=lambda: any(task.started for task in tasks))


def run_command(arguments: Sequence[str], task: Task) -> Any:
    """Run the command and return the outcome of its batch; None when there was none to run.

    Parameters
    ----------
    arguments
        Options and keys, as Hydra reads them.
    task
        What runs the batch.

    Raises
    ------
    BacktestBatchError, HydraException, OmegaConfBaseException
        When nothing was run.
    """
    # loky speaks of its own restarts, which cost nobody's work here.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    require_written_arguments(arguments)
    use_kernel_cache()
    refuse_repeats(given_keys(arguments))
    with (
        apart(),
        resumed(_with_winner(merged(expand_arguments(arguments))), task.output) as expanded,
    ):
        task.arguments = tuple(expanded)
        try:
            _run_hydra(expanded, task)
        except BacktestBatchError:
            raise
        except (ConfigCompositionException, ValueError) as error:
            if not task.started:
                _raise_all_faults(expanded, error)
            raise
    return task.outcome


def _with_winner(arguments: list[str]) -> list[str]:
    """Return the arguments with those of the run that ``best`` names; others as they are."""
    if argument_value(arguments, "best") is None:
        return arguments
    from backtest_batch.sweep.best import require_own_winner, with_winner

    require_own_winner(arguments)
    return with_winner(arguments)


@contextlib.contextmanager
def resumed(arguments: list[str], output: TextIO) -> Iterator[list[str]]:
    """Yield the command of the batch that ``resume`` names; other arguments as they are.

    Results that could not be recorded when they were computed are recorded first. No other process
    goes on with the batch meanwhile.
    """
    batch = argument_value(arguments, "resume")
    if batch is None:
        yield arguments
        return
    from backtest_batch.stored.trust import require_trust
    from backtest_batch.sweep.resume import claimed, merged_arguments, recall, record_unrecorded
    from backtest_batch.tracking.address import resolve_experiment
    from backtest_batch.tracking.store import close_stores

    uri = argument_value(arguments, "tracking.uri")
    experiment = resolve_experiment(argument_value(arguments, "tracking.experiment"))
    try:
        recalled = recall(batch, uri=uri, experiment=experiment)
        if not recalled.is_own:
            require_trust(f"resume={batch}", recalled.arguments, recalled.targets, arguments)
        merged = merged_arguments(recalled, arguments)
        with (
            shielded(),
            claimed(
                recalled,
                uri=argument_value(merged, "tracking.uri"),
                experiment=argument_value(merged, "tracking.experiment") or experiment,
            ),
        ):
            record_unrecorded(recalled, argument_value(merged, "output_dir"), uri, output)
            heed()
            yield merged
    finally:
        close_stores()


def _run_hydra(arguments: Sequence[str], task: Task) -> None:
    from hydra import version
    from hydra._internal.utils import _run_hydra, get_args_parser

    version.setbase("1.3")
    parser = get_args_parser()
    parser.prog = "python -m backtest_batch"
    with _full_errors():
        _run_hydra(
            args=parser.parse_args(list(arguments)),
            args_parser=parser,
            task_function=task,
            config_path=str(config_folder()),
            config_name=CONFIG_NAME,
        )


@contextlib.contextmanager
def _full_errors() -> Iterator[None]:
    """Let Hydra raise errors; it would print them itself and exit with 1."""
    previous = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        if previous is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = previous


def _raise_all_faults(arguments: Sequence[str], error: Exception) -> None:
    """Raise an error that lists every key that is wrong, when there are several."""
    from hydra_plugins.backtest_batch._faults import faults_of

    options, keys = divide(arguments)
    further = option_value(options, "--config-dir", "-cd")
    faults = faults_of(keys, config_folder(), CONFIG_NAME, further)
    if len(faults) < 2:
        return
    listed = "\n".join(f"  {fault}" for fault in faults)
    raise ConfigurationError(
        f"The configuration is invalid; nothing was run:\n{listed}", faults
    ) from error
