"""Where numba keeps compiled kernels."""

import atexit
import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import psutil

from backtest_batch.core.data.cache import cache_dir, own_cache_dir, stand_in
from backtest_batch.ownership import is_guarded, make_private

LOG = logging.getLogger("backtest_batch.market")

VARIABLE = "NUMBA_CACHE_DIR"
PREFIX = "backtest_batch-kernels-"
"""Prefix of a temporary folder of compiled kernels; the id of the process that made it follows."""

ROOM_BYTES = 2 * 1024 * 1024
"""Size that must fit in a folder: numba ends a process that cannot write what it has compiled."""


def use_kernel_cache() -> None:
    """Let numba keep compiled kernels in the cache and not beside the sources.

    The folder of the installed package may not be writable. A folder that the user has chosen is
    kept if it takes files; kernels that this process has already compiled stay where they are.
    """
    os.environ[VARIABLE] = str(kernel_folder())
    if "numba" in sys.modules:
        sys.modules["numba"].config.reload_config()


def kernel_folder() -> Path:
    """Return the folder of compiled kernels: NUMBA_CACHE_DIR, else ``numba`` in the cache.

    numba unpickles the files there, which runs any code that somebody has put into them. So the
    folder must belong to this user, and nobody else may write to it; in a cache that several users
    share, it lies in this user's own folder. If that is not the case, or the folder takes no files
    (its disk is full, say), a temporary folder is used instead, with a warning.
    """
    chosen, own = os.environ.get(VARIABLE), own_cache_dir()
    wanted = Path(chosen) if chosen else (own or cache_dir()) / "numba"
    if not chosen and own is not None:
        make_private(wanted)
    fault = _fault(wanted)
    if fault is None:
        return wanted
    # If somebody else has taken the name of the user's own temporary folder, each process uses a
    # folder of its own and compiles again. A full disk is no reason for that: such a folder would
    # lie on the same disk.
    spare = stand_in(create=True) or _folder_of_this_process()
    instead = spare / "numba"
    with contextlib.suppress(OSError):
        instead.mkdir(mode=0o700, exist_ok=True)
    _warn_once(
        f"the folder of compiled kernels {wanted} takes no files ({fault}); {instead} is used "
        "instead"
    )
    return instead


def _folder_of_this_process() -> Path:
    """Make a temporary folder that ends with this process; remove those of killed processes."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _fault(folder: Path) -> str | None:
    """Return why a folder takes no files, or None."""
    probe = folder / f".{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_guarded(folder.stat()):
            return "others may write there"
        try:
            probe.write_bytes(bytes(ROOM_BYTES))
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return None


@lru_cache(maxsize=16)
def _warn_once(message: str) -> None:
    LOG.warning("%s", message)
