"""The command ``python -m backtest_batch``: from its arguments to its exit code."""

import contextlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from backtest_batch.api.batches import CONFIG_NAME, Task, config_folder, prepared, run_batch
from backtest_batch.compose.arguments import read_arguments, readable
from backtest_batch.compose.messages import explain
from backtest_batch.config.arguments import Arguments
from backtest_batch.config.schema import BatchConfig
from backtest_batch.errors import BacktestBatchError
from backtest_batch.interrupt import Interrupted, finished
from backtest_batch.streams import forgiving_output, say

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Environment variable: 1 shows tracebacks."""


def exit_code_of(
    work: Callable[[], int],
    *,
    schema: type = BatchConfig,
    begun: Callable[[], bool] = lambda: False,
) -> int:
    """Do the work of a command and return its exit code, whatever happens.

    Parameters
    ----------
    work
        Does it, and returns the exit code.
    schema
        The keys of the command, for its messages.
    begun
        Tells whether something had begun when one of our errors ended it.
    """
    with forgiving_output() as output:
        code = _code(work, schema, begun)
        finished(code)
        sys.stdout.flush()
        if output.lost:
            sys.stderr.write(f"Not all of the output could be written: {output.lost}.\n")
    return code


def _code(work: Callable[[], int], schema: type, begun: Callable[[], bool]) -> int:
    try:
        return work()
    except SystemExit as ending:  # --help, and options that do not exist
        return ending.code if isinstance(ending.code, int) else 2
    except (BacktestBatchError, HydraException, OmegaConfBaseException, YAMLError) as error:
        _report(explain(error, schema))
        return error.exit_code if isinstance(error, BacktestBatchError) else 2
    except Interrupted as interruption:
        sys.stderr.write(f"Interrupted ({interruption}); nothing was run.\n")
        return interruption.exit_code
    except KeyboardInterrupt:  # in another program's process
        sys.stderr.write("Interrupted.\n")
        return 130
    except Exception as error:  # noqa: BLE001 - a fault of ours must be readable, too
        _report(f"{type(error).__name__}: {error}\n{FULL_ERROR}=1 shows where it was raised.")
        return 1 if begun() else 2


def _report(message: str) -> None:
    if os.environ.get(FULL_ERROR) == "1":
        say(traceback.format_exc())
    say(message + "\n")


SHOWING = frozenset(
    {
        *("--cfg", "-c", "--package", "-p", "--info", "-i", "-h", "--help", "--hydra-help"),
        *("--version", "--resolve", "-sc", "--shell-completion"),
    }
)
"""Options that show something instead of running a batch; Hydra handles them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    arguments
        The words after the command's name; by default those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    tasks: list[Task] = []

    def work() -> int:
        if given == ["--version"]:
            sys.stdout.write(f"backtest_batch {importlib.metadata.version('backtest-batch')}\n")
            return 0
        asked = read_arguments(readable(given))
        # From here on a full disk does not fail what is printed.
        task = Task(sys.stdout)
        tasks.append(task)
        if any(item.partition("=")[0] in SHOWING for item in asked.options):
            _show(asked, task)
            return 0
        outcome = run_batch(asked, task)
        return 0 if outcome is None else int(outcome.exit_code)

    return exit_code_of(work, begun=lambda: any(task.started for task in tasks))


def _show(asked: Arguments, task: Task) -> None:
    """Let Hydra show what its options request."""
    from hydra import version
    from hydra._internal.utils import _run_hydra, get_args_parser

    parser = get_args_parser()
    parser.prog = "python -m backtest_batch"
    with prepared(asked, task), _full_errors():
        version.setbase("1.3")
        _run_hydra(
            args=parser.parse_args(task.arguments.texts),
            args_parser=parser,
            task_function=task,
            config_path=str(config_folder()),
            config_name=CONFIG_NAME,
        )


@contextlib.contextmanager
def _full_errors() -> Iterator[None]:
    """Let Hydra raise errors, instead of printing them and exiting with 1."""
    previous = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        if previous is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = previous
