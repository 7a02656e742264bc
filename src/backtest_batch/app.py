"""The command ``python -m backtest_batch``: arguments to exit code."""

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from backtest_batch.arguments import argument_value, expand_arguments
from backtest_batch.config import TrackingConfig
from backtest_batch.errors import BacktestBatchError
from hydra_plugins.backtest_batch._messages import explain

CONFIG_NAME = "config"


class Task:
    """What Hydra is given to run; the sweeper leaves the outcome of the batch here.

    Hydra would call it for each run if it were left to run them by itself.
    """

    def __init__(self) -> None:
        self.outcome: Any = None
        self.__name__ = "backtest_batch"

    def __call__(self, config: Any) -> None:  # noqa: ARG002 - Hydra passes it
        """Refuse: runs are computed in batches."""
        raise BacktestBatchError(
            "runs are computed by the sweeper and the launcher `batch`: "
            "hydra.mode=RUN and other sweepers with other launchers cannot run them"
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
    # loky speaks of its own restarts, which cost nobody's work here.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    try:
        return run_hydra(resumed(expand_arguments(given)))
    except (BacktestBatchError, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        sys.stderr.write(explain(error) + "\n")
        return error.exit_code if isinstance(error, BacktestBatchError) else 2
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing was run.\n")
        return 130


def resumed(arguments: list[str]) -> list[str]:
    """Return the command of the batch that ``resume`` names; other arguments as they are.

    Results that could not be recorded when they were computed are recorded first.
    """
    batch = argument_value(arguments, "resume")
    if batch is None:
        return arguments
    from backtest_batch.resume import merged_arguments, recall, record_unrecorded

    uri = argument_value(arguments, "tracking.uri")
    experiment = argument_value(arguments, "tracking.experiment") or TrackingConfig.experiment
    recalled = recall(batch, uri=uri, experiment=experiment)
    merged = merged_arguments(recalled, arguments)
    record_unrecorded(recalled.batch_id, argument_value(merged, "output_dir"), uri)
    return merged


def run_hydra(arguments: Sequence[str]) -> int:
    """Hand the arguments to Hydra and return the exit code of the batch."""
    import hydra

    task = Task()
    wrapped = hydra.main(
        version_base="1.3", config_path=str(config_folder()), config_name=CONFIG_NAME
    )(task)
    previous_arguments, previous_mode = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [sys.argv[0], *arguments]
    # Hydra would print errors itself and exit with 1; this way it lets them through.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        wrapped()
    finally:
        sys.argv = previous_arguments
        if previous_mode is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = previous_mode
    return 0 if task.outcome is None else int(task.outcome.exit_code)
