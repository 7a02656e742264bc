"""What a command says and returns, however its work ends."""

import os
import sys
import traceback
from collections.abc import Callable

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from backtest_batch.config.schema import BatchConfig
from backtest_batch.errors import BacktestBatchError
from backtest_batch.interrupt import Interrupted, finished
from backtest_batch.printing import say
from backtest_batch.streams import forgiving_output
from hydra_plugins.backtest_batch._messages import explain

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Environment variable: 1 shows tracebacks."""


def exit_code_of(
    work: Callable[[], int],
    *,
    schema: type = BatchConfig,
    begun: Callable[[], bool] = lambda: False,
) -> int:
    """Do the work of a command and return the exit code; whatever happens, there is one.

    Parameters
    ----------
    work
        Does it, and returns the exit code.
    schema
        The keys of the command, for its messages.
    begun
        Says whether something has been begun that an error of ours has broken off.
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
    except KeyboardInterrupt:  # in a process of somebody else's
        sys.stderr.write("Interrupted.\n")
        return 130
    except Exception as error:  # noqa: BLE001 - a fault of ours must be readable, too
        _report(f"{type(error).__name__}: {error}\n{FULL_ERROR}=1 shows where it was raised.")
        return 1 if begun() else 2


def _report(message: str) -> None:
    if os.environ.get(FULL_ERROR) == "1":
        say(traceback.format_exc())
    say(message + "\n")
