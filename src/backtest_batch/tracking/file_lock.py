"""One process at a time: a lock that ends with the process that holds it."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from backtest_batch.errors import StoreError

_POLL_SECONDS = 0.05


@contextlib.contextmanager
def locked(path: Path, *, timeout_seconds: float = 120.0) -> Iterator[None]:
    """Hold an exclusive lock on the file at ``path`` during the block; the file is gone after it.

    The operating system releases the lock when the process dies, however it dies.

    Raises
    ------
    StoreError
        When another process holds the lock for longer than ``timeout_seconds``.
    OSError
        When the file cannot be made.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        # The holder before us removes the file while it holds the lock: then what we have locked
        # is no longer the file that others see, and we begin again.
        if _try_lock(handle) and _is_still_at(handle, path):
            break
        os.close(handle)
        if time.monotonic() > deadline:
            raise StoreError(
                f"Another process has held {path} for {timeout_seconds:.0f} seconds. Wait for it "
                "to finish, or end it."
            )
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        _remove_and_unlock(handle, path)


def _is_still_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _remove_and_unlock(handle: int, path: Path) -> None:
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
        os.close(handle)
        # An open file cannot be removed here; whoever has it open removes it.
        with contextlib.suppress(OSError):
            path.unlink()

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _remove_and_unlock(handle: int, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)
