"""The errors of the package, as a tree.

BacktestBatchError                  everything below; its ``exit_code`` is what the commands return
├── ConfigurationError (ValueError)    keys, values or combinations that cannot be run
├── DataError (ValueError)             prices that cannot be used
│   └── DataNotFoundError (FileNotFoundError)
├── StrategyError (RuntimeError)       a strategy returned what the engine cannot trade
├── StoreError (OSError)               the tracking store cannot be opened or written
├── SelectionError (LookupError)       no such batch, run or metric
├── ClusterLostError (ConnectionError) the cluster that computes is gone
└── BacktestError                      why one run of a batch failed
    ├── WorkerDied (RuntimeError)          its process ended before it answered
    ├── RunTimeout (TimeoutError)          it took longer than ``timeout_seconds``
    └── MemoryLimitExceeded (MemoryError)  its process grew beyond ``memory_limit_mb``

The command turns the first five into one readable message and exit code 2. ClusterLostError is
exit code 1, since runs may be recorded by then. The last group is recorded on the run it belongs
to, and the batch goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backtest_batch.masking import masked
from backtest_batch.streams import printable
from backtest_batch.values import value_text


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault in a configuration.

    Attributes
    ----------
    key
        The configuration key, as it is typed on the command line.
    value
        The value that was given.
    allowed
        What would have been accepted, in words.
    run
        The combination it belongs to (``commission_bps=-1 rebalance=M``); empty for all.
    refused
        Whether a strategy itself refuses the combination of its arguments.
    """

    key: str
    value: Any
    allowed: str
    run: str = ""
    refused: bool = False

    def __str__(self) -> str:
        return f"{self.key}={self.shown}: {self.allowed}"

    @property
    def shown(self) -> str:
        """The value as typed: ``null`` and ``true``, not Python's words; without secrets."""
        return masked(f"{self.key}={value_text(self.value)}").removeprefix(f"{self.key}=")


class BacktestBatchError(Exception):
    """Root of all errors that this package raises on purpose."""

    exit_code = 2

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Messages hold values from files and stores, whose control characters a terminal obeys.
        self.args = tuple(printable(item) if isinstance(item, str) else item for item in args)


class ConfigurationError(BacktestBatchError, ValueError):
    """Keys, values or combinations that cannot be run; ``faults`` lists them."""

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.faults)


class DataError(BacktestBatchError, ValueError):
    """Prices that cannot be used; the message names symbol, first timestamp and count."""


class DataNotFoundError(DataError, FileNotFoundError):
    """The file, folder or package that should hold the prices is not there."""

    # FileNotFoundError formats itself from errno; here the message is the whole text.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class StrategyError(BacktestBatchError, RuntimeError):
    """A strategy returned weights that cannot be traded, or an account that cannot be true."""


class StoreError(BacktestBatchError, OSError):
    """The tracking store cannot be opened or written."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class SelectionError(BacktestBatchError, LookupError):
    """There is no such batch, run or metric."""


class ClusterLostError(BacktestBatchError, ConnectionError):
    """The cluster that computes a batch is gone; what had ended by then is recorded."""

    exit_code = 1

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class BacktestError(BacktestBatchError):
    """Why one run of a batch failed, other than by an exception of its own."""

    exit_code = 1


class WorkerDied(BacktestError, RuntimeError):  # noqa: N818 - the name stands in the tag error_type
    """The process that computed the run ended before it answered."""


class RunTimeout(BacktestError, TimeoutError):  # noqa: N818 - the name stands in the tag error_type
    """The run took longer than ``timeout_seconds``."""


class MemoryLimitExceeded(BacktestError, MemoryError):  # noqa: N818 - the name stands in a tag
    """The process that computed the run grew beyond ``memory_limit_mb``."""
