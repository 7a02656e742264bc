"""One process at a time: a lock that ends with the process that holds it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from backtest_batch.errors import StoreError


@contextlib.contextmanager
def locked(path: Path, *, timeout_seconds: float = 120.0) -> Iterator[None]:
    """Hold an exclusive lock on the file at ``path`` during the block; the file is gone after it.

    The operating system releases the lock when the process dies, however it dies.

    Raises
    ------
    StoreError
        When another process holds the lock for longer than ``timeout_seconds``.
    OSError
        When the file cannot be made, or its file system has no such locks.
    """
    from filelock import Timeout, UnixFileLock  # late: few commands need a lock

    path.parent.stat()  # a folder that is missing is not made
    lock = UnixFileLock(path, timeout=timeout_seconds, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"Another process has held {path} for {timeout_seconds:.0f} seconds. Wait for it "
            "to finish, or end it."
        ) from error
    try:
        yield
    finally:
        # While it is held: who waits sees that the file is gone, and makes another.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
