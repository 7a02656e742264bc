"""What the command and the workers of a cluster send each other."""

import contextlib
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backtest_batch.batch.chunks import ChunkReply, ChunkTask
from backtest_batch.batch.hash_seed import hash_seed
from backtest_batch.batch.limits import Limits
from backtest_batch.batch.place import StartError
from backtest_batch.batch.remote.sources import Sources
from backtest_batch.errors import BacktestBatchError
from backtest_batch.market.panel import FloatArray

TOKEN = "token"
"""Name of the file by which a process recognises the scratch folder of the command."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the command runs.

    Attributes
    ----------
    host
        Its machine.
    working_dir
        Its folder.
    token
        Random letters, unique for this command.
    hash_seed
        The seed of hashes with which its workers start.
    """

    host: str
    working_dir: str
    token: str
    hash_seed: str

    @classmethod
    def here(cls, scratch: Path) -> "Origin":
        """Describe this process, and write its token into a scratch folder."""
        token = secrets.token_hex(16)
        # Where it cannot be written, no worker takes the folder for the command's.
        with contextlib.suppress(OSError):
            (scratch / TOKEN).write_text(token)
        return cls(
            host=socket.gethostname(),
            working_dir=str(Path.cwd()),
            token=token,
            hash_seed=hash_seed(),
        )

    def shares_files(self, scratch: Path) -> bool:
        """Return whether this process reads and writes the same files as the command.

        It does on the same machine, where the token is in the scratch folder. A network file
        system shows the token, too, but does not promise that rows which several machines write
        into one file all arrive: such workers send their rows back.
        """
        if socket.gethostname() != self.host:
            return False
        try:
            return (scratch / TOKEN).read_text() == self.token
        except OSError:
            return False


@dataclass(frozen=True, kw_only=True)
class Request:
    """A chunk on its way to a worker.

    Attributes
    ----------
    task
        The chunk.
    limits
        What a run may take.
    origin
        The command that sends it.
    sources
        The user's modules that its strategy needs.
    """

    task: ChunkTask
    limits: Limits
    origin: Origin
    sources: Sources

    @property
    def fingerprint(self) -> str:
        """The data that the chunk needs."""
        return self.task.runs[0].data_fingerprint


Row = tuple[str, int, str, FloatArray]
"""Name of an array, number and key of a row, and its values of shape (row_bars,)."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a worker sends back.

    Attributes
    ----------
    worker
        Who it is, for messages.
    reply
        The reply to the task, when there is one.
    error
        Why there is none: the process died, broke a limit or did not start.
    missing
        Fingerprint of data that the worker does not have; nothing was computed.
    log
        What the process printed and logged.
    rows, files
        What it wrote, when the command cannot read its folder; files by their path below it.
    """

    worker: str
    reply: ChunkReply | None = None
    error: BacktestBatchError | StartError | None = None
    missing: str | None = None
    log: str = ""
    rows: tuple[Row, ...] | None = None
    files: Mapping[str, bytes] | None = None
