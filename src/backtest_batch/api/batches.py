"""Run the requested batch: commands and programs share this path."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from hydra.errors import ConfigCompositionException

from backtest_batch.compose.apart import apart
from backtest_batch.compose.arguments import expand_arguments, read_arguments
from backtest_batch.config.arguments import Arguments, refuse_repeats
from backtest_batch.config.checks import require_written_arguments
from backtest_batch.core.kernel_cache import use_kernel_cache
from backtest_batch.errors import BacktestBatchError, ConfigurationError
from backtest_batch.interrupt import heed, signals_deferred
from backtest_batch.records import BatchRequest

CONFIG_NAME = "config"


class Task:
    """What Hydra is given to run: it runs a batch and keeps the outcome.

    Without our sweeper and launcher, Hydra would call it once per run.

    Parameters
    ----------
    output
        Where the summary of the batch is written.
    run
        The function to which the sweeper and the launcher pass the batch;
        :func:`backtest_batch.batch.run.run` by default.
    """

    def __init__(self, output: TextIO, run: Callable[..., Any] | None = None) -> None:
        self.output = output
        self.arguments = Arguments()
        self._run = run
        self.outcome: Any = None
        self.started = False
        self.__name__ = "backtest_batch"

    def run(self, request: BatchRequest, **options: Any) -> Any:
        """Run a batch and return its outcome."""
        self.started = True
        if self._run is not None:
            return self._run(request, output=self.output, **options)
        # Imported late: a misspelt key is reported without it.
        from backtest_batch.batch.run import run

        return run(request, output=self.output, **options)

    def __call__(self, config: Any) -> None:  # noqa: ARG002 - Hydra passes it
        """Refuse: runs are computed in batches."""
        raise ConfigurationError(
            "runs are computed in batches, by the sweeper or the launcher `batch`: leave out "
            "hydra.mode=RUN, and choose another launcher only with hydra/sweeper=batch"
        )


def config_folder() -> Path:
    """Return the folder of the configuration: inside the wheel, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def run_batch(given: Arguments, task: Task) -> Any:
    """Run the requested batch, and return its outcome.

    Parameters
    ----------
    given
        The request: keys and options.
    task
        Runs the batch, and says where its summary is written.

    Raises
    ------
    BacktestBatchError, HydraException, OmegaConfBaseException
        When nothing was run.
    """
    with prepared(given, task):
        if task.arguments.value("hydra.mode") == "RUN":
            task(None)
        _compose_and_run(task)
    return task.outcome


@contextlib.contextmanager
def prepared(given: Arguments, task: Task) -> Iterator[None]:
    """Replace keys that stand for others, isolate Hydra, and report every key that is wrong.

    ``batch_file``, ``best`` and ``resume`` stand for other keys; inside the block the task has
    those.
    """
    # loky warns of restarts that lose no work here.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    require_written_arguments(given.texts)
    use_kernel_cache()
    refuse_repeats(given.given())
    with apart(), contextlib.ExitStack() as claims:
        asked = expand_arguments(given)
        if asked.value("best") is not None:
            asked = _with_winner(asked)
        if asked.value("resume") is not None:
            asked = claims.enter_context(_resumed(asked, task.output))
        task.arguments = asked
        try:
            yield
        except BacktestBatchError:
            raise
        except (ConfigCompositionException, ValueError) as error:
            if not task.started:
                _raise_all_faults(asked, error)
            raise


def _with_winner(given: Arguments) -> Arguments:
    """Return the arguments with those of the run that ``best`` names."""
    from backtest_batch.batch.rerun import read_winner, with_winner
    from backtest_batch.store.batch_document import require_trust

    winner = read_winner(str(given.value("best")))
    if not winner.is_own:
        require_trust(f"best={winner.path}", winner.arguments, (), given.texts)
    return with_winner(winner, read_arguments(winner.arguments), given)


@contextlib.contextmanager
def _resumed(given: Arguments, output: TextIO) -> Iterator[Arguments]:
    """Yield the command of the batch that ``resume`` names.

    Results that could not be recorded earlier are recorded first. Meanwhile no other process can
    continue the batch.
    """
    from backtest_batch.batch.resume import claimed, continued, recall, record_unrecorded
    from backtest_batch.store.address import resolve_experiment
    from backtest_batch.store.batch_document import require_trust
    from backtest_batch.store.store import close_stores

    batch, uri = str(given.value("resume")), given.value("tracking.uri")
    experiment = resolve_experiment(given.value("tracking.experiment"))
    try:
        recalled = recall(batch, uri=uri, experiment=experiment)
        if not recalled.is_own:
            require_trust(f"resume={batch}", recalled.arguments, recalled.targets, given.texts)
        asked = continued(recalled, read_arguments(recalled.arguments), given)
        with (
            signals_deferred(),
            claimed(
                recalled,
                uri=asked.value("tracking.uri"),
                experiment=asked.value("tracking.experiment") or experiment,
            ),
        ):
            record_unrecorded(recalled, asked.value("output_dir"), uri, output)
            heed()
            yield asked
    finally:
        close_stores()


def _compose_and_run(task: Task) -> None:
    """Let Hydra compose the request and pass it to the configured sweeper."""
    from hydra import version
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_automatic_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra

    asked = task.arguments
    version.setbase("1.3")
    folder = asked.option("--config-path", "-cp") or str(config_folder())
    search_path = create_automatic_config_search_path(None, "backtest_batch._", folder)
    further = asked.option("--config-dir", "-cd")
    if further is not None:
        path = Path(further).absolute()
        if not path.is_dir():
            raise ConfigurationError(f"Additional config directory '{path}' not found")
        search_path.prepend("command-line", f"file://{path}", SearchPathQuery(provider="schema"))
    hydra = Hydra.create_main_hydra2("backtest_batch", search_path)
    try:
        hydra.multirun(
            config_name=asked.option("--config-name", "-cn") or CONFIG_NAME,
            task_function=task,
            overrides=[item.text for item in asked.keys],
        )
    finally:
        GlobalHydra.instance().clear()


def _raise_all_faults(asked: Arguments, error: Exception) -> None:
    """Raise one error that lists all wrong keys, if there are several."""
    from backtest_batch.compose.configurations import faults_of

    further = asked.option("--config-dir", "-cd")
    faults = faults_of(asked.keys, config_folder(), CONFIG_NAME, further)
    if len(faults) < 2:
        return
    listed = "\n".join(f"  {fault}" for fault in faults)
    raise ConfigurationError(
        f"The configuration is invalid; nothing was run:\n{listed}", faults
    ) from error
