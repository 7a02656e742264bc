"""The command ``python -m backtest_batch``: what is typed, to exit code."""

import contextlib
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Sequence

from backtest_batch.api.batches import CONFIG_NAME, Task, config_folder, prepared, run_batch
from backtest_batch.arguments import Arguments
from backtest_batch.exit_code import FULL_ERROR, exit_code_of
from hydra_plugins.backtest_batch._arguments import read_arguments
from hydra_plugins.backtest_batch._typed import readable

SHOWING = frozenset(
    {
        *("--cfg", "-c", "--package", "-p", "--info", "-i", "-h", "--help", "--hydra-help"),
        *("--version", "--resolve", "-sc", "--shell-completion"),
    }
)
"""Options that show something instead of running a batch; Hydra knows how."""


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
        asked = read_arguments(readable(given))
        # What stands for standard output now loses nothing by a full disk.
        task = Task(sys.stdout)
        tasks.append(task)
        if any(item.partition("=")[0] in SHOWING for item in asked.options):
            _show(asked, task)
            return 0
        outcome = run_batch(asked, task)
        return 0 if outcome is None else int(outcome.exit_code)

    return exit_code_of(work, begun=lambda: any(task.started for task in tasks))


def _show(asked: Arguments, task: Task) -> None:
    """Let Hydra show what its options ask for."""
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
